"""Keys are found by their hashes, and pages of documents come back as they were."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.errors import ChecksumError, DataError
from squash.segment import (
    KeyTable,
    Records,
    hash_keys,
    pack_records,
    parse_page,
    read_records,
    write_records,
)

KEYS = st.lists(
    st.text(min_size=1, max_size=20).filter(lambda s: s.isprintable()), unique=True, max_size=200
)


@settings(max_examples=examples(60, least=25), deadline=None)
@given(keys=KEYS, others=KEYS)
def test_every_key_is_found_and_no_other(keys, others) -> None:
    """A key's row is its position; a key that is not there gives -1."""
    table = KeyTable.build(keys)
    asked = [*keys, *others]
    expected = [keys.index(k) if k in keys else -1 for k in asked]
    assert table.lookup(hash_keys(asked)).tolist() == expected


def test_equal_first_halves_are_told_apart() -> None:
    """The second half of a hash counts too."""
    hashes = np.array([[5, 1], [5, 2], [5, 3], [9, 0]], dtype=np.uint64)
    table = KeyTable(hashes, np.array([10, 11, 12, 13], dtype=np.uint32))
    wanted = np.array([[5, 3], [5, 1], [5, 4], [9, 0], [1, 1], [99, 0]], dtype=np.uint64)
    assert table.lookup(wanted).tolist() == [12, 10, -1, 13, -1, -1]


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 200])
def test_documents_come_back_from_their_pages(rows: int) -> None:
    """Every page parses to its records; a flipped bit is refused."""
    keys = [f"k{i}" for i in range(rows)]
    metadata = [{"n": i, "t": "ä" * (i % 5), "l": [1, "x"]} for i in range(rows)]
    packed = pack_records(write_records(keys, metadata))
    back = []
    for page in range(len(packed.crc32)):
        start, stop = int(packed.offsets[page]), int(packed.offsets[page + 1])
        data = bytearray(packed.data[start:stop])
        back += parse_page(data, crc32=int(packed.crc32[page]), where="x")
        data[len(data) // 2] ^= 4
        with pytest.raises(ChecksumError):
            parse_page(data, crc32=int(packed.crc32[page]), where="x")
    assert back == list(zip(keys, metadata, strict=True))


def records_in(packed, data=None, start=0) -> Records:
    """All records of packed pages, or those of some of their bytes."""
    pages = packed.offsets.astype(np.int64)
    rows = np.arange(len(packed.row_offsets))
    begins = np.append(pages[rows // 64] + packed.row_offsets, pages[-1] + 1)
    return Records(packed.data if data is None else data, start, begins, "x")


METADATA = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)


@settings(max_examples=examples(60, least=25), deadline=None)
@given(data=st.data(), rows=st.sampled_from([1, 2, 63, 64, 65, 130]))
def test_records_are_those_of_their_pages(data, rows) -> None:
    """A record parsed alone, and its key read alone, are what the page parsed whole says."""
    some = data.draw(st.lists(st.tuples(st.text(min_size=1), METADATA), min_size=1, max_size=8))
    keys = [f"{some[i % len(some)][0]}{i}" for i in range(rows)]
    metadata = [some[i % len(some)][1] for i in range(rows)]
    packed = pack_records(write_records(keys, metadata))
    whole = records_in(packed)
    assert [whole.key(row) for row in range(rows)] == keys
    for page in range(len(packed.crc32)):
        start, stop = (int(packed.offsets[page + i]) for i in (0, 1))
        body = packed.data[start:stop]
        parsed = parse_page(body, crc32=int(packed.crc32[page]), where="x")
        alone = records_in(packed, memoryview(body), start)
        for row, record in enumerate(parsed, 64 * page):
            assert whole.record(row) == alone.record(row) == record
            assert alone.key(row) == record[0]


@settings(max_examples=examples(60, least=25), deadline=None)
@given(data=st.data(), rows=st.sampled_from([0, 1, 2, 63, 64, 65, 130]))
def test_records_written_together_are_as_written_alone(data, rows) -> None:
    """Each has the bytes that it has alone, in a page too, and they read back as they were."""
    lists = st.lists(st.lists(st.dictionaries(st.text(max_size=2), st.text(), max_size=1)))
    inside = (
        METADATA | st.fixed_dictionaries({"a": lists}) | st.fixed_dictionaries({"b": st.text()})
    )
    some = data.draw(st.lists(st.tuples(st.text(), inside), min_size=1, max_size=8))
    keys = [some[i % len(some)][0] for i in range(rows)]
    metadata = [some[i % len(some)][1] for i in range(rows)]
    records = write_records(keys, metadata)
    alone = [
        json.dumps(pair, separators=(",", ":"), ensure_ascii=False).encode()
        for pair in zip(keys, metadata, strict=True)
    ]
    assert records == alone
    assert read_records(records) == (keys, metadata)
    whole = records_in(pack_records(write_records(keys, metadata)))
    places = np.arange(rows)[::-1]
    assert whole.written_all(places) == [whole.written(row) for row in places] == alone[::-1]


def test_what_only_looks_like_the_end_of_a_record_is_none() -> None:
    """Lists of lists with objects in them, and line feeds in strings, stay in their record."""
    metadata = [{"a": [[{}], [{}], ["}],\n["]]}, {}, {"b": "}],\n["}]
    records = write_records(["x", "y", "z"], metadata)
    assert [json.loads(record)[1] for record in records] == metadata


@pytest.mark.parametrize(
    "records",
    [
        [b'["a",{}]', b'["b",[]]'],
        [b'["a",{}],["b",{}]'],
        [b'["a",{}', b'["b",{}]'],
        [b'["a",{}]', b""],
        [b"[1,{}]"],
        [b'["a"]'],
        [b'["a",{},1]'],
        [b'["\xff",{}]'],
        [b"[" * 100_000],
    ],
    ids=repr,
)
def test_what_is_no_record_is_refused(records) -> None:
    """Bytes that a wrong writer left are told as damage, not as an error of JSON."""
    with pytest.raises(DataError, match="damaged"):
        read_records(records)


@pytest.mark.parametrize(
    "page",
    [
        b'[["a",{}]',
        b'[["a",{}}]',
        b'[["a",[]]]',
        b"[[1,{}]]",
        b'[{"a":1,"b":2}]',
        b'["ab"]',
        b'[["a"]]',
        b'[["a",{},1]]',
        b'[["a",{}]]]',
        b'[["\xff",{}]]',
        b'[["a\n",{}]]',
        b"[" + b"[" * 100_000,
        b"",
    ],
)
def test_what_is_no_record(page: bytes) -> None:
    """Bytes that are no record of [key, metadata] are a DataError that names the object."""
    records = Records(page, 0, np.array([1, len(page) + 1]), "here")
    with pytest.raises(DataError, match="here"):
        records.record(0)


def test_a_key_of_bad_bytes() -> None:
    """A key that is no UTF-8 is a DataError, also where only keys are read."""
    records = Records(b'[["\xff",{}]]', 0, np.array([1, 12]), "here")
    with pytest.raises(DataError, match="here"):
        records.key(0)
