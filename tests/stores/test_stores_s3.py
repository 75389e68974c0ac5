"""What S3 answers to writes, in our words; its requests: conditional, repeated, by thousands."""

from __future__ import annotations

import socket
import threading
from copy import copy
from functools import cache
from typing import Any

import pytest
from scripted_s3 import Answer, Request, scripted_s3
from scripted_s3 import refusal as scripted_refusal

from squash.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ThrottledError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from squash.storage.s3_errors import translate


class NoWait:
    def __init__(self) -> None:
        self.waited: list[float] = []

    def now_ms(self) -> int:
        return 0

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)


class FakeClient:
    """Answers from a script: exceptions are raised, values returned."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.calls: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __getattr__(self, _operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            with self._lock:
                self.calls.append(arguments)
                answer = self.script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code: str, status: int) -> Exception:
    from botocore.exceptions import ClientError

    return ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "Operation",
    )


@cache
def prototype() -> Any:
    """Make one store: botocore takes a tenth of a second for each client."""
    from squash.storage.s3 import S3Store

    return S3Store("bucket", "p", endpoint_url="http://127.0.0.1:9", region="us-east-1")


def scripted(*script: Any) -> tuple[Any, FakeClient, NoWait]:
    store, client, clock = copy(prototype()), FakeClient(*script), NoWait()
    store._writes = copy(store.writes())
    store._writes._client, store._writes._clock = client, clock
    return store, client, clock


CODES = [
    ("SlowDown", 503, ThrottledError),
    ("ThrottlingException", 400, ThrottledError),
    ("Odd", 429, ThrottledError),
    ("InternalError", 500, UnavailableError),
    ("ServiceUnavailable", 503, UnavailableError),
    ("Odd", 502, UnavailableError),
    ("RequestTimeout", 400, UnavailableError),
    ("AccessDenied", 403, PermissionDeniedError),
    ("Odd", 403, PermissionDeniedError),
    ("InvalidAccessKeyId", 403, UnauthenticatedError),
    ("ExpiredToken", 400, UnauthenticatedError),
    ("SignatureDoesNotMatch", 403, UnauthenticatedError),
    ("RequestTimeTooSkewed", 403, UnauthenticatedError),
    ("NoSuchBucket", 404, NotFoundError),
    ("PermanentRedirect", 301, InvalidArgumentError),
    ("AuthorizationHeaderMalformed", 400, InvalidArgumentError),
    ("EntityTooLarge", 400, TooLargeError),
    ("InvalidRequest", 400, InvalidArgumentError),
    ("MethodNotAllowed", 405, InvalidArgumentError),
]


@pytest.mark.parametrize(("code", "status", "expected"), CODES)
def test_refusals(code, status, expected):
    """Each answer of S3 is the error by which a caller knows what to do, from whatever writes."""
    calls = [
        lambda store: store.put("k", b""),
        lambda store: store.put_if_absent("k", b""),
        lambda store: store.delete(["k"]),
        lambda store: store.delete_if_same("k", b""),
    ]
    for call in calls:
        store, _, _ = scripted(refusal(code, status))
        with pytest.raises(expected) as caught:
            call(store)
        assert type(caught.value) is expected
        assert caught.value.__cause__ is not None


def test_a_clock_that_is_off_is_told_as_that():
    """No permission or credential mends it."""
    store, _, _ = scripted(refusal("RequestTimeTooSkewed", 403))
    with pytest.raises(UnauthenticatedError, match="Set the clock"):
        store.put("k", b"")


def test_errors_without_an_answer():
    """Lost connections and time-outs are unavailability; missing credentials are said so."""
    from botocore import exceptions as theirs

    cases = [
        (theirs.ConnectTimeoutError(endpoint_url="e"), UnavailableError),
        (theirs.ReadTimeoutError(endpoint_url="e"), UnavailableError),
        (theirs.EndpointConnectionError(endpoint_url="e"), UnavailableError),
        (theirs.ConnectionClosedError(endpoint_url="e"), UnavailableError),
        (theirs.SSLError(endpoint_url="e", error="x"), UnavailableError),
        (theirs.NoCredentialsError(), UnauthenticatedError),
        (theirs.PartialCredentialsError(provider="p", cred_var="v"), UnauthenticatedError),
        (theirs.CredentialRetrievalError(provider="p", error_msg="m"), UnauthenticatedError),
        (theirs.ProfileNotFound(profile="p"), UnauthenticatedError),
        (theirs.NoRegionError(), InvalidArgumentError),
        (theirs.ParamValidationError(report="r"), InvalidArgumentError),
        (ValueError("Invalid endpoint: x"), InvalidArgumentError),
    ]
    for error, expected in cases:
        assert type(translate(error, "b", "k")) is expected, error


def test_conditional_put():
    """412 is False; 409 is asked again a few times, then said."""
    store, client, clock = scripted(refusal("PreconditionFailed", 412))
    assert store.put_if_absent("k", b"x") is False
    assert client.calls[0]["IfNoneMatch"] == "*"
    assert client.calls[0]["Key"] == "p/k"
    conflict = refusal("ConditionalRequestConflict", 409)
    store, client, clock = scripted(conflict, conflict, {})
    assert store.put_if_absent("k", b"x") is True
    assert len(client.calls) == 3
    assert clock.waited == sorted(clock.waited)
    store, _, _ = scripted(conflict, refusal("PreconditionFailed", 412))
    assert store.put_if_absent("k", b"x") is False
    store, client, _ = scripted(*[conflict] * 9)
    with pytest.raises(UnavailableError, match="another write"):
        store.put_if_absent("k", b"x")
    assert len(client.calls) == 5


class Body:
    """A stream that may break."""

    def __init__(self, data: bytes | Exception) -> None:
        self.data = data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self) -> bytes:
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


def test_conditional_delete():
    """What was compared is what is removed: by its ETag, and again if another request is there."""

    def found(data, tag):
        return {"Body": Body(data), "ETag": tag}

    store, client, _ = scripted(found(b"mine", '"1"'), {})
    store.delete_if_same("k", b"mine")
    assert [call.get("IfMatch") for call in client.calls] == [None, '"1"']
    store, client, _ = scripted(found(b"other", '"2"'))
    store.delete_if_same("k", b"mine")
    assert len(client.calls) == 1
    for gone in (refusal("PreconditionFailed", 412), refusal("NoSuchKey", 404)):
        store, _, clock = scripted(found(b"mine", '"1"'), gone)
        store.delete_if_same("k", b"mine")
        assert not clock.waited
    busy = refusal("ConditionalRequestConflict", 409)
    store, client, clock = scripted(found(b"mine", '"1"'), busy, found(b"other", '"2"'))
    store.delete_if_same("k", b"mine")
    assert len(client.calls) == 3
    assert len(clock.waited) == 1
    store, _, clock = scripted(*[found(b"mine", '"1"'), busy] * 5)
    with pytest.raises(UnavailableError, match="another write"):
        store.delete_if_same("k", b"mine")
    # A server without conditions, as S3 itself once was.
    unknown = refusal("NotImplemented", 501)
    store, client, _ = scripted(found(b"mine", '"1"'), unknown, found(b"mine", '"1"'), {})
    store.delete_if_same("k", b"mine")
    assert "IfMatch" not in client.calls[-1]


def test_broken_streams_are_read_again():
    """A stream that breaks off before a delete can compare is asked for again, a few times."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError

    broken = [
        {"Body": Body(IncompleteReadError(actual_bytes=1, expected_bytes=2))},
        {"Body": Body(ReadTimeoutError(endpoint_url="e"))},
    ]
    store, client, _ = scripted(*broken, {"Body": Body(b"other"), "ETag": '"1"'})
    store.delete_if_same("k", b"mine")
    assert len(client.calls) == 3
    store, client, _ = scripted(*broken * 5)
    with pytest.raises(UnavailableError):
        store.delete_if_same("k", b"mine")
    assert len(client.calls) == 5


