"""A tree of functions answers as one process does, to the bit, or says rightly why not."""

from __future__ import annotations

import threading
from base64 import b64encode
from contextlib import nullcontext
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from forcing import codes_only
from in_process import Fault, InProcessInvoker
from roles import Roles
from simulated import START_MS, Fate, fates
from squash.attributes import expired, live_node, only_live, parse_filter
from squash.clock import SystemClock, SystemIds
from squash.errors import (
    InternalError,
    PartialAnswerError,
    SquashError,
    ThrottledError,
    UnavailableError,
)
from squash.maintain import BuildOptions
from squash.planning.shape import FAN_OUT, Shape
from squash.planning.slots import slot_names
from squash.planning.tree import Tree
from squash.search import Query, keys_passing, search_many
from squash.search.calls import Calling, CallPolicy
from squash.search.events import Answered, answer_event, error_event, open_request
from squash.search.exchange import ThreadExchange, thread_pool
from squash.search.homes import homes_of
from squash.search.messages import read_task

DIMENSION = 6
SMALL = BuildOptions(
    partition_rows_target=24,
    partition_rows_max=40,
    cluster_rows_target=6,
    calibration_queries=20,
    exact_rows_max=8,
)
FILTERS = [None, {"n": {"$gte": 3}}, {"n": 1}, {"$or": [{"n": 0}, {"tag": "b"}]}, {"n": 77}]
FATES = st.builds(
    Fate,
    st.sampled_from(["ok"] * 8 + ["fail", "throttle", "lose"]),
    st.sampled_from([0] * 6 + [30, 400, 30_000]),
    st.booleans(),
)
SHAPES = st.one_of(
    st.just(FAN_OUT),
    st.builds(Tree, st.integers(1, 3), st.integers(1, 3)).map(lambda tree: Shape("tree", tree)),
)


def filled(roles: Roles, name: str = "x"):
    """Make an index with partitions, dead rows, and rows that are only in the log."""
    rng = np.random.default_rng(11)
    index = roles.database().create_index(name, dimension=DIMENSION, metric="euclidean")
    vectors = rng.normal(size=(300, DIMENSION)).astype(np.float32)
    vectors[50:80] = vectors[50]
    metadata = [{"n": i % 7, "tag": "abc"[i % 3]} for i in range(300)]
    index.put(keys=[f"k{i}" for i in range(300)], vectors=vectors, metadata=metadata)
    index.optimize(options=SMALL)
    index.delete(keys=[f"k{i}" for i in range(0, 300, 11)])
    index.put(keys=[f"f{i}" for i in range(9)], vectors=vectors[:9] + 0.01)
    assert index.stats().partitions > 8
    return index


@pytest.fixture(scope="module", autouse=True)
def _every_slot():
    """Let few partitions be spread over all slots."""
    with patch("squash.planning.slots.SLOT_PARTITIONS", 1):
        yield


@pytest.fixture(scope="module")
def warm():
    roles = Roles()
    return roles, filled(roles)


def make_queries(seed: int, count: int, **more) -> list[Query]:
    rng = np.random.default_rng(seed)
    nodes = [parse_filter(filter_, non_filterable=()) for filter_ in FILTERS]
    return [
        Query(
            vector=rng.normal(size=DIMENSION).astype(np.float32),
            k=int(rng.integers(1, 12)),
            node=nodes[rng.integers(len(nodes))],
            recall_target=float(rng.choice([0.8, 0.95])),
            exact=bool(rng.random() < 0.1),
            include_vector=bool(rng.random() < 0.3),
            include_metadata=bool(rng.random() < 0.7),
            **more,
        )
        for _ in range(count)
    ]


def plain(matches):
    return [
        (m.key, m.distance, m.metadata, None if m.vector is None else m.vector.tobytes())
        for m in matches
    ]


def told(trace):
    """What a trace tells of the query; how many rows pass the codes depends on who sees which."""
    names = [level.name for level in trace.levels]
    return (trace.plan, names, trace.examined, trace.passed, trace.clusters_visited,
            trace.partitions_visited, trace.predicted, trace.costs_us)  # fmt: skip


@given(SHAPES, st.integers(0, 60), st.integers(0, 1000), st.integers(1, 5))
@settings(max_examples=examples(40), deadline=None)
def test_every_shape_answers_the_same(warm, shape, count, seed, slots):
    """Matches, and what is told of the levels on the way, are those of one process."""
    roles, index = warm
    view = index._session.view("strong")
    queries = make_queries(seed, count)
    roles.slots = slots
    searcher, world = roles.simulated(fates(), shape)
    found = searcher.search(view, queries)
    alone = search_many(view, queries)
    assert [plain(m) for m, _ in found] == [plain(m) for m, _ in alone]
    for (_, one), (_, other) in zip(found, alone, strict=True):
        assert told(one) == told(other)
    if queries:
        assert found[0][1].spent.invocations == len(world.cloud.seen)
        assert all(trace.spent is None for _, trace in found[1:])


