"""How requests are read and answers written: methods, bodies, limits, and every kind of error."""

import base64
import json

import pytest
from s3vectors_world import BELOW_THE_MODEL, arn, live, service_model

from squash import errors
from squash.api.problems import NoCredentialError, RefusedError
from squash.api.requests import HttpRequest
from squash.api.s3vectors.bodies import members_of, refuse_too_large, written
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.problems import STATUS, ServiceError, body_of, refusal_of
from squash.limits import HTTP_ANSWER_BYTES_MAX, HTTP_BODY_BYTES_MAX, PROBLEM_CHARACTERS_MAX

MODEL = service_model()
STORED = "s3://my-bucket/_buckets/media"


@pytest.fixture(scope="module")
def served():
    with live() as running:
        running.call("CreateVectorBucket", {"vectorBucketName": "media"})
        yield running


def make(kind, **more):
    """An error of a class, that names what is stored."""
    special = {
        errors.ThrottledError: {"retry_after_ms": 1500},
        errors.CommitUnknownError: {"commit_id": "c"},
    }
    return kind(f"there is trouble at {STORED}", **special.get(kind, {}), **more)


@pytest.mark.parametrize("kind", list(errors.HTTP_STATUS), ids=lambda kind: kind.__name__)
def test_face_errors_are_mapped(kind):
    """Every class of error has a code of the model's, or one below it; none is forgotten."""
    refusal = refusal_of(make(kind))
    known = {shape.name for shape in MODEL.error_shapes} | BELOW_THE_MODEL
    assert refusal.code in known
    assert refusal.status == STATUS[refusal.code]
    internal = issubclass(kind, errors.DataError | errors.InternalError)
    assert (refusal.code == "InternalServerException") == internal
    assert refusal.headers["x-amzn-ErrorType"] == refusal.code
    assert refusal.document["message"]
    assert ("retry-after" in refusal.headers) == (refusal.status in {429, 503})


def test_face_errors_are_all():
    """The table of classes above is of all that there are."""
    found, left = set(), [errors.SquashError]
    while left:
        kinds = [one for one in left.pop().__subclasses__() if one.__module__ == errors.__name__]
        found |= set(kinds)
        left += kinds
    assert found == set(errors.HTTP_STATUS)


@pytest.mark.parametrize("kind", list(errors.HTTP_STATUS), ids=lambda kind: kind.__name__)
def test_face_errors_of_the_store(kind):
    """Where an error names a stored object, no word of it is told, of whatever class it is."""
    error = make(kind)
    error.object_key = "_buckets/media/_bucket/bucket.json"
    refusal = refusal_of(error)
    assert STORED not in body_of(refusal.document)
    assert refusal.status in {429, 500, 503}


def test_face_errors_foreign():
    """Of an exception that is not the library's, not a word is told."""
    refusal = refusal_of(KeyError(STORED))
    assert refusal.code == "InternalServerException"
    assert STORED not in body_of(refusal.document)


def test_face_errors_conflict():
    """A conflict is told where the clients know one; elsewhere they are asked to repeat."""
    error = errors.ConflictError("others were first")
    assert refusal_of(error, OPERATIONS["TagResource"]).code == "ConflictException"
    assert refusal_of(error, OPERATIONS["PutVectors"]).code == "ServiceUnavailableException"


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("GetIndex", "index"),
        ("PutVectors", "index"),
        ("CreateIndex", "vector bucket"),
        ("ListIndexes", "vector bucket"),
        ("DeleteVectorBucket", "vector bucket"),
        ("TagResource", "resource"),
    ],
)
def test_face_errors_not_found(operation, what):
    """What was not found is what the operation is about, in the service's words alone."""
    error = errors.NotFoundError("there is no index 'media/papers'. Did you mean 'media/pappers'?")
    refusal = refusal_of(error, OPERATIONS[operation])
    assert refusal.document == {"message": f"The specified {what} could not be found"}


