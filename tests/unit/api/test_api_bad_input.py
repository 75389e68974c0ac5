"""Bad input at every route: the right status, a problem, nothing leaked, nothing written."""

from __future__ import annotations

import base64
import json

import pytest
from api_world import World

from squash import limits
from squash.api.routes import ROUTES, Body

Q = "/v1/indexes/papers/query"
V = "/v1/indexes/papers/vectors"
P = "/v1/indexes/papers/vectors/patch"
I = "/v1/indexes"
BIG = "x" * 70_000


def deep(levels):
    value = {"a": 1}
    for _ in range(levels):
        value = {"$not": value}
    return value


def record(**changes):
    return {"vectors": [{"key": "k", "vector": [1, 2], **changes}]}


def patch(**changes):
    return {"patches": [{"key": "a", "metadata": {}, **changes}]}


def vector64(data):
    return {"vector": {"base64": base64.b64encode(data).decode()}}


# method, path, body; status, type, field
BAD_BODIES = [
    ("POST", Q, "", 400, "invalid-argument", None),
    ("POST", Q, "{", 400, "invalid-argument", None),
    ("POST", Q, "[]", 400, "invalid-argument", None),
    ("POST", Q, "null", 400, "invalid-argument", None),
    ("POST", Q, "{}", 400, "invalid-argument", "vector"),
    ("POST", Q, '{"vector": [NaN, 1]}', 400, "invalid-argument", "vector[0]"),
    ("POST", Q, '{"vector": [1, -Infinity]}', 400, "invalid-argument", "vector[1]"),
    ("POST", Q, '{"vector": [1e999, 1]}', 400, "invalid-argument", "vector"),
    ("POST", Q, '{"vector": [1, 1], "vector": [1, 2]}', 400, "invalid-argument", "vector"),
    ("POST", Q, '{"queries": [{"vector": [1, 1], "filter": {"a": 1, "a": 2}}]}', 400,
     "invalid-argument", "queries[0].filter.a"),
    ("POST", Q, "[" * 100_000, 400, "invalid-argument", None),
    ("POST", Q, '{"vector":' + "[" * 50_000 + "]" * 50_000 + "}", 400, "invalid-argument", None),
    ("POST", Q, '{"vector": [' + "9" * 5_000 + ", 1]}", 400, "invalid-argument", None),
    ("POST", Q, '{"vector": [' + "9" * 400 + ", 1]}", 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": "abc"}, 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": []}, 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": [1, "2"]}, 400, "invalid-argument", "vector[1]"),
    ("POST", Q, {"vector": [1, True]}, 400, "invalid-argument", "vector[1]"),
    ("POST", Q, {"vector": [1, None]}, 400, "invalid-argument", "vector[1]"),
    ("POST", Q, {"vector": [[1], [2]]}, 400, "invalid-argument", "vector[0]"),
    ("POST", Q, {"vector": [1, 2, 3]}, 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": [0] * 5_000}, 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": [0, 0]}, 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": [1e300, 0]}, 400, "invalid-argument", "vector"),
    ("POST", Q, {"vector": {"base64": 5}}, 400, "invalid-argument", "vector.base64"),
    ("POST", Q, {"vector": {"base64": "%%%%"}}, 400, "invalid-argument", "vector.base64"),
    ("POST", Q, {"vector": {"base64": "AAAAAA=="}, "x": 1}, 400, "invalid-argument", "x"),
    ("POST", Q, vector64(b"12345"), 400, "invalid-argument", "vector.base64"),
    ("POST", Q, vector64(b"\0\0\xc0\x7f" * 2), 400, "invalid-argument", "vector"),
    ("POST", Q, vector64(b"\0\0\x80\x3f" * 3), 400, "invalid-argument", "vector"),
    ("POST", Q, {"text": "cats"}, 400, "invalid-argument", "text"),
    ("POST", Q, {"vector": [1, 2], "queries": [{"vector": [1, 2]}]}, 400, "invalid-argument",
     "vector"),
    ("POST", Q, {"queries": []}, 400, "invalid-argument", "queries"),
    ("POST", Q, {"queries": [{"vector": [1, 2]}] * 1_001}, 413, "too-large", "queries"),
    ("POST", Q, {"queries": [{"vector": [1, 2]}, {}]}, 400, "invalid-argument",
     "queries[1].vector"),
    ("POST", Q, {"queries": [{"vector": [1, 2]}, {"vector": [1]}]}, 400, "invalid-argument",
     "queries[1].vector"),
    ("POST", Q, {"queries": [{"vector": [1, 2]}, {"vector": [0, 0]}]}, 400, "invalid-argument",
     "queries[1].vector"),
    ("POST", Q, {"queries": [{"vector": [1, 2], "filter": {"a": {"$x": 1}}}]}, 400,
     "invalid-filter", "queries[0].filter.a.$x"),
    ("POST", Q, {"queries": [{"vector": [1, 2]}], "filter": {"a": {"$x": 1}}}, 400,
     "invalid-filter", "filter.a.$x"),
    ("POST", Q, {"vector": [1, 2], "filter": []}, 400, "invalid-argument", "filter"),
    ("POST", Q, {"vector": [1, 2], "filter": None}, 400, "invalid-argument", "filter"),
    ("POST", Q, {"vector": [1, 2], "filter": deep(17)}, 400, "invalid-filter",
     "filter" + ".$not" * 16),
    ("POST", Q, {"vector": [1, 2], "filter": deep(400)}, 400, "invalid-filter",
     "filter" + ".$not" * 16),
    ("POST", Q, {"vector": [1, 2], "filter": {"$or": [{"a": i} for i in range(300)]}}, 400,
     "invalid-filter", "filter.$or[256].a"),
    ("POST", Q, {"vector": [1, 2], "filter": {"a": {"$in": list(range(2_000))}}}, 400,
     "invalid-filter", "filter.a.$in"),
    ("POST", Q, {"vector": [1, 2], "filter": {"a": BIG}}, 400, "invalid-filter", "filter.a"),
    ("POST", Q, '{"vector": [1, 2], "filter": {"a": "\\ud800"}}', 400, "invalid-filter",
     "filter.a"),
    ("POST", Q, '{"vector": [1, 2], "\\ud800": 1}', 400, "invalid-argument", "\\ud800"),
    ("POST", Q, {"vector": [1, 2], "top_k": 0}, 400, "invalid-argument", "top_k"),
    ("POST", Q, {"vector": [1, 2], "top_k": 10_001}, 400, "invalid-argument", "top_k"),
    ("POST", Q, {"vector": [1, 2], "top_k": 1.5}, 400, "invalid-argument", "top_k"),
    ("POST", Q, {"vector": [1, 2], "top_k": True}, 400, "invalid-argument", "top_k"),
    ("POST", Q, '{"vector": [1, 2], "top_k": 1e999}', 400, "invalid-argument", "top_k"),
    ("POST", Q, {"vector": [1, 2], "recall_target": 0}, 400, "invalid-argument", "recall_target"),
    ("POST", Q, {"vector": [1, 2], "recall_target": "1"}, 400, "invalid-argument",
     "recall_target"),
    ("POST", Q, '{"vector": [1, 2], "recall_target": 1e999}', 400, "invalid-argument",
     "recall_target"),
    ("POST", Q, {"vector": [1, 2], "exact": 1}, 400, "invalid-argument", "exact"),
    ("POST", Q, {"vector": [1, 2], "explain": "yes"}, 400, "invalid-argument", "explain"),
    ("POST", Q, {"vector": [1, 2], "consistency": "weak"}, 400, "invalid-argument",
     "consistency"),
    ("POST", Q, {"vector": [1, 2], "include": "vector"}, 400, "invalid-argument", "include"),
    ("POST", Q, {"vector": [1, 2], "include": [["vector"]]}, 400, "invalid-argument",
     "include[0]"),
    ("POST", Q, {"vector": [1, 2], "timeout_ms": 29_001}, 400, "invalid-argument", "timeout_ms"),
    ("POST", Q, {"vector": [1, 2], "topk": 5}, 400, "invalid-argument", "topk"),
    ("POST", V, {}, 400, "invalid-argument", "vectors"),
    ("POST", V, {"vectors": []}, 400, "invalid-argument", "vectors"),
    ("POST", V, {"vectors": [7]}, 400, "invalid-argument", "vectors[0]"),
    ("POST", V, {"vectors": [{"key": "k"}]}, 400, "invalid-argument", "vectors[0].vector"),
    ("POST", V, record(key=""), 400, "invalid-argument", "vectors[0].key"),
    ("POST", V, record(key="k" * 1_025), 400, "invalid-argument", "vectors[0].key"),
    ("POST", V, record(key=5), 400, "invalid-argument", "vectors[0].key"),
    ("POST", V, record(vector=[1]), 400, "invalid-argument", "vectors[0].vector"),
    ("POST", V, record(vector=[0, 0]), 400, "invalid-argument", "vectors[0].vector"),
    ("POST", V, record(score=1), 400, "invalid-argument", "vectors[0].score"),
    ("POST", V, record(metadata=[]), 400, "invalid-argument", "vectors[0].metadata"),
    ("POST", V, record(metadata={"a": None}), 400, "invalid-argument", "vectors[0].metadata.a"),
    ("POST", V, record(metadata={"a": {"b": 1}}), 400, "invalid-argument",
     "vectors[0].metadata.a"),
    ("POST", V, record(metadata={"$a": 1}), 400, "invalid-argument", "vectors[0].metadata.$a"),
    ("POST", V, record(metadata={"a": 2**53 + 1}), 400, "invalid-argument",
     "vectors[0].metadata.a"),
    ("POST", V, record(metadata={"a": "x" * 3_000}), 413, "too-large", "vectors[0].metadata"),
    ("POST", V, record(metadata={str(i): 1 for i in range(51)}), 413, "too-large",
     "vectors[0].metadata"),
    ("POST", V, {"vectors": record()["vectors"] * 2}, 400, "invalid-argument", "vectors[1].key"),
    ("POST", V, {"vectors": record()["vectors"] * 1_001}, 413, "too-large", "vectors"),
    ("POST", V, record() | {"commit_id": "x"}, 400, "invalid-argument", "commit_id"),
    ("POST", V, record() | {"if_absent": 1}, 400, "invalid-argument", "if_absent"),
    ("POST", V, record() | {"if_absent": None}, 400, "invalid-argument", "if_absent"),
    ("POST", V, record() | {"if_snapshot": -1}, 400, "invalid-argument", "if_snapshot"),
    ("POST", V, record() | {"if_snapshot": 1.5}, 400, "invalid-argument", "if_snapshot"),
    ("POST", V, record() | {"if_snapshot": "1"}, 400, "invalid-argument", "if_snapshot"),
    ("POST", V, record() | {"if_snapshot": 2**60}, 400, "invalid-argument", "if_snapshot"),
    ("POST", V, record() | {"if_snapshot": 99}, 400, "invalid-argument", "if_snapshot"),
    ("POST", V, record() | {"as_of": 1}, 400, "invalid-argument", "as_of"),
    ("POST", V, record(key="a") | {"if_absent": True}, 409, "conflict", "vectors[0].key"),
    ("POST", V, record() | {"if_snapshot": 0}, 409, "conflict", "if_snapshot"),
    ("POST", P, {}, 400, "invalid-argument", "patches"),
    ("POST", P, {"patches": []}, 400, "invalid-argument", "patches"),
    ("POST", P, {"patches": [[]]}, 400, "invalid-argument", "patches[0]"),
    ("POST", P, {"patches": [{"key": "a"}]}, 400, "invalid-argument", "patches[0].metadata"),
    ("POST", P, patch(metadata=None), 400, "invalid-argument", "patches[0].metadata"),
    ("POST", P, patch(metadata=[]), 400, "invalid-argument", "patches[0].metadata"),
    ("POST", P, patch(key=""), 400, "invalid-argument", "patches[0].key"),
    ("POST", P, patch(key="k" * 1_025), 400, "invalid-argument", "patches[0].key"),
    ("POST", P, patch(vector=[1, 2]), 400, "invalid-argument", "patches[0].vector"),
    ("POST", P, patch(metadata={"a": {"b": 1}}), 400, "invalid-argument",
     "patches[0].metadata.a"),
    ("POST", P, patch(metadata={"$a": 1}), 400, "invalid-argument", "patches[0].metadata.$a"),
    ("POST", P, patch(metadata={"a": "x" * 3_000}), 413, "too-large", "patches[0].metadata"),
    ("POST", P, patch(metadata={str(i): 1 for i in range(51)}), 413, "too-large",
     "patches[0].metadata"),
    ("POST", P, {"patches": patch()["patches"] * 2}, 400, "invalid-argument", "patches[1].key"),
    ("POST", P, {"patches": patch()["patches"] * 1_001}, 413, "too-large", "patches"),
    ("POST", P, patch() | {"commit_id": "AB" * 16}, 400, "invalid-argument", "commit_id"),
    ("POST", P, patch() | {"if_snapshot": True}, 400, "invalid-argument", "if_snapshot"),
    ("POST", P, patch() | {"if_snapshot": 99}, 400, "invalid-argument", "if_snapshot"),
    ("POST", P, patch() | {"if_absent": True}, 400, "invalid-argument", "if_absent"),
    ("POST", P, patch(key="none"), 404, "not-found", "patches[0].key"),
    ("POST", P, patch() | {"if_snapshot": 0}, 409, "conflict", "if_snapshot"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": -1}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": 1.5}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": True}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": None}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": 2**60}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": 99}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": "1"}, 400, "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": "2026-01-31"}, 400, "invalid-argument",
     "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": "2026-02-31T00:00:00Z"}, 400,
     "invalid-argument", "as_of"),
    ("POST", f"{V}/get", {"keys": ["a"], "as_of": "2001-01-31T00:00:00Z"}, 404, "not-found",
     None),
    ("POST", Q, {"vector": [1, 2], "as_of": "now"}, 400, "invalid-argument", "as_of"),
    ("POST", Q, {"vector": [1, 2], "as_of": 99}, 400, "invalid-argument", "as_of"),
    ("POST", Q, '{"vector": [1, 2], "as_of": 1e999}', 400, "invalid-argument", "as_of"),
    ("POST", Q, {"queries": [{"vector": [1, 2], "as_of": 1}]}, 400, "invalid-argument",
     "queries[0].as_of"),
    ("POST", f"{V}/delete", {"keys": ["a"], "if_snapshot": -1}, 400, "invalid-argument",
     "if_snapshot"),
    ("POST", f"{V}/delete", {"if_snapshot": 1}, 400, "invalid-argument", "keys"),
    ("POST", f"{V}/delete", {"keys": ["a"], "if_snapshot": 0}, 409, "conflict", "if_snapshot"),
    ("POST", f"{V}/delete", {"filter": {"year": 2019}, "if_snapshot": 0}, 409, "conflict",
     "if_snapshot"),
    ("POST", f"{V}/get", {"keys": []}, 400, "invalid-argument", "keys"),
    ("POST", f"{V}/get", {"keys": "a"}, 400, "invalid-argument", "keys"),
    ("POST", f"{V}/get", {"keys": ["a"] * 1_001}, 413, "too-large", "keys"),
    ("POST", f"{V}/get", {"keys": [1]}, 400, "invalid-argument", "keys[0]"),
    ("POST", f"{V}/delete", {}, 400, "invalid-argument", "keys"),
    ("POST", f"{V}/delete", {"keys": ["a"], "filter": {"a": 1}}, 400, "invalid-argument", "keys"),
    ("POST", f"{V}/delete", {"filter": {}}, 400, "invalid-argument", "filter"),
    ("POST", f"{V}/delete", {"filter": {"a": {"$x": 1}}}, 400, "invalid-filter", "filter.a.$x"),
    ("POST", I, {"name": "x"}, 400, "invalid-argument", "dimension"),
    ("POST", I, {"name": "x", "dimension": 0}, 400, "invalid-argument", "dimension"),
    ("POST", I, {"name": "x", "dimension": "2"}, 400, "invalid-argument", "dimension"),
    ("POST", I, {"name": "../x", "dimension": 2}, 400, "invalid-argument", "name"),
    ("POST", I, {"name": "_keys", "dimension": 2}, 400, "invalid-argument", "name"),
    ("POST", I, {"name": "x\n", "dimension": 2}, 400, "invalid-argument", "name"),
    ("POST", I, {"name": "media/x", "dimension": 2}, 400, "invalid-argument", "name"),
    ("POST", I, {"name": "x", "dimension": 2, "metric": "l1"}, 400, "invalid-argument", "metric"),
    ("POST", I, {"name": "x", "dimension": 2, "codec": "pq"}, 400, "invalid-argument", "codec"),
    ("POST", I, {"name": "x", "dimension": 2, "attributes": {"a": "date"}}, 400,
     "invalid-argument", "attributes.a"),
    ("POST", I, {"name": "x", "dimension": 2, "attributes": {"a": []}}, 400, "invalid-argument",
     "attributes.a"),
    ("POST", I, {"name": "x", "dimension": 2, "attributes": {str(i): "number" for i in range(51)}},
     400, "invalid-argument", "attributes"),
    ("POST", I, '{"name": "x", "dimension": 2, "attributes": {"\\ud800": "number"}}', 400,
     "invalid-argument", "attributes.\\ud800"),
    ("POST", I, {"name": "x", "dimension": 2, "non_filterable": ["y" * 64]}, 400,
     "invalid-argument", "non_filterable[0]"),
    ("POST", I, {"name": "x", "dimension": 2, "non_filterable": [str(i) for i in range(11)]}, 413,
     "too-large", "non_filterable"),
    ("POST", I, {"name": "x", "dimension": 2, "expires": ""}, 400, "invalid-argument", "expires"),
    ("POST", I, {"name": "x", "dimension": 2, "expires": "$a"}, 400, "invalid-argument",
     "expires"),
    ("POST", I, {"name": "x", "dimension": 2, "expires": 5}, 400, "invalid-argument", "expires"),
    ("POST", I, {"name": "x", "dimension": 2, "expires": "a", "non_filterable": ["a"]}, 400,
     "invalid-argument", "expires"),
    ("POST", I, {"name": "x", "dimension": 2, "expires": "a", "attributes": {"a": "string"}}, 400,
     "invalid-argument", "expires"),
    ("POST", "/v1/indexes/papers/optimize", "null", 400, "invalid-argument", None),
    ("POST", "/v1/indexes/papers/gc", "null", 400, "invalid-argument", None),
    ("POST", "/v1/indexes/papers/optimize", {"full": 1}, 400, "invalid-argument", "full"),
    ("POST", "/v1/indexes/papers/gc", {"full": True}, 400, "invalid-argument", "full"),
    ("POST", "/v1/indexes/papers/gc", {"retention_s": 3_599}, 400, "invalid-argument",
     "retention_s"),
    ("POST", "/v1/indexes/papers/gc", {"retention_s": "1d"}, 400, "invalid-argument",
     "retention_s"),
    ("POST", "/v1/indexes/papers/gc", '{"retention_s": 1e999}', 400, "invalid-argument",
     "retention_s"),
    ("POST", "/v1/indexes/papers/gc", [], 400, "invalid-argument", None),
    ("POST", "/v1/indexes/papers/optimize", {"now": True}, 400, "invalid-argument", "now"),
]  # fmt: skip


