"""A search that is divided among processes answers as one process does, to the bit."""

from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_explained_queries import FILTERS, OPTIONS
from test_index_model import METRICS, SMALL

import squash
from amounts import examples
from dividing import PLENTY, Division, answer_apart, session_of
from forcing import codes_only
from squash.kernels import native
from squash.maintain import BuildOptions
from squash.planning import CostModel, Keep
from squash.quantize import PRESETS
from squash.search import Query, search, search_many
from squash.search.clusters import Clusters
from strategies import filters_for, metadata_rows

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(params=["as planned", "by codes", "by few codes"])
def plans(request, monkeypatch):
    """Let plans be made as ever; or always rank codes; or keep as few rows as may be, too."""
    if request.param == "as planned":
        yield
        return
    if request.param == "by few codes":
        keep_few(monkeypatch)
    with codes_only():
        yield


def keep_few(monkeypatch):
    """Let every level keep as few rows as may be."""
    monkeypatch.setattr("squash.segment.partition._LOW_SCAN_ROWS_MIN", 0)
    monkeypatch.setattr(Clusters, "keep", lambda _, k, __: Keep(low=k, refined=k, reach=0.0))


def make(metric, rows, dimension, seed, codec, whole=None):
    """Return an index with partitions, dead rows and fresh ones; equal vectors in some."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(rows), dimension)).astype(np.float32)
    if len(rows) and seed % 3 == 0:
        vectors = vectors[rng.integers(len(rows), size=len(rows))]
    keys = [f"k{i}" for i in range(len(rows))]
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=dimension, metric=metric, codec=codec
    )
    if rows:
        index.put(keys=keys, vectors=vectors, metadata=rows)
        index.optimize(options=SMALL)
    if seed % 2:
        index.delete(keys=keys[::5])
        index.put(keys=keys[1::7], vectors=vectors[1::7][::-1], metadata=rows[1::7])
    return index, rng


def same(one, other):
    """Tell whether matches are the same to the bit."""

    def plain(match):
        vector = None if match.vector is None else match.vector.tobytes()
        return match.key, match.distance, match.metadata, vector

    return [plain(m) for m in one] == [plain(m) for m in other]


DIVISIONS = st.builds(
    Division,
    slots=st.sampled_from([1, 2, 3, 9]),
    allocators=st.sampled_from([1, 1, 2, 5]),
    task_bytes=st.sampled_from([1, 8_000, PLENTY]),
    answer_bytes=st.sampled_from([30_000, PLENTY]),
    documents_bytes_max=st.sampled_from([0, 60, 2_000, PLENTY >> 1]),
    retained_bytes=st.sampled_from([1, 20_000, 1 << 28]),
    whole_bytes_max=st.sampled_from([0, 1_500, 1 << 28]),
    seed=st.integers(0, 1_000),
)


@settings(max_examples=examples(70), deadline=None, suppress_health_check=SHARED)
@given(
    data=st.data(),
    metric=st.sampled_from(METRICS),
    codec=st.sampled_from(list(PRESETS)),
    rows=metadata_rows(max_size=150),
    dimension=st.sampled_from([1, 2, 5, 16, 33]),
    division=DIVISIONS,
    seed=st.integers(0, 10_000),
)
def test_a_divided_search_is_a_search(plans, data, metric, codec, rows, dimension, division, seed):
    """Whatever the filters, slots, splits, order of answers, and what is retained or delivered."""
    index, rng = make(metric, rows, dimension, seed, codec)
    nodes = [
        session_of(index).parse(data.draw(st.one_of(st.none(), filters_for(rows))))
        for _ in range(2)
    ]
    queries = [
        Query(
            vector=rng.normal(size=dimension).astype(np.float32),
            k=data.draw(st.sampled_from([1, 2, 10, 60, 200])),
            node=nodes[place % 2],
            recall_target=data.draw(st.sampled_from([0.5, 0.95, 0.999])),
            exact=data.draw(st.sampled_from([False, False, True])),
            include_metadata=data.draw(st.booleans()),
            include_vector=data.draw(st.booleans()),
            explain=data.draw(st.booleans()),
        )
        for place in range(data.draw(st.integers(1, 5)))
    ]
    view = session_of(index).view("strong")
    whole = search_many(view, queries)
    for _ in range(2):  # cold, and warm
        apart = answer_apart(index, queries, division)
        for query, (matches, trace), (expected, told) in zip(queries, apart, whole, strict=True):
            assert same(matches, expected)
            assert (trace.examined, trace.passed) == (told.examined, told.passed)
            if not query.explain:
                continue
            names = [level.name for level in told.levels]
            assert [level.name for level in trace.levels] == names
            assert (trace.partitions_visited, trace.clusters_visited) == (
                told.partitions_visited,
                told.clusters_visited,
            )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("pruned", [False, True])
def test_a_certificate_is_never_given_wrongly(metric, variant, pruned, monkeypatch):
    """Where nothing is pruned, a divided search is certified if the whole one is; else it is not.

    What is pruned depends on the order of the rows seen, and so on the division.
    """
    if not pruned:
        monkeypatch.setattr(CostModel, "share_min", lambda *_: 2.0)
    rng = np.random.default_rng(11)
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=12, metric=metric)
    rows = [{"u": float(rng.random()), "group": f"{'abcd'[i % 4]}{i % 60}"} for i in range(1_500)]
    vectors = rng.standard_normal((1_500, 12)).astype(np.float32)
    index.put(keys=[f"k{i}" for i in range(1_500)], vectors=vectors, metadata=rows)
    index.optimize(options=OPTIONS)
    view = session_of(index).view("strong")
    certified = []
    with native.use(variant), codes_only():
        for filter_ in FILTERS:
            node = session_of(index).parse(filter_)
            for vector in rng.standard_normal((3, 12)).astype(np.float32):
                query = Query(vector, k=2, node=node, recall_target=0.999, explain=True)
                [(matches, trace)] = answer_apart(index, [query], Division(slots=4))
                alone, told = search(view, query)
                assert same(matches, alone)
                if not pruned:
                    assert trace.certified == told.certified
                [signs] = [level for level in trace.levels if level.name == "low-bit codes"]
                assert signs.candidates == signs.survivors or not trace.certified
                certified.append(trace.certified)
    assert any(certified) or pruned or metric == "dot"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("codec", list(PRESETS))
def test_just_the_same_rows_are_kept(metric, codec, monkeypatch):
    """Where as many rows are kept as are wanted, one more or another would show.

    A crowd of equal rows fills several partitions, so that estimates tie across them: which rows
    are kept is decided by their global numbers alone, and not by their keys.
    """
    keep_few(monkeypatch)
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(400, 24)).astype(np.float32)
    vectors[:150] = vectors[0]
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=24, metric=metric, codec=codec
    )
    index.put(keys=[f"k{i}" for i in rng.permutation(400)], vectors=vectors)
    index.optimize(options=SMALL)
    view = session_of(index).view("strong")
    near = np.concatenate([vectors[:1].repeat(6, axis=0), vectors[150:165]])
    noise = rng.normal(size=near.shape) * np.linspace(0.0, 1.0, len(near))[:, None]
    queries = [
        Query(vector, k=[1, 5, 50][place % 3], recall_target=0.9)
        for place, vector in enumerate((near + noise).astype(np.float32))
    ]
    with codes_only():
        apart = answer_apart(index, queries, Division(slots=2))
        whole = search_many(view, queries)
    for (matches, _), (expected, _) in zip(apart, whole, strict=True):
        assert same(matches, expected)


def test_larger_partitions_are_searched_alike():
    """Clusters of many blocks, pruned by their signs, with every kind of filter."""
    rng = np.random.default_rng(5)
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=20, metric="cosine"
    )
    middles = rng.normal(size=(60, 20)) * 2
    vectors = middles[rng.integers(60, size=12_000)] + rng.normal(size=(12_000, 20))
    index.put(
        keys=[str(i) for i in range(12_000)],
        vectors=vectors,
        metadata=[{"u": float(rng.random()), "group": "abcd"[i % 4]} for i in range(12_000)],
    )
    index.optimize(
        options=BuildOptions(
            partition_rows_target=2_000, cluster_rows_target=150, calibration_queries=50
        )
    )
    index.delete(keys=[str(i) for i in range(0, 12_000, 11)])
    view = session_of(index).view("strong")
    nodes = [session_of(index).parse(filter_) for filter_ in (*FILTERS, {"u": {"$lt": 0.001}})]
    queries = [
        Query(vectors[place].astype(np.float32) * 1.1, k=k, node=node, recall_target=0.99)
        for place, (k, node) in enumerate((k, node) for k in (1, 10, 300) for node in nodes)
    ]
    division = Division(slots=4, whole_bytes_max=1_000, documents_bytes_max=4_000)
    for _ in range(2):
        apart = answer_apart(index, queries, division)
        for (matches, _), (expected, _) in zip(apart, search_many(view, queries), strict=True):
            assert same(matches, expected)
