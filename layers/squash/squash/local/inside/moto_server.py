"""moto's S3, whose conditional puts are made atomic as those of S3 are: ``moto_server.py PORT``.

moto looks whether a key is there and stores it in two steps, between which another thread may do
the same: of many writers two would be told that they were first, and one's commit be lost. So its
puts go one at a time.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

LOOPBACK: Final = "127.0.0.1"


def _one_put_at_a_time(app: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT" or "CONTENT_LENGTH" not in environ:
            return app(environ, start_response)
        # Read before the lock is taken, or a slow writer would hold up the rest; whole, or one
        # that is killed while it sends would leave half an object.
        length = int(environ["CONTENT_LENGTH"] or 0)
        body = environ["wsgi.input"].read(length)
        if len(body) < length:
            start_response("400 Bad Request", [("Content-Length", "0")])
            return []
        environ["wsgi.input"] = io.BytesIO(body)
        with lock:
            return list(app(environ, start_response))

    return serve


def _serve(port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    run_simple(
        LOOPBACK,
        port,
        _one_put_at_a_time(DomainDispatcherApplication(create_backend_app)),
        threaded=True,
        request_handler=MotoRequestHandler,
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