def refused(world, answer, status, kind, field=None):
    assert (answer.status, answer.kind) == (status, kind), answer.document
    assert answer.document.get("field") == field, answer.document
    leaks(answer, world.admin)


def leaks(answer, *words):
    """No credential, place in the store, file or trace is in an answer."""
    text = json.dumps(answer.raw)
    for word in (*words, "Traceback", ".py", "/log/", "index.json", "_keys", "segments/", " at 0x"):
        assert word not in text.replace("'_keys' cannot name", ""), text


@pytest.fixture(scope="module")
def shared():
    return World().papers()


@pytest.mark.parametrize(("method", "path", "body", "status", "kind", "field"), BAD_BODIES)
def test_bad_bodies(shared, method, path, body, status, kind, field):
    """Each is refused with the path of what is wrong, and changes nothing."""
    before = shared.stored()
    answer = shared.ask(method, path, body)
    refused(shared, answer, status, kind, field)
    assert shared.stored() == before


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=" + "9" * 5_000, "limit"), ("limit=-1", "limit"), ("cursor=x", "cursor"),
        ("limit=0000000011001", "limit"), ("limit=000000001" + "9" * 5_000, "limit"),
        ("cursor=-" + "0" * 31, "cursor"), ("include=all", "include"), ("include=", "include"),
        ("limit=1&limit=2", "limit"), ("prefix=a", "prefix"), ("%FF=1", None),
        ("&".join(f"a{i}=1" for i in range(50)), None),
        ("as_of=", "as_of"), ("as_of=-1", "as_of"), ("as_of=1.0", "as_of"),
        ("as_of=%C2%B2", "as_of"), ("as_of=" + "9" * 5_000, "as_of"), ("as_of=99", "as_of"),
        ("as_of=" + "0" * 30 + "99", "as_of"),
        ("as_of=2026-01-31", "as_of"), ("as_of=2026-01-31T00:00:00", "as_of"),
    ],
)  # fmt: skip
def test_bad_query_strings(shared, query, field):
    refused(shared, shared.ask("GET", V, query=query), 400, "invalid-argument", field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("before=", "before"),
        ("before=0", "before"), ("before=-1", "before"), ("before=x", "before"),
        ("limit=000000001" + "9" * 5_000, "limit"),
        ("before=" + "9" * 5_000, "before"), ("cursor=" + "0" * 32, "cursor"),
    ],
)  # fmt: skip
def test_bad_query_strings_of_snapshots(shared, query, field):
    answer = shared.ask("GET", "/v1/indexes/papers/snapshots", query=query)
    refused(shared, answer, 400, "invalid-argument", field)


