"""Any history with folds that keep what was trained, against a dict and brute force."""

from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from test_index_model import METRICS
from test_search_divided import same

import squash
from amounts import examples
from dividing import PLENTY, Division, answer_apart, session_of
from forcing import codes_only
from living import SMALL
from model import ModelIndex
from squash.quantize import PRESETS
from squash.search import Query, search_many

THRIFTY = replace(SMALL, thrifty=True)
KEYS = 400
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 60)),
        st.tuples(st.just("crowd"), st.integers(1, 60)),
        st.tuples(st.just("delete"), st.integers(1, 60)),
        st.tuples(st.just("fold"), st.booleans()),
        st.tuples(st.just("stopped"), st.integers(0, 3)),
    ),
    min_size=1,
    max_size=10,
)


class History:
    """An index of some hundred rows, and what it should hold."""

    def __init__(self, metric, codec, seed, dimension=4):
        self.rng = np.random.default_rng(seed)
        self.dimension = dimension
        self.index = squash.connect(f"memory://{uuid4().hex}").create_index(
            "x", dimension=dimension, metric=metric, codec=codec
        )
        self.model = ModelIndex(metric)
        self.outcomes = []
        self.put(180)
        self.index.optimize(options=SMALL)

    def put(self, count, around=None):
        keys = [f"k{i}" for i in self.rng.choice(KEYS, size=count, replace=False)]
        vectors = self.rng.normal(size=(count, self.dimension)).astype(np.float32)
        if around is not None:
            vectors = (around + 0.01 * vectors).astype(np.float32)
        metadata = [{"n": int(n)} for n in self.rng.integers(5, size=count)]
        self.index.put(keys=keys, vectors=vectors, metadata=metadata)
        self.model.put(keys, vectors, metadata)

    def delete(self, count):
        keys = [f"k{i}" for i in self.rng.choice(KEYS, size=count, replace=False)]
        self.index.delete(keys=keys)
        self.model.delete(keys)

    def do(self, step, what):
        """Do a step; folds are looked at."""
        if step == "put":
            self.put(what)
        elif step == "crowd":
            self.put(what, around=self.rng.normal(size=self.dimension))
        elif step == "delete":
            self.delete(what)
        elif step == "fold":
            self.fold(THRIFTY if what else SMALL)
        else:
            left = iter(range(what))
            self.fold(replace(SMALL, carry_on=lambda: next(left, None) is not None))

    def fold(self, options):
        before = self.trained()
        assert self.index.optimize(options=options).rows == len(self.model.rows)
        after = self.trained()
        if before is not None and after is not None and before is not after:
            kept = np.array_equal(before.codec.rotation, after.codec.rotation)
            self.outcomes.append("kept what was trained" if kept else "rebuilt")
        state = session_of(self.index)._views.known().state
        assert state.fresh == ()
        assert max((s.rows for s in state.segments if s.kind == "partition"), default=0) <= 40
        assert self.index.verify().damages == ()
        assert self.index.stats().rows == len(self.model.rows)

    def trained(self):
        return session_of(self.index).view("strong").trained

    def ask(self):
        """Hold exact answers, and those of codes, against the model's."""
        query = self.rng.normal(size=self.dimension).astype(np.float32)
        for filter_ in (None, {"n": {"$lte": 2}}):
            exact = self.index.query(query, top_k=12, filter=filter_, exact=True)
            np.testing.assert_allclose(
                [m.distance for m in exact.matches],
                [d for d, _ in self.model.query(query, 12, filter_)],
                rtol=1e-9,
                atol=1e-9,
            )
            self.model.check(self.index.query(query, top_k=12, filter=filter_), query, 12, filter_)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    metric=st.sampled_from(METRICS),
    codec=st.sampled_from(list(PRESETS)),
    seed=st.integers(0, 10_000),
)
def test_any_history_of_folds_leaves_what_a_dict_would_hold(steps, metric, codec, seed):
    """Answers, key tables, caps and checksums are right after every fold, whole or in part."""
    history = History(metric, codec, seed)
    with codes_only():
        for step, what in steps:
            history.do(step, what)
            history.ask()
    for outcome in history.outcomes:
        event(outcome)
    asked = [f"k{i}" for i in range(KEYS)]
    got = history.index.get(keys=asked)
    assert [r.key for r in got] == [key for key in asked if key in history.model.rows]
    for record in got:
        vector, metadata = history.model.rows[record.key]
        np.testing.assert_array_equal(record.vector, vector)
        assert record.metadata == metadata


@pytest.mark.parametrize("metric", METRICS)
def test_a_divided_search_is_a_search_after_folds_in_part(metric):
    """Partitions that stayed and new ones, with flat rows and dead ones, in several processes."""
    history = History(metric, "residual", 5, dimension=16)
    trained = history.trained()
    for step in ("put", 30), ("fold", True), ("delete", 30), ("crowd", 50), ("fold", False):
        history.do(*step)
    history.put(9)
    history.fold(THRIFTY)
    history.delete(9)
    np.testing.assert_array_equal(history.trained().codec.rotation, trained.codec.rotation)
    queries = [
        Query(history.rng.normal(size=16).astype(np.float32), k=k, recall_target=recall)
        for k in (1, 10, 200)
        for recall in (0.5, 0.95)
    ]
    view = session_of(history.index).view("strong")
    division = Division(slots=3, allocators=2, answer_bytes=PLENTY, whole_bytes_max=1_500)
    with codes_only():
        whole = search_many(view, queries)
        for (matches, _), (expected, _) in zip(
            answer_apart(history.index, queries, division), whole, strict=True
        ):
            assert same(matches, expected)
