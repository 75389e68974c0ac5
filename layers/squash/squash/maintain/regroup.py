"""Clusters of a few partitions, brought up to date with the rows they have now (LIRE).

What changes little is done little to: centres move to the means of their rows, clusters that are
crowded are cut, those that have hardly any rows are given up, and each row goes to the nearest
centre there is then.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from squash.arrays import F32, I64
from squash.training import Assigner, split_rows

# So far the number of clusters may be from what the rows ask for.
_FEWER, _MORE = 0.9, 1.1
# In parts of the rows a cluster aims at.
_CROWDED, _TINY = 2.0, 1 / 16
_PASSES = 2


def update_centers(rows: F32, member: I64, *, share: float, rows_target: int) -> F32:
    """Return the centres that a group of clusters has after a fold.

    Parameters
    ----------
    rows:
        float32 [s, D], a sample of the group's rows, projected; at least one.
    member:
        int64 [s], the cluster that each was in, numbered from 0.
    share:
        Which share of the group's rows the sample is.
    rows_target:
        The rows a cluster aims at.

    Returns
    -------
    float32 [c, D]

    """
    target = max(rows_target * share, 1.0)
    wanted = max(round(len(rows) / target), 1)
    member = _give_up_tiny(rows, member, target=target, wanted=wanted)
    centers = _cut_crowded(rows, member, target=target, wanted=wanted)
    for _ in range(_PASSES):
        centers = _means(rows, Assigner(centers).assign(rows))
    return centers


def assign_rows(
    centers: F32, rows: int, *, projected: Callable[[int, int], F32], chunk_rows: int
) -> I64:
    """Return int64 [n], each row's nearest centre; `projected(first, last)` gives float32 rows."""
    assigner = Assigner(centers)
    member = np.empty(rows, dtype=np.int64)
    for first in range(0, rows, chunk_rows):
        last = min(first + chunk_rows, rows)
        member[first:last] = assigner.assign(projected(first, last))
    return member


def _give_up_tiny(rows: F32, member: I64, *, target: float, wanted: int) -> I64:
    """Give the rows of clusters that are too small, or too many, to the others."""
    counts = np.bincount(member)
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    kept = len(order)
    gone = []
    for one in order.tolist():
        if kept == 1 or (counts[one] >= _TINY * target and kept <= _MORE * wanted):
            break
        gone.append(one)
        kept -= 1
    if not gone:
        return member
    member = member.copy()
    staying = np.setdiff1d(order, gone)
    moved = np.flatnonzero(np.isin(member, gone))
    centers = np.stack([_mean(rows[member == one]) for one in staying.tolist()])
    member[moved] = staying[Assigner(centers).assign(rows[moved])]
    return member


def _cut_crowded(rows: F32, member: I64, *, target: float, wanted: int) -> F32:
    """Cut the fullest clusters in halves while they are crowded, or too few; return the means."""
    order = np.argsort(member, kind="stable")
    begins = np.flatnonzero(np.diff(member[order], prepend=-1))
    found = np.split(order, begins[1:])
    fullest = [(-len(one), place, one) for place, one in enumerate(found)]
    heapq.heapify(fullest)
    while True:
        size, _, one = fullest[0]
        crowded = -size > max(_CROWDED * target, 1)
        if not crowded and (len(fullest) >= _FEWER * wanted or -size == 1):
            break
        half = split_rows(rows[one], rows_max=-(size // 2))
        heapq.heappop(fullest)
        for part in range(int(half.max()) + 1):
            some = one[half == part]
            heapq.heappush(fullest, (-len(some), len(found), some))
            found.append(some)
    return np.stack([_mean(rows[one]) for _, _, one in sorted(fullest, key=lambda item: item[1])])


def _means(rows: F32, member: I64) -> F32:
    """Return the means of the clusters that have rows."""
    order = np.argsort(member, kind="stable")
    begins = np.flatnonzero(np.diff(member[order], prepend=-1))
    return np.stack([_mean(rows[one]) for one in np.split(order, begins[1:])])


def _mean(rows: F32) -> F32:
    return np.asarray(rows.mean(axis=0, dtype=np.float64), dtype=np.float32)