def test_a_query_string_where_none_is_taken_is_refused(shared):
    for route in ROUTES:
        if route.takes_query or route.scope is None:
            continue
        path = route.path.replace("{index}", "papers")
        refused(shared, shared.ask(route.method, path, query="a=1"), 400, "invalid-argument", "a")


NAMES = [
    "..", ".", "%2e%2e", "%2E%2E%2F", "..%2f..%2fetc", "%00", "a\0b", "Papers", "PAPERS", "-papers",
    "papers-", "_keys", "pàpers", "\u0440\u0430pers", "papers\u200b", "a" * 64, "papers ",
    " papers",
    "papers;x",
    "papers%20", "papers\n", "*", "papers*", "{index}", "$default",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_tricks_in_names_name_nothing(shared, name):
    """As they come decoded or encoded: no such name is looked up, and nothing is written."""
    before = shared.stored()
    for route in ROUTES:
        if "{index}" not in route.path:
            continue
        body = {} if route.body is not Body.NONE else None
        answer = shared.ask(route.method, route.path.replace("{index}", name), body)
        refused(shared, answer, 400, "invalid-argument", "index")
    assert shared.stored() == before


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/v1", "/v1/", "/v2/indexes", "/v1/indexes/", "/v1/indexes/papers/",
        "//v1/indexes",
        "/v1/indexes/papers/vectors/", "/v1/indexes/../indexes", "/v1/indexes/papers/../other",
        "/v1/indexes/papers/vectors/get/x", "/V1/indexes", "/v1/indexes/a/b/query", "/v1/health/x",
    ],
)  # fmt: skip
def test_unknown_paths_are_not_found(shared, path):
    refused(shared, shared.ask("GET", path), 404, "not-found")
    refused(shared, shared.ask("GET", path, key=""), 401, "unauthenticated")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", "X"])
