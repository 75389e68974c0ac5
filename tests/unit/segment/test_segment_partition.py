"""A partition's candidates follow from which clusters are asked for, whatever their order."""

from itertools import pairwise

import numpy as np
import pytest

from squash.quantize import train_codec
from squash.segment import Partition, PartitionCodes

ROWS, CLUSTERS, DIMENSION = 3_000, 12, 16


@pytest.mark.parametrize("admitted", [None, np.arange(ROWS) % 7 != 0], ids=["all", "filtered"])
@pytest.mark.parametrize("name", ["osq", "residual"])
def test_candidates_have_no_order_of_clusters(name, admitted):
    """Rows that tie by their low-bit codes pass by their number, so that a query can be divided."""
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((ROWS, DIMENSION)).astype(np.float32)
    vectors[1::2] = vectors[::2]  # every row has a twin
    vectors = vectors[rng.permutation(ROWS)]
    begins = np.linspace(0, ROWS, CLUSTERS + 1).astype(np.int64)
    means = np.array([vectors[a:b].mean(axis=0) for a, b in pairwise(begins)])
    residuals = vectors - np.repeat(means, np.diff(begins), axis=0)
    codec = train_codec(name, sample=vectors, space="l2", seed=1, residuals=residuals)
    centers = codec.project(means)
    arrays = codec.encode(codec.project(vectors), centers=centers, cluster_begins=begins)
    partition = Partition(PartitionCodes(begins, centers, arrays), codec)
    prepared = codec.prepare(vectors[0])

    def candidates(clusters):
        return partition.search(prepared, clusters=clusters, admitted=admitted, low_keep=100)

    wanted = candidates(np.arange(CLUSTERS))
    assert 100 <= wanted.ranked < wanted.admitted
    for _ in range(10):
        got = candidates(rng.permutation(CLUSTERS))
        assert got.rows.tolist() == wanted.rows.tolist()
        assert got.estimates.tobytes() == wanted.estimates.tobytes()
        assert got.lower_bounds.tobytes() == wanted.lower_bounds.tobytes()
