"""Calls that run beside one another, and the wait for the first that is done."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from squash.clock import Clock
from squash.errors import SquashError
from squash.limits import CALLS_AT_ONCE_MAX
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Done:
    """A call that is done: which, when, and its answer or why there is none."""

    token: int
    at_ms: int
    outcome: bytes | SquashError


class Exchange(Protocol):
    """Runs the calls of one invocation."""

    def start(self, token: int, call: Callable[[], bytes]) -> None:
        """Begin a call; it must not wait for it."""
        ...

    def next_done(self, wait_ms: int) -> Done | None:
        """Return the next call that is done, waiting for one at most so long; None if none is."""
        ...


class ThreadExchange:
    """Runs calls in the threads of a pool.

    Parameters
    ----------
    pool:
        Shared by all that this process calls. Whoever waits here must not be in one of its
        threads, unless there are enough of them for all that wait: see `thread_pool`.
    clock:
        Tells when a call was done.

    """

    def __init__(self, pool: ThreadPoolExecutor, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._done: queue.SimpleQueue[tuple[int, int, Future[bytes]]] = queue.SimpleQueue()

    def start(self, token: int, call: Callable[[], bytes]) -> None:
        """Begin a call."""
        future = self._pool.submit(call)
        # In the call's own thread: whoever waits may be at other work when it is done.
        future.add_done_callback(lambda done: self._done.put((token, self._clock.now_ms(), done)))

    def next_done(self, wait_ms: int) -> Done | None:
        """Return the next call that is done; errors that Squash does not know are raised."""
        try:
            token, at_ms, future = self._done.get(timeout=max(wait_ms, 0) / 1000.0)
        except queue.Empty:
            return None
        try:
            return Done(token, at_ms, future.result())
        except SquashError as error:
            return Done(token, at_ms, error)


def thread_pool() -> ThreadPoolExecutor:
    """Return a pool for calls: threads are made as they are needed, and used again."""
    return ThreadPoolExecutor(CALLS_AT_ONCE_MAX, thread_name_prefix="squash-call")
