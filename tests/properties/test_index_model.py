"""The whole index against a dict and brute force, with partitions small enough to be many."""

from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import squash
from amounts import examples
from forcing import codes_only
from living import SMALL
from model import ModelIndex
from squash.maintain import BuildOptions
from squash.planning import Keep
from squash.quantize import PRESETS
from squash.search.clusters import Clusters
from strategies import filters_for, metadata_rows

# The fixture only narrows cuts, and does so alike for every example.
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
METRICS = ["cosine", "euclidean", "dot"]


@pytest.fixture(params=["everywhere", "on the way"])
def narrow(request, monkeypatch):
    """Let every level cut as hard as it ever may, so that its guarantee is what holds.

    Filters are evaluated for all rows before the walk, or, as in large indexes, on the way.
    """
    monkeypatch.setattr("squash.segment.partition._LOW_SCAN_ROWS_MIN", 0)
    monkeypatch.setattr(Clusters, "keep", lambda _, k, __: Keep(low=k, refined=k, reach=0.0))
    # A filter is evaluated for all rows first if the cells leave more than this share open.
    share = 1.0 if request.param == "on the way" else -1.0
    for room in ("planning.costs", "search.admitting"):
        monkeypatch.setattr(f"squash.{room}.UNSURE_SHARE_MAX", share)
    with codes_only():
        yield


def make(metric, rows, dimension, seed, codec="residual", optimize=True):
    rng = np.random.default_rng(seed)
    keys = [f"k{i}" for i in range(len(rows))]
    vectors = rng.normal(size=(len(rows), dimension)).astype(np.float32)
    if len(rows) and seed % 3 == 0:  # twins: ties everywhere
        vectors = vectors[rng.integers(len(rows), size=len(rows))]
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=dimension, metric=metric, codec=codec
    )
    model = ModelIndex(metric)
    if rows:
        index.put(keys=keys, vectors=vectors, metadata=rows)
        model.put(keys, vectors, rows)
    if optimize:
        index.optimize(options=SMALL)
    return index, model, rng


