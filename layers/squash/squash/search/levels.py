"""Levels 2 to 6, one after another: walk, scan, rank, refine; or every match measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from squash import kernels
from squash.arrays import F64, I64, U32, distinct
from squash.index.prefetch import prefetch_vectors, prefetch_vectors_ahead
from squash.index.reader import SegmentReader
from squash.kernels import PreparedQuery, Ranked, Taken
from squash.model import Metric
from squash.planning import take_clusters
from squash.search.admitting import resolve
from squash.search.found import Found, found_of
from squash.search.jobs import Admission, Job
from squash.search.trace import Trace, walked_plan
from squash.segment.exact import unit_rows
from squash.segment.partition import Candidates
from squash.values import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """The clusters that a walk took, the rows that they admit, and how those are to be ranked."""

    taken: Taken
    possible: U32 | None
    """uint32 [all blocks]: at the clusters taken, just the rows that pass; None for all alive."""
    prepared: PreparedQuery
    straight: bool
    """Whether so few rows are admitted that their codes would save nothing."""


def scan_matches(job: Job, admission: Admission) -> Found:
    """Few rows may pass: give each its exact distance."""
    partition, rows = gather_matches(job, admission)
    distances = _distances(job, partition, rows)
    if len(rows) > job.query.k:
        worst = np.partition(distances, job.query.k - 1)[job.query.k - 1]
        near = np.flatnonzero(distances <= worst)
        partition, rows, distances = partition[near], rows[near], distances[near]
    return found_of(job.clusters.partitions, partition, rows, distances)


def gather_matches(job: Job, admission: Admission) -> tuple[I64, I64]:
    """Return the partitions and rows of everything that passes, int64 [m] each."""
    bitmaps = job.bitmaps
    possible = job.table.alive if admission.program is None else bitmaps.possible
    counts = job.table.alive_counts if admission.counts is None else admission.counts[1]
    chosen = np.flatnonzero(counts)
    if admission.counts is not None and int(admission.counts[0].sum()) < int(counts.sum()):
        resolve(job, chosen)
    partition, rows = kernels.gather_rows(job.table, chosen, possible)
    trace_matches(job, chosen, len(rows))
    return partition, rows


def trace_matches(job: Job, clusters: I64, rows: int) -> None:
    """Note that all rows that pass are measured, and in which clusters, int64 [m], they are."""
    job.trace.measured(job.clusters.row_count, rows, job.query.k)
    job.trace.walked(job.table.partition, clusters)


def walk_by_levels(job: Job, admission: Admission) -> Found:
    """Take clusters, nearest first, rank the rows they admit by their codes, and refine."""
    walked = walk_clusters(job, admission)
    if walked.straight:
        partition, rows = gather_straight(job, walked)
        distances = _distances(job, partition, rows)
        return found_of(job.clusters.partitions, partition, rows, distances)
    taken, table = walked.taken, job.table
    numbers = np.flatnonzero(np.bincount(table.partition[taken.clusters])).tolist()
    if job.clusters.scannable:
        job.clusters.load_clusters(table, taken.clusters)
        ranked = _scan(job, taken, walked.possible, walked.prepared)
    else:
        ranked = _rank(job, taken, walked.possible, numbers)
    return _refine(job, ranked)


def walk_clusters(job: Job, admission: Admission) -> Walked:
    """Take clusters, nearest first (levels 2 and 3), and settle which of their rows pass."""
    query, table, trace, bitmaps = job.query, job.table, job.trace, job.bitmaps
    codec = job.clusters.trained.codec
    prepared = kernels.prepare(
        table, codec.rotation, codec.mean, query.vector, unit=job.metric is Metric.COSINE
    )
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
    trace.walked(table.partition, taken.clusters)
    trace.examined += taken.rows_seen
    trace.passed += admitted
    trace.level("clusters", taken.rows_seen, admitted)
    straight = job.clusters.straight(job.costs, job.keep)
    return Walked(
        taken=taken,
        possible=None if admission.program is None else bitmaps.possible,
        prepared=prepared,
        straight=admitted == 0 or straight.holds(admitted, len(taken.clusters)),
    )


def gather_straight(job: Job, walked: Walked) -> tuple[I64, I64]:
    """Return the partitions and rows that are measured without their codes, int64 [m] each."""
    trace = job.trace
    trace.plan = walked_plan(0, 0)
    bits = job.table.alive if walked.possible is None else walked.possible
    partition, rows = kernels.gather_rows(job.table, walked.taken.clusters, bits)
    trace.vectors_read += len(rows)
    trace.level("refine", len(rows), len(rows))
    return partition, rows


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
    trace_ranked(job.trace, ranked, scannable=True)
    return ranked


def trace_ranked(trace: Trace, ranked: Ranked, *, scannable: bool) -> None:
    """Note what became of the rows whose codes were looked at."""
    if not scannable:
        trace.plan = "walk, rank codes"
        trace.scanned += ranked.admitted
    else:
        trace.plan = walked_plan(len(ranked.row), ranked.low_scanned)
        trace.scanned += ranked.low_scanned + ranked.ranked
    trace.level("low-bit codes", ranked.admitted, ranked.ranked)
    trace.level("full codes", ranked.ranked, len(ranked.row))


def _rank(job: Job, taken: Taken, possible: U32 | None, numbers: list[int]) -> Ranked:
    """Rank by a codec whose codes the kernels don't scan, partition by partition."""
    clusters, vector = job.clusters, job.query.vector
    if job.metric is Metric.COSINE:
        vector = unit_rows(vector[None, :])[0]
    prepared = clusters.trained.codec.prepare(vector)
    found: list[tuple[int, Candidates]] = []
    for number in numbers:
        view = clusters.partitions[number]
        mine = taken.clusters[job.table.partition[taken.clusters] == number] - view.first_cluster
        bits = job.table.alive if possible is None else possible
        candidates = view.partition().search(
            prepared,
            clusters=mine,
            admitted=clusters.mask_of(bits, number),
            low_keep=job.keep.low,
        )
        found.append((number, candidates))
    ranked = best_of(found, job.table.row_base, job.keep.refined)
    trace_ranked(job.trace, ranked, scannable=False)
    return ranked


