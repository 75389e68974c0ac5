"""Parts of a partition's objects are what the whole objects hold, however they are asked for."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from faults.fault_store import FaultStore
from squash.attributes import CellScheme, Columns
from squash.errors import ChecksumError, DataError, UnavailableError
from squash.index.attribute_parts import AttributeParts
from squash.index.prefetch import (
    prefetch_attributes,
    prefetch_codes,
    prefetch_documents,
    prefetch_heads,
    prefetch_rows,
    prefetch_vectors,
)
from squash.index.reader import SegmentReader
from squash.index.writer import write_segment
from squash.model import RowBatch
from squash.quantize import train_codec
from squash.runtime import RetainedObjects
from squash.segment import ClusterCodes, build_partition
from squash.storage import CountingStore, MemoryStore

DIMENSION = 24
SIZES = (70, 0, 1, 32, 33, 64, 5, 0, 400, 31, 300)
CLUSTERS = len(SIZES)
BEGINS = np.concatenate([[0], np.cumsum(SIZES)])
ROWS = int(BEGINS[-1])


def make_partition(seed):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((CLUSTERS, DIMENSION)).astype(np.float32)
    vectors = np.repeat(centers, SIZES, axis=0) + rng.standard_normal((ROWS, DIMENSION)) / 3
    batch = RowBatch(
        [f"k{seed}-{i}" for i in range(ROWS)],
        vectors.astype(np.float32),
        [{"n": i % 7} for i in range(ROWS)],
    )
    codec = train_codec(
        "residual", sample=batch.vectors, residuals=batch.vectors, space="l2", seed=1
    )
    columns = Columns.from_metadata(batch.metadata)
    objects = build_partition(
        batch,
        projected=codec.project(batch.vectors),
        centers=codec.project(centers),
        cluster_begins=BEGINS,
        codec=codec,
        cells=CellScheme.fit(columns),
        columns=columns,
    )
    return batch, codec, objects


PARTS = [make_partition(seed) for seed in range(4)]
CODEC = PARTS[0][1]
SPECS = CODEC.stored_specs


def world(*, bytes_max=1 << 30, without=(), store=None):
    """A counting store with four partitions, a loader and the readers of them."""
    inner = MemoryStore()
    refs = []
    for i, (_, _, objects) in enumerate(PARTS):
        kept = {name: data for name, data in objects.items() if name not in without}
        refs.append(write_segment(inner, f"{i:032x}", "partition", rows=ROWS, objects=kept))
    counting = CountingStore(inner if store is None else store(inner))
    loader = RetainedObjects(counting, bytes_max=bytes_max, whole_bytes_max=0)
    return counting, loader, [SegmentReader(ref, loader, dimension=DIMENSION) for ref in refs]


def whole_codes():
    _, _, readers = world(without=("head",))
    return [
        reader.partition(codec).codes for reader, (_, codec, _) in zip(readers, PARTS, strict=True)
    ]


WHOLE = whole_codes()
SOME = st.lists(st.integers(0, CLUSTERS - 1), max_size=6)


def assert_filled(found, whole, clusters):
    """The arrays have the full shape, and the clusters asked for are there."""
    for spec in SPECS:
        assert found[spec.name].shape == whole.arrays[spec.name].shape
        assert found[spec.name].dtype == np.uint8
    blocks = np.concatenate([[0], np.cumsum(-(-np.diff(BEGINS) // 32))])
    for cluster in clusters:
        for name, begins in (("full", BEGINS), ("blocks", blocks)):
            mine = slice(begins[cluster], begins[cluster + 1])
            np.testing.assert_array_equal(found[name][mine], whole.arrays[name][mine])


@settings(max_examples=examples(80, least=25), deadline=None)
@given(asked=st.lists(SOME, max_size=6), bytes_max=st.sampled_from([1, 9_000, 1 << 30]))
def test_codes_of_clusters_are_those_of_the_whole(asked, bytes_max):
    """Any clusters in any order, again and again, also where little can be retained."""
    _, loader, (reader, *_) = world(bytes_max=bytes_max)
    first = None
    for clusters in asked:
        found = reader.cluster_codes(np.array(clusters, dtype=np.int64), SPECS)
        first = found if first is None else first
        assert found is first  # as long as somebody has it
        assert_filled(found, WHOLE[0], clusters)
        memory = loader._memory
        assert memory.bytes == sum(size for _, size in memory._entries.values()) <= bytes_max
    if first is not None:
        head = reader.ref.objects["head"].bytes
        if bytes_max > 1 << 20:
            assert loader.retained_bytes == head + first.filled_bytes


def test_clusters_once_read_are_not_read_again():
    """A round for the head, one for the clusters, none for those that are there."""
    store, _, (reader, *_) = world()
    reader.cluster_codes(np.array([3, 4]), SPECS)
    assert store.counts().rounds == 2
    before = store.counts()
    reader.cluster_codes(np.array([4, 3]), SPECS)
    assert (store.counts() - before).requests == 0
    reader.cluster_codes(np.array([1, 7]), SPECS)  # no rows, so no bytes
    assert (store.counts() - before).requests == 0
    reader.cluster_codes(np.array([8, 5]), SPECS)  # most of the rows: the rest comes along
    reader.cluster_codes(np.arange(CLUSTERS), SPECS)
    assert (store.counts() - before).rounds == 1


def test_untouched_clusters_stay_zero():
    """What was not asked for is not there."""
    _, _, (reader, *_) = world()
    found = reader.cluster_codes(np.array([3]), SPECS)
    assert isinstance(found, ClusterCodes)
    assert not found["full"][: BEGINS[3]].any()
    assert not found["full"][BEGINS[4] :].any()
    assert found["full"][BEGINS[3] : BEGINS[4]].any()


@pytest.mark.parametrize("without", [(), ("head",)])
def test_a_cold_processor_needs_three_rounds(without):
    """Heads, codes, then vectors and documents, each of all partitions; then all is there."""
    store, loader, readers = world(without=without)
    clusters = np.array([3, 5])
    rows = np.array([5, 99, 700])
    prefetch_heads(readers)
    prefetch_codes([(reader, clusters) for reader in readers], SPECS)
    wanted = [(reader, rows) for reader in readers]
    prefetch_rows(vectors=wanted, documents=wanted)
    counts = store.counts()
    assert counts.rounds == (2 if without else 3)  # without a head, codes come whole with it
    read = loader.counts()
    for reader, whole, (batch, _, _) in zip(readers, WHOLE, PARTS, strict=True):
        head = reader.codes_head()
        np.testing.assert_array_equal(head.cluster_begins, BEGINS)
        np.testing.assert_array_equal(head.centers, whole.centers)
        assert (head.codec, head.codec_version) == ("residual", 2)
        assert_filled(reader.cluster_codes(clusters, SPECS), whole, clusters)
        np.testing.assert_array_equal(reader.vectors(rows), batch.vectors[rows])
        expected = [(batch.keys[row], batch.metadata[row]) for row in rows]
        assert reader.documents(rows) == expected
        assert reader.document_keys(rows) == [key for key, _ in expected]
    assert store.counts() == counts
    assert loader.counts().store == read.store


def test_each_prefetch_alone_gets_the_heads_it_lacks():
    """Two rounds from nothing: the heads, then what was asked for."""
    rows, clusters = np.array([5]), np.array([3])
    for ask in (
        lambda readers: prefetch_vectors([(reader, rows) for reader in readers]),
        lambda readers: prefetch_documents([(reader, rows) for reader in readers]),
        lambda readers: prefetch_codes([(reader, clusters) for reader in readers], SPECS),
    ):
        store, _, readers = world()
        ask(readers)
        assert store.counts().rounds == 2
    store, _, readers = world()
    prefetch_attributes([AttributeParts(reader, None) for reader in readers], {})
    assert store.counts().rounds == 1
    assert [reader.columns().rows for reader in readers] == [ROWS] * 4
    assert store.counts().rounds == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_a_fault_at_any_call_a_second_try_succeeds(when):
    """Nothing half is left: the account is exact, and what is read then is right."""
    clusters, rows = np.array([0, 4]), np.array([1, 800])
    for at in range(16):
        faulty = []

        def failing(inner, at=at, faulty=faulty):
            faulty.append(FaultStore(inner, at=[at], when=when))
            return faulty[0]

        _, loader, readers = world(store=failing)

        def ask(readers=readers):
            prefetch_codes([(reader, clusters) for reader in readers], SPECS)
            wanted = [(reader, rows) for reader in readers]
            prefetch_rows(vectors=wanted, documents=wanted)

        with pytest.raises(UnavailableError):
            ask()
        memory = loader._memory
        assert memory.bytes == sum(size for _, size in memory._entries.values())
        assert not memory.flights
        ask()
        calls = len(faulty[0].log)
        for reader, whole, (batch, _, _) in zip(readers, WHOLE, PARTS, strict=True):
            assert_filled(reader.cluster_codes(clusters, SPECS), whole, clusters)
            np.testing.assert_array_equal(reader.vectors(rows), batch.vectors[rows])
            assert [key for key, _ in reader.documents(rows)] == [batch.keys[r] for r in rows]
        assert len(faulty[0].log) == calls
        filled = sum(reader.held_codes(SPECS).filled_bytes for reader in readers)
        others = sum(s for (_, _, name), (_, s) in memory._entries.items() if name != "codes")
        assert memory.bytes == filled + others


def test_a_flipped_bit_in_a_cluster_is_told_and_leaves_nothing():
    """Only who reads the cluster is told; after a repair it is read."""
    store, loader, (reader, *_) = world()
    head = reader.codes_head()
    key = reader.ref.objects["codes"].key
    good = bytes(store.get(key))
    for array in head.arrays:
        start, stop = array.range_of(5)
        for at in (start, stop - 1):
            bad = good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :]
            store.put(key, bad)
            held = loader.retained_bytes
            with pytest.raises(ChecksumError, match="cluster 5") as raised:
                reader.cluster_codes(np.array([4, 5]), SPECS)
            assert raised.value.object_key == key
            assert loader.retained_bytes == held
    assert_filled(reader.cluster_codes(np.array([2]), SPECS), WHOLE[0], [2])
    store.put(key, good)
    assert_filled(reader.cluster_codes(np.array([4, 5]), SPECS), WHOLE[0], [4, 5])


def test_another_codec_is_refused():
    """Arrays of another width than the codec's never reach the kernels."""
    _, _, (reader, *_) = world()
    other = train_codec(
        "residual",
        sample=np.ones((4, DIMENSION), np.float32),
        residuals=np.ones((4, DIMENSION), np.float32),
        space="l2",
        seed=1,
        bits=5,
    )
    with pytest.raises(DataError, match="its codec has"):
        reader.cluster_codes(np.array([1]), other.stored_specs)


def test_references_are_of_what_is_there():
    """The tests' own objects are what their references say."""
    store, _, readers = world()
    for reader in readers:
        for ref in reader.ref.objects.values():
            assert (ref.bytes, ref.crc32) == (
                len(store.get(ref.key)),
                zlib.crc32(store.get(ref.key)),
            )
