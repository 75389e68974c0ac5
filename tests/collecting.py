"""What the tests of garbage collection, verify and repair share: an index on a store and a clock.

Every state is remembered by its number, so that `as_of` can be held against what was there.
"""

from __future__ import annotations

import numpy as np

from squash.clock import SystemIds
from squash.database import Database, Index
from squash.index import catalogue
from squash.maintain import BuildOptions
from squash.maintain.gc import list_objects
from squash.runtime import Settings
from squash.storage import MemoryStore, PrefixStore

DIMENSION = 3
HOUR_S = 3600
DAY_S = 24 * HOUR_S
SMALL = BuildOptions(
    partition_rows_target=12,
    partition_rows_max=20,
    cluster_rows_target=4,
    calibration_queries=8,
    exact_rows_max=8,
)


class FakeClock:
    """Time that passes only by waiting."""

    def __init__(self, ms: int = 1_700_000_000_000) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms

    def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


def vectors_of(values) -> np.ndarray:
    return np.array([[v + 1, 1, -v] for v in values], np.float32).reshape(-1, DIMENSION)


class World:
    """One index, several handles, and the history that it must have."""

    def __init__(self, *, store=None, clock=None, wrap=lambda store: store) -> None:
        self.clock = clock or FakeClock()
        self.store = store or MemoryStore(self.clock)
        self.wrap = wrap
        self.history: dict[int, dict[str, int]] = {0: {}}
        self.rows: dict[str, int] = {}
        self.database(self.store).create_index("x", dimension=DIMENSION, metric="euclidean")

    def database(self, store, clock=None) -> Database:
        settings = Settings(retained_bytes_max=1 << 20, whole_bytes_max=1 << 20)
        return Database(store, settings=settings, clock=clock or self.clock, ids=SystemIds())

    def handle(self, store=None) -> Index:
        return self.database(self.wrap(store or self.store)).index("x")

    @property
    def below(self) -> PrefixStore:
        """The store below the index's own prefix."""
        return PrefixStore(self.store, catalogue.load(self.store, "x").prefix)

    def put(self, index: Index, records: dict[str, int]) -> None:
        result = index.put(
            keys=list(records),
            vectors=vectors_of(records.values()),
            metadata=[{"v": v} for v in records.values()],
        )
        self.rows = self.rows | records
        self.remember(result.snapshot)

    def delete(self, index: Index, keys: list[str]) -> None:
        result = index.delete(keys=keys)
        self.rows = {key: v for key, v in self.rows.items() if key not in set(keys)}
        self.remember(result.snapshot)

    def optimize(self, index: Index) -> None:
        self.remember(index.optimize(options=SMALL).snapshot)

    def remember(self, snapshot: int) -> None:
        self.history.setdefault(snapshot, dict(self.rows))
        assert self.history[snapshot] == self.rows

    def found(self, index: Index) -> dict[str, int]:
        return listed(index)

    def found_at(self, index: Index, sequence: int) -> dict[str, int]:
        view = index._session.view_at(sequence)
        return records_of(view)

    def check(self, horizon: int, index: Index | None = None) -> None:
        """Hold the newest state, and every one from the horizon on, against the history."""
        index = index or self.database(self.store).index("x")
        assert listed(index) == self.rows
        for sequence, rows in self.history.items():
            if sequence >= horizon:
                # Each by a handle that knows nothing.
                fresh = self.database(self.store).index("x")
                assert self.found_at(fresh, sequence) == rows, sequence
        report = self.database(self.store).index("x").verify()
        assert not report.damages, report.damages

    def kinds(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in list_objects(self.below):
            found[one.kind] = found.get(one.kind, 0) + 1
        return found


def listed(index: Index) -> dict[str, int]:
    found: dict[str, int] = {}
    cursor = None
    while True:
        page = index.list(cursor=cursor, limit=50, include=("metadata",))
        for record in page.records:
            assert record.key not in found
            found[record.key] = record.metadata["v"]
        cursor = page.cursor
        if cursor is None:
            return found


def records_of(view) -> dict[str, int]:
    from squash.search import record_page

    found: dict[str, int] = {}
    cursor = None
    while True:
        page = record_page(view, cursor, 100, frozenset({"metadata"}))
        found |= {record.key: record.metadata["v"] for record in page.records}
        cursor = page.cursor
        if cursor is None:
            return found
