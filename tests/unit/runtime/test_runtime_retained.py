"""Retained data: one load for all who want the same, exact bytes, and nothing left of a failure."""

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from faults.fault_store import FaultStore, KilledError
from squash.errors import ChecksumError, UnavailableError
from squash.index.loading import Pages, Whole
from squash.model import ObjectRef
from squash.runtime import RetainedMemory, RetainedObjects
from squash.storage import CountingStore, MemoryStore

THREADS = 8


def stored(sizes):
    """A store with objects of these sizes, and their references."""
    store = MemoryStore()
    refs = []
    for i, size in enumerate(sizes):
        data = np.random.default_rng(i).bytes(size)
        store.put(f"segments/{i}", data)
        refs.append(ObjectRef(f"segments/{i}", size, zlib.crc32(data)))
    return store, refs


def length(data):
    return len(data)


def page(_, data):
    return bytes(data)


class GateStore:
    """Passes on to a store once the gate is open; tells when somebody waits there."""

    def __init__(self, store, failures=0):
        self.store, self.failures = store, failures
        self.gate, self.waiting = threading.Event(), threading.Event()
        self.calls = 0

    def get(self, key):
        self.calls += 1
        fails = self.calls <= self.failures
        self.waiting.set()
        self.gate.wait()
        if fails:
            raise UnavailableError("made to fail")
        return self.store.get(key)


def test_many_who_want_one_object_load_it_once():
    """The second waits for the first, and all get the same."""
    inner, (ref,) = stored([100])
    store = GateStore(inner)
    loader = RetainedObjects(store, bytes_max=1000, whole_bytes_max=0)
    with ThreadPoolExecutor(THREADS) as pool:
        found = [pool.submit(loader.load, ref, "n", lambda data: object()) for _ in range(THREADS)]
        store.waiting.wait()
        store.gate.set()
        assert len({id(one.result()) for one in found}) == 1
    assert store.calls == 1
    assert loader.retained_bytes == 100


def test_who_waited_for_a_failure_loads_for_himself():
    """The error goes to the one whose load it was; the others try on, and one of them succeeds."""
    inner, (ref,) = stored([100])
    store = GateStore(inner, failures=2)
    loader = RetainedObjects(store, bytes_max=1000, whole_bytes_max=0)
    with ThreadPoolExecutor(THREADS) as pool:
        found = [pool.submit(loader.load, ref, "n", length) for _ in range(THREADS)]
        store.waiting.wait()
        store.gate.set()
        errors = [one.exception() for one in found]
    assert sum(isinstance(error, UnavailableError) for error in errors) == 2
    assert store.calls == 3
    assert loader.retained_bytes == 100
    assert not loader._memory.flights


@settings(max_examples=examples(60, least=25), deadline=None)
@given(data=st.data())
def test_bytes_held_are_those_of_what_is_kept(data):
    """Whatever is loaded in whatever order, the account is the sum, within the bound."""
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=8))
    bound = data.draw(st.integers(1, 120))
    store, refs = stored(sizes)
    memory = RetainedMemory(bound)
    loader = RetainedObjects(store, memory=memory, whole_bytes_max=0)
    for _ in range(data.draw(st.integers(1, 20))):
        ref = data.draw(st.sampled_from(refs))
        if data.draw(st.booleans()):
            assert loader.load(ref, "n", length) == ref.bytes
            newest, size = (ref.key, None), ref.bytes
        else:
            first = data.draw(st.integers(0, ref.bytes - 1))
            last = data.draw(st.integers(first + 1, ref.bytes))
            (found,) = loader.load_pages(ref, [(first, last)], page)
            assert found == store.get(ref.key)[first:last]
            newest, size = (ref.key, (first, last)), last - first
        entries = memory._entries
        assert memory.bytes == sum(kept for _, kept in entries.values()) <= bound
        assert (("", *newest) in entries) == (size <= bound)


