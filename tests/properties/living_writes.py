"""What is written to a living index, and its upkeep: rules for a state machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from fakes import FakeClock
from living import (
    DIMENSION,
    NAME,
    SMALL,
    Handle,
    connect,
    damage,
    everything,
    shrink,
)
from model import ModelIndex
from squash.errors import ConflictError, InvalidArgumentError, NotFoundError
from squash.storage import MemoryStore

HANDLES = 3
HANDLE = st.integers(0, HANDLES - 1)
KEYS = st.sampled_from([f"k{i}" for i in range(40)])
SOME_KEYS = st.lists(KEYS, unique=True, max_size=30)
FEW_KEYS = st.lists(KEYS, unique=True, min_size=1, max_size=4)
GROUPS = 5
SEED = st.integers(0, 1 << 16)
FILTER = st.one_of(
    st.none(),
    st.integers(0, GROUPS).map(lambda n: {"n": {"$lt": n}}),
    st.integers(0, GROUPS).map(lambda n: {"n": n}),
    st.integers(0, GROUPS).map(lambda n: {"$not": {"n": {"$gte": n}}, "even": True}),
)
TOP_K = st.sampled_from([1, 2, 7, 100])
EXPIRES = "until"
LIFE_S = st.sampled_from([None, None, -1, 0.5, 3, 29.999, 400])
DAY_S = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Listing:
    """A listing under way: where it is, which snapshots it may have met, and what it gave."""

    handle: int
    limit: int
    began: int
    cursor: str | None = None
    pages: int = 0
    given: list = field(default_factory=list)


class LivingWrites(RuleBasedStateMachine):
    """Three handles, each as stale as chance has it; a dict and its history get the same."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_limits = pytest.MonkeyPatch()
        shrink(self.patch_limits)
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.connected = 0
        self.steps = 0
        self.horizon = 0
        self.listings: list[Listing] = []

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                index, keys = self.connect(0).index, sorted(self.at_newest().live())
                assert sorted(everything(index, limit=3)) == keys
                self.at_newest().check_records(index.get(keys=keys), keys)
                assert not index.verify().damages
        finally:
            self.patch_limits.undo()

    @initialize(
        metric=st.sampled_from(["cosine", "euclidean", "dot"]),
        expires=st.sampled_from([EXPIRES, EXPIRES, None]),
    )
    def create(self, metric, expires) -> None:
        connect(self.store, self.clock, self.next_number()).create_index(
            NAME, dimension=DIMENSION, metric=metric, expires=expires
        )
        self.model = ModelIndex(metric, expires)
        self.handles = [self.connect(kind) for kind in range(HANDLES)]

    # What rules have in common

    def next_number(self) -> int:
        self.connected += 1
        return self.connected

    def connect(self, kind: int) -> Handle:
        return Handle(connect(self.store, self.clock, self.next_number(), kind).index(NAME))

    def at_newest(self) -> ModelIndex:
        self.model.now = self.clock.ms / 1000
        return self.model

    def wrote(self, handle: int, result, *, fold: bool = False) -> None:
        """Note a commit of what the model holds: it has the next number but for folds' own."""
        self.read_on(until=result.snapshot)
        self.at_newest().commit(self.model.newest + 1, fold=fold)
        assert result.snapshot == self.handles[handle].sees(self.model.newest)
        self.read_on()

    def read_on(self, until: int | None = None) -> None:
        """Note the folds of others, and the commits by which they say that they have begun."""
        for info in reversed(self.connect(0).index.snapshots(limit=10, before=until)):
            if info.snapshot > self.model.newest:
                assert info.operation == "fold"
                assert info.snapshot == self.model.newest + 1
                self.at_newest().commit(info.snapshot, fold=True)

    def unchanged(self, handle: int, result) -> None:
        """A call that had nothing to do wrote nothing, and tells a snapshot that was."""
        assert result.snapshot <= self.model.newest
        self.handles[handle].sees(result.snapshot)

    def rows(self, keys, seed):
        """Make rows: half of their vectors lie on a coarse grid, so that distances tie."""
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(len(keys), DIMENSION)).astype(np.float32)
        coarse = rng.random(len(keys)) < 0.5
        vectors[coarse] = np.round(vectors[coarse]) + 0.5
        self.steps += 1
        numbers = rng.integers(GROUPS, size=len(keys)).tolist()
        metadata = [{"n": n, "even": n % 2 == 0, "step": self.steps} for n in numbers]
        if self.model.expires:
            for one in metadata:
                life = rng.choice([None, None, None, -1.0, 0.5, 3.0, 29.999, 400.0])
                if life is not None:
                    one[EXPIRES] = self.clock.ms / 1000 + float(life)
        return {"keys": keys, "vectors": vectors, "metadata": metadata}

    # Writes

    @rule(handle=HANDLE, keys=SOME_KEYS, seed=SEED)
    def put(self, handle, keys, seed) -> None:
        rows = self.rows(keys, seed)
        result = self.handles[handle].index.put(**rows)
        assert result.rows == len(keys)
        if not keys:
            self.unchanged(handle, result)
            return
        self.model.put(**rows)
        self.wrote(handle, result)

    @rule(handle=HANDLE, other=HANDLE, keys=FEW_KEYS, seed=SEED)
    def put_and_repeat(self, handle, other, keys, seed) -> None:
        """A call repeated with its commit id, by whomever, changes nothing twice."""
        rows = self.rows(keys, seed)
        commit_id = f"{self.steps:032x}"
        result = self.handles[handle].index.put(**rows, commit_id=commit_id)
        self.model.put(**rows)
        self.wrote(handle, result)
        again = self.handles[other].index.put(**rows, commit_id=commit_id, if_absent=True)
        assert again == result
        self.handles[other].sees(again.snapshot)

    @rule(handle=HANDLE, keys=FEW_KEYS, seed=SEED)
    def put_if_absent(self, handle, keys, seed) -> None:
        """Only if no key has a record, whatever this handle knows."""
        index, there = self.handles[handle].index, self.at_newest().live()
        taken = [key for key in keys if key in there]
        rows = self.rows(keys, seed)
        if taken:
            with pytest.raises(ConflictError) as refused:
                index.put(**rows, if_absent=True)
            assert refused.value.key == taken[0]
            return
        result = index.put(**rows, if_absent=True)
        self.model.put(**rows)
        self.wrote(handle, result)

    @rule(
        handle=HANDLE,
        keys=FEW_KEYS,
        seed=SEED,
        back=st.integers(-1, 4),
        what=st.sampled_from(["put", "delete", "delete where", "patch"]),
    )
    def write_if_snapshot(self, handle, keys, seed, back, what) -> None:
        """Only if no record changed after the snapshot; folds do not count."""
        index, number = self.handles[handle].index, max(0, self.model.newest - back)
        there = self.at_newest().live()
        rows = self.rows(keys, seed)
        if what == "patch":
            keys = [key for key in keys if key in there]
        call = {
            "put": lambda: index.put(**rows, if_snapshot=number),
            "delete": lambda: index.delete(keys=keys, if_snapshot=number),
            "delete where": lambda: index.delete(filter={"n": 1}, if_snapshot=number),
            "patch": lambda: index.patch(
                keys=keys, metadata=[{"n": 9}] * len(keys), if_snapshot=number
            ),
        }[what]
        if number > self.model.newest:
            with pytest.raises(InvalidArgumentError):
                call()
        elif number < self.model.changed():
            with pytest.raises(ConflictError):
                call()
        else:
            gone = self.at_newest().passing({"n": 1})
            result = call()
            if (what == "delete where" and not gone) or (what == "patch" and not keys):
                self.unchanged(handle, result)
                return
            if what == "put":
                self.model.put(**rows)
            elif what == "patch":
                self.model.patch(keys, [{"n": 9}] * len(keys))
            else:
                self.model.delete(keys if what == "delete" else gone)
            self.wrote(handle, result)

    @rule(
        handle=HANDLE,
        keys=FEW_KEYS,
        numbers=st.lists(st.integers(0, GROUPS), min_size=4, max_size=4),
        shape=st.sampled_from(["number", "null", "new", "empty", "life"]),
        life=LIFE_S,
        strict=st.booleans(),
    )
    def patch(self, handle, keys, numbers, shape, life, strict) -> None:
        """The vector stays; of the metadata what is named changes; all keys or none."""
        index, there = self.handles[handle].index, self.at_newest().live()
        until = None if life is None else self.clock.ms / 1000 + life
        one = {
            "number": lambda n: {"n": n},
            "null": lambda n: {"even": None, "none": None},
            "new": lambda n: {"added": [str(n)], "n": n},
            "empty": lambda n: {},
            "life": lambda n: {EXPIRES: until},
        }[shape if self.model.expires or shape != "life" else "empty"]
        if not strict:
            keys = [key for key in keys if key in there]
        patches = [one(n) for n in numbers[: len(keys)]]
        missing = [key for key in keys if key not in there]
        if missing:
            with pytest.raises(NotFoundError) as refused:
                index.patch(keys=keys, metadata=patches)
            assert refused.value.key in missing
            return
        result = index.patch(keys=keys, metadata=patches)
        assert result.rows == len(keys)
        if not keys:
            self.unchanged(handle, result)
            return
        self.model.patch(keys, patches)
        self.wrote(handle, result)

    @rule(handle=HANDLE, keys=SOME_KEYS)
    def delete(self, handle, keys) -> None:
        result = self.handles[handle].index.delete(keys=keys)
        if not keys:
            self.unchanged(handle, result)
            return
        self.model.delete(keys)
        self.wrote(handle, result)

    @rule(handle=HANDLE, filter_=FILTER.filter(bool))
    def delete_where(self, handle, filter_) -> None:
        gone = self.at_newest().passing(filter_)
        result = self.handles[handle].index.delete(filter=filter_)
        assert result.rows == len(gone)
        if not gone:
            self.unchanged(handle, result)
            return
        self.model.delete(gone)
        self.wrote(handle, result)

    # Upkeep

    @rule(handle=HANDLE)
    def optimize(self, handle) -> None:
        self.folded(handle, self.handles[handle].index.optimize(options=SMALL))

    def folded(self, handle: int, result) -> None:
        """A fold changes no record; where nothing is new there is no commit."""
        before = self.model.newest
        self.read_on()
        assert result.snapshot == before or result.snapshot in self.model.folds
        self.handles[handle].sees(result.snapshot)

    @rule(handle=HANDLE, other=HANDLE, keys=SOME_KEYS.filter(bool), gone=SOME_KEYS, seed=SEED)
    def optimize_while_others_write(self, handle, other, keys, gone, seed) -> None:
        """What is put and deleted while a fold works is neither lost nor raised from the dead."""
        wrote = []

        def meanwhile(_progress) -> None:
            if not wrote:
                wrote.append(True)
                self.put(other, keys, seed)
                self.delete(other, gone)

        try:
            result = self.handles[handle].index.optimize(options=SMALL, progress=meanwhile)
        except ConflictError:
            assert wrote  # a fold of the other's own, past a threshold, may have been first
            self.read_on()
            return
        self.folded(handle, result)

    @rule(handle=HANDLE, other=HANDLE)
    def two_folds_at_once(self, handle, other) -> None:
        """Of two folds one loses, says so, and leaves nothing."""
        folded = []

        def meanwhile(_progress) -> None:
            if not folded:
                folded.append(True)
                self.optimize(other)

        newest = self.model.newest
        try:
            result = self.handles[handle].index.optimize(options=SMALL, progress=meanwhile)
        except ConflictError:
            assert self.model.newest > newest
            self.read_on()
            return
        self.folded(handle, result)

    @rule(handle=HANDLE)
    def rebuild(self, handle) -> None:
        self.folded(handle, self.handles[handle].index.optimize(options=SMALL, full=True))

    @rule(handle=HANDLE, days=st.sampled_from([0, 0, 2]), hours=st.sampled_from([1, 24, 30]))
    def collect(self, handle, days, hours) -> None:
        """Every state that was the newest within the retention stays, whoever looks for it."""
        self.clock.sleep(days * DAY_S)
        index, retention_s = self.handles[handle].index, hours * 3600
        dry = index.gc(retention_s, dry_run=True)
        report = index.gc(retention_s)
        assert report.total == dry.total
        assert not report.unknown.objects
        kept_from = self.model.last_until(self.clock.ms / 1000 - retention_s)
        assert report.horizon <= kept_from
        self.horizon = max(self.horizon, report.horizon)
        assert not index.gc(retention_s).total.objects

    @precondition(lambda self: not self.horizon)
    @rule(handle=HANDLE, part=st.sampled_from(["/snapshots/", "/deleted-", "/head", "none"]))
    def repair(self, handle, part) -> None:
        """What can be made of the rest is as it was; where nothing is damaged nothing is done."""
        harmed = damage(self.store, part)
        report = self.connect(handle).index.repair()
        assert not report.lost_rows
        assert not report.left
        assert bool(report.repaired) <= bool(harmed)
        self.read_on()

    @rule(handle=HANDLE)
    def reopen(self, handle) -> None:
        self.handles[handle] = self.connect(handle)

    @rule(seconds=st.sampled_from([1, 4, 30, 700]))
    def wait(self, seconds) -> None:
        self.clock.sleep(seconds)
