"""Whatever several handles do in whatever order: every reader finds what a dict would hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import note, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fakes import FakeClock
from living import (
    DIMENSION,
    NAME,
    SMALL,
    STALENESS_MS,
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


class LivingIndex(RuleBasedStateMachine):
    """Three handles, each as stale as chance has it, against a dict and its history."""

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
        """Note a commit of what the model holds: it has the next number."""
        self.at_newest().commit(self.model.newest + 1, fold=fold)
        assert result.snapshot == self.handles[handle].sees(self.model.newest)
        self.read_on()

    def read_on(self) -> None:
        """Note the folds that a writer made of its own accord, past a threshold."""
        for info in reversed(self.connect(0).index.snapshots(limit=10)):
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
        assert self.model.newest <= result.snapshot <= self.model.newest + 1
        if result.snapshot > self.model.newest:
            self.wrote(handle, result, fold=True)
        else:
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

    # Reads

    @rule(handle=HANDLE, filter_=FILTER, k=TOP_K, seed=SEED, recall=st.sampled_from([0.5, 0.95]))
    def query(self, handle, filter_, k, seed, recall) -> None:
        vector = np.random.default_rng(seed).normal(size=DIMENSION)
        index = self.handles[handle].index
        truth = self.at_newest()
        exact = index.query(vector, top_k=k, filter=filter_, exact=True)
        truth.check_exact(exact, vector, k, filter_)
        answer = index.query(vector, top_k=k, filter=filter_, recall_target=recall)
        truth.check(answer, vector, k, filter_)
        assert exact.snapshot == answer.snapshot == self.model.newest
        self.handles[handle].sees(answer.snapshot)

    @rule(handle=HANDLE, filter_=FILTER, k=TOP_K, seed=SEED, exact=st.booleans())
    def query_many(self, handle, filter_, k, seed, exact) -> None:
        vectors = np.random.default_rng(seed).normal(size=(3, DIMENSION))
        filters = [filter_, None, filter_]
        truth = self.at_newest()
        answers = self.handles[handle].index.query_many(
            vectors, top_k=k, filters=filters, exact=exact
        )
        for vector, one, answer in zip(vectors, filters, answers, strict=True):
            (truth.check_exact if exact else truth.check)(answer, vector, k, one)
            assert answer.snapshot == self.model.newest
        self.handles[handle].sees(self.model.newest)

    @rule(handle=HANDLE, filter_=FILTER, k=TOP_K, seed=SEED)
    def query_eventually(self, handle, filter_, k, seed) -> None:
        """Some state that was the newest within the bound, nor older than what is known here."""
        vector = np.random.default_rng(seed).normal(size=DIMENSION)
        answer = self.handles[handle].index.query(
            vector, top_k=k, filter=filter_, exact=True, consistency="eventual"
        )
        oldest = self.model.last_until((self.clock.ms - STALENESS_MS - 1) / 1000)
        assert max(oldest, self.handles[handle].seen) <= answer.snapshot <= self.model.newest
        self.handles[handle].sees(answer.snapshot)
        then = self.model.at(answer.snapshot, self.clock.ms / 1000)
        then.check_exact(answer, vector, k, filter_)

    @rule(handle=HANDLE, filter_=FILTER, k=TOP_K, seed=SEED, data=st.data())
    def read_the_past(self, handle, filter_, k, seed, data) -> None:
        """Every snapshot is what it was, by its number and by the time."""
        number = data.draw(st.integers(self.horizon, self.model.newest))
        vector = np.random.default_rng(seed).normal(size=DIMENSION)
        index, then, as_of = self.handles[handle].index, self.model.at(number), number
        if number and data.draw(st.booleans()):
            now_ms = data.draw(
                st.integers(round(self.model.history[number][0] * 1000), self.clock.ms)
            )
            number = self.model.last_until(now_ms / 1000)
            then, as_of = (
                self.model.at(number, now_ms / 1000),
                EPOCH + timedelta(milliseconds=now_ms),
            )
        answer = index.query(vector, top_k=k, filter=filter_, exact=True, as_of=as_of)
        then.check_exact(answer, vector, k, filter_)
        assert answer.snapshot == number
        then.check(index.query(vector, top_k=k, as_of=as_of), vector, k)
        keys = [f"k{i}" for i in range(0, 40, 3)]
        then.check_records(index.get(keys=keys, as_of=as_of), keys)
        assert everything(index, limit=9, as_of=as_of).keys() == then.live().keys()

    @precondition(lambda self: self.horizon)
    @rule(handle=HANDLE, data=st.data())
    def read_what_was_collected(self, handle, data) -> None:
        """It is as it was, or it is said that it is gone; never anything else."""
        number = data.draw(st.integers(0, self.horizon - 1))
        index, then = self.handles[handle].index, self.model.at(number)
        try:
            found = everything(index, as_of=number)
        except NotFoundError:
            return
        assert found.keys() == then.live().keys()

    @rule(handle=HANDLE, limit=st.integers(1, 9), data=st.data())
    def read_snapshots(self, handle, limit, data) -> None:
        """The newest first, a page at a time, each with its time and what it did."""
        before = data.draw(st.one_of(st.none(), st.integers(1, self.model.newest + 1)))
        found = self.handles[handle].index.snapshots(limit=limit, before=before)
        last = self.model.newest if before is None else before - 1
        expected = list(range(last, max(0, last - limit), -1))
        assert [one.snapshot for one in found] == expected[: len(found)]
        # The commit of the horizon itself may be gone: its snapshot says what came of it.
        assert len(found) >= sum(one > self.horizon for one in expected)
        for one in found:
            assert one.time_ms == round(self.model.history[one.snapshot][0] * 1000)
            assert (one.operation == "fold") == (one.snapshot in self.model.folds)

    @rule(handle=HANDLE, keys=st.lists(KEYS, max_size=12, unique=True))
    def get(self, handle, keys) -> None:
        self.at_newest().check_records(self.handles[handle].index.get(keys=keys), keys)
        self.handles[handle].sees(self.model.newest)

    @rule(handle=HANDLE, limit=st.sampled_from([1, 3, 10]))
    def begin_listing(self, handle, limit) -> None:
        self.listings.append(Listing(handle, limit, self.model.newest))

    @precondition(lambda self: self.listings)
    @rule(data=st.data(), pages=st.integers(1, 4), handle=HANDLE)
    def list_on(self, data, pages, handle) -> None:
        """A listing survives whatever is written between its pages, and a change of handle."""
        listing = data.draw(st.sampled_from(self.listings))
        index = self.handles[handle].index
        for _ in range(pages):
            page = index.list(
                cursor=listing.cursor, limit=listing.limit, include=("metadata", "vector")
            )
            truth = self.at_newest()
            for record in page.records:
                truth.check_record(record)
            listing.given += [record.key for record in page.records]
            listing.cursor = page.cursor
            if page.cursor is None:
                self.listings.remove(listing)
                self.listed(listing)
                break
            assert len(page.records) <= listing.limit
        self.handles[handle].sees(self.model.newest)

    def listed(self, listing: Listing) -> None:
        note(f"listed {listing}")
        assert len(set(listing.given)) == len(listing.given)
        now = self.clock.ms / 1000
        states = [self.model.at(i, now) for i in range(listing.began, self.model.newest + 1)]
        throughout = set.intersection(*(set(state.live()) for state in states))
        assert throughout <= set(listing.given)

    @rule(handle=HANDLE)
    def count(self, handle) -> None:
        stats = self.handles[handle].index.stats()
        # What has expired is counted until it is folded away.
        assert len(self.at_newest().live()) <= stats.rows <= len(self.model.rows)
        assert stats.snapshot == self.handles[handle].sees(self.model.newest)

    @rule(handle=HANDLE)
    def verify(self, handle) -> None:
        assert not self.handles[handle].index.verify().damages

    @invariant()
    def who_knows_nothing_finds_the_model(self) -> None:
        if hasattr(self, "model"):
            found = everything(self.connect(1).index)
            live = self.at_newest().live()
            assert found == {k: (v.tobytes(), dict(m)) for k, (v, m) in live.items()}


LivingIndex.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestLivingIndex = LivingIndex.TestCase


class LongLivingIndex(LivingIndex):
    """The same, for longer."""


LongLivingIndex.TestCase.settings = settings(
    max_examples=300, stateful_step_count=60, deadline=None
)
TestLongLivingIndex = pytest.mark.slow(LongLivingIndex.TestCase)


def test_who_read_long_ago_opens_the_oldest_snapshot_there_is(monkeypatch):
    """Though the commits between what it knows and that snapshot have been collected."""
    shrink(monkeypatch)
    clock = FakeClock()
    store = MemoryStore(clock)
    writer = connect(store, clock, 1).create_index(NAME, dimension=1)
    stale = [connect(store, clock, number).index(NAME) for number in range(2, 10)]
    for i, reader in enumerate(stale):
        writer.put(keys=[f"k{i}"], vectors=[[1]])
        reader.query([1])
    clock.sleep(2 * DAY_S)
    horizon = writer.gc(3600).horizon
    found = connect(store, clock, 10).index(NAME).query([1], as_of=horizon)
    for reader in stale:
        assert reader.query([1], as_of=horizon).matches == found.matches
