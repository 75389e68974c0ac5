"""An explained query, which goes level by level, answers as the one that goes in one call."""

from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.kernels import native
from squash.maintain import BuildOptions

OPTIONS = BuildOptions(
    partition_rows_target=400,
    partition_rows_max=500,
    cluster_rows_target=40,
    calibration_queries=50,
    exact_rows_max=8,
)
FILTERS = (
    None,
    {"u": {"$lt": 0.5}},
    {"u": {"$gte": 0.2, "$lt": 0.25}},
    {"$or": [{"u": {"$lt": 0.1}}, {"$not": {"group": {"$in": ["a", "b"]}}}]},
    {"group": {"$startsWith": "c"}, "u": {"$gt": 0.3}},
)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("variant", native.variants())
def test_an_explained_query_gives_the_same_answer(metric, variant):
    """Matches are the same to the bit, for every kind of filter, also after deletions."""
    rng = np.random.default_rng(7)
    count = 1_500
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=12, metric=metric)
    index.put(
        keys=[f"k{i}" for i in range(count)],
        vectors=rng.standard_normal((count, 12)).astype(np.float32),
        metadata=[
            {"u": float(rng.random()), "group": f"{'abcd'[i % 4]}{i % 60}"} for i in range(count)
        ],
    )
    index.optimize(options=OPTIONS)
    index.delete(keys=[f"k{i}" for i in range(0, count, 9)])
    with native.use(variant):
        for filter_ in FILTERS:
            for target in (0.6, 0.95):
                for query in rng.standard_normal((4, 12)).astype(np.float32):
                    asked = {"filter": filter_, "recall_target": target, "top_k": 7}
                    plain = index.query(query, **asked)
                    told = index.query(query, **asked, explain=True)
                    assert told.matches == plain.matches
                    assert told.explain is not None
                    assert told.explain.plan
