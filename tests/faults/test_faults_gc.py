"""Garbage collection that dies at any store call leaves an index that is whole."""

from contextlib import suppress
from functools import partial
from itertools import count

import pytest
from fault_store import FaultStore, KilledError, StepStore, unavailable

from collecting import DAY_S, HOUR_S, SMALL, World
from living import snapshot_every
from squash.errors import SquashError


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    snapshot_every(monkeypatch, 3)
    # So that deleting takes many calls.
    monkeypatch.setattr("squash.maintain.gc.DELETE_BATCH_KEYS", 2)


def lived() -> World:
    world = World()
    index = world.handle()
    for i in range(4):
        world.put(index, {f"k{j}": 10 * i + j for j in range(4 * i, 4 * i + 6)})
    world.optimize(index)
    world.delete(index, ["k3", "k9"])
    world.optimize(index)
    world.put(index, {"late": 1, "k4": 7})
    world.put(index, {"later": 2})
    world.clock.sleep(2 * DAY_S)
    return world


def calls() -> tuple[int, int]:
    world = lived()
    store = FaultStore(world.store)
    world.wrap = lambda _: store
    index = world.handle()
    begun = len(store.log)
    index.gc()
    return begun, len(store.log)


@pytest.mark.parametrize("error", [unavailable, KilledError])
@pytest.mark.parametrize("when", ["before", "after"])
def test_failure_at_every_call(when, error):
    """Every state from the horizon on stays, verify finds nothing, and the next call ends it."""
    begun, ended = calls()
    assert ended - begun > 15
    for number in range(begun, ended):
        world = lived()
        store = FaultStore(world.store, at={number}, when=when, error=error)
        world.wrap = lambda _, store=store: store
        index = world.handle()
        with suppress(SquashError, KilledError):  # at its end it leaves a snapshot, or says not
            index.gc()
        world.wrap = lambda plain: plain
        world.check(9)
        # Writing goes on, and the next collection ends what this one began.
        index = world.handle()
        world.put(index, {"new": number})
        world.clock.sleep(2 * DAY_S)
        report = index.gc(retention_s=HOUR_S)
        assert report.horizon in (9, 10)  # which a collection that got so far left
        assert report.spared.objects == 0
        assert world.kinds().keys() <= {"commits", "snapshots", "segments", "bitmaps", "trained"}
        world.check(report.horizon)


def others_go_on(world: World) -> None:
    """Let others write, fold, and collect what was there before, days later."""
    world.wrap = lambda plain: plain
    index = world.handle()
    for i in range(5):
        world.put(index, {"others": i})
    index.optimize(options=SMALL, full=True)
    world.clock.sleep(2 * DAY_S)
    index.gc(HOUR_S)


@pytest.mark.parametrize("fault", ["overtaken", "late"])
def test_who_stands_still_leaves_no_snapshot_of_what_is_collected(fault):
    """Wherever a fold does so: none names what a collection has removed meanwhile."""
    for step in count():
        world = lived()
        store = StepStore(world.store, step=step, fault=fault)

        store.rival = partial(others_go_on, world)
        world.wrap = lambda _, store=store: store
        index = world.handle()
        with suppress(SquashError):
            world.optimize(index)
        if not store.happened:
            assert step
            break
        world.wrap = lambda plain: plain
        assert not world.handle().verify().damages, store.happened


READS = {
    "stats": lambda index: index.stats().rows,
    "query": lambda index: len(index.query([1, 2, 3], top_k=100).matches),
    "list": lambda index: len(index.list(limit=100).records),
}


@pytest.mark.parametrize("read", READS)
def test_who_stands_still_while_it_reads(read):
    """It tells of the newest snapshot then, and not of damage."""
    for step in count():
        world = lived()
        store = StepStore(world.store, step=step, fault="overtaken")
        store.rival = partial(others_go_on, world)
        world.wrap = lambda _, store=store: store
        before = len(world.rows)
        found = READS[read](world.handle())
        if not store.happened:
            assert step
            break
        assert found in {before, len(world.rows)}, store.happened
