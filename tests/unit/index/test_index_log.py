"""What reading and writing cost, when snapshots are written, and how rows are divided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from index_world import FakeClock, World, build_flat, rows_of

from squash.errors import (
    ChecksumError,
    ConflictError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from squash.index import log as log_module
from squash.index import writer
from squash.index.commits import Commit, DeleteKeys, PutRows, PutSegments, Replace, log_key
from squash.index.live import touched_since
from squash.index.references import read_object
from squash.index.snapshots import snapshot_key
from squash.index.state import State, apply, claimed_until, commits_needed, committed_at
from squash.limits import FOLD_CLAIM_MS, SNAPSHOT_EVERY_COMMITS
from squash.model import ObjectRef, RowBatch, SegmentRef
from squash.segment.keys import KeyTable
from squash.storage import CountingStore, MemoryStore


def test_what_it_costs():
    """A write is one PUT; asking if anything is new is one GET; opening adds one LIST, and asks
    for some commits at once; where none is there, another LIST tells that none ever was."""
    store = CountingStore(MemoryStore())
    world = World.on(store)
    opened = world.log.refresh(None)
    assert dict(store.counts().by_kind) == {"list": 2, "get": 4}
    before = store.counts()
    opened = world.put(opened, {"a": 1})
    opened = writer.delete(world.log, opened, ["b"])
    assert dict((store.counts() - before).by_kind) == {"put": 2}
    before = store.counts()
    assert world.log.refresh(opened).sequence == 2
    assert dict((store.counts() - before).by_kind) == {"get": 1}


def test_a_lost_beginning_is_not_taken_for_an_empty_index():
    store = MemoryStore()
    world = World.on(store)
    opened = world.log.refresh(None)
    for number in range(20):
        opened = world.put(opened, {f"k{number}": 1})
    # Farther than what is read at once: that would show that something is missing.
    store.delete(log_key(number) for number in range(1, 19))
    with pytest.raises(ChecksumError, match="no snapshot leads there"):
        world.log.refresh(None)


def test_nothing_new():
    """Where nothing is new, what is held stays as it is, and only the time of looking changes."""
    clock, store = FakeClock(), CountingStore(MemoryStore())
    world = World.on(store, clock=clock)
    opened = world.put(world.log.refresh(None), {"a": 1})
    opened = world.log.refresh(opened)
    assert world.log.refresh(opened) is opened
    clock.ms += 1
    later = world.log.refresh(opened)
    assert later == opened.seen_at(clock.ms)
    assert later.commits is opened.commits


def test_something_new_is_read_once():
    """A commit that another wrote is got once; then two numbers are tried, and both are free."""
    store = CountingStore(MemoryStore())
    worlds = [World.on(store, number) for number in range(2)]
    opened = worlds[0].put(worlds[0].log.refresh(None), {"a": 1})
    written = worlds[1].put(worlds[1].log.refresh(None), {"b": 2})
    before = store.counts()
    opened = worlds[0].log.refresh(opened)
    assert (store.counts() - before).by_kind == {"get": 3}
    assert opened.sequence == written.sequence == 2
    assert worlds[0].everything(opened) == {"a": 1, "b": 2}


def test_nothing_to_do_is_no_commit():
    """No rows and no keys make no commit."""
    world = World.on(MemoryStore())
    opened = world.log.refresh(None)
    assert world.put(opened, {}) is opened
    assert writer.delete(world.log, opened, []) is opened


def test_snapshots_are_written_now_and_then():
    """Every 64 commits there is a snapshot, by whichever writer, and a reader replays few."""
    store, clock = MemoryStore(), FakeClock()
    worlds = [World.on(store, number, clock) for number in range(2)]
    opened = [world.log.refresh(None) for world in worlds]
    total = 2 * SNAPSHOT_EVERY_COMMITS + 10
    model = {}
    for i in range(total):
        which = i % 2
        opened[which] = worlds[which].put(opened[which], {f"k{i % 5}": i})
        model[f"k{i % 5}"] = i
    found = [info.key for info in store.list("snapshots/")]
    assert found == [snapshot_key(128), snapshot_key(64)]
    assert all(one.state.snapshot_sequence == 128 for one in opened)
    for world, one in zip(worlds, opened, strict=True):
        assert world.everything(world.log.refresh(one)) == model


def test_much_log_is_snapshot_early(monkeypatch):
    """A log of many bytes makes a snapshot before 64 commits."""
    monkeypatch.setattr(log_module, "SNAPSHOT_EVERY_LOG_BYTES", 4000)
    store = MemoryStore()
    world = World.on(store)
    opened = world.log.refresh(None)
    for i in range(12):
        opened = world.put(opened, {f"k{i}": i})
    assert 0 < opened.state.snapshot_sequence < 12
    assert opened.state.log_bytes < 4000
    again = world.log.refresh(None)
    assert again.state == opened.state


def test_a_reader_far_behind_takes_the_snapshot():
    """A reader that sees many commits goes over to the newest snapshot and lets go of old ones."""
    store, clock = MemoryStore(), FakeClock()
    reading, writing = World.on(store, 1, clock), World.on(store, 2, clock)
    behind = reading.log.refresh(None)
    opened = writing.log.refresh(None)
    opened = writing.put_segments(opened, {"k0": 0, "k1": 1})
    for i in range(200):
        opened = writer.delete(writing.log, opened, [f"k{i % 7}"])
    behind = reading.log.refresh(behind)
    assert behind.sequence == 201
    assert behind.state.snapshot_sequence >= 192
    assert len(behind.commits) <= 10
    assert reading.everything(behind) == {}


def test_same_state_however_read():
    """Reading commit by commit, in one go, or from a snapshot gives the same live rows."""
    store, clock = MemoryStore(), FakeClock()
    world, step = World.on(store, 1, clock), World.on(store, 2, clock)
    opened, stepping = world.log.refresh(None), step.log.refresh(None)
    for i in range(30):
        opened = world.put(opened, {f"k{i % 4}": i, f"j{i}": i})
        if i % 9 == 8:
            fold = world.fold(opened, list(opened.state.segments), list(opened.state.fresh))
            opened = writer.replace(world.log, opened, **fold)
        stepping = step.log.refresh(stepping)
        assert step.everything(stepping) == world.everything(opened)
    assert world.everything(world.log.refresh(None)) == world.everything(opened)


def test_what_opening_a_snapshot_costs():
    """The commit that is known costs nothing, the next one GET, any other a LIST and its log."""
    store = CountingStore(MemoryStore())
    world = World.on(store)
    opened = [world.log.refresh(None)]
    for i in range(SNAPSHOT_EVERY_COMMITS + 10):
        opened.append(world.put(opened[-1], {f"k{i % 5}": i}))

    def cost(sequence, known):
        before = store.counts()
        found = world.log.open_at(sequence, known)
        assert found.sequence == sequence
        return dict((store.counts() - before).by_kind)

    assert cost(70, opened[70]) == {}
    assert world.log.open_at(70, opened[70]) is opened[70]
    assert cost(70, opened[69]) == {"get": 1}
    fresh = len(world.log.open_at(70, None).state.fresh)
    assert cost(70, None) == {"list": 1, "get": 1 + fresh}
    assert cost(70, opened[71]) == cost(70, None)
    assert cost(0, opened[3]) == {"list": 1}


def test_a_snapshot_that_is_gone():
    """What was collected, or never was, is not found, and the error says which object it is."""
    store = MemoryStore()
    world = World.on(store)
    opened = world.log.refresh(None)
    for i in range(SNAPSHOT_EVERY_COMMITS + 4):
        opened = world.put(opened, {f"k{i}": i})
    with pytest.raises(NotFoundError, match="commit 90 cannot be opened"):
        world.log.open_at(90, opened)
    store.delete([log_key(3)])
    for sequence, known in ((5, None), (65, None), (5, opened)):
        with pytest.raises(NotFoundError) as caught:
            world.log.open_at(sequence, known)
        assert caught.value.object_key == log_key(3)
    assert world.log.open_at(opened.sequence, opened) is opened
    world.log.open_at(2, None)


@pytest.mark.parametrize(
    ("rows_max", "bytes_max", "segments"), [(5, 1 << 20, 0), (4, 1 << 20, 3), (9, 40, 3)]
)
def test_large_puts_become_segments(monkeypatch, rows_max, bytes_max, segments):
    """More rows or bytes than a commit may hold are written as flat segments of bounded size."""
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", rows_max)
    monkeypatch.setattr(writer, "INLINE_COMMIT_BYTES_MAX", bytes_max)
    monkeypatch.setattr(writer, "FLAT_SEGMENT_ROWS_MAX", 2)
    world = World.on(MemoryStore())
    records = {f"k{i}": i for i in range(5)}
    opened = world.put(world.log.refresh(None), {"k0": 100, "z": 1})
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", rows_max)
    before = len(opened.state.segments)
    opened = world.put(opened, records)
    assert len(opened.state.segments) - before == segments
    assert world.everything(opened) == records | {"z": 1}


def test_bytes_decide_too():
    """Long metadata alone can make a put too large for a commit."""
    world = World.on(MemoryStore())
    long = RowBatch(["a"], rows_of({"a": 1}).vectors, [{"v": 1, "text": "x" * (5 << 20)}])
    opened = writer.put(world.log, world.log.refresh(None), long, build_flat=build_flat)
    assert len(opened.state.segments) == 1
    assert opened.state.segments[0].kind == "flat"


def test_objects_are_checked():
    """A segment's object is known by its length and checksum."""
    store = MemoryStore()
    ref = writer.write_object(store, "segments/x/rows", b"12345")
    assert bytes(read_object(store, ref)) == b"12345"
    for bad in (b"12346", b"1234", None):
        store.delete([ref.key])
        if bad:
            store.put(ref.key, bad)
        with pytest.raises(ChecksumError):
            read_object(store, ref)


