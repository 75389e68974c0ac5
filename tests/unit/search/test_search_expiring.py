"""What is known of the live rows for a span of time holds for exactly that span."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from squash.attributes import live_node, matches, only_live, parse_filter
from squash.attributes.nodes import And, Not, Within
from squash.model import IndexConfig, Metric
from squash.search.expiring import Span, split_live

CONFIG = IndexConfig("x", 1, Metric.COSINE, expires="e")
SECONDS = st.integers(0, 12).map(lambda half: half / 2)


@given(
    partitions=st.lists(st.lists(SECONDS, unique=True, max_size=5).map(sorted), max_size=3),
    time=SECONDS,
    other=SECONDS,
)
def test_in_a_span_the_same_rows_live(partitions, time, other):
    """A span holds a time exactly if no row expires between; what it passes lives at both."""
    expiries = [np.array(numbers, dtype=np.float64) for numbers in partitions]
    span = Span.around(time, "e", expiries)
    every = [number for numbers in partitions for number in numbers]
    live = [number > time for number in every]
    assert span.holds(time)
    assert span.holds(other) is (live == [number > other for number in every])
    assert [matches(span.live, {"e": number}) for number in every] == live
    assert matches(span.live, {})
    assert (span.begin == -np.inf) is all(live)


@given(
    filter_=st.sampled_from(
        [None, {"a": 1}, {"a": 1, "b": 2}, {"$not": {"a": 1}}, {"$not": {"e": {"$lte": 9}}},
         {"a": 1, "$not": {"e": {"$lte": 9}}}, {"$or": [{"a": 1}, {"e": 4}]}]
    ),
    now_ms=st.integers(0, 10**13),
)  # fmt: skip
def test_what_was_joined_is_split(filter_, now_ms):
    """The caller's filter comes back, and the time; also where it asks for expiry itself."""
    node = parse_filter(filter_)
    live = live_node(CONFIG, now_ms)
    assert split_live(only_live(node, live), "e") == (node, now_ms / 1000)
    joined = only_live(node, live)
    assert split_live(joined, "other") == (joined, None)


def test_other_filters_are_left_whole():
    """Only "not at that time or before" says who is live."""
    for part in (
        Within("e", float, 1.0, True, 2.0, True),
        Within("e", float, None, False, 2.0, False),
        Within("e", float, None, False, None, False),
        Within("e", str, None, False, "2", True),
    ):
        for node in (Not(part), part, And((part, Not(part))), And((Not(part),))):
            assert split_live(node, "e") == (node, None)
