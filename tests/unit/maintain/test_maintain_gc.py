"""Garbage collection: what goes, what stays, and in which order."""

import pytest

from collecting import DAY_S, HOUR_S, SMALL, FakeClock, World
from living import snapshot_every
from squash.errors import (
    DataError,
    InvalidArgumentError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from squash.index import catalogue, snapshots
from squash.index.commits import log_key
from squash.index.snapshots import snapshot_key
from squash.maintain.gc import KINDS
from squash.reports import ObjectCount
from squash.storage import MemoryStore


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    snapshot_every(monkeypatch, 3)


def lived() -> World:
    """An index of ten commits, some folded away, then a day and a bit, then some more."""
    world = World()
    index = world.handle()
    for i in range(5):
        world.put(index, {f"k{j}": 10 * i + j for j in range(4 * i, 4 * i + 6)})
        world.clock.sleep(HOUR_S)
    world.optimize(index)
    world.delete(index, ["k3", "k9"])
    world.optimize(index)
    world.put(index, {"late": 1, "k4": 7})
    world.put(index, {"later": 2})
    world.clock.sleep(2 * DAY_S)
    return world


def test_what_the_retention_needs_stays_and_the_rest_goes():
    """The horizon is the newest snapshot old enough; all from it on is readable, all else gone."""
    world = lived()
    before = world.kinds()
    newest = max(s for s in world.history if world.below.get(snapshot_key(s)) is not None)
    report = world.handle().gc()
    assert report.horizon == newest >= 8
    assert {kind for kind in KINDS if report.removed[kind].objects} >= {
        "snapshots", "commits", "segments", "trained",
    }  # fmt: skip
    after = world.kinds()
    for kind in ("snapshots", "commits", "segments", "bitmaps", "trained"):
        # A snapshot, with its bitmap, is left for the next collection to begin from.
        left = after.get(kind, 0) - (kind in {"snapshots", "bitmaps"})
        assert before.get(kind, 0) - left == report.removed[kind].objects, kind
    assert after.get("probes", 0) == 0
    assert report.total.bytes > 0
    world.check(report.horizon)
    again = world.handle().gc()
    assert again.total == ObjectCount()
    assert again.spared == ObjectCount()


def test_what_was_collected_says_so():
    world = lived()
    horizon = world.handle().gc().horizon
    index = world.handle()
    for sequence in range(1, horizon):
        with pytest.raises(NotFoundError, match="collected"):
            world.found_at(index, sequence)


def test_a_dry_run_only_says_it():
    world = lived()
    before = world.kinds()
    said = world.handle().gc(dry_run=True)
    assert world.kinds() == before
    assert said.dry_run
    done = world.handle().gc()
    assert (said.removed, said.horizon) == (done.removed, done.horizon)


def test_what_is_young_is_spared():
    """A writer may be about to name what is less than a day old, whatever the retention."""
    world = lived()
    index = world.handle()
    for name in ("rows", "vectors"):
        world.below.put(f"segments/{'a' * 32}/{name}", b"somebody's, not yet named")
    world.below.put("trained/" + "b" * 32, b"as well")
    world.clock.sleep(20 * HOUR_S)
    report = index.gc(retention_s=HOUR_S)
    assert report.spared.objects == 3
    assert world.below.get(f"segments/{'a' * 32}/rows") is not None
    world.clock.sleep(5 * HOUR_S)
    report = index.gc(retention_s=HOUR_S)
    assert report.spared.objects == 0
    assert world.below.get(f"segments/{'a' * 32}/rows") is None
    assert world.below.get("trained/" + "b" * 32) is None
    world.check(report.horizon)


def test_what_nobody_knows_is_left():
    world = lived()
    for key in ("notes", "log/x", "segments/abc/rows", "snapshots/1", "future/" + "a" * 32):
        world.below.put(key, b"?")
    world.clock.sleep(30 * DAY_S)
    report = world.handle().gc()
    assert report.unknown == ObjectCount(5, 5)
    assert world.below.get("notes") is not None


def test_retention_is_an_hour_at_least():
    world = World()
    for retention in (3599, 0, -1, float("nan"), float("inf"), "1h", True):
        with pytest.raises(InvalidArgumentError, match="retention_s"):
            world.handle().gc(retention)
    assert world.handle().gc(3600).horizon == 0


def test_a_longer_retention_after_a_shorter_one():
    """What an earlier collection took is not missed: its horizon is the horizon."""
    world = lived()
    horizon = world.handle().gc(retention_s=HOUR_S).horizon
    report = world.handle().gc(retention_s=300 * DAY_S)
    assert report.horizon == horizon
    assert report.total == ObjectCount()
    world.check(horizon)


def test_the_clock_is_the_stores():
    """A machine whose clock is a year ahead, or behind, removes and keeps the same."""
    for offset_s in (-365 * DAY_S, 365 * DAY_S):
        world = lived()
        index = world.handle()
        world.put(index, {"just": 5})
        world.below.put("trained/" + "c" * 32, b"young")
        skewed = type(world.clock)(world.clock.ms + offset_s * 1000)
        report = world.database(world.store, skewed).index("x").gc()
        assert report.spared.objects == 1
        world.check(report.horizon)


@pytest.mark.parametrize("unchanged", [True, False])
def test_a_full_disk_is_collected(unchanged):
    """Where there is no room for a probe, what is old beside the newest object goes."""
    world = lived()

    class Full(MemoryStore):
        def put(self, key, data):
            raise UnavailableError("no space left on device", unchanged=unchanged)

        put_if_absent = put

    full = Full(world.clock)
    full._objects = dict(world.store._objects)
    index = world.handle(full)
    before = len(full._objects)
    if not unchanged:
        with pytest.raises(UnavailableError):
            index.gc()
        assert len(full._objects) == before
        return
    assert not index.gc().total.objects  # beside the newest object nothing is a day old
    world.put(world.handle(), {"last": 3})
    full._objects = dict(world.store._objects)
    report = index.gc()
    assert report.total.objects
    world.store._objects = full._objects
    world.check(report.horizon)


def test_writers_whose_clocks_are_wrong_do_no_harm():
    """Ages are the store's: commits made at any time of their writers' count from being stored."""
    world = World()
    ahead = type(world.clock)(world.clock.ms + 400 * DAY_S * 1000)
    for i in range(8):
        writer = world.database(world.store, ahead if i % 2 else None).index("x")
        world.put(writer, {f"k{i}": i, "same": i})
    report = world.handle().gc()
    assert report.horizon == 0
    world.clock.sleep(2 * DAY_S)
    report = world.handle().gc()
    assert report.horizon >= 6
    world.check(report.horizon)


def test_a_fold_from_before_the_horizon():
    """What was committed between a fold's base and its commit is kept, be it before the horizon."""
    world = World()
    index, folder = world.handle(), world.handle()
    world.put(index, {f"k{i}": i for i in range(30)})
    world.clock.sleep(DAY_S)

    def on_the_way(step):
        if step.stage != "encode" or step.done != step.total:
            return
        for i in range(5):
            world.delete(index, [f"k{i}"])
        world.clock.sleep(19 * HOUR_S)

    folder.optimize(options=SMALL, progress=on_the_way)
    world.remember(7)
    world.clock.sleep(11 * HOUR_S)
    # The horizon is before the fold's commit and after its base; all before it is old enough.
    report = world.handle().gc(retention_s=12 * HOUR_S)
    assert report.horizon == 6
    assert report.spared == ObjectCount()
    world.check(6)
    world.put(index, {"new": 1})
    world.put(index, {"newer": 1})
    world.put(index, {"newest": 1})
    world.clock.sleep(3 * DAY_S)
    report = world.handle().gc()
    assert report.horizon == 10
    assert report.removed["commits"].objects == 7
    world.check(10)


def test_a_damaged_log_is_not_collected():
    world = World()
    index = world.handle()
    for i in range(8):
        world.put(index, {f"k{i}": i})
    world.clock.sleep(2 * DAY_S)
    world.below.delete([log_key(7)])
    with pytest.raises(DataError, match="missing"):
        world.handle().gc()
    assert world.below.get(log_key(1)) is not None
    assert world.below.get(snapshot_key(3)) is not None


def test_a_commit_that_a_listing_missed_is_not_missing():
    """A folder may list what was stored meanwhile, and not what was stored just before that."""

    class Unsteady(MemoryStore):
        missed = ""

        def list(self, prefix, **more):
            found = super().list(prefix, **more)
            return iter([one for one in found if one.key != self.missed])

    clock = FakeClock()
    world = World(store=Unsteady(clock), clock=clock)
    for n in range(5):
        world.put(world.handle(), {f"k{n}": n})
    world.store.missed = f"{catalogue.load(world.store, 'x').prefix}{log_key(4)}"
    world.handle().gc()
    assert not world.handle().verify().damages
    world.check(0)
    world.store.delete([world.store.missed])
    with pytest.raises(DataError, match="is missing although later commits are there"):
        world.handle().gc()
    assert world.handle().verify().damages


def test_a_bitmap_that_lies_there_is_not_taken_from_a_snapshot():
    """Who died between a bitmap and its snapshot leaves a bitmap that the next snapshot names."""
    world = World()
    index = world.handle()
    world.put(index, {f"k{i}": i for i in range(30)})
    world.optimize(index)
    world.put(index, {"a": 1})
    world.delete(index, ["k1"])
    # The next commits are due for a snapshot; nothing since killed a row of a segment.
    opened = index._session._views.refresh()
    views = index._session._views
    _, objects = snapshots.materialise(
        opened, load_keys=views._load_keys, load_bitmap=views.log.load_bitmap
    )
    assert objects
    for key, data in objects.items():
        world.below.put(key, data)
    world.clock.sleep(3 * DAY_S)
    world.handle().gc()
    assert all(world.below.get(key) is not None for key in objects)


def test_a_database_collects_all_its_indexes_and_what_is_left_of_dropped_ones():
    """Data of which no index can be made goes once it is old; that of a lost entry is told."""
    world = lived()
    database = world.database(world.store)
    entry = world.store.get("x/index.json")
    world.store.put("y/index.json", b"{}")
    world.store.put(f"y/{'d' * 32}/log/1", b"of an entry that cannot be read")
    world.store.put(f"z/{'e' * 32}/log/{1:020}", b"of no entry")
    world.store.put(f"w/{'a' * 32}/log/{2:020}", b"of no entry, and no index can be made of it")
    world.store.put(f"x/{'f' * 32}/log/1", b"of an entry that was replaced")
    said = database.gc(dry_run=True)
    assert said.remains.objects == 0  # young
    world.clock.sleep(2 * DAY_S)
    report = database.gc()
    assert report.indexes["x"].total.objects
    assert report.indexes["x"].horizon == said.indexes["x"].horizon
    assert list(report.failed) == ["y"]
    assert report.left == ("z",)
    assert report.remains.objects == 2
    assert not list(world.store.list(f"x/{'f' * 32}/"))
    assert not list(world.store.list("w/"))
    assert len(list(world.store.list("y/")) + list(world.store.list("z/"))) == 3
    assert world.store.get("x/index.json") == entry
    with pytest.raises(InvalidArgumentError):
        database.gc(1)
    world.check(report.indexes["x"].horizon)


def test_one_index_that_is_throttled_does_not_keep_the_others():
    """Whatever an index cannot be collected for, those after it are, and it is named."""

    class Throttled(MemoryStore):
        def put(self, key, data):
            if key.startswith("w/"):
                raise ThrottledError("slow down", retry_after_ms=1_000)
            super().put(key, data)

    clock = FakeClock()
    world = World(store=Throttled(clock), clock=clock)
    world.database(world.store).create_index("w", dimension=2)
    report = world.database(world.store).gc()
    assert (list(report.failed), list(report.indexes)) == (["w"], ["x"])


@pytest.mark.parametrize("hours", [19, 21])
def test_who_took_too_long_does_not_commit(hours):
    """A fold or a put whose first object could be collected by now says so, and leaves nothing."""
    world = World()
    index = world.handle()
    world.put(index, {f"k{i}": i for i in range(30)})
    before = {info.key for info in world.store.list("")}

    def slow(step):
        if step.stage == "encode" and step.done == step.total:
            world.clock.sleep(hours * HOUR_S)

    if hours < 20:
        index.optimize(options=SMALL, progress=slow)
        return
    with pytest.raises(UnavailableError, match="repeat"):
        index.optimize(options=SMALL, progress=slow)
    assert {info.key for info in world.store.list("")} == before
    world.optimize(index)
    world.check(0)
