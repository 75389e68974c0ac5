"""What a caller may read of an error: of the service's own, not a word."""

from __future__ import annotations

import json

import botocore.exceptions
import pytest

from squash import errors
from squash.api import problems
from squash.api.problems import problem_of
from squash.storage.s3_errors import translate

SECRET = "s3://secret-bucket/secret-prefix/papers/0123/log/00000000000000000007"  # noqa: S105
MORE = {
    errors.ThrottledError: {"retry_after_ms": 2_500},
    errors.CommitUnknownError: {"commit_id": "ab" * 16},
    problems.MethodNotAllowedError: {"allowed": ["GET", "POST"]},
    problems.NoCredentialError: {"given": True},
}
ABOUT_THE_REQUEST = (
    errors.InvalidArgumentError, errors.NotFoundError, errors.ConflictError, errors.TooLargeError,
    problems.NoCredentialError, problems.RefusedError,
)  # fmt: skip


def every_class(base=errors.SquashError):
    yield base
    for child in base.__subclasses__():
        yield from every_class(child)


CLASSES = [one for one in every_class() if one.__module__ in {errors.__name__, problems.__name__}]


def made(kind, message, **places):
    error = kind(message, **MORE.get(kind, {}))
    for name, value in places.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_stored_where_is_never_told(kind):
    """An error that names a stored object is told in words that hold for its whole class."""
    problem = problem_of(made(kind, SECRET, object_key=SECRET), request_id="r1")
    text = json.dumps([problem.document, dict(problem.headers)])
    for word in ("secret", "log/", "0123"):
        assert word not in text
    assert problem.document["instance"] == "r1"
    assert problem.document["status"] == problem.status
    assert problem.document["type"] in {
        problems.type_of(title) for title in (problems.TITLES | problems.HTTP_TITLES).values()
    }


@pytest.mark.parametrize("kind", CLASSES)
def test_only_messages_about_the_request_are_passed_on(kind):
    """With the place in the request; of all others the message stays in the log."""
    error = made(kind, "the filter is wrong: mend it", field="filter.a", index="papers", key="k")
    problem = problem_of(error, request_id="r1")
    told = issubclass(kind, ABOUT_THE_REQUEST)
    assert (problem.document["detail"] == "the filter is wrong: mend it") == told
    if told:
        assert problem.document["field"] == "filter.a"
        assert problem.status < 500
    # A refusal that is not ours is the store's: that is not what the caller may not do.
    if kind in {errors.PermissionDeniedError, errors.UnauthenticatedError, errors.SquashError}:
        assert problem.status == 500


def test_what_a_newer_release_wrote_is_not_called_damaged():
    """While functions are deployed one of them may have written what others can't read yet."""
    problem = problem_of(made(errors.UnsupportedFormatError, SECRET), request_id="r1")
    assert "newer release" in problem.document["detail"]
    assert "not as it was written" not in problem.document["detail"]


@pytest.mark.parametrize(
    "code",
    [
        "SlowDown", "AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "PermanentRedirect",
        "EntityTooLarge", "InternalError", "Weird",
    ],
)  # fmt: skip
def test_what_s3_says_is_not_told(code):
    """Whatever it is: the caller has done nothing wrong, and learns no name."""
    cause = botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "secret-bucket"}, "ResponseMetadata": {}}, "GetObject"
    )
    problem = problem_of(translate(cause, "secret-bucket", "secret/key"), request_id="r")
    assert problem.status in {429, 500, 503}
    assert "secret" not in json.dumps(problem.document)


@pytest.mark.parametrize(
    "error",
    [
        KeyError(SECRET), RuntimeError(SECRET), OSError(2, SECRET), MemoryError(),
        botocore.exceptions.NoCredentialsError(),
    ],
)  # fmt: skip
def test_what_nobody_expected_is_an_internal_error(error):
    problem = problem_of(error, request_id="r")
    assert (problem.status, problem.document["type"]) == (500, "urn:squash:internal-error")
    assert "secret" not in json.dumps(problem.document)


