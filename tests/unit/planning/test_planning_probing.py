"""Choosing clusters: enough rows always, the calibrated number of clusters otherwise."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.kernels import UNANCHORED, ClusterTable, Taken
from squash.planning import (
    BANDS,
    TARGETS,
    Calibration,
    Need,
    Weighted,
    take_clusters,
)


def calibration(clusters: int, first: float = 4.0) -> Calibration:
    needed = np.array(
        [[min(first * (t + 1) * 3.0**b, clusters) for b in range(len(BANDS))]
         for t in range(len(TARGETS))]
    )  # fmt: skip
    return Calibration(needed)


def table_of(rows: np.ndarray) -> ClusterTable:
    """Clusters of so many rows, all in one partition of which nothing is loaded."""
    blocks = -(-rows // 32)
    ends = rows % 32
    alive = np.full(int(blocks.sum()), 0xFFFFFFFF, dtype=np.uint32)
    last = np.cumsum(blocks) - 1
    alive[last[ends > 0]] = (np.left_shift(1, ends[ends > 0]) - 1).astype(np.uint32)
    return ClusterTable(
        space="l2",
        dimension=1,
        centers=np.zeros((len(rows), 1), dtype=np.float32),
        center_norms=np.zeros(len(rows)),
        rows=rows,
        partition=np.zeros(len(rows), dtype=np.int64),
        first_row=np.cumsum(rows) - rows,
        first_block=np.cumsum(blocks) - blocks,
        local_block=np.cumsum(blocks) - blocks,
        alive=alive,
        alive_counts=rows.astype(np.int64),
        row_base=np.zeros(1, dtype=np.int64),
        blocks=[None],
        full=[None],
        vectors=[None],
    )


def take(
    distances: np.ndarray,
    rows: np.ndarray,
    *,
    k: int,
    known: Calibration,
    recall_target: float = 0.95,
    counts: tuple[np.ndarray, np.ndarray] | None = None,
) -> Taken:
    table = table_of(rows)
    possible = rows if counts is None else counts[1]
    return take_clusters(
        table,
        distances,
        k=k,
        need=Need.of(known, recall_target),
        overall=float(possible.sum() / max(rows.sum(), 1)),
        sure=np.zeros(len(table.alive), dtype=np.uint32),
        possible=np.zeros(len(table.alive), dtype=np.uint32),
        counts=counts,
    )


@settings(max_examples=examples(200, least=25), deadline=None)
@given(seed=st.integers(0, 10_000), clusters=st.integers(1, 80), k=st.integers(1, 500))
def test_a_single_pass_finds_min_k_matches(seed: int, clusters: int, k: int) -> None:
    """What is chosen holds k sure rows, or every possible row there is; each cluster once."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 50, size=clusters)
    possible = rng.integers(0, rows + 1)
    sure = rng.integers(0, possible + 1)
    distances = rng.random(clusters).astype(np.float32)
    taken = take(distances, rows, k=k, known=calibration(clusters), counts=(sure, possible))
    chosen = taken.clusters
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(distances[chosen]) >= 0).all()
    assert sure[chosen].sum() >= k or possible[chosen].sum() == possible.sum()
    assert taken.sure_seen == sure[chosen].sum()


def test_the_unfiltered_need_is_the_calibrated_one() -> None:
    """With all rows admitted, as many clusters are visited as calibration asks for."""
    rows = np.full(100, 500)
    for row, target in enumerate(TARGETS):
        taken = take(
            np.arange(100, dtype=np.float32),
            rows, k=10, known=calibration(100), recall_target=target,
        )  # fmt: skip
        assert len(taken.clusters) == min(4 * (row + 1), 100)


@settings(max_examples=examples(50, least=25), deadline=None)
@given(target=st.floats(0.5, 1.0))
def test_more_selective_needs_no_fewer_clusters(target: float) -> None:
    """The need grows as fewer rows pass, also beyond the last band, and so it does in tables."""
    shares = np.geomspace(1.0, 1e-5, 40)
    needed = calibration(10_000).needed(target, shares)
    assert (np.diff(needed) >= -1e-9).all()
    assert np.isfinite(needed).all()
    inverse = Need.of(calibration(10_000), target).inverse
    assert (np.diff(inverse) >= -1e-12).all()


