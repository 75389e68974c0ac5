"""Threads for what waits, made when they are first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

READS_AT_ONCE: Final = 16
"""Of one pool: behind an S3 that is far more gained nothing (decision 0029)."""


class Threads:
    """A pool of threads that is there once somebody asks for it.

    Parameters
    ----------
    name:
        What its threads are called.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def pool(self) -> ThreadPoolExecutor:
        """Return the pool, the same for all who ask."""
        # Loaded here, since it brings the logging module, which who reads alone need not load.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(READS_AT_ONCE, thread_name_prefix=self._name)
            return self._pool
