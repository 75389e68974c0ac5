"""Exact distances are float64's, in a fixed order; refinement reads no more than it must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from scan_scenes import random_scene, vector_table
from squash import kernels
from squash.kernels.lanes import lanes8

METRICS = ["cosine", "euclidean", "dot"]


def naive_lanes(values):
    """Sum Python floats over eight lanes."""
    lanes = [0.0] * 8
    for i, value in enumerate(values):
        lanes[i % 8] += value
    a, b, c, d, e, f, g, h = lanes
    return ((a + e) + (c + g)) + ((b + f) + (d + h))


def naive_distance(metric, query, row):
    """Compute one distance in Python floats."""
    q, x = [float(v) for v in query], [float(v) for v in row]
    if metric == "euclidean":
        return math.sqrt(naive_lanes([(a - b) * (a - b) for a, b in zip(x, q, strict=True)]))
    product = naive_lanes([a * b for a, b in zip(x, q, strict=True)])
    if metric == "dot":
        return -product
    squares = naive_lanes([a * a for a in x]) * naive_lanes([b * b for b in q])
    return 1.0 - product / math.sqrt(squares)


@pytest.mark.parametrize("dimension", [0, 1, 7, 8, 9, 15, 16, 17, 65])
def test_lanes_add_in_their_order(dimension):
    """A sum over eight lanes has the bits of the loop that defines it."""
    rng = np.random.default_rng(dimension)
    values = rng.standard_normal((5, dimension)) * 10.0 ** rng.integers(-8, 8, (5, dimension))
    assert lanes8(values).tolist() == [naive_lanes(row) for row in values.tolist()]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dimension", [1, 7, 8, 9, 31, 33])
def test_distances_have_the_bits_of_the_loop(metric, dtype, dimension):
    """Every distance is the one of the definition, gathered or not."""
    rng = np.random.default_rng(dimension)
    vectors = (rng.standard_normal((33, dimension)) * 3).astype(dtype)
    query = rng.standard_normal(dimension).astype(np.float32)
    naive = [naive_distance(metric, query, row) for row in vectors]
    rows = rng.integers(0, 33, 50)
    assert kernels.exact_distances(metric, query, vectors).tolist() == naive
    got = kernels.exact_distances(metric, query, vectors, rows)
    assert got.tolist() == [naive[r] for r in rows]


@settings(max_examples=examples(60, least=25), deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    metric=st.sampled_from(METRICS),
    count=st.sampled_from([0, 1, 2, 9, 40]),
    k=st.sampled_from([1, 2, 3, 10, 100]),
)
def test_refinement_reads_first_rows_and_those_whose_bound_lets_them_in(seed, metric, count, k):
    """Rows read have their distance, others NaN; which are read is what their bounds say."""
    rng = np.random.default_rng(seed)
    vectors = [rng.standard_normal((20, 9)).astype(np.float32) for _ in range(3)]
    query = rng.standard_normal(9).astype(np.float32)
    partition, row = rng.integers(0, 3, count), rng.integers(0, 20, count)
    bounds = rng.standard_normal(count).astype(np.float32)
    true = np.array(
        [naive_distance(metric, query, vectors[p][r]) for p, r in zip(partition, row, strict=True)]
    )
    got, read = kernels.refine(
        metric, query, vector_table(vectors), partition, row, lower_bounds=bounds, k=k
    )
    first = min(count, k + k // 2)
    wanted = np.arange(count) < first
    if first < count:
        worst = np.sort(true[:first])[k - 1]
        worst = {"cosine": 2 * worst, "euclidean": worst * worst, "dot": worst}[metric]
        wanted |= bounds <= worst
    assert read == wanted.sum()
    np.testing.assert_array_equal(got, np.where(wanted, true, np.nan))


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_a_bitmap_are_gathered_in_order(seed):
    """Cluster after cluster in the order given, ascending inside, empty clusters included."""
    scene = random_scene(seed, dimension=4, space="l2", kind="clustered", scale=1.0)
    table = scene.table
    rng = np.random.default_rng(seed)
    possible = table.alive & rng.integers(0, 2**32, len(table.alive)).astype(np.uint32)
    clusters = rng.permutation(len(table.rows))[: rng.integers(0, len(table.rows) + 1)]
    for words in (None, possible):
        bits = table.alive if words is None else words
        naive = [
            (int(table.partition[c]), int(table.first_row[c]) + r)
            for c in clusters
            for r in range(int(table.rows[c]))
            if (int(bits[table.first_block[c] + r // 32]) >> (r % 32)) & 1
        ]
        partition, row = kernels.gather_rows(table, clusters, words)
        assert list(zip(partition.tolist(), row.tolist(), strict=True)) == naive
