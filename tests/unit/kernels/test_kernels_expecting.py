"""What the native kernels expect of a filter of intervals is what their twins do, to the bit."""

import dataclasses
from array import array

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import random_table
from squash.attributes import CellScheme, compile_filter, intervals_of, parse_filter
from squash.attributes.cells import AttributeCells
from squash.kernels import (
    UNANCHORED,
    MatchPlanner,
    Prices,
    Ranges,
    SearchPlan,
    StaysOpen,
    Straight,
    expect,
    filter_clusters,
    list_rows,
    native,
    standing_search,
)

NUMBERS = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 0.5, 1.0, 2.0, np.inf])
AMOUNTS = st.floats(1e-3, 1e3)
COUNTS = st.integers(0, 3_000_000)
PRICES = st.builds(
    Prices,
    rows=COUNTS, clusters=st.integers(0, 5_000), refined=st.integers(0, 300),
    filter_row=AMOUNTS, open_row=AMOUNTS, exact=AMOUNTS, preparation=AMOUNTS, begun=AMOUNTS,
    signs=AMOUNTS, gathered=AMOUNTS, listed=AMOUNTS, surviving=st.floats(0, 1),
)  # fmt: skip


def told(table, alike, ends, planner):
    """Return what is expected, and which rows the program passes."""
    found = expect(table, alike, ends, planner)
    bits = [np.zeros_like(table.alive) for _ in range(2)]
    counts = filter_clusters(table, found.program, np.arange(len(table.rows)), *bits)
    return found[1:], [one.tolist() for one in (*counts, *bits)], found.program.comparisons