def test_face_errors_wait():
    """How long to wait is told in whole seconds, never less than asked for."""
    throttled = errors.ThrottledError("full", retry_after_ms=1500, limit="FRESH_ROWS_MAX")
    assert refusal_of(throttled).headers["retry-after"] == "2"
    assert refusal_of(throttled).document["message"] == "full"
    assert refusal_of(errors.UnavailableError("x")).headers["retry-after"] == "1"


def test_face_errors_credentials():
    """Who brings none, a wrong one, or one that is not enough, gets the codes clients know."""
    none, wrong = NoCredentialError("x", given=False), NoCredentialError("x", given=True)
    assert refusal_of(none).code == "MissingAuthenticationTokenException"
    assert refusal_of(wrong).code == "UnrecognizedClientException"
    assert refusal_of(RefusedError("x")).code == "AccessDeniedException"


def test_face_long_words():
    """What quotes a name of megabytes is told without the middle, and is no more than fits."""
    with live() as running:
        name = "é" * 10**6
        body = f'{{"{name}": 1, "{name}": 1}}'.encode()
        reply = running.call("CreateVectorBucket", body)
    assert reply.code == "ValidationException"
    assert len(reply.message) < 2 * PROBLEM_CHARACTERS_MAX


def test_face_error_body():
    """An error has its code in a header, its words and fields in the body, and an id."""
    with live() as running:
        reply = running.call("CreateVectorBucket", {"vectorBucketName": "x"})
    assert reply.status == 400
    assert reply.code == "ValidationException"
    assert reply.headers["x-amzn-requestid"]
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.document) == {"message", "fieldList"}
    assert [set(one) for one in reply.document["fieldList"]] == [{"path", "message"}]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=UTF-8",
        "application/x-amz-json-1.0",
        "application/x-amz-json-1.1",
        "text/plain",
        "application/octet-stream",
        None,
    ],
)
def test_face_content_type(served, kind):
    """A body is read whatever it is said to be, since clients say different things."""
    headers = {} if kind is None else {"content-type": kind}
    body = json.dumps({"vectorBucketName": "media"})
    assert served.send("POST", "/GetVectorBucket", body, headers).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_face_method(served, method):
    """A path that is known, asked with another method, tells with which."""
    reply = served.send(method, "/GetVectorBucket")
    assert (reply.status, reply.code) == (405, "MethodNotAllowedException")
    assert reply.headers["allow"] == "POST"
    assert (reply.document is None) == (method == "HEAD")


def test_face_method_of_tags(served):
    """Tags are asked with three methods, and with no other."""
    reply = served.send("PUT", f"/tags/{arn('media')}")
    assert reply.status == 405
    assert sorted(reply.headers["allow"].split(", ")) == ["DELETE", "GET", "POST"]


@pytest.mark.parametrize("path", ["percent", "plain"])
def test_face_tag_paths(served, path):
    """The ARN in the path is read whether its slashes are escaped or not."""
    made = arn("media")
    asked = made.replace("/", "%2F").replace(":", "%3A") if path == "percent" else made
    assert served.send("GET", f"/tags/{asked}").document == {"tags": {}}
    tagged = served.send("POST", f"/tags/{asked}", {"tags": {"a": "1", "b": "2"}})
    assert (tagged.status, tagged.document) == (200, {})
    assert served.send("DELETE", f"/tags/{asked}?tagKeys=a&tagKeys=b").status == 200
    assert served.send("GET", f"/tags/{asked}").document == {"tags": {}}


@pytest.mark.parametrize(
    "body", ["{", "[]", "null", '"x"', "1", '{"a": NaN}', '{"a": 1, "a": 2}', b"\xff", "{}" * 2]
)
def test_face_no_json(served, body):
    """What is no JSON object is refused with what is wrong with it."""
    reply = served.send("POST", "/GetVectorBucket", body)
    assert (reply.status, reply.code) == (400, "ValidationException")
    assert reply.message.startswith("The body is not")


