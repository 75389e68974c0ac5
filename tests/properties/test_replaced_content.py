"""Builds published and snapshots restored among writes, folds and gc, against a dict's history."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fakes import CountedIds, FakeClock
from living import DIMENSION, NAME, SMALL, Handle, connect, everything, shrink
from model import ModelIndex
from publishing import HandBuild
from squash.database import Database
from squash.errors import BuildStoppedError, ConflictError, NotFoundError
from squash.runtime import Settings
from squash.storage import MemoryStore

HANDLES = 2
HANDLE = st.integers(0, HANDLES - 1)
KEYS = st.sampled_from([f"k{i}" for i in range(30)])
SOME_KEYS = st.lists(KEYS, unique=True, min_size=1, max_size=25)
FEW_KEYS = st.lists(KEYS, unique=True, min_size=1, max_size=4)
SEED = st.integers(0, 1 << 16)
HOUR_S = 3600


@dataclass
class Running:
    """A build under way: what it will bring, and when it last left something."""

    build: HandBuild
    rows: dict
    base: int
    left_ms: int
    rested_ms: int = 0
    overtaken: bool = False


class ReplacedContent(RuleBasedStateMachine):
    """Two handles and at most one build at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_limits = pytest.MonkeyPatch()
        shrink(self.patch_limits)
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.connected = 0
        self.builds = 0
        self.left = 0
        self.horizon = 0
        self.running: Running | None = None
        self.contents: dict[int, str] = {}
        self.written: dict[int, list[str]] = {}

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                index = self.connect().index
                self.model.check_records(
                    index.get(keys=sorted(self.model.rows)), sorted(self.model.rows)
                )
                assert not index.verify().damages
        finally:
            self.patch_limits.undo()

    @initialize(metric=st.sampled_from(["cosine", "euclidean"]))
    def create(self, metric) -> None:
        connect(self.store, self.clock, self.next_number()).create_index(
            NAME, dimension=DIMENSION, metric=metric
        )
        self.model = ModelIndex(metric)
        self.handles = [self.connect() for _ in range(HANDLES)]

    def next_number(self) -> int:
        self.connected += 1
        return self.connected

    def connect(self) -> Handle:
        number = self.next_number()
        return Handle(connect(self.store, self.clock, number, number).index(NAME))

    def read_on(self, until: int | None = None) -> None:
        """Note commits that changed nothing: folds, claims, and what restorations begin with."""
        for info in reversed(self.connect().index.snapshots(limit=20, before=until)):
            if info.snapshot > self.model.newest:
                assert info.operation == "fold"
                assert info.snapshot == self.model.newest + 1
                self.model.now = self.clock.ms / 1000
                self.model.commit(info.snapshot, fold=True)

    def wrote(self, snapshot: int) -> None:
        self.model.now = self.clock.ms / 1000
        self.model.commit(snapshot)
        self.read_on()

    def rows(self, keys, seed):
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(len(keys), DIMENSION)).astype(np.float32)
        return {"keys": keys, "vectors": vectors, "metadata": [{"n": seed % 7} for _ in keys]}

    # Writes and folds

    @rule(handle=HANDLE, keys=SOME_KEYS, seed=SEED)
    def put(self, handle, keys, seed) -> None:
        rows = self.rows(keys, seed)
        self.model.put(**rows)
        snapshot = self.handles[handle].index.put(**rows).snapshot
        self.written[snapshot] = keys
        self.wrote(snapshot)

    @rule(handle=HANDLE, keys=FEW_KEYS)
    def delete(self, handle, keys) -> None:
        self.model.delete(keys)
        snapshot = self.handles[handle].index.delete(keys=keys).snapshot
        self.written[snapshot] = keys
        self.wrote(snapshot)

    @rule(handle=HANDLE, full=st.booleans())
    def optimize(self, handle, full) -> None:
        index = self.handles[handle].index
        if index.backlog().building is not None:
            with pytest.raises(ConflictError, match="cancel"):
                index.optimize(options=SMALL, full=full)
            self.read_on()
            return
        index.optimize(options=SMALL, full=full)
        self.read_on()

    @rule(handle=HANDLE, back=st.integers(0, 9), keys=FEW_KEYS, seed=SEED)
    def optimize_while_restored(self, handle, back, keys, seed) -> None:
        """A fold of what was before a restoration comes too late, though its inputs are back."""
        index, done = self.handles[handle].index, []
        if index.backlog().building is not None:
            return

        def meanwhile(_progress) -> None:
            if not done:
                done.append(True)
                self.put(1 - handle, keys, seed)
                self.restore(1 - handle, back)

        try:
            index.optimize(options=SMALL, full=True, progress=meanwhile)
        except ConflictError:
            assert done
        self.read_on()

    # Builds

    @precondition(lambda self: self.running is None)
    @rule(handle=HANDLE, keys=st.one_of(st.just([]), SOME_KEYS), seed=SEED, claims=st.booleans())
    def begin_build(self, handle, keys, seed, claims) -> None:
        self.builds += 1
        build = HandBuild.begin(self.handles[handle].index, self.builds, claims=claims)
        self.read_on()
        rows = self.rows(keys, seed)
        self.running = Running(build, rows, build.request.base, self.clock.ms)
        build.make(
            rows,
            options=SMALL,
            connect=lambda store, ids: Database(
                store, settings=Settings(), clock=FakeClock(), ids=ids
            ),
        )

    @precondition(lambda self: self.running)
    @rule()
    def go_on(self) -> None:
        """A task of the build leaves something."""
        self.running.rested_ms = max(self.running.rested_ms, self.clock.ms - self.running.left_ms)
        self.left += 1
        self.running.build.leave(f"done/sample-{self.left:06d}", {})
        self.running.left_ms = self.clock.ms

    @precondition(lambda self: self.running)
    @rule(handle=HANDLE, again=st.booleans())
    def publish(self, handle, again) -> None:
        """What came after its base stays and wins; and a build that cannot be is refused whole."""
        running = self.running
        ids = CountedIds(self.next_number())
        publish = lambda: running.build.publish(  # noqa: E731
            self.handles[handle].index, clock=self.clock, ids=ids
        )
        rested = max(running.rested_ms, self.clock.ms - running.left_ms)
        try:
            report = publish()
        except BuildStoppedError:
            assert rested > 20 * HOUR_S * 1000
            self.running = None
            return
        except NotFoundError:
            assert rested > 100 * HOUR_S * 1000  # all of it was collected
            self.running = None
            return
        except ConflictError as error:
            assert running.overtaken or "mixed" in str(error), error
            self.running = None
            return
        assert rested <= 20 * HOUR_S * 1000
        assert not running.overtaken
        since = self.model.newest
        self.model.rows = self.replaced(running)
        self.wrote(report.detail["snapshot"])
        assert report.detail["snapshot"] == since + 1
        self.contents[since + 1] = "build"
        if again:
            assert publish().detail == report.detail
            self.read_on()
        self.running = None

    def replaced(self, running: Running) -> dict:
        """Return what a build's rows become under what was written since its base."""
        after = ModelIndex(self.model.metric)
        after.put(**running.rows)
        history = self.model.history
        for number in range(running.base + 1, len(history)):
            now = history[number][1]
            for key in self.written.get(number, ()):
                if key in now:
                    after.rows[key] = now[key]
                else:
                    after.rows.pop(key, None)
        return after.rows

    @precondition(lambda self: self.running)
    @rule()
    def cancel(self) -> None:
        self.running.build.cancel()
        self.read_on()
        self.running = None

    # Restoring

    @rule(handle=HANDLE, back=st.integers(0, 9))
    def restore(self, handle, back) -> None:
        number = max(self.model.newest - back, 0)
        index = self.handles[handle].index
        try:
            result = index.restore(number)
        except NotFoundError:
            assert number < self.horizon
            self.read_on()
            return
        if number >= self.model.changed():
            self.read_on()
            assert result.snapshot == self.model.newest
            return
        self.read_on(until=result.snapshot)
        self.model.rows = dict(self.model.history[number][1])
        assert result.rows == len(self.model.rows)
        self.wrote(result.snapshot)
        self.contents[result.snapshot] = "restore"
        if self.running:
            self.running.overtaken = True

    # Time

    @rule(hours=st.sampled_from([1, 5, 19, 25, 200]))
    def wait(self, hours) -> None:
        self.clock.sleep(hours * HOUR_S)

    @rule(handle=HANDLE, hours=st.sampled_from([1, 24]))
    def collect(self, handle, hours) -> None:
        index = self.handles[handle].index
        dry = index.gc(hours * HOUR_S, dry_run=True)
        report = index.gc(hours * HOUR_S)
        assert report.total == dry.total
        assert not report.unknown.objects
        self.horizon = max(self.horizon, report.horizon)
        assert not index.gc(hours * HOUR_S).total.objects

    @rule(handle=HANDLE)
    def reopen(self, handle) -> None:
        self.handles[handle] = self.connect()

    # Reads

    @rule(handle=HANDLE, seed=SEED, k=st.sampled_from([1, 5, 100]))
    def query(self, handle, seed, k) -> None:
        vector = np.random.default_rng(seed).normal(size=DIMENSION)
        index = self.handles[handle].index
        self.model.check_exact(index.query(vector, top_k=k, exact=True), vector, k)
        self.model.check(index.query(vector, top_k=k), vector, k)

    @rule(handle=HANDLE, data=st.data())
    def read_the_past(self, handle, data) -> None:
        number = data.draw(st.integers(self.horizon, self.model.newest))
        found = everything(self.handles[handle].index, as_of=number)
        then = self.model.history[number][1]
        assert found == {k: (v.tobytes(), m) for k, (v, m) in then.items()}

    @rule(handle=HANDLE)
    def read_snapshots(self, handle) -> None:
        for one in self.handles[handle].index.snapshots(limit=30):
            assert (one.operation == "fold") == (one.snapshot in self.model.folds)
            if one.operation in {"build", "restore"}:
                assert self.contents[one.snapshot] == one.operation

    @rule(handle=HANDLE)
    def verify(self, handle) -> None:
        assert not self.handles[handle].index.verify().damages

    @invariant()
    def who_knows_nothing_finds_the_model(self) -> None:
        if hasattr(self, "model"):
            found = everything(self.connect().index)
            assert found == {k: (v.tobytes(), m) for k, (v, m) in self.model.rows.items()}


ReplacedContent.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestReplacedContent = ReplacedContent.TestCase


class LongReplacedContent(ReplacedContent):
    """The same, for longer."""


LongReplacedContent.TestCase.settings = settings(
    max_examples=300, stateful_step_count=60, deadline=None
)
TestLongReplacedContent = pytest.mark.slow(LongReplacedContent.TestCase)
