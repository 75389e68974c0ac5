"""The past, expiry and listings of an index against a dict that keeps its own history."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amounts import examples
from forcing import codes_only
from model import ModelIndex
from simulated import START_MS, Clock
from squash.attributes import (
    expired,
    filter_from_json,
    filter_to_json,
    live_node,
    matches,
    only_live,
    parse_filter,
)
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import FilterError, InvalidArgumentError, NotFoundError
from squash.limits import FILTER_DEPTH_MAX
from squash.maintain import BuildOptions
from squash.model import IndexConfig, Metric
from squash.runtime import Settings
from squash.storage import MemoryStore

SMALL = BuildOptions(
    partition_rows_target=12,
    partition_rows_max=20,
    cluster_rows_target=4,
    calibration_queries=10,
    exact_rows_max=8,
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIMENSION = 3
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.integers(0, 40), unique=True, max_size=25)),
        st.tuples(st.just("put"), st.lists(st.integers(0, 40), unique=True, max_size=25)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 45), unique=True, max_size=9)),
        st.tuples(st.just("delete where"), st.integers(0, 4)),
        st.tuples(st.just("optimize"), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1, 999, 1000, 3_500, 20_000])),
        st.tuples(st.just("reopen"), st.none()),
    ),
    min_size=1,
    max_size=12,
)


class Pair:
    """An index on two handles, and the model of it, in time that passes only here."""

    def __init__(self, seed, expires="gone_at"):
        self.rng = np.random.default_rng(seed)
        self.clock = Clock()
        self.store = MemoryStore()
        self.expires = expires
        self.model = ModelIndex("euclidean", expires=expires)
        self.model.now = START_MS / 1000
        first = self.database().create_index(
            "x", dimension=DIMENSION, metric="euclidean", expires=expires
        )
        self.handles = [first, self.database().index("x")]

    def database(self):
        return Database(self.store, settings=Settings(), clock=self.clock, ids=SystemIds())

    def do(self, operation, what, step=0):
        index = self.handles[step % 2]
        if operation == "put":
            keys = [f"k{i}" for i in what]
            vectors = self.rng.normal(size=(len(keys), DIMENSION)).astype(np.float32)
            metadata = [{"n": int(self.rng.integers(5)), **self._deadline()} for _ in keys]
            made = index.put(keys=keys, vectors=vectors, metadata=metadata)
            self.model.put(keys, vectors, metadata)
        elif operation == "delete":
            made = index.delete(keys=[f"k{i}" for i in what])
            self.model.delete([f"k{i}" for i in what])
        elif operation == "delete where":
            gone = self.model.passing({"n": what})
            made = index.delete(filter={"n": what})
            assert made.rows == len(gone)
            self.model.delete(gone)
        elif operation == "optimize":
            made = index.optimize(options=SMALL)
        elif operation == "wait":
            self.clock.ms += what
            self.model.now = self.clock.ms / 1000
            return
        else:
            self.handles[step % 2] = self.database().index("x")
            return
        self.model.commit(made.snapshot)

    def _deadline(self):
        """Some records never expire, some have, some will at whole or broken seconds."""
        offset = self.rng.choice([-5, 0, 1, 2, 3.25, 20, 1e9])
        chance = self.rng.integers(3)
        return {} if not chance or self.expires is None else {self.expires: self.model.now + offset}

    def check(self, index, model, as_of=None):
        """Query, get and list agree with the model, each in its ways."""
        query = self.rng.normal(size=DIMENSION).astype(np.float32)
        for filter_ in (None, {"n": {"$lte": 2}}):
            truth = model.query(query, 7, filter_)
            for exact in (True, False):
                found = index.query(query, top_k=7, filter=filter_, exact=exact, as_of=as_of)
                assert len(found.matches) == len(truth)
                assert {m.key for m in found.matches} <= set(model.passing(filter_))
                if exact:
                    assert [m.key for m in found.matches] == [key for _, key in truth]
        many = index.query_many([query] * 3, filters=[None, {"n": 1}, None], top_k=50, as_of=as_of)
        for answer, filter_ in zip(many, (None, {"n": 1}, None), strict=True):
            assert [m.key for m in answer.matches] == [
                k for _, k in model.query(query, 50, filter_)
            ]
        asked = [f"k{i}" for i in range(45)]
        live = model.live()
        assert [r.key for r in index.get(keys=asked, as_of=as_of)] == [
            key for key in asked if key in live
        ]
        records = pages_of(index, 6, as_of=as_of)
        assert sorted(r.key for r in records) == sorted(live)
        for record in records:
            assert record.metadata == live[record.key][1]


def pages_of(index, limit, **more):
    records, cursor = [], None
    while True:
        page = index.list(cursor=cursor, limit=limit, **more)
        assert len(page.records) == limit or page.cursor is None
        records += page.records
        cursor = page.cursor
        if cursor is None:
            return records


def moment(ms):
    return EPOCH + timedelta(milliseconds=ms)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    operations=OPERATIONS,
    seed=st.integers(0, 10_000),
    expires=st.sampled_from(["gone_at", None]),
    data=st.data(),
)
def test_any_past_is_read_as_it_was(operations, seed, expires, data):
    """Whatever was written since: by number and by time, with what had expired then."""
    pair = Pair(seed, expires)
    for step, (operation, what) in enumerate(operations):
        pair.do(operation, what, step)
        pair.check(pair.handles[(step + 1) % 2], pair.model)
    history = pair.model.history
    newest = len(history) - 1
    for _ in range(4):
        index = data.draw(st.sampled_from([*pair.handles, pair.database().index("x")]))
        number = data.draw(st.integers(0, newest))
        pair.check(index, pair.model.at(number), number)
        time_ms = data.draw(st.integers(START_MS, pair.clock.ms))
        then = [i for i, (now, _) in enumerate(history) if i and now * 1000 <= time_ms]
        if then:
            model = pair.model.at(then[-1], time_ms / 1000)
            assert index.query([0, 0, 0], as_of=moment(time_ms)).snapshot == then[-1]
            pair.check(index, model, moment(time_ms))
        else:
            with pytest.raises(NotFoundError):
                index.get(keys=["k1"], as_of=moment(time_ms))
    infos = pair.handles[0].snapshots()
    assert [one.snapshot for one in infos] == list(range(newest, 0, -1))
    assert [one.time_ms / 1000 for one in infos] == [now for now, _ in history[:0:-1]]
    for handle in pair.handles:
        with pytest.raises(InvalidArgumentError, match="the newest is"):
            handle.get(keys=[], as_of=newest + 1)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(st.integers(0, 40), unique=True, max_size=30),
    between=st.lists(OPERATIONS, min_size=1, max_size=8),
    limit=st.integers(1, 9),
    seed=st.integers(0, 10_000),
)
def test_a_listing_survives_what_happens_between_its_pages(before, between, limit, seed):
    """A record that is there throughout is listed once, and none that never was; nor any twice.

    A listing of one snapshot is that snapshot, whatever happens.
    """
    pair = Pair(seed)
    pair.do("put", before)
    start = len(pair.model.history) - 1
    fixed = pair.model.at(start)
    always, ever = set(pair.model.live()), set(pair.model.live())
    listed, then = [], []
    cursor = then_cursor = None
    for page_number in range(10_000):
        index = pair.handles[page_number % 2]
        page = index.list(cursor=cursor, limit=limit)
        listed += [record.key for record in page.records]
        if page_number == 0 or then_cursor is not None:
            old = index.list(cursor=then_cursor, limit=limit, as_of=start)
            then += [record.key for record in old.records]
            then_cursor = old.cursor
        cursor = page.cursor
        if cursor is None and then_cursor is None:
            break
        if cursor is None:
            cursor = "f" * 32  # nothing comes after it
        for step, (operation, what) in enumerate(between[page_number % len(between)]):
            pair.do(operation, what, step)
            if operation == "put":
                ever |= {f"k{i}" for i in what}
            always &= set(pair.model.live())
            ever |= set(pair.model.live())
    assert len(set(listed)) == len(listed)
    assert always <= set(listed) <= ever
    assert sorted(then) == sorted(fixed.live())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(10, 120),
    deadlines=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    order=st.sampled_from(["ascending", "descending", "any"]),
    data=st.data(),
)
def test_what_is_known_of_the_live_rows_is_of_the_right_time(seed, rows, deadlines, order, data):
    """Whatever was asked before, of times before or after, with a filter of one's own or none."""
    pair = Pair(seed)
    index = pair.handles[0]
    keys = [f"k{i}" for i in range(rows)]
    vectors = pair.rng.normal(size=(rows, DIMENSION)).astype(np.float32)
    metadata = [
        {"n": i % 5}
        | ({"gone_at": START_MS / 1000 + deadlines[i % len(deadlines)]} if i % 3 else {})
        for i in range(rows)
    ]
    index.put(keys=keys, vectors=vectors, metadata=metadata)
    pair.model.put(keys, vectors, metadata)
    pair.clock.ms = START_MS - 1_000  # a fold leaves out what has expired
    index.optimize(options=SMALL)
    times = range(-1, 14)
    if order != "ascending":
        times = times[::-1] if order == "descending" else pair.rng.integers(-1, 14, size=14)
    with codes_only():
        for half_seconds in times:
            pair.clock.ms = START_MS + 500 * int(half_seconds)
            pair.model.now = pair.clock.ms / 1000
            filter_ = data.draw(
                st.sampled_from(
                    [
                        None,
                        {"n": {"$gt": 2}},
                        {"$not": {"gone_at": {"$lte": START_MS / 1000 + 2}}},
                        {"n": 1, "$not": {"gone_at": {"$lte": START_MS / 1000 + 2}}},
                        {"gone_at": {"$exists": True}},
                    ]
                )
            )
            passing = set(pair.model.passing(filter_))
            for k in (3, rows):
                query = pair.rng.normal(size=DIMENSION).astype(np.float32)
                more = {"top_k": k, "explain": data.draw(st.booleans())}
                answers = [index.query(query, filter=filter_, **more)]
                answers += index.query_many([query] * 2, filters=filter_, **more)
                for answer in answers:
                    found = {match.key for match in answer.matches}
                    assert len(found) == len(answer.matches) == min(k, len(passing))
                    assert found <= passing


