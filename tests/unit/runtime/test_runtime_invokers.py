"""Invokers: what Lambda's own protocol carries there and back, and what its errors become."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.exceptions import NoCredentialsError, UnauthorizedSSOTokenError
from botocore.signers import RequestSigner

from in_process import Fault, InProcessInvoker
from simulated import Clock
from squash.clock import SystemClock
from squash.errors import (
    InternalError,
    PermissionDeniedError,
    ThrottledError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from squash.limits import CALL_BYTES_MAX
from squash.planning.slots import replica_of, slot_names
from squash.runtime.invokers import LambdaInvoker
from squash.search.exchange import ThreadExchange, thread_pool
from waiting import until

SLOTS = slot_names(4)


@dataclass
class Said:
    """What the endpoint answers: a status, headers, and a body."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


@dataclass
class Endpoint:
    """Lambda's invoke API: it notes what it is asked, and answers what it is told to."""

    url: str = ""
    asked: list[tuple[str, str | None, bytes]] = field(default_factory=list)
    says: list[Said] = field(default_factory=list)
    hang: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = unquote(self.path.split("/")[3])
        self.endpoint.asked.append((name, self.headers.get("X-Amz-Tenant-Id"), body))
        said = self.endpoint.says.pop(0) if self.endpoint.says else Said()
        if said.status == 0:
            self.close_connection = True
            return
        if said.status == -1:
            self.endpoint.hang.wait()
            self.close_connection = True
            return
        self.send_response(said.status)
        for header, value in said.headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        self.wfile.write(said.body)

    def log_message(self, *_args):
        pass


@pytest.fixture(scope="module")
def credentials():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def listening(credentials):
    """One endpoint for all: a client of AWS's takes half a second to make."""
    made = Endpoint()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (_Handler,), {"endpoint": made}))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
    shared.cache_clear()


@pytest.fixture
def endpoint(listening):
    """That one, which was asked nothing yet."""
    listening.asked, listening.says, listening.hang = [], [], threading.Event()
    yield listening
    listening.hang.set()


@functools.cache
def shared(url: str, affinity: Any) -> LambdaInvoker:
    return LambdaInvoker(
        allocator="s-allocator",
        processor="s-processor",
        affinity=affinity,
        slots=SLOTS,
        endpoint_url=url,
        region="us-east-1",
    )


def invoker(endpoint: Endpoint, affinity: Any = "tenant") -> LambdaInvoker:
    return shared(endpoint.url, affinity)


def called(endpoint, *says: Said, timeout_s: float = 5.0):
    endpoint.says = list(says)
    return invoker(endpoint).invoke("processor", b"{}", slot="slot-1", timeout_s=timeout_s)


def error(status: int, code: str, **headers: str) -> Said:
    body = json.dumps({"Type": "User", "message": "it says no", "Message": "it says no"})
    return Said(status, {"x-amzn-ErrorType": code, **headers}, body.encode())


def test_where_calls_go(endpoint):
    """A slot is a tenant, or a function of the pool, or nothing, as affinity has it."""
    replica = replica_of("slot-1")
    for affinity in ("tenant", "pool", "none"):
        made = invoker(endpoint, affinity)
        made.invoke("allocator", b"1", slot=None, timeout_s=5)
        made.invoke("processor", b"2", slot="slot-1", timeout_s=5)
        made.invoke("processor", b"3", slot=replica, timeout_s=5)
    tenant, pool, none = endpoint.asked[:3], endpoint.asked[3:6], endpoint.asked[6:]
    assert tenant == [("s-allocator", None, b"1"), ("s-processor", "slot-1", b"2"),
                      ("s-processor", "slot-1:r1", b"3")]  # fmt: skip
    assert [name for name, _, _ in pool[:2]] == ["s-allocator", "s-processor-slot-1"]
    assert pool[2][0] in {f"s-processor-{slot}" for slot in SLOTS if slot != "slot-1"}
    assert [name for name, _, _ in none] == ["s-allocator", "s-processor", "s-processor"]
    assert {tenant for _, tenant, _ in pool + none} == {None}