def test_headers_say_what_a_program_has_to_do():
    def headers(error):
        return dict(problem_of(error, request_id="r").headers)

    assert headers(errors.ThrottledError("x", retry_after_ms=2_500)) == {"retry-after": "3"}
    assert headers(errors.ThrottledError("x", retry_after_ms=0)) == {"retry-after": "1"}
    assert headers(errors.UnavailableError("x")) == {"retry-after": "1"}
    assert headers(errors.InternalError("x")) == {}
    assert headers(problems.NoCredentialError("x", given=False)) == {
        "www-authenticate": 'Bearer realm="squash"'
    }
    assert (
        "invalid_token" in headers(problems.NoCredentialError("x", given=True))["www-authenticate"]
    )
    assert headers(made(problems.MethodNotAllowedError, "x")) == {"allow": "GET, POST"}


def test_a_limit_of_the_index_is_told_with_what_to_do():
    """That the store is busy is said in general words; what an index has too much of, plainly."""
    full = errors.ThrottledError("too many rows", retry_after_ms=30_000, limit="FRESH_ROWS_MAX")
    problem = problem_of(full, request_id="r")
    assert (problem.status, problem.headers["retry-after"]) == (429, "30")
    assert problem.document["detail"] == "too many rows"
    busy = errors.ThrottledError(SECRET, retry_after_ms=1_000, index="papers")
    assert SECRET not in json.dumps(problem_of(busy, request_id="r").document)


def test_a_write_of_unknown_outcome_carries_its_commit():
    problem = problem_of(errors.CommitUnknownError("x", commit_id="ab" * 16), request_id="r")
    assert problem.status == 503
    assert problem.document["commit_id"] == "ab" * 16


def test_a_query_whose_time_is_over_is_told_of_its_time(papers, monkeypatch):
    """Where nothing was searched yet, repeating it unchanged may never help."""
    monkeypatch.setattr(
        "squash.runtime.session.IndexSession.deadline_ms",
        lambda session, _: session._clock.now_ms(),
    )
    body = {"vector": [1, 2], "timeout_ms": 1, "allow_partial": True}
    answer = papers.ask("POST", "/v1/indexes/papers/query", body)
    assert (answer.status, answer.kind) == (503, "unavailable")
    assert "timeout_ms" in answer.document["detail"]


def test_another_write_with_the_same_commit_is_refused(papers):
    """As the documents say of an id: it is for one write."""
    path, commit = "/v1/indexes/papers/vectors", {"commit_id": "ab" * 16}
    first = papers.ask("POST", path, {"vectors": [{"key": "x", "vector": [1, 2]}], **commit})
    other = papers.ask("POST", path, {"vectors": [{"key": "y", "vector": [1, 2]}], **commit})
    gone = papers.ask("POST", f"{path}/delete", {"keys": ["x"], **commit})
    assert (first.status, first.document["snapshot"]) == (200, 2)
    for refused in (other, gone):
        assert (refused.status, refused.kind) == (409, "conflict")
        assert refused.document["field"] == "commit_id"
    found = papers.ask("POST", f"{path}/get", {"keys": ["x", "y"]}).document["records"]
    assert [one["key"] for one in found] == ["x"]


def test_a_failing_store_is_a_problem_of_every_route(papers, monkeypatch):
    """Through the whole handler: the error is logged, the caller reads that it may try again."""
    from squash.storage import MemoryStore

    def fail(*args, **kwargs):
        raise errors.UnavailableError(SECRET, object_key=SECRET)

    for name in ("get", "list", "list_folders", "put_if_absent"):
        monkeypatch.setattr(MemoryStore, name, fail)
    for method, path, body in (
        ("GET", "/v1/indexes", None),
        ("POST", "/v1/indexes", {"name": "x", "dimension": 2}),
        ("POST", "/v1/indexes/papers/query", {"vector": [1, 2]}),
        ("GET", "/v1/indexes/papers/vectors", None),
        ("DELETE", "/v1/indexes/papers", None),
    ):
        answer = papers.ask(method, path, body)
        assert (answer.status, answer.kind) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "secret" not in answer.raw["body"]
