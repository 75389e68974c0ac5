"""A query on a cold processor cache beside a warm one, and how much of a query is Python."""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np

from ours import Squash, native_ns
from workload import SHARES, Workload

SWEEP_BYTES: Final = 64 << 20
K: Final = 10
TARGET: Final = 0.95
_QUESTIONS: Final = 100


def measured(workload: Workload, ours: Squash) -> list[dict[str, Any]]:
    """Ask warm, then with a sweep over an array larger than the caches before each question."""
    swept = np.ones(SWEEP_BYTES // 8)
    figures = []
    for share in SHARES:
        asked = workload.independent(share).first(_QUESTIONS)
        calls = [ours.call(question, K, (TARGET,)) for question in asked.questions]
        for call in calls:
            call()
        times: dict[str, list[int]] = {"warm": [], "cold": [], "native": []}
        for call in calls:
            # The first answer of each pair warms what the second one needs.
            call()
            times["warm"].append(_timed(call))
            swept += 1.0
            times["cold"].append(_timed(call))
            before = native_ns()
            call()
            after = native_ns()
            times["native"].append(0 if before is None or after is None else after - before)
        usages = [ours.usage(question, K, (TARGET,)) for question in asked.questions]
        counted = native_ns() is not None
        figures.append(
            {
                "share": share,
                "warm_us": float(np.median(times["warm"])) / 1e3,
                "cold_us": float(np.median(times["cold"])) / 1e3,
                "native_us": float(np.median(times["native"])) / 1e3 if counted else None,
                "vectors_read": float(np.median([usage.vectors_read for usage in usages])),
                "vectors_read_max": max(usage.vectors_read for usage in usages),
                "rows_scanned": float(np.median([usage.rows_scanned for usage in usages])),
            }
        )
    return figures


def _timed(call: Any) -> int:
    start = time.process_time_ns()
    call()
    return time.process_time_ns() - start