def test_bytes_there_and_back(endpoint):
    """Payload and answer are carried as they are."""
    endpoint.says = [Said(body=b'{"v": 1}')]
    payload = json.dumps({"x": "y" * 1_000_000}).encode()
    assert invoker(endpoint).invoke("processor", payload, slot=None, timeout_s=5) == b'{"v": 1}'
    assert endpoint.asked == [("s-processor", None, payload)]


@pytest.mark.parametrize(
    ("said", "kind", "text"),
    [
        (error(429, "TooManyRequestsException"), ThrottledError, "concurrency"),
        (error(404, "ResourceNotFoundException"), InternalError, "no function s-processor"),
        (error(413, "RequestTooLargeException"), TooLargeError, "fewer queries"),
        (error(403, "AccessDeniedException"), PermissionDeniedError, "InvokeFunction"),
        (error(403, "ExpiredTokenException"), UnauthenticatedError, "credentials"),
        (error(400, "InvalidParameterValueException"), InternalError, "SQUASH_AFFINITY"),
        (error(500, "ServiceException"), UnavailableError, "ServiceException"),
        (error(502, "EC2UnexpectedException"), UnavailableError, "EC2UnexpectedException"),
        (error(502, "ResourceNotReadyException"), UnavailableError, "ResourceNotReadyException"),
        (error(502, "KMSDisabledException"), UnavailableError, "KMSDisabledException"),
        (error(409, "ResourceConflictException"), UnavailableError, "ResourceConflictException"),
        (error(409, "SnapStartNotReadyException"), UnavailableError, "SnapStartNotReadyException"),
        (error(408, "SnapStartTimeoutException"), UnavailableError, "SnapStartTimeoutException"),
    ],
)
def test_errors(endpoint, said, kind, text):
    """Each of Lambda's errors becomes the one that its caller would act by; none is tried again."""
    with pytest.raises(kind, match=text) as caught:
        called(endpoint, said)
    assert type(caught.value) is kind
    assert len(endpoint.asked) == 1


def test_throttled_for_how_long(endpoint):
    """The wait that Lambda asks for is passed on."""
    with pytest.raises(ThrottledError) as caught:
        called(endpoint, error(429, "TooManyRequestsException", **{"Retry-After": "2.5"}))
    assert caught.value.retry_after_ms == 2500
    with pytest.raises(ThrottledError) as caught:
        called(endpoint, error(429, "TooManyRequestsException"))
    assert caught.value.retry_after_ms == 100


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b'{"errorType": "ValueError", "errorMessage": "oh"}', UnavailableError, "ValueError: oh"),
        (b'{"errorType": "Runtime.ExitError"}', UnavailableError, "Runtime.ExitError"),
        (b'{"errorType": "Sandbox.Timedout"}', UnavailableError, "Timedout"),
        (b'{"errorType": "Function.ResponseSizeTooLarge"}', TooLargeError, "top_k"),
        (b"<html>", UnavailableError, "unknown"),
    ],
)
def test_functions_that_crash(endpoint, body, kind, text):
    """A function error is told by its type, whatever the body."""
    with pytest.raises(kind, match=text):
        called(endpoint, Said(200, {"X-Amz-Function-Error": "Unhandled"}, body))


def test_no_answer_in_time(endpoint):
    """A call ends when its time does, and is not made again."""
    with pytest.raises(UnavailableError, match="ReadTimeoutError"):
        called(endpoint, Said(-1), timeout_s=0.5)
    until(lambda: bool(endpoint.asked))  # by a thread of its own
    assert len(endpoint.asked) == 1


def test_a_connection_that_breaks(endpoint):
    """A connection that breaks is made anew, once."""
    assert called(endpoint, Said(0), Said(body=b"[]")) == b"[]"
    with pytest.raises(UnavailableError, match="ConnectionClosedError"):
        called(endpoint, Said(0), Said(0))
    assert len(endpoint.asked) == 4


def test_nobody_there(credentials):
    """Where nothing listens, the function is unavailable."""
    made = invoker(Endpoint("http://127.0.0.1:9"))
    with pytest.raises(UnavailableError):
        made.invoke("processor", b"{}", slot=None, timeout_s=1)