def test_wrong_methods_are_told_the_right_ones(shared, method):
    """`Allow` names the methods of the path, and none of them is refused so."""
    before = shared.stored()
    for path in sorted({route.path for route in ROUTES}):
        allowed = sorted(route.method for route in ROUTES if route.path == path)
        if method in allowed:
            continue
        answer = shared.ask(method, path.replace("{index}", "papers"))
        refused(shared, answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == ", ".join(allowed)
    assert shared.stored() == before


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
        "application/json; charset=latin-1", "application/jsonp", "application/problem+json",
        "json",
    ],
)  # fmt: skip
def test_other_content_types_are_refused(shared, content_type):
    before = shared.stored()
    for route in ROUTES:
        if route.body is Body.NONE:
            continue
        made = shared.event(route.method, route.path.replace("{index}", "papers"), {"keys": ["a"]})
        del made["headers"]["content-type"]
        if content_type is not None:
            made["headers"]["Content-Type"] = content_type
        refused(shared, shared.send(made), 415, "unsupported-media-type")
    assert shared.stored() == before


@pytest.mark.parametrize(
    "content_type", ["application/json", "APPLICATION/JSON", 'application/json; charset="UTF-8"']
)
def test_json_is_said_in_several_ways(shared, content_type):
    answer = shared.ask("POST", Q, {"vector": [1, 2]}, headers={"content-type": content_type})
    assert answer.status == 200