def segment(name: str, rows: int = 1) -> SegmentRef:
    return SegmentRef(name, "flat", rows, 0, {"rows": ObjectRef("x", 1, 2)})


def state_of(*operations) -> State:
    state = State()
    for number, operation in enumerate(operations, 1):
        state = apply(state, Commit(number, f"c{number}", number, operation))
    return state


def put(*keys: str) -> PutRows:
    return PutRows(RowBatch(keys, np.ones((len(keys), 3), np.float32), [{}] * len(keys)))


def test_apply():
    """Each operation does to the state what its words say."""
    state = state_of(put("a"), PutSegments((segment("s"), segment("t"))), DeleteKeys(["a"]), put())
    assert state.fresh == (1, 4)
    assert [(one.id, one.as_of) for one in state.segments] == [("s", 2), ("t", 2)]
    trained = ObjectRef("trained/1", 1, 2)
    fold = Replace(("s",), (1,), (segment("u"),), trained, 3)
    state = apply(state, Commit(5, "c5", 5, fold))
    assert state.fresh == (4,)
    assert [(one.id, one.as_of) for one in state.segments] == [("t", 2), ("u", 3)]
    assert state.trained == trained
    assert state.recent == ("c1", "c2", "c3", "c4", "c5")
    assert commits_needed(state) == [3, 4, 5]
    again = apply(state, Commit(6, "c6", 6, Replace(("t", "u"), (), (segment("v"),), None, 5)))
    assert again.trained == trained
    assert commits_needed(again) == [4, 5, 6]


