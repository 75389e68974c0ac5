"""Exact distances on full vectors, accumulated in float64, and the scan of centroids.

Each row is summed by itself: its distance has the same bits whatever rows are computed beside it.
`layers/squash/native/README.md` (sections distances, refine) says in what order.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np

from squash.arrays import F32, F64, I64, U32, AnyArray, distinct
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.lanes import lanes8
from squash.kernels.masks import bit_places
from squash.kernels.native import address
from squash.kernels.native_table import NativeTable, native_table
from squash.kernels.packing import concatenated_ranges
from squash.kernels.tables import ClusterTable
from squash.limits import CODE_BLOCK_ROWS
from squash.model import Metric

METRIC_NUMBERS: Final = {"cosine": 0, "euclidean": 1, "dot": 2}

MetricName: TypeAlias = Metric | Literal["cosine", "euclidean", "dot"]

# Values widened at once: 4 MiB of float64.
_CHUNK_VALUES: Final = 1 << 19


def exact_distances(
    metric: MetricName, query: AnyArray, vectors: AnyArray, rows: I64 | None = None
) -> F64:
    """Return the reported distance of rows, to the last bit the same on every machine.

    Parameters
    ----------
    metric:
        Which distance.
    query:
        float32 [d].
    vectors:
        float32 or float16 [n, d].
    rows:
        int64 [m], which rows; None for all of them.

    Returns
    -------
    float64 [m]; for "cosine" NaN where a vector is zero.

    """
    count = len(vectors) if rows is None else len(rows)
    result = np.empty(count, dtype=np.float64)
    chosen = native.active()
    if chosen is not None and query.dtype == np.float32 and _is_flat(vectors, len(query)):
        query = np.ascontiguousarray(query)
        rows = None if rows is None else _checked_rows(rows, len(vectors))
        chosen.exact_distances(
            METRIC_NUMBERS[metric],
            address(query),
            len(query),
            address(vectors),
            vectors.dtype == np.float16,
            None if rows is None else address(rows),
            count,
            address(result),
        )
        return result
    wide = query.astype(np.float64)
    size = max(1, _CHUNK_VALUES // max(1, len(wide)))
    for begin in range(0, count, size):
        part = slice(begin, min(begin + size, count))
        values = vectors[part if rows is None else rows[part]].astype(np.float64)
        result[part] = _wide_distances(metric, wide, values)
    return result


def row_distances(
    metric: MetricName,
    query: F32,
    table: ClusterTable,
    partition: I64,
    row: I64,
) -> F64:
    """Return the distances of rows of several partitions, float64 [m].

    Parameters
    ----------
    metric, query:
        As for `exact_distances`.
    table:
        What holds the vectors.
    partition, row:
        int64 [m].

    Raises
    ------
    InternalError
        If a row's partition is not loaded.

    """
    result = np.empty(len(row), dtype=np.float64)
    chosen = native.active()
    if chosen is not None:
        beside = native_table(table)
        query, partition, row = _checked_query(beside, query), _whole(partition), _whole(row)
        absent = chosen.row_distances(
            beside.at,
            METRIC_NUMBERS[metric],
            address(query),
            address(partition),
            address(row),
            len(row),
            address(result),
        )
        if absent >= 0:
            raise _not_loaded(absent)
        return result
    for number in distinct(partition).tolist():
        loaded = table.vectors[number]
        if loaded is None:
            raise _not_loaded(number)
        here = np.flatnonzero(partition == number)
        result[here] = exact_distances(metric, query, loaded, row[here])
    return result


def refine(
    metric: MetricName,
    query: F32,
    table: ClusterTable,
    partition: I64,
    row: I64,
    *,
    lower_bounds: F32,
    k: int,
) -> tuple[F64, int]:
    """Read the vectors of ranked rows until no other can be among the k nearest.

    Parameters
    ----------
    metric, query, table:
        As for `row_distances`.
    partition, row:
        int64 [m], ascending by estimate.
    lower_bounds:
        float32 [m], of the codec's measure: squared L2 (of unit vectors for "cosine"), or the
        negated inner product.
    k:
        At least 1.

    Returns
    -------
    float64 [m], the distances, NaN where no vector was read; and how many were read.

    Raises
    ------
    InternalError
        If a row's partition is not loaded.

    """
    count = len(row)
    chosen = native.active()
    if chosen is not None:
        return _native_refine(
            chosen, metric, query, table, ranked=(partition, row, lower_bounds), k=k
        )
    distances = np.full(count, np.nan)
    first = min(count, k + k // 2)
    reading = np.arange(first)
    distances[:first] = row_distances(metric, query, table, partition[:first], row[:first])
    if first < count:
        worst = float(np.partition(distances[:first], k - 1)[k - 1])
        if metric == "cosine":
            worst = 2 * worst
        elif metric == "euclidean":
            worst = worst * worst
        reading = first + np.flatnonzero(lower_bounds[first:].astype(np.float64) <= worst)
        distances[reading] = row_distances(metric, query, table, partition[reading], row[reading])
        return distances, first + len(reading)
    return distances, first


def gather_rows(table: ClusterTable, clusters: I64, possible: U32 | None) -> tuple[I64, I64]:
    """Return the rows of some clusters that a bitmap admits.

    Parameters
    ----------
    table:
        The clusters.
    clusters:
        int64 [m].
    possible:
        uint32 [all blocks]; None for all rows that live.

    Returns
    -------
    int64 [r] each, partitions and rows, cluster after cluster in the order given.

    """
    words = table.alive if possible is None else possible
    chosen = native.active()
    if chosen is not None:
        clusters, at = _whole(clusters), native_table(table).at
        given = (at, address(clusters), len(clusters), address(words))
        found = np.empty((2, chosen.gather_rows(*given, None, None)), dtype=np.int64)
        chosen.gather_rows(*given, address(found), address(found) + found.strides[0])
        return found[0], found[1]
    counts = -(-table.rows[clusters] // CODE_BLOCK_ROWS)
    blocks = concatenated_ranges(table.first_block[clusters], counts)
    # A row's number, less its bit's place among the blocks taken, is the same over a cluster.
    begins = (np.cumsum(counts) - counts) * CODE_BLOCK_ROWS
    shifts = np.repeat(table.first_row[clusters] - begins, counts)
    partitions = np.repeat(table.partition[clusters], counts)
    places = bit_places(words[blocks])
    of = places // CODE_BLOCK_ROWS
    return partitions[of], places + shifts[of]


def centroid_scan(centers: AnyArray, query: AnyArray, *, squared: bool) -> F64:
    """Return float64 [c]: squared L2 distances to the centroids, or else inner products."""
    wide = query.astype(np.float64)
    result = np.empty(len(centers), dtype=np.float64)
    size = max(1, _CHUNK_VALUES // max(1, len(wide)))
    for begin in range(0, len(centers), size):
        part = slice(begin, begin + size)
        values = centers[part].astype(np.float64)
        if squared:
            values -= wide
            result[part] = np.vecdot(values, values)
        else:
            result[part] = np.vecdot(values, wide)
    return result


def _native_refine(
    chosen: native.Native,
    metric: MetricName,
    query: F32,
    table: ClusterTable,
    *,
    ranked: tuple[I64, I64, F32],
    k: int,
) -> tuple[F64, int]:
    beside = native_table(table)
    query, partition, row = _checked_query(beside, query), _whole(ranked[0]), _whole(ranked[1])
    lower_bounds = np.ascontiguousarray(ranked[2], dtype=np.float32)
    count = len(row)
    heap_room = min(k, count)
    room = np.empty(count + heap_room, dtype=np.float64)
    at = address(room)
    read = chosen.refine(
        beside.at,
        METRIC_NUMBERS[metric],
        address(query),
        address(partition),
        address(row),
        address(lower_bounds),
        count,
        k,
        at,
        at + 8 * count,
    )
    if read < 0:
        raise _not_loaded(-1 - read)
    return room[:count], read


def _not_loaded(partition: int) -> InternalError:
    return InternalError(f"vectors of partition {partition} are read before they are loaded")


def _is_flat(vectors: AnyArray, dimension: int) -> bool:
    """Return whether native code can read vectors as they lie."""
    return (
        vectors.flags.c_contiguous
        and vectors.dtype in {np.dtype(np.float32), np.dtype(np.float16)}
        and vectors.shape[1] == dimension
    )


def _whole(values: I64) -> I64:
    return np.ascontiguousarray(values, dtype=np.int64)


def _checked_query(beside: NativeTable, query: F32) -> F32:
    if query.shape != (beside.vector_dimension,) and beside.vector_dimension:
        raise InternalError(
            f"a query of {query.shape} does not fit vectors of {beside.vector_dimension}"
        )
    return np.ascontiguousarray(query, dtype=np.float32)


def _checked_rows(rows: I64, count: int) -> I64:
    """Return rows as native code reads them; NumPy would refuse those beyond the end too."""
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    if len(rows) and not (rows.min() >= 0 and rows.max() < count):
        raise IndexError(f"rows of {count} vectors run from {rows.min()} to {rows.max()}")
    return rows


def _wide_distances(metric: MetricName, query: F64, values: F64) -> F64:
    """Return float64 [n], the distances of float64 [n, d], which are overwritten."""
    if metric == "euclidean":
        values -= query
        values *= values
        return np.asarray(np.sqrt(lanes8(values)))
    products = lanes8(values * query)
    if metric == "dot":
        return -products
    query_square = lanes8((query * query)[None])
    values *= values
    # Vectors of zero length have no cosine; where they are refused is not here.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1.0 - products / np.sqrt(lanes8(values) * query_square))
