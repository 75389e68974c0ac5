"""What a build notes of itself as JSON: request, plan, attempts, stops and reports.

And reading what a task left for later ones, in containers of whatever kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from squash.container import Buffer
from squash.errors import (
    BuildStoppedError,
    ChecksumError,
    DataError,
    NotFoundError,
    UnsupportedFormatError,
)
from squash.index.references import MALFORMED
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import TaskReport
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.request import Attempt, BuildRequest, Limits
from squash.maintain.bulk.stages import Task
from squash.storage import ObjectStore

VERSION: Final = 1  # of a request, a plan and an outcome; nothing else here has one
T = TypeVar("T")


def read_report(store: ObjectStore, task: Task) -> TaskReport | None:
    """Return the report of a task; None if it is not done."""
    key = keys.done_key(task.build, task.stage, task.batch)
    return read_json(store, key, TaskReport.from_json)


def read_request(store: ObjectStore, build: str) -> BuildRequest:
    """Return what a build was asked to do.

    Raises
    ------
    NotFoundError
        If there is no such build.

    """
    found = read_json(store, keys.request_key(build), BuildRequest.from_json)
    if found is None:
        raise NotFoundError(
            f"there is no build {build[:64]!r}: `squash build list` names those there are"
        )
    return found


def read_plan(store: ObjectStore, build: str) -> Plan:
    """Return the plan of a build.

    Raises
    ------
    NotFoundError
        If it has none yet.

    """
    found = read_json(store, keys.plan_key(build), Plan.from_json)
    if found is None:
        raise NotFoundError(f"build {build} has no plan yet: its first stage is not done")
    return found


def read_attempt(store: ObjectStore, build: str) -> Attempt:
    """Return the latest attempt of a build."""
    prefix = keys.attempt_key(build, 0)[:-6]
    newest = max((info.key for info in store.list(prefix)), default=None)
    found = None if newest is None else read_json(store, newest, attempt_from_json)
    if found is None:
        raise NotFoundError(f"build {build} was never started")
    return found


def attempt_from_json(value: dict[str, Any]) -> Attempt:
    """Read what `asdict` made of an attempt."""
    return Attempt(**{**value, "limits": Limits(**value["limits"])})


def check_running(store: ObjectStore, build: str) -> None:
    """Refuse to go on with a build that was stopped.

    Raises
    ------
    BuildStoppedError
        If it was, after its latest attempt began.

    """
    attempt = read_attempt(store, build)
    stop: dict[str, Any] | None = read_json(store, keys.stop_key(build, attempt.number), dict)
    if stop is not None:
        raise BuildStoppedError(f"build {build} was stopped: {stop.get('reason', 'no reason')}")


def read_json(store: ObjectStore, key: str, read: Callable[[Any], T]) -> T | None:
    """Return what a JSON object holds, read by `read`; None if there is no such object.

    Raises
    ------
    DataError
        If it cannot be read.
    UnsupportedFormatError
        If a newer release wrote it.

    """
    data = store.get(key)
    if data is None:
        return None
    try:
        found = json.loads(bytes(data))
        if found.get("version", VERSION) != VERSION:
            raise UnsupportedFormatError(
                f"{key} is of version {found['version']!r:.40}, and this release builds by version "
                f"{VERSION}: go on with the build by the release that began it, or cancel it",
                object_key=key,
            )
        return read(found)
    except MALFORMED as error:
        raise DataError(
            f"{key} cannot be read ({error!r}): start the build anew", object_key=key
        ) from error


def read_part(store: ObjectStore, key: str, read: Callable[[Buffer], T]) -> T:
    """Return what `read` makes of an object that an earlier task has left.

    Raises
    ------
    ChecksumError
        If it is missing.
    DataError
        If it is something else.

    """
    data = store.get(key)
    if data is None:
        raise ChecksumError(f"{key} is missing: start the build anew", object_key=key)
    try:
        return read(data)
    except MALFORMED as error:
        raise DataError(
            f"{key} has parts that do not fit ({error!r}): start the build anew", object_key=key
        ) from error


def write_json(store: ObjectStore, key: str, value: Any) -> None:
    """Store JSON; the same values give the same bytes."""
    store.put(key, _bytes(value))


def write_json_if_absent(store: ObjectStore, key: str, value: Any) -> bool:
    """Store JSON under a key that has nothing yet; False if it has."""
    return store.put_if_absent(key, _bytes(value))


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
