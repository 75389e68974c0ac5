"""What is asked of S3: the goals of writes and warm queries, and what a cold reader asks for.

Where a number here changes, so does the table of docs/living.md.
"""

import numpy as np
import pytest

from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.limits import FLATTEN_COMMITS, SNAPSHOT_EVERY_COMMITS
from squash.runtime import Settings
from squash.storage import CountingStore, MemoryStore

DIMENSION = 16
ROWS = 5_000
RNG = np.random.default_rng(11)


def vectors(count):
    return RNG.standard_normal((count, DIMENSION)).astype(np.float32)


def connect(store):
    """Open a store as if it were S3: by pages, billed."""
    settings = Settings(whole_bytes_max=0, billed=True)
    return Database(store, settings=settings, clock=Clock(), ids=SystemIds())


def spent(store, work):
    before = store.counts()
    work()
    return store.counts() - before


@pytest.fixture(scope="module")
def folded():
    """An index in partitions, as it is stored."""
    store = MemoryStore()
    index = connect(store).create_index("x", dimension=DIMENSION)
    index.put(
        keys=[f"k{i}" for i in range(ROWS)],
        vectors=vectors(ROWS),
        metadata=[{"year": i % 40} for i in range(ROWS)],
    )
    index.optimize()
    return store


@pytest.fixture
def warm(folded):
    """A handle of its own on a copy of it, that has read and written once."""
    copy = MemoryStore()
    for info in folded.list(""):
        copy.put(info.key, folded.get(info.key))
    store = CountingStore(copy)
    index = connect(store).index("x")
    index.put(keys=["first"], vectors=vectors(1), if_absent=True)
    index.query(vectors(1)[0], filter={"year": 5})
    return store, index


ONE = {"keys": ["new"], "vectors": np.ones((1, DIMENSION))}
PUT, GET = {"put": 1}, {"get": 1}


@pytest.mark.parametrize(
    ("kinds", "work"),
    [
        (PUT, lambda index, _: index.put(**ONE)),
        (PUT, lambda index, _: index.put(keys=list("abc"), vectors=vectors(3))),
        (PUT, lambda index, _: index.put(**ONE, if_absent=True)),
        (PUT, lambda index, at: index.put(**ONE, if_snapshot=at)),
        (PUT, lambda index, _: index.patch(keys=["first"], metadata=[{"year": 1}])),
        (PUT, lambda index, _: index.delete(keys=["k7"])),
        (PUT | GET, lambda index, _: index.delete(filter={"year": 7})),
        (GET, lambda index, _: index.query(np.ones(DIMENSION), consistency="strong")),
        ({}, lambda index, _: index.query(np.ones(DIMENSION), consistency="eventual")),
        (GET, lambda index, _: index.get(keys=["first"])),
        (GET, lambda index, _: index.backlog()),
    ],
    ids=[
        "put", "put of three", "put if absent", "put if snapshot", "patch", "delete",
        "delete by filter", "strong query", "eventual query", "get", "backlog",
    ],
)  # fmt: skip
def test_requests_of_a_warm_process(warm, kinds, work):
    """A small write is one PUT, a strong read one GET above what it reads, an eventual one none."""
    store, index = warm
    index.query(np.ones(DIMENSION))
    snapshot = index.backlog().snapshot
    assert spent(store, lambda: work(index, snapshot)).by_kind == kinds


def test_a_warm_patch_of_what_is_in_a_partition_reads_its_record(warm):
    """Its vector and document are read by pages, in one round, and the whole row is put."""
    store, index = warm
    counts = spent(store, lambda: index.patch(keys=["k77"], metadata=[{"year": 2}]))
    assert counts.by_kind["put"] == 1
    assert counts.rounds <= 3
    assert sum(counts.by_kind.values()) <= 4


def test_what_puts_cost_on_the_average():
    """Each 63 puts are followed by one flattening and one snapshot: 1.1 PUTs a put in all."""
    store = CountingStore(MemoryStore())
    index = connect(store).create_index("x", dimension=DIMENSION)
    index.backlog()

    def put_many():
        for i in range(10 * FLATTEN_COMMITS):
            index.put(keys=[f"k{i}"], vectors=vectors(1))

    kinds = spent(store, put_many).by_kind
    puts, periods = 10 * FLATTEN_COMMITS, 10
    # A flat segment has four objects; its commit and the snapshot are one each.
    assert kinds["put"] == puts + 6 * periods
    assert kinds["list"] == periods
    assert kinds["get"] + kinds.get("range", 0) <= 7 * periods


@pytest.mark.parametrize(
    ("commits", "requests", "rounds"),
    [(0, 6, 2), (10, 12, 3), (63, 3, 2), (64, 4, 3), (127, 4, 3), (1_000, 58, 3)],
)
def test_opening_an_index_cold(commits, requests, rounds):
    """It does not grow with what was ever written: a snapshot, and what a listing tells after it.

    Beside these `index.json` is read, in a round before."""
    data = MemoryStore()
    index = connect(data).create_index("x", dimension=DIMENSION)
    for i in range(commits):
        index.put(keys=[f"k{i}"], vectors=vectors(1))
    store = CountingStore(data)
    reader = connect(store).index("x")
    counts = spent(store, reader.backlog)
    assert (counts.requests, counts.rounds) == (requests, rounds)
    assert reader.backlog().rows == commits
    # And what is fresh stays few, whatever was written.
    assert len(reader._session._views.known().state.fresh) < FLATTEN_COMMITS


def test_opening_costs_no_more_after_any_number_of_writes():
    """Whatever their kind and order, a cold reader asks for a bounded number of objects."""
    data = MemoryStore()
    index = connect(data).create_index("x", dimension=DIMENSION)
    worst = 0
    for i in range(5 * SNAPSHOT_EVERY_COMMITS):
        if i % 3:
            index.put(keys=[f"k{i % 50}"], vectors=vectors(1))
        else:
            index.delete(keys=[f"k{i % 7}"])
        if i % 9 == 0:
            store = CountingStore(data)
            connect(store).index("x").backlog()
            worst = max(worst, store.counts().requests)
    assert worst <= 2 * SNAPSHOT_EVERY_COMMITS + FLATTEN_COMMITS + 20


def test_requests_of_a_fold_do_not_depend_on_its_rows(folded):
    """It reads each segment whole and writes each partition whole: a request an object."""
    copy = MemoryStore()
    for info in folded.list(""):
        copy.put(info.key, folded.get(info.key))
    store = CountingStore(copy)
    index = connect(store).index("x")
    index.put(keys=["new"], vectors=vectors(1))
    kinds = spent(store, index.optimize).by_kind
    assert kinds["put"] <= 6 + 1 + 1 + 1  # a partition's objects, trained, the commit, a snapshot
    assert kinds["get"] + kinds.get("range", 0) <= 16
