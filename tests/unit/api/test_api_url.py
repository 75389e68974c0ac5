"""The coordinator behind a URL of its own: the answers are those that the HTTP API brings."""

from __future__ import annotations

import json
from types import SimpleNamespace
from urllib.parse import unquote
from uuid import uuid4

import pytest
from api_world import Answer, event

import squash
from s3vectors_face import Service
from squash.api import credentials, functions
from squash.api.access import IamGate
from squash.api.problems import NoCredentialError
from squash.api.requests import request_of
from squash.clock import SystemClock
from squash.limits import HTTP_BODY_BYTES_MAX

GOOD = "/v1/indexes/papers/query"
BODY = event("url-query")["body"]
CONTEXT = SimpleNamespace(aws_request_id="x", get_remaining_time_in_millis=lambda: 29_000)


@pytest.fixture(scope="module")
def world():
    """A coordinator as deployed, with keys; and a key that reads one index."""
    environment = {"SQUASH_STORE": f"memory://{uuid4().hex}"}
    database = squash.connect(environment["SQUASH_STORE"])
    index = database.create_index("papers", dimension=2)
    index.put(keys=["a", "b"], vectors=[[1, 0], [0, 1]], metadata=[{"year": 2021}, {"year": 1999}])
    made = credentials.create_key(
        database.store, scopes=["read"], indexes=["papers"], clock=SystemClock()
    )
    return functions.coordinator(environment), made.token


def asked(world, name, *, method="POST", path=GOOD, body=BODY, kind="application/json", key=True):
    """Ask through one of the doors; an HTTP API decodes the path, a URL does not."""
    handle, token = world
    made = event(name)
    made["headers"] |= {"content-type": kind}
    if key:
        made["headers"]["authorization"] = f"Bearer {token if key is True else key}"
    sent = path if name == "url-query" else unquote(path)
    made |= {"rawPath": sent, "body": body}
    made["requestContext"]["http"] |= {"method": method, "path": sent}
    answer = Answer(handle(made, CONTEXT), made["requestContext"]["requestId"])
    document = dict(answer.document)
    for changing in ("instance", "usage"):
        document.pop(changing, None)
    headers = {k: v for k, v in answer.raw["headers"].items() if k != "x-request-id"}
    return answer.status, headers, document


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (200, {}),
        (200, {"path": "/v1/indexes/%70apers/query"}),
        (401, {"key": False}),
        (401, {"key": "sqk_0123456789abcdef_wrong"}),
        (403, {"path": "/v1/indexes/others/query"}),
        (403, {"path": "/v1/indexes/%6fthers/query"}),
        (404, {"path": "/v1/indexes/%2e%2e%2f_keys/query"}),
        (404, {"path": "/v1/indexes/papers/vectors", "method": "GET"}),
        (404, {"path": "/"}),
        (401, {"path": "/v1/health", "method": "GET", "key": False}),
        (405, {"method": "GET"}),
        (400, {"body": "{"}),
        (400, {"body": json.dumps({"vector": [1, 0], "filter": {"year": {"$near": 1}}})}),
        (413, {"body": " " * (HTTP_BODY_BYTES_MAX + 1)}),
        (415, {"kind": "text/plain"}),
    ],
)
def test_both_doors_lead_to_the_same_answer(world, status, changes):
    found = asked(world, "url-query", **changes)
    assert found[0] == status
    assert found == asked(world, "http-query", **changes)


def test_who_signs_for_the_url_is_whom_lambda_found():
    """With Auth=iam: the event of a URL tells of the caller where that of an HTTP API does."""
    made = event("url-query")
    with pytest.raises(NoCredentialError, match="not signed"):
        IamGate().admit(request_of(made, fallback_id="x"))
    made["requestContext"]["authorizer"] = {"iam": {"userId": "AIDAME", "callerId": "AIDAME"}}
    assert IamGate().admit(request_of(made, fallback_id="x")).name == "AIDAME"


def test_s3_vectors_are_of_the_functions_account_at_the_url_too():
    """Where a URL lets everybody in its events name no account: ARNs and policies hold as ever."""
    service = Service(dimension=2)
    function = SimpleNamespace(
        invoked_function_arn="arn:aws:lambda:eu-central-1:123456789012:function:squash-coordinator"
    )
    arn = "arn:aws:s3vectors:us-east-1:123456789012:bucket/bucket"
    body = {"indexArn": f"{arn}/index/index", "topK": 1, "queryVector": {"float32": [1, 0]}}
    made = event("url-query") | {"rawPath": "/QueryVectors", "body": json.dumps(body)}
    assert made["requestContext"]["accountId"] == "anonymous"

    def asked():
        answer = service.faces["coordinator"](made, function)
        return answer["statusCode"], answer["headers"].get("x-amzn-ErrorType")

    assert asked() == (200, None)
    denied = {
        "Effect": "Deny",
        "Principal": {"AWS": "arn:aws:iam::123456789012:user/anybody"},
        "Action": "s3vectors:QueryVectors",
        "Resource": f"{arn}/index/*",
    }
    policy = json.dumps({"Statement": denied})
    service.must("PutVectorBucketPolicy", vectorBucketName="bucket", policy=policy)
    assert asked() == (403, "AccessDeniedException")