def test_a_record_expires_at_its_moment():
    """It is there one millisecond before, and gone from then on; deleting it is no deletion."""
    pair = Pair(1)
    index = pair.handles[0]
    at = START_MS / 1000 + 2
    index.put(keys=["a", "b"], vectors=[[1, 2, 3]] * 2, metadata=[{"gone_at": at}, {}])
    assert [r.key for r in index.get(keys=["a", "b"])] == ["a", "b"]
    pair.clock.ms += 1_999
    assert index.delete(filter={"gone_at": {"$lt": at - 1}}).rows == 0
    assert [m.key for m in index.query([1, 2, 3]).matches] == ["a", "b"]
    pair.clock.ms += 1
    for reader in pair.handles:
        assert [m.key for m in reader.query([1, 2, 3]).matches] == ["b"]
        assert [r.key for r in reader.get(keys=["a", "b"])] == ["b"]
        assert [r.key for r in reader.list().records] == ["b"]
        assert [r.key for r in reader.get(keys=["a", "b"], as_of=1)] == ["a", "b"]
        assert [r.key for r in reader.get(keys=["a", "b"], as_of=moment(pair.clock.ms))] == ["b"]
        assert len(reader.get(keys=["a"], as_of=moment(pair.clock.ms - 1))) == 1
    assert index.delete(filter={"gone_at": {"$exists": True}}).rows == 0


