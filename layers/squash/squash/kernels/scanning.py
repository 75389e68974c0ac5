"""The scan of clusters: prune on signs, rank on full codes, bound what is kept.

`layers/squash/native/README.md` (section scan) says what each number is, to the bit; the letters
in the comments are its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

import numpy as np

from squash.arrays import F32, F64, I64, U8, U32, distinct
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.bounding import (
    ALIGNMENT_ERROR,
    alignments,
    cosine_interval,
    product_limits,
    rescaling_cosines,
    safe_bounds,
)
from squash.kernels.lanes import lanes8
from squash.kernels.low_scan import ENTRIES, low_scan
from squash.kernels.masks import bit_places
from squash.kernels.native import address
from squash.kernels.native_table import native_table
from squash.kernels.packing import low_groups, split_blocks, unpack_nibbles
from squash.kernels.tables import ClusterTable, PreparedQuery, Ranked
from squash.limits import CODE_BLOCK_ROWS
from squash.values import dataclass

_LEVEL_MAX: Final = 127
_FLOAT32_MAX: Final = np.finfo(np.float32).max
# Query residuals held at once: 1 MiB of float64.
_CHUNK_VALUES: Final = 1 << 17
# So many rows that survived their signs wait to be ranked; then fewer survive.
_ROWS_WAITING: Final = 64
# Beyond this, rows are counted before room is made for as many as are to be kept.
_KEEP_UNCOUNTED: Final = 4096

# `sq_scan_call` of squash_kernels.h, what it writes first, and the room it wants.
_CALL: Final = Struct("=QqQQdQddqddqQQQQQQ")
_COUNTS: Final = Struct("=qqqd")
_COUNTS_BYTES: Final = 32
ROOM_ROW_BYTES: Final = 64
ROOM_CLUSTER_BYTES: Final = 56
_LEVEL_PAD: Final = 64
_LEVEL_BYTES: Final = 640
_NO_CLUSTER: Final = (1 << 63) - 1


class _Options(NamedTuple):
    keep: int
    reach: float
    share_min: float
    bounds: bool


@dataclass(frozen=True, slots=True)
class _View:
    """A query as seen from one cluster's center."""

    near: float
    """G."""
    norm: float
    """|q~|."""
    levels: F32
    """a, float32 [D] of integers from -127 to 127."""
    scale: float
    alignment_error: float
    """t."""
    center_norm: float


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one or several clusters on their way to being kept."""

    partition: I64
    row: I64
    place: I64
    """Their global rows."""
    values: F32
    """Their rank values."""
    lower_bounds: F32

    def __len__(self) -> int:
        return len(self.row)

    def take(self, places: I64) -> _Rows:
        """Return the rows at the places given."""
        return _Rows(
            self.partition[places],
            self.row[places],
            self.place[places],
            self.values[places],
            self.lower_bounds[places],
        )

    def joined(self, others: _Rows) -> _Rows:
        """Return these rows and others behind them."""
        return _Rows(
            np.concatenate([self.partition, others.partition]),
            np.concatenate([self.row, others.row]),
            np.concatenate([self.place, others.place]),
            np.concatenate([self.values, others.values]),
            np.concatenate([self.lower_bounds, others.lower_bounds]),
        )


def scan(
    table: ClusterTable,
    clusters: I64,
    possible: U32 | None,
    query: PreparedQuery,
    *,
    keep: int,
    reach: float,
    share_min: float,
    bounds: bool,
) -> Ranked:
    """Rank the admitted rows of some clusters, and keep the best.

    What is kept, and its bounds, depend on the clusters and the rows admitted alone. The scan may
    therefore be divided: of what scans of parts of the clusters keep, the least `keep` by
    (`estimates`, global row) are what one scan of all keeps.

    Parameters
    ----------
    table:
        The clusters; the partitions of those given are loaded.
    clusters:
        int64 [m], in the order to scan, each at most once; likely ones first prune more.
    possible:
        uint32 [all blocks], the rows admitted; None for all that live.
    query:
        As `prepare` left it.
    keep:
        How many rows to keep.
    reach:
        How far a low-bit estimate may mislead, in lengths of the query's residual. No row is ranked
        better than it may be by its signs.
    share_min:
        A cluster of which a smaller share is admitted is gathered: its rows' signs are not read,
        and none is pruned.
    bounds:
        Whether to find the least lower bound of the ranked rows that are not kept.

    Raises
    ------
    InternalError
        If the partition of a cluster is not loaded.

    """
    chosen = native.active()
    if chosen is not None:
        options = _Options(keep, reach, share_min, bounds)
        return _native_scan(chosen, table, clusters, possible, query, options=options)
    _check_loaded(table, clusters, table.blocks, table.full)
    admitted_words = table.alive if possible is None else possible
    kept = _no_rows()
    admitted = low_scanned = ranked = 0
    least_left = math.inf
    for cluster, view in _views(table, clusters, query):
        places = _admitted_places(table, cluster, admitted_words)
        admitted += len(places)
        floors = np.full(len(places), -np.inf, dtype=np.float32)
        if len(places) >= share_min * float(table.rows[cluster]):
            low_scanned += len(places)
            floors = _low_values(table, cluster, places, query=query, view=view, reach=reach)
        begin = 0
        while begin < len(places):
            some, begin = _surviving(places, floors, begin, threshold=_threshold(kept, keep))
            if not len(some):
                continue
            ranked += len(some)
            found = _rank(table, cluster, places[some], floors[some], query=query, view=view)
            rows = kept.joined(found)
            order = np.lexsort((rows.place, rows.values))
            kept = rows.take(order[:keep])
            if bounds:
                left = rows.lower_bounds[order[keep:]]
                least_left = float(np.fmin.reduce(left, initial=least_left))
    return Ranked(
        partition=kept.partition,
        row=kept.row,
        estimates=kept.values,
        lower_bounds=kept.lower_bounds,
        admitted=admitted,
        low_scanned=low_scanned,
        ranked=ranked,
        pruned=admitted - ranked,
        least_left=least_left,
    )


def _native_scan(
    chosen: native.Native,
    table: ClusterTable,
    clusters: I64,
    possible: U32 | None,
    query: PreparedQuery,
    *,
    options: _Options,
) -> Ranked:
    beside = native_table(table)
    clusters = np.ascontiguousarray(clusters, dtype=np.int64)
    count, keep = len(clusters), options.keep
    if keep > _KEEP_UNCOUNTED:
        keep = min(keep, int(table.rows[clusters].sum()))
    _check_shapes(table, possible, query)
    # The answer's arrays and all that the scan works in lie in one room, in this order.
    row_at = _COUNTS_BYTES + 8 * keep
    estimates_at = row_at + 8 * keep
    bounds_at = estimates_at + 4 * keep
    work_at = (bounds_at + 4 * keep + 7) & -8
    size = work_at + keep * ROOM_ROW_BYTES + count * ROOM_CLUSTER_BYTES
    size += level_bytes(table.dimension)
    room = np.empty(size, dtype=np.uint8)
    at = address(room)
    kept = chosen.scan(
        beside.at,
        _CALL.pack(
            address(clusters),
            count,
            0 if possible is None else address(possible),
            address(query.projected),
            query.offset,
            address(query.entries),
            query.step,
            query.base,
            keep,
            options.reach,
            options.share_min,
            options.bounds,
            at + _COUNTS_BYTES,
            at + row_at,
            at + estimates_at,
            at + bounds_at,
            at,
            at + work_at,
        ),
    )
    if kept < 0:
        raise _not_loaded(-1 - kept)
    admitted, low_scanned, ranked, least_left = _COUNTS.unpack_from(room.data)
    return Ranked(
        partition=np.ndarray(kept, np.int64, room, _COUNTS_BYTES),
        row=np.ndarray(kept, np.int64, room, row_at),
        estimates=np.ndarray(kept, np.float32, room, estimates_at),
        lower_bounds=np.ndarray(kept, np.float32, room, bounds_at),
        admitted=admitted,
        low_scanned=low_scanned,
        ranked=ranked,
        pruned=admitted - ranked,
        least_left=least_left,
    )


def level_bytes(dimension: int) -> int:
    """Return the bytes that a native scan needs for the levels of a query."""
    return (dimension // 2 + _LEVEL_PAD) // _LEVEL_PAD * _LEVEL_BYTES


def _no_rows() -> _Rows:
    none = np.empty(0, dtype=np.int64)
    nothing = np.empty(0, dtype=np.float32)
    return _Rows(none, none, none, nothing, nothing)


def _check_shapes(table: ClusterTable, possible: U32 | None, query: PreparedQuery) -> None:
    """Refuse arrays that native code would read beyond their ends."""
    entries = low_groups(table.dimension) * ENTRIES
    fits = (
        query.projected.shape == (table.dimension,)
        and query.projected.dtype == np.float64
        and query.entries.size == entries
        and query.entries.dtype == np.uint8
        and (
            possible is None
            or (possible.shape == table.alive.shape and possible.dtype == np.uint32)
        )
    )
    if not fits:
        raise InternalError("a query or a bitmap of another table was given to its scan")


def _not_loaded(partition: int) -> InternalError:
    if partition >= _NO_CLUSTER:
        return InternalError("a scan was asked for a cluster that the table does not have")
    return InternalError(f"partition {partition} is searched before its codes are loaded")


def _check_loaded(table: ClusterTable, clusters: I64, *arrays: list[U8 | None]) -> None:
    """Refuse clusters of partitions that are not loaded.

    Raises
    ------
    InternalError
        If one of the arrays of a cluster's partition is None.

    """
    for partition in distinct(table.partition[clusters]).tolist():
        if any(array[partition] is None for array in arrays):
            raise _not_loaded(partition)


def _admitted_places(table: ClusterTable, cluster: int, words: U32) -> I64:
    """Return the admitted rows of a cluster, counted from its first."""
    first = int(table.first_block[cluster])
    blocks = -(-int(table.rows[cluster]) // CODE_BLOCK_ROWS)
    return bit_places(words[first : first + blocks])


def _views(table: ClusterTable, clusters: I64, query: PreparedQuery) -> Iterator[tuple[int, _View]]:
    """See the query from the center of each cluster."""
    size = max(1, _CHUNK_VALUES // max(1, table.dimension))
    for begin in range(0, len(clusters), size):
        part = clusters[begin : begin + size]
        centers = table.centers[part].astype(np.float64)
        if table.space == "l2":
            residuals = query.projected - centers
            near = lanes8(residuals * residuals)
            norms = np.sqrt(near)
        else:
            residuals = np.broadcast_to(query.projected, centers.shape)
            near = -(lanes8(query.projected * centers) + query.offset)
            norms = np.sqrt(lanes8(residuals * residuals))
        levels, scales = _levels(residuals.astype(np.float32))
        wide = scales.astype(np.float64)
        misses = residuals - wide[:, None] * levels
        deltas = np.sqrt(lanes8(misses * misses))
        some = norms > 0
        errors = ALIGNMENT_ERROR + np.where(some, deltas / np.where(some, norms, 1.0), 0.0)
        for i, cluster in enumerate(part.tolist()):
            yield (
                cluster,
                _View(
                    near=float(near[i]),
                    norm=float(norms[i]),
                    levels=levels[i],
                    scale=float(wide[i]),
                    alignment_error=float(errors[i]),
                    center_norm=float(table.center_norms[cluster]),
                ),
            )


def _levels(residuals: F32) -> tuple[F32, F32]:
    """Round each row of float32 [m, D] to integers from -127 to 127; return them and their step."""
    largest = np.abs(residuals).max(axis=1, initial=0.0)
    # Below this the inverse would be infinite: such a query is as good as at the center.
    some = (largest > np.float32(_LEVEL_MAX) / _FLOAT32_MAX) & (largest <= _FLOAT32_MAX)
    inverse = np.float32(_LEVEL_MAX) / np.where(some, largest, np.float32(1.0))
    levels = np.rint(residuals * inverse[:, None])
    levels[~some] = 0.0
    return levels, np.where(some, largest / np.float32(_LEVEL_MAX), np.float32(0.0))


def _threshold(kept: _Rows, keep: int) -> float:
    """Return the rank value of the last of `keep` rows; infinity while any row may be kept."""
    if len(kept) < keep or keep == 0 or np.isnan(kept.values[-1]):
        return math.inf
    return float(kept.values[-1])


def _surviving(places: I64, floors: F32, begin: int, *, threshold: float) -> tuple[I64, int]:
    """Return which rows survive, as many as wait before they are ranked; and where they end.

    Both count the rows of a cluster given: `places` in it, and how near each is at best.
    """
    some = begin + np.flatnonzero(~(floors[begin:] > threshold))
    if len(some) < _ROWS_WAITING:
        return some, len(places)
    block = places[some[_ROWS_WAITING - 1]] // CODE_BLOCK_ROWS
    end = int(np.searchsorted(places, (block + 1) * CODE_BLOCK_ROWS))
    return some[: np.searchsorted(some, end)], end


@np.errstate(over="ignore", invalid="ignore")
def _low_values(
    table: ClusterTable,
    cluster: int,
    places: I64,
    *,
    query: PreparedQuery,
    view: _View,
    reach: float,
) -> F32:
    """Return how near some rows of a cluster are at best, by their signs, float32 [m]."""
    low, norms, secants, shifts, _ = _blocks_of(table, cluster)
    sums = low_scan(low, np.arange(len(low)), query.entries)[places].astype(np.float32)
    norm = norms.reshape(-1)[places]
    secant = secants.reshape(-1)[places].astype(np.float32)
    product = sums * np.float32(query.step) + np.float32(query.base + reach * view.norm)
    factor = (norm * secant) * np.float32(1 / math.sqrt(table.dimension))
    if table.space == "l2":
        shift = shifts.reshape(-1)[places].astype(np.float32)
        values = (norm * norm) * (1 + (shift + shift)) - (factor + factor) * product
    else:
        values = -(factor * product)
    return np.asarray(values + np.float32(view.near), dtype=np.float32)


def _rank(
    table: ClusterTable,
    cluster: int,
    places: I64,
    floors: F32,
    *,
    query: PreparedQuery,
    view: _View,
) -> _Rows:
    """Score some rows of a cluster by their full codes, and no better than their floors."""
    partition = int(table.partition[cluster])
    rows = int(table.first_row[cluster]) + places
    dot, ones, squares = _code_sums(table, partition, rows, view.levels)
    _, block_norms, _, _, block_sines = _blocks_of(table, cluster)
    norm = block_norms.reshape(-1)[places].astype(np.float64)
    sine = block_sines.reshape(-1)[places].astype(np.float64)
    total = float(view.levels.sum(dtype=np.float64))
    product = view.scale * (dot - 7.5 * total)
    code_norm = np.sqrt(squares - 15 * ones + 56.25 * table.dimension)
    z = (product * norm) / (code_norm * rescaling_cosines(sine))
    least, most = cosine_interval(sine)
    query_norm = np.full(len(rows), view.norm)
    limit = product_limits(
        norm,
        query_norms=query_norm,
        alignment=alignments(product, query_norms=query_norm, code_norms=code_norm),
        cosine_least=least,
        cosine_most=most,
        alignment_error=view.alignment_error,
    )
    if table.space == "l2":
        near = view.near + norm * norm
        estimate, bound = near - 2 * z, near - 2 * limit
    else:
        estimate, bound = view.near - z, view.near - limit
    safe = safe_bounds(
        table.space,
        bound,
        norms=norm,
        query_norms=query_norm,
        center_norms=np.full(len(rows), view.center_norm),
        offset=query.offset,
    )
    estimates = estimate.astype(np.float32)
    floors = np.where(np.isnan(floors), np.float32(np.inf), floors)
    return _Rows(
        partition=np.full(len(rows), partition, dtype=np.int64),
        row=rows,
        place=rows + table.row_base[partition],
        values=np.where(floors > estimates, floors, estimates),
        lower_bounds=safe.astype(np.float32),
    )


def _code_sums(table: ClusterTable, partition: int, rows: I64, levels: F32) -> tuple[F64, F64, F64]:
    """Return the sums of a_j k_j, of k_j and of k_j^2 of some rows, float64 [m], all exact."""
    full = table.full[partition]
    assert full is not None  # noqa: S101 - `_check_loaded` has seen to it
    sums = np.empty((3, len(rows)), dtype=np.float64)
    size = max(1, _CHUNK_VALUES // max(1, table.dimension))
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        # Integers below 2^24, so that float32 is exact in whatever order it adds.
        codes = unpack_nibbles(full[rows[part]], table.dimension).astype(np.float32)
        sums[0, part] = codes @ levels
        sums[1, part] = codes.sum(axis=1)
        sums[2, part] = np.vecdot(codes, codes)
    return sums[0], sums[1], sums[2]


def _blocks_of(table: ClusterTable, cluster: int) -> tuple[U8, F32, F32, F32, F32]:
    blocks = table.blocks[int(table.partition[cluster])]
    assert blocks is not None  # noqa: S101 - `_check_loaded` has seen to it
    first = int(table.local_block[cluster])
    count = -(-int(table.rows[cluster]) // CODE_BLOCK_ROWS)
    return split_blocks(blocks[first : first + count], table.dimension)  # type: ignore[return-value]
