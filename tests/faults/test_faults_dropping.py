"""Drops of one name and creations between them, broken off and paused at every call.

The index is one of a vector bucket, whose settings are stored before its entry is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from itertools import count, permutations
from typing import Any

import pytest
from fault_store import FaultStore, KilledError, StepStore

from fakes import FakeClock
from living import connect, copied, snapshot_every
from squash.database import Database, Index
from squash.errors import ConflictError, NotFoundError, UnavailableError
from squash.index import catalogue
from squash.index.entries import entry_from_bytes, entry_key
from squash.storage import MemoryStore

BUCKET = "media"
NAME = f"{BUCKET}/papers"
ENTRY = entry_key(NAME)
HOUR_S = 3_600


@cache
def prepared() -> MemoryStore:
    store = MemoryStore(FakeClock())
    database = connect(store, store._clock, 1)
    database.vector_buckets.create(BUCKET)
    index = database.create_index(NAME, dimension=2, tags={"of": "old"})
    for key in ("a", "b"):
        index.put(keys=[key], vectors=[[1, 2]])
    return store


class Opened:
    """An index as who has it open finds it: it answers with its rows, or was dropped."""

    def __init__(self, database: Database) -> None:
        self.index = database.index(NAME)
        self.keys()

    def keys(self) -> set[str] | None:
        try:
            return {one.key for one in self.index.query([1, 2], top_k=10).matches}
        except NotFoundError:
            return None


class Pausing(FaultStore):
    """Waits before the call `stop`; keeps which entries were read."""

    def __init__(self, store: MemoryStore, stop: int) -> None:
        super().__init__(store)
        self.stop = stop
        self.stands, self.goes = threading.Event(), threading.Event()
        self.saw: set[str] = set()

    def _call(self, kind: str, key: str, act: Callable[[], Any]) -> Any:
        if len(self.log) == self.stop:
            self.stands.set()
            self.goes.wait()
        found = super()._call(kind, key, act)
        if kind == "get" and key == ENTRY and found is not None:
            self.saw.add(entry_from_bytes(found, NAME).id)
        return found


class Drop:
    """Somebody who drops the index."""

    def __init__(self, world: MemoryStore, number: int, stop: int = -1) -> None:
        self.store = Pausing(world, stop)
        self.database = connect(self.store, world._clock, number)
        self.done = self.ended = False

    def run(self) -> None:
        try:
            with suppress(NotFoundError, ConflictError):
                self.act()
            self.ended = True
        finally:
            self.store.stands.set()

    def act(self) -> None:
        self.database.drop_index(NAME)
        self.done = True


class Make(Drop):
    """Somebody who creates one of the name, writes to it and reads it."""

    made: Opened | None = None
    put = False

    def act(self) -> None:
        index = self.database.create_index(NAME, dimension=2, tags={"of": "new"})
        self.done = True
        with suppress(NotFoundError):
            index.put(keys=["new"], vectors=[[1, 2]])
            self.put = True
        self.made = Opened(connect(self.store.store, self.store.store._clock, 40))


def in_turn(first: Drop, second: Drop, third: Drop, *, back: bool) -> None:
    """Let one begin, then the next, run the third, and go on with those that stand."""
    threads = [threading.Thread(target=one.run) for one in (first, second)]
    for thread, one in zip(threads, (first, second), strict=True):
        thread.start()
        one.store.stands.wait()
    third.run()
    for at in (1, 0) if back else (0, 1):
        (first, second)[at].store.goes.set()
        threads[at].join()


def calls(kind: type[Drop]) -> int:
    world = fresh(dropped=kind is Make)
    one = kind(world, 3)
    one.run()
    assert one.done
    return len(one.store.log)


def fresh(*, dropped: bool = False) -> MemoryStore:
    world = copied(prepared())
    world._clock = FakeClock(world._clock.ms)
    if dropped:
        connect(world, world._clock, 2).drop_index(NAME)
    return world


ORDERS = sorted(set(permutations((Drop, Drop, Make))), key=str)


@pytest.mark.parametrize("stride", [24, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("order", ORDERS, ids=lambda one: "-".join(kind.__name__ for kind in one))
def test_two_drops_and_a_creation(order, stride):
    """Wherever two of them stand while the third does all of it: what was made since is whole."""
    counts = [calls(kind) for kind in order]
    for i in range(counts[0]):
        for j in range(i % stride, counts[1], stride):
            for back in (False, True):
                world = fresh()
                old = Opened(connect(world, world._clock, 30))
                acts = [
                    kind(world, 3 + n, stop)
                    for n, (kind, stop) in enumerate(zip(order, (i, j, -1), strict=True))
                ]
                in_turn(*acts, back=back)
                check(world, old, acts, f"{i}, {j}, {back=}: {[one.store.log for one in acts]}")


def check(world: MemoryStore, old: Opened, acts: list[Drop], where: str) -> None:
    assert all(one.ended for one in acts), where
    (make,) = (one for one in acts if isinstance(one, Make))
    drops = [one for one in acts if not isinstance(one, Make)]
    assert any(one.done for one in drops), where
    assert old.keys() is None, where
    database = connect(world, world._clock, 50)
    listed = [one.name for one in database.list_indexes()]
    new = catalogue.load(world, NAME) if listed else None
    if make.done and make.made is not None:
        # Nobody dropped it who had not found it.
        found = {one for drop in drops for one in drop.store.saw}
        mine = make.made.index._session._entry.id
        assert (new is not None and new.id == mine) or mine in found, where
        assert make.made.keys() == ({"new"} if new is not None else None), where
        assert make.put or new is None, where
    else:
        assert new is None, where
    if new is not None:
        assert Opened(database).keys() == {"new"}, where
        assert dict(database.vector_buckets.index_settings(new).tags) == {"of": "new"}, where
        database.drop_index(NAME)
    nothing_left(world, where)


def nothing_left(world: MemoryStore, where: str) -> None:
    database = connect(world, world._clock, 60)
    world._clock.sleep(25 * HOUR_S)
    report = database.gc()
    assert not report.failed, where
    assert not report.left, where
    database.vector_buckets.delete(BUCKET)
    assert not [info.key for info in world.list("") if "/_bucket/" not in info.key], where


def broken_off(step: int, fault: str) -> tuple[MemoryStore, str]:
    """Let a drop end at a call; tell at which, or nothing if it came to its own end before."""
    world = fresh()
    faulty = StepStore(world, step=step, fault=fault)
    with suppress(UnavailableError, KilledError):
        connect(faulty, world._clock, 3).drop_index(NAME)
    return world, faulty.happened


def listed_only() -> MemoryStore:
    """Return what a drop leaves that ends behind the tombstone."""
    for step in range(calls(Drop)):
        world, _ = broken_off(step, "killed after")
        names = [one.name for one in connect(world, world._clock, 30).list_indexes()]
        if names and catalogue.free(copied(world), NAME):
            return world
    raise AssertionError


@pytest.mark.parametrize("fault", ["killed before", "lost"])
def test_what_a_drop_left_is_in_nobodys_way(fault):
    """Wherever it ends: the index is whole, or its name is free to who creates or collects."""
    for step in range(calls(Drop)):
        world, where = broken_off(step, fault)
        there = lives(world)
        for follow in (create, collect, delete_bucket):
            other = copied(world)
            other._clock = FakeClock(world._clock.ms)
            follow(other, there=there, where=f"{where}, {follow.__name__}")


def listed(world: MemoryStore) -> bool:
    return bool(connect(world, world._clock, 31).list_indexes())


def lives(world: MemoryStore) -> bool:
    return listed(world) and Opened(connect(world, world._clock, 30)).keys() is not None


def create(world: MemoryStore, *, there: bool, where: str) -> None:
    make = Make(world, 32)
    make.run()
    assert make.done == (not there), where
    if make.made is not None:
        assert make.made.keys() == {"new"}, where
    connect(world, world._clock, 33).drop_index(NAME)
    nothing_left(world, where)


def collect(world: MemoryStore, *, there: bool, where: str) -> None:
    assert not connect(world, world._clock, 34).gc(dry_run=True).failed, where
    assert not connect(world, world._clock, 35).gc().failed, where
    assert listed(world) == there, where
    if there:
        assert Opened(connect(world, world._clock, 36)).keys() == {"a", "b"}, where


def delete_bucket(world: MemoryStore, *, there: bool, where: str) -> None:
    buckets = connect(world, world._clock, 37).vector_buckets
    if there:
        with pytest.raises(ConflictError):
            buckets.delete(BUCKET)
        return
    try:
        buckets.delete(BUCKET)
    except ConflictError:
        raise AssertionError(where) from None
    assert not listed(world), where


@pytest.mark.parametrize("fault", ["killed before", "lost", "twice", "overtaken", "late"])
def test_a_creation_after_a_drop_that_was_broken_off(fault):
    """A fault at every call, or another creation there: one is made, and is whole."""
    left = listed_only()
    calls_made = StepStore(copied(left))
    connect(calls_made, left._clock, 42).create_index(NAME, dimension=2, tags={"of": "mine"})
    for step in range(len(calls_made.log)):
        world = copied(left)
        world._clock = FakeClock(left._clock.ms)
        rival = Make(world, 41)
        faulty = StepStore(world, step=step, fault=fault, rival=rival.run)
        made = False
        with suppress(UnavailableError, KilledError, ConflictError):
            connect(faulty, world._clock, 42).create_index(NAME, dimension=2, tags={"of": "mine"})
            made = True
        where = faulty.happened
        if not lives(world):
            assert not made, where
            create(world, there=False, where=where)
            continue
        entry = catalogue.load(world, NAME)
        database = connect(world, world._clock, 43)
        tags = dict(database.vector_buckets.index_settings(entry).tags)
        assert tags == {"of": "new" if rival.done else "mine"}, where
        assert database.index(NAME).stats().rows == rival.done, where
        assert not (made and rival.done), where


USES: dict[str, Callable[[Index], object]] = {
    "put": lambda index: index.put(keys=["new"], vectors=[[1, 2]]),
    "patch": lambda index: index.patch(keys=["3"], metadata=[{"n": 1}]),
    "delete": lambda index: index.delete(filter={"n": {"$exists": False}}),
    "query": lambda index: index.query([1, 2]),
    "list": lambda index: index.list(),
    "as of": lambda index: index.get(keys=["1"], as_of=5),
    "stats": lambda index: index.stats(),
    "export": lambda index: list(index.export_batches()),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("use", USES)
def test_who_uses_an_index_while_it_is_dropped(use, known, monkeypatch):
    """At whichever call: it is there, or was dropped, but not damaged; later it was dropped."""
    snapshot_every(monkeypatch, 2)
    old = MemoryStore(FakeClock())
    index = connect(old, old._clock, 50).create_index("old", dimension=2)
    for number in range(3):
        index.put(keys=[f"{number}"], vectors=[[1, number]])
    index.optimize()
    before = copied(old)
    for number in range(3, 6):
        old._clock.sleep(HOUR_S)
        index.put(keys=[f"{number}"], vectors=[[1, number]])
    old._clock.sleep(HOUR_S)
    for step in count():
        world = copied(old)
        world._clock = FakeClock(old._clock.ms)
        dropping = connect(world, world._clock, 51)
        faulty = StepStore(world, fault="overtaken", rival=partial(dropping.drop_index, "old"))
        if known:
            faulty.store = before
        index = connect(faulty, FakeClock(old._clock.ms - HOUR_S), 52).index("old")
        if known:
            index.backlog()
            faulty.store = world
            index._session._clock.sleep(HOUR_S)
        faulty.log.clear()
        faulty.step = step
        with suppress(NotFoundError):
            USES[use](index)
        if not faulty.happened:
            assert step
            break
        with pytest.raises(NotFoundError):
            index.put(keys=["later"], vectors=[[1, 2]])


@pytest.mark.parametrize("fault", ["overtaken", "late"])
@pytest.mark.parametrize("use", ["put", "query", "list"])
@pytest.mark.parametrize("made", [True, False])
def test_who_stands_still_while_an_index_is_opened(made, use, fault):
    """A machine that sleeps at whichever call, while all is dropped and collected, learns of it."""
    for step in count():
        world = MemoryStore(FakeClock())
        if not made:
            index = connect(world, world._clock, 50).create_index("old", dimension=2)
            index.put(keys=["a"], vectors=[[1, 2]])
            index.optimize()
        wrote: list[bool] = []

        def others(world: MemoryStore = world, wrote: list[bool] = wrote) -> None:
            database = connect(world, world._clock, 51)
            wrote.append(bool(database.index("old").get(keys=["new"])))
            database.drop_index("old")
            world._clock.sleep(25 * HOUR_S)
            database.gc()

        faulty = StepStore(world, step=step + (made and fault == "overtaken"), fault=fault)
        faulty.rival = others
        database = connect(faulty, world._clock, 52)
        answer: Any = None
        with suppress(NotFoundError):
            index = database.create_index("old", dimension=2) if made else database.index("old")
            answer = USES[use](index)
        if not faulty.happened:
            assert step
            break
        where = faulty.happened
        if use == "put":
            assert answer is None or wrote == [True], where
        elif answer is not None and not made:
            assert len(answer.matches if use == "query" else answer.records) == 1, where
        with pytest.raises(NotFoundError):
            index.put(keys=["later"], vectors=[[1, 2]])
