"""Search in the partitions of a snapshot: filter, walk, scan, refine (levels 1 to 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, U32
from squash.attributes import compile_filter
from squash.kernels import ClusterTable, FilterProgram, PreparedQuery, Ranked, Taken
from squash.limits import FILTER_SAMPLE_CLUSTERS, SCAN_ALL_MATCHES_MAX
from squash.model import Metric
from squash.planning import (
    CostModel,
    Keep,
    Matches,
    MatchPlan,
    keep_for,
    plan_matches,
    take_clusters,
)
from squash.search.clusters import Bitmaps, Clusters
from squash.search.found import Found, Query, found_of
from squash.search.trace import Trace
from squash.segment.exact import unit_rows

# Where more than this share of the possible rows is unsure, the cells say too little to walk by.
_UNSURE_SHARE_MAX = 0.2
# An interval of numbers has two ends, each in a cell of some 250.
_OPEN_SHARE = 2 / 250


# Once for what is missing, and once with it.
_ATTEMPTS = 2


@dataclass(slots=True)
class _Job:
    """One query on its way through the levels."""

    metric: Metric
    costs: CostModel
    clusters: Clusters
    table: ClusterTable
    query: Query
    keep: Keep
    bitmaps: Bitmaps
    trace: Trace

    @property
    def dimension(self) -> int:
        return self.table.dimension


@dataclass(frozen=True, slots=True)
class _Admission:
    """What is known of a filter before the walk."""

    program: FilterProgram | None
    overall: float
    """The share of all rows that may pass."""
    counts: tuple[I64, I64] | None
    """Sure and possible rows of every cluster, if all were filtered."""
    scan_all: bool


def search_partitions(
    metric: Metric, costs: CostModel, clusters: Clusters, query: Query, trace: Trace
) -> Found:
    """Find the rows of all partitions that answer a query, and some more, with their distances."""
    bitmaps = clusters.take_bitmaps()
    try:
        keep = keep_for(query.k, query.recall_target)
        table = clusters.table()
        job = _Job(metric, costs, clusters, table, query, keep, bitmaps, trace)
        return _search(job)
    finally:
        clusters.give_bitmaps(bitmaps)


def search_partitions_many(
    metric: Metric,
    costs: CostModel,
    clusters: Clusters,
    queries: Sequence[Query],
    traces: Sequence[Trace],
) -> list[Found]:
    """Find for each query what `search_partitions` finds; filters and memory are shared."""
    bitmaps = clusters.take_bitmaps()
    try:
        table = clusters.table()
        jobs = [
            _Job(metric, costs, clusters, table, query, keep_for(query.k, query.recall_target),
                 bitmaps, trace)
            for query, trace in zip(queries, traces, strict=True)
        ]  # fmt: skip
        return _search_many(jobs)
    finally:
        clusters.give_bitmaps(bitmaps)


def _search_many(jobs: Sequence[_Job]) -> list[Found]:
    found: dict[int, Found] = {}
    known: dict[tuple[int, int, float], tuple[_Admission, dict[str, float]]] = {}
    alike: dict[tuple[int, float], list[tuple[int, _Job, _Admission]]] = {}
    for place, job in enumerate(jobs):
        query = job.query
        # One filter that all queries have is one object.
        asked = (id(query.node), query.k, query.recall_target)
        if asked not in known:
            admission = _admit(job)
            if admission.scan_all or admission.counts is not None:
                # The bitmaps hold this filter's rows now, and the next one's soon.
                found[place] = _search_admitted(job, admission)
                continue
            known[asked] = (admission, job.trace.costs_us)
        admission, job.trace.costs_us = known[asked]
        alike.setdefault((query.k, query.recall_target), []).append((place, job, admission))
    for group in alike.values():
        for (place, job, admission), near in zip(group, _near_many(group), strict=True):
            job.trace.predicted = admission.overall
            if isinstance(near, kernels.Near):
                found[place] = _found_near(job, near)
            else:
                found[place] = _walk(job, admission)
    return [found[place] for place in range(len(jobs))]


def _near_many(group: Sequence[tuple[int, _Job, _Admission]]) -> Sequence[object]:
    """Search for queries that are asked alike; what could not be found so is no `Near`."""
    job = group[0][1]
    codec = job.clusters.trained.codec
    if not (codec.scannable and job.clusters.whole) or len(group) == 1:
        return [None] * len(group)
    queries = np.stack([one.query.vector for _, one, _ in group])
    vectors = queries
    if job.metric is Metric.COSINE:  # one by one: sums over several may round otherwise
        vectors = np.concatenate([unit_rows(query[None, :]) for query in queries])
    return kernels.search_many(
        job.table,
        codec.axes,
        codec.mean,
        vectors=vectors,
        queries=queries,
        metric=job.metric.value,
        plan=job.clusters.search_plan(job.query.recall_target, job.query.k, job.keep, job.costs),
        overall=np.array([admission.overall for _, _, admission in group]),
        programs=[admission.program for _, _, admission in group],
        sure=job.bitmaps.sure,
        possible=job.bitmaps.possible,
    )


def _search(job: _Job) -> Found:
    return _search_admitted(job, _admit(job))


def _search_admitted(job: _Job, admission: _Admission) -> Found:
    job.trace.predicted = admission.overall
    if admission.counts is not None:
        job.trace.level("filter", job.clusters.row_count, int(admission.counts[1].sum()))
    return _scan_matches(job, admission) if admission.scan_all else _walk(job, admission)


def _admit(job: _Job) -> _Admission:
    """Compile the filter, find out about how many rows pass, and plan."""
    node, clusters, table = job.query.node, job.clusters, job.table
    alive = clusters.alive_total / max(clusters.row_count, 1)
    if node is None:
        few = clusters.alive_total <= SCAN_ALL_MATCHES_MAX
        return _Admission(None, alive, None, scan_all=few)
    program = compile_filter(
        node,
        clusters.trained.cells,
        holds_lists=lambda name: clusters.holds_lists(table, name),
    )
    clusters.load_columns(table, {leaf.attribute for leaf in program.leaves})
    if len(program.leaves) == 1 and len(program.operations) == 1:
        share, still_open = clusters.share_of(program.leaves[0])
        share, still_open = share * alive, still_open * alive
    else:
        every = max(len(table.rows) // FILTER_SAMPLE_CLUSTERS, 1)
        seen, sure, possible = kernels.filter_sample(table, program, every)
        share, still_open = possible / max(seen, 1), (possible - sure) / max(seen, 1)
    plan = _plan(job, program, share, still_open)
    if not plan.scan_all and still_open <= _UNSURE_SHARE_MAX * share:
        return _Admission(program, share, None, scan_all=False)
    return _everywhere(job, program)


def _plan(job: _Job, program: FilterProgram, share: float, still_open: float) -> MatchPlan:
    rows = job.clusters.row_count
    open_cells = max(still_open, _OPEN_SHARE) if program.leaves[0].intervals is not None else 0.0
    need = job.clusters.need(job.query.recall_target)
    expected = Matches(
        rows=rows,
        matches=share * rows,
        open_rows=open_cells * rows,
        comparisons=len(program.leaves),
        clusters=len(job.table.rows),
        clusters_needed=need.clusters(share, job.query.k),
        dimension=job.dimension,
        refined=job.keep.refined,
    )
    plan = plan_matches(job.costs, expected, always_max=SCAN_ALL_MATCHES_MAX)
    if not job.clusters.whole and expected.matches > SCAN_ALL_MATCHES_MAX:
        # Each match is a page to get: what they cost is not what the model counts.
        plan = replace(plan, scan_all=False)
    job.trace.costs_us["walk clusters"] = plan.walk_ns / 1000
    job.trace.costs_us["scan all matches"] = plan.scan_all_ns / 1000
    return plan


def _everywhere(job: _Job, program: FilterProgram) -> _Admission:
    """Evaluate a filter for all rows; what the cells leave open by the values, if it is much."""
    bitmaps, clusters = job.bitmaps, job.clusters
    every_cluster = np.arange(len(job.table.rows))
    counts = kernels.filter_clusters(
        job.table, program, every_cluster, bitmaps.sure, bitmaps.possible
    )
    sure, possible = int(counts[0].sum()), int(counts[1].sum())
    if possible - sure > _UNSURE_SHARE_MAX * possible:
        _resolve(job, every_cluster)
        found = clusters.counts(bitmaps.sure)
        counts, possible = (found, found), int(found.sum())
    share = possible / max(clusters.row_count, 1)
    plan = _plan(job, program, share, 0.0)
    return _Admission(program, share, counts, scan_all=plan.scan_all)


def _resolve(job: _Job, clusters: I64) -> int:
    """Check the unsure rows of some clusters by their values: they become sure, or go."""
    bitmaps, node = job.bitmaps, job.query.node
    partition, rows = kernels.gather_rows(job.table, clusters, bitmaps.possible & ~bitmaps.sure)
    failed = 0
    for number in np.unique(partition).tolist():
        mine = rows[partition == number]
        passing = job.clusters.partitions[number].columns().evaluate(node, mine)
        job.clusters.settle(bitmaps, number, mine, passing)
        failed += len(mine) - int(passing.sum())
    return failed


def _scan_matches(job: _Job, admission: _Admission) -> Found:
    """Few rows may pass: give each its exact distance."""
    trace, bitmaps = job.trace, job.bitmaps
    trace.plan = "scan all matches"
    possible = job.table.alive if admission.program is None else bitmaps.possible
    counts = job.table.alive_counts if admission.counts is None else admission.counts[1]
    chosen = np.flatnonzero(counts)
    if admission.counts is not None and int(admission.counts[0].sum()) < int(counts.sum()):
        _resolve(job, chosen)
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


def _walk(job: _Job, admission: _Admission) -> Found:
    clusters = job.clusters
    if clusters.trained.codec.scannable and clusters.whole and not job.query.explain:
        found = _search_at_once(job, admission)
        if found is not None:
            return found
    return _walk_by_levels(job, admission)


def _search_at_once(job: _Job, admission: _Admission) -> Found | None:
    """Search in one call of the kernels; None where that can't be.

    It can't where vectors are read page by page, or cells leave rows open that only the exact
    columns can settle.
    """
    query, table, clusters = job.query, job.table, job.clusters
    codec = clusters.trained.codec
    vector = unit_rows(query.vector[None, :])[0] if job.metric is Metric.COSINE else query.vector
    plan = clusters.search_plan(query.recall_target, query.k, job.keep, job.costs)
    for _ in range(_ATTEMPTS):
        near = kernels.search(
            table,
            codec.axes,
            codec.mean,
            vector=vector,
            query=query.vector,
            metric=job.metric.value,
            plan=plan,
            overall=admission.overall,
            sure=job.bitmaps.sure,
            possible=job.bitmaps.possible,
            program=admission.program,
            counts=admission.counts,
        )
        if isinstance(near, kernels.Near):
            return _found_near(job, near)
        if isinstance(near, kernels.StaysOpen):
            return None
        numbers = set(table.partition[near.taken].tolist())
        clusters.load_codes(table, numbers)
        if not clusters.load_vectors(table, numbers):
            return None
    return None


def _found_near(job: _Job, near: kernels.Near) -> Found:
    trace = job.trace
    trace.clusters_visited = len(near.taken)
    trace.examined += near.rows_seen
    trace.passed += near.admitted
    trace.scanned += near.low_scanned + near.ranked
    trace.vectors_read += near.read
    trace.level("clusters", near.rows_seen, near.admitted)
    if near.ranked:
        trace.level("low-bit codes", near.admitted, near.ranked)
        trace.level("full codes", near.ranked, near.kept)
    trace.level("refine", near.kept, near.read)
    return Found(job.clusters.partitions, near.partition, near.row, near.distances)


def _walk_by_levels(job: _Job, admission: _Admission) -> Found:
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
        admitted -= _resolve(job, taken.clusters)
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
        job.clusters.load_codes(table, numbers)
        ranked = _scan(job, taken, possible, prepared)
    else:
        ranked = _rank(job, taken, possible, numbers, vector)
    return _refine(job, ranked)


def _straight(job: _Job, taken: Taken, possible: U32 | None) -> Found:
    """So few rows are admitted that their codes would save nothing."""
    trace = job.trace
    trace.plan = "walk, exact distances at once"
    bits = job.table.alive if possible is None else possible
    partition, rows = kernels.gather_rows(job.table, taken.clusters, bits)
    trace.vectors_read += len(rows)
    trace.level("refine", len(rows), len(rows))
    return found_of(job.clusters.partitions, partition, rows, _distances(job, partition, rows))


def _scan(job: _Job, taken: Taken, possible: U32 | None, prepared: PreparedQuery) -> Ranked:
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


def _rank(job: _Job, taken: Taken, possible: U32 | None, numbers: list[int], vector: F32) -> Ranked:
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


def _refine(job: _Job, ranked: Ranked) -> Found:
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


def _refine_by_pages(job: _Job, ranked: Ranked) -> tuple[F64, int]:
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


def _certified(job: _Job, ranked: Ranked, distances: F64) -> bool:
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


def _distances(job: _Job, partition: I64, rows: I64) -> F64:
    """Return the exact distances of rows, float64 [m]."""
    numbers = set(partition.tolist())
    if job.clusters.load_vectors(job.table, numbers):
        return kernels.row_distances(job.metric.value, job.query.vector, job.table, partition, rows)
    distances = np.empty(len(rows))
    for number in numbers:
        mine = partition == number
        vectors = job.clusters.partitions[number].vectors(rows[mine])
        distances[mine] = kernels.exact_distances(job.metric.value, job.query.vector, vectors)
    return distances


def _as_code_distance(metric: Metric, distance: float) -> float:
    """Turn a reported distance into the codecs' measure: squared L2, or the negated product."""
    if metric is Metric.COSINE:
        return 2.0 * distance
    return distance * distance if metric is Metric.EUCLIDEAN else distance
