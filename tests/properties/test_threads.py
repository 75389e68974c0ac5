"""Threads that ask one index at once get the answers that one alone gets."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.maintain import BuildOptions

OPTIONS = BuildOptions(
    partition_rows_target=120,
    partition_rows_max=150,
    cluster_rows_target=20,
    calibration_queries=30,
    exact_rows_max=8,
)
THREADS = 6


@pytest.fixture
def eager_switching():
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_first_queries_of_many_threads_answer_alike(eager_switching):
    """What they load for each other is never seen half: no row is missing, none too many."""
    rng = np.random.default_rng(5)
    count = 1_200
    where = f"memory://{uuid4().hex}"
    index = squash.connect(where).create_index("x", dimension=8, metric="euclidean")
    index.put(
        keys=[f"k{i}" for i in range(count)],
        vectors=rng.standard_normal((count, 8)).astype(np.float32),
        metadata=[
            {f"a{j}": float(rng.random()) for j in range(4)} | {"s": "abc"[i % 3]}
            for i in range(count)
        ],
    )
    index.optimize(options=OPTIONS)
    queries = rng.standard_normal((THREADS, 8)).astype(np.float32)
    filters = [{f"a{i % 4}": {"$gte": 0.1 * i, "$lt": 0.1 * i + 0.5}} for i in range(THREADS)]
    filters[3] = {"s": {"$ne": "b"}, "a1": {"$lt": 0.7}}
    filters[5] = None
    alone = [
        index.query(query, filter=filter_, recall_target=0.9).matches
        for query, filter_ in zip(queries, filters, strict=True)
    ]
    for _ in range(25):
        fresh = squash.connect(where).index("x")
        barrier = threading.Barrier(THREADS)

        def ask(i, fresh=fresh, barrier=barrier):
            barrier.wait()
            return [
                fresh.query(queries[j], filter=filters[j], recall_target=0.9).matches
                for j in (i, (i + 1) % THREADS)
            ]

        with ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(ask, range(THREADS)))
        for i, found in enumerate(answers):
            assert found == [alone[i], alone[(i + 1) % THREADS]]
