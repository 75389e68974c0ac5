"""Several processes that write to one index."""

from __future__ import annotations

from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.maintain import BuildOptions
from squash.runtime import Settings
from squash.storage import MemoryStore

SMALL = BuildOptions(
    partition_rows_target=150,
    partition_rows_max=200,
    cluster_rows_target=16,
    calibration_queries=20,
    exact_rows_max=0,
)


def handles(count=2, store=None, clock=None, **config):
    """Several processes' handles on one index."""
    store = store if store is not None else MemoryStore()
    clock = clock or Clock()
    databases = [
        Database(store, settings=Settings(), clock=clock, ids=SystemIds()) for _ in range(count)
    ]
    databases[0].create_index("x", dimension=2, metric="euclidean", **config)
    return [database.index("x") for database in databases]


def everything(index):
    page = index.list(limit=1000, include=("metadata",))
    return {record.key: dict(record.metadata) for record in page.records}
