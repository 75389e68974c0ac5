"""Faults at each call of a publication and of a restoration: all of it or nothing, and no doubt.

What was answered is durable; what was not is found out by repeating it, with the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
from fault_cases import DAY_S, NAME, RETENTION_S, World, rows, state_of, with_rows
from fault_store import Fault, KilledError, StepStore

from fakes import CountedIds, FakeClock
from living import SMALL
from publishing import HandBuild
from squash.api.compacting import compact
from squash.database import Database
from squash.errors import ConflictError, NotFoundError, SquashError, UnavailableError
from squash.index import snapshots
from squash.maintain.gc import list_objects
from squash.runtime import Settings

ALONE: tuple[Fault, ...] = ("refused", "lost", "killed before", "killed after", "twice")
TOGETHER: tuple[Fault, ...] = ("overtaken", "late")
BUILT = [f"b{i}" for i in range(40)]
COMMIT_ID = "e" * 32
RESTORED = 5
STRIDE = 29

pytestmark = pytest.mark.usefixtures("small_limits")


def begun(world: World, *, replaces: bool = True) -> HandBuild:
    """Begin a build of the aged index, and make its segments; then somebody puts a record."""
    index = world.database(60).index(NAME)
    build = HandBuild.begin(index, 1, replaces=replaces)
    build.make(
        rows(BUILT, 1),
        options=SMALL,
        connect=lambda store, ids: Database(store, settings=Settings(), clock=FakeClock(), ids=ids),
    )
    index.put(**rows(["b3", "later"], 5))
    index.delete(keys=["b4", "k0"])
    return build


def published_state() -> dict:
    built = with_rows({}, BUILT, 1)
    after = with_rows(built, ["b3", "later"], 5)
    return {key: row for key, row in after.items() if key != "b4"}


def act_publish(world: World, build: HandBuild, store, number: int) -> None:
    index = world.database(number, store).index(NAME)
    build.publish(index, clock=world.clock, ids=CountedIds(number))


def act_restore(world: World, _: object, store, number: int) -> None:
    world.database(number, store).index(NAME).restore(RESTORED, commit_id=COMMIT_ID)


ACTS = {"publish": act_publish, "restore": act_restore}


def scene(name: str) -> tuple[World, HandBuild | None, dict, dict]:
    """Return a world, the state before, and the one after."""
    world = World.of("aged")
    if name == "publish":
        build = begun(world)
        return world, build, world.found(), published_state()
    return world, None, state_of("aged"), world.found(903, as_of=RESTORED)


def steps_of(name: str) -> list[str]:
    world, build, _, _ = scene(name)
    faulty = StepStore(world.store)
    ACTS[name](world, build, faulty, 3)
    return faulty.log


def points(name: str, faults: tuple[Fault, ...]) -> Iterator[tuple[int, Fault]]:
    for step, call in enumerate(steps_of(name)):
        for fault in faults:
            if fault != "twice" or call.startswith("put"):
                yield step, fault


@pytest.mark.parametrize("stride", [STRIDE, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ACTS)
def test_all_of_it_or_nothing(name, stride):
    """Whatever fails at whichever call, and whoever does it again, finds it done once."""
    for step, fault in list(points(name, ALONE))[::stride]:
        world, build, before, after = scene(name)
        faulty = StepStore(world.store, step=step, fault=fault)
        where, done = f"{name}: {fault} at {step}", False
        try:
            ACTS[name](world, build, faulty, 3)
            done = True
        except (UnavailableError, KilledError):
            pass
        where += f" {faulty.happened}"
        found = world.found()
        assert found in ([after] if done else [before, after]), where
        ACTS[name](world, build, world.store, 4)
        assert world.found() == after, where
        index = world.database(5).index(NAME)
        assert content_commits(index) == 1, where
        index.put(**rows(["next"], 20))
        assert world.found(901) == with_rows(after, ["next"], 20), where
        assert not index.verify().damages, where


def test_a_restoration_that_failed_did_not_happen():
    """A call that is refused fails it before its commit, or not at all."""
    for step in range(len(steps_of("restore"))):
        world, _, before, after = scene("restore")
        done = False
        with suppress(UnavailableError):
            ACTS["restore"](world, None, StepStore(world.store, step=step), 3)
            done = True
        assert world.found() == (after if done else before), step


def content_commits(index) -> int:
    return sum(one.operation in {"build", "restore"} for one in index.snapshots())


RIVALS: dict[str, tuple[Callable, Callable]] = {
    "puts": (
        lambda index: index.put(**rows(["b5", "k3", "rival"], 11)),
        lambda state: with_rows(state, ["b5", "k3", "rival"], 11),
    ),
    "collects": (lambda index: index.gc(RETENTION_S), lambda state: state),
}


@pytest.mark.parametrize("stride", [STRIDE, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("name", ACTS)
def test_beside_others(name, rival, stride):
    """A put beside a publication wins over it; beside a restoration it is before or after it."""
    act, effect = RIVALS[rival]
    for step, fault in list(points(name, TOGETHER))[::stride]:
        world, build, before, after = scene(name)
        faulty = StepStore(
            world.store,
            step=step,
            fault=fault,
            rival=lambda world=world: act(world.database(50).index(NAME)),
        )
        ACTS[name](world, build, faulty, 3)
        found = world.found()
        either = [effect(after)] if name == "publish" else [effect(after), after]
        if faulty.happened:
            assert found in either, (name, faulty.happened)
        assert not world.database(5).index(NAME).verify().damages, faulty.happened
        del before


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_a_collection_at_any_moment_of_a_restoration(stride):
    """Of a state before the horizon: it comes back whole, or it is said that it was collected."""
    outcomes = set()
    for when in range(0, len(steps_of_old()), stride):
        for fault in TOGETHER:
            world, then = old_world()
            faulty = StepStore(
                world.store,
                step=when,
                fault=fault,
                rival=lambda world=world: world.database(50).index(NAME).gc(RETENTION_S),
            )
            before = world.found()
            try:
                world.database(3, faulty).index(NAME).restore(RESTORED)
                outcomes.add("restored")
                assert world.found() == then, faulty.happened
            except (NotFoundError, ConflictError) as error:
                outcomes.add("collected")
                assert "collected" in str(error), faulty.happened
                assert world.found() == before, faulty.happened
            assert not world.database(5).index(NAME).verify().damages, faulty.happened
    assert outcomes == {"restored", "collected"}


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_restoration_at_any_moment_of_a_collection(stride):
    """At every call of a collection: what comes back is whole, or it was too late."""
    world, then = old_world()
    faulty = StepStore(world.store)
    world.database(3, faulty).index(NAME).gc(RETENTION_S)
    outcomes = set()
    for step in range(0, len(faulty.log), stride):
        for fault in TOGETHER:
            world, then = old_world()
            done: list[bool] = []

            def rival(world=world, done=done) -> None:
                try:
                    world.database(50).index(NAME).restore(RESTORED)
                    done.append(True)
                except (NotFoundError, SquashError):
                    done.append(False)

            before = world.found()
            broken = StepStore(world.store, step=step, fault=fault, rival=rival)
            world.database(3, broken).index(NAME).gc(RETENTION_S)
            assert world.found() == (then if done[0] else before), broken.happened
            assert not world.database(5).index(NAME).verify().damages, broken.happened
            outcomes.add(done[0])
    assert outcomes == {True, False}


def old_world() -> tuple[World, dict]:
    """Return an index of which the restored state may be collected: rebuilt, and days old."""
    world = World.of("aged")
    index = world.database(61).index(NAME)
    then = world.found(904, as_of=RESTORED)
    index.optimize(options=SMALL, full=True)
    index.put(**rows(["k73"], 6))
    world.clock.sleep(2 * DAY_S)
    return world, then


def steps_of_old() -> list[str]:
    world, _ = old_world()
    faulty = StepStore(world.store)
    world.database(3, faulty).index(NAME).restore(RESTORED)
    return faulty.log


@pytest.mark.parametrize("hours", [10, 19, 23, 30, 200])
def test_collections_beside_a_build(hours):
    """A build that goes on keeps all it needs; one that rested too long refuses, and goes."""
    world = World.of("aged")
    build = begun(world)
    index = world.database(5).index(NAME)
    index.put(**rows(["b7"], 8))
    for number in range(3):
        world.clock.sleep(hours * 3600)
        index.gc(RETENTION_S)
        if hours < 24:
            build.leave(f"done/assemble-{number:06d}", {})
    before = world.found()
    try:
        build.publish(index, clock=world.clock, ids=CountedIds(8))
    except (ConflictError, NotFoundError):
        assert hours > 20
        assert world.found() == before
    else:
        assert hours <= 20
        assert world.found() == with_rows(published_state(), ["b7"], 8)
    world.clock.sleep(9 * DAY_S)
    index.gc(RETENTION_S)
    kinds = {one.kind for one in list_objects(index._session._views.log.store)}
    assert "builds" not in kinds
    assert not index.verify().damages
    assert not index.verify().unreferenced.objects or hours > 20


def test_a_build_of_a_dropped_index_is_refused():
    """Nothing is published to what was dropped, nor to what was made anew under its name."""
    world = World.of("aged")
    build = begun(world)
    stale = world.database(6).index(NAME)
    world.database(5).drop_index(NAME)
    assert all("/log/" in info.key for info in world.store.list(f"{NAME}/")), "its end is told"
    with pytest.raises(SquashError):
        build.publish(stale, clock=world.clock, ids=CountedIds(8))
    new = world.database(7).create_index(NAME, dimension=4)
    with pytest.raises(SquashError):
        build.publish(new, clock=world.clock, ids=CountedIds(8))
    assert world.found() == {}


def test_a_build_into_what_is_not_empty_is_refused():
    """Unless it was asked to replace; records that were all deleted since do not count."""
    world = World.of("aged")
    build = begun(world, replaces=False)
    index = world.database(6).index(NAME)
    with pytest.raises(ConflictError, match="replace"):
        build.publish(index, clock=world.clock, ids=CountedIds(8))
    index.delete(keys=[key for key in world.found() if key != "later"])
    build.publish(index, clock=world.clock, ids=CountedIds(8))
    assert set(world.found()) == {"later", *BUILT[5:], *BUILT[:3]} - {"b3"}


def test_a_mixed_fold_is_found():
    """Where somebody has folded records of before and after the base, the build is refused."""
    world = World.of("aged")
    build = begun(world)
    build.cancel()
    index = world.database(6).index(NAME)
    index.optimize(options=SMALL, full=True)
    before = world.found()
    with pytest.raises(ConflictError, match="mixed"):
        build.publish(index, clock=world.clock, ids=CountedIds(8))
    assert world.found() == before


def test_a_fold_of_old_records_alone_does_no_harm():
    """Though it read the index after the base: what it wrote is replaced, too."""
    world = World.of("aged")
    index = world.database(60).index(NAME)
    build = HandBuild.begin(index, 1, claims=False)
    build.make(
        rows(BUILT, 1),
        options=SMALL,
        connect=lambda store, ids: Database(store, settings=Settings(), clock=FakeClock(), ids=ids),
    )
    index.delete(keys=["b4", "k0"])
    index.optimize(options=SMALL, full=True)
    index.put(**rows(["b3", "later"], 5))
    build.publish(index, clock=world.clock, ids=CountedIds(8))
    assert world.found() == published_state()


def test_a_build_is_rolled_back():
    """Restoring what was before the switch brings all of it back, dead rows dead."""
    world = World.of("aged")
    build = begun(world)
    before = world.found()
    index = world.database(6).index(NAME)
    newest = index.backlog().snapshot
    snapshot = build.publish(index, clock=world.clock, ids=CountedIds(8)).detail["snapshot"]
    result = index.restore(newest)
    assert result.rows == len(before)
    assert world.found() == before
    assert world.found(905, as_of=snapshot) == published_state()
    index.restore(snapshot)
    assert world.found() == published_state()
    with pytest.raises(ConflictError, match="changed"):
        index.restore(newest, if_snapshot=snapshot)
    index.optimize(options=SMALL, full=True)
    assert world.found() == published_state()
    assert not index.verify().damages
    assert index.restore(index.backlog().snapshot).rows == 0


def test_a_build_published_long_ago_is_known(monkeypatch):
    """Also where its commit is not among the last that are remembered."""
    monkeypatch.setattr("squash.index.state.RECENT_COMMITS_MAX", 2)
    world = World.of("aged")
    build = begun(world)
    index = world.database(6).index(NAME)
    first = build.publish(index, clock=world.clock, ids=CountedIds(8))
    for number in range(4):
        index.put(**rows([f"x{number}"], number))
    again = build.publish(index, clock=world.clock, ids=CountedIds(9))
    assert again.detail == first.detail
    assert content_commits(index) == 1


def test_claims_end():
    """By themselves, by being given up, and with the commit that publishes."""
    world = World.of("aged")
    index = world.database(6).index(NAME)
    build = HandBuild.begin(index, 1)
    other = world.database(7).index(NAME)
    assert other.backlog().building == build.id
    with pytest.raises(ConflictError, match="cancel"):
        other.optimize(options=SMALL)
    with pytest.raises(ConflictError, match="has begun"):
        HandBuild.begin(other, 2)
    for number in range(8):  # writers go on, and flatten
        other.put(**rows([f"x{number}"], number))
    build.cancel()
    assert other.backlog().building is None
    other.optimize(options=SMALL)
    second = HandBuild.begin(other, 3)
    world.clock.sleep(7 * 3600)
    assert other.backlog().building is None
    other.put(**rows(["y"], 1))
    other.optimize(options=SMALL)
    assert second.id != build.id
    assert not other.verify().damages


def test_the_snapshot_after_a_build_is_what_the_log_leads_to():
    """Whoever replays the log without stored snapshots finds the same."""
    world = World.of("aged")
    build = begun(world)
    index = world.database(6).index(NAME)
    newest = index.backlog().snapshot
    build.publish(index, clock=world.clock, ids=CountedIds(8))
    index.restore(newest)
    expected = world.found()
    below = index._session._views.log.store
    below.delete([info.key for info in below.list(snapshots.PREFIX)])
    assert world.found(906) == expected
    report = world.database(9).index(NAME).repair()
    assert not report.left


def test_the_bitmaps_of_a_restoration_are_mended():
    """Though no stored snapshot names them: they are those of the state that was restored."""
    world = World.of("aged")
    index = world.database(6).index(NAME)
    expected = world.found(903, as_of=RESTORED)
    index.restore(RESTORED)
    below = index._session._views.log.store
    below.delete([info.key for info in below.list(snapshots.PREFIX)])
    named = {
        segment.deleted.key
        for segment in index._session._views.log.commit_at(
            index.snapshots(limit=1)[0].snapshot
        ).operation.outputs
        if segment.deleted is not None
    }
    assert named
    for key in named:
        data = bytearray(below.get(key))
        data[0] ^= 1
        below.put(key, bytes(data))
    damages = world.database(7).index(NAME).verify().damages
    assert named <= {damage.object_key for damage in damages}
    report = world.database(8).index(NAME).repair()
    assert not report.left
    assert not report.lost_rows
    assert world.found(907) == expected


def test_the_compactor_passes_an_index_by_while_it_is_built():
    """Also where it was asked for it by name; afterwards it folds."""
    world = World.of("aged")
    database = world.database(6)
    build = HandBuild.begin(database.index(NAME), 1)
    ask = partial(
        compact,
        database,
        {"index": NAME},
        remaining_ms=lambda: 900_000,
        note=lambda *_, **__: None,
    )
    assert [one.outcome for one in ask()] == ["building"]
    build.cancel()
    assert [one.outcome for one in ask()] == ["folded"]