def test_a_fold_of_some_partitions_is_right_for_one_trained_object():
    """Another fold, even of other segments, has put another in its place: the second is refused."""
    state = state_of(PutSegments((segment("s"), segment("t"), segment("r"))))
    ref = [ObjectRef(f"trained/{i}", 1, 2) for i in range(3)]

    def fold(one: str, other: str, trained: ObjectRef, base: str | None) -> Commit:
        operation = Replace((one,), (), (segment(other),), trained, 1, base)
        return Commit(state.sequence + 1, f"c{other}", 5, operation)

    with pytest.raises(ConflictError, match="another fold"):
        apply(state, fold("s", "u", ref[1], ref[0].key))
    state = apply(state, fold("s", "u", ref[0], None))
    state = apply(state, fold("t", "v", ref[1], ref[0].key))
    assert state.trained == ref[1]
    with pytest.raises(ConflictError, match="another fold"):
        apply(state, fold("r", "w", ref[2], ref[0].key))


def test_a_claim_lasts_until_the_fold_or_for_a_while():
    """It changes nothing else; a fold of later commits alone leaves it."""
    state = state_of(put("a"), PutSegments((segment("s"),)))
    claimed = apply(state, Commit(3, "c3", 1_000, Replace((), (), (), None, 2)))
    assert replace(claimed, claim=None, sequence=2, recent=state.recent, time_ms=2) == state
    assert claimed_until(claimed) == 2
    later = apply(claimed, Commit(4, "c4", 1_000, put("b")))
    other = apply(later, Commit(5, "c5", 1_000, Replace((), (4,), (segment("t"),), None, 4)))
    assert claimed_until(other) == 2
    over = apply(other, Commit(6, "c6", 1_000 + FOLD_CLAIM_MS, put("c")))
    assert claimed_until(over) == 0
    for fold in (Replace(("s",), (), (), None, 5), Replace((), (1,), (segment("u"),), None, 5)):
        assert apply(other, Commit(6, "c6", 1_000, fold)).claim is None


def test_what_contradicts_itself_is_refused():
    """Gaps, bases that cannot be, and ids used twice are refused."""
    state = state_of(put("a"), PutSegments((segment("s"),)))
    with pytest.raises(InternalError):
        apply(state, Commit(4, "c", 0, DeleteKeys(["a"])))
    for operation in (
        Replace(("s",), (), (segment("u"),), None, 1),
        Replace(("s",), (1,), (segment("u"),), None, 3),
        Replace((), (), (segment("s"),), None, 2),
        PutSegments((segment("s"),)),
        PutSegments((segment("x"), segment("x"))),
    ):
        with pytest.raises(InvalidArgumentError):
            apply(state, Commit(3, "c", 0, operation))


