"""Reading a snapshot out: all of it, nothing else, whatever happens meanwhile."""

from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import squash
from amounts import examples
from simulated import Clock
from squash import limits
from squash.attributes import matches, parse_filter
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.errors import DataError, FilterError, InvalidArgumentError, NotFoundError
from squash.limits import SNAPSHOT_EVERY_COMMITS
from squash.maintain import BuildOptions
from squash.runtime import Settings
from squash.runtime.exporting import batch_rows
from squash.storage import CountingStore, MemoryStore
from strategies import filters_for, metadata_rows

SMALL = BuildOptions(
    partition_rows_target=24, partition_rows_max=40, cluster_rows_target=6, exact_rows_max=8
)


def create(dimension=3, location=None):
    database = squash.connect(location or f"memory://{uuid4().hex}")
    return database.create_index("x", dimension=dimension, metric="euclidean")


def rows_of(batches):
    """Key to vector bytes and metadata; each key once."""
    found = {}
    for batch in batches:
        assert batch.vectors.dtype == np.float32
        assert batch.vectors.flags.c_contiguous
        for key, vector, metadata in zip(batch.keys, batch.vectors, batch.metadata, strict=True):
            assert key not in found
            found[key] = (vector.tobytes(), dict(metadata))
    return found


def put(index, keys, seed=0, metadata=None):
    vectors = np.random.default_rng(seed).normal(size=(len(keys), index.config.dimension))
    vectors = vectors.astype(np.float32)
    metadata = metadata or [{"of": key, "seed": seed} for key in keys]
    index.put(keys=keys, vectors=vectors, metadata=metadata)
    return {
        key: (vector.tobytes(), meta)
        for key, vector, meta in zip(keys, vectors, metadata, strict=True)
    }


