"""Keys read together are those that their records give one by one, whoever serves."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.kernels import RecordTable, native

PLAIN = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1
)
ANY = PLAIN | PLAIN.map(lambda key: key * 40) | st.text(st.characters(exclude_categories=["Cs"]))
ODD = st.binary(max_size=9) | st.sampled_from(
    [
        b"",
        b"[",
        b'["',
        b'["a',
        b'["a"',
        b'["a",',
        b'["a",{',
        b'["",{',
        b'["a",[',
        b'["\xff",{',
        b'["a\n",{',
    ]
)


def record(key: str) -> bytes:
    """Return a record as it is stored."""
    return json.dumps([key, {"n": 1}], separators=(",", ":"), ensure_ascii=False).encode()


def table_of(parts: list[list[bytes]]) -> RecordTable:
    """Return a table of records one after another."""
    table = RecordTable(len(parts))
    for number, rows in enumerate(parts):
        begins = np.cumsum([0, *map(len, rows)])
        table.put(number, np.frombuffer(b"".join(rows), dtype=np.uint8), begins)
    return table


def each(table: RecordTable, owner: list[int], rows: list[int]) -> list[str] | None:
    """Return what the twin finds; every variant finds it too."""
    with native.use(native.NUMPY):
        truth = table.keys(owner, rows)
    for name in native.variants()[1:]:
        with native.use(name):
            assert table.keys(owner, rows) == truth
    return truth


@settings(max_examples=25, deadline=None)
@given(data=st.data(), plain=st.booleans(), count=st.sampled_from([0, 1, 2, 31, 32, 33, 70]))
def test_keys_read_together_are_those_of_their_records(data, plain, count) -> None:
    """They are all there, or none where one is written with escapes."""
    keys = data.draw(
        st.lists(st.lists(PLAIN if plain else ANY, min_size=1), min_size=1, max_size=4)
    )
    table = table_of([[record(key) for key in part] for part in keys])
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    owner = draw.integers(0, len(keys), count).tolist()
    rows = [int(draw.integers(0, len(keys[number]))) for number in owner]
    wanted = [keys[number][row] for number, row in zip(owner, rows, strict=True)]
    simple = all(key and key == json.dumps(key, ensure_ascii=False)[1:-1] for key in wanted)
    assert each(table, owner, rows) == (wanted if simple else None)


@settings(max_examples=examples(60, least=25), deadline=None)
@given(odd=ODD, at=st.integers(0, 2))
def test_what_is_no_plain_record_is_left_to_others(odd, at) -> None:
    """It gives no keys, of whatever bytes it is; its neighbours give theirs."""
    rows = [record("a"), record("b"), record("c")]
    rows[at] = odd
    table = table_of([rows])
    found = each(table, [0, 0, 0], [0, 1, 2])
    assert found is None or odd.startswith(b'["' + found[at].encode() + b'",{')
    others = [row for row in range(3) if row != at]
    assert each(table, [0, 0], others) == ["abc"[row] for row in others]


@pytest.mark.parametrize("begins", [[-1, 20], [0, 99], [9, 3], [20, 20], [1 << 62, -(1 << 62)]])
def test_offsets_beyond_the_records_are_not_followed(begins) -> None:
    """Nothing is read there; nor of a row or a partition that is not there."""
    table = RecordTable(2)
    data = np.frombuffer(record("a") * 2, dtype=np.uint8)
    table.put(0, data, np.array(begins))
    assert table.holds(0)
    assert not table.holds(1)
    assert each(table, [0], [0]) is None
    table.put(0, data, np.array([0, len(data)]))
    assert each(table, [0], [0]) == ["a"]
    for owner, row in ((0, 1), (0, -1), (1, 0)):
        assert each(table, [owner], [row]) is None


def test_the_last_record_may_end_a_byte_behind_the_others() -> None:
    """So a segment has it, as if another page followed; two bytes are none that it has."""
    data = np.frombuffer(record("a") + b"," + record("b") + b"]", dtype=np.uint8)
    first, ends = len(record("a")) + 1, len(data)
    for end in (ends, ends + 1):
        table = RecordTable(1)
        table.put(0, data, np.array([0, first, end]))
        assert each(table, [0, 0], [0, 1]) == ["a", "b"]
    for last in ([0, first, ends + 2], [0, ends + 1, ends + 1], [0, ends + 2, ends + 1]):
        table = RecordTable(1)
        table.put(0, data, np.array(last))
        assert each(table, [0], [1]) is None
