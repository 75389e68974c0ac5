"""Every route: what it answers to a good request, from events as the gateway sends them."""

from __future__ import annotations

import base64
import gzip
import json

import numpy as np
import pytest
from api_world import Answer, World, event

import squash.api.documents
import squash.api.querying
import squash.api.requests
import squash.runtime.bounded
from squash.api.access import IamGate, OpenGate
from squash.api.routes import ELSEWHERE, ROUTES
from squash.database import Index
from squash.errors import ChecksumError
from squash.search import LocalSearcher


def keys(document):
    return [match["key"] for match in document["matches"]]


def test_a_real_event_is_answered(papers):
    """An event as API Gateway sends it, with the credential in it."""
    made = event("http-query")
    made["headers"]["x-api-key"] = papers.admin
    answer = papers.send(made)
    assert answer.status == 200
    assert keys(answer.document) == ["c", "b"]
    assert answer.document["snapshot"] == 1
    assert answer.document["matches"][0]["metadata"] == {"year": 2024, "team": "red"}
    assert answer.document["usage"]["store_requests"] >= 1
    assert answer.headers["cache-control"] == "no-store"


def test_a_listing_goes_page_by_page(papers):
    made = event("http-list")
    made["headers"]["x-api-key"] = papers.admin
    seen = []
    while True:
        page = papers.send(made).document
        seen += page["records"]
        if page["cursor"] is None:
            break
        made["rawQueryString"] = f"limit=1&include=metadata,vector&cursor={page['cursor']}"
    assert sorted(record["key"] for record in seen) == ["a", "b", "c"]
    assert {record["key"]: record["vector"] for record in seen}["c"] == [1.0, 1.0]


def test_iam_trusts_the_gateways_authorizer_and_nobody_else():
    """A stage in the path and a body in base64, as they come with it, change nothing."""
    world = World(gate=IamGate())
    made = event("http-create-iam")
    answer = Answer(world.faces["indexes"](made, None), made["requestContext"]["requestId"])
    assert (answer.status, answer.document["name"]) == (201, "papers")
    assert answer.headers["location"] == "/v1/indexes/papers"
    for authorizer in ({}, {"iam": None}, {"iam": {}}, {"jwt": {"claims": {"sub": "x"}}}, None):
        made["requestContext"]["authorizer"] = authorizer
        answer = Answer(world.faces["indexes"](made, None), made["requestContext"]["requestId"])
        assert (answer.status, answer.kind) == (401, "unauthenticated")


def test_indexes_are_created_listed_described_and_dropped(world):
    body = {
        "name": "papers", "dimension": 3.0, "metric": "euclidean", "attributes": {"year": "number"},
        "non_filterable": ["text"], "codec": "osq",
    }  # fmt: skip
    made = world.ask("POST", "/v1/indexes", body)
    assert made.status == 201
    assert body.items() <= made.document.items()
    assert world.ask("GET", "/v1/indexes").document == {"indexes": [made.document]}
    assert world.ask("GET", "/v1/indexes/papers").document == made.document
    assert world.ask("POST", "/v1/indexes", body).status == 409
    assert world.ask("DELETE", "/v1/indexes/papers").document == {"dropped": "papers"}
    assert world.ask("DELETE", "/v1/indexes/papers").status == 404
    assert world.ask("GET", "/v1/indexes").document == {"indexes": []}


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"version": 2}, "unsupported-format"), ({"seed": 1}, "checksum-mismatch")],
    ids=str,
)
def test_an_index_that_cannot_be_read_hides_no_other(papers, change, kind):
    """It is named to those who may know of it, with no word of what is stored."""
    papers.papers("plain")
    key = "papers/index.json"
    entry = json.loads(papers.store.get(key)) | change
    papers.store.put(key, json.dumps(entry).encode())
    listed = papers.ask("GET", "/v1/indexes")
    assert listed.status == 200
    assert [one["name"] for one in listed.document["indexes"]] == ["plain"]
    assert listed.document["unreadable"] == [{"name": "papers", "type": f"urn:squash:{kind}"}]
    token = papers.key("read", indexes=("plain",))
    assert "unreadable" not in papers.ask("GET", "/v1/indexes", key=token).document