@pytest.mark.parametrize("shape", [FAN_OUT, Shape("tree", Tree(2, 2))])
def test_an_index_in_a_vector_bucket_is_searched_by_every_shape(shape):
    """Messages name its place, which functions take for an index's."""
    roles = Roles()
    roles.database().vector_buckets.create("med.ia")
    index = filled(roles, "med.ia/papers-1.0")
    view = index._session.view("strong")
    queries = make_queries(5, 20)
    searcher, world = roles.simulated(fates(), shape)
    found = searcher.search(view, queries)
    assert world.cloud.seen
    assert [plain(m) for m, _ in found] == [plain(m) for m, _ in search_many(view, queries)]


@pytest.fixture(scope="module")
def expiring():
    roles = Roles()
    rng = np.random.default_rng(12)
    index = roles.database().create_index(
        "x", dimension=DIMENSION, metric="euclidean", expires="gone_at"
    )
    vectors = rng.normal(size=(300, DIMENSION)).astype(np.float32)
    metadata = [
        {"n": i % 7, "tag": "abc"[i % 3]} | ({"gone_at": START_MS / 1000 + i % 5} if i % 4 else {})
        for i in range(300)
    ]
    index.put(keys=[f"k{i}" for i in range(300)], vectors=vectors, metadata=metadata)
    index.optimize(options=SMALL)
    return roles, index


@given(SHAPES, st.integers(1, 30), st.integers(0, 1000), st.integers(-1, 10))
@settings(max_examples=examples(40), deadline=None)
def test_every_shape_knows_what_has_expired(expiring, shape, count, seed, half_seconds):
    """Whoever searches leaves out the same records, and finds the same of the others."""
    roles, index = expiring
    view = index._session.view("strong")
    now_ms = START_MS + 500 * half_seconds
    live = live_node(index.config, now_ms)
    queries = make_queries(seed, count)
    nodes = {id(one.node): only_live(one.node, live) for one in queries}
    queries = [
        one.of(one.vector, nodes[id(one.node)])._replace(include_metadata=True) for one in queries
    ]
    with codes_only() if seed % 2 else nullcontext():
        searcher, _ = roles.simulated(fates(), shape)
        found = searcher.search(view, queries)
        alone = search_many(view, queries)
        one_by_one = [search_many(view, [query])[0] for query in queries]
    assert [plain(m) for m, _ in found] == [plain(m) for m, _ in alone]
    assert [plain(m) for m, _ in found] == [plain(m) for m, _ in one_by_one]
    for (_, one), (_, other), (_, third) in zip(found, alone, one_by_one, strict=True):
        assert told(one) == told(other)
        assert one.predicted == third.predicted
    passing = {id(node): len(keys_passing(view, node)) for node in nodes.values()}
    for (matches, _), query in zip(found, queries, strict=True):
        assert len(matches) == min(query.k, passing[id(query.node)])
        assert not any(expired(index.config, match.metadata, now_ms) for match in matches)


@given(
    SHAPES, st.integers(1, 30), st.integers(0, 1000), st.lists(FATES, max_size=40),
    st.booleans(), st.sampled_from([60, 1_000, 20_000]),
)  # fmt: skip
@settings(max_examples=examples(60), deadline=None)
def test_whatever_happens(warm, shape, count, seed, first, allow_partial, left_ms):
    """Over random trees, queries and failures: the same answers, or an error with its reason."""
    roles, index = warm
    roles.slots = 3
    view = index._session.view("strong")
    queries = make_queries(seed, count, allow_partial=allow_partial, deadline_ms=START_MS + left_ms)
    searcher, world = roles.simulated(fates(*first), shape)
    try:
        found = searcher.search(view, queries)
    except SquashError as error:
        assert isinstance(error, PartialAnswerError | ThrottledError)
        assert not allow_partial
        fine = all(replace(one.fate, cold=False) == Fate() for one in world.cloud.seen)
        assert left_ms == 60 or not fine
        return
    finally:
        assert world.clock.ms <= START_MS + left_ms
    alone = search_many(view, queries)
    for query, (matches, trace), (want, _) in zip(queries, found, alone, strict=True):
        if not trace.missing:
            assert plain(matches) == plain(want)
        else:
            assert allow_partial
            assert not trace.certified
            assert len(matches) <= query.k
            assert len({match.key for match in matches}) == len(matches)