def test_the_detail_names_places_in_the_body(shared):
    """The library tells the bad one of many by a place of its own, which is nobody's here."""
    good = {"vector": [1, 2]}
    queries = {"queries": [good, good, {"vector": [1e16, 0]}]}
    refused = shared.ask("POST", Q, queries)
    assert refused.document["field"] == "queries[2].vector"
    assert refused.document["detail"].startswith("queries[2].vector has 1e+16 at position 0: ")
    queries = {"queries": [good, {**good, "filter": {"a": {"$x": 1}}}]}
    refused = shared.ask("POST", Q, queries)
    assert refused.document["field"] == "queries[1].filter.a.$x"
    assert refused.document["detail"].startswith("the filter is not well formed at a.$x: ")


def test_a_body_is_measured_before_it_is_read(shared):
    """Too long a one is refused unread, in text and in base64; what is no base64 is refused."""
    before = shared.stored()
    long = "[" * (limits.HTTP_BODY_BYTES_MAX + 1)
    refused(shared, shared.ask("POST", V, long), 413, "too-large")
    wide = '"' + "é" * (limits.HTTP_BODY_BYTES_MAX // 2) + '"'
    refused(shared, shared.ask("POST", V, wide), 413, "too-large")
    coded = base64.b64encode(long.encode()).decode()
    refused(shared, shared.ask("POST", V, coded, isBase64Encoded=True), 413, "too-large")
    refused(shared, shared.ask("POST", V, "{}!", isBase64Encoded=True), 400, "invalid-argument")
    fits = " " * (limits.HTTP_BODY_BYTES_MAX - 2) + "{}"
    refused(shared, shared.ask("POST", V, fits), 400, "invalid-argument", "vectors")
    assert shared.stored() == before


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_bytes_that_are_no_utf8_are_refused(shared, coding):
    coded = base64.b64encode('{"vector": [1, 2], "é": 1}'.encode(coding)).decode()
    answer = shared.ask("POST", Q, coded, isBase64Encoded=True)
    refused(shared, answer, 400, "invalid-argument")
    assert "is not JSON" in answer.document["detail"]


def test_numbers_of_query_strings_may_begin_with_zeros(shared):
    answer = shared.ask("GET", V, query=f"limit={'0' * 30}2&as_of={'0' * 30}1")
    assert answer.status == 200
    assert len(answer.document["records"]) == 2


def test_an_index_that_is_not_there_is_not_found(shared):
    """By every route, and without a word about others of like names."""
    before = shared.stored()
    bodies = {"query": {"vector": [1, 2]}, "put": record(), "get": {"keys": ["a"]}}
    bodies |= {"delete": {"keys": ["a"]}, "patch": patch()}
    bodies |= {"start_build": {"inputs": ["file:///nowhere/"]}}
    for route in ROUTES:
        if "{index}" in route.path:
            path = route.path.replace("{index}", "paper")
            answer = shared.ask(route.method, path, bodies.get(route.name))
            refused(shared, answer, 404, "not-found")
            assert "papers" not in answer.raw["body"]
    assert shared.stored() == before


def test_what_is_no_event_of_an_http_api_is_a_problem_too(shared):
    for made in ({}, {"requestContext": {}}, {"rawPath": "/", "requestContext": {"http": {}}}):
        raw = shared.faces["indexes"](made, None)
        assert raw["statusCode"] == 400
        assert raw["headers"]["x-request-id"]


def test_of_a_number_of_thousands_of_digits_only_that_is_said(shared):
    """Python has words for it that advise to set something in the process."""
    answer = shared.ask("POST", Q, '{"vector": [' + "9" * 5_000 + ", 1]}")
    refused(shared, answer, 400, "invalid-argument")
    assert answer.document["detail"].endswith("it has an integer of thousands of digits")


LONG = "é" * 1_400_000


@pytest.mark.parametrize(
    ("path", "body", "end"),
    [
        (Q, f'{{"{LONG}": 1, "{LONG}": 2}}', "twice in one object"),
        (V, record(metadata={LONG: 1}), "at most 63 bytes"),
        (P, patch(metadata={LONG: 1}), "at most 63 bytes"),
        (V, record(metadata={"text": {LONG: float("inf")}}), "leave the key out"),
        (I, {"name": LONG, "dimension": 2}, '"-" and "."'),
    ],
    ids=["twice", "metadata", "patch", "inside", "index"],
)
def test_a_long_name_is_not_given_back_whole(path, body, end):
    """Else the problem could be more than Lambda lets through; what to do stands in it still."""
    world = World()
    world.ask("POST", I, {"name": "papers", "dimension": 2, "non_filterable": ["text"]})
    world.ask("POST", V, {"vectors": [{"key": "a", "vector": [1, 2]}]})
    if not isinstance(body, str):
        body = json.dumps(body, ensure_ascii=False).replace("Infinity", "1e999")
    answer = world.ask("POST", path, body)
    assert answer.status in {400, 413}
    assert answer.document["detail"].endswith(end)
    assert len(answer.raw["body"]) < 13 * limits.PROBLEM_CHARACTERS_MAX
