"""What a bulk build took, from the reports that its tasks left."""

from __future__ import annotations

from collections import Counter
from typing import Any

from scale_inputs import Run, StageRun
from squash.errors import SquashError
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import TaskReport
from squash.maintain.bulk.records import read_plan, read_report
from squash.maintain.bulk.stages import STAGES, Stage, Task
from squash.planning.prices import invocation_cost_usd, request_cost_usd, transition_cost_usd
from squash.storage import ObjectStore

GB: float = 1_769 / 1_024


def run_of(
    store: ObjectStore, index: str, build: str, *, name: str, dimension: int, functions: int = 1
) -> Run:
    """Return what a published build took.

    Parameters
    ----------
    store:
        Below the index's own prefix.
    index, build:
        The index's name, the build's id.
    name:
        Of the data.
    dimension:
        Of the vectors.
    functions:
        How many tasks ran side by side.

    """
    plan = read_plan(store, build)
    reports = {stage: reports_of(store, index, build, stage) for stage in STAGES}
    stages = {stage.value: stage_run(found) for stage, found in reports.items() if found}
    learned = reports[Stage.TRAIN][0].detail if reports[Stage.TRAIN] else {}
    objects: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    half = build[:16]
    segments = set()
    for prefix in ("segments/", "trained/"):
        for info in store.list(prefix + half):
            parts = info.key.split("/")
            kind = parts[-1] if prefix == "segments/" else "trained"
            segments.add(parts[1]) if prefix == "segments/" else None
            objects[kind] += 1
            sizes[kind] += info.bytes
    every = [one for found in reports.values() for one in found]
    return Run(
        name=name,
        rows=plan.rows,
        dimension=dimension,
        keyed=plan.keyed,
        files=len(plan.files),
        pieces=len(plan.pieces),
        clusters=int(learned.get("clusters", 0)),
        partitions=len(segments),
        groups=int(learned.get("groups", 0)),
        stages=stages,
        index_objects=dict(objects),
        index_bytes=dict(sizes),
        wall_s=(max(one.ended_ms for one in every) - min(one.begun_ms for one in every)) / 1e3,
        functions=functions,
    )


def reports_of(store: ObjectStore, index: str, build: str, stage: Stage) -> list[TaskReport]:
    """Return the reports of a stage's tasks, in the order of the batches."""
    try:
        tasks: list[Task] = stage_tasks(store, index, build, stage)
    except SquashError:  # a stage that this build did not come to
        return []
    found = (read_report(store, task) for task in tasks)
    return [one for one in found if one is not None]


def stage_run(reports: list[TaskReport]) -> StageRun:
    """Return the sum of a stage's reports."""
    requests: Counter[str] = Counter()
    for one in reports:
        requests.update(one.requests)
    return StageRun(
        tasks=len(reports),
        rows=sum(one.rows for one in reports),
        cpu_s=sum(one.cpu_ms for one in reports) / 1e3,
        wall_s=sum(one.ended_ms - one.begun_ms for one in reports) / 1e3,
        requests=dict(requests),
        bytes_in=sum(one.bytes_in for one in reports),
        bytes_out=sum(one.bytes_out for one in reports),
        peak_mb=max(one.peak_mb for one in reports),
    )


def dollars(stage: StageRun) -> float:
    """Return what a stage costs on functions of one core: its work, requests and transitions.

    Waiting for S3 is left out: here there is none.
    """
    work = invocation_cost_usd(stage.tasks, stage.cpu_s * GB, architecture="arm64")
    known: dict[str, Any] = {kind: count for kind, count in stage.requests.items() if count}
    return work + request_cost_usd(known) + transition_cost_usd(3 * stage.tasks)
