"""The corners of the language, of stored columns and cells, and of values that are not plain."""

import enum
import zlib

import numpy as np
import pytest

from cell_truth import cell_truth
from squash.attributes import CellScheme, CellTable, Columns, check_metadata, matches, parse_filter
from squash.attributes.attribute_cells import AttributeCells
from squash.errors import DataError, FilterError

SIZES = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256]


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is the member's name: the trap meant here
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("filter_", "row", "expected"),
    [
        (None, {}, True),
        ({}, {"a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": 0.0}, {"a": -0.0}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": np.int64(3)}, {"a": 3}, True),
        ({"a": np.bool_(True)}, {"a": True}, True),
        ({"a": {"$gt": np.float32(0.5)}}, {"a": 0.75}, True),
        ({"a": {"$in": [1, True]}}, {"a": True}, True),
        ({"a": Colour.RED}, {"a": "red"}, True),
        ({"a": 2}, {"a": [1, 2]}, True),
        ({"a": {"$ne": 2}}, {"a": [1, 2]}, False),
        ({"a": {"$ne": 2}}, {}, True),
        ({"a": {"$nin": [2]}}, {}, True),
        ({"a": {"$not": {"$gte": 2}}}, {}, True),
        ({"a": {"$not": {"$gte": 2, "$lt": 5}}}, {"a": 7}, True),
        ({"a": {"$gt": 3, "$lt": 1}}, {"a": [0, 5]}, True),
        ({"a": {"$between": [1, 3]}}, {"a": [0, 5]}, False),
        ({"a": {"$gt": 0}}, {"a": True}, False),
        ({"a": {"$lt": "\U00010000"}}, {"a": "\uffff"}, True),
        ({"a": {"$startsWith": ""}}, {"a": 1}, False),
        ({"a": {"$startsWith": "\U0010ffff"}}, {"a": "\U0010ffff\U0010ffff"}, True),
        ({"a": {"$containsAll": ["x", "y", "x"]}}, {"a": ["y", "x"]}, True),
        ({"a": {"$containsAll": ["x"]}}, {"a": "x"}, True),
        ({"a": {"$containsAll": [1, True]}}, {"a": [1]}, False),
        ({"a": {"$exists": False}}, {"a": []}, False),
        ({"a": {"$ne": 1}}, {"a": []}, True),
    ],
    ids=range(29),
)
def test_the_corners_of_the_language(filter_, row, expected):
    """Unlike types, missing keys, lists and signed zeros go as the table says, in every form."""
    node = parse_filter(filter_)
    columns = Columns.from_metadata([row])
    scheme = CellScheme.fit(columns)
    sure, possible = cell_truth(scheme.encode(columns), node, scheme)
    assert matches(node, row) is expected
    assert columns.evaluate(node).tolist() == [expected]
    assert sure[0] <= expected <= possible[0]


@pytest.mark.parametrize(
    "filter_",
    [
        {"$or": [{"a": {"$not": {"$eq": i}}} for i in range(256)]},
        {"a": {"$in": list(range(1024))}},
        {"a": {"$eq": 2**53}},
        {"a": "x" * 2048},
        {"a.b": 1, "é": ""},
    ],
    ids=range(5),
)
def test_limits_may_be_reached(filter_):
    """What keeps a limit is read; $not is no clause of its own."""
    assert parse_filter(filter_) is not None


def test_one_clause_more_is_refused():
    """The 257th comparison is refused at its place."""
    with pytest.raises(FilterError) as caught:
        parse_filter({"$or": [{"a": {"$not": {"$eq": i}}} for i in range(257)]})
    assert caught.value.field == "$or[256].a.$not.$eq"


def test_metadata_comes_back_plain_and_shares_nothing():
    """Members of enumerations, tuples and NumPy values inside become JSON's own types."""
    inner = {"list": (1, None), "array": np.arange(2), "deep": {"x": np.float32(0.5)}}
    given = {"e": Colour.RED, "i": Level.HIGH, "free": inner, "z": -0.0}
    got = check_metadata(given, key="k", non_filterable=("free",), declared={})
    inner["deep"]["x"] = 9
    free = {"list": [1, None], "array": [0, 1], "deep": {"x": 0.5}}
    assert got == {"e": "red", "i": 3, "free": free, "z": 0.0}
    assert [type(got[name]) for name in "eiz"] == [str, int, float]
    assert str(got["z"]) == "-0.0"


def wide_rows(seed, count):
    """More distinct values than there are cells, some of them frequent, types mixed, lists."""
    rng = np.random.default_rng(seed)
    words = [f"{chr(97 + i % 26)}{i}é" for i in range(900)]
    return [
        {
            "price": float(rng.lognormal()),
            "word": words[int(rng.zipf(1.4)) % 900],
            "mixed": float(rng.normal()) if rng.random() < 0.6 else words[int(rng.integers(900))],
            "tags": [words[int(i)] for i in rng.zipf(1.3, size=int(rng.integers(0, 5))) % 900],
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 2000])
def test_cells_enclose_the_definition_beyond_255_values(count):
    """With more values than codes, on rows the sample never held, cells still enclose."""
    rows, sample = wide_rows(1, count), wide_rows(2, count)
    price, word = (rows[0]["price"], rows[0]["word"]) if rows else (1.0, "a")
    columns = Columns.from_metadata(rows)
    for fitted_on in (rows, sample):
        scheme = CellScheme.fit(Columns.from_metadata(fitted_on))
        table = scheme.encode(columns)
        for filter_ in (
            {"price": {"$between": [min(price, 2.0), 2.0]}}, {"price": price}, {"word": word},
            {"word": {"$startsWith": "b"}}, {"word": {"$gt": "m"}}, {"mixed": {"$lt": 0.25}},
            {"mixed": {"$not": {"$gte": "q"}}}, {"tags": {"$containsAll": ["b1é", "c2é"]}},
            {"tags": {"$nin": ["b1é", "nothing"]}}, {"tags": {"$gte": "k"}},
            {"word": {"$in": [row["word"] for row in rows[:20]] or ["x"]}},
        ):  # fmt: skip
            node = parse_filter(filter_)
            expected = np.array([matches(node, row) for row in rows], dtype=np.bool_)
            sure, possible = cell_truth(table, node, scheme)
            np.testing.assert_array_equal(columns.evaluate(node), expected)
            assert not (sure & ~expected).any(), filter_
            assert not (expected & ~possible).any(), filter_


