"""What was written before a query came is in its answer, though the log is read meanwhile."""

import numpy as np
import pytest
from test_explained_queries import OPTIONS

from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.runtime import Settings
from squash.storage import MemoryStore


def opened(store):
    settings = Settings(billed=True)
    return Database(store, settings=settings, clock=SystemClock(), ids=SystemIds())


@pytest.mark.parametrize("count", [1, 3])
def test_a_query_sees_all_that_was_written_before(count):
    """Puts, deletes and folds of another process, each before a query of one that is warm."""
    rng = np.random.default_rng(3)
    store = MemoryStore()
    vectors = rng.standard_normal((600, 6)).astype(np.float32)
    writer = opened(store).create_index("x", dimension=6, metric="euclidean")
    writer.put(keys=[f"k{i}" for i in range(600)], vectors=vectors, metadata=[{}] * 600)
    reader = opened(store).index("x")
    for step in range(12):
        match step % 3:
            case 0:
                writer.put(keys=[f"new{step}"], vectors=vectors[step : step + 1] + 1e-4)
            case 1:
                writer.delete(keys=[f"k{step}", f"new{step - 1}"])
            case 2:
                writer.optimize(options=OPTIONS)
        for _ in range(2):
            found = reader.query_many(vectors[step : step + count], top_k=3)
            expected = opened(store).index("x").query_many(vectors[step : step + count], top_k=3)
            assert [a.matches for a in found] == [a.matches for a in expected]
            assert found[0].snapshot == expected[0].snapshot
