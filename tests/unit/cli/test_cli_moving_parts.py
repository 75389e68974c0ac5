"""The parts of a copy, each by itself: records, pages of segments, batches, checks, the state."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.cli.moving import putting, reading
from squash.cli.moving.records import (
    rows_of,
    same_metadata,
    vector_of,
    wire_records,
)
from squash.cli.moving.service import RefusedError, ServicePage, ServiceTooLargeError
from squash.cli.moving.state import SegmentState
from squash.errors import UnavailableError
from squash.model import IndexConfig, Metric, RowBatch
from strategies import metadata_rows

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


# Records


@given(st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=5), metadata_rows())
def test_numbers_are_written_so_that_they_are_read_back_to_the_bit(rows, metadata):
    """Every float32, subnormal ones and -0.0 too; keys and metadata as they are."""
    vectors = np.array(rows, np.float32)
    notes = (metadata + [{}] * len(rows))[: len(rows)]
    batch = RowBatch([f"k\n{n}€" for n in range(len(rows))], vectors, notes)
    for record, vector in zip(wire_records(batch), vectors, strict=True):
        assert record.text.isascii()
        document = json.loads(record.text)
        assert vector_of(document).tobytes() == vector.tobytes()
        assert document["key"] == record.key
        assert same_metadata(document.get("metadata", {}), notes[batch.keys.index(record.key)])


def test_short_decimals_are_most_of_the_saving():
    """What half the bytes are worth is a batch of twice the size."""
    vectors = np.random.default_rng(0).normal(size=(20, 768)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    batch = RowBatch([*"abcdefghijklmnopqrst"], vectors, [{}] * 20)
    short = sum(len(record.text) for record in wire_records(batch))
    assert short < 0.65 * len(json.dumps(vectors.tolist()))


def test_a_decimal_that_would_become_a_neighbour_is_written_in_full(monkeypatch):
    """What guards against rounding twice is not left to chance."""
    monkeypatch.setattr("squash.api.s3vectors.answers._DIGITS", (4, 3))  # too few for some
    vector = np.array([[1.2345678, -0.1, 3]], np.float32)
    (record,) = wire_records(RowBatch(["a"], vector, [{}]))
    assert vector_of(json.loads(record.text)).tobytes() == vector.tobytes()


CONFIG = IndexConfig("papers", 2, Metric.COSINE, non_filterable=("text",))
BAD = {
    "zero": {"data": {"float32": [0, 0]}},
    "short": {"data": {"float32": [1]}},
    "nan": {"data": {"float32": [1, "NaN"]}},
    "huge": {"data": {"float32": [1, 1e39]}},
    "none": {"data": {"float32": [1, None]}},
    "bare": {},
    "null": {"data": {"float32": [1, 1]}, "metadata": {"a": None}},
    "deep": {"data": {"float32": [1, 1]}, "metadata": {"a": {"b": 1}}},
    "name": {"data": {"float32": [1, 1]}, "metadata": {"n" * 64: 1}},
    "list": {"data": {"float32": [1, 1]}, "metadata": {"a": [0] * 257}},
    "text": {"data": {"float32": [1, 1]}, "metadata": [1]},
    "k" * 1025: {"data": {"float32": [1, 1]}},
}


@given(st.lists(st.sampled_from([*BAD, "g1", "g2", "g3"]), unique=True, max_size=12))
def test_what_an_index_cannot_take_is_told_apart_from_the_rest(keys):
    good = {"data": {"float32": [1, 2]}, "metadata": {"text": {"a": [None]}, "b": [1, "x"]}}
    rows, bad = rows_of([{"key": key, **BAD.get(key, good)} for key in keys], CONFIG)
    assert list(rows.keys) == [key for key in keys if key not in BAD]
    assert [row.key for row in bad] == [key for key in keys if key in BAD]
    assert all(row.why for row in bad)


def test_of_a_key_that_comes_twice_the_last_counts():
    one = {"key": "a", "data": {"float32": [1, 2]}}
    rows, bad = rows_of([one, one | {"metadata": {"n": 2}}], CONFIG)
    assert (rows.keys, rows.metadata, bad) == (["a"], [{"n": 2}], [])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.0, 1.0, "", "1"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(JSON, JSON)
def test_metadata_is_the_same_if_a_reader_of_json_sees_the_same(left, right):
    """Of numbers the value counts, not how it is written; true is no number."""

    def canonical(value):
        if isinstance(value, dict):
            return {name: canonical(one) for name, one in value.items()}
        if isinstance(value, list):
            return [canonical(one) for one in value]
        return float(value) if type(value) is int else value

    same = json.dumps(canonical(left), sort_keys=True) == json.dumps(
        canonical(right), sort_keys=True
    )
    assert same_metadata(left, right) == same
    assert same_metadata(left, left)


# Reading segments


class Listing:
    """Segments of numbered keys; tokens are where to go on."""

    def __init__(self, sizes, page=3):
        self.sizes = sizes
        self.page_rows = page
        self.refuse = lambda segment, token: None
        self.asked = []

    def page(self, token, *, segment, records, results):
        number, count = segment
        assert count == len(self.sizes)
        self.asked.append((number, token))
        error = self.refuse(number, token)
        if error is not None:
            raise error
        start = int(token or 0)
        end = min(start + min(self.page_rows, results), self.sizes[number])
        keys = [{"key": f"{number}.{place}"} for place in range(start, end)]
        return ServicePage(keys, str(end) if end < self.sizes[number] else None)


def read(listing, states):
    """Read to the end, and return the keys by segment as a copy would count them."""
    seen = {number: [] for number in range(len(states))}
    for page in reading.read_segments(listing, states, records=True):
        if page.first:
            seen[page.segment] = []
        seen[page.segment] += [one["key"] for one in page.vectors]
    return seen


@settings(max_examples=examples(30, least=25), deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(1, 4), st.data())
def test_every_segment_is_read_once_from_where_it_was(sizes, page, data):
    listing = Listing(sizes, page)
    states, expected = [], {}
    for number, size in enumerate(sizes):
        start = data.draw(st.integers(0, max(0, size - 1)))
        done = data.draw(st.booleans())
        states.append(SegmentState(str(start) if start else None, start, done))
        expected[number] = [] if done else [f"{number}.{place}" for place in range(start, size)]
    assert read(listing, states) == expected


@settings(max_examples=examples(30, least=25), deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 3), st.data())
def test_a_segment_whose_token_expired_is_read_from_its_beginning(sizes, page, data):
    """It may happen to each at any page, some times."""
    listing = Listing(sizes, page)
    expired = st.sets(st.integers(1, 20), max_size=3)
    left = {number: data.draw(expired) for number in range(len(sizes))}
    lock = threading.Lock()

    def refuse(number, token):
        with lock:
            if token is not None and int(token) in left[number]:
                left[number].remove(int(token))
                return RefusedError("Invalid next token")
        return None

    listing.refuse = refuse
    found = read(listing, [SegmentState() for _ in sizes])
    assert found == {n: [f"{n}.{p}" for p in range(size)] for n, size in enumerate(sizes)}


def test_a_segment_that_fails_stops_all_with_its_error():
    listing = Listing([1_000_000, 10], page=1)
    listing.refuse = lambda number, token: UnavailableError("gone") if number == 1 else None
    before = set(threading.enumerate())
    with pytest.raises(UnavailableError, match="gone"):
        read(listing, [SegmentState(), SegmentState()])
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()


def test_no_more_pages_are_read_than_are_used():
    """Memory is bounded by the segments, however slow the other side is."""
    listing = Listing([1_000] * 3, page=1)
    pages = reading.read_segments(listing, [SegmentState() for _ in range(3)], records=True)
    for used in range(1, 50):
        next(pages)
        assert len(listing.asked) <= used + 2 * 3
    pages.close()


# Putting


class Target:
    """Takes records up to a size, but for some keys."""

    def __init__(self, bytes_max=10**9, refused=()):
        self.bytes_max = bytes_max
        self.refused = set(refused)
        self.keys = []
        self.sizes = []
        self.lock = threading.Lock()

    def put(self, texts):
        keys = [json.loads(text)["key"] for text in texts]
        with self.lock:
            self.sizes.append(len(keys))
            if sum(map(len, texts)) + 2 * len(texts) > self.bytes_max:
                raise ServiceTooLargeError("too large")
            if self.refused & set(keys):
                raise RefusedError("not valid")
            self.keys += keys


def rows(keys):
    return RowBatch(keys, np.ones((len(keys), 1), np.float32), [{}] * len(keys))


def size_of(key):
    return len(wire_records(rows([key]))[0].text) + 2


@settings(deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=9), unique=True, max_size=40),
    st.integers(40, 400),
    st.integers(1, 12),
    st.data(),
)
def test_every_record_is_put_once_or_named(keys, bytes_max, most, data):
    """Whatever is too large together or by itself, or not valid, and however they are divided."""
    refused = data.draw(st.sets(st.sampled_from(keys), max_size=3)) if keys else set()
    target = Target(bytes_max, refused)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(putting, "SERVICE_PUT_MAX", most)
        bad = putting.BatchPutter(target).put(rows(keys))
    expected = refused | {key for key in keys if size_of(key) > bytes_max}
    assert sorted(target.keys) == sorted(set(keys) - expected)
    assert sorted(row.key for row in bad) == sorted(expected)
    assert max(target.sizes, default=0) <= most


def test_the_size_that_is_taken_is_found_once():
    target = Target(bytes_max=10 * size_of("0123456789"))
    putter = putting.BatchPutter(target)
    putter.put(rows([f"{n:010}" for n in range(100)]))
    before = len(target.sizes)
    putter.put(rows([f"{n:09}x" for n in range(63)]))
    # Ten are taken; the last to be refused were twelve, of which half is aimed at.
    assert target.sizes[before:] == [6] * 10 + [3]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 20), st.integers(1, 4), st.integers(0, 25))
def test_what_is_said_to_be_durable_is_with_all_before_it(batches, threads, fails_at):
    """In their order, however they end; a failure is raised when it is reached."""
    target = Target(refused=())
    failed = f"{fails_at:03}"

    class Failing:
        def put(self, texts):
            if json.loads(texts[0])["key"] == failed:
                raise UnavailableError("gone")
            target.put(texts)

    outgoing = [putting.Outgoing(rows([f"{n:03}"]), n + 1, "") for n in range(batches)]
    done = []
    try:
        for one in putting.put_in_order(outgoing, putting.BatchPutter(Failing()), threads=threads):
            done.append(one.outgoing.rows_after)
            assert {f"{n:03}" for n in range(one.outgoing.rows_after)} <= set(target.keys)
    except UnavailableError:
        assert fails_at < batches
    assert done == list(range(1, min(batches, fails_at) + 1))
