"""Whatever several handles do in whatever order: every reader finds what a dict would hold."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import note, settings
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)
from living_writes import (
    DAY_S,
    EPOCH,
    FILTER,
    HANDLE,
    KEYS,
    SEED,
    TOP_K,
    Listing,
    LivingWrites,
)

from fakes import FakeClock
from living import (
    DIMENSION,
    NAME,
    STALENESS_MS,
    connect,
    everything,
    shrink,
)
from squash.errors import NotFoundError
from squash.storage import MemoryStore


class LivingIndex(LivingWrites):
    """And whatever is read of it, at any time of its history, is what the dict held."""

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


LivingIndex.TestCase.settings = settings(max_examples=16, stateful_step_count=22, deadline=None)
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
