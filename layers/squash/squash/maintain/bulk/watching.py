"""Writing for a task as long as that is wanted: nobody has done it meanwhile, or stopped the build.

A task may run twice at once: a service repeats a call that it took for lost, and what an attempt
that was cancelled is at runs on beside the next one's. Of the same bytes it would not matter which
come last, but processors of different kinds round differently, and later stages go by what was
there when a task was reported done.
"""

from __future__ import annotations

from squash.clock import Clock
from squash.container import Buffer
from squash.limits import BUILD_LOOK_MS
from squash.maintain.bulk.context import TaskReport
from squash.maintain.bulk.records import check_running, read_report
from squash.maintain.bulk.stages import Task
from squash.storage import CountingStore


class DoneByAnotherError(Exception):
    """Somebody else has done the task, and reported so."""

    def __init__(self, report: TaskReport) -> None:
        super().__init__("the task was done by another")
        self.report = report


class WatchedStore(CountingStore):
    """A task's store, which looks now and then before it writes whether the task is still wanted.

    Parameters
    ----------
    store:
        Below the index's own prefix.
    task:
        Which was found wanted just now.
    clock:
        Time.

    """

    def __init__(self, store: CountingStore, task: Task, clock: Clock) -> None:
        super().__init__(store)
        self._task = task
        self._clock = clock
        self._looked_ms = clock.now_ms()

    def put(self, key: str, data: Buffer) -> None:
        """Write, if it is still wanted.

        Raises
        ------
        DoneByAnotherError
            If the task is done.
        BuildStoppedError
            If the build was stopped.

        """
        self._look()
        super().put(key, data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Write unless something is there; see `put`."""
        self._look()
        return super().put_if_absent(key, data)

    def _look(self) -> None:
        now_ms = self._clock.now_ms()
        if now_ms - self._looked_ms < BUILD_LOOK_MS:
            return
        self._looked_ms = now_ms
        report = read_report(self, self._task)
        if report is not None:
            raise DoneByAnotherError(report)
        check_running(self, self._task.build)
