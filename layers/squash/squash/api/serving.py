"""The HTTP interface on a laptop: for development, on the loopback interface alone.

It turns requests into the events of an HTTP API and answers with what the same handlers say that
serve in Lambda, all in one process and without a cloud.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from email.errors import (
    FirstHeaderLineIsContinuationDefect,
    HeaderDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SOMAXCONN
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from squash.api import builds, indexes, querying, vectors
from squash.api.access import Gate
from squash.api.environment import S3VectorsSettings
from squash.api.face import HttpFace
from squash.api.faces import BothFaces, function_of
from squash.api.services import Endpoint, make_services
from squash.api.telemetry import LogTelemetry
from squash.clock import Clock, IdSource
from squash.database import Database
from squash.errors import UnavailableError
from squash.limits import MIB, PASSED_BODY_BYTES_MAX, SERVED_BODY_BYTES_MAX

HOST: Final = "127.0.0.1"
_IDLE_SECONDS_MAX: Final = 60
_READ_BYTES: Final = 1 << 16
_LENGTH_DIGITS_MAX: Final = 12
_TEXT_TYPES: Final = ("application/json", "text/")
# Of a message's parser, which looks for parts of a body, too.
_HEADER_DEFECTS: Final = (
    FirstHeaderLineIsContinuationDefect,
    HeaderDefect,
    MisplacedEnvelopeHeaderDefect,
    MissingHeaderBodySeparatorDefect,
)

ENDPOINTS: Final[Mapping[str, Mapping[str, Endpoint]]] = {
    "coordinator": querying.ENDPOINTS,
    "documents": vectors.ENDPOINTS,
    "indexes": {**indexes.ENDPOINTS, **builds.ENDPOINTS},
}
Handler: TypeAlias = Callable[[dict[str, Any], Any], dict[str, Any]]
Faces: TypeAlias = Mapping[str, Handler]


def make_faces(
    database: Database,
    *,
    gate: Gate,
    clock: Clock,
    ids: IdSource,
    s3vectors: S3VectorsSettings | None = None,
) -> Faces:
    """Make the handlers of all HTTP functions, by name, on one database.

    Parameters
    ----------
    database:
        Holds the indexes.
    gate:
        Tells who asks; for the S3 Vectors API what stands beside it does, by signatures.
    clock, ids:
        Time; names for requests that have none.
    s3vectors:
        How that API is answered; None for what holds where nothing is said.

    """
    services = make_services(database, clock)
    parts: dict[str, Any] = {
        "gate": gate,
        "telemetry": LogTelemetry(),
        "clock": clock,
        "ids": ids,
    }
    more = parts | {"settings": s3vectors or S3VectorsSettings()}
    return {
        name: BothFaces(name, HttpFace(name, endpoints, services, **parts), services, more)
        for name, endpoints in ENDPOINTS.items()
    }


def make_server(faces: Faces, *, port: int, ids: IdSource, clock: Clock) -> ThreadingHTTPServer:
    """Make a server that listens; `serve_forever` answers, `server_port` tells the port.

    Parameters
    ----------
    faces:
        What answers.
    port:
        0 for any.
    ids, clock:
        Name the requests; tell when they came.

    Raises
    ------
    UnavailableError
        If nobody may listen at the port, or somebody does.

    """

    class Handler(_Handler):
        def answer(self, event: dict[str, Any]) -> dict[str, Any]:
            http = event["requestContext"]["http"]
            return faces[function_of(http["method"], event["rawPath"])](event, None)

        def event(self, body: bytes) -> dict[str, Any]:
            return _event(self, body, request_id=ids.new_id(), now_ms=clock.now_ms())

    try:
        return _Server((HOST, port), Handler)
    except OSError as error:
        raise UnavailableError(
            f"the port {port} cannot be had ({error.strerror}): choose another, or 0 for any"
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Of connections that come at once: those past five, its own choice, would be tried again by
    # their clients after a second, then three, and some of sixty-four for fifteen.
    request_queue_size = SOMAXCONN

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what went wrong; that somebody did not wait for an answer is no such thing."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS_MAX
    server_version = "squash"
    sys_version = ""
    # Headers and body are two writes: the second would wait until the client has acknowledged the
    # first, which takes it 40 ms.
    disable_nagle_algorithm = True
    # Who is refused before it is read reads why in either interface's clients.
    error_content_type = "application/json"
    error_message_format = '{"message": "%(message)s"}'

    def __getattr__(self, name: str) -> Any:
        # Of every method, so that those that no route has are answered as problems too.
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def answer(self, event: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def event(self, body: bytes) -> dict[str, Any]:
        raise NotImplementedError

    def _handle(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            # What was sent after the headers is not looked at, so nothing can follow it.
            self.close_connection = True
            self.send_error(*refusal)
            self._pass_over_body()
            return
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            # Who sent it is gone; a part of it, or none, may be another request.
            self.close_connection = True
            return
        answer = self.answer(self.event(body))
        data = answer["body"].encode()
        self.send_response(answer["statusCode"])
        for name, value in answer["headers"].items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer one that cannot be read: it may be quoted, and the body is JSON nevertheless."""
        super().send_error(code, message and json.dumps(message)[1:-1], explain)

    def _pass_over_body(self) -> None:
        """Read what is being sent: who sends would find the connection broken, not the answer."""
        length = self.headers.get("content-length") or "0"
        if not (length.isascii() and length.isdecimal() and len(length) <= _LENGTH_DIGITS_MAX):
            return
        left = min(int(length), PASSED_BODY_BYTES_MAX)
        while left > 0 and (part := self.rfile.read1(min(left, _READ_BYTES))):
            left -= len(part)

    def _refusal(self) -> tuple[int, str] | None:
        """Return the status and reason for which a request is not even read."""
        host = (self.headers.get("host") or "").rsplit(":", 1)[0].lower()
        if host not in {HOST, "localhost"}:
            # A page in the user's browser can have a name of its own point here.
            return 421, "This server is asked as 127.0.0.1 or localhost"
        if any(isinstance(defect, _HEADER_DEFECTS) for defect in self.headers.defects):
            # The headers after it were not read: with its length, a body would be a request.
            return 400, "A header line cannot be read: send a name, a colon, and a value"
        if self.headers.get("transfer-encoding") is not None:
            return 411, "Send a content-length"
        for name in ("content-length", "host"):
            if len(self.headers.get_all(name, ())) > 1:
                return 400, f"The {name} is given twice"
        length = self.headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            return 400, "The content-length is no number"
        if len(length) > len(str(SERVED_BODY_BYTES_MAX)) or int(length) > SERVED_BODY_BYTES_MAX:
            return 413, (
                f"The body has more than {SERVED_BODY_BYTES_MAX // MIB} MiB: "
                "send fewer records in a request"
            )
        return None

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's
        """Say nothing: requests are told of where their handlers tell."""


def _event(
    handler: BaseHTTPRequestHandler, body: bytes, *, request_id: str, now_ms: int
) -> dict[str, Any]:
    """Make the event that API Gateway makes of a request."""
    path, _, query = handler.path.partition("?")
    path = unquote(path, errors="replace")
    headers: dict[str, str] = {}
    for name, value in handler.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    is_text = headers.get("content-type", "").startswith(_TEXT_TYPES)
    text = ""
    if is_text:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            is_text = False
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": f"{handler.command} {path}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "http": {
                "method": handler.command,
                "path": path,
                "protocol": handler.request_version,
                "sourceIp": handler.client_address[0],
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": request_id,
            "stage": "$default",
            "timeEpoch": now_ms,
        },
        "isBase64Encoded": bool(body) and not is_text,
    }
    if body:
        event["body"] = text if is_text else base64.b64encode(body).decode()
    return event