@pytest.mark.parametrize("value", ["2024-01-01", True, [1.0], None, float("nan")])
def test_a_record_that_expires_at_no_number_is_refused(value):
    """With its key and the attribute."""
    index = Pair(1).handles[0]
    with pytest.raises(InvalidArgumentError, match=r"record 'a': metadata\.gone_at"):
        index.put(keys=["a"], vectors=[[1, 2, 3]], metadata=[{"gone_at": value}])


def test_the_largest_filters_still_fit():
    """What is added for expiry counts against no limit of a caller's filter."""
    pair = Pair(1)
    index = pair.handles[0]
    index.put(keys=["a"], vectors=[[1, 2, 3]])
    clauses = {"$and": [{"n": {"$ne": i}} for i in range(256)]}
    deep = {"n": {"$ne": 1, "$not": {"$eq": 2}}}
    for _ in range(FILTER_DEPTH_MAX - 2):
        deep = {"n": {"$ne": 1}, "$not": deep}
    with pytest.raises(FilterError, match="at most 16 deep"):
        parse_filter({"$not": deep})
    model = ModelIndex("euclidean")
    model.put(["a"], [[1, 2, 3]], [{}])
    for filter_ in (clauses, deep):
        found = [match.key for match in index.query([1, 2, 3], filter=filter_).matches]
        assert found == model.passing(filter_)
        whole = only_live(parse_filter(filter_), live_node(index.config, pair.clock.ms))
        assert filter_from_json(json.loads(json.dumps(filter_to_json(whole)))) == whole


