"""An object that is read in pieces is read whole once that would have been the cheaper choice."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.errors import ChecksumError
from squash.index.loading import Pages
from squash.limits import MIB
from squash.model import ObjectRef
from squash.planning.wholes import better_whole, charge
from squash.runtime import RetainedObjects
from squash.storage import CountingStore, MemoryStore

BYTES = st.integers(0, 200 * MIB)


@given(st.lists(st.integers(1, 20 * MIB), min_size=1, max_size=300), st.integers(1, 200 * MIB))
def test_no_more_than_twice_the_least_is_spent(reads, size):
    """Pieces until they cost as much as the object; the first read is never whole."""
    charged = spent = 0
    reads = [min(missing, size) for missing in reads]
    for place, missing in enumerate(reads):
        if better_whole(
            charged=charged, missing_bytes=missing, object_bytes=size, retained=60, bytes_max=100
        ):
            assert place
            spent += charge(size)
            break
        charged += charge(missing)
        spent += charge(missing)
    least = min(sum(map(charge, reads)), charge(size))
    assert spent <= 2 * least


@given(BYTES, BYTES, BYTES)
def test_nothing_is_bought_that_fills_memory(charged, missing, size):
    """Nor is anything dearer while memory is mostly empty."""
    asked = {"charged": charged, "missing_bytes": missing, "object_bytes": size, "bytes_max": 100}
    assert not better_whole(**asked, retained=91)
    assert better_whole(**asked, retained=50) >= better_whole(**asked, retained=51)


def test_pages_are_let_go_for_the_whole():
    """Then no range of the object is asked for any more, and its bytes are counted once."""
    data = np.random.default_rng(1).bytes(100_000)
    inner = MemoryStore()
    inner.put("segments/x", data)
    store = CountingStore(inner)
    ref = ObjectRef("segments/x", len(data), zlib.crc32(data))
    loader = RetainedObjects(store, bytes_max=1_000_000, whole_bytes_max=0)
    ranges = [(i, i + 1_000) for i in range(0, 5_000, 1_000)]

    def page(_, found):
        return bytes(found)

    assert not loader.takes_whole(ref, ranges)
    loader.fetch([Pages(ref, ranges, page)])
    assert loader.retained_bytes == 5_000
    assert not loader.takes_whole(ref, ranges)  # all of them are here
    assert loader.takes_whole(ref, [(50_000, 51_000)])
    assert loader.load(ref, "bytes", bytes) == data
    assert loader.retained_bytes == len(data)
    assert loader.takes_whole(ref, ranges)
    assert loader.holds_whole(ref)
    before = store.counts().requests
    assert loader.load(ref, "bytes", bytes) == data
    assert store.counts().requests == before


def test_damage_is_told_once_to_who_need_not_read_it():
    """A damaged object is read in pieces again, as far as those are whole."""
    data = np.random.default_rng(1).bytes(100_000)
    store = MemoryStore()
    store.put("segments/x", data[:-1] + bytes([data[-1] ^ 1]))
    ref = ObjectRef("segments/x", len(data), zlib.crc32(data))
    loader = RetainedObjects(store, bytes_max=1_000_000, whole_bytes_max=0)
    loader.load_pages(ref, [(0, 1_000)], lambda _, found: bytes(found))
    assert loader.takes_whole(ref, [(1_000, 2_000)])
    with pytest.raises(ChecksumError):
        loader.load(ref, "bytes", bytes)
    assert not loader.takes_whole(ref, [(1_000, 2_000)])
    assert loader.load_pages(ref, [(1_000, 2_000)], lambda _, found: bytes(found)) == [
        data[1_000:2_000]
    ]
