"""Filters mean what the table says, in every form; those that could be misread are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cell_truth import cell_truth
from squash.attributes import (
    CellScheme,
    CellTable,
    Columns,
    check_metadata,
    matches,
    parse_filter,
)
from squash.container import Container, pack
from squash.errors import FilterError, InvalidArgumentError, TooLargeError
from squash.model import AttributeType
from strategies import filters_for, metadata_rows, passes


def stored(header, arrays):
    data = pack("x", 1, header={"h": header}, arrays=arrays)
    container = Container(data, kind="x", versions=(1,), where="x")
    return container.header["h"], container.array


@settings(max_examples=examples(400), deadline=None)
@given(data=st.data(), rows=metadata_rows())
def test_columns_and_cells_agree_with_the_definition(data, rows) -> None:
    """Exact columns equal `matches`; sure rows pass, and rows that pass are possible."""
    filter_ = data.draw(filters_for(rows))
    other = data.draw(metadata_rows())
    node = parse_filter(filter_)
    expected = np.array([matches(node, row) for row in rows], dtype=bool)
    assert expected.tolist() == [passes(filter_, row) for row in rows]
    columns = Columns.from_arrays(*stored(*Columns.from_metadata(rows).to_arrays()))
    np.testing.assert_array_equal(columns.evaluate(node), expected)
    places = st.lists(st.integers(0, len(rows) - 1), max_size=9) if rows else st.just([])
    some = np.array(data.draw(places), dtype=np.int64)
    np.testing.assert_array_equal(columns.evaluate(node, some), expected[some])
    for sample in (rows, other, []):
        scheme = CellScheme.fit(Columns.from_metadata(sample))
        scheme = CellScheme.from_arrays(*stored(*scheme.to_arrays()))
        table = CellTable.from_arrays(*stored(*scheme.encode(columns).to_arrays()))
        sure, possible = cell_truth(table, node, scheme)
        assert not (sure & ~expected).any()
        assert not (expected & ~possible).any()
        swapped = cell_truth(table, parse_filter({"$not": filter_}), scheme)
        np.testing.assert_array_equal(swapped[0], ~possible)
        np.testing.assert_array_equal(swapped[1], ~sure)
        settled = cell_truth(table, node, scheme, columns)
        assert not (sure & ~settled[0]).any()
        assert not (settled[0] & ~expected).any()
        assert not (expected & ~settled[1]).any()
        assert not (settled[1] & ~possible).any()


def test_cells_leave_little_in_doubt_on_ordinary_data() -> None:
    """A few values are answered surely; a range leaves no more than its edge cells in doubt."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "year": int(rng.integers(1990, 2026)),
            "price": float(rng.lognormal()),
            "venue": str(rng.choice(["SIGMOD", "VLDB", "ICDE"])),
            "tags": [str(t) for t in rng.choice(20, size=3)],
        }
        for _ in range(20_000)
    ]
    columns = Columns.from_metadata(rows)
    scheme = CellScheme.fit(Columns.from_metadata(rows[:5000]))
    table = scheme.encode(columns)
    for filter_, doubt in (
        ({"year": {"$gte": 2010}, "venue": "VLDB"}, 0.0),
        ({"price": {"$between": [0.5, 2.0]}}, 0.02),
        ({"tags": "7"}, 0.0),
        ({"tags": {"$containsAll": ["7", "8"]}}, 0.0),
    ):
        sure, possible = cell_truth(table, parse_filter(filter_), scheme)
        assert np.mean(possible & ~sure) <= doubt
        assert sure.any()


def test_types_are_described() -> None:
    """Mixed and listed values are named."""
    rows = [{"n": 1, "m": "x", "b": True, "l": [1, "x"], "e": []}, {"m": 2}]
    assert Columns.from_metadata(rows).types() == {
        "b": "boolean", "e": "[]", "l": "number[]|string[]", "m": "number|string", "n": "number",
    }  # fmt: skip


deep = {"a": 1}
for _ in range(20):
    deep = {"$not": deep}