def test_records_are_put_got_and_deleted(papers):
    path = "/v1/indexes/papers/vectors"
    coded = base64.b64encode(np.array([3, 4], dtype="<f4").tobytes()).decode()
    put = papers.ask(
        "POST",
        path,
        {"vectors": [{"key": "d", "vector": {"base64": coded}}], "commit_id": "0" * 32},
    )
    assert put.document == {"snapshot": 2, "rows": 1}
    got = papers.ask("POST", f"{path}/get", {"keys": ["d", "zzz", "a"], "include": ["vector"]})
    assert got.document == {
        "records": [{"key": "d", "vector": [3.0, 4.0]}, {"key": "a", "vector": [1.0, 0.0]}]
    }
    again = {"vectors": [{"key": "d", "vector": [3, 4]}], "commit_id": "0" * 32}
    assert papers.ask("POST", path, again).document["snapshot"] == 2
    deleted = papers.ask("POST", f"{path}/delete", {"keys": ["a", "zzz"]})
    assert deleted.status == 200
    deleted = papers.ask("POST", f"{path}/delete", {"filter": {"year": 2021}})
    assert deleted.document["rows"] == 1
    left = papers.ask("GET", path, query="include=none").document["records"]
    assert {record["key"] for record in left} == {"c", "d"}


def test_several_queries_are_answered_in_order_with_their_own_filters(papers):
    body = {
        "queries": [
            {"vector": [1, 0]},
            {"vector": [0, 1], "filter": {"team": "red"}},
            {"vector": [0, 1], "filter": {}},
        ],
        "filter": {"year": {"$gt": 2019}},
        "top_k": 1,
        "exact": True,
        "consistency": "eventual",
        "include": [],
        "allow_partial": True,
        "timeout_ms": 5000,
    }
    answers = papers.ask("POST", "/v1/indexes/papers/query", body).document["answers"]
    assert [keys(answer) for answer in answers] == [["c"], ["c"], ["b"]]
    assert set(answers[0]["matches"][0]) == {"key", "distance"}


def test_a_query_explains_itself(papers):
    answer = papers.ask(
        "POST",
        "/v1/indexes/papers/query",
        {"vector": [1, 0], "explain": True, "include": ["vector"]},
    )
    assert answer.document["explain"]["plan"]
    assert answer.document["matches"][0]["vector"] == [1.0, 0.0]


def test_stats_and_folding_in_place(papers):
    assert papers.ask("GET", "/v1/indexes/papers/stats").document["rows"] == 3
    folded = papers.ask("POST", "/v1/indexes/papers/optimize")
    assert (folded.status, folded.document) == (200, {"snapshot": 2, "rows": 3})
    assert papers.ask("POST", "/v1/indexes/papers/optimize", {}).document["snapshot"] == 2


def test_health_needs_no_credential_and_tells_nothing(world):
    before = world.stored()
    answer = world.ask("GET", "/v1/health", key="")
    assert (answer.status, answer.document) == (200, {"status": "ok"})
    assert world.stored() == before


def test_everybody_may_do_everything_at_an_open_gate():
    world = World(gate=OpenGate())
    world.admin = ""
    assert World.papers(world).ask("GET", "/v1/indexes/papers/stats", key="").status == 200


def test_an_index_made_anew_is_never_taken_for_the_one_before(papers):
    """Another function drops it and makes it again: neither reads nor writes go to the old one."""
    path = "/v1/indexes/papers"
    body = {"vector": [1, 0], "top_k": 5}
    assert len(papers.ask("POST", f"{path}/query", body).document["matches"]) == 3
    papers.database.drop_index("papers")
    assert papers.ask("POST", f"{path}/query", body).status == 404
    papers.database.create_index("papers", dimension=2)
    assert papers.ask("POST", f"{path}/query", body).document["matches"] == []
    papers.database.drop_index("papers")
    papers.database.create_index("papers", dimension=2)
    record = {"vectors": [{"key": "new", "vector": [1, 0]}]}
    assert papers.ask("POST", f"{path}/vectors", record).status == 200
    assert keys(papers.ask("POST", f"{path}/query", body).document) == ["new"]
    papers.database.drop_index("papers")
    assert papers.ask("POST", f"{path}/vectors", record).status == 404


def test_an_index_that_went_while_it_was_read_is_gone_not_damaged(papers, monkeypatch):
    """What a reader finds missing of a dropped index is no damage."""
    papers.ask("GET", "/v1/indexes/papers/stats")

    def broken(index):
        raise ChecksumError("an object is missing", object_key="x")

    monkeypatch.setattr(Index, "stats", broken)
    assert papers.ask("GET", "/v1/indexes/papers/stats").status == 500
    papers.database.drop_index("papers")
    assert papers.ask("GET", "/v1/indexes/papers/stats").status == 404


