"""`QueryVectors`, as a client of the service has it."""

from __future__ import annotations

import numpy as np
import pytest

from s3vectors_face import PLACE, Service

QUERY = {"float32": [1.0, 0.0]}
HOUR_MS = 3_600_000


@pytest.fixture
def service():
    service = Service(dimension=2, metric="euclidean", non_filterable=["text"])
    service.put(
        [
            ("far", [9, 0], {"year": 2020, "text": "x"}),
            ("near", [1, 0], {"year": 2024}),
            ("between", [1, 3], None),
        ]
    )
    return service


def refused(service, **members):
    asked = {"queryVector": QUERY, "topK": 1} | members
    answer = service.ask("QueryVectors", **asked)
    assert (answer.status, answer.code) == (400, "ValidationException"), answer.document
    return answer.message


def test_keys_alone_are_answered_unless_more_is_asked_for(service):
    """And the metric always."""
    found = service.do("QueryVectors", queryVector=QUERY, topK=2)
    assert found == {
        "vectors": [{"key": "near"}, {"key": "between"}],
        "distanceMetric": "euclidean",
    }
    found = service.do(
        "QueryVectors", queryVector=QUERY, topK=9, returnDistance=True, returnMetadata=True
    )
    assert found["vectors"] == [
        {"key": "near", "distance": 0.0, "metadata": {"year": 2024}},
        {"key": "between", "distance": 3.0, "metadata": {}},
        {"key": "far", "distance": 8.0, "metadata": {"year": 2020, "text": "x"}},
    ]


def test_an_empty_index_answers_with_nothing_and_its_metric():
    """No error."""
    found = Service().do("QueryVectors", queryVector=QUERY, topK=10)
    assert found == {"vectors": [], "distanceMetric": "cosine"}


def test_a_query_vector_that_is_wrong_is_told_what_is_wrong():
    """In the words of a put."""
    service = Service(dimension=2, metric="cosine")
    said = "Invalid query vector: "
    cases = {
        "vector must have length 2, but has length 3": [1, 2, 3],
        "vector must have length 2, but has length 0": [],
        "cosine distance does not support vectors with zero norm": [0, 0],
        "cosine distance does not support vectors with zero norm, which 5e-30 counts as": [
            3e-30,
            4e-30,
        ],
        "vector must have finite values only, but has NaN at position 1": [0, "NaN"],
        "vector must have numbers only, but has none at position 0": [None, 0],
        "vector values must be at most 1e+15 in magnitude": [1e20, 0],
    }
    for words, vector in cases.items():
        assert refused(service, queryVector={"float32": vector}) == said + words
    answer = service.ask("QueryVectors", topK=1)
    assert answer.message == "A request must include queryVector"


@pytest.mark.parametrize(
    ("filter_", "place"),
    [
        ({"year": {"$gt": None}}, "at year.$gt: "),
        ({"$and": [{"year": 1}, {"year": {"$near": 1}}]}, "at $and[1].year.$near: "),
        ({"$or": []}, "at $or: "),
        ({"year": {"$in": []}}, "at year.$in: "),
        ({"year": {}}, "at year: "),
        ({"text": "x"}, "at text: 'text' was declared non-filterable"),
        ([], "at the top: "),
        ("year", "at the top: "),
        ({"year": {"$eq": [1]}}, "at year.$eq: "),
        ({"$nor": [{"year": 1}]}, "at $nor: "),
    ],
)
def test_a_filter_that_is_wrong_is_told_where(service, filter_, place):
    """Behind the words of the service."""
    assert refused(service, filter=filter_).startswith(f"Invalid query filter: {place}")


def test_a_filter_that_is_as_deep_as_json_can_be_is_refused(service):
    """Before anything walks it."""
    deep = {"year": 1}
    for _ in range(300):
        deep = {"$and": [deep]}
    assert refused(service, filter=deep).startswith("Invalid query filter: ")


def test_an_index_that_is_not_there_is_not_found(service):
    """Whatever else is wrong with the query."""
    answer = service.send(
        "QueryVectors", {**PLACE, "indexName": "other", "queryVector": {"float32": []}, "topK": 1}
    )
    assert (answer.status, answer.code) == (404, "NotFoundException")


@pytest.fixture(scope="module")
def many():
    """12,000 vectors of which many are equally near, with metadata."""
    service = Service(dimension=2, metric="euclidean")
    grid = np.random.default_rng(11).integers(0, 60, (12_000, 2)).tolist()
    service.put((f"k{i:05}", vector, {"i": i, "odd": i % 2}) for i, vector in enumerate(grid))
    return service


