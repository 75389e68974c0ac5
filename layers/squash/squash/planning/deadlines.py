"""Deadlines that nest: who calls is still there when who is called answers late."""

from __future__ import annotations

from typing import Final

from squash.values import dataclass

MARGIN_MS_MAX: Final = 100
"""Time to answer in, kept at every level: a merge, and an answer of some megabytes on its way."""
_MARGIN_SHARE: Final = 8  # of a short time, an eighth


@dataclass(frozen=True, slots=True)
class Nested:
    """The deadlines of the calls that an invocation makes, in milliseconds since 1970 UTC.

    Parameters
    ----------
    answer_by_ms:
        When who is called must answer.
    give_up_ms:
        When who calls waits no more, and turns to its own answer.

    """

    answer_by_ms: int
    give_up_ms: int


def nest(now_ms: int, deadline_ms: int) -> Nested:
    """Return the deadlines of calls within one's own.

    They are in order: answer_by <= give_up <= deadline, with a margin between two of them, unless
    the deadline has passed or is as good as there.
    """
    left = max(deadline_ms - now_ms, 0)
    margin = min(MARGIN_MS_MAX, left // _MARGIN_SHARE)
    return Nested(deadline_ms - 2 * margin, deadline_ms - margin)
