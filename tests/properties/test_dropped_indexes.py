"""An index that is dropped, and made again under its name, is so to all who have it open."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from fakes import FakeClock
from living import NAME, connect
from squash.api.opened import OpenIndexes
from squash.errors import ConflictError, NotFoundError
from squash.index import catalogue
from squash.limits import CATALOGUE_TRUSTED_MS
from squash.storage import CountingStore, MemoryStore

HANDLES = 3
KEYS = ("a", "b", "c")
handles = st.sampled_from(range(HANDLES))


class DiedError(BaseException):
    """The process ended: nothing in the library may catch it."""


class Dying:
    """Passes so many calls on to a store, and no more."""

    def __init__(self, store, calls):
        self.store = store
        self.calls = calls

    def __getattr__(self, name):
        def call(*args, **kwargs):
            if not self.calls:
                raise DiedError
            self.calls -= 1
            return getattr(self.store, name)(*args, **kwargs)

        return call


class Drops(RuleBasedStateMachine):
    """Containers, and handles of the library, of several processes, beside one dict."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.databases = [connect(self.store, self.clock, n, n) for n in range(HANDLES)]
        self.counted = [CountingStore(self.store) for _ in range(HANDLES)]
        self.containers = [
            OpenIndexes(database, counted, now_ms=self.clock.now_ms)
            for database, counted in zip(self.databases, self.counted, strict=True)
        ]
        self.model: dict[str, int] | None = None
        self.generation = 0
        self.held: dict[int, tuple[int, object]] = {}
        self.left = False  # of a drop that was broken off, to be dropped again

    @rule(handle=handles)
    def create(self, handle):
        if self.model is not None:
            with pytest.raises(ConflictError):
                self.databases[handle].create_index(NAME, dimension=2)
            return
        made = self.databases[handle].create_index(NAME, dimension=2)
        self.generation += 1
        self.held[handle] = (self.generation, made)
        self.model = {}

    @rule(handle=handles)
    def drop(self, handle):
        if self.model is None:
            with suppress(NotFoundError) if self.left else pytest.raises(NotFoundError):
                self.databases[handle].drop_index(NAME)
            self.left = False
            return
        self.databases[handle].drop_index(NAME)
        self.model, self.left = None, False

    @rule(calls=st.integers(0, 24))
    def drop_and_die(self, calls):
        """Who has it open tells if it was dropped before."""
        if self.model is None:
            return
        witness = self.databases[0].index(NAME)
        with suppress(DiedError):
            connect(Dying(self.store, calls), self.clock, HANDLES).drop_index(NAME)
        try:
            self.check(witness.query([1, 1], top_k=10))
        except NotFoundError:
            self.model, self.left = None, True

    @precondition(lambda self: self.model is not None)
    @rule(handle=handles)
    def hold(self, handle):
        self.held[handle] = (self.generation, self.databases[handle].index(NAME))

    @rule(handle=handles, key=st.sampled_from(KEYS), value=st.integers(1, 9))
    def put(self, handle, key, value):
        """By a container."""
        container = self.containers[handle]

        def work(index):
            index.put(keys=[key], vectors=[[value, 1]], metadata=[{"v": value}])

        if self.model is None:
            with pytest.raises(NotFoundError):
                container.write(NAME, work)
            return
        container.write(NAME, work)
        self.model[key] = value

    @rule(handle=handles, key=st.sampled_from(KEYS), value=st.integers(1, 9))
    def put_held(self, handle, key, value):
        """By a handle that was opened some time."""
        if handle not in self.held:
            return
        generation, index = self.held[handle]
        row = {"keys": [key], "vectors": [[value, 1]], "metadata": [{"v": value}]}
        if self.model is None or generation != self.generation:
            with pytest.raises(NotFoundError):
                index.put(**row)
            return
        index.put(**row)
        self.model[key] = value

    @rule(handle=handles, past=st.booleans())
    def ask(self, handle, past):
        """A container: the index that is there now, or that there is none."""
        container = self.containers[handle]

        def work(index):
            as_of = index.stats().snapshot if past else None
            return index.query([1, 1], top_k=10, as_of=as_of)

        if self.model is None:
            with pytest.raises(NotFoundError):
                container.read(NAME, work)
            return
        self.check(container.read(NAME, work))

    @rule(handle=handles)
    def ask_held(self, handle):
        if handle not in self.held:
            return
        generation, index = self.held[handle]
        if self.model is None or generation != self.generation:
            with pytest.raises(NotFoundError):
                index.query([1, 1], top_k=10)
            return
        self.check(index.query([1, 1], top_k=10))

    @rule(handle=handles, full=st.booleans())
    def fold(self, handle, full):
        if self.model is not None:
            self.databases[handle].index(NAME).optimize(full=full)

    @rule(handle=handles)
    def collect(self, handle):
        assert not self.databases[handle].gc(3_600).failed
        listed = [config.name for config in self.databases[handle].list_indexes()]
        assert listed == ([] if self.model is None else [NAME])

    @rule(minutes=st.sampled_from([1, 9, 12, 70, 25 * 60]))
    def wait(self, minutes):
        self.clock.sleep(60 * minutes)

    def check(self, answer):
        assert {one.key: one.metadata["v"] for one in answer.matches} == self.model


