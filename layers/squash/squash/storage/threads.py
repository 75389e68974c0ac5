"""Threads for what waits, made when they are first needed."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

READS_AT_ONCE: Final = 16
"""Of one step: behind an S3 that is far more gained nothing (decision 0029)."""
_SHARED: Final = 4 * READS_AT_ONCE


class Threads:
    """A pool of threads that is there once somebody asks for it, in each process.

    Parameters
    ----------
    name:
        What its threads are called.
    count:
        How many there are at most.

    """

    def __init__(self, name: str, count: int = READS_AT_ONCE) -> None:
        self._name = name
        self._count = count
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def pool(self) -> ThreadPoolExecutor:
        """Return the pool, the same for all who ask."""
        # Loaded here, since it brings the logging module, which who reads alone need not load.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        if self._process != os.getpid():
            # A fork takes no threads along: what its pool is given would be waited for forever.
            self._pool, self._lock, self._process = None, threading.Lock(), os.getpid()
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
            return self._pool


@cache
def shared_threads(name: str) -> Threads:
    """Return the threads of a name that all opened indexes of a process use.

    Each of an index's own would stay for as long as that is held, and hundreds may be.
    """
    return Threads(name, _SHARED)
