"""Levels 2 to 6, one after another: walk, scan, rank, refine; or every match measured."""

from __future__ import annotations

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, U32
from squash.index.prefetch import prefetch_vectors
from squash.kernels import PreparedQuery, Ranked, Taken
from squash.model import Metric
from squash.planning import take_clusters
from squash.search.admitting import resolve
from squash.search.found import Found, found_of
from squash.search.jobs import Admission, Job
from squash.segment.exact import unit_rows


def scan_matches(job: Job, admission: Admission) -> Found:
    """Few rows may pass: give each its exact distance."""
    trace, bitmaps = job.trace, job.bitmaps
    trace.plan = "scan all matches"
    possible = job.table.alive if admission.program is None else bitmaps.possible
    counts = job.table.alive_counts if admission.counts is None else admission.counts[1]
    chosen = np.flatnonzero(counts)
    if admission.counts is not None and int(admission.counts[0].sum()) < int(counts.sum()):
        resolve(job, chosen)
    partition, rows = kernels.gather_rows(job.table, chosen, possible)
    trace.examined += job.clusters.row_count
    trace.passed += len(rows)
    trace.vectors_read += len(rows)
    trace.clusters_visited = len(chosen)
    trace.partitions_visited = len(np.unique(job.table.partition[chosen]))
    trace.level("exact scan", len(rows), min(job.query.k, len(rows)))
    distances = _distances(job, partition, rows)
    if len(rows) > job.query.k:
        worst = np.partition(distances, job.query.k - 1)[job.query.k - 1]
        near = np.flatnonzero(distances <= worst)
        partition, rows, distances = partition[near], rows[near], distances[near]
    return found_of(job.clusters.partitions, partition, rows, distances)


def walk_by_levels(job: Job, admission: Admission) -> Found:
    """Take clusters, nearest first, rank the rows they admit by their codes, and refine."""
    query, table, trace, bitmaps = job.query, job.table, job.trace, job.bitmaps
    codec = job.clusters.trained.codec
    vector = unit_rows(query.vector[None, :])[0] if job.metric is Metric.COSINE else query.vector
    prepared = kernels.prepare(table, codec.axes, codec.mean, vector)
    taken = take_clusters(
        table,
        prepared.distances,
        k=query.k,
        need=job.clusters.need(query.recall_target),
        overall=admission.overall,
        sure=bitmaps.sure,
        possible=bitmaps.possible,
        program=admission.program,
        counts=admission.counts,
    )
    admitted = taken.possible_seen
    if taken.possible_seen > taken.sure_seen:
        # Unsure rows are checked before they can displace sure ones: later levels may then cut.
        admitted -= resolve(job, taken.clusters)
    numbers = np.flatnonzero(np.bincount(table.partition[taken.clusters])).tolist()
    trace.clusters_visited = len(taken.clusters)
    trace.partitions_visited = len(numbers)
    trace.examined += taken.rows_seen
    trace.passed += admitted
    trace.level("clusters", taken.rows_seen, admitted)
    possible = None if admission.program is None else bitmaps.possible
    straight = job.costs.straight(job.dimension, job.keep.refined)
    # Where vectors come page by page, no more of them are read than refinement would read.
    clusters = len(taken.clusters) if job.clusters.whole else 0
    if admitted == 0 or straight.holds(admitted, clusters):
        return _straight(job, taken, possible)
    if codec.scannable:
        job.clusters.load_clusters(table, taken.clusters)
        ranked = _scan(job, taken, possible, prepared)
    else:
        ranked = _rank(job, taken, possible, numbers, vector)
    return _refine(job, ranked)


def _straight(job: Job, taken: Taken, possible: U32 | None) -> Found:
    """So few rows are admitted that their codes would save nothing."""
    trace = job.trace
    trace.plan = "walk, exact distances at once"
    bits = job.table.alive if possible is None else possible
    partition, rows = kernels.gather_rows(job.table, taken.clusters, bits)
    trace.vectors_read += len(rows)
    trace.level("refine", len(rows), len(rows))
    return found_of(job.clusters.partitions, partition, rows, _distances(job, partition, rows))


def _scan(job: Job, taken: Taken, possible: U32 | None, prepared: PreparedQuery) -> Ranked:
    ranked = kernels.scan(
        job.table,
        taken.clusters,
        possible,
        prepared,
        keep=job.keep.refined,
        reach=job.keep.reach,
        share_min=job.costs.share_min(job.dimension),
        bounds=job.query.explain,
    )
    trace = job.trace
    trace.plan = "walk, scan signs" if ranked.low_scanned else "walk, gather full codes"
    trace.scanned += ranked.low_scanned + ranked.ranked
    trace.level("low-bit codes", ranked.admitted, ranked.ranked)
    trace.level("full codes", ranked.ranked, len(ranked.row))
    return ranked


