"""What goes on during a copy, told: the records refused, how many are moved and how fast."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from squash.cli.moving.records import BadRow
from squash.clock import Clock
from squash.errors import InvalidArgumentError
from squash.reports import Progress

Report = Callable[[Progress], None]
_SECOND_MS: Final = 1_000
_MINUTE_S: Final = 60


class BadRows:
    """The records that the target does not take; more than are allowed stop the copy.

    Parameters
    ----------
    rows:
        Known already. The list itself is added to.
    most:
        How many are allowed.
    note:
        Says a line.

    """

    def __init__(self, rows: list[BadRow], most: int, note: Callable[[str], None]) -> None:
        self._rows = rows
        self._known = {row.key for row in rows}
        self._most = most
        self._note = note

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def add(self, rows: Iterable[BadRow]) -> None:
        """Keep what is wrong, and say it.

        Raises
        ------
        InvalidArgumentError
            If there are more than are allowed.

        """
        for row in rows:
            if row.key in self._known:
                continue
            self._known.add(row.key)
            if len(self._rows) >= self._most:
                raise InvalidArgumentError(
                    f"{row.why}. The target does not take it, and {self._most:,} such records are "
                    "allowed: mend it at the source, or go on without it by a larger --bad-rows",
                    key=row.key,
                )
            self._rows.append(row)
            self._note(f"Left out: {row.why}")


class Meter:
    """Reports how many records are moved, how fast, and how long the rest may take.

    Parameters
    ----------
    report:
        Told of every step.
    clock:
        Tells the time.
    done, total:
        Records that were moved before, and of how many; 0 where nobody knows.

    """

    def __init__(self, report: Report, clock: Clock, *, done: int, total: int = 0) -> None:
        self._report = report
        self._clock = clock
        self._begun_ms = clock.now_ms()
        self._before = done
        self._total = total

    def moved(self, done: int) -> None:
        """Report that so many are moved, those from before included."""
        passed_s = max(1, self._clock.now_ms() - self._begun_ms) / _SECOND_MS
        rate = (done - self._before) / passed_s
        unit = f"records, {rate:,.0f} a second"
        if self._total and rate > 0:
            unit += f", {_time(max(0, self._total - done) / rate)} left"
        self._report(Progress("move", done, max(self._total, done) if self._total else 0, unit))


def _time(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE_S)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= _MINUTE_S else f"{minutes} min"
