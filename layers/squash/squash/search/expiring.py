"""What expiry adds to a filter, known from queries before: by time alone hardly a row changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np

from squash.arrays import F64
from squash.attributes import FilterNode
from squash.attributes.nodes import And, Not, Within
from squash.planning import CostModel
from squash.values import dataclass

if TYPE_CHECKING:
    from squash.search.jobs import Admission, Job

_KNOWN_MAX = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which no row of the partitions expires: from `begin` until before `end`."""

    begin: float
    """When the last before it did; minus infinity if none ever had."""
    end: float
    live: FilterNode
    """What passes the rows that live in it: the same for any time in it, so that what is found
    depends on the rows alone."""
    known: dict[tuple[int, float, CostModel], tuple[Admission, dict[str, float]]] = field(
        default_factory=dict
    )
    """What was found of the live rows as a whole, with what it was expected to cost."""

    @classmethod
    def around(cls, time: float, attribute: str, expiries: Sequence[F64]) -> Span:
        """Return the span that holds a time, of the ascending times when rows expire."""
        begin, end = -math.inf, math.inf
        for numbers in expiries:
            place = int(np.searchsorted(numbers, time, "right"))
            if place:
                begin = max(begin, float(numbers[place - 1]))
            if place < len(numbers):
                end = min(end, float(numbers[place]))
        return cls(begin, end, Not(Within(attribute, float, None, False, begin, True)))

    def holds(self, time: float) -> bool:
        """Tell whether the same rows live at a time as at any other in the span."""
        return self.begin <= time < self.end

    def recall(self, job: Job) -> Admission | None:
        """Return what was found when the same was asked of all live rows; None if it never was."""
        found = self.known.get(_asked(job))
        if found is None:
            return None
        admission, job.trace.costs_us = found
        return admission

    def learn(self, job: Job, admission: Admission) -> None:
        """Keep what was found of all live rows, unless the query's own bitmaps hold part of it."""
        if admission.scan_all or admission.counts is not None:
            return
        if len(self.known) >= _KNOWN_MAX:
            self.known.clear()
        self.known[_asked(job)] = (admission, job.trace.costs_us)


def split_live(node: FilterNode, attribute: str) -> tuple[FilterNode | None, float | None]:
    """Split what `only_live` joined: the caller's filter, and the time; None if it is no such."""
    if isinstance(node, And):
        time = _time(node.parts[-1], attribute)
        rest = node.parts[:-1]
        if time is not None and rest:
            return (rest[0] if len(rest) == 1 else And(rest)), time
        return node, None
    time = _time(node, attribute)
    return (node, None) if time is None else (None, time)


def _time(node: FilterNode, attribute: str) -> float | None:
    """Return the time t of a filter "not at t or before"."""
    part = node.part if isinstance(node, Not) else None
    if not isinstance(part, Within) or part.attribute != attribute:
        return None
    if part.low is not None or not part.high_closed or not isinstance(part.high, float):
        return None
    return part.high


def _asked(job: Job) -> tuple[int, float, CostModel]:
    return job.query.k, job.query.recall_target, job.costs
