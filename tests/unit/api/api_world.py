"""The HTTP functions on a store in memory, asked by events as API Gateway makes them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from squash.api import credentials
from squash.api.access import KeyGate
from squash.api.serving import make_faces
from squash.clock import SystemIds
from squash.database import Database
from squash.runtime import Settings
from squash.storage import MemoryStore

EVENTS = Path(__file__).resolve().parents[2] / "events"
NOW_MS = 1_795_688_431_000


class HandClock:
    """Stands still until it is moved."""

    def __init__(self, now_ms=NOW_MS):
        self.ms = now_ms

    def now_ms(self):
        return self.ms

    def sleep(self, seconds):
        self.ms += int(seconds * 1000)


def event(name):
    return json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))


class Answer:
    """A handler's answer, with its body parsed, after the checks that hold for every one."""

    def __init__(self, raw, request_id):
        self.raw = raw
        self.status = raw["statusCode"]
        self.headers = raw["headers"]
        self.document = json.loads(raw["body"])
        assert self.headers["x-request-id"] == request_id
        assert raw["isBase64Encoded"] is False
        json.dumps(raw)
        is_problem = self.headers["content-type"] == "application/problem+json"
        assert is_problem == (self.status >= 400)
        if is_problem:
            assert self.document["status"] == self.status
            assert self.document["instance"] == request_id
            assert self.document["type"].startswith("urn:squash:")
            assert self.document["title"]
            assert self.document["detail"]

    @property
    def kind(self):
        return self.document["type"].removeprefix("urn:squash:")


class World:
    """A store, its keys, and the handlers over it."""

    def __init__(self, store=None, gate=None, clock=None, settings=None):
        self.store = store or MemoryStore()
        self.clock = clock or HandClock()
        self.database = Database(
            self.store, settings=settings or Settings(), clock=self.clock, ids=SystemIds()
        )
        self.gate = gate or KeyGate(self.store, self.clock)
        self.faces = make_faces(self.database, gate=self.gate, clock=self.clock, ids=SystemIds())
        self.admin = self.key("read", "write", "admin")

    def key(self, *scopes, indexes=("*",), **more):
        """A new key's token."""
        return credentials.create_key(
            self.store, scopes=scopes, indexes=indexes, clock=self.clock, **more
        ).token

    def event(self, method, path, body=None, *, key=None, headers=None, query="", **changes):
        made = copy.deepcopy(event("http-query"))
        made["rawPath"] = made["requestContext"]["http"]["path"] = path
        made["requestContext"]["http"]["method"] = method
        made["rawQueryString"] = query
        del made["body"], made["pathParameters"]
        made["headers"].pop("content-length")
        if body is None:
            made["headers"].pop("content-type")
        else:
            made["body"] = body if isinstance(body, str) else json.dumps(body)
        token = self.admin if key is None else key
        if token:
            made["headers"]["authorization"] = f"Bearer {token}"
        made["headers"] |= headers or {}
        return made | changes

    def ask(self, method, path, body=None, **more):
        """Ask the function that serves a path."""
        return self.send(self.event(method, path, body, **more))

    def send(self, made):
        from squash.api.routes import ELSEWHERE, routes_of

        routes, _ = routes_of(made["rawPath"])
        face = self.faces[routes[0].function if routes else ELSEWHERE]
        return Answer(face(made, None), made["requestContext"]["requestId"])

    def stored(self):
        """Everything that is stored."""
        return {key: data for key, (data, _) in self.store._objects.items()}

    def papers(self, name="papers"):
        """An index of three records of dimension 2."""
        assert self.ask("POST", "/v1/indexes", {"name": name, "dimension": 2}).status == 201
        vectors = [
            {"key": "a", "vector": [1, 0], "metadata": {"year": 2019, "team": "red"}},
            {"key": "b", "vector": [0, 1], "metadata": {"year": 2021, "team": "blue"}},
            {"key": "c", "vector": [1, 1], "metadata": {"year": 2024, "team": "red"}},
        ]
        done = self.ask("POST", f"/v1/indexes/{name}/vectors", {"vectors": vectors})
        assert done.status == 200
        return self


def context(remaining_ms=600_000):
    """What Lambda says of an invocation."""
    return SimpleNamespace(
        aws_request_id="c0ffee", get_remaining_time_in_millis=lambda: remaining_ms
    )


def rows(count):
    """Make so many rows to put."""
    return {
        "keys": [str(i) for i in range(count)],
        "vectors": np.random.default_rng(1).normal(size=(count, 2)),
    }
