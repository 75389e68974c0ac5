"""What is made of a filter in a hurry is what the plain definitions say."""

import ctypes
import math
import sys
import zlib
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import random_table
from squash.attributes import CellScheme, compile_filter, intervals_of, matches, parse_filter
from squash.attributes.attribute_cells import AttributeCells, identity
from squash.attributes.nodes import And, Exists, OneOf, Within
from squash.attributes.programs import _intervals
from squash.errors import FilterError
from squash.kernels import Range, native
from squash.kernels.masks import MAYBE, NO, YES, sets_of
from squash.kernels.native_table import native_table
from squash.limits import FILTER_DEPTH_MAX, FILTER_NODES_KEPT

NUMBERS = st.integers(-4, 4).map(lambda value: value / 2)
STRINGS = st.text("ab", max_size=2)
SCALARS = st.one_of(NUMBERS, STRINGS, st.booleans())
FIRST, LAST = (-math.inf, 0), (math.inf, 0)


def cuts(values):
    places = st.tuples(values, st.sampled_from([0, 1]))
    return st.lists(places, unique=True, max_size=9).map(lambda some: tuple(sorted(some)))


def intervals(values, kind):
    end = st.one_of(st.none(), values)
    return st.builds(Within, st.just("a"), st.just(kind), end, st.booleans(), end, st.booleans())


def ends(node):
    """Return an interval's ends as places of cuts; None where it is open."""
    low = None if node.low is None else (node.low, 0 if node.low_closed else 1)
    return low, None if node.high is None else (node.high, 1 if node.high_closed else 0)


def truth_of(cuts, low, high):
    """Return the truth of every cell of a type, from the definition of its interval."""
    found = []
    for begin, end in pairwise([None, *cuts, None]):
        inside = (low is None or (begin is not None and low <= begin)) and (
            high is None or (end is not None and end <= high)
        )
        touched = (low is None or end is None or low < end) and (
            high is None or begin is None or begin < high
        )
        found.append((YES if inside else MAYBE) if touched else NO)
    return found


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data(), numbers=cuts(NUMBERS), strings=cuts(STRINGS))
def test_a_leaf_is_what_its_comparison_says_of_every_cell(data, numbers, strings):
    """Truth by cell, the bits of lists, and the numbers that pass; of several intervals at once."""
    named = st.lists(SCALARS, unique_by=identity, max_size=5)
    cells = AttributeCells(numbers, strings, tuple(data.draw(named)))
    kind = data.draw(st.sampled_from([float, str, None]))
    if kind is None:
        values = data.draw(st.lists(SCALARS, min_size=1, max_size=3))
        node = OneOf("a", tuple(values))
        asked = [(type(value), (value, 0), (value, 1)) for value in values]
    else:
        values = NUMBERS if kind is float else STRINGS
        parts = data.draw(st.lists(intervals(values, kind), min_size=1, max_size=3))
        node = And(tuple(parts)) if len(parts) > 1 else parts[0]
        lows, highs = zip(*map(ends, parts), strict=True)
        low = max((low for low in lows if low is not None), default=None)
        high = min((high for high in highs if high is not None), default=None)
        asked = [(kind, low, high)]
    program = compile_filter(node, CellScheme({"a": cells}), holds_lists=lambda _: False)
    (leaf,) = program.leaves
    wanted = [NO] * 256
    first = len(numbers) + 2
    for type_, low, high in asked:
        if type_ is bool:
            wanted[cells.false_code + low[0]] = YES
            continue
        begin, mine = (first, strings) if type_ is str else (1, numbers)
        for code, truth in enumerate(truth_of(mine, low, high), begin):
            wanted[code] = max(wanted[code], truth)
    wanted[cells.list_code] = MAYBE
    assert list(leaf.truth) == wanted
    assert leaf.sets == sets_of(leaf.truth)
    sure = sum(1 << i for i, one in enumerate(cells.owners) if matches(node, {"a": one}))
    owned, shared = len(cells.owners), 64 - len(cells.owners)
    possible = (1 << 64) - (1 << owned)
    if kind is None:
        known = set(map(identity, cells.owners))
        names = set(map(identity, values)) - known
        possible = sum({1 << owned + zlib.crc32(name) % shared for name in names})
    assert (leaf.sure_bits, leaf.possible_bits) == (sure, sure | possible)
    if kind is str or (kind is None and any(isinstance(value, str) for value in values)):
        assert leaf.intervals is None
        return
    for value in range(-5, 6):
        for number in (math.nextafter(value / 2, -9), value / 2, math.nextafter(value / 2, 9)):
            inside = any(low <= number <= high for low, high in leaf.intervals)
            assert inside == matches(node, {"a": number})


