"""Asking the compactor to fold what a write made too much of, and not more often than helps."""

from __future__ import annotations

from collections.abc import Callable

from squash.clock import Clock
from squash.limits import FOLD_ASKED_MS_MIN, WARM_INDEXES_MAX


class SeldomAsker:
    """Passes a wish to fold on, of each index at most once in `FOLD_ASKED_MS_MIN`.

    Parameters
    ----------
    ask:
        Asks the compactor to fold an index.
    clock:
        Tells the time.

    """

    def __init__(self, ask: Callable[[str], None], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._asked_ms: dict[str, int] = {}

    def __call__(self, index: str) -> None:
        """Ask, unless that was done not long ago; what failed counts as done."""
        now = self._clock.now_ms()
        asked = self._asked_ms.get(index)
        if asked is not None and 0 <= now - asked < FOLD_ASKED_MS_MIN:
            return
        self._asked_ms.pop(index, None)
        self._asked_ms[index] = now
        while len(self._asked_ms) > WARM_INDEXES_MAX:
            self._asked_ms.pop(next(iter(self._asked_ms)), None)
        self._ask(index)
