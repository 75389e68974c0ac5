"""What a build is thought to take, as its plan notes it in its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from squash.errors import DataError
from squash.index.references import MALFORMED
from squash.maintain.bulk import keys
from squash.maintain.bulk.batches import planned_tasks
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.records import read_report
from squash.maintain.bulk.request import Attempt, BuildRequest
from squash.maintain.bulk.stages import Stage, Task
from squash.planning.build_costs import (
    BuildFacts,
    StageEstimate,
    Workers,
    estimate_build,
    estimate_stages,
)
from squash.reports import BuildEstimate
from squash.storage import ObjectStore
from squash.values import dataclass

ESTIMATE: Final = "estimate"
STAGES: Final = "stages"
WORKERS_ASSUMED: Final = 200
"""So many functions at once, where nobody says: an account has 1,000, and queries want some."""


def estimate_of(
    plan: Plan, request: BuildRequest, dimension: int, workers: Workers
) -> dict[str, Any]:
    """Return what the report of `plan` says of what is to come: JSON values."""
    sizes = request.sizes
    sampled = {piece for batch in plan.sample_batches for piece in batch}
    facts = BuildFacts(
        rows=plan.rows,
        dimension=dimension,
        input_bytes=sum(file.bytes for file in plan.files),
        pieces=len(plan.pieces),
        sampled_rows=sum(plan.pieces[piece].rows for piece in sampled),
        sample_rows=plan.sample_rows,
        encodes=plan.encodes,
        keyed=plan.keyed,
        flat=plan.flat,
        partition_rows_target=sizes.partition_rows_target,
        cluster_rows_target=sizes.cluster_rows_target,
        calibration_queries=sizes.calibration_queries,
        group_bytes_max=sizes.group_bytes_max,
        tasks={
            stage.value: planned_tasks(plan, stage)
            for stage in (Stage.ENCODE, Stage.SAMPLE, Stage.ASSIGN, Stage.KEYS)
        },
    )
    stages = estimate_stages(facts, workers)
    return {
        ESTIMATE: asdict(estimate_build(facts, stages)),
        STAGES: [asdict(stage) for stage in stages],
    }


def workers_here(attempt: Attempt, memory_mb: int, *, wide: int) -> Workers:
    """Return who will run a build's tasks, as far as that is known when it is planned."""
    arm = attempt.architecture == "arm64"
    return Workers(
        count=wide if memory_mb else 1,
        memory_mb=memory_mb,
        architecture="arm64" if arm else "x86_64",
        states=attempt.executor == "states",
    )


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a build is thought to take; nothing as long as it is not planned."""

    whole: BuildEstimate | None
    stages: Mapping[Stage, StageEstimate]


def read_estimates(store: ObjectStore, index: str, build: str) -> Estimates:
    """Return what the report of a build's plan says of what is to come.

    Raises
    ------
    DataError
        If it cannot be read.

    """
    report = read_report(store, Task(index, build, Stage.PLAN))
    if report is None:
        return Estimates(None, {})
    try:
        return Estimates(_whole(report.detail), _stages(report.detail))
    except MALFORMED as error:
        key = keys.done_key(build, Stage.PLAN, 0)
        raise DataError(
            f"{key} holds no estimate that can be read ({error!r}): start the build anew",
            object_key=key,
        ) from error


def _whole(detail: Mapping[str, Any]) -> BuildEstimate | None:
    value = detail.get(ESTIMATE)
    return None if value is None else BuildEstimate(**value)


def _stages(detail: Mapping[str, Any]) -> dict[Stage, StageEstimate]:
    estimates = (StageEstimate(**value) for value in detail.get(STAGES, ()))
    return {Stage(estimate.stage): estimate for estimate in estimates}
