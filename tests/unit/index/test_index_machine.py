"""Whatever writers do in whatever order, every reader finds what a dict would hold."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from index_world import FakeClock, World, rows_of

from squash.errors import ConflictError, InvalidArgumentError, NotFoundError
from squash.index import writer
from squash.index.commits import DeleteKeys, PutRows
from squash.index.state import committed_at
from squash.storage import MemoryStore

KEYS = st.sampled_from([f"k{i}" for i in range(12)])
RECORDS = st.dictionaries(KEYS, st.integers(0, 999), min_size=1, max_size=6)
HANDLE = st.integers(0, 2)


class IndexMachine(RuleBasedStateMachine):
    """Three handles, each as stale as chance has it, against a dict and its history."""

    def __init__(self) -> None:
        super().__init__()
        store, clock = MemoryStore(), FakeClock()
        self.worlds = [World.on(store, number, clock) for number in range(3)]
        self.opened = [world.log.refresh(None) for world in self.worlds]
        self.model: dict[str, int] = {}
        self.folds: list[dict] = []
        self.commits = 0
        self.changed = 0
        self.ids: list[str] = []
        self.history: list[dict[str, int]] = [{}]

    def done(self, handle: int, opened, *, folds: bool = False) -> None:
        self.commits += 1
        assert opened.sequence == self.commits
        assert opened.state.time_ms >= self.opened[handle].state.time_ms
        self.opened[handle] = opened
        self.ids.append(opened.state.recent[-1])
        if not folds:
            self.changed = self.commits

    def new_id(self, handle: int) -> str:
        return self.worlds[handle].log.ids.new_id()

    def append(self, handle: int, what) -> None:
        """Commit a decision through a handle that may be stale."""
        world = self.worlds[handle]
        self.done(
            handle, world.log.append(self.opened[handle], what, commit_id=self.new_id(handle))
        )

    @rule(handle=HANDLE, records=RECORDS)
    def put(self, handle, records) -> None:
        self.done(handle, self.worlds[handle].put(self.opened[handle], records))
        self.model |= records

    @rule(handle=HANDLE, records=RECORDS, parts=st.integers(1, 2))
    def put_segments(self, handle, records, parts) -> None:
        keys = list(records)
        pieces = [{k: records[k] for k in keys[i::parts]} for i in range(parts)]
        world = self.worlds[handle]
        self.done(handle, world.put_segments(self.opened[handle], *filter(None, pieces)))
        self.model |= records

    @rule(handle=HANDLE, keys=st.lists(KEYS, min_size=1, max_size=6))
    def delete(self, handle, keys) -> None:
        self.done(handle, writer.delete(self.worlds[handle].log, self.opened[handle], keys))
        for key in keys:
            self.model.pop(key, None)

    @rule(handle=HANDLE, records=RECORDS, data=st.data())
    def put_conditionally(self, handle, records, data) -> None:
        """It stands if the newest state allows it, whatever the handle knows."""
        world = self.worlds[handle]
        absent = data.draw(st.booleans())
        since = data.draw(st.none() | st.integers(0, self.commits + 1))

        def condition(opened) -> None:
            writer.check_unchanged(opened.state, since)
            if absent and records.keys() & world.everything(opened).keys():
                raise ConflictError("there")

        expected = None
        if since is not None and since > self.commits:
            expected = InvalidArgumentError
        elif (since is not None and self.changed > since) or (
            absent and records.keys() & self.model.keys()
        ):
            expected = ConflictError
        if expected is None:
            self.done(handle, world.put(self.opened[handle], records, condition=condition))
            self.model |= records
        else:
            with pytest.raises(expected):
                world.put(self.opened[handle], records, condition=condition)

    @rule(handle=HANDLE, keys=st.sets(KEYS, min_size=1, max_size=3))
    def increment(self, handle, keys) -> None:
        """What is decided of the state before counts every time, through stale handles too."""

        def decide(opened):
            found = self.worlds[handle].everything(opened)
            if keys - found.keys():
                raise NotFoundError("not there")
            return PutRows(rows_of({key: found[key] + 1 for key in sorted(keys)}))

        if keys <= self.model.keys():
            self.append(handle, decide)
            self.model |= {key: self.model[key] + 1 for key in keys}
        else:
            with pytest.raises(NotFoundError):
                self.append(handle, decide)

    @rule(handle=HANDLE, keys=st.sets(KEYS, min_size=1, max_size=3))
    def compare_and_swap(self, handle, keys) -> None:
        """It succeeds where nothing changed since the handle read, and sets what it read plus 1."""
        world, read = self.worlds[handle], self.opened[handle]
        records = {key: v + 1 for key, v in world.everything(read).items() if key in keys}

        def decide(opened):
            writer.check_unchanged(opened.state, read.sequence)
            return PutRows(rows_of(records)) if records else None

        if self.changed > read.sequence:
            with pytest.raises(ConflictError):
                self.append(handle, decide)
        elif records:
            self.append(handle, decide)
            self.model |= records

    @rule(handle=HANDLE, least=st.integers(0, 999))
    def delete_where(self, handle, least) -> None:
        """A filter is decided about the newest state; of nothing there is no commit."""
        world = self.worlds[handle]

        def decide(opened):
            found = [key for key, v in world.everything(opened).items() if v >= least]
            return DeleteKeys(found) if found else None

        gone = [key for key, v in self.model.items() if v >= least]
        if gone:
            self.append(handle, decide)
        else:
            opened = world.log.append(self.opened[handle], decide, commit_id=self.new_id(handle))
            assert opened.sequence == self.commits
            self.opened[handle] = opened
        for key in gone:
            del self.model[key]

    @precondition(lambda self: self.ids)
    @rule(handle=HANDLE, data=st.data())
    def repeat(self, handle, data) -> None:
        """A call with the id of a commit that is there changes nothing, and asks nothing new."""
        sequence = data.draw(st.integers(1, self.commits))
        commit_id = self.ids[sequence - 1]

        def decide(opened):
            # A handle that has not seen the commit yet may ask.
            assert opened.sequence < sequence
            return PutRows(rows_of({"repeated": 1}))

        opened = self.worlds[handle].log.append(self.opened[handle], decide, commit_id=commit_id)
        assert committed_at(opened.state, commit_id) == sequence
        self.opened[handle] = opened

    @rule(handle=HANDLE, data=st.data(), pieces=st.integers(1, 2))
    def start_fold(self, handle, data, pieces) -> None:
        """Do the work of a fold; it is committed later, or never."""
        world, opened = self.worlds[handle], self.opened[handle]
        segments, fresh = opened.state.segments, opened.state.fresh
        if not segments and not fresh:
            return
        inputs = data.draw(st.lists(st.sampled_from(segments), unique_by=lambda s: s.id)
                           if segments else st.just([]))  # fmt: skip
        some = data.draw(st.lists(st.sampled_from(fresh), unique=True) if fresh else st.just([]))
        self.folds.append(world.fold(opened, inputs, sorted(some), pieces))

    @precondition(lambda self: self.folds)
    @rule(handle=HANDLE, data=st.data())
    def finish_fold(self, handle, data) -> None:
        fold = self.folds.pop(data.draw(st.integers(0, len(self.folds) - 1)))
        world = self.worlds[handle]
        newest = world.log.refresh(None)
        live = {segment.id for segment in newest.state.segments}
        valid = set(fold["inputs"]) <= live and set(fold["fresh"]) <= set(newest.state.fresh)
        if self.opened[handle].sequence < fold["base"]:
            self.opened[handle] = newest
        if valid:
            opened = writer.replace(world.log, self.opened[handle], **fold)
            self.done(handle, opened, folds=True)
        else:
            with pytest.raises(ConflictError):
                writer.replace(world.log, self.opened[handle], **fold)

    @rule(handle=HANDLE)
    def refresh(self, handle) -> None:
        self.opened[handle] = self.worlds[handle].log.refresh(self.opened[handle])

    @rule(handle=HANDLE)
    def reopen(self, handle) -> None:
        self.opened[handle] = self.worlds[handle].log.refresh(None)

    @rule(handle=HANDLE)
    def snapshot(self, handle) -> None:
        """A snapshot changes nothing, of whichever commit it is."""
        self.opened[handle] = self.worlds[handle].log.write_snapshot(self.opened[handle])

    @rule(handle=HANDLE, data=st.data())
    def open_at(self, handle, data) -> None:
        """Any commit's state can be opened, whatever is known, and is what the model was then."""
        sequence = data.draw(st.integers(0, self.commits))
        known = data.draw(st.sampled_from([None, *self.opened]))
        world = self.worlds[handle]
        opened = world.log.open_at(sequence, known)
        assert opened.sequence == sequence
        assert world.everything(opened) == self.history[sequence]
        ahead = world.log.refresh(opened)
        assert world.everything(ahead) == self.model

    @rule(handle=HANDLE)
    def wait_long(self, handle) -> None:
        self.worlds[handle].log._clock.sleep(700)

    @invariant()
    def every_reader_finds_the_model(self) -> None:
        if len(self.history) == self.commits:
            self.history.append(dict(self.model))
        for world, opened in zip(self.worlds, self.opened, strict=True):
            newest = world.log.refresh(opened)
            assert world.everything(newest) == self.model
            assert newest.state.changed == self.changed
        newest = self.worlds[0].log.refresh(None)
        assert self.worlds[0].everything(newest) == self.model
        assert newest.state.changed == self.changed
        assert not any(world.reports for world in self.worlds)


IndexMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestIndexMachine = IndexMachine.TestCase


class LongIndexMachine(IndexMachine):
    """The same, for longer."""


LongIndexMachine.TestCase.settings = settings(
    max_examples=400, stateful_step_count=60, deadline=None
)
TestLongIndexMachine = pytest.mark.slow(LongIndexMachine.TestCase)