def test_existence_is_never_in_doubt():
    """Sure and possible agree on $exists, also for lists and for attributes of no sample."""
    columns = Columns.from_metadata([{}, {"a": []}, {"a": [1]}, {"a": "x"}, {"a": False}])
    for sample in ([], [{"a": 1}]):
        scheme = CellScheme.fit(Columns.from_metadata(sample))
        cells = scheme.encode(columns)
        sure, possible = cell_truth(cells, parse_filter({"a": {"$exists": True}}), scheme)
        assert sure.tolist() == possible.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("value", "hashed"),
    [
        ("x", b"sx"),
        ("é", b"s\xc3\xa9"),
        ("\U0001fae8", b"s\xf0\x9f\xab\xa8"),
        (0.5, b"n\0\0\0\0\0\0\xe0\x3f"),
        (1, b"n\0\0\0\0\0\0\xf0\x3f"),
        (-0.0, b"n\0\0\0\0\0\0\0\0"),
        (False, b"b\0"),
        (True, b"b\1"),
    ],
    ids=range(8),
)
def test_the_signatures_hash_is_fixed(value, hashed):
    """A value's bit is part of the format: the bytes that are hashed are those it specifies."""
    columns = Columns.from_metadata([{"a": [value]}])
    table = CellScheme.fit(Columns.from_metadata([])).encode(columns)
    assert int(table.to_arrays()[1]["0.signatures"][0]) == 1 << zlib.crc32(hashed) % 64


def stored_columns(change):
    header, arrays = Columns.from_metadata(
        [{"a": 1, "l": [1, "x"]}, {"a": 2.5}, {"a": "x"}, {"a": "é"}, {"l": "y"}]
    ).to_arrays()
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(arrays)
    return Columns.from_arrays(header, arrays.__getitem__)


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("0.numbers", 0, 3.0), ("0.numbers", 1, np.nan), ("0.numbers", 0, -np.inf),
        ("0.string_bytes", 0, 255), ("0.string_bytes", 0, 0xC3), ("0.string_offsets", 1, 9),
        ("0.ids", 0, 7), ("1.offsets", 1, 3), ("1.offsets", 5, 2), ("1.ids", 0, 2**32 - 1),
    ],
)  # fmt: skip
def test_damaged_columns_are_refused(name, index, value):
    """Values out of order, text that is none, numbers of no value: a DataError when asked."""

    def change(arrays):
        arrays[name][index] = value

    columns = stored_columns(change)
    with pytest.raises(DataError):
        columns.evaluate(parse_filter({"$or": [{"a": "x"}, {"l": "x"}]}))


@pytest.mark.parametrize(
    "damage",
    [
        {"number_cuts": [[i, 0] for i in range(251)]},
        {"number_cuts": [[2, 0], [1, 0]]},
        {"number_cuts": [[1, 2]]},
        {"number_cuts": [[float("nan"), 0]]},
        {"string_cuts": [[1, 0]]},
        {"string_cuts": [["b", 0], ["b", 0]]},
        {"owners": [float(i) for i in range(64)]},
        {"owners": [1.0, 1.0]},
        {"owners": [[1]]},
    ],
    ids=range(9),
)
def test_damaged_cells_are_refused(damage):
    """More cells than codes, more owners than bits, or cuts out of order are a DataError."""
    good = {"number_cuts": [], "string_cuts": [], "owners": []}
    assert CellScheme.from_arrays({"attributes": {"a": good}}, None).of("a") == AttributeCells()
    with pytest.raises(DataError):
        CellScheme.from_arrays({"attributes": {"a": good | damage}}, None)


@pytest.mark.parametrize("rows", SIZES)
def test_any_number_of_rows_is_answered(rows):
    """Empty tables and sizes around registers go through every form; no answer is shared."""
    metadata = [{"a": i, "l": [i, "x"]} if i % 3 else {} for i in range(rows)]
    columns = Columns.from_metadata(metadata)
    scheme = CellScheme.fit(columns)
    table = CellTable.from_arrays(*_taken(scheme.encode(columns)))
    node = parse_filter({"$or": [{"a": {"$gte": rows / 2}}, {"l": {"$in": [1, 2, "y"]}}]})
    expected = [matches(node, row) for row in metadata]
    assert columns.evaluate(node).tolist() == expected
    sure, possible = cell_truth(table, None, scheme)
    sure[:] = False
    assert possible.all()
    sure, possible = cell_truth(table, node, scheme)
    assert not (sure & ~np.array(expected, dtype=np.bool_)).any()
    assert possible[expected].all()


def _taken(table):
    header, arrays = table.to_arrays()
    return header, arrays.__getitem__
