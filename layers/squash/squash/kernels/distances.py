"""Exact distances on full vectors, accumulated in float64, and the scan of centroids.

Each row is summed by itself: its distance has the same bits whatever rows are computed beside it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F64, I64, AnyArray

# Values widened at once: 4 MiB of float64.
_CHUNK_VALUES: Final = 1 << 19


def squared_distances(vectors: AnyArray, query: AnyArray, rows: I64 | None = None) -> F64:
    """Return float64 [m], the squared L2 distances of a query to rows.

    Parameters
    ----------
    vectors:
        float32 [n, d].
    query:
        float [d].
    rows:
        int64 [m], which rows; None for all of them.

    """
    return _over_rows(vectors, query, rows=rows, squared=True)


def inner_products(vectors: AnyArray, query: AnyArray, rows: I64 | None = None) -> F64:
    """Return float64 [m], the inner products of a query with rows; arguments as above."""
    return _over_rows(vectors, query, rows=rows, squared=False)


def centroid_scan(centers: AnyArray, query: AnyArray, *, squared: bool) -> F64:
    """Return float64 [c]: squared L2 distances to the centroids, or else inner products."""
    return _over_rows(centers, query, rows=None, squared=squared)


def _over_rows(vectors: AnyArray, query: AnyArray, *, rows: I64 | None, squared: bool) -> F64:
    count = len(vectors) if rows is None else len(rows)
    wide = query.astype(np.float64)
    result = np.empty(count, dtype=np.float64)
    size = max(1, _CHUNK_VALUES // max(1, len(wide)))
    for begin in range(0, count, size):
        part = slice(begin, min(begin + size, count))
        values = vectors[part if rows is None else rows[part]].astype(np.float64)
        if squared:
            values -= wide
            result[part] = np.vecdot(values, values)
        else:
            result[part] = np.vecdot(values, wide)
    return result
