"""An S3 in this process that answers from a script, for what a real one does seldom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, TypeAlias

_MODIFIED: Final = "Fri, 27 Nov 2026 12:00:00 GMT"


@dataclass(frozen=True)
class Answer:
    """What is sent; of `body` only the first `sent` bytes, if that is given, and then an end."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


CLOSE: Final = Answer(0)
"""No answer: the connection is closed."""


def refusal(status: int, code: str = "", **headers: str) -> Answer:
    """Return what S3 refuses with; without a code, an answer that has no body."""
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode() if code else b""
    return Answer(status, body, headers)


def found(body: bytes, *, sent: int | None = None) -> Answer:
    """Return what S3 answers a GET with; to one of a range, if there is one."""
    return Answer(200, body, {"ETag": '"1"', "Last-Modified": _MODIFIED}, sent)


def part(body: bytes, start: int, whole: int, *, tag: str = '"1"') -> Answer:
    """Return what S3 answers the GET of a range with."""
    span = f"bytes {start}-{start + len(body) - 1}/{whole}"
    return Answer(206, body, {"ETag": tag, "Last-Modified": _MODIFIED, "Content-Range": span})


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]


Given: TypeAlias = Answer | Callable[[Request], Answer]


class ScriptedS3:
    """Its answers, in order, of which the last is given again and again; and what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self._answers: list[Given] = []
        self._lock = threading.Lock()

    def answers(self, *answers: Given) -> None:
        """Begin anew with these."""
        with self._lock:
            self._answers = list(answers)
            self.requests.clear()

    def take(self, request: Request) -> Answer:
        """Return the next answer."""
        with self._lock:
            self.requests.append(request)
            given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return given if isinstance(given, Answer) else given(request)


@contextmanager
def scripted_s3() -> Iterator[ScriptedS3]:
    """Serve."""

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.rfile.read(int(headers.get("content-length", 0)))
            answer = s3.take(Request(self.command, self.path, headers))
            if answer is CLOSE:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.sent])
            self.close_connection = answer.sent is not None

        do_GET = _answer  # noqa: N815 - http.server's names
        do_HEAD = _answer  # noqa: N815
        do_PUT = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    s3 = ScriptedS3(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
