"""Exact distances, and exact search by scanning: the judge of everything else."""

from __future__ import annotations

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64
from squash.model import Metric

_CHUNK_ROWS = 8_192
_FLOAT32_EPSILON = 2.0**-23
_SQUARE_SOUND_MIN = 1e-25


def exact_distances(metric: Metric, query: F32, vectors: F32) -> F64:
    """Return the reported distance of every row; see `squash.kernels.exact_distances`."""
    return kernels.exact_distances(metric, query, vectors)


def unit_rows(vectors: F32) -> F32:
    """Scale every row of float32 [n, d] to length one; norms are taken in float64."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return np.asarray(vectors / norms[:, None], dtype=np.float32)


def nearest(
    metric: Metric, query: F32, vectors: F32, *, rows: I64 | None, k: int
) -> tuple[I64, F64]:
    """Find the k nearest rows by scanning, with every row that ties with the k-th.

    A float32 pass with a bound on its rounding leaves the few rows whose float64 distance is
    then computed, so that the answer is the one that float64 alone would give.

    Parameters
    ----------
    metric, query, vectors:
        A query float32 [d] and rows float32 [n, d].
    rows:
        int64 [m], the rows that may be returned, ascending; None for all.
    k:
        How many; all rows if there are fewer.

    Returns
    -------
    (int64 [r], float64 [r]) rows and distances, ascending by distance, r >= min(k, m).

    """
    total = len(vectors) if rows is None else len(rows)
    if total == 0:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    kept_rows: list[I64] = []
    kept_low: list[F64] = []
    kept_high: list[F64] = []
    threshold = np.inf
    for start in range(0, total, _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, total)
        chunk = np.arange(start, stop) if rows is None else rows[start:stop]
        part = vectors[start:stop] if rows is None else vectors[chunk]
        low, high = _rough(metric, query, part)
        near = low <= threshold
        kept_rows.append(chunk[near])
        kept_low.append(low[near])
        kept_high.append(high[near])
        every_high = np.concatenate(kept_high)
        if len(every_high) > k:
            # The k-th smallest upper end only falls, so what lies above it can be forgotten.
            threshold = float(np.partition(every_high, k - 1)[k - 1])
            still = np.concatenate(kept_low) <= threshold
            kept_rows = [np.concatenate(kept_rows)[still]]
            kept_low = [np.concatenate(kept_low)[still]]
            kept_high = [every_high[still]]
    found = np.concatenate(kept_rows)
    return cut_at(found, _in_chunks(metric, query, vectors, found), k)


def cut_at(rows: I64, distances: F64, k: int) -> tuple[I64, F64]:
    """Sort n rows by float64 [n], distances; keep the k nearest, and all that tie with the k-th."""
    order = np.argsort(distances, kind="stable")
    if len(order) > k:
        last = distances[order[k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    return rows[order], distances[order]


def _in_chunks(metric: Metric, query: F32, vectors: F32, rows: I64) -> F64:
    parts = [
        exact_distances(metric, query, vectors[rows[s : s + _CHUNK_ROWS]])
        for s in range(0, len(rows), _CHUNK_ROWS)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float64)


def _rough(metric: Metric, query: F32, vectors: F32) -> tuple[F64, F64]:
    """Bracket a monotone stand-in for the distance: squared L2, -dot, or -cosine, in float32."""
    if metric is Metric.COSINE:
        query = unit_rows(query[None, :])[0]
    products = (vectors @ query).astype(np.float64)
    query_norm = float(np.sqrt(np.einsum("j,j->", query, query, dtype=np.float64)))
    squares = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    # A float32 sum of d products errs by at most about d·eps times the sum of their magnitudes.
    slack = 4.0 * (len(query) + 8) * _FLOAT32_EPSILON
    magnitudes = np.sqrt(squares) * query_norm
    if metric is Metric.EUCLIDEAN:
        middle = squares + query_norm**2 - 2.0 * products
        width = slack * (squares + query_norm**2 + 2.0 * magnitudes)
    elif metric is Metric.DOT:
        middle, width = -products, slack * magnitudes
    else:
        # Squares near float32's smallest numbers say nothing: the cosine may be any.
        sound = squares > _SQUARE_SOUND_MIN
        middle = np.where(sound, -products / np.where(sound, magnitudes, 1.0), 0.0)
        width = np.where(sound, 4.0 * slack, 1.0 + slack)
    width = width + np.finfo(np.float32).tiny * len(query)
    return middle - width, middle + width
