"""A search by its parts, one after another: what the native one does in one call."""

from __future__ import annotations

from typing import Any

import numpy as np

from squash.arrays import F32, F64, I64, U32, distinct
from squash.kernels.distances import MetricName, gather_rows, refine, row_distances
from squash.kernels.filtering import filter_clusters
from squash.kernels.listed import filter_listed
from squash.kernels.outcomes import Missing, Near, StaysOpen
from squash.kernels.prepare import prepare
from squash.kernels.rotations import Rotation
from squash.kernels.scanning import scan
from squash.kernels.search_rooms import SearchPlan
from squash.kernels.tables import ClusterTable, FilterProgram, PreparedQuery, Taken
from squash.kernels.walking import walk


def search_by_parts(
    table: ClusterTable,
    rotation: Rotation,
    mean: F32,
    *,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    overall: float,
    bitmaps: tuple[U32, U32],
    program: FilterProgram | None,
    counts: tuple[I64, I64] | None,
    every: bool,
    listed_most: int,
    filtered_most: int,
) -> Near | Missing | StaysOpen:
    """Search as `kernels.search` does; the arguments are its own, `bitmaps` sure and possible."""
    known, counts = counts, counts or _filter_all(table, program, bitmaps, listed_most)
    listed, filtered = int(counts is not known), -1
    if program is not None and listed_most >= 0 and counts is None:
        listed = -1
    if every and program is not None and counts is None:
        counts = filter_clusters(table, program, np.arange(len(table.rows)), *bitmaps)
    if counts is not None and counts is not known:
        filtered = int(counts[1].sum())
    if every:
        most = min(plan.straight.most, filtered_most) if filtered >= 0 else plan.straight.most
        found = _all_by_parts(
            table, query, metric, plan, counts=counts, possible=bitmaps[1], most=most
        )
        if isinstance(found, StaysOpen) and filtered >= 0:
            return StaysOpen(counts)
        return (
            found._replace(filtered=filtered, listed=listed) if isinstance(found, Near) else found
        )
    prepared = prepare(table, rotation, mean, query, unit=metric == "cosine")
    taken = walk(
        table,
        prepared.distances,
        program=None if counts is not None else program,
        counts=counts,
        sure=bitmaps[0],
        possible=bitmaps[1],
        k=plan.k,
        overall=overall,
        prior_rows=plan.prior_rows,
        thinning=plan.thinning,
        inverse_need=plan.inverse_need,
        adverse=plan.adverse,
        need_against=plan.need_against,
        anchor_rows=plan.anchor_rows,
        exponent=plan.exponent,
    )
    if taken.possible_seen > taken.sure_seen:
        return StaysOpen()
    found = _taken_by_parts(
        table, query, metric, plan,
        prepared=prepared, taken=taken,
        possible=None if program is None and counts is None else bitmaps[1],
    )  # fmt: skip
    return found._replace(filtered=filtered, listed=listed) if isinstance(found, Near) else found


def _taken_by_parts(
    table: ClusterTable,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    *,
    prepared: PreparedQuery,
    taken: Taken,
    possible: U32 | None,
) -> Near | Missing:
    """Find the nearest rows of the clusters that a walk took, among those possible or all."""
    straight = plan.straight.holds(taken.possible_seen, len(taken.clusters))
    needed: list[list[Any]] = [table.vectors]
    if not straight:
        needed += table.blocks, table.full
    for number in distinct(table.partition[taken.clusters]).tolist():
        if any(arrays[number] is None for arrays in needed):
            return Missing(taken.clusters)
    low_scanned = ranked_rows = 0
    if straight:
        partition, row = gather_rows(table, taken.clusters, possible)
        distances = row_distances(metric, query, table, partition, row)
        read = len(row)
    else:
        ranked = scan(
            table, taken.clusters, possible, prepared,
            keep=plan.keep, reach=plan.reach, share_min=plan.share_min, bounds=False,
        )  # fmt: skip
        partition, row = ranked.partition, ranked.row
        low_scanned, ranked_rows = ranked.low_scanned, ranked.ranked
        distances, read = refine(
            metric, query, table, partition, row, lower_bounds=ranked.lower_bounds, k=plan.k
        )
    order = _nearest(distances, plan.k)
    return Near(
        partition[order].tolist(),
        row[order].tolist(),
        distances[order].tolist(),
        taken.clusters,
        taken.rows_seen,
        taken.possible_seen,
        low_scanned,
        ranked_rows,
        len(row),
        read,
        None,
        -1,
        0,
        every=False,
    )


def _filter_all(
    table: ClusterTable, program: FilterProgram | None, bitmaps: tuple[U32, U32], listed_most: int
) -> tuple[I64, I64] | None:
    """Filter all clusters by lists, if that is asked for and takes few rows."""
    if program is None or listed_most < 0:
        return None
    return filter_listed(table, program, listed_most, *bitmaps)


def _all_by_parts(
    table: ClusterTable,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    *,
    counts: tuple[I64, I64] | None,
    possible: U32,
    most: int,
) -> Near | Missing | StaysOpen:
    sure_counts, possible_counts = counts or (table.alive_counts, table.alive_counts)
    chosen = np.flatnonzero(possible_counts)
    admitted = int(possible_counts.sum())
    if not int(sure_counts.sum()) == admitted <= most:
        return StaysOpen()
    if any(table.vectors[number] is None for number in set(table.partition[chosen].tolist())):
        return Missing(chosen)
    partition, row = gather_rows(table, chosen, None if counts is None else possible)
    distances = row_distances(metric, query, table, partition, row)
    order = _nearest(distances, plan.k)
    return Near(
        partition[order].tolist(),
        row[order].tolist(),
        distances[order].tolist(),
        chosen,
        int(table.rows[chosen].sum()),
        admitted,
        0,
        0,
        len(row),
        len(row),
        None,
        -1,
        0,
        every=True,
    )


def _nearest(distances: F64, k: int) -> I64:
    """Return the places of the k nearest, and of what ties with the last of them, ascending."""
    order = np.argsort(distances, kind="stable")
    order = order[: int(np.sum(~np.isnan(distances)))]
    if len(order) > k:
        last = distances[order[k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    return order
