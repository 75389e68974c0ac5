"""Sums of floats in a fixed order, so that every machine gets the same bits.

`layers/squash/native/README.md` defines them: a sum over eight lanes is what one AVX-512 register
of float64 does, two of AVX2 and four of NEON.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F64

_LANES: Final = 8


def lanes8(values: F64) -> F64:
    """Sum each row of float64 [n, d] over eight lanes; return float64 [n]."""
    rows, dimension = values.shape
    lanes = np.zeros((rows, _LANES), dtype=np.float64)
    whole = dimension - dimension % _LANES
    for begin in range(0, whole, _LANES):
        lanes += values[:, begin : begin + _LANES]
    lanes[:, : dimension - whole] += values[:, whole:]
    pairs = lanes[:, :4] + lanes[:, 4:]
    return np.asarray((pairs[:, 0] + pairs[:, 2]) + (pairs[:, 1] + pairs[:, 3]))
