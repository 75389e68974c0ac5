"""Many queries in one call are answered as one after another."""

from uuid import uuid4

import numpy as np
import pytest
from test_explained_queries import FILTERS, OPTIONS

import squash
from squash import kernels
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.kernels import native
from squash.limits import LOT_BYTES_MAX
from squash.runtime import Settings
from squash.runtime.warm_slots import WarmSlots
from squash.search import measuring, processing
from squash.search.allocating import allocate, tasks_of
from squash.search.found import Query
from squash.search.processing import process
from squash.storage import CountingStore, MemoryStore

# Kernels between the twins and the best are compared with these, to the bit, by tests of their own.
_BETWEEN = native.variants()[1:-1]
VARIANTS = [
    pytest.param(name, marks=pytest.mark.slow) if name in _BETWEEN else name
    for name in native.variants()
]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_many_queries_have_the_answers_of_single_ones(metric, variant):
    """Matches and usage are the same to the bit: one filter for all, one each, and rows to come."""
    rng = np.random.default_rng(8)
    count = 1_500
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=12, metric=metric)
    vectors = rng.standard_normal((count, 12)).astype(np.float32)
    vectors[100:112] = vectors[50]  # which tie
    rows = {
        "keys": [f"k{i}" for i in range(count)],
        "vectors": vectors,
        "metadata": [
            {"u": float(rng.random()), "group": f"{'abcd'[i % 4]}{i % 60}"} for i in range(count)
        ],
    }
    index.put(**rows)
    index.optimize(options=OPTIONS)
    index.delete(keys=[f"k{i}" for i in range(0, count, 9)])
    queries = rng.standard_normal((20, 12)).astype(np.float32)
    queries[3] = vectors[50]
    with native.use(variant):
        for include in ((), ("metadata", "vector")):
            _compare(index, queries, include)
        index.put(keys=["new"], vectors=rng.standard_normal((1, 12)), metadata=[{"u": 0.3}])
        for include in ((), ("metadata",)):
            _compare(index, queries, include)


def _compare(index, queries, include):
    asked = {"recall_target": 0.8, "top_k": 7, "include": include}
    for filters in (*FILTERS, [FILTERS[i % len(FILTERS)] for i in range(20)]):
        each = filters if isinstance(filters, list) else [filters] * 20
        singles = [
            index.query(query, filter=filter_, **asked)
            for query, filter_ in zip(queries, each, strict=True)
        ]
        together = index.query_many(queries, filters=filters, **asked)
        for one, single in zip(together, singles, strict=True):
            assert [_plain(match) for match in one.matches] == [*map(_plain, single.matches)]
            for name in ("rows_scanned", "vectors_read", "levels"):
                assert getattr(one.usage, name) == getattr(single.usage, name)


def _plain(match):
    vector = None if match.vector is None else match.vector.tolist()
    return match.key, match.distance, match.metadata, vector


def test_what_a_batch_asks_of_the_store_is_counted_once(tmp_path):
    """The usages of a batch sum to what was asked."""
    rng = np.random.default_rng(9)
    vectors = rng.standard_normal((600, 8)).astype(np.float32)
    index = squash.connect(str(tmp_path)).create_index("x", dimension=8, metric="euclidean")
    index.put(keys=[f"k{i}" for i in range(600)], vectors=vectors, metadata=[{}] * 600)
    index.optimize(options=OPTIONS)
    cold = squash.connect(str(tmp_path)).index("x").query_many(vectors[:3])
    assert cold[0].usage.store_bytes > 0
    assert [one.usage.store_bytes for one in cold[1:]] == [0, 0]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("retained_bytes", "lot_bytes"),
    [
        (1, 4_000),
        pytest.param(60_000, 1, marks=pytest.mark.slow),
        (1 << 28, LOT_BYTES_MAX),
    ],
)
def test_many_queries_of_a_remote_store_read_jointly(
    metric, variant, retained_bytes, lot_bytes, monkeypatch
):
    """Where vectors come by pages: the answers of single queries, cold, warm, and with all held.

    Also in lots, of some queries or one, and in groups of parts.
    """
    for module in (measuring, processing):
        monkeypatch.setattr(module, "LOT_BYTES_MAX", lot_bytes)
    rng = np.random.default_rng(8)
    count = 1_500
    store = MemoryStore()
    made = opened(store).create_index("x", dimension=12, metric=metric)
    vectors = rng.standard_normal((count, 12)).astype(np.float32)
    vectors[60:90] = vectors[60]
    made.put(
        keys=[f"k{i}" for i in range(count)],
        vectors=vectors,
        metadata=[
            {"u": float(rng.random()), "group": f"{'abcd'[i % 4]}{i % 60}"} for i in range(count)
        ],
    )
    made.optimize(options=OPTIONS)
    made.delete(keys=[f"k{i}" for i in range(0, count, 9)])
    made.put(keys=["new"], vectors=rng.standard_normal((1, 12)), metadata=[{"u": 0.3}])
    queries = rng.standard_normal((20, 12)).astype(np.float32)
    queries[3] = vectors[60]
    asked = {"recall_target": 0.8, "top_k": 7, "include": ("metadata", "vector")}
    with native.use(variant):
        alone = opened(store).index("x")
        together = opened(store, retained_bytes).index("x")
        for filters in (*FILTERS, [FILTERS[i % len(FILTERS)] for i in range(20)]):
            each = filters if isinstance(filters, list) else [filters] * 20
            singles = [
                alone.query(query, filter=filter_, **asked)
                for query, filter_ in zip(queries, each, strict=True)
            ]
            for _ in range(2):
                found = together.query_many(queries, filters=filters, **asked)
                assert [plain(one) for one in found] == [plain(one) for one in singles]
                assert [told(one) for one in found] == [told(one) for one in singles]
        if retained_bytes == 1 << 28:
            # New queries, too, ask the store for nothing but whether something was written.
            new = together.query_many(rng.standard_normal((3, 12)), **asked)
            assert new[0].usage.store_requests <= 2