def test_parts_of_a_delete_that_fail():
    """A key that could not be deleted is an error, though the request succeeded."""
    store, _, _ = scripted({"Errors": [{"Key": "p/k", "Code": "AccessDenied", "Message": "m"}]})
    with pytest.raises(PermissionDeniedError, match="p/k"):
        store.delete(["j", "k"])


def test_deletes_are_batched():
    """A thousand keys are one request."""
    store, client, _ = scripted({}, {}, {})
    store.delete(f"k{i}" for i in range(2001))
    assert [len(call["Delete"]["Objects"]) for call in client.calls] == [1000, 1000, 1]


def test_no_bucket(s3_endpoint):
    """A bucket that is not there is said with what to do, by every method."""
    from squash.storage.s3 import S3Store

    store = S3Store("no-such-bucket", "x", endpoint_url=s3_endpoint, region="us-east-1")
    for call in (
        lambda: store.get("k"),
        lambda: store.put("k", b""),
        lambda: store.put_if_absent("k", b""),
        lambda: list(store.list("")),
        lambda: store.get_ranges("k", [(0, 1)]),
        lambda: store.delete(["k"]),
    ):
        with pytest.raises(NotFoundError, match="Create it"):
            call()


def test_nobody_there():
    """An endpoint where nobody answers is unavailable."""
    from squash.storage.s3 import S3Store

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        store = S3Store("b", "", endpoint_url=f"http://127.0.0.1:{port}", region="us-east-1")
        with pytest.raises(UnavailableError, match="Repeat"):
            store.get("k")
        with pytest.raises(UnavailableError, match="Repeat"):
            store.put("k", b"")


def test_a_write_that_hangs_is_repeated(monkeypatch):
    """Where somebody waits: what was there is then its own first try, or of who was first."""
    from squash.storage.s3 import S3Store

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    over = threading.Event()

    def hanging(_: Request) -> Answer:
        over.wait(20)
        return Answer(200)

    with scripted_s3() as s3:
        store = S3Store("b", "", endpoint_url=s3.url, region="us-east-1", silent_s=1)
        s3.answers(hanging, scripted_refusal(412, "PreconditionFailed"))
        try:
            assert store.put_if_absent("k", b"a") is False
            assert [one.method for one in s3.requests] == ["PUT", "PUT"]
        finally:
            over.set()


def test_settings():
    """Requests have time-outs and standard retries."""
    from squash.storage.s3 import S3Store

    config = prototype().writes()._client.meta.config
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] == 4
    assert (config.connect_timeout, config.read_timeout) == (5, 30)
    asked = S3Store("b", "", endpoint_url="http://127.0.0.1:9", region="us-east-1", silent_s=10)
    config = asked.writes()._client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 10)
    assert config.retries["total_max_attempts"] == 4
    with pytest.raises(InvalidArgumentError):
        S3Store("b", "", endpoint_url="no url", region="us-east-1")
    with pytest.raises(InvalidArgumentError, match="http://host:port"):
        S3Store("b", "", endpoint_url="s3.example.com", region="us-east-1")
    with pytest.raises(InvalidArgumentError):
        S3Store("b", "../x", region="us-east-1")