def test_few_indexes_are_kept_open(world):
    """The least recently used is closed, and opens again when it is asked for."""
    for i in range(6):
        world.papers(f"p{i}")
    opened = world.faces["coordinator"].services.opened
    assert len(opened._kept) == 4
    for i in range(6):
        body = {"vector": [1, 0]}
        assert world.ask("POST", f"/v1/indexes/p{i}/query", body).status == 200


def test_an_answer_longer_than_lambda_lets_through_asks_for_less(papers, monkeypatch):
    """Escaped characters count: Lambda passes the answer on as a JSON string."""
    body = {"vector": [1, 0], "top_k": 3}
    whole = papers.ask("POST", "/v1/indexes/papers/query", body)
    escaped = len(json.dumps(whole.raw["body"]))
    assert escaped > len(whole.raw["body"])
    monkeypatch.setattr(squash.api.requests, "HTTP_ANSWER_BYTES_MAX", escaped)
    assert papers.ask("POST", "/v1/indexes/papers/query", body).status == 200
    monkeypatch.setattr(squash.api.requests, "HTTP_ANSWER_BYTES_MAX", escaped - 1)
    large = papers.ask("POST", "/v1/indexes/papers/query", body)
    assert (large.status, large.kind) == (413, "too-large")
    assert "top_k" in large.document["detail"]
    assert f"more than {escaped - 1} bytes" in large.document["detail"]


@pytest.mark.parametrize("version", ["3.11", "3.13"])
def test_an_answer_is_measured_as_lambdas_client_writes_it(monkeypatch, version):
    """Characters beyond ASCII take as much as in UTF-8, but for the oldest Python."""
    from awslambdaric.lambda_runtime_marshaller import Encoder

    monkeypatch.setenv("AWS_EXECUTION_ENV", f"AWS_Lambda_python{version}")
    monkeypatch.setattr(squash.api.requests, "_ASCII_ONLY", version == "3.11")
    monkeypatch.setattr(squash.api.requests, "HTTP_ANSWER_BYTES_MAX", 1)
    for body in ("{}", '{"text":"a \\"word\\""}', '{"text":"sł\u00f8wo 言葉 \U0001f600\\n"}'):
        assert squash.api.requests.answer_bytes(body) == len(Encoder().encode(body).encode())


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "least"),
    [
        ("POST", "/query", {"vector": [1, 0], "include": ["vector"]}, "",
         '{"key":"a","distance":0.0,0.0,0.0},'),
        ("POST", "/vectors/get", {"keys": ["a", "b", "c"], "include": ["vector"]}, "",
         '{"key":"a",0.0,0.0},'),
        ("GET", "/vectors", None, "include=vector", '{"key":"a",0.0,0.0},'),
        ("POST", "/query", {"vector": [1, 0]}, "",
         '{"key":"a","distance":0.0,"metadata":{}},red'),
        ("POST", "/vectors/get", {"keys": ["a", "b", "c"], "include": ["metadata"]}, "",
         '{"key":"a","metadata":{}},red'),
    ],
)  # fmt: skip
def test_what_is_too_long_is_not_even_written(
    papers, monkeypatch, method, path, body, query, least
):
    """A vector takes many times as much as numbers and as text: it could be all the memory.

    So could texts: ten thousand of 40 KiB each are 400 MB, and as much again when they are written.
    """
    monkeypatch.setattr(squash.api.documents, "_included", None)
    monkeypatch.setattr(squash.api.requests, "HTTP_ANSWER_BYTES_MAX", 3 * len(least) - 4)
    large = papers.ask(method, f"/v1/indexes/papers{path}", body, query=query)
    assert (large.status, large.kind) == (413, "too-large")