def test_face_nothing_ignored(served):
    """What stands where nothing is looked for is refused."""
    tags = f"/tags/{arn('media')}"
    named = {"vectorBucketName": "media"}
    for reply in (
        served.send("POST", "/GetVectorBucket?verbose=1", named),
        served.send("POST", "/GetVectorBucket?tagKeys=a", named),
        served.send("GET", f"{tags}?tagKeys=a"),
        served.send("POST", tags, {"tags": {"a": "b"}, "resourceArn": arn("media")}),
        served.send("DELETE", tags),
        served.call("GetVectorBucket", named | {"verbose": True}),
    ):
        assert (reply.status, reply.code) == (400, "ValidationException")
    signed = served.send("POST", "/GetVectorBucket?X-Amz-Date=1", named)
    assert signed.status == 200


@pytest.mark.parametrize("name", ["under_score", "special&char", "UPPER", "a/b", "../..", "-ab"])
def test_face_names(served, name):
    """A name with other characters is none, and never comes near the store."""
    for operation in ("CreateVectorBucket", "GetVectorBucket", "DeleteVectorBucket"):
        reply = served.call(operation, {"vectorBucketName": name})
        assert (reply.code, reply.message) == ("ValidationException", "Invalid vector bucket name")
    reply = served.call("GetIndex", {"vectorBucketName": "media", "indexName": name})
    assert reply.message == "Invalid vector index name"


def put_of(count, dimension, *, as_base64=False):
    vector = json.dumps({"float32": [0.12345678901234567] * dimension})
    records = ", ".join(f'{{"key": "key-{i}", "data": {vector}}}' for i in range(count))
    body = f'{{"vectorBucketName": "media", "indexName": "big", "vectors": [{records}]}}'
    if as_base64:
        body = base64.b64encode(body.encode()).decode()
    return HttpRequest("id", "POST", "/PutVectors", body=body, body_is_base64=as_base64)


@pytest.mark.parametrize("as_base64", [False, True])
@pytest.mark.parametrize("dimension", [768, 1536, 4096])
def test_face_too_large(dimension, as_base64):
    """Who sends too much is told how many vectors fit: as many do, and most of the room is used."""
    operation = OPERATIONS["PutVectors"]
    with pytest.raises(ServiceError) as caught:
        refuse_too_large(operation, put_of(500, dimension, as_base64=as_base64))
    assert STATUS[caught.value.code] == 413
    fitting = int(str(caught.value).split("at most ")[-1].split()[0])
    smaller = put_of(fitting, dimension, as_base64=as_base64)
    refuse_too_large(operation, smaller)
    assert len(smaller.data()) > 0.9 * HTTP_BODY_BYTES_MAX
    assert len(members_of(operation, smaller)["vectors"]) == fitting


def test_face_too_large_is_told(served):
    """It is told over HTTP as an error that clients read."""
    reply = served.send("POST", "/PutVectors", put_of(500, 768).body)
    assert (reply.status, reply.code) == (413, "RequestTooLargeException")
    assert "500 vectors" in reply.message
    other = served.send("POST", "/GetVectorBucket", "x" * (HTTP_BODY_BYTES_MAX + 1))
    assert (other.status, other.code) == (413, "RequestTooLargeException")


@pytest.mark.parametrize("key", ["key", "é" * 20, '"' * 20])
def test_face_answer_too_large(key):
    """An answer beyond what Lambda gives says how many keys fit: as many do."""
    operation = OPERATIONS["GetVectors"]
    record = {"key": key, "data": {"float32": [0.12345678901234567] * 4096}}
    assert len(json.dumps(record)) * 100 > HTTP_ANSWER_BYTES_MAX
    with pytest.raises(ServiceError) as caught:
        written(operation, {"vectors": [record] * 100})
    assert STATUS[caught.value.code] == 413
    fitting = int(str(caught.value).split("at most ")[-1].split()[0])
    body = written(operation, {"vectors": [record] * fitting})
    assert 0.9 * HTTP_ANSWER_BYTES_MAX < len(json.dumps(body)) <= HTTP_ANSWER_BYTES_MAX