@settings(max_examples=examples(50, least=25), deadline=None)
@given(one=st.floats(0.5, 0.9999), other=st.floats(0.5, 0.9999))
def test_a_higher_target_needs_no_fewer_clusters(one: float, other: float) -> None:
    """Between the calibrated targets the need grows as well."""
    low, high = sorted((one, other))
    share = np.array([1.0, 0.03])
    known = calibration(10_000)
    assert (known.needed(low, share) <= known.needed(high, share) + 1e-9).all()


def test_calibration_reaches_its_target_on_what_it_saw() -> None:
    """What is needed covers at least the target's share of the true neighbours."""
    rng = np.random.default_rng(1)
    grid = np.arange(1, 1001)
    ways = []
    for scale in (1.0, 3.0):
        ranks = [[np.sort(rng.geometric(0.2, size=10)) * scale for _ in range(300)] for _ in BANDS]
        curves = [np.tile(grid * scale, (300, 1))] * len(BANDS)
        way = Weighted.fit(int(scale) - 1, ranks, curves, grid, k=10, clusters=1000)
        every = np.concatenate(ranks[0])
        for row, target in enumerate(TARGETS):
            assert np.mean(every <= way.needed[row, 0]) >= target
        np.testing.assert_allclose(way.walked, way.needed / scale)
        ways.append(way)
    fitted = Calibration.best(ways, clusters=1000)
    again = Calibration.from_json(fitted.to_json())
    np.testing.assert_array_equal(again.clusters_needed, ways[0].needed)


def weighted(clusters: int) -> Calibration:
    """A calibration where far clusters count more: 4 once, and as many again, and so on."""
    known = calibration(clusters)
    twice = Weighted(3, known.clusters_needed, 1 + known.clusters_needed / 2)
    return Calibration(known.clusters_needed, twice)


def test_walks_go_by_distances_to_rows_where_these_are_shorter() -> None:
    """And earlier releases, which do not know them, by what they know."""
    needed = calibration(100).clusters_needed
    ways = [Weighted(exponent, needed, needed * 2) for exponent in range(5)]
    longer = [Weighted(exponent, needed, needed * 2.1) for exponent in range(5)]
    shorter = [Weighted(exponent, needed, needed * (1.9 - exponent / 10)) for exponent in range(5)]
    assert Calibration.best(ways, spread=longer, clusters=100).spread is None
    best = Calibration.best(ways, spread=shorter, clusters=100)
    assert best.spread is best.walked_by is shorter[4]
    assert best.weighted is None
    read = Calibration.from_json(json.loads(json.dumps(best.to_json())))
    assert read.to_json() == best.to_json()
    assert Need.of(best, 0.95).exponent == 4
    scaled = best.scaled(measured=100, clusters=400).spread
    assert scaled is not None
    np.testing.assert_allclose(scaled.walked, np.minimum(shorter[4].walked * 2, 400))
    old = best.to_json()
    del old["spread"]
    assert Calibration.from_json(old).walked_by is None


@pytest.mark.parametrize("exponent", [5, -1, 1.5, "2"])
def test_an_exponent_of_distances_to_rows_that_is_none_is_refused(exponent: object) -> None:
    """All may count alike; kernels multiply as often as it says."""
    value = weighted(10).to_json()
    value["spread"] = {**value["weighted"], "exponent": 0}
    assert Calibration.from_json(value).spread is not None
    value["spread"]["exponent"] = exponent
    with pytest.raises(ValueError, match="exponent of spread"):
        Calibration.from_json(value)


def test_a_query_close_to_a_center_takes_fewer_clusters() -> None:
    """Where others are far it ends sooner; where they are as near, it takes what it did."""
    rows = np.full(100, 500)
    known, target = weighted(100), 0.95
    plain = take(np.linspace(1, 9, 100, dtype=np.float32), rows, k=10, known=calibration(100))
    alike = take(np.full(100, 7, dtype=np.float32), rows, k=10, known=known)
    apart = take(np.linspace(1, 9, 100, dtype=np.float32), rows, k=10, known=known)
    assert len(alike.clusters) == len(plain.clusters) == calibration(100).needed(target, np.ones(1))
    assert 1 < len(apart.clusters) < len(plain.clusters)


