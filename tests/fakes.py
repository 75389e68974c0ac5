"""Time and chance for tests: time passes only by waiting, ids come in order."""

from __future__ import annotations


class FakeClock:
    """Time that passes only by waiting."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self.ms = start_ms

    def now_ms(self) -> int:
        return self.ms

    def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class CountedIds:
    """Ids in order, by writer."""

    def __init__(self, writer_number: int = 0) -> None:
        self._prefix = f"{writer_number:04x}"
        self._next = 0

    def new_id(self) -> str:
        self._next += 1
        return f"{self._prefix}{self._next:028x}"

    def jitter(self) -> float:
        return 0.5
