"""Recall among rows that codes tell apart badly: groups much narrower than their clusters."""

from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.maintain import BuildOptions

TARGETS = (0.9, 0.99)
ANSWERS = (1, 10, 100)
# Clusters of several groups, as where groups are many.
OPTIONS = BuildOptions(exact_rows_max=500, partition_rows_target=2_000, cluster_rows_target=500)


def groups(rng, rows, spread, *, middles=12, dimension=64):
    """Return rows of groups that differ by `spread` within, and by one between."""
    found = rng.normal(size=(middles, dimension))[rng.integers(middles, size=rows)]
    return (found + spread * rng.normal(size=found.shape)).astype(np.float32)


def index_of(vectors, metric):
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=vectors.shape[1], metric=metric
    )
    index.put(keys=[str(i) for i in range(len(vectors))], vectors=vectors)
    index.optimize(options=OPTIONS)
    return index


def recall(index, vectors, queries, metric, k, target):
    """Return which share of the k nearest by brute force an index finds."""
    wide, asked = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "cosine":
        wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    distances = -(asked @ wide.T)
    if metric == "euclidean":
        distances = 2 * distances + (wide**2).sum(axis=1)
    true = np.argsort(distances, axis=1)[:, :k]
    answers = index.query_many(queries, top_k=k, recall_target=target)
    hits = [
        len({int(match.key) for match in answer.matches} & set(near.tolist()))
        for answer, near in zip(answers, true, strict=True)
    ]
    return sum(hits) / (k * len(hits))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize("spread", [0.1, 0.01])
def test_targets_are_met_among_near_duplicates(metric, spread):
    """As many rows are kept for refinement as it takes, which the build measures."""
    vectors = groups(np.random.default_rng(3), 3_400, spread)
    vectors, queries = vectors[:3_000], vectors[3_000:]
    index = index_of(vectors, metric)
    for target in TARGETS:
        for k in ANSWERS:
            assert recall(index, vectors, queries, metric, k, target) >= target - 0.01


def test_targets_are_met_where_most_rows_nearly_are_others():
    """Rows that differ in the fifth digit are no less neighbours of each other."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(3_400, 64)).astype(np.float32)
    alike = rng.random(3_400) < 0.9
    vectors[alike] = groups(rng, 3_400, 3e-5)[alike]
    vectors, queries = vectors[:3_000], vectors[3_000:]
    index = index_of(vectors, "euclidean")
    for target in TARGETS:
        for k in ANSWERS:
            assert recall(index, vectors, queries, "euclidean", k, target) >= target - 0.01


@pytest.mark.parametrize("shift", [1.0, 30.0])
def test_targets_of_products_are_met_far_from_the_origin(shift):
    """A product with the mean, the same for all rows, is no part of what tells them apart."""
    rng = np.random.default_rng(4)
    vectors = (shift + groups(rng, 3_200, 1.0)).astype(np.float32)
    vectors, queries = vectors[:3_000], vectors[3_000:]
    index = index_of(vectors, "dot")
    for target in TARGETS:
        assert recall(index, vectors, queries, "dot", 10, target) >= target - 0.01


def test_targets_of_products_are_met_where_few_rows_are_long():
    """A hundredth of the rows, a thousand times as long, are all that is near."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(3_200, 64))
    vectors[rng.choice(3_000, 60, replace=False)] *= 1_000
    vectors = vectors.astype(np.float32)
    vectors, queries = vectors[:3_000], vectors[3_000:]
    index = index_of(vectors, "dot")
    for target in TARGETS:
        assert recall(index, vectors, queries, "dot", 10, target) >= target - 0.01


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_near_duplicates_that_come_by_folds_are_told_apart(metric):
    """A fold that keeps what was trained sees that the rows it writes need more kept."""
    rng = np.random.default_rng(6)
    plain = rng.normal(size=(4_000, 64)).astype(np.float32)
    index = index_of(plain, metric)
    first = index._session._views.view("strong").trained
    came = groups(rng, 1_700, 0.02)
    came, queries = came[:1_500], came[1_500:]
    index.put(keys=[str(i) for i in range(4_000, 5_500)], vectors=came)
    index.optimize(options=OPTIONS)
    trained = index._session._views.view("strong").trained
    assert trained.history.rows_trained == 4_000
    before, after = (one.calibration.keep(10, 0.9).refined for one in (first, trained))
    assert after > 1.5 * before
    vectors = np.concatenate((plain, came))
    for target in TARGETS:
        assert recall(index, vectors, queries, metric, 10, target) >= target - 0.01


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_near_duplicates_that_come_to_equal_rows_are_told_apart(metric):
    """Among equal rows nothing is measured, nor how far they lie: what comes by folds is."""
    rng = np.random.default_rng(7)
    equal = np.tile(rng.normal(size=64).astype(np.float32), (2_000, 1))
    index = index_of(equal, metric)
    assert index._session._views.view("strong").trained.calibration.kept is None
    came = groups(rng, 1_700, 0.01)
    came, queries = came[:1_500], came[1_500:]
    index.put(keys=[str(i) for i in range(2_000, 3_500)], vectors=came)
    index.optimize(options=OPTIONS)
    vectors = np.concatenate((equal, came))
    for target in TARGETS:
        assert recall(index, vectors, queries, metric, 10, target) >= target - 0.01
    index.put(keys=["more"], vectors=came[:1])
    index.optimize(options=OPTIONS)
    # Beside rows that did not differ at all, any others lie farther from their centres.
    assert index._session._views.view("strong").trained.history.rows_trained == 3_501