@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.lists(st.sampled_from(["plain", "absent"]), min_size=1, max_size=6).map(tuple),
    data=st.data(),
    prices=PRICES,
    thinning=st.sampled_from([1.0, 0.1, 1e-4]),
    alive=st.floats(0, 1),
)
@settings(max_examples=examples(60, least=25), deadline=None)
def test_variants_expect_what_twins_do(seed, names, data, prices, thinning, alive):
    """The same shares and plan, of one attribute and of several, and the same rows pass."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, [40, 0, 31, 257, 1025, 64])
    cuts = sorted(data.draw(st.sets(st.sampled_from([-1.5, 0.0, 0.25, 0.5, 1.0]))))
    cells = AttributeCells(number_cuts=tuple((cut, int(rng.integers(0, 2))) for cut in cuts))
    ends = array("d", data.draw(st.tuples(*[NUMBERS] * (2 * len(names)))))
    planner = MatchPlanner(
        prices,
        walked=rng.integers(1, 3_000, 513).astype(np.float64),
        thinning=thinning,
        open_least=0.008,
        always_most=data.draw(st.sampled_from([0, 256])),
        unsure_most=data.draw(st.sampled_from([0.0, 0.2, 1.0])),
        lists=data.draw(st.booleans()),
        whole=data.draw(st.booleans()),
    )
    numbers = array("d", np.sort(rng.standard_normal(int(rng.integers(0, 99)))).tobytes())
    alike = Ranges(
        names, (cells,) * len(names), every=2, numbers=numbers, step=3,
        rows=int(table.rows.sum()), alive=alive,
    )  # fmt: skip
    with native.use(native.NUMPY):
        wanted = told(table, alike, ends, planner)
    for variant in native.variants():
        with native.use(variant):
            table.native = None
            assert told(table, alike, ends, planner) == wanted
            assert told(table, alike, ends, planner) == wanted


def outcome(found):
    """Return all that a search says."""
    if isinstance(found, StaysOpen):
        return None if found.counts is None else [one.tolist() for one in found.counts]
    return found._replace(taken=found.taken.tolist())


@given(
    seed=st.integers(0, 2**32 - 1),
    names=st.lists(st.sampled_from(["plain", "absent"]), min_size=1, max_size=3, unique=True),
    data=st.data(),
    prices=PRICES,
    always_most=st.sampled_from([0, 30, 300]),
    listed=st.booleans(),
    whole=st.sampled_from([True, True, False]),
)
@settings(max_examples=examples(60, least=25), deadline=None)
def test_one_call_is_what_expecting_and_searching_are(
    seed, names, data, prices, always_most, listed, whole
):
    """Whether all that passes is measured, lists are asked, or nothing can be done at once."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, rng.integers(0, 200, 12))
    table.vectors = [
        rng.standard_normal((len(column), 8)).astype(np.float32)
        for column in table.columns["plain"]
    ]
    for name in names:
        for number, vectors in enumerate(table.vectors):
            table.columns[name][number] = rng.integers(1, 6, len(vectors)).astype(np.uint8)
            if whole:
                places = rng.integers(0, 9, len(vectors)).astype(np.uint32)
                table.values[name][number] = np.sort(rng.standard_normal(9)), places
    if listed:
        table.listed = {name: list_rows(table, name) for name in names}
    cells = AttributeCells(number_cuts=((-0.5, 0), (0.0, 1), (0.5, 0)))
    halves = data.draw(st.lists(NUMBERS, min_size=len(names), max_size=len(names)))
    ends = array("d", [end for low in halves for end in (low, low + 0.75)])
    planner = MatchPlanner(
        dataclasses.replace(prices, rows=int(table.rows.sum()), clusters=len(table.rows)),
        walked=rng.integers(1, 20, 513).astype(np.float64),
        thinning=1.0,
        open_least=0.008,
        always_most=always_most,
        unsure_most=data.draw(st.sampled_from([0.0, 1.0])),
        lists=listed,
        whole=True,
    )
    numbers = array("d", np.sort(rng.standard_normal(99)).tobytes())
    alike = Ranges(
        tuple(names), (cells,) * len(names), every=2, numbers=numbers, step=12,
        rows=int(table.rows.sum()), alive=0.9,
    )  # fmt: skip
    plan = SearchPlan(
        k=5, prior_rows=1_024.0, thinning=1.0, inverse_need=np.full(513, 0.2),
        adverse=np.ones(513), need_against=1.0, anchor_rows=UNANCHORED, exponent=0, keep=5,
        reach=1.0, share_min=0.1, straight=Straight(4_000, 4_000.0, 0.0),
    )  # fmt: skip
    query = rng.standard_normal(8).astype(np.float32)
    for variant in native.variants()[1:]:
        with native.use(variant):
            table.native = None
            standing = standing_search(
                table, np.eye(8, dtype=np.float32), np.zeros(8, np.float32),
                metric="euclidean", plan=plan,
            )  # fmt: skip
            bits = [np.zeros_like(table.alive) for _ in range(4)]
            expected = expect(table, alike, ends, planner)
            found = standing.ask(query, alike, ends, planner, *bits[:2])
            if expected.every < 0:
                assert found is None
                continue
            wanted = standing.search(
                query, expected.share, expected.program, *bits[2:], every=expected.every > 0,
                listed_most=int(expected.listed_most), filtered_most=always_most,
            )  # fmt: skip
            assert outcome(found) == outcome(wanted)
            assert [one.tolist() for one in bits[:2]] == [one.tolist() for one in bits[2:]]


def test_intervals_are_the_filter_that_is_compiled():
    """Ranges made of a filter's intervals are those of its program; a value alone is one, too."""
    scheme = CellScheme({"a": AttributeCells(number_cuts=((1.0, 0), (1.0, 1), (4.0, 0)))})
    for filter_ in (
        {"a": 1},
        {"a": {"$gt": 1, "$lte": 4}},
        {"a": {"$gte": 1}, "b": 2.5},
        {"$and": [{"b": {"$lt": 3}}, {"a": {"$between": [1, 4]}}]},
    ):
        node = parse_filter(filter_)
        program = compile_filter(node, scheme, holds_lists=lambda _: False)
        names, ends = intervals_of(node)
        alike = Ranges(names, tuple(map(scheme.of, names)), every=1, rows=1, alive=1.0)
        asked = alike.asked(ends)
        assert alike.operations == program.operations
        for one, other in zip(asked, program.asked, strict=True):
            assert (one.attribute, one.low, one.high) == (other.attribute, other.low, other.high)
            assert one.cells is other.cells
    for other in ({"a": "x"}, {"a": {"$eq": 1, "$lt": 3}}, {"a": {"$in": [1, 2]}}, {"a": True}):
        assert intervals_of(parse_filter(other)) is None
