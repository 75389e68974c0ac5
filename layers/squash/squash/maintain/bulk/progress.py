"""How far the stages of a build are, and what they took, by the reports of their tasks.

What a complete stage took is summed up once, in ``sums/<stage>``, by whoever opens the next one: a
build of thousands of tasks is looked at again and again. Nothing else relies on these sums, and
they can be made anew from the reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field
from functools import partial
from typing import Any, Final, Self

from squash.maintain.bulk import keys
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import EXAMPLES, TaskReport
from squash.maintain.bulk.records import read_json, read_plan, read_report, write_json
from squash.maintain.bulk.request import Attempt
from squash.maintain.bulk.stages import MAPPED, STAGES, Stage, Task
from squash.planning.build_costs import Workers, spent_usd
from squash.planning.prices import Architecture
from squash.storage import ObjectStore, Reads
from squash.values import dataclass

_SUMS: Final = "sums"
_EXAMPLES_MAX: Final = 10
_ARCHITECTURES: Final[Mapping[str, Architecture]] = {"arm64": "arm64", "x86_64": "x86_64"}


@dataclass(frozen=True, slots=True)
class StageSums:
    """What the tasks of a stage that are done took together.

    `functions` of the tasks ran in a function, which took `gb_seconds`; `examples` are some of what
    they noted of single rows.
    """

    tasks: int = 0
    rows: int = 0
    bad: int = 0
    replaced: int = 0
    cpu_ms: int = 0
    wall_ms: int = 0
    functions: int = 0
    gb_seconds: float = 0.0
    requests: Mapping[str, int] = field(default_factory=dict)
    begun_ms: int = 0
    ended_ms: int = 0
    examples: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; what `MALFORMED` lists if it did not."""
        return cls(**{**value, "examples": tuple(value["examples"])})

    def cost_usd(self, workers: Workers) -> float:
        """Return what it cost, at list prices; what failed on the way left no report."""
        return spent_usd(self.functions, self.gb_seconds, self.requests, workers)


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage: all its tasks, those that are left, and what the others took."""

    stage: Stage
    tasks: tuple[Task, ...]
    left: tuple[Task, ...]
    sums: StageSums


def sum_up(reports: Sequence[TaskReport]) -> StageSums:
    """Add up the reports of a stage's tasks."""
    requests: Counter[str] = Counter()
    examples: list[Mapping[str, Any]] = []
    wall_ms = [max(report.ended_ms - report.begun_ms, 0) for report in reports]
    for report in reports:
        requests.update(report.requests)
        examples += report.detail.get(EXAMPLES, ())
    return StageSums(
        tasks=len(reports),
        rows=sum(report.rows for report in reports),
        bad=sum(report.bad for report in reports),
        replaced=sum(report.replaced for report in reports),
        cpu_ms=sum(report.cpu_ms for report in reports),
        wall_ms=sum(wall_ms),
        functions=sum(report.memory_mb > 0 for report in reports),
        gb_seconds=sum(
            report.memory_mb / 1024 * wall / 1000
            for report, wall in zip(reports, wall_ms, strict=True)
        ),
        requests=dict(sorted(requests.items())),
        begun_ms=min((report.begun_ms for report in reports), default=0),
        ended_ms=max((report.ended_ms for report in reports), default=0),
        examples=tuple(examples[:_EXAMPLES_MAX]),
    )


def done_tasks(store: ObjectStore, index: str, build: str) -> dict[Stage, list[Task]]:
    """List which tasks have reports, by stage and batch, without reading any."""
    prefix = f"{keys.folder(build)}done/"
    known = {stage.value: stage for stage in STAGES}
    found: dict[Stage, list[Task]] = {stage: [] for stage in STAGES}
    for info in store.list(prefix):
        name, _, batch = info.key[len(prefix) :].rpartition("-")
        if name in known and batch.isascii() and batch.isdigit():
            found[known[name]].append(Task(index, build, known[name], int(batch)))
    return found


def stage_states(
    store: ObjectStore, index: str, build: str, *, keep: bool = False
) -> list[StageState]:
    """Tell how far each stage is whose tasks are known by now, in their order.

    Parameters
    ----------
    store, index, build:
        Which build.
    keep:
        Whether to store the sums of what is complete, for whoever looks later.

    Raises
    ------
    DataError
        If a plan, a report or a sum cannot be read.

    """
    done = done_tasks(store, index, build)
    reads = Reads()
    states: list[StageState] = []
    plan = read_plan(store, build) if done[Stage.PLAN] else None
    for stage in STAGES:
        if stage in MAPPED and plan is None:
            break
        if stage is Stage.ASSEMBLE and not done[Stage.TRAIN]:
            break
        tasks = stage_tasks(store, index, build, stage, plan=plan)
        ready = set(done[stage])
        left = tuple(task for task in tasks if task not in ready)
        finished = [task for task in tasks if task in ready]
        sums = _sums(store, reads, stage, finished, complete=not left, keep=keep)
        states.append(StageState(stage, tuple(tasks), left, sums))
    return states


def workers_of(attempt: Attempt, *, billed: bool) -> Workers:
    """Return who runs the tasks of an attempt, as far as prices go by it."""
    return Workers(
        memory_mb=attempt.memory_mb,
        architecture=_ARCHITECTURES.get(attempt.architecture, "arm64"),
        states=attempt.executor == "states",
        billed=billed,
    )


def _sums(
    store: ObjectStore,
    reads: Reads,
    stage: Stage,
    finished: Sequence[Task],
    *,
    complete: bool,
    keep: bool,
) -> StageSums:
    if not finished:
        return StageSums()
    worthwhile = complete and len(finished) > 1
    key = f"{keys.folder(finished[0].build)}{_SUMS}/{stage.value}"
    if worthwhile:
        known = read_json(store, key, StageSums.from_json)
        if known is not None and known.tasks == len(finished):
            return known
    found: dict[int, TaskReport] = {}

    def read(task: Task) -> None:
        report = read_report(store, task)
        if report is not None:
            found[task.batch] = report

    reads.run([partial(read, task) for task in finished])
    sums = sum_up([found[batch] for batch in sorted(found)])
    if worthwhile and keep and sums.tasks == len(finished):
        write_json(store, key, sums.to_json())
    return sums
