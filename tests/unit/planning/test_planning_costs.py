"""Plans follow from costs: each crossover lies where the two sides cost the same."""

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.planning import DEFAULT_COSTS, CostModel, Matches, plan_matches, prices_of
from squash.planning.costs import STRAIGHT_ROWS_MAX, SURVIVING_SHARE

NAMES = [field.name for field in fields(CostModel)]
models = st.builds(CostModel, **dict.fromkeys(NAMES, st.floats(1e-3, 1e3)))
dimensions = st.integers(1, 4096)


def expected(*, matches=1e4, clusters_needed=60.0, rows=1_000_000, dimension=128) -> Matches:
    return Matches(
        rows=rows, matches=matches, open_rows=0.0, comparisons=1, clusters=2000,
        clusters_needed=clusters_needed, dimension=dimension, refined=26,
    )  # fmt: skip


@settings(max_examples=examples(200, least=25), deadline=None)
@given(costs=models, dimension=dimensions)
def test_signs_are_scanned_from_the_share_on_where_that_costs_less(costs, dimension):
    """At the crossover both ways cost the same; `codes` takes the cheaper one on either side."""
    share = costs.share_min(dimension)
    assert 0 < share <= 1
    gathered = costs.gathered(dimension)
    scanned = costs.signs(dimension) + SURVIVING_SHARE * share * gathered
    if share < 1:
        assert scanned == pytest.approx(share * gathered)
    prices = prices_of(costs, rows=100, clusters=1, dimension=dimension, refined=1)
    assert prices.codes(100.0, share / 2) == pytest.approx(50 * share * gathered)
    assert prices.codes(1.0, 1.0) <= min(
        gathered, costs.signs(dimension) + SURVIVING_SHARE * gathered
    )


@settings(max_examples=examples(200, least=25), deadline=None)
@given(costs=models, dimension=dimensions, refined=st.integers(1, 30_000), clusters=st.integers(1))
def test_rows_are_measured_at_once_as_far_as_that_costs_less(costs, dimension, refined, clusters):
    """At the limit both ways cost the same; never more rows than a search has room for."""
    straight = costs.straight(dimension, refined)
    limit = straight.base + straight.each * clusters
    exact, gathered = costs.exact(dimension), costs.gathered(dimension)
    if exact > gathered:
        by_codes = limit * gathered + clusters * costs.begun(dimension) + refined * exact
        assert limit * exact == pytest.approx(by_codes)
    else:
        assert straight.holds(straight.most, clusters)
    assert straight.most >= refined
    assert not straight.holds(max(STRAIGHT_ROWS_MAX, refined) + 1, clusters)


@settings(max_examples=examples(200, least=25), deadline=None)
@given(costs=models, matches=st.floats(1, 1e6), more=st.floats(0, 1e6), needed=st.floats(1, 5e3))
def test_plans_cost_no_less_for_more(costs, matches, more, needed):
    """More matches never make a plan cheaper, nor do more clusters the walk."""
    few = plan_matches(costs, expected(matches=matches, clusters_needed=needed), always_max=0)
    many = plan_matches(
        costs, expected(matches=min(matches + more, 1e6), clusters_needed=needed), always_max=0
    )
    far = plan_matches(costs, expected(matches=matches, clusters_needed=needed * 2), always_max=0)
    assert few.scan_all_ns <= many.scan_all_ns
    assert few.walk_ns <= many.walk_ns * (1 + 1e-12)
    assert few.walk_ns <= far.walk_ns * (1 + 1e-12)
    assert few.scan_all == (few.scan_all_ns <= few.walk_ns)


def test_few_matches_are_all_measured_whatever_it_costs():
    dear = replace(DEFAULT_COSTS, exact_row=1e9)
    assert plan_matches(dear, expected(matches=256), always_max=256).scan_all
    assert not plan_matches(dear, expected(matches=257), always_max=256).scan_all


def test_the_defaults_choose_as_was_measured():
    """On a million rows of 128 dimensions: what `docs/decisions/0007` has as measured."""
    assert 0.03 < DEFAULT_COSTS.share_min(128) < 0.1
    straight = DEFAULT_COSTS.straight(128, 26)
    assert straight.holds(600, 100)
    assert not straight.holds(1800, 72)


def test_costs_come_back_from_json():
    assert CostModel.from_json(DEFAULT_COSTS.to_json()) == DEFAULT_COSTS


def test_costs_of_when_rotations_were_matrices_are_read():
    """They say what a value of the matrix takes; the default stands for what replaced it."""
    older = replace(DEFAULT_COSTS, exact_row=7.0).to_json() | {"rotated_value": 0.05}
    del older["rotated_dimension"]
    assert CostModel.from_json(older) == replace(DEFAULT_COSTS, exact_row=7.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"speed": 1.0}, "'speed' is no cost"),
        ({"exact_row": 0}, "exact_row is a number of nanoseconds above 0, not 0"),
        ({"exact_row": -1.0}, "above 0"),
        ({"exact_row": float("inf")}, "above 0, not inf"),
        ({"exact_row": float("nan")}, "above 0, not nan"),
        ({"exact_row": "1"}, "not '1'"),
        ({"exact_row": True}, "not True"),
        ({"exact_row": None}, "not None"),
    ],
)
def test_what_are_no_costs_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        CostModel.from_json(DEFAULT_COSTS.to_json() | change)


def test_all_costs_must_be_there():
    some = DEFAULT_COSTS.to_json()
    del some["open_row"]
    with pytest.raises(ValueError, match="'open_row' is missing"):
        CostModel.from_json(some)
