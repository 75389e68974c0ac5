"""One factory a function: components made once, from the environment, outside the handler.

Each imports only what its function runs: a factory is where a cold start is paid for.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from squash.api.environment import Auth, FaceSettings, read_face

if TYPE_CHECKING:
    from squash.api.access import Gate
    from squash.api.services import CompactLater, Endpoint
    from squash.database import Database
    from squash.runtime.encoding import Encoding
    from squash.runtime.functions import Role
    from squash.search.calls import Calling
    from squash.search.searcher import Searcher
    from squash.storage import ObjectStore

Handler: TypeAlias = Callable[[dict[str, Any], Any], dict[str, Any]]


def coordinator(environment: Mapping[str, str]) -> Handler:
    """Return the handler of queries.

    Where SQUASH_ALLOCATOR and SQUASH_PROCESSOR name functions, it searches by calling them, as far
    as that pays; else by itself. Where SQUASH_ENCODER does, it has texts and images encoded.
    To ``{"keep_warm": true}``, which a schedule says, it calls all processors for nothing.
    """
    from squash.api.querying import ENDPOINTS
    from squash.clock import SystemClock
    from squash.runtime.functions import make_calling, make_encoding, make_searcher

    face = read_face(environment)
    calling = make_calling(environment, clock=SystemClock())
    database = open_database(
        environment,
        searcher=make_searcher(environment, calling),
        encoding=make_encoding(environment, lambda: calling),
    )
    answer = _face("coordinator", ENDPOINTS, face, database)
    return _kept_warm(answer, environment, calling)


def documents(environment: Mapping[str, str]) -> Handler:
    """Return the handler of records: put, patch, get, delete, list."""
    from squash.api.vectors import ENDPOINTS
    from squash.clock import SystemClock
    from squash.runtime.functions import make_calling, make_encoding

    face = read_face(environment)
    database = open_database(
        environment,
        fold_soon=None if face.compactor is None else _asker_of(face.compactor),
        encoding=make_encoding(environment, lambda: make_calling(environment, clock=SystemClock())),
        writes=True,
        awaited=True,
    )
    return _face("documents", ENDPOINTS, face, database)


def indexes(environment: Mapping[str, str]) -> Handler:
    """Return the handler of indexes: all that `squash.api.indexes` and `builds` serve."""
    from squash.api import builds, indexes

    face = read_face(environment)
    endpoints = {**indexes.ENDPOINTS, **builds.ENDPOINTS}
    return _face("indexes", endpoints, face, open_database(environment, awaited=True))


def compactor(environment: Mapping[str, str]) -> Handler:
    """Return the handler that folds, or collects: one index, or on schedules all."""
    from dataclasses import asdict

    from squash.api.cloudwatch import LambdaTelemetry
    from squash.api.compacting import check_event, collect, compact
    from squash.api.environment import read_retention_s

    retention_s = read_retention_s(environment)
    database = open_database(environment)
    telemetry = LambdaTelemetry("compactor")

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        remaining_ms, note = context.get_remaining_time_in_millis, telemetry.note
        if check_event(event):
            collected = collect(
                database, event, retention_s=retention_s, remaining_ms=remaining_ms, note=note
            )
            return {"indexes": [asdict(one) for one in collected]}
        folded = compact(database, event, remaining_ms=remaining_ms, note=note)
        return {"indexes": [asdict(one) for one in folded]}

    return handle


def builder(environment: Mapping[str, str]) -> Handler:
    """Return the handler of what the state machine of bulk builds asks for."""
    from squash.api.building import answer
    from squash.api.cloudwatch import LambdaTelemetry
    from squash.clock import SystemClock
    from squash.runtime.functions import make_calling, make_encoding

    database = open_database(
        environment,
        encoding=make_encoding(environment, lambda: make_calling(environment, clock=SystemClock())),
    )
    telemetry = LambdaTelemetry("builder")

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        remaining_ms = context.get_remaining_time_in_millis
        return answer(database, event, remaining_ms=remaining_ms, note=telemetry.note)

    return handle


def allocator(environment: Mapping[str, str]) -> Handler:
    """Return the handler that filters, chooses partitions and merges."""
    from squash.runtime.functions import make_allocator

    return _of_events(make_allocator(environment))


def processor(environment: Mapping[str, str]) -> Handler:
    """Return the handler that searches partitions."""
    from squash.runtime.functions import make_processor

    return _of_events(make_processor(environment))


def encoder(environment: Mapping[str, str]) -> Handler:
    """Return the handler that encodes texts and images.

    What every call needs is loaded now: Lambda gives a start more of the processor.
    """
    import onnxruntime  # noqa: F401
    import tokenizers  # noqa: F401

    from squash.runtime.functions import make_encoder

    return _of_events(make_encoder(environment))


def open_database(
    environment: Mapping[str, str],
    *,
    searcher: Searcher | None = None,
    encoding: Encoding | None = None,
    fold_soon: Callable[[str], None] | None = None,
    writes: bool = False,
    awaited: bool = False,
) -> Database:
    """Open the indexes of a function's store; they share what may be retained.

    See `store_of` for what it writes.
    """
    from squash.clock import SystemClock, SystemIds
    from squash.database import Database
    from squash.runtime.functions import settings_of, store_of, tmp_of

    return Database(
        store_of(environment, writes=writes, awaited=awaited),
        settings=settings_of(environment),
        clock=SystemClock(),
        ids=SystemIds(),
        searcher=searcher,
        encoding=encoding,
        tmp=tmp_of(environment),
        fold_soon=fold_soon,
    )


def make_gate(auth: Auth, store: ObjectStore) -> Gate:
    """Return what tells who asks."""
    from squash.api import access
    from squash.clock import SystemClock

    if auth is Auth.IAM:
        return access.IamGate()
    if auth is Auth.NONE:
        return access.OpenGate()
    return access.KeyGate(store, SystemClock())


def _face(
    name: str, endpoints: Mapping[str, Endpoint], settings: FaceSettings, database: Database
) -> Handler:
    from squash.api.cloudwatch import LambdaTelemetry
    from squash.api.face import HttpFace
    from squash.api.faces import BothFaces
    from squash.api.services import make_services
    from squash.clock import SystemClock, SystemIds

    clock = SystemClock()
    compact_later = None if settings.compactor is None else _caller_of(settings.compactor)
    services = make_services(
        database, clock, compact_later=compact_later, build_machine=settings.build_machine
    )
    parts: dict[str, Any] = {
        "gate": make_gate(settings.auth, database.store),
        "telemetry": LambdaTelemetry(name, metrics=settings.metrics),
        "clock": clock,
        "ids": SystemIds(),
    }
    native = HttpFace(name, endpoints, services, **parts)
    if settings.s3vectors is None:
        return native
    return BothFaces(name, native, services, parts | {"settings": settings.s3vectors})


def _caller_of(function: str) -> CompactLater:
    """Return what gives a function an event, and does not wait for it."""

    def call(event: Mapping[str, Any]) -> None:
        # Few routes of one function come here: no other waits for the client to be loaded.
        from squash.api.calling import call_later

        call_later(function, json.dumps(dict(event)).encode())

    return call


def _asker_of(function: str) -> Callable[[str], None]:
    """Return what asks a function to fold an index while a writer waits: briefly, and seldom."""
    from squash.api.asking import SeldomAsker
    from squash.clock import SystemClock

    def call(index: str) -> None:
        from squash.api.calling import call_soon

        call_soon(function, json.dumps({"index": index, "thrifty": True}).encode())

    return SeldomAsker(call, SystemClock())


def _kept_warm(answer: Handler, environment: Mapping[str, str], calling: Calling) -> Handler:
    """Return a handler that also does what the schedule of `KeepWarm` asks for."""

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        # At neither door can anybody say this: there, what is asked is within the event.
        of_schedule = isinstance(event, dict) and "requestContext" not in event
        if of_schedule and event.get("keep_warm") is True:
            from squash.runtime.fleet import read_fleet
            from squash.runtime.warming import keep_warm

            fleet = read_fleet(environment)
            called = fleet.slots if fleet.processor is not None else ()
            return {"slots": len(called), "answered": keep_warm(calling.invoker, called)}
        return answer(event, context)

    return handle


def _of_events(role: Role) -> Handler:
    """Return the handler of a role."""

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        del context
        return role.handle(event)

    return handle
