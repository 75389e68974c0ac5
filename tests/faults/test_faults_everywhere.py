"""A fault at every call that any operation makes: nothing is lost, and nobody sees half.

Every operation is done once to count its calls of the store. Then it is done again for each of
them, and for each kind of fault, on a copy of the same index.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from fault_cases import (
    DAY_S,
    NAME,
    OPERATIONS,
    PAST_SNAPSHOT,
    QUERY,
    RETENTION_S,
    RIVALS,
    Operation,
    Rival,
    State,
    World,
    rows,
    state_of,
    with_rows,
)
from fault_store import Fault, KilledError, StepStore

from living import SMALL, damage
from squash.errors import (
    CommitUnknownError,
    ConflictError,
    DataError,
    NotFoundError,
    SquashError,
    UnavailableError,
)

ALONE: tuple[Fault, ...] = ("refused", "lost", "killed before", "killed after", "twice")
TOGETHER: tuple[Fault, ...] = ("overtaken", "late")
# Of so many points of an operation one is tried in `make test`: more of those that write.
STRIDE = {"writes": 61, "reads": 101}
POINTS_MIN = 10_000

pytestmark = pytest.mark.usefixtures("small_limits")

Point = tuple[Operation, int, Fault, Rival | None]


def opened(world: World, operation: Operation, faulty: StepStore):
    """Return a handle by way of the faulty store, whose steps count from here."""
    index = world.database(3, faulty).index(NAME)
    if operation.handle != "cold":
        index.query([1, 1, 1, 1], exact=True)
    if operation.handle == "stale":
        other = world.database(4).index(NAME)
        other.optimize(options=SMALL, full=True)
        world.clock.sleep(2 * DAY_S)
        other.gc(RETENTION_S)
    faulty.log.clear()
    return index


def calls_of(operation: Operation) -> list[str]:
    """Return what an operation asks of the store if nothing goes wrong."""
    world = World.of(operation.kind)
    faulty = StepStore(world.store)
    operation.act(opened(world, operation, faulty))
    return faulty.log


def points_of(operation: Operation) -> Iterator[Point]:
    """Yield every fault point of an operation."""
    for step, call in enumerate(calls_of(operation)):
        for fault in ALONE:
            if fault != "twice" or call.startswith("put"):
                yield operation, step, fault, None
        for fault in TOGETHER:
            for rival in RIVALS:
                yield operation, step, fault, rival


def outcomes(operation: Operation, rival: Rival | None, *, done: bool) -> list[State]:
    """Return the states there may be after an operation that was, or may have been, done."""
    before = state_of(operation.kind)
    with_rival = rival.effect if rival else lambda state: state
    first, second = operation.effect(before), operation.effect(with_rival(before))
    either = [] if first is None else [with_rival(first)]
    either += [] if second is None else [second]
    return either if done else [*either, with_rival(before)]


def try_point(point: Point) -> bool:
    """Let one fault happen and look at what is left; tell if it did happen."""
    operation, step, fault, rival = point
    world = World.of(operation.kind)
    faulty = StepStore(world.store)
    index = opened(world, operation, faulty)
    faulty.step, faulty.fault = step, fault
    if rival:
        faulty.rival = lambda: rival.act(world.database(50).index(NAME))
    done, seen, error = False, None, None
    try:
        seen = operation.act(index)
        done = True
    except (SquashError, KilledError) as raised:
        error = raised
    if not faulty.happened:
        return False
    where = f"{operation.name}: {faulty.happened}, beside {rival}: {error!r}"
    found = world.found()
    assert found in outcomes(operation, rival, done=done), where
    expected_error(operation, fault, rival, error, where)
    if done and operation.seen:
        # Whatever came between, what was read was there at one moment.
        states = [state_of(operation.kind), found]
        assert any(seen == operation.seen(state) for state in states), where
    if not faulty.dead:
        found = goes_on(operation, rival, index, world, where)
    if not operation.seen:
        next_one(world, found, where)
    return True


def expected_error(operation, fault, rival, error, where) -> None:
    """One fault can be resolved, or is told as what it is."""
    if error is None:
        return
    if fault.startswith("killed"):
        assert isinstance(error, KilledError), where
    elif fault in {"refused", "lost"}:
        assert isinstance(error, UnavailableError), where
        assert not isinstance(error, CommitUnknownError), where
    else:
        # Only what somebody else did can be in the way.
        assert rival, where
        assert operation.conflicts, where
        assert isinstance(error, ConflictError), where


def goes_on(operation, rival, index, world: World, where: str) -> State:
    """The same handle reads what is there, and the operation can be repeated."""
    seen, done = None, False
    try:
        seen = operation.act(index)
        done = True
    except ConflictError:
        assert rival, where
        assert operation.conflicts, where
    found = world.found()
    assert found in outcomes(operation, rival, done=done), where
    if operation.seen:
        assert seen == operation.seen(found), where
    assert {r.key for r in index.get(keys=sorted(found))} == found.keys(), where
    return found


def next_one(world: World, found: State, where: str) -> None:
    """Whoever comes next can write, and nothing stored is damaged."""
    index = world.database(70).index(NAME)
    index.put(**rows(["k4", "next"], 20))
    assert world.found(901) == with_rows(found, ["k4", "next"], 20), where
    damages = index.verify().damages
    assert not damages, f"{where}: {damages}"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_some_faults(operation):
    """A sample of the points."""
    stride = STRIDE["reads" if operation.seen else "writes"]
    points = list(points_of(operation))[OPERATIONS.index(operation) % 20 :: stride]
    tried = sum(try_point(point) for point in points)
    assert tried >= 0.8 * len(points)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_every_fault(operation):
    """Every point there is."""
    points = list(points_of(operation))
    tried = sum(try_point(point) for point in points)
    # Calls of several threads come in any order: some may have no fault to meet.
    assert tried >= 0.95 * len(points)


def test_there_are_many_points():
    """So that nothing makes them fewer without a word."""
    count = {operation.name: len(list(points_of(operation))) for operation in OPERATIONS}
    print(sum(count.values()), count)  # noqa: T201 - shown by -s, and where this fails
    assert sum(count.values()) >= POINTS_MIN
    assert min(count.values()) >= 20


# Creating and dropping whole indexes


@pytest.mark.parametrize("fault", ALONE)
def test_an_index_is_created_or_not(fault):
    """At every call: it is there, empty, or it is not and can be created."""
    for step in range(4):
        world = World.of("young")
        faulty = StepStore(world.store, step=step, fault=fault)
        created = False
        try:
            world.database(3, faulty).create_index("other", dimension=2)
            created = True
        except (UnavailableError, KilledError):
            pass
        names = [config.name for config in world.database(4).list_indexes()]
        assert "other" in names or not created
        if "other" not in names:
            world.database(5).create_index("other", dimension=2)
        other = world.database(6).index("other")
        other.put(keys=["a"], vectors=[[1, 2]])
        assert other.stats().rows == 1
        assert world.found() == state_of("young")


@pytest.mark.parametrize("fault", [*ALONE, "late"])
def test_an_index_is_dropped_or_whole(fault):
    """At every call: it is whole or it is gone; dropping again finishes, and a new one is empty.

    To whoever opens it it is as to those who have it open, with all of its log or not yet: whole
    to all, or dropped, for reading and for writing. Who writes meanwhile is refused, or was first.
    """
    world = World.of("aged")
    faulty = StepStore(world.store)
    world.database(3, faulty).drop_index(NAME)
    for step in range(len(faulty.log)):
        world = World.of("aged")
        late, warm, behind = (world.database(number).index(NAME) for number in (4, 8, 9))
        behind.query(QUERY)
        late.put(**rows(["k0"], 2))
        late.query(QUERY)
        warm.query(QUERY)

        def write(late=late) -> None:
            with suppress(NotFoundError):
                late.put(**rows(["late"], 1))

        broken = StepStore(world.store, step=step, fault=fault, rival=write)
        dropped = False
        try:
            world.database(3, broken).drop_index(NAME)
            dropped = True
        except (UnavailableError, KilledError):
            pass
        there = fails_for_all_or_none(world, (late, warm, behind))
        assert not (there and dropped)
        if there:
            assert world.found() == state_of("aged")
        left = not dropped
        try:
            world.database(6).drop_index(NAME)
        except NotFoundError:
            left = False
        assert left == (not dropped) or fault in {"lost", "killed after"}
        assert not fails_for_all_or_none(world, (late, warm, behind))
        world.database(7).create_index(NAME, dimension=4)
        assert world.found() == {}
        for one in (late, warm, behind):
            with pytest.raises(NotFoundError, match="dropped"):
                one.put(**rows(["late"], 1))


def fails_for_all_or_none(world: World, handles) -> bool:
    """Read by every handle, and by one that is opened now; tell if the index is there."""
    asked = [one.query for one in handles]
    asked += [lambda vector: world.database(5).index(NAME).query(vector)]
    asked += [lambda _, one=one: one.query(QUERY, as_of=PAST_SNAPSHOT) for one in handles]
    asked += [lambda _, one=one: one.stats() for one in handles]
    there = set()
    for ask in asked:
        try:
            ask(QUERY)
            there.add(True)
        except NotFoundError:
            there.add(False)
    assert len(there) == 1
    return there.pop()


@pytest.mark.parametrize("stride", [31, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fault", ALONE)
def test_a_repair_that_breaks_off_is_finished_by_another(fault, stride):
    """At every call: what is read is right, or said to be damaged; the next repair mends it all."""
    for part in ("/snapshots/", "/codes"):
        world = damaged(part)
        faulty = StepStore(world.store)
        world.database(3, faulty).index(NAME).repair()
        for step in range(0, len(faulty.log), stride):
            world = damaged(part)
            broken = StepStore(world.store, step=step, fault=fault)
            with suppress(UnavailableError, KilledError):
                world.database(3, broken).index(NAME).repair()
            with suppress(DataError):
                assert world.found() == state_of("aged")
            report = world.database(4).index(NAME).repair()
            assert not report.left
            assert not report.lost_rows
            assert world.found() == state_of("aged")


def damaged(part: str) -> World:
    world = World.of("aged")
    assert damage(world.store, part)
    return world


def test_a_repeated_put_is_one_commit():
    """Whatever fails, the same call with the same commit id ends in one commit."""
    operation = OPERATIONS[0]
    before = puts_of(World.of("aged"))
    for step in range(len(calls_of(operation))):
        for first in ("refused", "lost"):
            world = World.of("aged")
            for fault_at in (step, -1):
                faulty = StepStore(world.store)
                index = opened(world, operation, faulty)
                faulty.step, faulty.fault = fault_at, first
                try:
                    operation.act(index)
                except UnavailableError:
                    assert fault_at == step
            assert puts_of(world) - before == 1, f"{first} at call {step}"


def puts_of(world: World) -> int:
    """Return how many puts the log has."""
    return sum(one.operation == "put" for one in world.database(8).index(NAME).snapshots())