@pytest.mark.parametrize(
    ("include", "least"),
    [
        ([], '{"key":"a","distance":0.0},'),
        (["metadata"], '{"key":"a","distance":0.0,"metadata":{}},'),
        (["vector"], '{"key":"a","distance":0.0,0.0,0.0},'),
    ],
)
@pytest.mark.parametrize("filter_", [None, {"year": {"$gte": 0}}])
def test_queries_that_must_have_too_long_an_answer_are_not_searched(
    papers, monkeypatch, include, least, filter_
):
    """A thousand queries of thousands of matches each took many seconds, and were refused then."""
    body = {"queries": [{"vector": [1, 0]}] * 3, "top_k": 10_000, "include": include}
    body |= {} if filter_ is None else {"filter": filter_}
    searched = []
    real = LocalSearcher.search

    def search(self, view, queries):
        searched.extend(queries)
        return real(self, view, queries)

    monkeypatch.setattr(LocalSearcher, "search", search)
    monkeypatch.setattr(squash.runtime.bounded, "MATCHES_AT_ONCE_MAX", 3)
    monkeypatch.setattr(squash.api.querying, "HTTP_ANSWER_BYTES_MAX", 9 * len(least))
    assert papers.ask("POST", "/v1/indexes/papers/query", body).status == 200
    assert len(searched) == 3
    searched.clear()
    monkeypatch.setattr(squash.api.querying, "HTTP_ANSWER_BYTES_MAX", 6 * len(least) - 1)
    large = papers.ask("POST", "/v1/indexes/papers/query", body)
    assert (large.status, large.kind) == (413, "too-large")
    assert "top_k" in large.document["detail"]
    assert "include less" in large.document["detail"]
    assert len(searched) == (0 if filter_ is None else 2)


@pytest.mark.parametrize("body", ["[1.5e0, -2]", "[1, 2.0]"])
def test_numbers_are_json_numbers(papers, body):
    answer = papers.ask("POST", "/v1/indexes/papers/query", f'{{"vector": {body}}}')
    assert answer.status == 200
    assert "NaN" not in answer.raw["body"]


def test_indexes_in_vector_buckets_are_not_asked_here(world):
    """They have policies, which another interface holds to: here they are neither made nor seen."""
    world.database.vector_buckets.create("media")
    world.database.create_index("media/papers", dimension=2)
    answer = world.ask("POST", "/v1/indexes", {"name": "media/more", "dimension": 2})
    assert (answer.status, answer.document["field"]) == (400, "name")
    assert "S3 Vectors API" in answer.document["detail"]
    world.ask("POST", "/v1/indexes", {"name": "plain", "dimension": 2})
    answer = world.ask("GET", "/v1/indexes")
    assert [one["name"] for one in answer.document["indexes"]] == ["plain"]
    for path in ("/v1/indexes/media/papers", "/v1/indexes/media%2Fpapers"):
        assert world.ask("GET", path).status in {400, 404}
    assert [one.name for one in world.database.list_indexes()] == ["plain", "media/papers"]


@pytest.mark.parametrize("action", ["gc", "optimize"])
def test_a_web_page_does_nothing_where_nobody_need_have_a_key(action):
    """A form of any page can be posted to this machine, as anything but JSON."""
    world = World(gate=OpenGate())
    world.papers()
    before = world.stored()
    path = f"/v1/indexes/papers/{action}"
    page = {"origin": "https://evil.example"}
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        refused = world.ask("POST", path, key="", headers=page | {"content-type": kind})
        assert (refused.status, refused.kind) == (403, "permission-denied")
    assert world.stored() == before
    own = page | {"content-type": "application/json"}
    assert world.ask("POST", path, key="", headers=own).status == 200
    assert world.ask("POST", path, key="").status == 200
    assert world.ask("GET", "/v1/indexes", key="", headers=page).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_what_the_gateway_has_no_route_for_is_told_the_right_methods(papers, method):
    """It comes to one function, whichever serves the path: a laptop's answer is the same."""
    for path in sorted({route.path for route in ROUTES}):
        allowed = sorted(route.method for route in ROUTES if route.path == path)
        if method in allowed:
            continue
        made = papers.event(method, path.replace("{index}", "papers"))
        answer = Answer(papers.faces[ELSEWHERE](made, None), made["requestContext"]["requestId"])
        assert (answer.status, answer.headers.get("allow")) == (405, ", ".join(allowed)), path
        assert answer.document == papers.send(made).document


@pytest.mark.parametrize(("coding", "status"), [("gzip", 415), ("br, a", 415), ("identity", 200)])
def test_a_compressed_body_is_told_to_be_none(papers, coding, status):
    """It would be refused as what is no JSON, which it is not to who sent it."""
    body = json.dumps({"vector": [1, 0]}).encode()
    path, headers = "/v1/indexes/papers/query", {"content-encoding": coding}
    made = papers.event("POST", path, "", headers=headers)
    data = body if status == 200 else gzip.compress(body)
    made |= {"body": base64.b64encode(data).decode(), "isBase64Encoded": True}
    answer = papers.send(made)
    assert answer.status == status
    assert status == 200 or coding in answer.document["detail"]
