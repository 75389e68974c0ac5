"""Many queries in one call are answered as one after another."""

from uuid import uuid4

import numpy as np
import pytest
from test_explained_queries import FILTERS, OPTIONS

import squash
from squash.kernels import native


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("variant", native.variants())
def test_many_queries_have_the_answers_of_single_ones(metric, variant):
    """Matches and usage are the same to the bit: one filter for all, one each, and rows to come."""
    rng = np.random.default_rng(8)
    count = 1_500
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=12, metric=metric)
    rows = {
        "keys": [f"k{i}" for i in range(count)],
        "vectors": rng.standard_normal((count, 12)).astype(np.float32),
        "metadata": [
            {"u": float(rng.random()), "group": f"{'abcd'[i % 4]}{i % 60}"} for i in range(count)
        ],
    }
    index.put(**rows)
    index.optimize(options=OPTIONS)
    index.delete(keys=[f"k{i}" for i in range(0, count, 9)])
    index.put(keys=["new"], vectors=rng.standard_normal((1, 12)), metadata=[{"u": 0.3}])
    queries = rng.standard_normal((20, 12)).astype(np.float32)
    asked = {"recall_target": 0.8, "top_k": 7}
    with native.use(variant):
        for filters in (*FILTERS, [FILTERS[i % len(FILTERS)] for i in range(20)]):
            each = filters if isinstance(filters, list) else [filters] * 20
            singles = [
                index.query(query, filter=filter_, **asked)
                for query, filter_ in zip(queries, each, strict=True)
            ]
            together = index.query_many(queries, filters=filters, **asked)
            assert [one.matches for one in together] == [one.matches for one in singles]
            for name in ("rows_scanned", "vectors_read", "levels"):
                wanted = [getattr(one.usage, name) for one in singles]
                assert [getattr(one.usage, name) for one in together] == wanted


def test_what_a_batch_asks_of_the_store_is_counted_once(tmp_path):
    """The usages of a batch sum to what was asked."""
    rng = np.random.default_rng(9)
    vectors = rng.standard_normal((600, 8)).astype(np.float32)
    index = squash.connect(str(tmp_path)).create_index("x", dimension=8, metric="euclidean")
    index.put(keys=[f"k{i}" for i in range(600)], vectors=vectors, metadata=[{}] * 600)
    index.optimize(options=OPTIONS)
    cold = squash.connect(str(tmp_path)).index("x").query_many(vectors[:3])
    assert cold[0].usage.store_bytes > 0
    assert [one.usage.store_bytes for one in cold[1:]] == [0, 0]