@pytest.mark.parametrize("shape", [FAN_OUT, Shape("tree", Tree(2, 2))])
def test_a_partition_that_is_lost_is_named(warm, shape):
    """If a slot's processor never answers, the queries that needed it name its partitions."""
    roles, index = warm
    roles.slots = 3
    view = index._session.view("strong")
    queries = make_queries(5, 12, allow_partial=True)
    cloud = roles.cloud(fates())
    process = cloud.handlers["processor"]
    homes = zip(view.partitions, homes_of(view, slot_names(3)), strict=True)
    away = {partition.reader.ref.id for partition, slot in homes if slot == "slot-1"}

    def process_some(world, event):
        task = read_task(open_request(event, "process").body)
        if {part.segment.id for part in task.parts} & away:
            return error_event(UnavailableError("S3 is away"))
        return process(world, event)

    cloud.handlers["processor"] = process_some
    searcher = roles.searcher(cloud.world(START_MS).calling, shape)
    found = searcher.search(view, queries)
    alone = search_many(view, queries)
    assert any(trace.missing for _, trace in found)
    for (matches, trace), (want, _) in zip(found, alone, strict=True):
        assert set(trace.missing) <= away
        assert trace.missing or plain(matches) == plain(want)


@pytest.mark.parametrize("role", ["allocator", "processor"])
@pytest.mark.parametrize("side", ["asked", "answered"])
def test_messages_of_another_release_are_not_taken_for_damage(warm, role, side):
    """While a release is deployed nobody is told that what is stored has to be mended."""
    roles, index = warm
    cloud = roles.cloud(fates())
    handle = cloud.handlers[role]

    def of_another(world, event):
        if side == "answered":
            return answer_event(Answered(b"another release"))
        return handle(world, event | {"body": b64encode(b"another release").decode()})

    cloud.handlers[role] = of_another
    shape = FAN_OUT if role == "processor" else Shape("tree", Tree(2, 1))
    searcher = roles.searcher(cloud.world(START_MS).calling, shape)
    # Who is asked has it tried again; who cannot read an answer would get the same one again.
    error = UnavailableError if side == "asked" else InternalError
    with pytest.raises(error, match="one release"):
        searcher.search(index._session.view("strong"), make_queries(5, 12))


class FaultsOnce(InProcessInvoker):
    """Faults befall what is asked for the first time: who asks again is answered.

    Calls come as threads have time for them: else the repetition of one could meet a fault, too.
    """

    def __init__(self, handlers, *, clock, faults):
        super().__init__(handlers, clock=clock, faults=faults, memory_mb=1024)
        self._again = InProcessInvoker(handlers, clock=clock, memory_mb=1024)
        self._seen, self._seeing = set(), threading.Lock()

    def invoke(self, role, payload, *, slot, timeout_s):
        with self._seeing:
            first = payload not in self._seen
            self._seen.add(payload)
        call = super().invoke if first else self._again.invoke
        return call(role, payload, slot=slot, timeout_s=timeout_s)


def test_threads_and_faults():
    """The same with threads, real time, and a face: calls fail, are refused and lost meanwhile."""
    roles = Roles(clock=SystemClock())
    index = filled(roles)
    faults = iter(
        [Fault("fail"), Fault(), Fault("throttle", 5), Fault("none", 20)] * 3 + [Fault()] * 5
        + [Fault("fail")]
    )  # fmt: skip
    with thread_pool() as pool:
        clock = roles.clock
        handlers = {}
        invoker = FaultsOnce(handlers, clock=clock, faults=faults)
        policy = CallPolicy(throttle_first_ms=5)
        calling = Calling(invoker, lambda: ThreadExchange(pool, clock), clock, SystemIds(), policy)
        handlers["allocator"] = roles.allocator(calling).handle
        handlers["processor"] = roles.processor(clock).handle
        searcher = roles.searcher(calling, Shape("tree", Tree(2, 2)))
        far = roles.database(searcher=searcher).index("x")
        vectors = np.random.default_rng(3).normal(size=(20, DIMENSION))
        filters = [FILTERS[i % len(FILTERS)] for i in range(20)]
        answers = far.query_many(vectors, filters=filters, timeout_ms=60_000)
        alone = index.query_many(vectors, filters=filters)
        assert [plain(a.matches) for a in answers] == [plain(a.matches) for a in alone]
        usage = answers[0].usage
        assert usage.invocations >= 6 + 18
        assert usage.gb_seconds >= 0
        assert usage.cost_usd > 0
        # A commit is seen by the next query: allocators open the snapshot that is named to them.
        far.put(keys=["new"], vectors=vectors[:1])
        index.delete(keys=[answers[1].matches[0].key])
        again = far.query_many(vectors, filters=filters)
        assert again[0].matches[0].key == "new"
        assert plain(again[1].matches) == plain(index.query(vectors[1], filter=filters[1]).matches)
