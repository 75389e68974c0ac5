"""How many tasks each stage of a build has."""

from __future__ import annotations

from squash.errors import InvalidArgumentError, UnavailableError
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.records import read_plan, read_report
from squash.maintain.bulk.stages import MAPPED, Stage, Task
from squash.storage import ObjectStore

GROUPS = "groups"
"""In the report of `train`: into how many tasks of `assemble` the partitions are dealt."""


def stage_tasks(
    store: ObjectStore, index: str, build: str, stage: Stage, *, plan: Plan | None = None
) -> list[Task]:
    """Return the tasks of a stage, done or not; the stages before must be done.

    Parameters
    ----------
    store, index, build, stage:
        Which stage of which build.
    plan:
        The build's, if it is at hand.

    Raises
    ------
    NotFoundError
        If there is no plan yet.
    UnavailableError
        If how many there are is not known yet.

    """
    if stage not in MAPPED:
        return [Task(index, build, stage)]
    plan = plan or read_plan(store, build)
    count = planned_tasks(plan, stage)
    if stage is Stage.ASSEMBLE:
        trained = read_report(store, Task(index, build, Stage.TRAIN))
        if trained is None:
            raise UnavailableError(f"build {build} is not trained yet: its {stage} cannot begin")
        count = int(trained.detail[GROUPS])
    return [Task(index, build, stage, batch) for batch in range(count)]


def check_task(store: ObjectStore, task: Task) -> None:
    """Refuse a task that its stage does not have.

    Raises
    ------
    InvalidArgumentError
        If there is no such batch.
    NotFoundError, UnavailableError
        As `stage_tasks`.

    """
    count = len(stage_tasks(store, task.index, task.build, task.stage))
    if not 0 <= task.batch < count:
        raise InvalidArgumentError(
            f"the stage {task.stage} of build {task.build} has the batches from 0 and below "
            f"{count}, and none is {task.batch}",
            field="batch",
        )


def planned_tasks(plan: Plan, stage: Stage) -> int:
    """Return how many tasks a plan gives a mapped stage; 0 of `assemble`, which training tells."""
    match stage:
        case Stage.ENCODE:
            return len(plan.encode_batches) - 1 if plan.encodes else 0
        case Stage.SAMPLE:
            return len(plan.sample_batches)
        case Stage.ASSIGN:
            return len(plan.assign_batches) - 1
        case Stage.KEYS:
            return plan.key_ranges
        case _:
            return 0
