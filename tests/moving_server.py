"""A live server of the service's API, with what may go wrong on the way to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import squash
from squash.api.environment import Auth
from squash.api.functions import make_gate
from squash.api.serving import HOST, make_faces, make_server
from squash.clock import SystemClock, SystemIds
from squash.database import Database


@dataclass
class Service:
    """What is served, and a rule that answers a request in its place, or lets it through."""

    url: str
    database: Database
    rule: Callable[[str, dict[str, Any], int], tuple[int, str, str] | None] = (
        lambda path, members, number: None
    )
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def serving(database: Database | None = None) -> Iterator[Service]:
    """Serve a database, one in memory if none is given."""
    database = database or squash.connect(f"memory://{uuid4().hex}")
    clock, ids = SystemClock(), SystemIds()
    gate = make_gate(Auth.NONE, database.store)
    faces = dict(make_faces(database, gate=gate, clock=clock, ids=ids))
    service = Service("", database)
    lock = threading.Lock()

    def ruled(handler):
        def answer(event, context):
            members = json.loads(event.get("body") or "{}")
            with lock:
                service.asked.append((event["rawPath"], members))
                number = len(service.asked)
            refused = service.rule(event["rawPath"], members, number)
            if refused is None:
                return handler(event, context)
            status, code, message = refused
            headers = {"content-type": "application/json"}
            if code:
                headers["x-amzn-ErrorType"] = code
            return {
                "statusCode": status,
                "headers": headers,
                "body": json.dumps({"message": message}),
                "isBase64Encoded": False,
            }

        return answer

    server = make_server(
        {name: ruled(face) for name, face in faces.items()}, port=0, ids=ids, clock=clock
    )
    # Of a client that was killed there is nothing to say.
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.url = f"http://{HOST}:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def contents(index: Any) -> dict[str, tuple[bytes, str]]:
    """All records of an index: vectors to the bit, metadata as JSON."""
    found = {}
    for batch in index.export_batches():
        for key, vector, metadata in zip(batch.keys, batch.vectors, batch.metadata, strict=True):
            assert key not in found
            found[key] = (vector.tobytes(), json.dumps(metadata, sort_keys=True))
    return found
