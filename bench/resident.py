"""How much memory this process takes, mapped files apart."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_KIB = 1024
_INTERVAL_S = 0.02


def anonymous_bytes() -> int:
    """Return the resident memory that no file backs."""
    return _status_bytes("RssAnon")


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * _KIB
    raise RuntimeError(f"/proc/self/status has no {name}: this needs Linux 4.5 or later")


def resident_peak_bytes() -> int:
    """Return the highest resident memory so far; pages of mapped files count as well."""
    # Not `ru_maxrss`: a child process takes that over from its parent, however small it is itself.
    return _status_bytes("VmHWM")


class AnonymousPeak:
    """Watches `anonymous_bytes` from a thread, some fifty times a second, while it is entered."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        stopped = False
        while not stopped:
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes())
            stopped = self._done.wait(_INTERVAL_S)
