"""How far a build is, and which builds there are, as their objects tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from squash.errors import DataError, NotFoundError
from squash.index.references import MALFORMED
from squash.limits import ID_PATTERN
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import SNAPSHOT
from squash.maintain.bulk.estimates import read_estimates
from squash.maintain.bulk.progress import StageState, stage_states, workers_of
from squash.maintain.bulk.records import read_attempt, read_json, read_report, read_request
from squash.maintain.bulk.stages import STAGES, Stage, Task
from squash.maintain.bulk.tasks.assign import BAD
from squash.planning.build_costs import StageEstimate, Workers
from squash.reports import BuildProblem, BuildState, BuildStatus, StageProgress
from squash.storage import ObjectStore

_BUILD: Final = re.compile(ID_PATTERN)
_ENDED: Final[Mapping[str, BuildState]] = {
    "cancelled": "cancelled",
    "failed": "failed",
    "stopped": "stopped",
}


def build_status(store: ObjectStore, index: str, build: str, *, billed: bool = True) -> BuildStatus:
    """Describe a build: one listing, the reports of what is at work, and sums of what is done.

    Parameters
    ----------
    store:
        Below the index's own prefix.
    index, build:
        Which build.
    billed:
        Whether requests of the store cost anything.

    Raises
    ------
    NotFoundError
        If there is no such build.
    DataError
        If one of its objects cannot be read.

    """
    request, attempt = read_request(store, build), read_attempt(store, build)
    states = {state.stage: state for state in stage_states(store, index, build)}
    workers = workers_of(attempt, billed=billed)
    estimates = read_estimates(store, index, build)
    stops = dict(_stops(store, build))
    published = read_report(store, Task(index, build, Stage.PUBLISH))
    state: BuildState = "running"
    if published is not None:
        state = "published"
    elif attempt.number in stops:
        state = _ENDED[stops[attempt.number][0]]
    sums = {stage: state.sums for stage, state in states.items()}
    listed = _listed(store, build, states.get(Stage.ASSIGN)) if stops else 0
    # What is bad in the eyes of `encode` comes by in `assign` again.
    bad = max(
        (one.bad + (listed if stage is Stage.ASSIGN else 0) for stage, one in sums.items()),
        default=0,
    )
    return BuildStatus(
        build=build,
        index=index,
        state=state,
        executor=attempt.executor,
        attempt=attempt.number,
        started_ms=request.created_ms,
        updated_ms=max([attempt.started_ms, *(one.ended_ms for one in sums.values())]),
        inputs=request.inputs,
        rows=sums[Stage.PLAN].rows if Stage.PLAN in sums else 0,
        bad=bad,
        bad_key=_bad_folder(build) if bad else None,
        replaced=sum(one.replaced for one in sums.values()),
        cost_usd=sum(one.cost_usd(workers) for one in sums.values()),
        estimate=estimates.whole,
        remaining_s=_remaining_s(states, estimates.stages, state),
        stages=tuple(_progress(stage, states.get(stage), workers) for stage in STAGES),
        problems=(
            *(problem for _, problem in stops.values()),
            *_bad_rows(states.get(Stage.ASSIGN)),
        ),
        before=request.base,
        snapshot=None if published is None else published.detail.get(SNAPSHOT),
    )


def list_builds(
    store: ObjectStore,
    index: str,
    *,
    billed: bool = True,
    unreadable: dict[str, DataError] | None = None,
) -> list[BuildStatus]:
    """Describe all builds of an index that there is anything left of, the latest first.

    Parameters
    ----------
    store, index, billed:
        As of `build_status`.
    unreadable:
        Is told, by id, why a build cannot be described; the others are returned.

    Raises
    ------
    DataError
        If one of their objects cannot be read, and nothing is to be told of it.

    """
    found: list[BuildStatus] = []
    for name in store.list_folders(keys.BUILDS):
        if not _BUILD.fullmatch(name):
            continue
        try:
            found.append(build_status(store, index, name, billed=billed))
        except NotFoundError:
            continue  # half removed by gc, or not begun yet: its request or attempt is not there
        except DataError as error:
            if unreadable is None:
                raise
            unreadable[name] = error
    return sorted(found, key=lambda status: (status.started_ms, status.build), reverse=True)


def _stops(store: ObjectStore, build: str) -> Iterator[tuple[int, tuple[str, BuildProblem]]]:
    """Yield what ended attempts, by their numbers."""
    prefix = keys.stop_key(build, 0)[: -len("000000")]
    for info in store.list(prefix):
        number = info.key[len(prefix) :]
        if not (number.isascii() and number.isdigit()):
            continue
        found = read_json(store, info.key, _stop)
        if found is not None:
            yield int(number), found


def _stop(value: Mapping[str, Any]) -> tuple[str, BuildProblem]:
    problem = BuildProblem(
        stage=str(value.get("stage", "")),
        message=str(value["reason"]),
        input=value.get("input"),
        row=value.get("row"),
    )
    if value["state"] not in _ENDED:
        raise ValueError(f"{value['state']!r} is no end of a build")
    return value["state"], problem


def _bad_folder(build: str) -> str:
    """Return what the keys of the lists of bad rows begin with."""
    return f"{keys.folder(build)}{BAD}/"


def _listed(store: ObjectStore, build: str, state: StageState | None) -> int:
    """Return how many bad rows those tasks have listed that found too many, and reported nothing.

    Of one task they are all that it came to, up to `BUILD_BAD_ROWS_LISTED_MAX`.
    """
    if state is None:
        return 0
    mine = {keys.part_key(build, BAD, task.batch) for task in state.left}
    found = [info.key for info in store.list(_bad_folder(build)) if info.key in mine]
    return sum(bytes(store.get(key) or b"").count(b"\n") for key in found)


def _bad_rows(state: StageState | None) -> Sequence[BuildProblem]:
    """Return some of the rows that are left out."""
    if state is None:
        return ()
    try:
        return [
            BuildProblem(Stage.ASSIGN.value, str(row["problem"]), row["input"], row["row"])
            for row in state.sums.examples
        ]
    except MALFORMED as error:
        raise DataError(
            f"reports of {Stage.ASSIGN} name bad rows in a way that cannot be read ({error!r}): "
            "start the build anew"
        ) from error


def _progress(stage: Stage, state: StageState | None, workers: Workers) -> StageProgress:
    if state is None:
        return StageProgress(stage.value, 0, 0, 0, 0.0, 0.0)
    sums = state.sums
    return StageProgress(
        stage=stage.value,
        tasks_done=len(state.tasks) - len(state.left),
        tasks=len(state.tasks),
        rows=sums.rows,
        cpu_s=sums.cpu_ms / 1000,
        cost_usd=sums.cost_usd(workers),
    )


def _remaining_s(
    states: Mapping[Stage, StageState], estimates: Mapping[Stage, StageEstimate], state: BuildState
) -> float | None:
    """Return how long the rest will take: as was estimated, times how wrong that was so far."""
    if state == "published":
        return 0.0
    if state != "running" or not estimates:
        return None
    left = thought = taken = 0.0
    for stage, estimate in estimates.items():
        known = states.get(stage)
        tasks = len(known.tasks) if known is not None else estimate.tasks
        open_ = len(known.left) if known is not None else tasks
        left += estimate.seconds * open_ / max(tasks, 1)
        if known is not None and stage is not Stage.PLAN:
            thought += known.sums.tasks * estimate.task_s
            taken += known.sums.wall_ms / 1000
    return left * (taken / thought if thought and taken else 1.0)
