"""Indexes at their public face, several handles on one store, with limits that are soon reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest

from fakes import CountedIds, FakeClock
from squash.database import Database, Index
from squash.limits import MIB
from squash.maintain import BuildOptions
from squash.runtime import Settings
from squash.storage import MemoryStore, ObjectStore

NAME: Final = "living"
DIMENSION: Final = 4
STALENESS_MS: Final = 5_000
SMALL: Final = BuildOptions(
    partition_rows_target=24,
    partition_rows_max=40,
    cluster_rows_target=6,
    calibration_queries=20,
    exact_rows_max=8,
)
# As a process beside its files reads, as a function that pays for each request, and as one that
# can keep nothing.
SETTINGS: Final = (
    Settings(whole_bytes_max=MIB, staleness_ms_max=STALENESS_MS),
    Settings(billed=True, staleness_ms_max=STALENESS_MS),
    Settings(retained_bytes_max=1, staleness_ms_max=STALENESS_MS),
)


def snapshot_every(patch: pytest.MonkeyPatch, commits: int) -> None:
    """Let a snapshot be due after so many commits."""
    for module in ("log", "opening"):
        patch.setattr(f"squash.index.{module}.SNAPSHOT_EVERY_COMMITS", commits)


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Let snapshots be due and segments be cut after a few commits and rows."""
    snapshot_every(patch, 4)
    patch.setattr("squash.index.fresh.FLATTEN_COMMITS", 3)
    patch.setattr("squash.index.fresh.FLATTEN_AGAIN_COMMITS", 2)
    patch.setattr("squash.index.writer.INLINE_COMMIT_ROWS_MAX", 12)
    patch.setattr("squash.index.writer.FLAT_SEGMENT_ROWS_MAX", 10)


def connect(store: ObjectStore, clock: FakeClock, number: int, kind: int = 0) -> Database:
    """Return a database as the process of that number sees it, of a kind of `SETTINGS`."""
    return Database(
        store, settings=SETTINGS[kind % len(SETTINGS)], clock=clock, ids=CountedIds(number)
    )


@dataclass
class Handle:
    """One process's view of the index, and the newest snapshot that it wrote or saw."""

    index: Index
    seen: int = 0

    def sees(self, snapshot: int) -> int:
        self.seen = max(self.seen, snapshot)
        return snapshot


def copied(store: MemoryStore) -> MemoryStore:
    """Return a store with the same objects, which go on apart."""
    copy = MemoryStore(store._clock)
    copy._objects = dict(store._objects)
    return copy


def damage(store: MemoryStore, part: str) -> str | None:
    """Flip a bit in the middle of the first object whose key has this part; tell which it was."""
    for info in store.list(""):
        if part in info.key:
            data = bytearray(store.get(info.key) or b"")
            data[len(data) // 2] ^= 1
            store.put(info.key, bytes(data))
            return info.key
    return None


def everything(index: Index, *, limit: int = 1000, **more: Any) -> dict[str, tuple[bytes, dict]]:
    """Return all live records by listing them, page by page; each must come once."""
    found: dict[str, tuple[bytes, dict]] = {}
    cursor = None
    while True:
        page = index.list(cursor=cursor, limit=limit, include=("metadata", "vector"), **more)
        for record in page.records:
            assert record.key not in found
            found[record.key] = (record.vector.tobytes(), dict(record.metadata))
        cursor = page.cursor
        if cursor is None:
            return found
