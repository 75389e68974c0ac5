"""Sums in a fixed order, so that every machine rounds them alike.

The eight (or sixteen) lanes are those of `layers/squash/native/README.md`: lane i adds, in order,
the values whose place is i mod 8, then the lanes are folded in halves.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32, F64, AnyArray

_WIDE: Final = 8
_NARROW: Final = 16


def lanes8(values: F64) -> F64:
    """Sum float64 [..., d] over its last axis in eight lanes: float64 [...]."""
    return _folded(_lanes(values, _WIDE))


def lanes16(values: F32) -> F32:
    """Sum float32 [..., d] over its last axis in sixteen lanes: float32 [...]."""
    return _folded(_lanes(values, _NARROW))


def _lanes(values: AnyArray, count: int) -> AnyArray:
    """Return [count, ...], the sums of the lanes."""
    *shape, dimension = values.shape
    steps = -(-dimension // count)
    padded = np.zeros((steps, count, *shape), dtype=values.dtype)
    ordered = np.moveaxis(values, -1, 0)
    whole = dimension // count
    padded[:whole] = ordered[: whole * count].reshape(whole, count, *shape)
    if whole < steps:
        padded[whole, : dimension - whole * count] = ordered[whole * count :]
    # A loop, since NumPy's own sum may add in another order.
    sums = np.zeros((count, *shape), dtype=values.dtype)
    for part in padded:
        sums += part
    return sums


def _folded(lanes: AnyArray) -> AnyArray:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return np.asarray(lanes[0])