def test_clusters_count_alike_until_as_many_rows_as_wanted_may_pass() -> None:
    """The anchor is not the nearest cluster, where that has too few rows that pass."""
    rows = np.full(100, 500)
    distances = np.concatenate([np.full(1, 1e-6), np.linspace(1, 1.1, 99)]).astype(np.float32)
    few = np.concatenate([np.zeros(1, dtype=np.int64), np.full(99, 500)])
    anchored = take(distances, rows, k=10, known=weighted(100), counts=(few, few))
    close = take(distances, rows, k=10, known=weighted(100))
    assert len(close.clusters) == 2
    assert len(anchored.clusters) > 2


def test_what_is_expected_of_a_walk_is_what_walks_took() -> None:
    """Plans are made by the clusters taken, not by what these count; old indexes as before."""
    known = weighted(1000)
    need, plain = Need.of(known, 0.95), Need.of(calibration(1000), 0.95)
    assert need.clusters(1.0, 10) == pytest.approx(1 + plain.clusters(1.0, 10) / 2)
    assert (need.anchor_rows(1), need.anchor_rows(300)) == (10, 300)
    assert plain.anchor_rows(300) == UNANCHORED
    assert (need.exponent, plain.exponent) == (3, 0)
    again = Calibration.from_json(known.to_json())
    assert again.weighted is not None
    assert known.weighted is not None
    assert again.weighted.exponent == 3
    np.testing.assert_array_equal(again.weighted.needed, known.weighted.needed)
    np.testing.assert_array_equal(again.weighted.walked, known.weighted.walked)
    assert Calibration.from_json(calibration(10).to_json()).weighted is None


def test_what_is_needed_beyond_the_querys_own_region_is_kept() -> None:
    """With the way that walks go by; earlier releases' indexes have none, and no other need."""
    known, against = weighted(1000), np.geomspace(2, 8, len(TARGETS))
    assert known.weighted is not None
    walked = replace(known.weighted, against=against)
    made = Calibration(known.clusters_needed, walked, against=against / 2)
    read = Calibration.from_json(json.loads(json.dumps(made.to_json())))
    for one in (made, read, made.scaled(measured=10, clusters=40)):
        assert one.need_against(0.95) == pytest.approx(against[TARGETS.index(0.95)])
        assert against[1] < one.need_against(0.93) < against[2]
        assert Need.of(one, 0.95).against == one.need_against(0.95)
    plain = replace(read, weighted=None)
    assert plain.need_against(0.95) == pytest.approx(against[TARGETS.index(0.95)] / 2)
    # The anchor is where it is told that a filter is against the query.
    assert Need.of(plain, 0.95).anchor_rows(10) == 10
    assert known.need_against(0.95) == calibration(10).need_against(0.95) == 1.0


@pytest.mark.parametrize("wrong", [[2.0], [0.5] * len(TARGETS), [float("nan")] * len(TARGETS)])
@pytest.mark.parametrize("where", ["weighted", None])
def test_a_need_that_is_none_is_refused(where: str | None, wrong: list[float]) -> None:
    """Of another shape, or below one."""
    value = weighted(10).to_json()
    (value if where is None else value[where])["against"] = wrong
    with pytest.raises(ValueError, match="against"):
        Calibration.from_json(value)


@pytest.mark.parametrize("wrong", [[[1.0]], [[0.5] * len(BANDS)] * len(TARGETS)])
@pytest.mark.parametrize("name", ["needed", "walked"])
def test_weights_that_are_none_are_refused(name: str, wrong: list[list[float]]) -> None:
    """Of another shape, or below one."""
    value = weighted(10).to_json()
    value["weighted"][name] = wrong
    with pytest.raises(ValueError, match=name):
        Calibration.from_json(value)


@pytest.mark.parametrize("exponent", [0, 5, -1, 1.5, "2"])
def test_an_exponent_that_is_none_is_refused(exponent: object) -> None:
    """Kernels multiply as often as it says."""
    value = weighted(10).to_json()
    value["weighted"]["exponent"] = exponent
    with pytest.raises(ValueError, match="exponent"):
        Calibration.from_json(value)


def test_more_answers_need_no_fewer_clusters() -> None:
    """A query for many answers reaches as far as a filter that passes few rows does."""
    rows = np.full(400, 500)
    distances = np.arange(400, dtype=np.float32)
    visited = [
        len(take(distances, rows, k=k, known=calibration(400)).clusters)
        for k in (1, 10, 100, 1000, 10_000)
    ]
    assert visited == sorted(visited)
    assert visited[1] < visited[3]