@given(
    value=st.one_of(
        st.none(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(0, 10**13).map(lambda ms: ms / 1000),
        st.booleans(),
        st.text(max_size=2),
    ),
    now_ms=st.integers(0, 10**13),
    near=st.sampled_from([None, -1, 0, 1]),
)
def test_who_folds_and_who_filters_agree(value, now_ms, near):
    """A record is either live or expired, by the metadata and by the filter."""
    config = IndexConfig("x", 1, Metric.COSINE, expires="e")
    if near is not None:
        value = (now_ms + near) / 1000
    metadata = {} if value is None else {"e": value}
    assert expired(config, metadata, now_ms) is not matches(live_node(config, now_ms), metadata)
    never = replace(config, expires=None)
    assert live_node(never, now_ms) is None
    assert not expired(never, metadata, now_ms)
    if near is not None:
        assert expired(config, metadata, now_ms) is (near <= 0)


def test_an_eventual_read_is_behind_by_no_more_than_the_bound():
    """Counted from when the log was asked, not from when it answered; and never by a clock set
    back. What its own handle wrote it sees at once."""
    pair = Pair(1, expires=None)
    writer, reader = pair.handles
    bound = Settings().staleness_ms_max

    def seen():
        return len(reader.query([0, 0, 0], consistency="eventual").matches)

    class Slow(type(pair.store)):
        """Answers late whoever asks for what is not there yet."""

        def get(self, key):
            found = super().get(key)
            if found is None:
                asked_ms.append(pair.clock.ms)
                pair.clock.ms += 3_000
            return found

    asked_ms = []
    pair.store.__class__ = Slow
    assert seen() == 0
    asked = reader._session._views.known().read_ms
    assert asked <= asked_ms[-1]
    writer.put(keys=["a"], vectors=[[1, 2, 3]])
    pair.clock.ms = asked + bound
    assert seen() == 0
    pair.clock.ms += 1
    assert seen() == 1
    writer.put(keys=["b"], vectors=[[1, 2, 3]])
    pair.clock.ms = asked - 60_000
    assert seen() == 2
    reader.put(keys=["c"], vectors=[[1, 2, 3]])
    assert seen() == 3
    assert len(writer.query([0, 0, 0]).matches) == 3
