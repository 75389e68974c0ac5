"""A failure at any store call of any write loses nothing acknowledged and breaks nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_store import FaultStore, KilledError, StepStore, unavailable
from index_world import FakeClock, World

from living import snapshot_every
from squash.errors import (
    CommitUnknownError,
    ConflictError,
    DataError,
    NotFoundError,
    PermissionDeniedError,
    SquashError,
    ThrottledError,
    UnauthenticatedError,
    UnavailableError,
)
from squash.index import log as log_module
from squash.index import writer
from squash.index.commits import Commit, DeleteKeys, Dropped, PutRows, log_key
from squash.index.state import RECENT_COMMITS_MAX
from squash.storage import MemoryStore

BEFORE = {f"k{i}": i for i in range(6)}


@pytest.fixture(autouse=True)
def short_snapshots(monkeypatch):
    """Let a snapshot be due every third commit, so that its calls are among those that fail."""
    snapshot_every(monkeypatch, 3)


def prepared() -> MemoryStore:
    """Two commits: a segment and fresh rows; the next commit brings a snapshot."""
    store = MemoryStore()
    world = World.on(store)
    opened = world.put_segments(world.log.refresh(None), {k: v for k, v in BEFORE.items() if v < 4})
    world.put(opened, {k: v for k, v in BEFORE.items() if v >= 4})
    return store


def do_put(world, opened):
    return world.put(opened, {"k1": 100, "k4": 104, "new": 1}, commit_id="mine")


def do_put_segments(world, opened):
    from squash.index.commits import PutSegments

    segments = tuple(world.write(part) for part in ({"k1": 100, "k4": 104}, {"new": 1}))
    return world.log.append(opened, PutSegments(segments), commit_id="mine")


def do_delete(world, opened):
    return writer.delete(world.log, opened, ["k0", "k5", "none"], commit_id="mine")


def do_fold(world, opened):
    fold = world.fold(opened, list(opened.state.segments), list(opened.state.fresh))
    return writer.replace(world.log, opened, **fold, commit_id="mine")


PUT = BEFORE | {"k1": 100, "k4": 104, "new": 1}
CASES = [
    (do_put, PUT),
    (do_put_segments, PUT),
    (do_delete, {k: v for k, v in BEFORE.items() if k not in {"k0", "k5"}}),
    (do_fold, BEFORE),
]


def calls_of(act) -> int:
    store = FaultStore(prepared())
    world = World.on(store, 1)
    act(world, world.log.refresh(None))
    assert any("snapshots/" in call and "put_if_absent" in call for call in store.log)
    return len(store.log)


def found_by_a_fresh_reader(store: MemoryStore) -> dict[str, int]:
    world = World.on(store, 2)
    return world.everything(world.log.refresh(None))


@pytest.mark.parametrize("error", [unavailable, KilledError])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("act", "after"), CASES)
def test_failure_at_every_call(act, after, when, error):
    """A fresh reader sees the state before or after; what was answered stays; writing goes on."""
    for number in range(calls_of(act) + 1):
        store = prepared()
        faulty = FaultStore(store, at={number}, when=when, error=error)
        world = World.on(faulty, 1)
        answered = False
        try:
            act(world, world.log.refresh(None))
            answered = True
        except CommitUnknownError:
            pytest.fail("one lost answer can be resolved")
        except (SquashError, KilledError):
            pass
        found = found_by_a_fresh_reader(store)
        assert found in (BEFORE, after)
        if answered:
            assert found == after
        writing = World.on(store, 3)
        opened = writing.put(writing.log.refresh(None), {"k2": 7, "last": 8})
        expected = found | {"k2": 7, "last": 8}
        assert writing.everything(opened) == expected == found_by_a_fresh_reader(store)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("act", "after"), CASES[:3])
def test_two_failures(act, after, when):
    """With any two calls failing, repeating by the same commit id ends in the state after, once."""
    count = calls_of(act)
    for first in range(count):
        for second in range(first + 1, count + 2):
            store = prepared()
            world = World.on(FaultStore(store, at={first, second}, when=when), 1)
            for _ in range(3):
                try:
                    act(world, world.log.refresh(None))
                    break
                except (UnavailableError, CommitUnknownError):
                    assert found_by_a_fresh_reader(store) in (BEFORE, after)
            assert found_by_a_fresh_reader(store) == after
            assert World.on(store).log.refresh(None).sequence == 3


def test_lost_answers_are_resolved():
    """A put whose answer is lost is found again by its commit id, and done once."""
    store = prepared()
    faulty = FaultStore(store, at=range(100), when="after", kinds=frozenset({"put_if_absent"}))
    world = World.on(faulty, 1)
    opened = do_put(world, world.log.refresh(None))
    assert opened.sequence == 3
    assert world.everything(opened) == PUT == found_by_a_fresh_reader(store)


def test_a_silent_second_try_is_recognised():
    """A store that tried twice and says False to our own object does not make two commits."""

    class Twice(MemoryStore):
        def put_if_absent(self, key, data):
            super().put_if_absent(key, data)
            return super().put_if_absent(key, data)

    store = Twice()
    world = World.on(store, 1)
    opened = world.put(world.log.refresh(None), {"a": 1})
    assert opened.sequence == 1
    assert world.everything(world.log.refresh(None)) == {"a": 1}


def test_unknown_outcome_is_said_and_repeatable():
    """If no answer comes at all the error says so; repeating with its id does it once."""
    for when in ("before", "after"):
        store = prepared()
        faulty = FaultStore(store, at=range(100), when=when)
        world = World.on(faulty, 1)
        opened = World.on(store, 1).log.refresh(None)
        with pytest.raises(CommitUnknownError) as caught:
            do_put(world, opened)
        assert caught.value.commit_id == "mine"
        assert found_by_a_fresh_reader(store) in (BEFORE, PUT)
        again = World.on(store, 1)
        # Others wrote meanwhile, and the caller's reading is as old as it was.
        writer.delete(again.log, again.log.refresh(None), ["k3"])
        do_put(again, opened)
        do_put(again, again.log.refresh(None))
        expected = {k: v for k, v in PUT.items() if k != "k3"}
        assert found_by_a_fresh_reader(store) == expected
        assert World.on(store).log.refresh(None).sequence == 4


def test_refusal_is_no_unknown():
    """A store that refuses did nothing: the caller hears the refusal itself."""
    store = prepared()

    def refuse():
        return PermissionDeniedError("no")

    faulty = FaultStore(store, at=range(100), error=refuse, kinds=frozenset({"put_if_absent"}))
    world = World.on(faulty, 1)
    with pytest.raises(PermissionDeniedError):
        do_put(world, world.log.refresh(None))
    assert found_by_a_fresh_reader(store) == BEFORE


@pytest.mark.parametrize("error", [UnauthenticatedError, PermissionDeniedError, DataError])
def test_a_lost_answer_and_a_refused_look(error):
    """Who cannot look whether a write happened whose answer was lost does not say it did not."""
    store = prepared()

    class Expiring(FaultStore):
        def get(self, key):
            if key == log_key(3) and self.store.get(key) is not None:
                raise error("expired since")
            return super().get(key)

    opened = World.on(store, 1).log.refresh(None)
    faulty = Expiring(store, at={0}, when="after")
    with pytest.raises(CommitUnknownError) as caught:
        do_put(World.on(faulty, 1), opened)
    assert caught.value.commit_id == "mine"
    assert found_by_a_fresh_reader(store) == PUT


def test_failing_snapshots_never_fail_commits():
    """Commits go on while no snapshot can be written; each failure is reported."""
    store = MemoryStore()

    class NoSnapshots(FaultStore):
        def put_if_absent(self, key, data):
            if "log/" not in key:
                raise UnavailableError("no snapshots today")
            return super().put_if_absent(key, data)

    world = World.on(NoSnapshots(store), 1)
    opened = world.log.refresh(None)
    model = {}
    for i in range(10):
        opened = world.put(opened, {f"k{i % 4}": i})
        model[f"k{i % 4}"] = i
    assert len(world.reports) == 8
    assert world.everything(opened) == model == found_by_a_fresh_reader(store)


def test_racing_writers_leave_no_gap():
    """Writers at once: every commit is there once, numbers have no gap, all agree."""
    store, clock = MemoryStore(), FakeClock()
    turns, writers = 12, 4

    def write(number: int) -> dict[str, int]:
        world = World.on(store, number, clock)
        opened = world.log.refresh(None)
        for turn in range(turns):
            opened = world.put(opened, {f"w{number}.{turn}": turn, "shared": number})
        assert not world.reports
        return world.everything(opened)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(1, writers + 1)))
    commits = []
    for sequence in range(1, turns * writers + 1):
        data = store.get(log_key(sequence))
        assert data is not None
        commits.append(Commit.from_bytes(data, sequence=sequence, where="x"))
    assert store.get(log_key(turns * writers + 1)) is None
    assert len({commit.commit_id for commit in commits}) == turns * writers
    found = found_by_a_fresh_reader(store)
    assert len(found) == turns * writers + 1
    model = {}
    for commit in commits:
        rows = commit.operation.rows
        model |= {key: one["v"] for key, one in zip(rows.keys, rows.metadata, strict=True)}
    assert found == model


def test_who_never_wins_is_throttled(monkeypatch):
    """A writer before whom another always is gives up after so many attempts, with a hint."""
    monkeypatch.setattr(log_module, "COMMIT_ATTEMPTS_MAX", 5)
    store = MemoryStore()
    rival = World.on(store, 9)

    class Slow(FaultStore):
        def put_if_absent(self, key, data):
            if key.startswith("log/"):
                opened = rival.log.refresh(None)
                rival.put(opened, {f"r{opened.sequence}": 1})
            return super().put_if_absent(key, data)

    world = World.on(Slow(store), 1)
    with pytest.raises(ThrottledError, match="another writer") as caught:
        do_put(world, world.log.refresh(None))
    assert caught.value.retry_after_ms > 0
    assert "new" not in found_by_a_fresh_reader(store)


def test_who_waits_wins_over_a_writer_that_never_rests():
    """Others commit while a writer waits: it reads what they did after that, not before."""
    store = prepared()
    rival = World.on(store, 9)

    class Busy(FakeClock):
        """Whoever waits is overtaken."""

        waits = 0

        def sleep(self, seconds):
            self.waits += 1
            opened = rival.log.refresh(None)
            rival.put(opened, {f"r{opened.sequence}": 1})

    clock = Busy()
    world = World.on(store, 1, clock)
    opened = world.log.refresh(None)
    rival.put(rival.log.refresh(None), {"first": 1})
    do_put(world, opened)
    assert clock.waits == 1
    assert "new" in found_by_a_fresh_reader(store)


def test_a_fold_that_loses_changes_nothing():
    """Of two folds of the same inputs the second is refused, even when it read before the first."""
    store = prepared()
    one, two = World.on(store, 1), World.on(store, 2)
    opened_one, opened_two = one.log.refresh(None), two.log.refresh(None)
    fold = two.fold(opened_two, list(opened_two.state.segments), list(opened_two.state.fresh))
    do_fold(one, opened_one)
    with pytest.raises(ConflictError, match="another fold"):
        writer.replace(two.log, opened_two, **fold)
    assert found_by_a_fresh_reader(store) == BEFORE


def test_a_fold_does_not_raise_the_dead():
    """What is put and deleted between a fold's base and its commit applies to its outputs."""
    store = prepared()
    folder, other = World.on(store, 1), World.on(store, 2)
    based_on = folder.log.refresh(None)
    fold = folder.fold(based_on, list(based_on.state.segments), list(based_on.state.fresh))
    opened = other.log.refresh(None)
    opened = writer.delete(other.log, opened, ["k0", "k5"])  # brings a snapshot
    opened = other.put(opened, {"k1": 50})
    assert opened.state.snapshot_sequence == 3
    opened = writer.replace(folder.log, based_on, **fold)
    expected = {"k1": 50, "k2": 2, "k3": 3, "k4": 4}
    assert folder.everything(opened) == expected == found_by_a_fresh_reader(store)