@settings(max_examples=examples(40, least=25), deadline=None)
@given(data=st.data(), rows=metadata_rows(max_size=80), batch=st.integers(1, 40))
def test_what_is_exported_is_what_passes_wherever_it_lies(data, rows, batch):
    """Partitions, flat segments and fresh rows; replaced and deleted ones are left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("squash.runtime.exporting.EXPORT_BATCH_ROWS_MAX", batch)
        filter_ = data.draw(st.one_of(st.none(), filters_for(rows)))
        index = create()
        expected = {}
        parts = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
        for part, metadata in enumerate(parts):
            keys = [f"{part}-{row}" for row in range(len(metadata))]
            if keys:
                expected |= put(index, keys, part, metadata)
            index.optimize(options=SMALL)
        for changed in data.draw(st.sets(st.sampled_from(sorted(expected) or ["none"]))):
            if data.draw(st.booleans()):
                index.delete(keys=[changed])
                expected.pop(changed, None)
            else:
                expected |= put(index, [changed], 9)
        node = parse_filter(filter_)
        batches = list(index.export_batches(filter=filter_))
        assert all(0 < len(one) <= batch for one in batches)
        assert rows_of(batches) == {
            key: row for key, row in expected.items() if matches(node, row[1])
        }


@pytest.mark.parametrize("begun", [False, True])
def test_an_export_sees_one_snapshot_for_its_whole_life(tmp_path, monkeypatch, begun):
    """It is that of the call, though it is read later, and everything is replaced and folded."""
    monkeypatch.setattr("squash.runtime.exporting.EXPORT_BATCH_ROWS_MAX", 7)
    index = create(location=str(tmp_path))
    expected = put(index, [f"k{row}" for row in range(90)], 1)
    index.optimize(options=SMALL)
    expected |= put(index, ["fresh", "k3"], 2)
    batches = index.export_batches()
    first = [next(batches)] if begun else []
    put(index, [f"k{row}" for row in range(50)], 3)
    index.delete(keys=[f"k{row}" for row in range(40, 90)])
    index.optimize(options=SMALL)
    put(index, ["later"], 4)
    assert rows_of([*first, *batches]) == expected
    assert batches.snapshot < index.stats().snapshot
    assert rows_of(index.export_batches(as_of=batches.snapshot)) == expected


def test_what_is_not_included_is_not_there():
    index = create()
    put(index, ["a", "b"])
    (keys,) = index.export_batches(include=())
    assert (sorted(keys.keys), keys.vectors.shape, keys.metadata) == (["a", "b"], (2, 0), [{}, {}])
    (vectors,) = index.export_batches(include="vector")
    assert (vectors.vectors.shape, vectors.metadata) == ((2, 3), [{}, {}])
    with pytest.raises(InvalidArgumentError):
        index.export_batches(include=["all"])
    with pytest.raises(FilterError):
        index.export_batches(filter={"$no": 1})


def test_an_empty_index_has_no_batches():
    assert list(create().export_batches()) == []


def test_progress_ends_with_all_of_the_snapshots_rows():
    index = create()
    put(index, [f"k{row}" for row in range(60)], metadata=[{"n": row} for row in range(60)])
    index.optimize(options=SMALL)
    put(index, ["fresh"], metadata=[{}])
    steps = []
    batches = index.export_batches(filter={"n": {"$lt": 20}}, progress=steps.append)
    assert len(rows_of(batches)) == 20
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert {(step.stage, step.total, step.unit) for step in steps} == {("export", 61, "rows")}
    assert steps[-1].done == 61


def test_an_export_reads_each_object_once_and_keeps_what_queries_retain(tmp_path):
    """Of every segment each object at most once; nothing of what is retained for queries goes."""
    index = create(location=str(tmp_path))
    put(index, [f"k{row}" for row in range(300)])
    index.optimize(options=SMALL)
    query = [0.0, 0.0, 0.0]
    index.query(query, exact=True)
    before = index._session._counted.counts()
    assert len(rows_of(index.export_batches())) == 300
    spent = index._session._counted.counts() - before
    segments = index._session._views.known().state.segments
    assert len(segments) > 5
    assert spent.requests <= 3 * len(segments) + 1
    assert index.query(query, exact=True).usage.store_bytes == 0


@pytest.mark.parametrize("share", [1, 40])
def test_an_export_of_a_remote_store_reads_no_byte_twice(share):
    """All of a partition is read whole, a few rows of it by their pages; neither again."""
    store = CountingStore(MemoryStore())
    made = Database(
        store, settings=Settings(whole_bytes_max=0), clock=SystemClock(), ids=SystemIds()
    )
    index = made.create_index("x", dimension=8, metric="euclidean")
    put(index, [f"k{row}" for row in range(9_000)], metadata=[{"n": r % 40} for r in range(9_000)])
    index.optimize(options=BuildOptions(partition_rows_target=4_500, partition_rows_max=9_000))
    reader = made.index("x")
    before = store.counts()
    found = rows_of(reader.export_batches(filter=None if share == 1 else {"n": 7}))
    assert len(found) == 9_000 // share
    spent = store.counts() - before
    stored = index.stats().stored_bytes
    assert spent.bytes_in <= stored
    assert spent.requests <= 60


def test_an_export_leaves_out_what_has_expired():
    """As it was at the snapshot's time, too."""
    clock = Clock()
    made = Database(MemoryStore(), settings=Settings(), clock=clock, ids=SystemIds())
    index = made.create_index("x", dimension=1, metric="euclidean", expires="until")
    until = clock.now_ms() / 1000 + 100
    put(index, ["a", "b"], metadata=[{"until": until}, {}])
    assert set(rows_of(index.export_batches())) == {"a", "b"}
    clock.sleep(100)
    assert set(rows_of(index.export_batches())) == {"b"}
    assert set(rows_of(index.export_batches(as_of=1))) == {"a", "b"}


@pytest.mark.parametrize("damaged", [False, True])
def test_an_export_that_is_slower_than_the_retention_is_told_so(damaged):
    """And that something is damaged, where it is not garbage collection that took it."""
    clock = Clock()
    store = MemoryStore(clock)
    made = Database(store, settings=Settings(), clock=clock, ids=SystemIds())
    index = made.create_index("x", dimension=3, metric="euclidean")
    put(index, [f"k{row}" for row in range(200)])
    index.optimize(options=SMALL)
    batches = index.export_batches()
    next(batches)
    if damaged:
        store.delete([info.key for info in store.list("") if "/segments/" in info.key])
        with pytest.raises(DataError, match="missing from the store"):
            rows_of(batches)
        return
    put(index, ["k0"], 1)
    index.optimize(options=SMALL, full=True)
    for row in range(SNAPSHOT_EVERY_COMMITS):
        put(index, [f"k{row}"], row)
    clock.sleep(2 * 86_400)
    assert index.gc().total.objects > 0
    with pytest.raises(NotFoundError, match="collected"):
        rows_of(batches)
    assert len(rows_of(index.export_batches())) == 200


@given(dimension=st.integers(1, limits.DIMENSION_MAX))
def test_a_batch_is_bounded_in_rows_and_bytes(dimension):
    rows = batch_rows(dimension)
    assert 1 <= rows <= limits.EXPORT_BATCH_ROWS_MAX
    assert rows * dimension * 4 <= limits.EXPORT_BATCH_BYTES_MAX
