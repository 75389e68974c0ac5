"""An order of points in which near ones follow one another: a short path through all of them."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32, F64, I64

# More points keep their order, since time and memory grow with the square of their number: 15 ms
# for the 128 clusters of a partition at its cap, 384 dimensions, and a second for so many.
POINTS_MAX: Final = 1_024
# The first three find nine tenths of what is to be gained.
_PASSES_MAX: Final = 8
# In parts of the longest way: less may be rounding, and would be gained again and again.
_GAIN_MIN: Final = 1e-9


def short_path(points: F32) -> I64:
    """Order points so that the way from each to the next is short in all.

    It begins at the point that is farthest from the others, goes on to the nearest that is left,
    and then turns parts of the path round as long as that shortens it (2-opt). It depends on the
    points alone, and is the same on every machine up to how that rounds.

    Parameters
    ----------
    points:
        float32 [c, d], finite.

    Returns
    -------
    int64 [c], the points along the path; never a longer one than the order that they have. Points
    beyond `POINTS_MAX` keep their order.

    """
    count = len(points)
    order = np.arange(count)
    if not 1 < count <= POINTS_MAX:
        return order
    ways = _ways(points)
    walked = _nearest_left(ways)
    if _length(ways, walked) < _length(ways, order):
        order = walked
    return _turned(ways, order)


def _ways(points: F32) -> F64:
    """Return float64 [c, c], the distances of points; without BLAS, which rounds by its threads."""
    wide = points.astype(np.float64)
    ways = np.empty((len(points), len(points)))
    for number, point in enumerate(wide):
        away = wide - point
        np.einsum("ij,ij->i", away, away, out=ways[number])
    return np.asarray(np.sqrt(ways))


def _length(ways: F64, order: I64) -> float:
    return float(ways[order[:-1], order[1:]].sum())


def _nearest_left(ways: F64) -> I64:
    """Return the path from the outermost point to the nearest one that is left, and so on."""
    count = len(ways)
    order = np.empty(count, dtype=np.int64)
    visited = np.zeros(count, dtype=np.bool_)
    at = int(np.argmax(ways.sum(axis=1)))
    for place in range(count):
        order[place] = at
        visited[at] = True
        at = int(np.argmin(np.where(visited, np.inf, ways[at])))
    return order


def _turned(ways: F64, order: I64) -> I64:
    """Turn parts of a path round while that shortens it: of each first point the best part."""
    count = len(order)
    # Behind the last point, and before the first, lies one that is no way from any: both ends are
    # turned as all other parts are.
    ended = np.zeros((count + 1, count + 1))
    ended[:count, :count] = ways
    path = np.concatenate(([count], order, [count]))
    least = _GAIN_MIN * float(ways.max())
    for _ in range(_PASSES_MAX):
        better = False
        for first in range(1, count):
            before, head = path[first - 1], path[first]
            lasts, behind = path[first + 1 : -1], path[first + 2 :]
            gain = ended[before, head] + ended[lasts, behind]
            gain -= ended[before, lasts] + ended[head, behind]
            best = int(np.argmax(gain))
            if gain[best] > least:
                part = slice(first, first + best + 2)
                path[part] = path[part][::-1].copy()
                better = True
        if not better:
            break
    return path[1:-1]
