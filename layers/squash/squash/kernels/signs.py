"""Signs packed row by row, compared by Hamming distance: the paper's low-bit index."""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, U8, Mask


def pack_signs(positive: Mask) -> U8:
    """Pack bool [n, d] into uint8 [n, ceil(d / 8)], bit i of byte j being dimension 8·j + i."""
    return np.packbits(positive, axis=1, bitorder="little")


def hamming(packed: U8, query: U8) -> F32:
    """Return how many signs differ, as float32 [n].

    Parameters
    ----------
    packed:
        uint8 [n, w].
    query:
        uint8 [w], or [n, w] for a query of each row's own.

    """
    return np.asarray(np.bitwise_count(packed ^ query).sum(axis=1, dtype=np.float32))
