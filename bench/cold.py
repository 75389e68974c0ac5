"""A query on a cold processor cache beside a warm one, and how much of a query is Python."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from judging import F64, Question
from ours import Squash, native_ns
from workload import SHARES, Workload

SWEEP_BYTES: Final = 64 << 20
K: Final = 10
TARGET: Final = 0.95
_QUESTIONS: Final = 100


def measured(workload: Workload, ours: Squash) -> list[dict[str, Any]]:
    """Ask warm, then with a sweep over an array larger than the caches before each question.

    What of a warm answer is native code is counted in a second pass: to count costs time, and goes
    on once it was begun, and meanwhile searches are called through ctypes. What that leaves of a
    warm answer of the first pass is Python's.
    """
    swept = np.ones(SWEEP_BYTES // 8)
    asked = {share: workload.independent(share).first(_QUESTIONS).questions for share in SHARES}
    clocked = {
        share: _asked_twice(ours, questions, swept, counts=False)
        for share, questions in asked.items()
    }
    figures = []
    for share, questions in asked.items():
        counted = _asked_twice(ours, questions, swept, counts=True)
        usages = [ours.usage(question, K, (TARGET,)) for question in questions]
        warm = clocked[share]["warm"]
        native = None if native_ns() is None else counted["native"]
        figures.append(
            {
                "share": share,
                "warm_us": warm,
                "cold_us": clocked[share]["cold"],
                "native_us": native,
                "python_us": None if native is None else warm - native,
                "vectors_read": float(np.median([usage.vectors_read for usage in usages])),
                "vectors_read_max": max(usage.vectors_read for usage in usages),
                "rows_scanned": float(np.median([usage.rows_scanned for usage in usages])),
            }
        )
    return figures


def _asked_twice(
    ours: Squash, questions: Sequence[Question], swept: F64, *, counts: bool
) -> dict[str, float]:
    """Return medians in microseconds: of a warm answer and a cold one; what of the warm is native.

    A filter that comes again is known, as most are not: each time it is another one that the same
    rows pass.
    """
    times: dict[str, list[int]] = {"warm": [], "cold": [], "native": []}
    for question in questions:
        ours.call(question, K, (TARGET,))()
    for question in questions:
        # The first answer warms what the second one needs.
        first, warm, cold = (
            ours.call(_moved(question, step + 3 * counts), K, (TARGET,)) for step in range(1, 4)
        )
        first()
        before = (native_ns() or 0) if counts else 0
        warm_ns = _timed(warm)
        native = (native_ns() or 0) - before if counts else 0
        swept += 1.0
        times["warm"].append(warm_ns)
        times["cold"].append(_timed(cold))
        times["native"].append(native)
    return {name: float(np.median(taken)) / 1e3 for name, taken in times.items()}


def _moved(question: Question, steps: int) -> Question:
    """Return the question with another filter that the same rows pass: lower by no row's value."""
    known = question.selection
    if known is None:
        return question
    ranges = {}
    for name, asked in known.filter.items():
        low = asked["$gte"]
        for _ in range(steps):
            low = math.nextafter(low, -math.inf)
        ranges[name] = {**asked, "$gte": low}
    return replace(question, selection=replace(known, filter=ranges))


def _timed(call: Callable[[], Any]) -> int:
    start = time.process_time_ns()
    call()
    return time.process_time_ns() - start
