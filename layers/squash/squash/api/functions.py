"""One factory a function: components made once, from the environment, outside the handler.

Each imports only what its function runs: a factory is where a cold start is paid for.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from squash.api.environment import Auth, FunctionSettings, read_settings

if TYPE_CHECKING:
    from squash.api.access import Gate
    from squash.api.services import Endpoint
    from squash.database import Database
    from squash.storage import ObjectStore

Handler: TypeAlias = Callable[[dict[str, Any], Any], dict[str, Any]]


def coordinator(environment: Mapping[str, str]) -> Handler:
    """Return the handler of queries."""
    from squash.api.querying import ENDPOINTS

    settings = read_settings(environment)
    return _face("coordinator", ENDPOINTS, settings, open_searcher(environment, settings))


def documents(environment: Mapping[str, str]) -> Handler:
    """Return the handler of records: put, get, delete, list."""
    from squash.api.vectors import ENDPOINTS

    settings = read_settings(environment)
    return _face("documents", ENDPOINTS, settings, open_database(settings))


def indexes(environment: Mapping[str, str]) -> Handler:
    """Return the handler of indexes: create, list, describe, drop, stats, optimize; and health."""
    from squash.api.indexes import ENDPOINTS

    settings = read_settings(environment)
    return _face("indexes", ENDPOINTS, settings, open_database(settings))


def compactor(environment: Mapping[str, str]) -> Handler:
    """Return the handler that folds: one index, or on a schedule all that are due."""
    from dataclasses import asdict

    from squash.api.cloudwatch import LambdaTelemetry
    from squash.api.compacting import compact

    database = open_database(read_settings(environment))
    telemetry = LambdaTelemetry("compactor")

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        done = compact(
            database,
            event,
            remaining_ms=context.get_remaining_time_in_millis,
            note=telemetry.note,
        )
        return {"indexes": [asdict(one) for one in done]}

    return handle


def allocator(environment: Mapping[str, str]) -> Handler:
    """Return the handler that filters, chooses partitions and merges."""
    from squash.runtime.functions import make_allocator

    return _of_events(make_allocator(environment))


def processor(environment: Mapping[str, str]) -> Handler:
    """Return the handler that searches partitions."""
    from squash.runtime.functions import make_processor

    return _of_events(make_processor(environment))


def open_database(settings: FunctionSettings) -> Database:
    """Open the store that holds the indexes; one index retains its share of the memory."""
    from squash.database import connect
    from squash.limits import OPEN_INDEXES_MAX

    return connect(
        settings.location,
        endpoint_url=settings.s3_endpoint,
        retained_bytes_max=settings.retained_bytes_max // OPEN_INDEXES_MAX,
    )


def open_searcher(environment: Mapping[str, str], settings: FunctionSettings) -> Database:
    """Open the database that the coordinator searches.

    This is the place to give it a searcher that fans out to the functions that SQUASH_ALLOCATOR
    and SQUASH_PROCESSOR name; without these a query is searched in this process.
    """
    del environment
    return open_database(settings)


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
    name: str, endpoints: Mapping[str, Endpoint], settings: FunctionSettings, database: Database
) -> Handler:
    from squash.api.cloudwatch import LambdaTelemetry
    from squash.api.face import HttpFace
    from squash.api.services import make_services
    from squash.clock import SystemClock, SystemIds

    clock = SystemClock()
    fold_later = None if settings.compactor is None else _caller_of(settings.compactor)
    return HttpFace(
        name,
        endpoints,
        make_services(database, clock, fold_later=fold_later),
        gate=make_gate(settings.auth, database.store),
        telemetry=LambdaTelemetry(name),
        clock=clock,
        ids=SystemIds(),
    )


def _caller_of(function: str) -> Callable[[str], None]:
    """Return what asks a function to fold an index, and does not wait for it."""

    def call(index: str) -> None:
        # Only one route of one function comes here: no other waits for the client to be loaded.
        from squash.api.calling import call_later

        call_later(function, json.dumps({"index": index}).encode())

    return call


def _of_events(role: Any) -> Handler:
    """Return the handler of a role: an object with `handle(event) -> answer`."""

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        del context
        answer: dict[str, Any] = role.handle(event)
        return answer

    return handle
