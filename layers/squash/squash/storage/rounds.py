"""Reads of several objects at once, which wait together: one round."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import count
from typing import Final

from squash.storage.threads import READS_AT_ONCE, Threads, shared_threads


class Round:
    """Calls of a store that wait together; each counter takes it once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[int] = set()

    def take(self, counter: object) -> int:
        """Return 1 for a counter that has not counted this round yet, else 0."""
        with self._lock:
            if id(counter) in self._taken:
                return 0
            self._taken.add(id(counter))
            return 1


_JOINT: Final[ContextVar[Round | None]] = ContextVar("squash_round", default=None)
_WORKING: Final = threading.local()  # `threads`, of which the thread that runs is one


def count_round(counter: object) -> int:
    """Return how many rounds a call adds that a counter sees: none if its round is counted."""
    joint = _JOINT.get()
    return 1 if joint is None else joint.take(counter)


class Reads:
    """Threads that read several objects at once, made when they are first needed.

    What one joint step asks of a store counts as one round, through whatever wrappers it goes.

    Parameters
    ----------
    threads:
        Which others may use, too; without them, its own.

    """

    def __init__(self, threads: Threads | None = None) -> None:
        self._threads = threads or Threads("squash-reads")

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run all jobs, wait for all of them, then raise the first one's error, if any failed.

        What a job of these threads runs on them itself, its own thread does alone: it could wait
        for one that waits for it.
        """
        if len(jobs) == 1:
            jobs[0]()
            return
        context = copy_context()
        context.run(_JOINT.set, Round())
        numbers, errors = count(), dict[int, BaseException]()

        def work() -> None:
            _WORKING.threads = self._threads
            while (number := next(numbers)) < len(jobs):
                try:
                    context.copy().run(jobs[number])
                except BaseException as error:  # noqa: BLE001 - raised by who waits
                    errors[number] = error

        if getattr(_WORKING, "threads", None) is self._threads:
            work()
        else:
            # Not all that there are: others may read on these threads, too.
            workers = range(min(len(jobs), READS_AT_ONCE))
            for future in [self._threads.pool().submit(work) for _ in workers]:
                future.result()
        if errors:
            raise errors[min(errors)]


@cache
def shared_reads() -> Reads:
    """Return what all opened indexes of this process read by."""
    return Reads(shared_threads("squash-reads"))