def _rank(job: Job, taken: Taken, possible: U32 | None, numbers: list[int], vector: F32) -> Ranked:
    """Rank by a codec whose codes the kernels don't scan, partition by partition."""
    clusters, trace = job.clusters, job.trace
    prepared = clusters.trained.codec.prepare(vector)
    parts, owners = [], []
    for number in numbers:
        view = clusters.partitions[number]
        mine = taken.clusters[job.table.partition[taken.clusters] == number] - view.first_cluster
        bits = job.table.alive if possible is None else possible
        found = view.partition().search(
            prepared,
            clusters=mine,
            admitted=clusters.mask_of(bits, number),
            low_keep=job.keep.low,
        )
        parts.append(found)
        owners.append(np.full(len(found.rows), number))
    owner, rows = np.concatenate(owners), np.concatenate([p.rows for p in parts])
    estimates = np.concatenate([p.estimates for p in parts])
    bounds = np.concatenate([p.lower_bounds for p in parts])
    order = np.lexsort((job.table.row_base[owner] + rows, estimates))
    kept, left = order[: job.keep.refined], order[job.keep.refined :]
    ranked = Ranked(
        partition=owner[kept],
        row=rows[kept],
        estimates=estimates[kept],
        lower_bounds=bounds[kept],
        admitted=sum(p.admitted for p in parts),
        low_scanned=0,
        ranked=len(rows),
        pruned=sum(p.admitted - p.ranked for p in parts),
        least_left=float(bounds[left].min(initial=np.inf)),
    )
    trace.plan = "walk, rank codes"
    trace.scanned += ranked.admitted
    trace.level("low-bit codes", ranked.admitted, ranked.ranked)
    trace.level("full codes", ranked.ranked, len(ranked.row))
    return ranked


def _refine(job: Job, ranked: Ranked) -> Found:
    """Give the best of the ranked rows their exact distances, in the order of the estimates.

    It is done in two steps: what the first leaves out is read only where its lower bound says
    that it could still enter.
    """
    query, trace = job.query, job.trace
    numbers = set(ranked.partition.tolist())
    if job.clusters.load_vectors(job.table, numbers):
        distances, read = kernels.refine(
            job.metric.value,
            query.vector,
            job.table,
            ranked.partition,
            ranked.row,
            lower_bounds=ranked.lower_bounds,
            k=query.k,
        )
    else:
        distances, read = _refine_by_pages(job, ranked)
    trace.vectors_read += read
    trace.level("refine", len(ranked.row), read)
    measured = np.flatnonzero(~np.isnan(distances)) if read < len(distances) else None
    if query.explain:
        trace.certified = _certified(job, ranked, distances)
    if measured is None:
        return found_of(job.clusters.partitions, ranked.partition, ranked.row, distances)
    return found_of(
        job.clusters.partitions,
        ranked.partition[measured],
        ranked.row[measured],
        distances[measured],
    )


def _refine_by_pages(job: Job, ranked: Ranked) -> tuple[F64, int]:
    count, k = len(ranked.row), job.query.k
    distances = np.full(count, np.nan)
    first = min(count, k + k // 2)
    distances[:first] = _distances(job, ranked.partition[:first], ranked.row[:first])
    rest = np.arange(first, count)
    if first >= k:
        worst = np.partition(distances[:first], k - 1)[k - 1]
        rest = rest[ranked.lower_bounds[rest] <= _as_code_distance(job.metric, float(worst))]
    distances[rest] = _distances(job, ranked.partition[rest], ranked.row[rest])
    return distances, first + len(rest)


def _certified(job: Job, ranked: Ranked, distances: F64) -> bool:
    """Tell whether the bounds show that no other row of the clusters taken is nearer."""
    if ranked.pruned:
        return False
    k = job.query.k
    near = np.sort(distances)[:k]  # NaN sorts last
    if len(near) < k or np.isnan(near[-1]):
        return ranked.admitted == len(ranked.row)
    worst = _as_code_distance(job.metric, float(near[-1]))
    unread = np.isnan(distances)
    return ranked.least_left >= worst and not bool(np.any(ranked.lower_bounds[unread] < worst))


def _distances(job: Job, partition: I64, rows: I64) -> F64:
    """Return the exact distances of rows, float64 [m]."""
    numbers = set(partition.tolist())
    if job.clusters.load_vectors(job.table, numbers):
        return kernels.row_distances(job.metric.value, job.query.vector, job.table, partition, rows)
    distances = np.empty(len(rows))
    views = job.clusters.partitions
    prefetch_vectors([(views[number].reader, rows[partition == number]) for number in numbers])
    for number in numbers:
        mine = partition == number
        vectors = views[number].vectors(rows[mine])
        distances[mine] = kernels.exact_distances(job.metric.value, job.query.vector, vectors)
    return distances


def _as_code_distance(metric: Metric, distance: float) -> float:
    """Turn a reported distance into the codecs' measure: squared L2, or the negated product."""
    if metric is Metric.COSINE:
        return 2.0 * distance
    return distance * distance if metric is Metric.EUCLIDEAN else distance
