"""Row filters: whatever a key asks for, each row it is given passes its row filter."""

from __future__ import annotations

import pytest
from api_world import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.attributes import parse_filter
from squash.errors import FilterError, InvalidArgumentError
from squash.storage import CountingStore, MemoryStore
from strategies import filters_for, metadata_rows, passes

Q = "/v1/indexes/papers/query"
V = "/v1/indexes/papers/vectors"


def usable(filter_):
    """Filters that a key can have; `strategies` also draws some that say nothing."""
    try:
        return parse_filter(filter_) is not None
    except FilterError:
        return False


@st.composite
def scenes(draw):
    rows = draw(metadata_rows(min_size=1, max_size=12))
    row_filter = draw(filters_for(rows).filter(usable))
    asked = draw(st.lists(st.one_of(st.none(), filters_for(rows)), min_size=1, max_size=3))
    return rows, row_filter, asked


@settings(
    max_examples=examples(40, least=25), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(scene=scenes(), limit=st.integers(1, 5), fold=st.booleans())
def test_a_row_filter_is_never_widened(scene, limit, fold):
    """Query, queries, get and list give exactly the rows that pass both filters."""
    rows, row_filter, asked = scene
    world = World()
    world.ask("POST", "/v1/indexes", {"name": "papers", "dimension": 1, "metric": "euclidean"})
    vectors = [{"key": str(i), "vector": [i], "metadata": row} for i, row in enumerate(rows)]
    assert world.ask("POST", V, {"vectors": vectors}).status == 200
    if fold:
        world.ask("POST", "/v1/indexes/papers/optimize")
    try:
        token = world.key("read", row_filter=row_filter)
    except InvalidArgumentError:
        return
    visible = {str(i) for i, row in enumerate(rows) if passes(row_filter, row)}

    def keys(document, name="matches"):
        return [one["key"] for one in document[name]]

    expected = [
        {key for key in visible if filter_ is None or passes(filter_, rows[int(key)])}
        for filter_ in asked
    ]
    queries = [
        {"vector": [0]} | ({} if filter_ is None else {"filter": filter_}) for filter_ in asked
    ]
    many = world.ask("POST", Q, {"queries": queries, "top_k": 100}, key=token)
    assert [set(keys(one)) for one in many.document["answers"]] == expected
    for body, wanted in zip(queries, expected, strict=True):
        one = world.ask("POST", Q, {**body, "top_k": 100, "include": []}, key=token)
        assert set(keys(one.document)) == wanted
        assert not {"rows_scanned", "vectors_read", "levels"} & set(one.document["usage"])
    every = [str(i) for i in range(len(rows))]
    got = world.ask("POST", f"{V}/get", {"keys": every, "include": ["vector"]}, key=token)
    assert keys(got.document, "records") == [key for key in every if key in visible]
    assert all("metadata" not in record for record in got.document["records"])
    listed, query = [], f"limit={limit}&include=none"
    while True:
        page = world.ask("GET", V, query=query, key=token).document
        listed += keys(page, "records")
        if page["cursor"] is None:
            break
        assert len(page["records"]) == limit
        query = f"limit={limit}&include=none&cursor={page['cursor']}"
    assert sorted(listed) == sorted(visible)


@pytest.mark.parametrize(
    "attempt",
    [
        {"$or": [{"team": "red"}, {"team": "blue"}]},
        {"$not": {"team": "red"}},
        {"team": {"$in": ["red", "blue"]}},
        {"$and": [{"team": {"$exists": True}}]},
        {},
    ],
)
def test_asking_for_more_gives_no_more(papers, attempt):
    token = papers.key("read", row_filter={"team": "red"})
    answer = papers.ask("POST", Q, {"vector": [1, 0], "filter": attempt}, key=token)
    assert {one["metadata"]["team"] for one in answer.document["matches"]} <= {"red"}


def test_what_tells_of_hidden_rows_is_refused(papers):
    token = papers.key("read", row_filter={"team": "red"})
    assert papers.ask("GET", "/v1/indexes/papers/stats", key=token).status == 403
    body = {"vector": [1, 0], "explain": True}
    assert papers.ask("POST", Q, body, key=token).status == 403


def test_a_cursor_is_that_of_a_row_that_may_be_seen(papers):
    """It is the one that a listing without a row filter gives after the same record."""
    token = papers.key("read", row_filter={"team": "blue"})
    page = papers.ask("GET", V, query="limit=1", key=token).document
    assert ([one["key"] for one in page["records"]], page["cursor"]) == (["b"], None)
    token = papers.key("read", row_filter={"team": "red"})
    page = papers.ask("GET", V, query="limit=1", key=token).document
    key, cursor = page["records"][0]["key"], None
    while True:
        query = "limit=1" + (f"&cursor={cursor}" if cursor else "")
        whole = papers.ask("GET", V, query=query).document
        cursor = whole["cursor"]
        if whole["records"][0]["key"] == key:
            break
    assert page["cursor"] == cursor


def test_a_page_of_few_visible_rows_asks_the_store_no_more_than_one_of_all():
    """Else who sees little of a large index waits until the function's time is over."""
    store = CountingStore(MemoryStore())
    papers = World(store=store).papers()
    for part in range(4):
        made = [{"key": f"k{part}.{i}", "vector": [1, i]} for i in range(1000)]
        assert papers.ask("POST", V, {"vectors": made}).status == 200
    spent = []
    for token, seen in (
        (papers.key("read"), 1000),
        (papers.key("read", row_filter={"team": "blue"}), 1),
    ):
        for _ in range(2):  # the first time keys and the like are read
            before = store.counts().requests
            page = papers.ask("GET", V, query="limit=1000", key=token).document
            assert len(page["records"]) == seen
        spent.append(store.counts().requests - before)
    assert spent[1] <= spent[0]


def test_a_row_filter_that_cannot_be_applied_lets_nothing_through(world):
    """Where its attribute is not filterable, the key sees no row at all."""
    world.ask("POST", "/v1/indexes", {"name": "papers", "dimension": 2, "non_filterable": ["team"]})
    record = {"key": "a", "vector": [1, 0], "metadata": {"team": "red"}}
    world.ask("POST", V, {"vectors": [record]})
    token = world.key("read", row_filter={"team": "red"})
    for method, path, body in (
        ("POST", Q, {"vector": [1, 0]}),
        ("POST", f"{V}/get", {"keys": ["a"]}),
        ("GET", V, None),
    ):
        assert world.ask(method, path, body, key=token).status == 403


def test_places_in_a_filter_are_those_of_the_callers_own(papers):
    token = papers.key("read", row_filter={"team": "red"})
    body = {"vector": [1, 0], "filter": {"$or": [{"year": {"$x": 1}}]}}
    answer = papers.ask("POST", Q, body, key=token)
    assert (answer.status, answer.document["field"]) == (400, "filter.$or[0].year.$x")
    deep = {"year": 2021}
    for _ in range(15):
        deep = {"$not": deep}
    assert papers.ask("POST", Q, {"vector": [1, 0], "filter": deep}).status == 200
    answer = papers.ask("POST", Q, {"vector": [1, 0], "filter": deep}, key=token)
    assert (answer.status, answer.document["field"]) == (400, "filter")
    assert "team" not in answer.raw["body"]