def test_which_commit_last_changed_records():
    """Folds change none; times never go back, whatever clocks say."""
    state = state_of(put("a"), PutSegments((segment("s"),)), DeleteKeys(["a"]))
    assert (state.changed, state.time_ms) == (3, 3)
    state = apply(state, Commit(4, "c4", 1, Replace(("s",), (), (segment("u"),), None, 3)))
    assert (state.changed, state.time_ms) == (3, 3)
    state = apply(state, Commit(5, "c5", 9, put("b")))
    assert (state.changed, state.time_ms) == (5, 9)
    assert [committed_at(state, f"c{i}") for i in range(1, 7)] == [1, 2, 3, 4, 5, None]


def test_a_writer_behind_the_clock_writes_later_times():
    """A commit's time is never less than that of the one before it, from whichever machine."""
    store = MemoryStore()
    ahead, behind = World.on(store, 1, FakeClock(5_000)), World.on(store, 2, FakeClock(1_000))
    ahead.put(ahead.log.refresh(None), {"a": 1})
    opened = behind.put(behind.log.refresh(None), {"b": 1})
    assert opened.state.time_ms == 5_000
    written = behind.log.commit_at(2)
    assert written is not None
    assert written.time_ms == 5_000
    assert behind.log.commit_at(3) is None


def test_decisions_are_asked_about_each_state():
    """Of the state known first, and after a lost race of the newest; a refusal only of that."""
    store = MemoryStore()
    world, other = World.on(store, 1), World.on(store, 2)
    opened = world.log.refresh(None)
    other.put(other.log.refresh(None), {"a": 1})
    asked = []

    def decide(opened):
        asked.append(opened.sequence)
        return put("b")

    assert world.log.append(opened, decide, commit_id="b").sequence == 2
    assert asked == [0, 1]
    asked.clear()

    def refuse(opened):
        asked.append(opened.sequence)
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        world.log.append(opened, refuse, commit_id="c")
    assert asked == [0, 2], "once more about the newest state, and then never again"
    asked.clear()

    def nothing(opened):
        asked.append(opened.sequence)

    assert world.log.append(opened, nothing, commit_id="d").sequence == 2
    assert asked == [0, 2]
    asked.clear()
    assert world.log.append(opened, refuse, commit_id="b").sequence == 2
    assert asked == [0], "the commit is there already: no condition counts"


def test_a_refusal_is_heard_however_busy_the_log():
    """Others commit all the time: a refusal about a state that was the newest is answered."""
    store = MemoryStore()
    world, rival = World.on(store, 1), World.on(store, 2)
    opened = world.log.refresh(None)
    asked = []

    def refuse(opened):
        asked.append(opened.sequence)
        rival.put(rival.log.refresh(None), {"r": 1})
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        world.log.append(opened, refuse, commit_id="c")
    assert asked == [0, 1]


@pytest.mark.parametrize("gone", ["fold", "snapshot"])
def test_what_was_touched_since(gone):
    """Commits since are told by their keys; those that need not be held count as all keys."""
    world = World.on(MemoryStore())
    opened = world.put_segments(world.log.refresh(None), {"a": 1, "b": 2})
    opened = writer.delete(world.log, opened, ["b"])
    opened = world.put_segments(opened, {"c": 1})
    opened = world.put(opened, {"d": 1})

    def touched(sequence, *keys):
        return touched_since(opened, sequence, KeyTable.build(keys), load_keys=world.log._load_keys)

    assert [touched(1, key) for key in "abcd"] == [False, True, True, True]
    assert [touched(3, key) for key in "abcd"] == [False, False, False, True]
    assert touched(2, "a", "c")
    assert not touched(4, "a", "b", "c", "d")
    if gone == "fold":
        fold = world.fold(opened, list(opened.state.segments), [])
        opened = writer.replace(world.log, opened, **fold)
        assert not touched(4, "a", "b", "c", "d"), "a fold touches none"
    else:
        opened = world.log.write_snapshot(opened)
    assert touched(1, "none")


def test_a_repeated_call_takes_what_is_stored():
    """An id given to two different calls: the first one's commit stands, also in memory."""
    store = MemoryStore()
    world = World.on(store)
    opened = world.log.refresh(None)
    world.put(opened, {"a": 1}, commit_id="same")
    again = world.put(opened, {"b": 2}, commit_id="same")
    assert world.everything(again) == {"a": 1} == world.everything(world.log.refresh(again))