@settings(max_examples=examples(120), deadline=None, suppress_health_check=SHARED)
@given(
    data=st.data(),
    metric=st.sampled_from(METRICS),
    codec=st.sampled_from(list(PRESETS)),
    rows=metadata_rows(max_size=150),
    dimension=st.sampled_from([1, 2, 5, 16, 33]),
    k=st.sampled_from([1, 2, 10, 60, 200]),
    recall=st.sampled_from([0.5, 0.95, 0.999]),
    seed=st.integers(0, 10_000),
)
def test_every_answer_keeps_its_promise(
    narrow, data, metric, codec, rows, dimension, k, recall, seed
):
    """Whatever the filter, however many partitions, however hard each level cuts."""
    filter_ = data.draw(st.one_of(st.none(), filters_for(rows)))
    index, model, rng = make(metric, rows, dimension, seed, codec)
    query = rng.normal(size=dimension).astype(np.float32)
    answer = index.query(query, top_k=k, filter=filter_, recall_target=recall, explain=True)
    model.check(answer, query, k, filter_)
    exact = index.query(query, top_k=k, filter=filter_, exact=True)
    model.check(exact, query, k, filter_)
    truth = model.query(query, k, filter_)
    np.testing.assert_allclose(
        [m.distance for m in exact.matches], [d for d, _ in truth], rtol=1e-9, atol=1e-9
    )
    if (
        answer.explain.certified
        and answer.explain.clusters_visited == answer.explain.clusters_total
    ):
        np.testing.assert_allclose(
            [m.distance for m in answer.matches], [d for d, _ in truth], rtol=1e-6, atol=1e-6
        )
    many = index.query_many([query, query], top_k=k, filters=[filter_, None], recall_target=recall)
    model.check(many[0], query, k, filter_)
    model.check(many[1], query, k, None)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.integers(0, 60), unique=True, max_size=40)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 70), unique=True, max_size=20)),
        st.tuples(st.just("delete where"), st.integers(0, 4)),
        st.tuples(st.just("optimize"), st.none()),
        st.tuples(st.just("reopen"), st.none()),
    ),
    min_size=1,
    max_size=9,
)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=SHARED)
@given(operations=OPERATIONS, metric=st.sampled_from(METRICS), seed=st.integers(0, 10_000))
def test_any_history_leaves_what_a_dict_would_hold(narrow, operations, metric, seed):
    """Puts, replacements, deletes and folds, on two handles: get, list and query agree."""
    rng = np.random.default_rng(seed)
    where = f"memory://{uuid4().hex}"
    first = squash.connect(where).create_index("x", dimension=4, metric=metric)
    second = squash.connect(where).index("x")
    model = ModelIndex(metric)
    for step, (operation, what) in enumerate(operations):
        index = (first, second)[step % 2]
        if operation == "put":
            keys = [f"k{i}" for i in what]
            vectors = rng.normal(size=(len(keys), 4)).astype(np.float32)
            metadata = [{"n": int(rng.integers(5)), "step": step} for _ in keys]
            index.put(keys=keys, vectors=vectors, metadata=metadata)
            model.put(keys, vectors, metadata)
        elif operation == "delete":
            index.delete(keys=[f"k{i}" for i in what])
            model.delete([f"k{i}" for i in what])
        elif operation == "delete where":
            gone = model.passing({"n": {"$gte": what}})
            assert index.delete(filter={"n": {"$gte": what}}).rows == len(gone)
            model.delete(gone)
        elif operation == "optimize":
            assert index.optimize(options=SMALL).rows == len(model.rows)
        else:
            first = squash.connect(where).index("x")
        query = rng.normal(size=4).astype(np.float32)
        for handle in (first, second):
            filter_ = {"n": {"$lte": 2}}
            model.check(handle.query(query, top_k=7, filter=filter_), query, 7, filter_)
    model.check(first.query(query, top_k=100), query, 100, None)
    assert first.stats().rows == len(model.rows)
    listed, cursor = [], None
    while True:
        page = second.list(cursor=cursor, limit=7, include=("metadata", "vector"))
        listed += page.records
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(r.key for r in listed) == sorted(model.rows)
    asked = [f"k{i}" for i in range(70)]
    got = first.get(keys=asked)
    assert [r.key for r in got] == [key for key in asked if key in model.rows]
    for record in [*listed, *got]:
        vector, metadata = model.rows[record.key]
        np.testing.assert_array_equal(record.vector, vector)
        assert record.metadata == metadata
    report = first.verify()
    assert not report.damages


def test_a_batch_tells_true_from_one(narrow):
    """Filters that Python takes for equal are still two filters."""
    rows = [{"a": True} if i % 2 else {"a": 1} for i in range(60)]
    index, model, rng = make("euclidean", rows, 3, 1)
    query = rng.normal(size=3)
    filters = [{"a": True}, {"a": 1}, {"a": 1.0}, {"a": True}]
    answers = index.query_many([query] * 4, filters=filters, top_k=50)
    for answer, filter_ in zip(answers, filters, strict=True):
        model.check(answer, query.astype(np.float32), 50, filter_)


def test_a_listing_survives_writes_and_folds_between_its_pages():
    """Records that are there throughout are listed exactly once."""
    index, model, rng = make("euclidean", [{"n": i} for i in range(120)], 4, 1, optimize=False)
    seen, cursor, page_number = [], None, 0
    while True:
        page = index.list(cursor=cursor, limit=10)
        seen += [r.key for r in page.records]
        cursor = page.cursor
        if cursor is None:
            break
        page_number += 1
        new = [f"new{page_number}-{i}" for i in range(5)]
        index.put(keys=new, vectors=rng.normal(size=(5, 4)))
        if page_number % 3 == 1:
            index.optimize(options=SMALL)
    old = [key for key in seen if key.startswith("k")]
    assert sorted(old) == sorted(model.rows)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("filter_", [{"n": {"$gte": 100}}, {"n": {"$in": [3, 50, 119]}}, {"m": 1}])
