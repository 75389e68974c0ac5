"""What the native kernels expect of a filter of intervals is what their twins do, to the bit."""

from array import array

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import random_table
from squash.attributes import CellScheme, compile_filter, intervals_of, parse_filter
from squash.attributes.cells import AttributeCells
from squash.kernels import MatchPlanner, Prices, Ranges, expect, filter_clusters, native

NUMBERS = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 0.5, 1.0, 2.0, np.inf])
AMOUNTS = st.floats(1e-3, 1e3)
COUNTS = st.integers(0, 3_000_000)
PRICES = st.builds(
    Prices,
    rows=COUNTS, clusters=st.integers(0, 5_000), refined=st.integers(0, 300),
    filter_row=AMOUNTS, open_row=AMOUNTS, exact=AMOUNTS, preparation=AMOUNTS, begun=AMOUNTS,
    signs=AMOUNTS, gathered=AMOUNTS, surviving=st.floats(0, 1),
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
