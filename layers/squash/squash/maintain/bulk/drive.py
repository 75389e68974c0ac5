"""Driving a build through its stages, from wherever it is to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from squash.clock import Clock
from squash.errors import CommitUnknownError, ThrottledError, UnavailableError
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.stages import STAGES, Stage, Task
from squash.reports import Progress
from squash.values import dataclass

Report = Callable[[Progress], None]
OpenStage = Callable[[str, Stage], Sequence[Task]]
# After so many seconds a task is run again that a service below did not serve.
_WAITS_S: Final = (1.0, 5.0)


class Crew(Protocol):
    """Who runs the tasks of a stage."""

    def run(self, tasks: Sequence[Task]) -> Iterator[TaskReport]:
        """Run tasks, in any order, and yield the report of each that is done.

        Raises
        ------
        SquashError, OSError
            As the first task that fails.

        """
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """Runs tasks in this process, one after another."""

    context: BuildContext

    def run(self, tasks: Sequence[Task]) -> Iterator[TaskReport]:
        """Run tasks in their order; see `Crew.run`."""
        for task in tasks:
            yield run_patiently(self.context, task)


def run_patiently(context: BuildContext, task: Task) -> TaskReport:
    """Run a task; where a service below did not serve it, twice again.

    Raises
    ------
    SquashError, OSError
        As `run_task`.

    """
    for wait_s in _WAITS_S:
        try:
            return run_task(context, task)
        except (ThrottledError, UnavailableError, CommitUnknownError):
            context.clock.sleep(wait_s)
    return run_task(context, task)


class Position:
    """How far a drive is, for who must say where it ended."""

    def __init__(self) -> None:
        self.stage = STAGES[0]


def drive(
    context: BuildContext,
    index: str,
    build: str,
    *,
    crew: Crew,
    report: Report,
    position: Position,
    open_stage: OpenStage,
) -> None:
    """Run all tasks of a build that are not done, stage by stage.

    Parameters
    ----------
    context:
        For what happens between stages.
    index, build:
        The index's name and the build's id.
    crew:
        Runs the tasks.
    report:
        Told how many tasks of a stage are done, with rows and the time to go in words.
    position:
        Is kept at the stage that is at work.
    open_stage:
        The gate: returns the tasks of a stage that are left, if it may begin.

    Raises
    ------
    BuildStoppedError
        If the build was cancelled, or passed one of its limits.
    SquashError, OSError
        As the first task that fails.

    """
    for stage in STAGES:
        position.stage = stage
        left = open_stage(build, stage)
        every = len(stage_tasks(context.store, index, build, stage))
        meter = _Meter(stage, every, every - len(left), context.clock, report)
        for done in crew.run(left):
            meter.add(done)


class _Meter:
    """Counts what is done of a stage, and says how long the rest will take at that pace."""

    def __init__(self, stage: Stage, tasks: int, done: int, clock: Clock, report: Report) -> None:
        self._stage = stage
        self._tasks = tasks
        self._done_before = done
        self._done = done
        self._rows = 0
        self._clock = clock
        self._report = report
        self._begun_ms = clock.now_ms()
        if tasks:
            self._tell()

    def add(self, done: TaskReport) -> None:
        """Count a task."""
        self._done += 1
        self._rows += done.rows
        self._tell()

    def _tell(self) -> None:
        step = Progress(self._stage.value, self._done, self._tasks, "tasks", self._words())
        self._report(step)

    def _words(self) -> str:
        here, left = self._done - self._done_before, self._tasks - self._done
        if not here:
            return ""
        words = f"{self._rows:,} row{'s' if self._rows > 1 else ''}" if self._rows else ""
        if not left:
            return words
        passed_s = (self._clock.now_ms() - self._begun_ms) / 1000
        to_go = f"about {duration(passed_s / here * left)} to go"
        return f"{words}, {to_go}" if words else to_go


def duration(seconds: float) -> str:
    """Return a time for people: ``40 s``, ``12 min`` or ``3 h 20 min``."""
    minute, hour = 60, 3600
    if seconds < 2 * minute:
        return f"{round(seconds)} s"
    if seconds < 2 * hour:
        return f"{round(seconds / minute)} min"
    minutes = round(seconds / minute)
    return f"{minutes // minute} h {minutes % minute} min"
