"""How Squash meets the recall it is asked for, and what would have done.

For every filter and target: the recall and cost at that target, and the cost of the least target
that would have met it, found on the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from contest import Effort, Point, try_calls
from ours import Squash
from report import told
from workload import SHARES, Asked, Workload

K: Final = 10
TARGETS: Final = (0.9, 0.95, 0.99)
_ROUNDS: Final = 2


def measured(workload: Workload, ours: Squash) -> list[dict[str, Any]]:
    """Return a line for every filter and target."""
    asked = {f"independent, {100 * share:g} %": workload.independent(share) for share in SHARES}
    asked |= {f"correlated, {title}": one for title, one in workload.correlated().items()}
    figures = []
    for title, some in asked.items():
        sizes = [
            workload.rows if q.selection is None else q.selection.admitted for q in some.questions
        ]
        tried: dict[Effort, Point] = {}
        for target in TARGETS:
            reached = _best(workload, ours, some, (target,), tried)
            least = _least(workload, ours, some, target, tried)
            enough = _best(workload, ours, some, least.effort, {})
            figures.append(
                {
                    "filter": title,
                    "admitted": float(sorted(sizes)[len(sizes) // 2]),
                    "target": target,
                    "recall": reached.recall,
                    "cpu_us": reached.cpu_us,
                    "least_target": enough.effort[0],
                    "least_recall": enough.recall,
                    "least_cpu_us": enough.cpu_us,
                }
            )
        told(f"calibration, {title}: {[(f['target'], f['recall']) for f in figures[-3:]]}")
    return figures


def _best(
    workload: Workload, ours: Squash, asked: Asked, effort: Effort, tried: dict[Effort, Point]
) -> Point:
    points = [try_calls(ours, workload.points, asked, k=K, effort=effort) for _ in range(_ROUNDS)]
    tried[effort] = min(points, key=lambda point: point.cpu_us)
    return tried[effort]


def _least(
    workload: Workload, ours: Squash, asked: Asked, target: float, tried: dict[Effort, Point]
) -> Point:
    """Bisect Squash's ladder of targets for the least that meets a recall."""
    ladder: Sequence[Effort] = ours.ladders(K)[0]

    def at(place: int) -> Point:
        effort = ladder[place]
        if effort not in tried:
            tried[effort] = try_calls(ours, workload.points, asked, k=K, effort=effort)
        return tried[effort]

    low, high = -1, len(ladder) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle).recall >= target else (middle, high)
    return at(high)
