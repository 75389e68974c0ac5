"""The walk over clusters, nearest first, until what was taken meets the need."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from squash.arrays import F32, F64, I64, U32, AnyArray, Mask
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.filtering import filter_clusters
from squash.kernels.native_table import NativeTable, native_table
from squash.kernels.tables import ClusterTable, FilterProgram, Taken

CELLS: Final = 513
"""Cells of a share: 32 an octave from 2^-16 up, the last for 1 and more."""

# A float32's bits, shifted so that five bits of its mantissa are left; those of 2^-16.
_CELL_SHIFT: Final = 18
_FIRST_CELL: Final = (127 - 16) << 5
_MET: Final = 1.0 - 1e-9
UNANCHORED: Final = (1 << 63) - 1
"""So many `anchor_rows` no walk sees: it has no anchor."""
FARTHEST: Final = 4.0
"""A cluster this many times as far as the anchor counts as much as any beyond."""
# So many rows are added to those that passed before the anchor, and to those expected to.
_FEW_PASSED: Final = 10.0
# A filter is against the query where fewer passed there than one in so many of those expected.
_WARY: Final = 2.0

# Clusters looked at together: most walks end within the first lot, or the second.
_LOT: Final = 64


def cells_of(shares: F64) -> I64:
    """Return int64 [n], the cell of each share float64 [n]: 0 to 512; NaN has cell 0."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(shares).astype(np.float32)
    bits = narrow.view(np.uint32).astype(np.int64) >> _CELL_SHIFT
    cells = np.clip(bits - _FIRST_CELL, 0, CELLS - 1)
    return np.where(narrow > 0, cells, 0)


def cell_of(share: float) -> int:
    """Return the cell of one finite share."""
    bits = int.from_bytes(struct.pack("<f", share), "little")
    return min(max((bits >> _CELL_SHIFT) - _FIRST_CELL, 0), CELLS - 1) if share > 0 else 0


def cell_values() -> F64:
    """Return float64 [513], the least share of each cell (of cell 0: of the regular ones)."""
    bits = (np.arange(CELLS, dtype=np.uint32) + np.uint32(_FIRST_CELL)) << np.uint32(_CELL_SHIFT)
    return bits.view(np.float32).astype(np.float64)


def walk(
    table: ClusterTable,
    distances: F32,
    *,
    program: FilterProgram | None = None,
    counts: tuple[I64, I64] | None = None,
    sure: U32 | None = None,
    possible: U32 | None = None,
    k: int,
    overall: float,
    prior_rows: float,
    thinning: float,
    inverse_need: F64,
    adverse: F64,
    need_against: float = 1.0,
    anchor_rows: int = UNANCHORED,
    exponent: int = 0,
) -> Taken:
    """Take clusters, nearest first, until the need is met and the sure rows reach k.

    Up to the anchor, the cluster with which `anchor_rows` rows that may pass have been seen, each
    counts once. Beyond, it counts by a power of how many times as far as the anchor it is, between
    1 and `FARTHEST` times: the farther a center, the less its cluster holds of what is near.

    Where far fewer rows passed before the anchor than were expected, the filter leaves out what is
    around the query. What it leaves lies about as far in many clusters: more is needed of these.

    Parameters
    ----------
    table:
        The clusters.
    distances:
        float32 [c], the query's distances to their centers.
    program:
        A filter, evaluated at each cluster that the walk comes to; None for all live rows.
    counts:
        int64 [c] twice, the sure and the possible rows of all clusters, if they are known: the
        program is then not evaluated.
    sure, possible:
        uint32 [all blocks]; where a program is evaluated, the bitmaps of the clusters taken are
        written here (what is left at other clusters means nothing).
    k:
        How many rows are wanted.
    overall:
        The share of rows that pass, over the whole index.
    prior_rows:
        By how many rows a cluster's share is drawn towards the overall one.
    thinning:
        What a share is multiplied by before the need is looked up.
    inverse_need, adverse:
        float64 [513] by cell of a share: what a cluster meets of the need, and by how much the
        need grows where fewer rows pass around the query than elsewhere.
    need_against:
        How many times what is needed else is needed, at least 1, where no row passed before the
        anchor though many were expected; of clusters that count by their own shares alone.
    anchor_rows, exponent:
        See above. With the exponent 0 all clusters count alike; with others distances are squares,
        and none is negative.

    """
    if program is not None and counts is None and (sure is None or possible is None):
        raise InternalError("a walk that evaluates a filter wants bitmaps to write")
    chosen = native.active()
    if chosen is not None:
        return _walk_natively(
            chosen,
            native_table(table),
            distances,
            program=program if counts is None else None,
            counts=counts,
            bitmaps=(sure, possible),
            k=k,
            shares=(overall, prior_rows, thinning),
            cells=(inverse_need, adverse),
            need_against=need_against,
            anchoring=(anchor_rows, exponent),
        )
    order = np.argsort(distances, kind="stable").astype(np.int64)
    prior = prior_rows * overall
    rows_seen = possible_seen = sure_seen = 0
    met, met_here, need = 0.0, 0.0, 1.0
    anchor = np.nan
    enough = False
    taken: list[tuple[I64, I64, I64]] = []
    begin, lot = 0, _LOT
    while begin < len(order):
        here = order[begin : begin + lot]
        sures, possibles = _passing(table, here, program, counts, (sure, possible))
        rows = table.rows[here]
        seen = np.cumsum(rows) + rows_seen
        seen_possible = np.cumsum(possibles) + possible_seen
        seen_sure = np.cumsum(sures) + sure_seen
        some = possibles > 0
        with np.errstate(divide="ignore", invalid="ignore"):  # shares of clusters without rows
            around = (seen_possible + prior) / (seen + prior_rows)
            own = (possibles + prior) / (rows + prior_rows)
            against = adverse[cells_of(around / overall)]
        filled = rows > 0
        fullness = np.minimum((possibles + 1.0) / (overall * rows + 1.0), 1.0)
        gains = inverse_need[cells_of(np.minimum(around, own) * thinning)] * fullness
        gains_here = inverse_need[cells_of(own * thinning)] * fullness
        anchor, first, weights = _weights(
            distances[here], filled & (seen_possible >= anchor_rows), anchor, exponent
        )
        # Added one after another; a cluster without rows adds 0.
        mets, mets_here = (
            np.cumsum(np.concatenate([[before], np.where(filled, gain * weights, 0.0)]))[1:]
            for before, gain in ((met, gains), (met_here, gains_here))
        )
        needs = np.full(len(here), need)
        if first is not None:
            passed, expected = seen_possible - possibles, overall * (seen - rows)
            need = _need(passed[first].item(), expected[first].item(), need_against)
            needs[first:] = need
        enoughs = np.logical_or.accumulate(filled & (mets * against >= _MET)) | enough
        ends = np.flatnonzero(filled & enoughs & (mets_here >= needs * _MET) & (seen_sure >= k))
        last = int(ends[0]) if len(ends) else len(here) - 1
        kept = np.flatnonzero(some[: last + 1])
        taken.append((here[kept], sures[kept], possibles[kept]))
        rows_seen, possible_seen = int(seen[last]), int(seen_possible[last])
        sure_seen, met, enough = int(seen_sure[last]), float(mets[last]), bool(enoughs[last])
        met_here = float(mets_here[last])
        if len(ends):
            break
        begin, lot = begin + lot, 2 * lot
    clusters, sure_counts, possible_counts = (
        np.concatenate([part[i] for part in taken]) if taken else np.empty(0, dtype=np.int64)
        for i in range(3)
    )
    return Taken(clusters, sure_counts, possible_counts, rows_seen, possible_seen, sure_seen)


