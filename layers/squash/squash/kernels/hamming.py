"""Hamming distances of packed signs."""

from __future__ import annotations

import numpy as np

from squash.arrays import I64, U8


def hamming_scan(signs: U8, rows: I64, *, queries: U8, row_queries: I64) -> I64:
    """Count differing bits of gathered rows.

    Parameters
    ----------
    signs:
        uint8 [n, w].
    rows:
        int64 [m], the rows to compare.
    queries:
        uint8 [q, w].
    row_queries:
        int64 [m], which query each row meets.

    Returns
    -------
    int64 [m].

    """
    differing = np.bitwise_count(signs[rows] ^ queries[row_queries])
    counts: I64 = differing.sum(axis=1, dtype=np.int64)
    return counts