def test_an_old_reader_does_not_write_into_a_hole():
    """Who read long ago looks for a newer snapshot first: the log it knows may be collected."""
    store, clock = prepared(), FakeClock()
    old = World.on(store, 1, clock)
    opened = old.log.refresh(None)
    other = World.on(store, 2, clock)
    newest = other.log.refresh(None)
    for i in range(7):
        newest = other.put(newest, {"k1": i})
    newest = do_fold(other, newest)
    newest = other.log.write_snapshot(newest)
    store.delete(log_key(i) for i in range(1, newest.sequence + 1))
    clock.sleep(3600)
    opened = writer.delete(old.log, opened, ["k0"])
    assert opened.sequence == newest.sequence + 1
    assert store.get(log_key(3)) is None


def test_who_decides_for_long_does_not_write_into_a_hole():
    """While a writer makes its decision the log that it knows may be collected: it reads anew."""
    store, clock = prepared(), FakeClock()
    slow, other = World.on(store, 1, clock), World.on(store, 2, clock)
    known = slow.log.refresh(None)
    asked = []

    def decide(opened):
        asked.append(opened.sequence)
        if len(asked) == 1:
            newest = other.log.refresh(None)
            for i in range(7):
                newest = other.put(newest, {"k1": i})
            newest = other.log.write_snapshot(do_fold(other, newest))
            store.delete(log_key(i) for i in range(1, newest.sequence + 1))
            clock.sleep(3600)
        return DeleteKeys(["k0"])

    opened = slow.log.append(known, decide, commit_id="slow")
    assert asked == [2, 10]
    assert opened.sequence == 11
    assert store.get(log_key(3)) is None
    # Where nobody wrote meanwhile the decision stands, however long it took.
    asked.clear()

    def decide_for_long(opened):
        asked.append(opened.sequence)
        clock.sleep(3600)
        return DeleteKeys(["k2"])

    assert slow.log.append(opened, decide_for_long, commit_id="long").sequence == 12
    assert asked == [11]


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("dropped", [False, True])
def test_who_stands_still_does_not_write_into_a_hole(call, dropped):
    """A machine that sleeps in the midst of a write, while the log it knows is collected."""
    store, clock = prepared(), FakeClock()
    ahead = World.on(store, 2, clock)

    def others():
        newest = ahead.log.refresh(None)
        for i in range(7):
            newest = ahead.put(newest, {"k1": i})
        newest = ahead.log.write_snapshot(do_fold(ahead, newest))
        kept = 3 if call else 0  # as one with fresh rows is
        last = newest.sequence
        store.delete(log_key(i) for i in range(1, last + 1) if i != kept)
        if dropped:
            store.put(log_key(last + 1), Commit(last + 1, "drop", 0, Dropped()).to_bytes())
        clock.sleep(3600)

    known = World.on(store, 1, clock).log.refresh(None)
    if call:  # It loses, and then stands still.
        ahead.put(ahead.log.refresh(None), {"k5": 7})
    slow = StepStore(store, step=call, fault="overtaken", rival=others)
    writing = World.on(slow, 1, clock)
    if dropped:
        with pytest.raises(NotFoundError, match="dropped"):
            writing.put(known, {"slow": 1})
        return
    opened = writing.put(known, {"slow": 1})
    found = found_by_a_fresh_reader(store)
    assert found["slow"] == 1
    assert found == writing.everything(opened)
    assert call or store.get(log_key(3)) is None