@pytest.mark.parametrize("kind", [NoCredentialsError, UnauthorizedSSOTokenError])
def test_who_is_not_signed_in_is_told_so(credentials, monkeypatch, kind):
    """It is not safe to repeat: nothing is signed before somebody signs in."""
    made = invoker(Endpoint("http://127.0.0.1:9"))

    def sign(*_, **__):
        raise kind

    monkeypatch.setattr(RequestSigner, "sign", sign)
    with pytest.raises(UnauthenticatedError, match=kind.__name__):
        made.invoke("processor", b"{}", slot=None, timeout_s=1)


def test_too_much_is_not_sent(endpoint):
    """What is over the limit is refused here, and at the limit it is sent."""
    made = invoker(endpoint)
    with pytest.raises(TooLargeError):
        made.invoke("processor", bytes(CALL_BYTES_MAX + 1), slot=None, timeout_s=5)
    assert endpoint.asked == []
    made.invoke("processor", bytes(CALL_BYTES_MAX), slot=None, timeout_s=5)
    assert len(endpoint.asked[0][2]) == CALL_BYTES_MAX


def test_ready_before_the_first_call(endpoint):
    """The client is made beside the caller, once; a call that comes meanwhile waits for it."""
    made = LambdaInvoker(
        allocator="a",
        processor="p",
        affinity="none",
        slots=(),
        endpoint_url=endpoint.url,
        region="us-east-1",
    )
    before = threading.active_count()
    made.make_ready()
    made.make_ready()
    assert threading.active_count() <= before + 1
    endpoint.says = [Said(200, {}, b"{}")]
    assert made.invoke("processor", b"{}", slot=None, timeout_s=20) == b"{}"
    assert list(made._clients) == [30]


def test_what_cannot_be_made_ready_is_told_by_the_call(monkeypatch, tmp_path):
    """Without a region no client can be made, and the first call says so."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    made = LambdaInvoker(allocator="a", processor="p", affinity="none", slots=())
    made.make_ready()
    with pytest.raises(InternalError, match="NoRegionError"):
        made.invoke("processor", b"{}", slot=None, timeout_s=20)


def test_threads_share_an_invoker(endpoint):
    """Calls from many threads at once are all answered."""
    made = invoker(endpoint)
    with thread_pool() as pool:
        exchange = ThreadExchange(pool, SystemClock())
        for token in range(20):
            exchange.start(
                token,
                lambda t=token: made.invoke("processor", b"%d" % t, slot=None, timeout_s=20),
            )
        done = [exchange.next_done(20_000) for _ in range(20)]
    assert sorted(one.token for one in done) == list(range(20))
    assert sorted(int(body) for _, _, body in endpoint.asked) == list(range(20))


# In this process


def echoing(clock: Clock):
    def handle(event):
        clock.ms += 7
        return {"v": 1, "body": event["body"]}

    return handle


def test_in_process():
    """A role's answer says how long it took, and passes through JSON."""
    clock = Clock()
    made = InProcessInvoker({"processor": echoing(clock)}, clock=clock, memory_mb=512)
    answer = json.loads(made.invoke("processor", b'{"body": "x"}', slot="slot-1", timeout_s=1))
    assert answer == {"v": 1, "body": "x", "cold": False, "duration_ms": 7, "memory_mb": 512}


@pytest.mark.parametrize(
    ("fault", "kind", "took_ms"),
    [
        (Fault("fail"), UnavailableError, 0),
        (Fault("throttle", 20), ThrottledError, 20),
        (Fault("lose"), UnavailableError, 1000),
        (Fault("lose", 300), UnavailableError, 1000),
        (Fault("none", 2000), UnavailableError, 1000),
        (Fault("none", 300), None, 307),
    ],
)
def test_faults(fault, kind, took_ms):
    """Faults happen to the calls in their order, within the time-out, and then no more."""
    clock = Clock()
    began = clock.ms
    made = InProcessInvoker({"processor": echoing(clock)}, clock=clock, faults=iter([fault]))
    if kind is None:
        made.invoke("processor", b'{"body": ""}', slot=None, timeout_s=1)
    else:
        with pytest.raises(kind):
            made.invoke("processor", b'{"body": ""}', slot=None, timeout_s=1)
    assert clock.ms - began == took_ms
    made.invoke("processor", b'{"body": ""}', slot=None, timeout_s=1)
