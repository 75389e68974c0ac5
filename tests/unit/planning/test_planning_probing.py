"""Choosing clusters: enough rows always, the calibrated number of clusters otherwise."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.planning import BANDS, TARGETS, Calibration, choose_clusters, keep_for, scan_mode


def calibration(clusters: int, first: float = 4.0) -> Calibration:
    needed = np.array(
        [[min(first * (t + 1) * 3.0**b, clusters) for b in range(len(BANDS))]
         for t in range(len(TARGETS))]
    )  # fmt: skip
    return Calibration(needed)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10_000), clusters=st.integers(1, 80), k=st.integers(1, 500))
def test_a_single_pass_finds_min_k_matches(seed: int, clusters: int, k: int) -> None:
    """What is chosen holds k sure rows, or every possible row there is; each cluster once."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 50, size=clusters)
    possible = rng.integers(0, rows + 1)
    sure = rng.integers(0, possible + 1)
    distances = rng.random(clusters).astype(np.float32)
    chosen = choose_clusters(
        distances,
        rows=rows, sure=sure, possible=possible, k=k,
        calibration=calibration(clusters), recall_target=0.95,
    )  # fmt: skip
    assert len(set(chosen.tolist())) == len(chosen)
    assert (np.diff(distances[chosen]) >= 0).all()
    assert sure[chosen].sum() >= k or possible[chosen].sum() == possible.sum()


def test_the_unfiltered_need_is_the_calibrated_one() -> None:
    """With all rows admitted, as many clusters are visited as calibration asks for."""
    rows = np.full(100, 500)
    for row, target in enumerate(TARGETS):
        chosen = choose_clusters(
            np.arange(100, dtype=np.float32),
            rows=rows, sure=rows, possible=rows, k=10,
            calibration=calibration(100), recall_target=target,
        )  # fmt: skip
        assert len(chosen) == min(4 * (row + 1), 100)


@settings(max_examples=50, deadline=None)
@given(target=st.floats(0.5, 1.0))
def test_more_selective_needs_no_fewer_clusters(target: float) -> None:
    """The need grows as fewer rows pass, also beyond the last band."""
    shares = np.geomspace(1.0, 1e-5, 40)
    needed = calibration(10_000).needed(target, shares)
    assert (np.diff(needed) >= -1e-9).all()
    assert np.isfinite(needed).all()


def test_calibration_reaches_its_target_on_what_it_saw() -> None:
    """The rank taken covers at least the target's share of the true neighbours."""
    rng = np.random.default_rng(1)
    ranks = [[np.sort(rng.geometric(0.2, size=10)) - 1 for _ in range(300)] for _ in BANDS]
    fitted = Calibration.fit(ranks, k=10, clusters=1000)
    every = np.concatenate(ranks[0])
    for row, target in enumerate(TARGETS):
        assert np.mean(every < fitted.clusters_needed[row, 0]) >= target
    again = Calibration.from_json(fitted.to_json())
    np.testing.assert_array_equal(again.clusters_needed, fitted.clusters_needed)


def test_more_rows_are_kept_for_more_answers_and_higher_targets() -> None:
    """Every level keeps at least k."""
    for k in (1, 10, 100, 10_000):
        for low, high in ((0.5, 0.9), (0.9, 0.99), (0.99, 1.0)):
            assert k <= keep_for(k, low).refined <= keep_for(k, high).refined
            assert keep_for(k, low).refined <= keep_for(k, low).low <= keep_for(k, high).low


def test_few_admitted_rows_go_straight_to_full_codes() -> None:
    """The low-bit scan serves where it can save something."""
    assert scan_mode(rows=50_000, admitted=50_000, low_keep=400) == "low"
    assert scan_mode(rows=50_000, admitted=1_000, low_keep=400) == "full"
    assert scan_mode(rows=1_000_000, admitted=10_000, low_keep=400) == "full"


def test_more_answers_need_no_fewer_clusters() -> None:
    """A query for many answers reaches as far as a filter that passes few rows does."""
    rows = np.full(400, 500)
    visited = [
        len(
            choose_clusters(
                np.arange(400, dtype=np.float32),
                rows=rows, sure=rows, possible=rows, k=k,
                calibration=calibration(400), recall_target=0.95,
            )
        )
        for k in (1, 10, 100, 1000, 10_000)
    ]  # fmt: skip
    assert visited == sorted(visited)
    assert visited[1] < visited[3]