@pytest.mark.parametrize("others_commits", [7, 300])
def test_who_stands_still_after_a_write_finds_it(others_commits):
    """What happened is told as that, or as unknown if too much was committed since to see it."""
    store, clock = prepared(), FakeClock()
    ahead = World.on(store, 2, clock)

    def others():
        newest = ahead.log.refresh(None)
        for i in range(others_commits):
            newest = ahead.put(newest, {"k1": i})
        newest = ahead.log.write_snapshot(do_fold(ahead, newest))
        store.delete(log_key(i) for i in range(1, newest.sequence + 1))
        clock.sleep(3600)

    known = World.on(store, 1, clock).log.refresh(None)
    writing = World.on(StepStore(store, step=0, fault="late", rival=others), 1, clock)
    if others_commits > RECENT_COMMITS_MAX:
        with pytest.raises(CommitUnknownError):
            writing.put(known, {"slow": 1})
    else:
        opened = writing.put(known, {"slow": 1})
        assert writing.everything(opened) == found_by_a_fresh_reader(store)
    assert found_by_a_fresh_reader(store)["slow"] == 1
    assert World.on(store).log.refresh(None).sequence == others_commits + 4


def test_operations_have_their_types():
    """A commit is read back as the operation it was made of."""
    store = prepared()
    world = World.on(store, 1)
    opened = do_delete(world, do_put(world, world.log.refresh(None)))
    assert opened.sequence == 3, "the same commit id is one commit"
    writer.delete(world.log, opened, ["x", "é"])
    for sequence, kind in ((2, PutRows), (4, DeleteKeys)):
        data = store.get(log_key(sequence))
        commit = Commit.from_bytes(data, sequence=sequence, where="x")
        assert isinstance(commit.operation, kind)
        assert commit.to_bytes() == data