@pytest.mark.parametrize("top_k", [999, 1000, 1001, 2500, 10_000])
@pytest.mark.parametrize("metadata", [False, True])
def test_pages_together_are_the_answer_of_the_snapshot_of_the_first(many, top_k, metadata):
    """Whatever is written between two of them, and folded."""
    asked = {
        "queryVector": {"float32": [30.0, 30.0]},
        "topK": top_k,
        "returnMetadata": metadata,
        "returnDistance": True,
        "filter": {"odd": {"$gte": 0}},
    }
    whole = many.index.query(
        [30.0, 30.0], top_k=top_k, filter=asked["filter"], include=["metadata"] * metadata
    )
    page = many.do("QueryVectors", **asked)
    pages = [page["vectors"]]
    while "nextToken" in page:
        many.put([(f"k{len(pages):05}", [30, 30], {"odd": -1}), (f"new{top_k}", [30, 30], None)])
        many.do("DeleteVectors", keys=[f"k{len(pages) + 20:05}"])
        page = many.do("QueryVectors", **asked, nextToken=page["nextToken"])
        pages.append(page["vectors"])
    assert [len(one) for one in pages[:-1]] == [1000] * ((top_k - 1) // 1000)
    found = [one for page in pages for one in page]
    assert [one["key"] for one in found] == [match.key for match in whole.matches]
    assert [one["distance"] for one in found] == [match.distance for match in whole.matches]
    if metadata:
        assert [one["metadata"] for one in found] == [match.metadata for match in whole.matches]
    else:
        assert not any("metadata" in one for one in found)


def test_pages_of_much_metadata_are_as_long_as_an_answer_holds():
    """Of one query, in any number of pages: each record once, in order, with its metadata."""
    service = Service(dimension=1, metric="euclidean", non_filterable=["text"])
    texts = {f"k{i:03}": '"\\\n' * (6_500 if i % 3 else 10) for i in range(300)}
    rows = [(key, [i], {"text": text}) for i, (key, text) in enumerate(texts.items())]
    service.put(rows, at_once=50)
    for top_k in (300, 2000):
        pages = service.pages(
            "QueryVectors", queryVector={"float32": [0.0]}, topK=top_k, returnMetadata=True
        )
        assert len(pages) > 2
        found = [one for page in pages for one in page["vectors"]]
        assert [one["key"] for one in found] == list(texts)
        assert all(one["metadata"] == {"text": texts[one["key"]]} for one in found)


def test_a_token_goes_on_with_its_own_query_alone(many):
    """Other vector, top K, filter or index: refused. What is returned of a match may differ."""
    asked = {"queryVector": QUERY, "topK": 3000, "filter": {"odd": 1}}
    token = many.do("QueryVectors", **asked)["nextToken"]
    assert len(token) <= 4096
    for change in (
        {"queryVector": {"float32": [1.0, 0.5]}},
        {"topK": 2999},
        {"filter": {"odd": 0}},
        {"filter": {}},
        {"nextToken": token[:-1]},
        {"nextToken": "B" + token[1:]},
        {"nextToken": "?"},
    ):
        assert "Invalid nextToken" in refused(many, **{**asked, "nextToken": token, **change})
    found = many.do("QueryVectors", **asked, nextToken=token, returnDistance=True)
    assert len(found["vectors"]) == 1000


def test_a_token_goes_on_with_no_index_made_anew_under_the_name():
    """Nor does that of a listing."""
    service = Service(dimension=1, metric="euclidean")
    rows = [(f"k{i}", [i], None) for i in range(1100)]
    asked = {"queryVector": {"float32": [0.0]}, "topK": 1100}
    service.put(rows)
    tokens = [
        service.do("QueryVectors", **asked)["nextToken"],
        service.do("ListVectors")["nextToken"],
    ]
    service.do("DeleteIndex")
    service.clock.ms += 1
    made = {"dataType": "float32", "dimension": 1, "distanceMetric": "euclidean"}
    service.do("CreateIndex", **made)
    service.put(rows)
    assert "Invalid nextToken" in refused(service, **asked, nextToken=tokens[0])
    assert service.ask("ListVectors", nextToken=tokens[1]).code == "ValidationException"


def test_a_token_of_a_snapshot_that_was_collected_says_to_begin_again():
    """As a wrong request, not as an index that is not there."""
    service = Service(dimension=1, metric="euclidean")
    service.put((f"k{i}", [i], None) for i in range(1100))
    asked = {"queryVector": {"float32": [0.0]}, "topK": 1100}
    token = service.do("QueryVectors", **asked)["nextToken"]
    for day in range(4):
        service.put([(f"new{day}", [1], None)])
        service.index.optimize()
        service.clock.ms += 30 * HOUR_MS
        service.index.gc(3_600)
    cold = Service(store=service.store, clock=service.clock)
    answer = cold.ask("QueryVectors", **asked, nextToken=token)
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert "begin again" in answer.message
    assert len(cold.query([0.0], 1100)) == 1100


def test_a_token_of_a_snapshot_that_is_not_there_yet_says_to_begin_again():
    """As after a store was restored from an older copy."""
    service = Service(dimension=1, metric="euclidean")
    service.put((f"k{i}", [i], None) for i in range(1100))
    older = dict(service.store._objects)
    service.put([("later", [1], None)])
    asked = {"queryVector": {"float32": [0.0]}, "topK": 1100}
    token = service.do("QueryVectors", **asked)["nextToken"]
    service.store._objects = older
    restored = Service(store=service.store, clock=service.clock)
    assert "begin again" in refused(restored, **asked, nextToken=token)


def test_a_query_gives_up_before_its_function_is_ended(service, monkeypatch):
    """It is answered that it may be repeated, in the time that is left to answer."""

    class Context:
        aws_request_id = "r"
        left_ms = 10_000

        def get_remaining_time_in_millis(self):
            return self.left_ms

    def passes():
        service.clock.ms += 50
        return service.clock.ms

    context, handler = Context(), service.faces["coordinator"]
    service.faces["coordinator"] = lambda event, _: handler(event, context)
    monkeypatch.setattr(service.clock, "now_ms", passes)
    assert service.ask("QueryVectors", queryVector=QUERY, topK=1).status == 200
    context.left_ms = 520
    answer = service.ask("QueryVectors", queryVector=QUERY, topK=1)
    assert (answer.status, answer.code) == (503, "ServiceUnavailableException")
