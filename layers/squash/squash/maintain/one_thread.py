"""Builds compute on one thread of BLAS: how many there are decides how sums are rounded.

With one, a build gives the same bytes however many cores there are, and what runs side by side are
tasks. A process of its own is told so by ``OPENBLAS_NUM_THREADS=1`` before it loads NumPy; here it
is done, and undone, around what builds in a process that goes on to do other things.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from threadpoolctl import threadpool_limits


class _Limit:
    """The limit that holds as long as somebody builds in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._builders = 0
        self._held: threadpool_limits | None = None

    def enter(self) -> None:
        with self._lock:
            if not self._builders:
                from threadpoolctl import threadpool_limits  # noqa: PLC0415 - who builds needs it

                self._held = threadpool_limits(limits=1, user_api="blas")
            self._builders += 1

    def leave(self) -> None:
        with self._lock:
            self._builders -= 1
            if not self._builders and self._held is not None:
                self._held.restore_original_limits()
                self._held = None


_LIMIT: Final = _Limit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let BLAS compute on one thread meanwhile; others in this process do so too."""
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