def nested_list(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


BAD = [
    ([], ""),
    ("a", ""),
    ({"": 1}, ""),
    ({"$xor": [{"a": 1}]}, "$xor"),
    ({"$gt": 3}, "$gt"),
    ({"$and": []}, "$and"),
    ({"$and": {}}, "$and"),
    ({"$or": [{}]}, "$or[0]"),
    ({"$or": [{"a": 1}, 3]}, "$or[1]"),
    ({"$not": {}}, "$not"),
    ({"$not": [{"a": 1}]}, "$not"),
    ({"a": None}, "a"),
    ({"a": [1, 2]}, "a"),
    ({"a": {}}, "a"),
    ({"a": {"b": 1}}, "a.b"),
    ({"a": {"$eq": 1, "b": 1}}, "a.b"),
    ({"a": {"$gte": None}}, "a.$gte"),
    ({"a": {"$gte": True}}, "a.$gte"),
    ({"a": {"$gt": [1]}}, "a.$gt"),
    ({"a": {"$gt": float("nan")}}, "a.$gt"),
    ({"a": {"$lt": float("inf")}}, "a.$lt"),
    ({"a": 2**53 + 1}, "a"),
    ({"a": 10**5000}, "a"),
    ({"a": {"$exists": 10**5000}}, "a.$exists"),
    ({"a": {"$eq": {"x": 1}}}, "a.$eq"),
    ({"a": {"$in": []}}, "a.$in"),
    ({"a": {"$in": 3}}, "a.$in"),
    ({"a": {"$in": [1, None]}}, "a.$in[1]"),
    ({"a": {"$in": [[1]]}}, "a.$in[0]"),
    ({"a": {"$nin": "xyz"}}, "a.$nin"),
    ({"a": {"$in": list(range(2000))}}, "a.$in"),
    ({"a": {"$between": [1]}}, "a.$between"),
    ({"a": {"$between": [1, "x"]}}, "a.$between"),
    ({"a": {"$between": [2, 1]}}, "a.$between"),
    ({"a": {"$startsWith": 3}}, "a.$startsWith"),
    ({"a": {"$exists": 1}}, "a.$exists"),
    ({"a": {"$containsAll": []}}, "a.$containsAll"),
    ({"a": {"$not": 3}}, "a.$not"),
    ({"a": {"$greater": 3}}, "a.$greater"),
    ({"a": "\ud800"}, "a"),
    ({"a": "x" * 3000}, "a"),
    ({"secret": 1}, "secret"),
    ({"$or": [{"a": 1}, {"$not": {"secret": {"$exists": True}}}]}, "$or[1].$not.secret"),
    ({"a": {"$between": [False, True]}}, "a.$between[0]"),
    ({"a": {"$between": ["b", "a"]}}, "a.$between"),
    ({"a": {"$not": {}}}, "a.$not"),
    ({"a": {"$not": {"$gt": None}}}, "a.$not.$gt"),
    ({"a": {"$and": [{"$gt": 1}]}}, "a.$and"),
    ({"a": {3: 1}}, "a.3"),
    ({3: 1}, ""),
    ({"a": {"$startsWith": "x\udfff"}}, "a.$startsWith"),
    ({"\ud800": 1}, "\\ud800"),
    ({"a": {"\ud800": 1}}, "a.\\ud800"),
    ({"a": 10**400}, "a"),
    ({"a": 10**5000}, "a"),
    ({"a": {"$in": [1, 10**5000]}}, "a.$in[1]"),
    ({"a": {"$exists": 10**5000}}, "a.$exists"),
    ({"a": {"$gt": nested_list(5000)}}, "a.$gt"),
    ({"a": np.float32("inf")}, "a"),
    ({"$" + "x" * 5000: 1}, "$" + "x" * 59 + "..."),
    ({f"a{i}": {"$gte": 0, "$lte": 1} for i in range(129)}, "a128.$gte"),
    ({"$and": [{"x": 1}, {"year": {"$gte": "a", "$lte": {}}}]}, "$and[1].year.$lte"),
    (deep, ".".join(["$not"] * 16)),
    ({"$or": [{"a": i} for i in range(300)]}, "$or[256].a"),
]


@pytest.mark.parametrize(("filter_", "place"), BAD, ids=range(len(BAD)))
def test_a_filter_that_could_be_misread_is_refused_with_its_place(filter_, place) -> None:
    """The error names the place and is a FilterError."""
    with pytest.raises(FilterError) as caught:
        parse_filter(filter_, non_filterable=("secret",))
    assert caught.value.field == place
    assert place in str(caught.value)


def test_the_near_operator_is_suggested() -> None:
    """A slip of the pen is answered with the word that was meant."""
    with pytest.raises(FilterError, match=r"did you mean \$startsWith"):
        parse_filter({"a": {"$startswith": "x"}})


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("metadata", "error", "field"),
    [
        ([1], InvalidArgumentError, "metadata"),
        ({"a": None}, InvalidArgumentError, "metadata.a"),
        ({"a": float("nan")}, InvalidArgumentError, "metadata.a"),
        ({"a": 2**53 + 1}, InvalidArgumentError, "metadata.a"),
        ({"a": {"b": 1}}, InvalidArgumentError, "metadata.a"),
        ({"a": [1, [2]]}, InvalidArgumentError, "metadata.a[1]"),
        ({"a": "\ud800"}, InvalidArgumentError, "metadata.a"),
        ({"$a": 1}, InvalidArgumentError, "metadata.$a"),
        ({"": 1}, InvalidArgumentError, "metadata."),
        ({1: 1}, InvalidArgumentError, "metadata.1"),
        ({"n": "text"}, InvalidArgumentError, "metadata.n"),
        ({"n": [1]}, InvalidArgumentError, "metadata.n"),
        ({"free": float("inf")}, InvalidArgumentError, "metadata.free"),
        ({"free": {"x": [1, {"y": object()}]}}, InvalidArgumentError, "metadata.free.x[1].y"),
        ({"free": {1: 2}}, InvalidArgumentError, "metadata.free"),
        ({"free": "\udc00"}, InvalidArgumentError, "metadata.free"),
        ({"free": {"\udc00": 1}}, InvalidArgumentError, "metadata.free"),
        ({"free": 10**5000}, InvalidArgumentError, "metadata"),
        ({"free": nested_list(65)}, TooLargeError, "metadata.free" + "[0]" * 65),
        ({"free": ENDLESS}, TooLargeError, "metadata.free" + "[0]" * 65),
        ({"a": 10**400}, InvalidArgumentError, "metadata.a"),
        ({"a": [1, None]}, InvalidArgumentError, "metadata.a[1]"),
        ({"a": [float("-inf")]}, InvalidArgumentError, "metadata.a[0]"),
        ({"a": b"x"}, InvalidArgumentError, "metadata.a"),
        ({"\ud800": 1}, InvalidArgumentError, "metadata"),
        ({"n": True}, InvalidArgumentError, "metadata.n"),
        ({"free": object()}, InvalidArgumentError, "metadata.free"),
        ({"x" * 64: 1}, TooLargeError, "metadata." + "x" * 64),
        ({"a": "x" * 3000}, TooLargeError, "metadata"),
        ({"free": "x" * 41_000}, TooLargeError, "metadata"),
        ({f"k{i}": 1 for i in range(51)}, TooLargeError, "metadata"),
        ({"a": list(range(257))}, TooLargeError, "metadata.a"),
    ],
    ids=range(32),
)
def test_metadata_that_cannot_be_kept_is_refused(metadata, error, field) -> None:
    """The error names the record and the field."""
    with pytest.raises(error) as caught:
        check_metadata(
            metadata, key="k", non_filterable=("free",), declared={"n": AttributeType.NUMBER}
        )
    assert (caught.value.key, caught.value.field) == ("k", field)


def test_metadata_comes_back_as_plain_json() -> None:
    """NumPy's scalars and arrays become Python's; non-filterable keys may hold anything."""
    got = check_metadata(
        {"i": np.int64(3), "f": np.float32(0.5), "l": np.array([1, 2]), "free": {"x": [None]}},
        key="k",
        non_filterable=("free",),
        declared={"l": AttributeType.NUMBER_LIST},
    )
    assert got == {"i": 3, "f": 0.5, "l": [1, 2], "free": {"x": [None]}}
    assert type(got["i"]) is int