def test_a_batch_holds_no_more_than_is_retained(monkeypatch):
    """Of an index larger than memory it held all that its queries took, until its end."""
    rng = np.random.default_rng(5)
    store = MemoryStore()
    made = opened(store).create_index("x", dimension=64, metric="euclidean")
    groups = np.repeat(10 * rng.standard_normal((8, 64)), 500, axis=0)
    vectors = (groups + rng.standard_normal((4_000, 64))).astype(np.float32)
    made.put(keys=[f"k{i}" for i in range(4_000)], vectors=vectors, metadata=[{}] * 4_000)
    made.optimize(options=OPTIONS)
    retained, lot = 100_000, 50_000
    for module in (measuring, processing):
        monkeypatch.setattr(module, "LOT_BYTES_MAX", lot)
    index = opened(store, retained, billed=True).index("x")
    clusters = index._session.view("strong").clusters
    held = []

    def noted(function):
        def called(*arguments, **options):
            table = clusters._table
            codes = sum(one.filled_bytes for one in table.kept.values())
            held.append(codes + sum(one.nbytes for one in table.vectors if one is not None))
            return function(*arguments, **options)

        return called

    for name in ("scan", "exact_distances"):
        monkeypatch.setattr(kernels, name, noted(getattr(kernels, name)))
    queries = vectors[::20] + rng.standard_normal((200, 64)).astype(np.float32)
    found = index.query_many(queries, top_k=10, recall_target=0.95, include=())
    assert len(found) == 200
    # What is put in was retained then, and of what came after it one lot's codes at most.
    assert 0 < max(held) <= retained + lot


def opened(store, retained_bytes=1 << 28, *, billed=False):
    """Open a store whose objects are read in pieces."""
    settings = Settings(retained_bytes_max=retained_bytes, billed=billed)
    return Database(store, settings=settings, clock=SystemClock(), ids=SystemIds())


def told(answer):
    """What is told of the levels; how many rows come to the merge depends on what is at hand."""
    usage = answer.usage
    return usage.rows_scanned, usage.vectors_read, usage.levels[:-1]


def plain(answer):
    return [(m.key, m.distance, m.metadata, m.vector.tobytes()) for m in answer.matches]


def test_a_batch_reads_in_few_rounds():
    """However many queries: heads, codes, two steps of vectors, documents."""
    rng = np.random.default_rng(9)
    store = MemoryStore()
    made = opened(store).create_index("x", dimension=8, metric="euclidean")
    vectors = rng.standard_normal((2_000, 8)).astype(np.float32)
    made.put(keys=[f"k{i}" for i in range(2_000)], vectors=vectors, metadata=[{}] * 2_000)
    made.optimize(options=OPTIONS)
    index = opened(store).index("x")
    index.stats()
    assert index.query_many(vectors[:50])[0].usage.store_rounds <= 8


@pytest.mark.parametrize("filter_", [None, {"u": {"$lt": 0.5}}])
def test_a_cold_query_reads_in_few_rounds(filter_):
    """Entry, snapshots, the newest with the log and what is trained, heads, codes, the finalists.

    With a filter, attributes before the heads; and one or two rounds more where what is read ahead
    was not all, as with such vectors, of which codes tell little. A processor has the last three.
    """
    rng = np.random.default_rng(10)
    store, count = MemoryStore(), 3_000
    made = opened(store).create_index("x", dimension=32, metric="euclidean")
    vectors = rng.standard_normal((count, 32)).astype(np.float32)
    made.put(
        keys=[f"k{i}" for i in range(count)],
        vectors=vectors,
        metadata=[{"u": i / count} for i in range(count)],
    )
    made.optimize(options=OPTIONS)
    partitions = made.stats().partitions
    assert partitions > 1
    rounds, processor_rounds = [], []
    for query in rng.standard_normal((12, 32)).astype(np.float32):
        counting = CountingStore(store)
        index = opened(counting, billed=True).index("x")
        before = counting.counts()
        assert before.requests == before.rounds == 1
        answer = index.query(query, filter=filter_, top_k=5)
        rounds.append(answer.usage.store_rounds)
        # Of a partition: attributes, a head, both arrays of codes in two ranges, and so its pages.
        assert answer.usage.store_requests <= 4 + 9 * partitions
        assert index.query(query, filter=filter_, top_k=5).usage.store_requests == 1
        view = index._session.view("eventual")
        asked = Query(query, 5, index._session.parse(filter_))
        for task in tasks_of(allocate(view, [asked]), [0] * partitions, prefix="").values():
            slot = WarmSlots(counting, settings=Settings(billed=True)).slot_of(view.entry.prefix)
            before = counting.counts()
            process(task, slot)
            processor_rounds.append((counting.counts() - before).rounds)
    attributes = filter_ is not None
    assert max(rounds) <= 7 + attributes
    assert np.median(rounds) <= 6.5 + attributes
    assert np.median(processor_rounds) <= 4
    assert max(processor_rounds) <= 5
