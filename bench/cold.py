"""A query on a cold processor cache beside a warm one, and how much of a query is Python."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from judging import F64, Question
from ours import Squash
from squash.kernels import native
from workload import SHARES, Workload

SWEEP_BYTES: Final = 64 << 20
K: Final = 10
TARGET: Final = 0.95
_QUESTIONS: Final = 100


def measured(workload: Workload, ours: Squash) -> list[dict[str, Any]]:
    """Ask warm, then with a sweep over an array larger than the caches before each question.

    And once more warm, with native code's time counted: to count takes time, and meanwhile searches
    are called through ctypes. What that leaves of a warm answer that nobody counted is Python's.
    """
    swept = np.ones(SWEEP_BYTES // 8)
    figures = []
    for share in SHARES:
        questions = workload.independent(share).first(_QUESTIONS).questions
        asked = _asked(ours, questions, swept)
        usages = [ours.usage(question, K, (TARGET,)) for question in questions]
        figures.append(
            {
                "share": share,
                "warm_us": asked["warm"],
                "cold_us": asked["cold"],
                "native_us": None if native.active() is None else asked["native"],
                "python_us": None if native.active() is None else asked["python"],
                "vectors_read": float(np.median([usage.vectors_read for usage in usages])),
                "vectors_read_max": max(usage.vectors_read for usage in usages),
                "rows_scanned": float(np.median([usage.rows_scanned for usage in usages])),
            }
        )
    return figures


def _asked(ours: Squash, questions: Sequence[Question], swept: F64) -> dict[str, float]:
    """Return medians in microseconds: of a warm answer, what of it is native, and of a cold one.

    A filter that comes again is known, as most are not: each time it is another one that the same
    rows pass.
    """
    times: dict[str, list[int]] = {"warm": [], "cold": [], "native": [], "python": []}
    for question in questions:
        ours.call(question, K, (TARGET,))()
    for question in questions:
        # The first answer warms what the second one needs, and the fourth what the fifth.
        first, warm, cold, again, counted = (
            ours.call(_moved(question, step), K, (TARGET,)) for step in range(1, 6)
        )
        first()
        warm_ns = _timed(warm)
        swept += 1.0
        cold_ns = _timed(cold)
        with native.timed(time.thread_time_ns) as spent:
            again()
            before = spent()
            counted()
            native_ns = spent() - before
        for name, taken in zip(
            times, (warm_ns, cold_ns, native_ns, warm_ns - native_ns), strict=True
        ):
            times[name].append(taken)
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
