"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# Many times what it takes: a machine may be slow, and have other work.
_SECONDS_MAX: Final = 120.0
_LOOK_S: Final = 0.01


def until(holds: Callable[[], bool], *, seconds_max: float = _SECONDS_MAX) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"it does not hold after {seconds_max} s"
        time.sleep(_LOOK_S)