def ratios_beyond(anchor: float, distances: F32 | F64) -> F64:
    """Return float64 [n], how many times as far as the anchor clusters are, from 1 to FARTHEST."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = np.asarray(distances, dtype=np.float64) / anchor
    return np.where(ratios > 1.0, np.minimum(ratios, FARTHEST), 1.0)


def _passing(
    table: ClusterTable,
    here: I64,
    program: FilterProgram | None,
    counts: tuple[I64, I64] | None,
    bitmaps: tuple[U32 | None, U32 | None],
) -> tuple[I64, I64]:
    """Return the sure and the possible rows of some clusters."""
    sure, possible = bitmaps
    if counts is not None:
        return counts[0][here], counts[1][here]
    if program is not None and sure is not None and possible is not None:
        return filter_clusters(table, program, here, sure, possible)
    return table.alive_counts[here], table.alive_counts[here]


def _need(passed: int, expected: float, most: float) -> float:
    """Return how many times what is needed else, where so many rows passed before the anchor."""
    return min(max((expected + _FEW_PASSED) / (_WARY * (passed + _FEW_PASSED)), 1.0), most)


def _weights(
    distances: F32, anchors: Mask, anchor: float, exponent: int
) -> tuple[float, int | None, F64]:
    """Return the anchor's distance, NaN until it is reached, and by how much clusters count.

    It is the first of those that `anchors` says, if there was none before; its place is returned
    between the two.
    """
    weights = np.ones(len(distances))
    place = None
    if np.isnan(anchor):
        reached = np.flatnonzero(anchors & ~np.isnan(distances))
        if not len(reached):
            return anchor, None, weights
        # -0 is 0, as in their order.
        place = int(reached[0])
        anchor = float(distances[place]) + 0.0
    beyond = slice(0 if place is None else place + 1, None)
    ratios = ratios_beyond(anchor, distances[beyond])
    for _ in range(exponent):
        weights[beyond] *= ratios
    return anchor, place, weights


def _walk_natively(
    chosen: native.Native,
    kept: NativeTable,
    distances: F32,
    *,
    program: FilterProgram | None,
    counts: tuple[I64, I64] | None,
    bitmaps: tuple[U32 | None, U32 | None],
    k: int,
    shares: tuple[float, float, float],
    cells: tuple[F64, F64],
    need_against: float,
    anchoring: tuple[int, int],
) -> Taken:
    bound = None if program is None else kept.bind(program)
    space = kept.take_workspace()
    asked = space.walk
    asked.program = None if bound is None else bound.at
    asked.sure_counts, asked.possible_counts = _addresses(counts)
    asked.sure, asked.possible = _addresses(None if bound is None else bitmaps)
    asked.inverse_need, asked.adverse = space.walk_cells(*cells)
    asked.k = k
    asked.overall, asked.prior_rows, asked.thinning = shares
    asked.need_against = need_against
    asked.anchor_rows, asked.exponent = anchoring
    count = chosen.walk(
        kept.at,
        native.address(distances),
        space.walk_at,
        space.taken_at,
        space.sums_at,
        space.heap_at,
        0 if bound is None else space.stack(bound.depth),
    )
    taken = space.taken[:, :count].copy()
    rows_seen, possible_seen, sure_seen = space.sums
    kept.give_workspace(space)
    return Taken(taken[0], taken[1], taken[2], rows_seen, possible_seen, sure_seen)


def _addresses(
    pair: tuple[AnyArray | None, AnyArray | None] | None,
) -> tuple[int | None, int | None]:
    if pair is None or pair[0] is None or pair[1] is None:
        return None, None
    return native.address(pair[0]), native.address(pair[1])
