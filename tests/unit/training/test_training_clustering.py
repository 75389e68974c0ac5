"""Clusters and their groups: every row somewhere, caps that hold, the same for a seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.training import Assigner, group_clusters, kmeans, split_rows


def blobs(seed: int, rows: int, dimension: int = 8, centers: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centers, dimension)) * 10
    return (middle[rng.integers(centers, size=rows)] + rng.normal(size=(rows, dimension))).astype(
        np.float32
    )


def test_kmeans_is_the_same_for_a_seed_and_lowers_the_error() -> None:
    """A seed decides everything, and clusters fit better than random rows do."""
    data = blobs(0, 2000)
    first, second = (kmeans(data, clusters=20, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, second)

    def error(centers: np.ndarray) -> float:
        return float(((data - centers[Assigner(centers).assign(data)]) ** 2).sum())

    assert error(first) < 0.7 * error(data[:20])


@pytest.mark.parametrize("clusters", [1, 2, 7, 64])
def test_kmeans_survives_rows_that_are_all_alike(clusters: int) -> None:
    """Empty clusters are refilled, and the centres stay finite."""
    centers = kmeans(np.ones((100, 3), np.float32), clusters=clusters, seed=1)
    assert centers.shape == (clusters, 3)
    assert np.isfinite(centers).all()


def test_two_level_clustering_agrees_with_flat_assignment() -> None:
    """Beyond the flat limit, assignment still finds the nearest centre for nearly all rows."""
    data = blobs(3, 9000, dimension=4, centers=200)
    centers = kmeans(data, clusters=4200, seed=0, iterations=2)
    assert centers.shape == (4200, 4)
    rows = data[:500]
    distances = ((rows[:, None, :].astype(np.float64) - centers[None]) ** 2).sum(axis=2)
    chosen = distances[np.arange(500), Assigner(centers).assign(rows)]
    assert np.mean(chosen <= distances.min(axis=1) * 1.0001 + 1e-4) > 0.97


@settings(max_examples=examples(60, least=25), deadline=None)
@given(
    seed=st.integers(0, 1000),
    clusters=st.integers(1, 60),
    cap=st.integers(1, 300),
)
def test_groups_hold_their_cap(seed: int, clusters: int, cap: int) -> None:
    """No group passes the cap but a single cluster that does so alone; numbers have no gaps."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(clusters, 3)).astype(np.float32)
    if seed % 3 == 0:
        centers[:] = 1.0
    rows = rng.integers(0, 120, size=clusters)
    group = group_clusters(centers, rows, rows_max=cap)
    assert sorted(set(group.tolist())) == list(range(int(group.max()) + 1))
    for number in range(int(group.max()) + 1):
        members = np.flatnonzero(group == number)
        assert rows[members].sum() <= cap or len(members) == 1


@pytest.mark.parametrize("alike", [False, True])
def test_a_crowded_cluster_is_cut_evenly(alike: bool) -> None:
    """Rows are cut under the cap, into hardly more parts than needed, even if all are alike."""
    data = np.ones((1000, 5), np.float32) if alike else blobs(7, 1000, dimension=5)
    part = split_rows(data, rows_max=300)
    sizes = np.bincount(part)
    assert sizes.max() <= 300
    assert len(sizes) <= 5
