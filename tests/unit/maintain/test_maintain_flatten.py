"""Flattening: many fresh commits become one flat segment, and nothing that is read changes."""

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import CommitUnknownError, ConflictError, UnavailableError
from squash.index import fresh
from squash.index.fresh import flatten_due, fresh_part
from squash.limits import (
    FLATTEN_AGAIN_COMMITS,
    FLATTEN_COMMITS,
    SNAPSHOT_EVERY_COMMITS,
)
from squash.maintain import plan_flatten
from squash.maintain.flatten import ABSORB_RATIO
from squash.runtime import Settings
from squash.runtime.flattening import flatten_fresh
from squash.storage import MemoryStore


def make(store=None):
    return Database(store or MemoryStore(), settings=Settings(), clock=Clock(), ids=SystemIds())


def create(store=None):
    return make(store).create_index("x", dimension=2, metric="euclidean")


def put(index, values, **more):
    """Put records whose vector and metadata tell their value."""
    return index.put(
        keys=list(values),
        vectors=[[v, 1] for v in values.values()],
        metadata=[{"v": v} for v in values.values()],
        **more,
    )


def everything(index):
    page = index.list(limit=1000, include=["metadata", "vector"])
    assert page.cursor is None
    assert all(one.vector[0] == one.metadata["v"] for one in page.records)
    return {one.key: one.metadata["v"] for one in page.records}


def flatten_now(index):
    session = index._session
    opened = session._views.refresh()
    loader = session._passing_loader()
    return session._views.install(flatten_fresh(session._views, opened, index.config, loader))


def flats(opened):
    return sorted(segment.rows for segment in opened.state.segments if segment.kind == "flat")


KEYS = st.sampled_from("abcdefgh")
WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(KEYS, st.integers(0, 99), min_size=1)),
        st.tuples(st.just("delete"), st.lists(KEYS, min_size=1, unique=True)),
        st.tuples(st.just("flatten"), st.none()),
        st.tuples(st.just("optimize"), st.none()),
    ),
    max_size=25,
)


@given(WRITES)
@settings(deadline=None, max_examples=examples(60, least=25))
def test_flattening_changes_no_record(writes):
    """Whatever was put and deleted, a flattened index holds it, for its writer and for others."""
    store = MemoryStore()
    index = create(store)
    held = {}
    for kind, what in writes:
        if kind == "put":
            put(index, what)
            held |= what
        elif kind == "delete":
            index.delete(keys=what)
            held = {key: v for key, v in held.items() if key not in what}
        elif kind == "flatten":
            opened = flatten_now(index)
            assert opened.state.fresh == ()
        else:
            index.optimize()
        assert everything(index) == held
    other = make(store).index("x")
    assert everything(other) == held
    assert other.verify().damages == ()
    nearest = {one.key for one in other.query([50, 1], top_k=10).matches}
    assert nearest == set(held)


def test_a_writer_flattens_by_itself():
    """The commit that makes the fresh ones so many is followed by one that leaves none of them,
    and by the snapshot that says so; a reader that comes cold reads no commit."""
    store = MemoryStore()
    index = create(store)
    for i in range(FLATTEN_COMMITS - 1):
        put(index, {f"k{i}": i})
    assert index._session._views.known().state.fresh == tuple(range(1, FLATTEN_COMMITS))
    assert put(index, {"last": 5}).snapshot == FLATTEN_COMMITS
    opened = index._session._views.known()
    assert (opened.sequence, opened.state.fresh, flats(opened)) == (
        FLATTEN_COMMITS + 1,
        (),
        [FLATTEN_COMMITS],
    )
    assert opened.state.snapshot_sequence == opened.sequence == SNAPSHOT_EVERY_COMMITS
    assert len(everything(make(store).index("x"))) == FLATTEN_COMMITS


def test_whose_turn_it_is():
    """Of all commits one in a period is the one to flatten after, whoever makes them."""
    index = create()
    index._session.writing._guard._flatten = lambda opened: opened
    turns = []
    for i in range(FLATTEN_COMMITS + 2 * FLATTEN_AGAIN_COMMITS + 1):
        put(index, {f"k{i}": i})
        if flatten_due(index._session._views.known()):
            turns.append(i + 1)
    assert turns == [
        FLATTEN_COMMITS,
        FLATTEN_COMMITS + FLATTEN_AGAIN_COMMITS,
        FLATTEN_COMMITS + 2 * FLATTEN_AGAIN_COMMITS,
    ]
    # A delete makes nothing fresh: it is nobody's turn.
    index.delete(keys=["k0"])
    assert not flatten_due(index._session._views.known())


def test_bytes_make_it_due(monkeypatch):
    """Commits of so many bytes are flattened, however few they are."""
    index = create()
    put(index, {"a": 1})
    one = fresh_part(index._session._views.known()).bytes
    monkeypatch.setattr(fresh, "FLATTEN_BYTES", 3 * one)
    put(index, {"b": 1})
    assert len(index._session._views.known().state.fresh) == 2
    put(index, {"c": 1})
    opened = index._session._views.known()
    assert (opened.state.fresh, flats(opened)) == ((), [3])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=150))
