"""Time and chance, as components that are passed in; nothing else in the library asks for them."""

from __future__ import annotations

import random
import time
import uuid
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class IdSource(Protocol):
    """Makes names that nobody else makes, and jitter."""

    def new_id(self) -> str:
        """Return 32 lower-case hexadecimal digits, never the same twice."""
        ...

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class SystemIds:
    """Random identifiers from the operating system."""

    def new_id(self) -> str:
        """Return 32 lower-case hexadecimal digits, never the same twice."""
        return uuid.uuid4().hex

    def jitter(self) -> float:
        """Return a number in [0, 1)."""
        return random.random()  # noqa: S311 - spreads retries, guards nothing
