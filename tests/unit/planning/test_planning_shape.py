"""The shape of a search: what pays, and that the model behind it is what it says."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.planning import DEFAULT_COSTS, Matches
from squash.planning.shape import (
    DEFAULT_SHAPE_COSTS,
    FAN_OUT,
    NONE,
    Load,
    Shape,
    branching_factor,
    choose_shape,
    estimate,
    read_shape,
    work_of,
)
from squash.planning.slots import slots_used
from squash.planning.tree import Tree


def load(queries: int, rows: int = 1_000_000, dimension: int = 384, **more) -> Load:
    """An index of so many rows, of which a gigabyte or so is retained."""
    clusters = max(rows // 500, 1)
    plan_ms, scan_ms = work_of(
        DEFAULT_COSTS, Matches(rows, rows, 0, 0, clusters, 30, dimension, 26)
    )
    whole = Load(
        queries=queries,
        plan_ms=plan_ms,
        scan_ms=scan_ms,
        index_bytes=rows * (dimension * 5),
        retained_bytes=900_000_000,
        partitions=max(rows // 32_768, 1),
        slots=8,
        vcpus=1.0,
    )
    return replace(whole, **more)


LOADS = st.builds(
    load,
    st.integers(1, 10_000),
    st.sampled_from([10_000, 1_000_000, 100_000_000]),
    st.sampled_from([64, 384, 1536]),
    slots=st.integers(1, 64),
    vcpus=st.sampled_from([0.3, 1.0, 4.0]),
    retained_bytes=st.sampled_from([1, 10**8, 10**10]),
)
SHAPES = [NONE, FAN_OUT, Shape("tree", Tree(5, 1)), Shape("tree", Tree(3, 2))]


@pytest.mark.parametrize("queries", [1, 10, 100, 1_000])
def test_a_small_index_is_answered_by_one_function(queries):
    """What one function holds is not worth a call."""
    assert choose_shape(load(queries, rows=100_000, dimension=128)) == NONE


def test_a_large_index():
    """Of a large one, few queries need processors, and many a tree of two levels at most."""
    assert choose_shape(load(1)) == FAN_OUT
    assert choose_shape(load(10, rows=10_000_000)) == FAN_OUT
    for rows in (1_000_000, 10_000_000, 100_000_000):
        for queries in (1_000, 10_000):
            shape = choose_shape(load(queries, rows=rows))
            assert shape.tree is not None
            assert shape.tree.depth <= 2


def test_nothing_to_call():
    """Without partitions, slots or queries, nobody is called, however large the index."""
    for nothing in ({"partitions": 0}, {"slots": 0}, {"queries": 0}):
        assert choose_shape(replace(load(1_000, rows=100_000_000), **nothing)) == NONE


@given(LOADS)
@settings(deadline=None)
def test_the_best_is_chosen(some):
    """No other shape is worth more, and the choice keeps to what may run at once."""
    costs = DEFAULT_SHAPE_COSTS
    shape = choose_shape(some)
    worth = estimate(shape, some).worth_usd(costs)
    for other in (NONE, FAN_OUT, Shape("tree", Tree(4, 1)), Shape("tree", Tree(3, 2))):
        nodes = other.tree.nodes if other.tree else 0
        if nodes and (nodes > some.queries or nodes * (1 + some.slots) > costs.calls_max):
            continue
        if nodes and some.queries < 8:
            continue
        assert worth <= estimate(other, some).worth_usd(costs) * (1 + 1e-9)
    if shape.tree:
        assert shape.tree.nodes <= some.queries
        used = slots_used(some.partitions, some.index_bytes, some.slots)
        assert shape.tree.nodes * (1 + used) <= costs.calls_max


@given(
    LOADS, st.sampled_from([NONE, FAN_OUT, Shape("tree", Tree(5, 1)), Shape("tree", Tree(3, 2))])
)
@settings(deadline=None)
def test_estimates_make_sense(some, shape):
    """More queries never take less time or money, nor does a longer hop, nor a smaller memory."""
    before = estimate(shape, some)
    assert before.ms > 0
    assert before.usd > 0
    for more, costs in (
        (replace(some, queries=some.queries * 2), DEFAULT_SHAPE_COSTS),
        (some, replace(DEFAULT_SHAPE_COSTS, hop_ms=40.0)),
        (some, replace(DEFAULT_SHAPE_COSTS, cold_share=0.1)),
        (replace(some, retained_bytes=some.retained_bytes // 2), DEFAULT_SHAPE_COSTS),
    ):
        after = estimate(shape, more, costs)
        assert after.ms >= before.ms * (1 - 1e-9)
        assert after.usd >= before.usd * (1 - 1e-9)


def test_dear_time_and_dear_money():
    """Where waiting costs nothing a batch is not parted; where it is dear a wider tree pays."""
    some = load(1_000, rows=10_000_000)
    cheap = choose_shape(some, replace(DEFAULT_SHAPE_COSTS, ms_usd=1e-9))
    dear = choose_shape(some, replace(DEFAULT_SHAPE_COSTS, ms_usd=1e-4))
    assert cheap == FAN_OUT
    assert dear.tree.nodes > choose_shape(some).tree.nodes


@pytest.mark.parametrize(("ratio", "factor"), [(1, 4), (3, 5), (12.5, 10), (25, 15)])
def test_the_best_branching_factor(ratio, factor):
    """F(ln F - 1) = h/a, at the values that the paper on fan-out's arithmetic has."""
    assert branching_factor(replace(DEFAULT_SHAPE_COSTS, hop_ms=ratio, call_ms=1.0)) == factor


@pytest.mark.parametrize("shape", [NONE, FAN_OUT, Shape("tree", Tree(10, 2))])
def test_shapes_as_text(shape):
    """A shape is read as it is written."""
    assert read_shape(str(shape)) == shape


@pytest.mark.parametrize("text", ["", "tree", "3", "3,", ",2", "3,2,1", "-1,2", "0,1", "2,9"])
def test_text_that_is_no_shape(text):
    """What is no shape is refused."""
    with pytest.raises(ValueError, match=r"shape|tree"):
        read_shape(text)
