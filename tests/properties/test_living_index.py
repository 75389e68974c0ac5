"""Whatever several handles do in whatever order: every reader finds what a dict would hold."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    SETTINGS,
    SMALL,
    STALENESS_MS,
    Handle,
    connect,
    everything,
    shrink,
)
from model import ModelHistory
from squash.errors import ConflictError
from squash.storage import MemoryStore

HANDLES = 3
HANDLE = st.integers(0, HANDLES - 1)
KEYS = st.sampled_from([f"k{i}" for i in range(40)])
SOME_KEYS = st.lists(KEYS, unique=True, max_size=30)
GROUPS = 5
SEED = st.integers(0, 1 << 16)
FILTER = st.one_of(
    st.none(),
    st.integers(0, GROUPS).map(lambda n: {"n": {"$lt": n}}),
    st.integers(0, GROUPS).map(lambda n: {"n": n}),
    st.integers(0, GROUPS).map(lambda n: {"$not": {"n": {"$gte": n}}, "even": True}),
)
TOP_K = st.sampled_from([1, 2, 7, 100])


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
        self.patch = pytest.MonkeyPatch()
        shrink(self.patch)
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.connected = 0
        self.steps = 0
        self.listings: list[Listing] = []

    def teardown(self) -> None:
        try:
            if hasattr(self, "model"):
                index = self.connect(0).index
                newest = self.at_newest()
                assert everything(index, limit=3).keys() == newest.rows.keys()
                newest.check_records(
                    index.get(keys=sorted(newest.rows)) if newest.rows else [], sorted(newest.rows)
                )
                assert not index.verify().damages
        finally:
            self.patch.undo()

    @initialize(metric=st.sampled_from(["cosine", "euclidean", "dot"]))
    def create(self, metric) -> None:
        connect(self.store, self.clock, self.next_number()).create_index(
            NAME, dimension=DIMENSION, metric=metric
        )
        self.model = ModelHistory(metric)
        self.handles = [self.connect(kind) for kind in range(HANDLES)]

    # What rules have in common

    def next_number(self) -> int:
        self.connected += 1
        return self.connected

    def connect(self, kind: int) -> Handle:
        kind %= len(SETTINGS)
        return Handle(connect(self.store, self.clock, self.next_number(), kind).index(NAME))

    def at_newest(self):
        return self.model.at(self.model.newest, self.clock.now_ms())

    def wrote(self, handle: int, operation: str, after, result) -> None:
        """Note a commit: it has the next number, and this handle knows of it."""
        number = self.model.commit(operation, after, self.clock.now_ms())
        assert result.snapshot == self.handles[handle].sees(number)

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
        return vectors, metadata

    # Writes

    @rule(handle=HANDLE, keys=SOME_KEYS, seed=SEED)
    def put(self, handle, keys, seed) -> None:
        vectors, metadata = self.rows(keys, seed)
        result = self.handles[handle].index.put(keys=keys, vectors=vectors, metadata=metadata)
        assert result.rows == len(keys)
        if not keys:
            self.unchanged(handle, result)
            return
        after = self.model.draft()
        after.put(keys, vectors, metadata)
        self.wrote(handle, "put", after, result)

    @rule(handle=HANDLE, other=HANDLE, keys=SOME_KEYS.filter(bool), seed=SEED)
    def put_and_repeat(self, handle, other, keys, seed) -> None:
        """A call repeated with its commit id, by whomever, changes nothing twice."""
        self.steps += 1
        commit_id = f"{self.steps:032x}"
        vectors, metadata = self.rows(keys, seed)
        call = {"keys": keys, "vectors": vectors, "metadata": metadata, "commit_id": commit_id}
        result = self.handles[handle].index.put(**call)
        after = self.model.draft()
        after.put(keys, vectors, metadata)
        self.wrote(handle, "put", after, result)
        again = self.handles[other].index.put(**call)
        assert self.model.newest <= again.snapshot
        self.handles[other].sees(again.snapshot)

    @rule(handle=HANDLE, keys=SOME_KEYS)
    def delete(self, handle, keys) -> None:
        result = self.handles[handle].index.delete(keys=keys)
        if not keys:
            self.unchanged(handle, result)
            return
        after = self.model.draft()
        after.delete(keys)
        self.wrote(handle, "delete", after, result)

    @rule(handle=HANDLE, filter_=FILTER.filter(bool))
    def delete_where(self, handle, filter_) -> None:
        gone = self.at_newest().passing(filter_)
        result = self.handles[handle].index.delete(filter=filter_)
        assert result.rows == len(gone)
        if not gone:
            self.unchanged(handle, result)
            return
        after = self.model.draft()
        after.delete(gone)
        self.wrote(handle, "delete", after, result)

    # Upkeep

    @rule(handle=HANDLE)
    def optimize(self, handle) -> None:
        self.folded(handle, self.handles[handle].index.optimize(options=SMALL))

    def folded(self, handle: int, result) -> None:
        """A fold changes no record; where nothing is new there is no commit."""
        assert self.model.newest <= result.snapshot <= self.model.newest + 1
        if result.snapshot > self.model.newest:
            self.wrote(handle, "fold", self.model.draft(), result)
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
        now = self.clock.now_ms()
        oldest = self.model.last_until(now - STALENESS_MS - 1)
        assert max(oldest, self.handles[handle].seen) <= answer.snapshot <= self.model.newest
        self.handles[handle].sees(answer.snapshot)
        self.model.at(answer.snapshot, now).check_exact(answer, vector, k, filter_)

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
        now = self.clock.now_ms()
        states = [self.model.at(i, now) for i in range(listing.began, self.model.newest + 1)]
        throughout = set.intersection(*(set(state.rows) for state in states))
        assert throughout <= set(listing.given)

    @rule(handle=HANDLE)
    def count(self, handle) -> None:
        stats = self.handles[handle].index.stats()
        assert stats.rows == len(self.at_newest().rows)
        assert stats.snapshot == self.handles[handle].sees(self.model.newest)

    @rule(handle=HANDLE)
    def verify(self, handle) -> None:
        assert not self.handles[handle].index.verify().damages

    @invariant()
    def who_knows_nothing_finds_the_model(self) -> None:
        if hasattr(self, "model"):
            newest = self.at_newest()
            found = everything(self.connect(1).index)
            assert found == {k: (v.tobytes(), dict(m)) for k, (v, m) in newest.rows.items()}


LivingIndex.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestLivingIndex = LivingIndex.TestCase


class LongLivingIndex(LivingIndex):
    """The same, for longer."""


LongLivingIndex.TestCase.settings = settings(
    max_examples=300, stateful_step_count=60, deadline=None
)
TestLongLivingIndex = pytest.mark.slow(LongLivingIndex.TestCase)
