"""Every kind of object damaged in every way: mended, or lost by name, and the rest as it was."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from amounts import examples
from collecting import DAY_S, World, listed
from living import snapshot_every
from squash.container import read_layout
from squash.errors import DataError, SquashError
from squash.maintain import BuildOptions
from squash.maintain.gc import list_objects
from squash.storage import MemoryStore

OPTIONS = BuildOptions(
    partition_rows_target=90,
    partition_rows_max=130,
    cluster_rows_target=16,
    calibration_queries=8,
    exact_rows_max=8,
)
WAYS = ("flip", "cut", "remove")
DERIVED = {"rows", "attributes", "codes", "head", "bitmaps", "trained", "snapshots"}


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    snapshot_every(monkeypatch, 3)


def made(collected: bool) -> World:
    """Partitions with dead rows, flat segments with dead rows, fresh rows, several snapshots."""
    world = World()
    index = world.handle()
    world.put(index, {f"k{i}": i for i in range(250)})
    world.remember(index.optimize(options=OPTIONS).snapshot)
    world.delete(index, [f"k{i}" for i in range(0, 250, 7)])
    import squash.index.writer as writer_module

    limit, writer_module.INLINE_COMMIT_ROWS_MAX = writer_module.INLINE_COMMIT_ROWS_MAX, 10
    world.put(index, {f"f{i}": 1000 + i for i in range(100)})
    writer_module.INLINE_COMMIT_ROWS_MAX = limit
    world.delete(index, ["f3", "f70"])
    world.put(index, {"k1": 7, "g1": 1, "g2": 2})
    world.put(index, {"k2": 8, "g1": 3})
    world.put(index, {"h": 8})
    if collected:
        world.clock.sleep(2 * DAY_S)
        assert index.gc().total.objects
    world.put(index, {"last": 9})
    return world


def copy_of(world: World) -> World:
    store = MemoryStore(world.clock)
    for info in world.store.list(""):
        store.put(info.key, world.store.get(info.key))
    again = World.__new__(World)
    again.clock, again.store, again.wrap = world.clock, store, world.wrap
    again.history, again.rows = dict(world.history), dict(world.rows)
    return again


def kind_of(one) -> str:
    return one.info.key.rpartition("/")[2] if one.kind == "segments" else one.kind


def damage(world: World, key: str, way: str, at: float) -> None:
    data = bytearray(world.below.get(key))
    place = min(int(at * len(data)), len(data) - 1)
    if way == "remove":
        world.below.delete([key])
    elif way == "cut":
        world.below.put(key, bytes(data[:place]))
    else:
        data[place] ^= 0x41
        world.below.put(key, bytes(data))


def live_keys(world: World) -> set[str]:
    from squash.runtime.keeping import named_by

    opened = world.handle()._session._views.refresh()
    return {ref.key for ref in named_by(opened.state)}


@pytest.fixture(scope="module")
def worlds():
    with pytest.MonkeyPatch.context() as patch:
        snapshot_every(patch, 3)
        return {collected: made(collected) for collected in (False, True)}


def check_repair(world: World, key: str, kind: str, live: bool) -> None:
    """Repair, and hold what is readable against the model."""
    index = world.handle()
    named = {one.object_key for one in index.verify().damages}
    said = index.repair(dry_run=True)
    before = {info.key: world.store.get(info.key) for info in world.store.list("")}
    assert said.dry_run
    report = index.repair()
    if named and live and kind in DERIVED:
        assert said.repaired, said
        assert before
    if report.lost_rows:
        assert kind in {"vectors", "documents"}
        assert report.left
        if kind == "vectors":
            assert len(report.lost_keys) == report.lost_rows
        dropped = world.handle().repair(drop_lost=True)
        assert (dropped.lost_rows, dropped.lost_keys) == (report.lost_rows, report.lost_keys)
        found = listed(world.handle())
        gone = world.rows.keys() - found.keys()
        assert len(gone) == report.lost_rows
        assert set(dropped.lost_keys) <= gone
        assert found == {k: v for k, v in world.rows.items() if k not in gone}
        world.rows = found
        report = dropped
    assert not report.left, (kind, report)
    fresh = world.handle()
    assert listed(fresh) == world.rows
    for record in fresh.get(keys=list(world.rows)):
        v = world.rows[record.key]
        np.testing.assert_array_equal(record.vector, np.array([v + 1, 1, -v], np.float32))
    answer = fresh.query(np.array([5, 1, -4], np.float32), top_k=500, recall_target=0.999)
    assert {match.key for match in answer.matches} == set(world.rows)
    left = {one.object_key for one in fresh.verify().damages}
    assert left == {one.object_key for one in report.harmless}
    # Writing goes on.
    world.put(fresh, {"after": 1})
    world.remember(fresh.optimize(options=OPTIONS).snapshot)
    assert listed(world.handle()) == world.rows


@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("each", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_each_kind_of_object(worlds, way, collected, each):
    """So many of each kind, of the newest state and of older ones, at front, middle and end."""
    live = live_keys(worlds[collected])
    tried: dict[tuple[str, bool], int] = {}
    for one in list_objects(worlds[collected].below):
        kind, needed = kind_of(one), one.info.key in live
        number = tried.get((kind, needed), 0)
        if kind in {"commits", "unknown"} or number >= each:
            continue
        tried[kind, needed] = number + 1
        world = copy_of(worlds[collected])
        damage(world, one.info.key, way, (0.5, 0.02, 0.98, 0.25)[number])
        if not recoverable(world, one):
            report = world.handle().repair()
            assert not report.repaired
            if kind == "bitmaps" and not needed:
                assert not report.left
                assert report.harmless
                continue
            assert report.left
            with pytest.raises(SquashError):
                listed(world.handle())
            continue
        check_repair(world, one.info.key, kind, needed)
    assert {kind for kind, _ in tried} >= {
        "rows", "vectors", "documents", "attributes", "codes", "head", "trained", "snapshots",
        "bitmaps",
    }  # fmt: skip


def recoverable(world: World, one) -> bool:
    """Tell whether the log, or an older snapshot, leads to what is damaged, or none needs it."""
    if one.kind not in {"snapshots", "bitmaps"}:
        return True
    listing = list_objects(world.below)
    commits = {each.number for each in listing if each.kind == "commits"}
    stored = {each.number for each in listing if each.kind == "snapshots"}
    if one.kind == "bitmaps":
        return any(number < one.number for number in stored) or 1 in commits
    others = stored - {one.number}
    if any(other > one.number for other in others):
        return True
    base = max((other for other in others if other < one.number), default=0)
    return commits.issuperset(range(base + 1, one.number + 1))


@pytest.mark.parametrize("way", WAYS)
def test_commits(worlds, way):
    """A commit that the newest state needs cannot be made again; another one does no harm."""
    from squash.index.commits import log_key
    from squash.index.state import commits_needed

    for collected, world in worlds.items():
        opened = world.handle()._session._views.refresh()
        needed = set(commits_needed(opened.state))
        for one in list_objects(world.below):
            if one.kind != "commits":
                continue
            broken = copy_of(world)
            damage(broken, one.info.key, way, 0.5)
            if way == "remove" and one.number == opened.sequence:
                continue  # nobody can tell that it ever was
            report = broken.handle().repair()
            if one.number in needed:
                assert log_key(one.number) in {left.object_key for left in report.left}
                with pytest.raises(DataError):
                    listed(broken.handle())
            else:
                assert not report.left, (collected, one.number)
                assert listed(broken.handle()) == broken.rows


@settings(
    max_examples=examples(8),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # one example takes a second
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_several_damages_at_once(worlds, data):
    """What a repair reports is what is: readable as the model but for the lost, or said not."""
    collected = data.draw(st.booleans())
    world = copy_of(worlds[collected])
    listing = [one for one in list_objects(world.below) if one.kind != "commits"]
    chosen = data.draw(st.lists(st.sampled_from(listing), min_size=2, max_size=5, unique=True))
    for one in chosen:
        damage(world, one.info.key, data.draw(st.sampled_from(WAYS)), data.draw(st.floats(0, 0.99)))
    with suppress(DataError):
        world.handle().repair()
    report = world.handle().repair(drop_lost=True)
    if report.left:
        named = {one.object_key for one in report.left}
        assert named == {
            one.object_key for one in world.handle().verify().damages if one.object_key in named
        }
        return
    found = listed(world.handle())
    assert all(found[key] == world.rows[key] for key in found)
    harmless = {one.object_key for one in report.harmless}
    assert {one.object_key for one in world.handle().verify().damages} == harmless


def test_a_sound_index_is_left_alone(worlds):
    world = copy_of(worlds[True])
    before = {info.key: world.store.get(info.key) for info in world.store.list("")}
    report = world.handle().repair()
    assert report.repaired == report.left == report.harmless == ()
    assert {info.key: world.store.get(info.key) for info in world.store.list("")} == before


def test_restored_objects_are_the_first_ones(worlds):
    """On the same machine what is derived comes out to the last bit, and no commit is made."""
    world = copy_of(worlds[False])
    sequence = max(world.history)
    for one in list_objects(world.below):
        kind = kind_of(one)
        if kind not in {"rows", "attributes", "codes", "head", "bitmaps", "snapshots"}:
            continue
        good = bytes(world.below.get(one.info.key))
        damage(world, one.info.key, "flip", 0.6)
        report = world.handle().repair()
        assert {done.object_key for done in report.repaired} >= {one.info.key}, kind
        assert bytes(world.below.get(one.info.key)) == good
        assert read_layout(good, where=kind) if kind != "bitmaps" else True
    assert world.handle().stats().snapshot == sequence