TestDrops = Drops.TestCase
TestDrops.settings = settings(max_examples=30, stateful_step_count=16, deadline=None)


@pytest.fixture
def opened():
    clock = FakeClock()
    store = MemoryStore(clock)
    index = connect(store, clock, 1).create_index(NAME, dimension=2)
    index.put(keys=["a"], vectors=[[1, 2]])
    counted = CountingStore(store)
    reader = connect(counted, clock, 2)
    container = OpenIndexes(reader, counted, now_ms=clock.now_ms)
    ask(container)
    return clock, store, counted, container


def ask(container):
    return container.read(NAME, lambda index: index.query([1, 2]))


def test_a_warm_query_asks_the_log_alone(opened):
    """One request; and one more, of the catalogue, where that was not looked at for a while."""
    clock, _, counted, container = opened
    asked = []
    for _ in range(25):
        before = counted.counts()
        usage = ask(container).usage
        asked.append((counted.counts() - before).requests)
        assert usage.store_requests == asked[-1]
        clock.sleep(60)
    assert sum(one == 1 for one in asked) == 23
    assert max(asked) <= 4  # the catalogue, and the log as who reads it anew


def test_what_an_older_release_dropped_is_not_answered_for_long(opened):
    """It left no tombstone: what was read is answered until the catalogue is looked at."""
    clock, store, _, container = opened
    keys = [info.key for info in store.list(f"{NAME}/")]
    store.delete(keys)
    clock.sleep(CATALOGUE_TRUSTED_MS / 1000 - 1)
    assert len(ask(container).matches) == 1
    clock.sleep(2)
    with pytest.raises(NotFoundError):
        ask(container)


def test_what_stays_of_a_dropped_index(opened):
    """The end of its log, for whoever saw an earlier commit lately, and nothing that is older."""
    clock, store, _, _ = opened
    database = connect(store, clock, 3)
    index = database.index(NAME)
    for number in range(8):
        clock.sleep(600)
        index.put(keys=[f"k{number}"], vectors=[[1, 2]])
    prefix = catalogue.load(store, NAME).prefix
    database.drop_index(NAME)
    left = [info.key for info in store.list(f"{NAME}/")]
    assert left == [f"{prefix}log/{number:020d}" for number in (7, 8, 9, 10)]
    with pytest.raises(NotFoundError):
        database.drop_index(NAME)
    clock.sleep(23 * 3_600)
    database.gc()
    assert left == [info.key for info in store.list(f"{NAME}/")]
    clock.sleep(2 * 3_600)
    database.gc()
    with suppress(StopIteration):
        pytest.fail(next(store.list(f"{NAME}/")).key)
