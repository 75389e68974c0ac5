"""Running one task: once, whoever asks how often, and with a report of what it took."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from squash.errors import BuildStoppedError, DataError, NotFoundError
from squash.index.references import MALFORMED
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.request import Attempt, BuildRequest, Limits
from squash.maintain.bulk.stages import Stage, Task
from squash.maintain.bulk.tasks import (
    assemble,
    assign,
    calibrate,
    encode,
    plan,
    publish,
    sample,
    train,
)
from squash.maintain.bulk.tasks import keys as keys_task
from squash.storage import ObjectStore

T = TypeVar("T")
RunBatch = Callable[[BuildContext, BuildRequest, int], TaskReport]

_TASKS: Final[dict[Stage, RunBatch]] = {
    Stage.PLAN: plan.run,
    Stage.ENCODE: encode.run,
    Stage.SAMPLE: sample.run,
    Stage.TRAIN: train.run,
    Stage.ASSIGN: assign.run,
    Stage.KEYS: keys_task.run,
    Stage.ASSEMBLE: assemble.run,
    Stage.CALIBRATE: calibrate.run,
    Stage.PUBLISH: publish.run,
}


def run_task(context: BuildContext, task: Task) -> TaskReport:
    """Run a task, unless it is done; its report is stored last, and says that it is.

    Raises
    ------
    NotFoundError
        If there is no such build.
    BuildStoppedError
        If the build was stopped.
    SquashError
        As the task does; what it has stored by then does no harm.

    """
    done = read_report(context.store, task)
    if done is not None:
        return done
    request = read_request(context.store, task.build)
    check_running(context.store, task.build)
    begun_ms, cpu_s, counts = context.clock.now_ms(), time.process_time(), context.store.counts()
    found = _TASKS[task.stage](context, request, task.batch)
    spent = context.store.counts() - counts
    requests = dict(spent.by_kind)
    for kind, count in found.requests.items():  # of input files, which the task itself counts
        requests[kind] = requests.get(kind, 0) + count
    report = replace(
        found,
        begun_ms=begun_ms,
        ended_ms=context.clock.now_ms(),
        cpu_ms=round(1000 * (time.process_time() - cpu_s)),
        memory_mb=context.memory_mb,
        peak_mb=_peak_mb(),
        requests=requests,
        bytes_in=found.bytes_in + spent.bytes_in,
        bytes_out=found.bytes_out + spent.bytes_out,
    )
    write_json(context.store, keys.done_key(task.build, task.stage, task.batch), report.to_json())
    return report


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

    """
    data = store.get(key)
    if data is None:
        return None
    try:
        return read(json.loads(bytes(data)))
    except MALFORMED as error:
        raise DataError(
            f"{key} cannot be read ({error!r}): start the build anew", object_key=key
        ) from error


def write_json(store: ObjectStore, key: str, value: Any) -> None:
    """Store JSON; the same values give the same bytes."""
    store.put(key, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _peak_mb() -> int:
    """Return the most memory that this process ever had."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found >> (20 if sys.platform == "darwin" else 10)
