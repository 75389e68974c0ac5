"""Exact search answers as float64 alone would, whatever the scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.model import Metric
from squash.segment.exact import exact_distances, nearest


@settings(max_examples=examples(150, least=25), deadline=None)
@given(
    metric=st.sampled_from(list(Metric)),
    seed=st.integers(0, 10_000),
    rows=st.sampled_from([1, 2, 9, 33, 200]),
    dimension=st.sampled_from([1, 2, 3, 31, 64]),
    k=st.sampled_from([1, 2, 10, 250]),
    scale=st.sampled_from([1e-20, 1e-6, 1.0, 1e6, 1e12]),
    offset=st.sampled_from([0.0, 100.0]),
    twins=st.booleans(),
    part=st.booleans(),
)
def test_nearest_equals_sorting_all_distances(
    metric, seed, rows, dimension, k, scale, offset, twins, part
) -> None:
    """The k nearest and all that tie with the k-th, in order."""
    rng = np.random.default_rng(seed)
    vectors = ((rng.normal(size=(rows, dimension)) + offset) * scale).astype(np.float32)
    if twins:
        vectors = vectors[rng.integers(rows, size=rows)]
    query = ((rng.normal(size=dimension) + offset) * scale).astype(np.float32)
    admitted = np.flatnonzero(rng.random(rows) < 0.5) if part else None
    found, distances = nearest(metric, query, vectors, rows=admitted, k=k)
    every = np.arange(rows) if admitted is None else admitted
    truth = exact_distances(metric, query, vectors[every])
    order = np.argsort(truth, kind="stable")
    kept = order if k >= len(order) else order[truth[order] <= truth[order[k - 1]]]
    np.testing.assert_array_equal(distances, truth[kept])
    assert set(found.tolist()) == set(every[kept].tolist())


@pytest.mark.parametrize("metric", list(Metric))
def test_a_distance_does_not_depend_on_its_neighbours(metric) -> None:
    """Computed alone or among others, a row's distance has the same bits."""
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(257, 100)).astype(np.float32)
    query = rng.normal(size=100).astype(np.float32)
    together = exact_distances(metric, query, vectors)
    alone = np.array([exact_distances(metric, query, v[None])[0] for v in vectors])
    np.testing.assert_array_equal(together, alone)