@settings(max_examples=examples(60), deadline=None)
@given(numbers=cuts(NUMBERS), node=intervals(NUMBERS, float))
def test_the_kernels_make_the_truth_of_a_range_that_its_leaf_has(numbers, node):
    """Truth by code, sets and interval, to the bit; a range beyond the greatest number too."""
    cells = AttributeCells(numbers)
    far = Within("a", float, sys.float_info.max, False, sys.float_info.max, True)
    nodes = (node, far, Within("a", float, None, False, -0.0, False))
    for variant in native.variants()[1:]:
        with native.use(variant):
            for one in nodes:
                program = compile_filter(one, CellScheme({"a": cells}), holds_lists=lambda _: False)
                (asked,) = program.asked
                assert isinstance(asked, Range)
                table = random_table(np.random.default_rng(0), [3])
                bound = native_table(table).bind(program)
                leaf = ctypes.cast(bound.at, ctypes.POINTER(ctypes.c_uint64))[2]
                words = ctypes.cast(leaf, ctypes.POINTER(ctypes.c_uint64))
                wanted = asked.leaf()
                assert ctypes.string_at(words[2], 256) == wanted.truth
                assert ctypes.string_at(words[3], 64) == wanted.sets
                interval = ctypes.cast(words[10], ctypes.POINTER(ctypes.c_double))
                assert ((interval[0], interval[1]),) == wanted.intervals
                assert words[11] == 1


def test_whether_an_attribute_is_there_is_known_of_every_cell():
    """All codes but that of its absence."""
    program = compile_filter(Exists("a"), CellScheme({}), holds_lists=lambda _: True)
    (leaf,) = program.leaves
    assert list(leaf.truth) == [NO] + [YES] * 255
    assert leaf.sets == sets_of(leaf.truth)


def read(filter_):
    try:
        return parse_filter(filter_, non_filterable=("n",))
    except FilterError as error:
        return str(error)


class Name(str):
    """A string that is none of the plain kind."""

    __slots__ = ()


OPERANDS = st.sampled_from([
    0, 1, 1.0, -1.5, -0.0, True, 2**53, -(2**53), 2.0**53, 2**53 + 1, 1e300, math.nan, math.inf,
    "x", "x" * 129, "é", Name("x"), None, [1], np.float64(1.5), np.float64(math.nan), np.int64(2),
])  # fmt: skip
OPERATORS = st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$between", "$near", Name("$lt")])
CLAUSES = st.one_of(
    st.dictionaries(OPERATORS, OPERANDS, max_size=3),
    st.fixed_dictionaries({"$gte": OPERANDS, "$lt": OPERANDS}),
)
NAMES = st.sampled_from(["a", "b", "c", Name("b"), "é", "\ud800", "", "$a", "n", "a" * 129])


def named(names, most):
    return st.dictionaries(names, st.one_of(CLAUSES, OPERANDS), max_size=most)


