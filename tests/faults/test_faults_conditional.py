"""A failure at any store call of any conditional write: all or nothing, and done once by its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fault_store import FaultStore, KilledError, unavailable
from index_world import FakeClock

from amounts import some
from living import snapshot_every
from squash.clock import SystemIds
from squash.database import Database, Index
from squash.errors import CommitUnknownError, ConflictError, SquashError, UnavailableError
from squash.index import writer
from squash.maintain import BuildOptions
from squash.model import WriteResult
from squash.runtime import Settings
from squash.storage import MemoryStore, ObjectStore

BEFORE = {f"k{i}": {"n": i, "kept": True} for i in range(6)}
ID = "ab" * 16


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    """Let the write under test bring a snapshot, and few rows become segments."""
    snapshot_every(monkeypatch, 3)
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", 4)


def opened(store: ObjectStore) -> Index:
    database = Database(store, settings=Settings(), clock=FakeClock(), ids=SystemIds())
    return database.index("x")


def vectors(count: int) -> list[list[float]]:
    return [[float(i + 1), 2.0] for i in range(count)]


def prepared() -> MemoryStore:
    """Four commits, a fold among them: rows in a partition and in the log."""
    store = MemoryStore()
    database = Database(store, settings=Settings(), clock=FakeClock(), ids=SystemIds())
    index = database.create_index("x", dimension=2, metric="euclidean")
    keys = list(BEFORE)
    index.put(keys=keys, vectors=vectors(6), metadata=[{"n": 0}] * 6)
    index.optimize(options=BuildOptions(exact_rows_max=0, calibration_queries=4))
    index.put(keys=keys[3:], vectors=vectors(3), metadata=list(BEFORE.values())[3:])
    # The segment's rows get their numbers back by another writer's patch.
    index.patch(keys=keys[:3], metadata=list(BEFORE.values())[:3])
    assert contents(store) == BEFORE
    return store


def contents(store: ObjectStore) -> dict[str, dict[str, Any]]:
    page = opened(store).list(limit=100)
    return {record.key: dict(record.metadata or {}) for record in page.records}


@dataclass(frozen=True)
class Case:
    name: str
    act: Callable[[Index], WriteResult]
    after: dict[str, dict[str, Any]]
    rows: int


def changed(**records: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: one | records.get(key, {}) for key, one in BEFORE.items()}


NEW = ["n1", "n2", "n3", "n4", "n5"]
CASES = [
    Case(
        "put if absent",
        lambda index: index.put(
            keys=NEW[:2], vectors=vectors(2), if_absent=True, if_snapshot=4, commit_id=ID
        ),
        BEFORE | {key: {} for key in NEW[:2]},
        2,
    ),
    Case(
        "put segments if absent",
        lambda index: index.put(keys=NEW, vectors=vectors(5), if_absent=True, commit_id=ID),
        BEFORE | {key: {} for key in NEW},
        5,
    ),
    Case(
        "patch",
        lambda index: index.patch(
            keys=["k0", "k4"], metadata=[{"n": 10}, {"n": 14}], if_snapshot=4, commit_id=ID
        ),
        changed(k0={"n": 10}, k4={"n": 14}),
        2,
    ),
    Case(
        "patch to segments",
        lambda index: index.patch(keys=list(BEFORE), metadata=[{"p": 1}] * 6, commit_id=ID),
        {key: one | {"p": 1} for key, one in BEFORE.items()},
        6,
    ),
    Case(
        "delete by filter",
        lambda index: index.delete(filter={"n": {"$gte": 2}}, commit_id=ID),
        {key: one for key, one in BEFORE.items() if one["n"] < 2},
        4,
    ),
    Case(
        "delete by key",
        lambda index: index.delete(keys=["k1", "none"], if_snapshot=4, commit_id=ID),
        {key: one for key, one in BEFORE.items() if key != "k1"},
        2,
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def armed(store: MemoryStore, **faults: Any) -> tuple[FaultStore, Index]:
    """Return a handle whose store fails at calls counted from here."""
    faulty = FaultStore(store, **faults)
    at, faulty.at = faulty.at, set()
    index = opened(faulty)
    faulty.log.clear()
    faulty.at = at
    return faulty, index


def calls_of(case: Case) -> int:
    faulty, index = armed(prepared())
    result = case.act(index)
    assert (result.snapshot, result.rows) == (5, case.rows)
    assert contents(faulty.store) == case.after
    assert any("/snapshots/" in call and "put_if_absent" in call for call in faulty.log)
    return len(faulty.log)


@pytest.mark.parametrize("error", [unavailable, KilledError])
@pytest.mark.parametrize("when", ["before", "after"])
@every_case
def test_failure_at_every_call(case, when, error):
    """A fresh reader sees the state before or after; what was answered stays; writing goes on."""
    for number in some(range(calls_of(case) + 1), salt=len(case.name)):
        store = prepared()
        _, index = armed(store, at={number}, when=when, error=error)
        answered = False
        try:
            case.act(index)
            answered = True
        except (CommitUnknownError, ConflictError):
            pytest.fail("one lost answer can be resolved, and nobody else wrote")
        except (SquashError, KilledError):
            pass
        found = contents(store)
        assert found in (BEFORE, case.after)
        if answered:
            assert found == case.after
        last = opened(store).put(keys=["last"], vectors=vectors(1), if_absent=True).snapshot
        assert last == (5 if found == BEFORE else 6)
        assert contents(store) == found | {"last": {}}


@pytest.mark.parametrize("when", ["before", "after"])
@every_case
def test_repeated_by_its_id_it_happens_once(case, when):
    """After any failure the call repeated with its id, by whichever handle, ends in one commit."""
    for number in some(range(calls_of(case) + 1), salt=len(case.name)):
        for again in (True, False):
            store = prepared()
            _, index = armed(store, at={number, number + 1, number + 2}, when=when)
            result = None
            for attempt in range(6):
                try:
                    result = case.act(index if again or not attempt else opened(store))
                    break
                except (UnavailableError, CommitUnknownError):
                    continue
            assert result is not None
            assert (result.snapshot, result.rows) == (5, case.rows)
            opened(store).put(keys=["last"], vectors=vectors(1))
            assert case.act(opened(store)) == result
            assert contents(store) == case.after | {"last": {}}
            assert opened(store).backlog().snapshot == 6