def test_a_listing_by_a_filter_has_full_pages_of_what_passes(filter_):
    """In every state of the rows: fresh, flat, in partitions, deleted."""
    index, _, rng = make("euclidean", [{"n": i} for i in range(120)], 4, 1)
    index.put(keys=["more", "other"], vectors=rng.normal(size=(2, 4)), metadata=[{"n": 200}, None])
    index.delete(keys=["k118"])
    answer = index.query(rng.normal(size=4), top_k=200, filter=filter_)
    wanted = {match.key for match in answer.matches}
    listed, cursor = [], None
    while True:
        page = index.list(cursor=cursor, limit=3, filter=filter_, include=())
        listed += [record.key for record in page.records]
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.records) == 3
    assert len(listed) == len(set(listed))
    assert set(listed) == wanted


def test_a_build_is_the_same_for_a_seed_and_holds_its_caps():
    """Two builds of the same rows write the same bytes; no partition passes the cap."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(700, 12)).astype(np.float32)
    vectors[:300] = vectors[0]  # a crowd of rows all alike
    written = []
    for _ in range(2):
        where = f"memory://{uuid4().hex}"
        index = squash.connect(where).create_index("x", dimension=12, metric="euclidean")
        index.put(keys=[str(i) for i in range(700)], vectors=vectors)
        index.optimize(options=SMALL)
        refs = index._session._views.known().state.segments
        assert max(ref.rows for ref in refs) <= SMALL.partition_rows_max
        assert sum(ref.rows for ref in refs) == 700
        assert len(refs) >= 700 / SMALL.partition_rows_max
        objects = sorted((n, r.bytes, r.crc32) for ref in refs for n, r in ref.objects.items())
        written.append(objects)
    assert written[0] == written[1]


@pytest.mark.parametrize("codec", PRESETS)
def test_a_sound_index_is_never_called_damaged(codec):
    """Where vectors do not reach, their codes are those of rounding, and that is no damage."""
    rng = np.random.default_rng(6)
    for dimension in (33, 63, 65, 96):
        axis = rng.normal(size=dimension)
        few = np.eye(dimension)[rng.integers(dimension, size=100)]
        for vectors in (few, axis * rng.choice([1, -1], size=(40, 1)), np.ones_like(few) * 0.3):
            index = squash.connect(f"memory://{uuid4().hex}").create_index(
                "x", dimension=dimension, metric="euclidean", codec=codec
            )
            index.put(keys=[str(i) for i in range(len(vectors))], vectors=vectors)
            index.optimize(options=SMALL)
            assert not index.verify().damages


def test_recall_reaches_its_target_on_clustered_data():
    """A small honest sample of what bench/ measures on real data: 20,000 rows in clusters."""
    rng = np.random.default_rng(8)
    middles = rng.normal(size=(200, 24)) * 2
    vectors = middles[rng.integers(200, size=20_200)] + rng.normal(size=(20_200, 24))
    vectors = vectors.astype(np.float32)
    base, queries = vectors[:20_000], vectors[20_000:]
    share = rng.random(20_000)
    index = squash.connect("memory://recall").create_index("x", dimension=24, metric="euclidean")
    index.put(
        keys=[str(i) for i in range(20_000)],
        vectors=base,
        metadata=[{"u": float(u)} for u in share],
    )
    index.optimize(options=BuildOptions(partition_rows_target=4_000, cluster_rows_target=100))
    for target in (0.95, 0.99):
        for selectivity in (1.0, 0.3, 0.15):
            filter_ = {"u": {"$lt": selectivity}}
            admitted = np.flatnonzero(share < selectivity)
            hits = 0
            for query, answer in zip(
                queries,
                index.query_many(queries, filters=filter_, recall_target=target),
                strict=True,
            ):
                true = admitted[np.argsort(((base[admitted] - query) ** 2).sum(axis=1))[:10]]
                hits += len({int(m.key) for m in answer.matches} & set(true.tolist()))
            assert hits / (10 * len(queries)) >= target
