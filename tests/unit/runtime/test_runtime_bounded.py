"""Calls that may have so many matches answer as others do, or are refused before they do more."""

from __future__ import annotations

from unittest.mock import patch
from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.attributes import parse_filter
from squash.errors import InvalidArgumentError, TooLargeError
from squash.maintain import BuildOptions
from squash.runtime.bounded import search_bounded
from squash.search import LocalSearcher, Query
from squash.search.spending import Spent

ROWS = 300
DIMENSION = 4
SMALL = BuildOptions(
    partition_rows_target=40,
    partition_rows_max=64,
    cluster_rows_target=8,
    calibration_queries=20,
    exact_rows_max=8,
)
FILTERS = [None, {"n": {"$gte": 0}}, {"n": {"$lt": 5}}, {"n": 1_000}]


@pytest.fixture(scope="module")
def index():
    """An index with partitions, deleted rows, and rows that are only in the log."""
    rng = np.random.default_rng(7)
    database = squash.connect(f"memory://{uuid4().hex}")
    made = database.create_index("x", dimension=DIMENSION, metric="euclidean")
    vectors = rng.normal(size=(ROWS, DIMENSION)).astype(np.float32)
    made.put(keys=[f"k{i}" for i in range(ROWS)], vectors=vectors,
             metadata=[{"n": i} for i in range(ROWS)])  # fmt: skip
    made.optimize(options=SMALL)
    made.put(keys=[f"f{i}" for i in range(9)], vectors=vectors[:9] + 0.1)
    made.delete(keys=[f"k{i}" for i in range(100, 140)])
    return made


class Counting:
    """Searches, and notes how many queries came at a time; each search spends one call."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def search(self, view, queries):
        self.seen.append(len(queries))
        found = LocalSearcher().search(view, queries)
        found[0][1].spent = Spent(invocations=1)
        return found


def plain(matches):
    return [(match.key, match.distance, match.metadata) for match in matches]


def asked(count: int, k: int, filters=FILTERS) -> list[Query]:
    rng = np.random.default_rng(count + k)
    nodes = [parse_filter(one, non_filterable=()) for one in filters]
    return [
        Query(rng.normal(size=DIMENSION).astype(np.float32), k, nodes[place % len(nodes)])
        for place in range(count)
    ]


@pytest.mark.parametrize("at_once", [1, 10, 100, 1_000, 1_000_000])
@pytest.mark.parametrize("k", [1, 7, 268, 269, 270, 10_000])
def test_as_many_as_there_are_may_be_had_and_no_fewer(index, at_once, k):
    """Whatever is searched at a time: just what has more matches than it may is refused."""
    view = index._session.view("strong")
    queries = asked(13, k)
    alone = LocalSearcher().search(view, queries)
    total = sum(len(matches) for matches, _ in alone)
    with patch("squash.runtime.bounded.MATCHES_AT_ONCE_MAX", at_once):
        for most in (total, total + 1, 13 * k):
            searcher = Counting()
            found = search_bounded(searcher, view, queries, most)
            assert [plain(matches) for matches, _ in found] == [plain(one) for one, _ in alone]
            assert sum(searcher.seen) == len(queries)
            assert found[0][1].spent.invocations == len(searcher.seen)
            assert all(trace.spent is None for _, trace in found[1:])
        with pytest.raises(TooLargeError, match="lower top_k") as caught:
            search_bounded(Counting(), view, queries, total - 1)
    assert caught.value.field == "matches_max"


def test_what_is_known_to_be_too_many_is_not_searched(index):
    """Queries without a filter have k matches, or as many as records live."""
    view = index._session.view("strong")
    live = index.stats().rows
    assert live == ROWS + 9 - 40
    queries = asked(5, 10_000, filters=[None])
    searcher = Counting()
    with pytest.raises(TooLargeError):
        search_bounded(searcher, view, queries, 5 * live - 1)
    assert not searcher.seen
    assert len(search_bounded(searcher, view, queries, 5 * live)) == 5


def test_what_has_too_many_is_not_searched_on(index):
    """How many pass a filter is known when they are found: then no more queries are searched."""
    view = index._session.view("strong")
    searcher = Counting()
    with (
        patch("squash.runtime.bounded.MATCHES_AT_ONCE_MAX", 2 * (ROWS + 9)),
        pytest.raises(TooLargeError),
    ):
        search_bounded(searcher, view, asked(100, 10_000, filters=[{"n": {"$gte": 0}}]), 999)
    assert searcher.seen == [2, 2]


def test_what_has_few_is_searched_in_few_steps(index):
    """Each step costs calls of functions, and memory may hold more queries of few matches."""
    view = index._session.view("strong")
    searcher = Counting()
    with patch("squash.runtime.bounded.MATCHES_AT_ONCE_MAX", 2 * (ROWS + 9)):
        found = search_bounded(searcher, view, asked(100, 10_000, filters=[{"n": 1}]), 999)
    assert searcher.seen == [2, 4, 8, 16, 32, 38]
    assert sum(len(matches) for matches, _ in found) == 100


def test_an_index_is_asked_for_no_more_than_so_many(index):
    """`matches_max` is of all queries of a call, whatever else is asked."""
    vector = np.ones(DIMENSION)
    for more in ({}, {"as_of": index.stats().snapshot}, {"consistency": "eventual"}):
        assert len(index.query(vector, top_k=5, matches_max=5, **more).matches) == 5
        with pytest.raises(TooLargeError):
            index.query(vector, top_k=5, matches_max=4, **more)
        answers = index.query_many([vector] * 3, top_k=5, matches_max=15, **more)
        assert answers[0].matches == index.query(vector, top_k=5).matches
        with pytest.raises(TooLargeError):
            index.query_many([vector] * 3, top_k=5, matches_max=14, **more)
    assert len(index.query(vector, top_k=10, filter={"n": {"$lt": 3}}, matches_max=3).matches) == 3
    for bad in (0, -1, 1.5, True, "5", 10**400):
        with pytest.raises(InvalidArgumentError, match="matches_max"):
            index.query_many([vector], matches_max=bad)
