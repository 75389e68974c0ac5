"""Between the stages of a build: whether it may go on, and with what."""

from __future__ import annotations

from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.records import check_running, read_report
from squash.maintain.bulk.stages import Stage, Task
from squash.storage import ObjectStore


def open_stage(store: ObjectStore, index: str, build: str, stage: Stage) -> list[Task]:
    """Return the tasks of a stage that are left to do."""
    check_running(store, build)
    tasks = stage_tasks(store, index, build, stage)
    return [task for task in tasks if read_report(store, task) is None]