def joining(filters):
    """Return what joins filters, at the top and further in."""
    parts = st.lists(filters, max_size=3)
    return st.one_of(
        parts.map(lambda some: {"$and": some}),
        parts.map(lambda some: {"$and": tuple(some)}),
        st.tuples(parts, filters).map(lambda both: {"$and": both[0], **both[1]}),
        parts.map(lambda some: {"$or": some}),
        filters.map(lambda one: {"$not": one}),
    )


# Most of the above have something wrong with them; nothing here has.
SOUND_NUMBERS = st.sampled_from([0, 1, 1.0, -1.5, -0.0, 2**53, -(2.0**53)])
SOUND_CLAUSES = st.one_of(
    st.dictionaries(
        st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq"]), SOUND_NUMBERS,
        min_size=1, max_size=3,
    ),
    st.fixed_dictionaries({"$gte": SOUND_NUMBERS, "$lt": SOUND_NUMBERS}),
)  # fmt: skip
SOUND = st.dictionaries(
    st.sampled_from(["a", "b", "c", Name("b")]),
    st.one_of(SOUND_CLAUSES, SOUND_CLAUSES, SOUND_NUMBERS, st.just("x")),
    min_size=1,
    max_size=2,
)
FILTERS = st.one_of(
    named(NAMES, 3),
    SOUND,
    st.lists(SOUND, min_size=1, max_size=4).map(lambda some: {"$and": some}),
    st.recursive(st.one_of(SOUND, named(NAMES, 2)), joining, max_leaves=4),
)


@settings(max_examples=examples(300), deadline=None)
@given(filter_=FILTERS, repeated=st.sampled_from([0, 0, 0, 0, 0, 0, 253, 254, 255]))
def test_a_filter_read_in_a_hurry_is_the_filter(filter_, repeated):
    """The same nodes, and the same words for what is wrong, at the limit of clauses too."""
    filter_ = {"$and": [{"a": {"$gt": 1}}] * repeated + [filter_]} if repeated else filter_
    got = read(filter_)
    if isinstance(got, And):
        assert intervals_of(got) == _intervals(And(got.parts))
    with patch("squash.attributes.filters._plain", lambda *_: None):
        wanted = read(filter_)
    assert got == wanted
    # True is no 1, though they are equal; of the zeros either stands for the other.
    assert repr(got).replace("-0.0", "0.0") == repr(wanted).replace("-0.0", "0.0")


def test_the_depth_of_filters_ends_where_it_did():
    """What `$and` joins is a level deeper, wherever it stands."""
    for inner in ({"a": {"$gte": 1, "$lt": 2}}, {"$and": [{"a": {"$gte": 1, "$lt": 2}}]}):
        for levels in range(FILTER_DEPTH_MAX - 3, FILTER_DEPTH_MAX + 1):
            filter_ = inner
            for _ in range(levels):
                filter_ = {"$not": filter_}
            got = read(filter_)
            with patch("squash.attributes.filters._plain", lambda *_: None):
                assert got == read(filter_)
            assert isinstance(got, str) == (levels + len(inner.get("$and", ())) >= FILTER_DEPTH_MAX)


@pytest.mark.usefixtures("no_filters_kept")
def test_a_filter_that_is_asked_again_is_one_object():
    """It knows that it is, and stays when many others come by that are asked once."""
    asked = {"a": {"$gte": 0.125, "$lt": 0.25}, "b": {"$lt": 1}}
    other = {"a": {"$gte": 0.125, "$lt": 0.75}}
    first, lost = parse_filter(asked), parse_filter(other)
    assert not first.again
    for number in range(3 * FILTER_NODES_KEPT):
        parse_filter({"a": {"$gte": number, "$lt": number + 0.5}})
        joined = {"$and": [{name: dict(clauses)} for name, clauses in asked.items()]}
        assert parse_filter(joined) is first
        assert first.again
    assert parse_filter(other) is not lost
    assert parse_filter({"$and": [asked, other]}).parts[0] is first
    assert not parse_filter({"$and": [asked, other]}).again