@pytest.mark.parametrize("error", [UnavailableError, KilledError])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failed_load_leaves_nothing_behind(error, when):
    """Of one round of several objects any call may fail: it is told, and a second try succeeds."""
    for at in range(4):
        inner, refs = stored([50, 60, 70, 300])
        store = FaultStore(inner, at=[at], when=when, error=lambda: error("made to fail"))
        loader = RetainedObjects(store, bytes_max=10_000, whole_bytes_max=0)
        wants = [Whole(ref) for ref in refs[:3]] + [Pages(refs[3], [(0, 10), (200, 300)], page)]
        with pytest.raises(error):
            loader.fetch(wants)
        memory = loader._memory
        assert memory.bytes == sum(kept for _, kept in memory._entries.values())
        assert not memory.flights
        loader.fetch(wants)
        assert memory.bytes == 50 + 60 + 70 + 110
        calls = len(store.log)
        loader.fetch(wants)
        assert len(store.log) == calls


def test_pages_of_which_one_is_damaged_are_not_kept():
    """What failed its check is not there, nor what came with it; the account is exact."""
    store, (ref,) = stored([300])
    loader = RetainedObjects(store, bytes_max=10_000, whole_bytes_max=0)

    def refuse(i, data):
        if i == 1:
            raise ChecksumError("made to fail")
        return bytes(data)

    with pytest.raises(ChecksumError):
        loader.load_pages(ref, [(0, 10), (10, 20)], refuse)
    assert loader.retained_bytes == 0
    assert loader.load_pages(ref, [(0, 10), (10, 20)], page)
    assert loader.retained_bytes == 20


def test_what_is_wanted_at_once_is_one_round():
    """Several objects in one call are one round, also through the threads that read them."""
    inner, refs = stored([50] * 40)
    store = CountingStore(inner)
    loader = RetainedObjects(store, bytes_max=10_000, whole_bytes_max=0)
    loader.fetch([Whole(ref) for ref in refs[:30]])
    assert (store.counts().requests, store.counts().rounds) == (30, 1)
    loader.fetch([Whole(ref) for ref in refs])
    assert (store.counts().requests, store.counts().rounds) == (40, 2)
    for ref in refs:
        loader.load(ref, "n", length)
    assert store.counts().requests == 40
    assert loader.counts() == (30 + 40, 0, 40)


def test_the_same_twice_in_one_call_is_read_once():
    """Wants that overlap share what is read."""
    inner, (ref,) = stored([300])
    store = CountingStore(inner)
    loader = RetainedObjects(store, bytes_max=10_000, whole_bytes_max=0)
    loader.fetch(
        [Pages(ref, [(0, 9), (9, 20), (0, 9)], page), Pages(ref, [(9, 20), (20, 30)], page)]
    )
    assert store.counts().bytes_in == 30
    assert loader.retained_bytes == 30


def test_loaders_that_share_memory_share_the_bound():
    """Keys of different indexes are told apart, and together they hold no more than the bound."""
    memory = RetainedMemory(150)
    loaders = []
    for seed in range(2):
        store = MemoryStore()
        data = bytes([seed]) * 100
        store.put("segments/x", data)
        ref = ObjectRef("segments/x", 100, zlib.crc32(data))
        loader = RetainedObjects(store, memory=memory, whole_bytes_max=0, namespace=f"{seed}/")
        loaders.append((loader, ref, data))
    for _ in range(2):
        for loader, ref, data in loaders:
            assert loader.load(ref, "bytes", bytes) == data
    assert memory.bytes == 100
    assert memory.evictions == 3


def test_what_is_derived_is_kept_only_where_there_is_room():
    """It counts, displaces nothing, and goes when others need its bytes."""
    store, refs = stored([40, 40, 30])
    loader = RetainedObjects(store, bytes_max=100, whole_bytes_max=1000)
    loader.load(refs[0], "x", length)
    assert not loader.keep_derived(refs[0], "list", 61)
    assert loader.keep_derived(refs[0], "list", 60)
    assert (loader.retained_bytes, loader.evictions) == (100, 0)
    loader.load(refs[0], "x", length)
    loader.load(refs[1], "x", length)
    assert (loader.retained_bytes, loader.evictions) == (80, 1)