def best_of(found: Sequence[tuple[int, Candidates]], row_base: I64, keep: int) -> Ranked:
    """Keep the best of several partitions' candidates, by (estimate, global row).

    `row_base` is int64 [p], the first global row of each partition.
    """
    parts = [part for _, part in found]
    owner = np.concatenate([np.full(len(part.rows), number) for number, part in found])
    rows = np.concatenate([part.rows for part in parts])
    estimates = np.concatenate([part.estimates for part in parts])
    bounds = np.concatenate([part.lower_bounds for part in parts])
    order = np.lexsort((row_base[owner] + rows, estimates))
    kept, left = order[:keep], order[keep:]
    return Ranked(
        partition=owner[kept],
        row=rows[kept],
        estimates=estimates[kept],
        lower_bounds=bounds[kept],
        admitted=sum(part.admitted for part in parts),
        low_scanned=0,
        ranked=len(rows),
        pruned=sum(part.admitted - part.ranked for part in parts),
        least_left=float(bounds[left].min(initial=np.inf)),
    )


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
        trace.certified = is_certified(job.metric, query.k, ranked, distances)
    if measured is None:
        return found_of(job.clusters.partitions, ranked.partition, ranked.row, distances)
    return found_of(
        job.clusters.partitions,
        ranked.partition[measured],
        ranked.row[measured],
        distances[measured],
    )


def prefetch_finalists(
    readers: Sequence[SegmentReader], ranked: Ranked, *, k: int, documents: bool = True
) -> None:
    """Get the vectors of the first step of a refinement and, if that must wait, what follows.

    That is the vectors of the second step, as far as the estimates foretell which those are, and
    the documents of all these rows: the nearest are among them, mostly. What else it takes is
    read when it is known.

    Parameters
    ----------
    readers:
        Of the segments, by the numbers that `ranked` has for partitions.
    ranked:
        The ranked rows of one query.
    k:
        How many of them are wanted.
    documents:
        Whether their documents are.

    """
    first = min(len(ranked.row), k + k // 2)
    if not first:
        return
    foretold = ranked.estimates[min(k, first) - 1]
    likely = first + np.flatnonzero(ranked.lower_bounds[first:] <= foretold)
    needed: list[tuple[SegmentReader, I64]] = []
    for number in distinct(ranked.partition[:first]).tolist():
        if not readers[number].holds_vectors():
            mine = np.flatnonzero(ranked.partition[:first] == number)
            needed.append((readers[number], ranked.row[mine]))
    both = np.concatenate((np.arange(first), likely))
    by_part = [
        (readers[number], ranked.row[both[ranked.partition[both] == number]])
        for number in distinct(ranked.partition[both]).tolist()
    ]
    vectors = [(reader, rows) for reader, rows in by_part if not reader.holds_vectors()]
    beside = by_part if documents else []
    prefetch_vectors_ahead(needed, vectors=vectors, documents=beside)


def _refine_by_pages(job: Job, ranked: Ranked) -> tuple[F64, int]:
    count, k = len(ranked.row), job.query.k
    prefetch_finalists([one.reader for one in job.clusters.partitions], ranked, k=k)
    distances = np.full(count, np.nan)
    first = min(count, k + k // 2)
    distances[:first] = _distances(job, ranked.partition[:first], ranked.row[:first])
    rest = np.arange(first, count)
    if first >= k:
        worst = np.partition(distances[:first], k - 1)[k - 1]
        rest = rest[ranked.lower_bounds[rest] <= as_code_distance(job.metric, float(worst))]
    distances[rest] = _distances(job, ranked.partition[rest], ranked.row[rest])
    return distances, first + len(rest)


def is_certified(metric: Metric, k: int, ranked: Ranked, distances: F64) -> bool:
    """Tell whether the bounds show that no other row of the clusters taken is nearer.

    `distances` is float64 [m], of the ranked rows; NaN of those not measured.
    """
    if ranked.pruned:
        return False
    near = np.sort(distances)[:k]  # NaN sorts last
    if len(near) < k or np.isnan(near[-1]):
        return ranked.admitted == len(ranked.row)
    worst = as_code_distance(metric, float(near[-1]))
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


def as_code_distance(metric: Metric, distance: float) -> float:
    """Turn a reported distance into the codecs' measure: squared L2, or the negated product."""
    if metric is Metric.COSINE:
        return 2.0 * distance
    return distance * distance if metric is Metric.EUCLIDEAN else distance