@settings(deadline=None, max_examples=20)
def test_flats_stay_few_and_rows_are_rarely_rewritten(sizes):
    """Of the flat segments each is more than twice the one before, and what a row cost is bound."""
    index = create()
    rewritten = 0
    seen = 0
    for i, size in enumerate(sizes):
        put(index, {f"k{i}-{j}": j for j in range(size)})
        seen += size
        plan = plan_flatten(index._session._views.known())
        rewritten += sum(segment.rows for segment in plan.segments)
        found = flats(flatten_now(index))
        assert all(b > ABSORB_RATIO * a for a, b in pairwise(found))
        assert sum(found) == seen
    assert rewritten <= seen * math.log(max(seen, 2), 1 + 1 / ABSORB_RATIO)


def test_what_is_planned_fits(monkeypatch):
    """A flattening takes no more than one segment may hold, the oldest commits first."""
    module = sys.modules["squash.maintain.flatten"]  # the room has a function of this name
    monkeypatch.setattr(module, "FLAT_SEGMENT_ROWS_MAX", 5)
    index = create()
    for i in range(4):
        put(index, {f"k{i}-{j}": j for j in range(2)})
    assert plan_flatten(index._session._views.known()).fresh == (1, 2)
    assert flats(flatten_now(index)) == [4]
    assert flats(flatten_now(index)) == [4, 4]
    assert len(everything(index)) == 8
    put(index, {f"long-{j}": j for j in range(7)})
    plan = plan_flatten(index._session._views.known())
    assert (plan.fresh, plan.segments) == ((7,), ())


def test_a_flattening_of_dead_rows_alone():
    """Where nothing lives the commits go, and no segment takes their place."""
    index = create()
    put(index, {"a": 1, "b": 2})
    index.delete(keys=["a", "b"])
    opened = flatten_now(index)
    assert (opened.state.fresh, opened.state.segments) == ((), ())
    assert everything(index) == {}


def test_the_loser_leaves_nothing():
    """Who finds the commits folded already removes what it wrote; a writer's put succeeds."""
    store = MemoryStore()
    index = create(store)
    put(index, {"a": 1})
    session = index._session
    before = session._views.known()
    make(store).index("x").optimize()
    objects = {info.key for info in store.list("")}
    with pytest.raises(ConflictError):
        flatten_fresh(session._views, before, index.config, session._passing_loader())
    assert {info.key for info in store.list("")} == objects
    assert everything(index) == {"a": 1}


class Failing(MemoryStore):
    """Fails from a key on, before or after the effect."""

    def __init__(self):
        super().__init__()
        self.part = None
        self.after = False

    def _fails(self, key):
        return self.part is not None and self.part in key

    def put(self, key, data):
        if self._fails(key):
            raise UnavailableError("no answer")
        super().put(key, data)

    def put_if_absent(self, key, data):
        if self._fails(key):
            if self.after:
                super().put_if_absent(key, data)
            raise UnavailableError("no answer")
        return super().put_if_absent(key, data)

    def get(self, key):
        if self._fails(key):
            raise UnavailableError("no answer")
        return super().get(key)


@pytest.mark.parametrize("part", ["segments/", f"log/{FLATTEN_COMMITS + 1:020}"])
def test_a_failed_flattening_fails_no_put(part, caplog):
    """The put is durable and answered; what failed is logged, and a later writer does it."""
    store = Failing()
    index = create(store)
    for i in range(FLATTEN_COMMITS - 1):
        put(index, {f"k{i}": i})
    store.part = part
    assert put(index, {"last": 1}).snapshot == FLATTEN_COMMITS
    assert "flattened" in caplog.text
    store.part = None
    for i in range(FLATTEN_AGAIN_COMMITS + 1):
        put(index, {f"more{i}": i})
    assert index._session._views.known().state.fresh[:1] != (1,)
    assert len(everything(make(store).index("x"))) == FLATTEN_COMMITS + FLATTEN_AGAIN_COMMITS + 1


def test_an_unknown_commit_keeps_its_segment():
    """If the store did not say whether the fold was stored, what it may name is not removed."""
    store = Failing()
    index = create(store)
    put(index, {"a": 1})
    store.part, store.after = "log/", True
    with pytest.raises(CommitUnknownError):
        session = index._session
        flatten_fresh(
            session._views, session._views.known(), index.config, session._passing_loader()
        )
    store.part = None
    other = make(store).index("x")
    assert everything(other) == {"a": 1}
    assert flats(other._session._views.known()) == [1]
    assert other.verify().damages == ()


def test_the_vectors_are_the_same():
    """Not a bit of a vector changes on its way from a commit to a segment."""
    index = create()
    vectors = np.random.default_rng(5).standard_normal((9, 2)).astype(np.float32)
    for i, vector in enumerate(vectors):
        index.put(keys=[f"k{i}"], vectors=vector[None])
    flatten_now(index)
    found = index.get(keys=[f"k{i}" for i in range(9)], include=["vector"])
    assert np.array_equal(np.stack([one.vector for one in found]), vectors)
