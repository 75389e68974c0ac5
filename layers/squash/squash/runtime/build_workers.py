"""Processes of this machine that run the tasks of a build, and what becomes of one that dies."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from squash.errors import InternalError, SquashError, UnavailableError
from squash.maintain.bulk.context import TaskReport
from squash.maintain.bulk.stages import Task
from squash.runtime.settings import StorePlace
from squash.search.events import read_error

MODULE: Final = "squash.runtime.build_worker"
NO_MEMORY: Final = 3
"""The exit status of a worker to which the system gave no more memory."""
_TRIES_MAX: Final = 3
_END_S: Final = 10.0
# What a process does to itself.
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
)
_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerProcesses:
    """Runs tasks in processes of their own; a `Crew`.

    Each process opens the index itself, and is then told one task after another, as lines of JSON;
    it ends when nobody can tell it more. A task whose process died is run again by a new one.

    Parameters
    ----------
    place, index:
        Where the index is.
    workers:
        How many processes.
    scratch:
        A folder in which each makes one of its own.

    """

    def __init__(self, place: StorePlace, index: str, *, workers: int, scratch: Path) -> None:
        self._told = {**asdict(place), "index": index, "scratch": str(scratch)}
        self._workers = workers
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[TaskReport | BaseException] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all processes; what they are at is not finished, and does no harm."""
        with self._lock:
            self._closed = True
            left = list(self._processes)
        for process in left:
            process.terminate()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def run(self, tasks: Sequence[Task]) -> Iterator[TaskReport]:
        """Run tasks, as many at once as there are processes; see `Crew.run`."""
        while len(self._threads) < min(self._workers, len(tasks)):
            thread = threading.Thread(target=self._serve, name="squash-build", daemon=True)
            self._threads.append(thread)
            thread.start()
        for task in tasks:
            self._tasks.put(task)
        for _ in tasks:
            done = self._done.get()
            if isinstance(done, BaseException):
                raise done
            yield done

    def _serve(self) -> None:
        """Have tasks run by a process of this thread's own, until there are none."""
        process: subprocess.Popen[bytes] | None = None
        while (task := self._tasks.get()) is not None:
            try:
                process, done = self._run(task, process)
            except (SquashError, OSError) as error:
                self._done.put(error)
            else:
                self._done.put(done)
        if process is not None:
            self._end(process)

    def _run(
        self, task: Task, process: subprocess.Popen[bytes] | None
    ) -> tuple[subprocess.Popen[bytes], TaskReport]:
        """Have a task run, by a new process if the old one died; return who lived, and the report.

        Raises
        ------
        SquashError, OSError
            As the task; or if its process died again and again.

        """
        status = 0
        for _ in range(_TRIES_MAX):
            process = process or self._start()
            answer = _ask(process, task)
            if answer is not None:
                return process, _read(answer)
            status = self._end(process)
            process = None
        raise UnavailableError(
            f"the process of task {task.batch} of {task.stage.value} was ended {_TRIES_MAX} times "
            f"({_how(status)}): {_advice(status)}",
            index=task.index,
        )

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise UnavailableError("the build's processes are being ended")
            with _no_interrupt():
                process = subprocess.Popen(  # noqa: S603 - this very library
                    [sys.executable, "-m", MODULE],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=_environment(os.environ),
                )
            self._processes.add(process)
        _tell(process, self._told)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for a process that is told no more, and return how it ended.

        Raises
        ------
        InternalError
            If it ended by an error that is a bug.

        """
        if process.stdin is not None:
            with suppress(OSError):  # of what was not written yet, to who has ended
                process.stdin.close()
        try:
            status = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        with self._lock:
            self._processes.discard(process)
            closed = self._closed
        if closed or status in {0, NO_MEMORY} or status < 0:
            return status
        raise InternalError(
            f"a worker of the build ended with status {status}: what it wrote above says why"
        )


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let a process that is started here never see Ctrl-C, not even before it can say so itself.

    It inherits what this thread holds back; of the others each is interrupted as before.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: it finds this library, and sums on one thread.

    As many threads as there are processors would add in another order, and so round otherwise.
    """
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**environment, **dict.fromkeys(_THREADS, "1"), "PYTHONPATH": path}


def _tell(process: subprocess.Popen[bytes], value: Mapping[str, Any]) -> bool:
    """Write a line to a worker; False if it has ended."""
    if process.stdin is None:
        return False
    try:
        process.stdin.write(json.dumps(value).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        return False
    return True


def _ask(process: subprocess.Popen[bytes], task: Task) -> dict[str, Any] | None:
    """Have a worker run a task; None if it died of it."""
    if process.stdout is None or not _tell(process, task.to_json()):
        return None
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer


def _read(answer: Mapping[str, Any]) -> TaskReport:
    """Return the report of a task, or raise its error."""
    if "error" in answer:
        raise read_error(answer["error"])
    if "system" in answer:
        raise OSError(*answer["system"])
    return TaskReport.from_json(answer["report"])


def _how(status: int) -> str:
    if _lacked_memory(status):
        return "it was killed, or had no memory left"
    return _signal_name(-status) if status < 0 else f"status {status}"


def _advice(status: int) -> str:
    if _lacked_memory(status):
        return "let fewer workers run, or give them more memory"
    if -status in _FAULTS:
        return (
            "a library crashed. Report it, with what it wrote above; SQUASH_KERNELS=numpy does "
            "without the native kernels"
        )
    return "find out who ends it, and resume the build"


def _lacked_memory(status: int) -> bool:
    return status == NO_MEMORY or -status == signal.SIGKILL


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
