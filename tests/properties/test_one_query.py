"""A query asked alone, by its own way, finds and costs what it does by the way of all others."""

import gc
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import FunctionType, ModuleType
from unittest.mock import patch
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_index_model import SMALL

import squash
from amounts import examples
from squash.errors import DataError, InvalidArgumentError
from squash.kernels import StandingSearch, native
from squash.runtime.settings import Settings
from squash.search import LocalSearcher
from squash.search.at_once import AtOnce
from strategies import filters_for, metadata_rows

INCLUDES = st.sampled_from(
    [(), ("metadata",), ("vector",), ("metadata", "vector")],
)
OFTEN = settings(max_examples=examples(80), deadline=None, suppress_health_check=list(HealthCheck))


def filled(rows, seed, *, metric="euclidean"):
    """Make an index of partitions; of some, vectors are twins, and keys need escapes in JSON."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(rows), 6)).astype(np.float32)
    if seed % 3 == 0:
        vectors = vectors[rng.integers(len(rows), size=len(rows))]
    mark = '"' if seed % 5 == 0 else ""
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=6, metric=metric)
    index.put(keys=[f"k{mark}{i}" for i in range(len(rows))], vectors=vectors, metadata=rows)
    index.optimize(options=SMALL)
    return index, rng


@contextmanager
def without_entry():
    """Have searches called through ctypes."""
    chosen = native.active()
    with patch.object(
        native._state, "chosen", None if chosen is None else replace(chosen, entry=None)
    ):
        yield


@contextmanager
def as_all_others(index):
    """Have queries of an index go the general way."""
    with (
        patch.object(index._session, "_local", None),
        patch.object(LocalSearcher, "_at_once", lambda *_: None),
    ):
        yield


def told(answer):
    """Return all that an answer says."""
    matches = [
        (one.key, one.distance, one.metadata, None if one.vector is None else one.vector.tolist())
        for one in answer.matches
    ]
    return matches, answer.usage, answer.snapshot, answer.explain, answer.missing


def asked_alike(index, vector, **options):
    """Ask both ways, twice: what is loaded first is no part of the comparison.

    And once more with a limit of time, with which only half of the way is its own, and without the
    C entry.
    """
    own = index.query(vector, **options), index.query(vector, **options)
    limited = index.query(vector, timeout_ms=600_000, **options)
    with without_entry():
        called = index.query(vector, **options)
    with as_all_others(index):
        general = index.query(vector, **options)
    assert told(own[0])[0] == told(own[1])[0]
    assert told(own[1]) == told(general) == told(limited) == told(called)
    return own[1]


@OFTEN
@given(st.data(), st.integers(0, 1 << 20), st.sampled_from(["euclidean", "cosine", "dot"]))
def test_answers_and_usage_are_those_of_all_others(data, seed, metric):
    rows = data.draw(metadata_rows(max_size=60, min_size=12))
    index, rng = filled(rows, seed, metric=metric)
    for _ in range(6):
        filter_ = data.draw(st.none() | filters_for(rows))
        asked_alike(
            index,
            rng.normal(size=6).astype(data.draw(st.sampled_from([np.float32, np.float64]))),
            top_k=data.draw(st.sampled_from([1, 5, 100])),
            filter=filter_,
            recall_target=data.draw(st.sampled_from([0.5, 0.95])),
            include=data.draw(INCLUDES),
        )


@OFTEN
@given(st.data(), st.integers(0, 1 << 20))
def test_what_changes_between_queries_is_seen(data, seed):
    """Commits, folds, what memory let go, other kernels: nothing that is kept outlives them."""
    rows = data.draw(metadata_rows(max_size=40, min_size=12))
    index, rng = filled(rows, seed)
    vector = rng.normal(size=6)
    steps = st.sampled_from(["put", "delete", "optimize", "let go", "twins", "native"])
    with native.use(native.variants()[-1]):
        for step in data.draw(st.lists(steps, max_size=8)):
            if step == "put":
                index.put(keys=["new"], vectors=rng.normal(size=(1, 6)), metadata=rows[:1])
            elif step == "delete":
                index.delete(keys=["k3", "new"])
            elif step == "optimize":
                index.optimize(options=SMALL)
            elif step == "let go":
                index._session._views.loader._memory.evictions += 1
            else:
                native.choose(native.NUMPY if step == "twins" else native.variants()[-1])
            filter_ = data.draw(st.none() | filters_for(rows))
            asked_alike(index, vector, top_k=5, filter=filter_)


def test_most_queries_go_their_own_way():
    """Else the tests above compare a way with itself."""
    index, rng = filled([{"n": i} for i in range(60)], 1)
    index.query(rng.normal(size=6))  # What is not loaded yet is met twice.
    search, ask, calls, single = AtOnce._searched, StandingSearch.ask, [], []

    def counted(self, vector, node, sound):
        calls.append(node)
        return search(self, vector, node, sound)

    def asked(self, *given, **options):
        single.append(given)
        return ask(self, *given, **options)

    with patch.object(AtOnce, "_searched", counted), patch.object(StandingSearch, "ask", asked):
        for filter_ in (None, {"n": {"$lt": 40}}, {"$or": [{"n": 3}, {"n": {"$gt": 50}}]}):
            asked_alike(index, rng.normal(size=6), filter=filter_)
            assert len(calls) == 4
            calls.clear()
        assert not single  # A filter that comes again is known, and was the first of its kind.
        for least in range(20):
            asked_alike(index, rng.normal(size=6), filter={"n": {"$gte": least, "$lt": 40}})
        assert len(single) == 20
        calls.clear()
        for others in ({"exact": True}, {"explain": True}):
            assert index.query(rng.normal(size=6), **others).matches
        assert not calls


def test_an_answer_holds_nothing_of_the_snapshot():
    """Who keeps answers keeps their matches, and a few numbers until usage is looked at."""
    index, rng = filled([{"n": i} for i in range(60)], 1)
    index.query(rng.normal(size=6))  # The first one loads what it searches.
    for filter_ in (None, {"n": {"$lt": 40}}):
        for include in ((), ("metadata",)):
            answer = index.query(rng.normal(size=6), filter=filter_, include=include)
            kept, seen = [answer._usage_of], set()
            while kept:
                one = kept.pop()
                if id(one) in seen or isinstance(one, type | ModuleType | FunctionType | Settings):
                    continue
                seen.add(id(one))
                assert isinstance(one, partial | tuple | dict | int | float | bytes | str | None)
                kept += gc.get_referents(one)


UNLIKELY = {
    "strided": lambda x: np.repeat(x, 2)[::2],
    "of the other byte order": lambda x: x.astype(">f8"),
    "of halves": lambda x: x.astype(np.float16),
    "of whole numbers": lambda x: (8 * x).astype(np.int32),
    "of a subclass": lambda x: x.view(type("Own", (np.ndarray,), {})),
    "a list": lambda x: x.tolist(),
    "not aligned": lambda x: np.frombuffer(b"-" + x.tobytes(), dtype=x.dtype, offset=1),
    "a memoryview": lambda x: memoryview(x),
    "tiny": lambda x: 1e-12 * x,
    "large": lambda x: 1e14 * x,
    "too large": lambda x: 1e16 * x,
    "beyond float32": lambda x: 1e60 * x,
    "zero": lambda x: 0 * x,
    "of NaN": lambda x: np.nan * x,
    "of infinity": lambda x: np.where(x == x.max(), np.inf, x),
    "short": lambda x: x[1:],
    "a matrix": lambda x: x[np.newaxis],
    "of text": lambda x: x.astype(str),
    "nothing": lambda x: x[:0],
}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("filter_", [None, {"n": {"$gte": 5, "$lt": 40}}])
def test_whatever_is_given_as_a_vector_is_checked_alike(metric, filter_):
    index, rng = filled([{"n": i} for i in range(60)], 1, metric=metric)
    for what, made in UNLIKELY.items():
        for _ in range(3):
            given = made(rng.normal(size=6))
            said = []
            for way in (nullcontext, without_entry, lambda: as_all_others(index)):
                with way():
                    try:
                        said.append(told(index.query(given, filter=filter_))[0])
                    except InvalidArgumentError as error:
                        said.append((str(error), error.field))
            assert said[0] == said[1] == said[2], what


def test_a_record_that_cannot_be_read_is_told(monkeypatch):
    """Read together, records do not say which of them it is: then they are read one by one."""
    index, rng = filled([{"n": i} for i in range(60)], 1)
    vector = rng.normal(size=6)
    sound = told(index.query(vector))[0]
    clusters = index._session.view("strong").clusters
    for number, partition in enumerate(clusters.partitions):
        whole = partition.reader.whole_records()
        clusters.records.table.put(number, np.frombuffer(whole.data, np.uint8), whole.begins + 1)
    assert told(index.query(vector))[0] == sound
    for partition in clusters.partitions:
        whole = partition.reader.whole_records()
        monkeypatch.setattr(partition.reader, "_records", replace(whole, begins=whole.begins + 1))
    with pytest.raises(DataError, match="has no record where its segment says that row"):
        index.query(vector)


def test_what_is_kept_for_the_next_query_holds_nothing_of_this_one():
    """Else its vector and filter stood in memory, and its limits held for others."""
    index, rng = filled([{"n": i} for i in range(60)], 1)
    searcher = index._session._searcher
    answer = index.query(rng.normal(size=6), filter={"n": {"$lt": 40}}, timeout_ms=600_000)
    assert answer.matches
    kept = searcher._last
    options = kept._options
    assert (len(options.vector), options.node, options.deadline_ms) == (0, None, None)
    index.query(rng.normal(size=6), filter={"n": {"$lt": 30}}, timeout_ms=900_000)
    index.query(rng.normal(size=6))
    assert searcher._last is kept
