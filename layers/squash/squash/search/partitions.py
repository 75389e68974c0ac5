"""Search in the partitions of a snapshot: in one call of the kernels, or level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from squash import kernels
from squash.model import Metric
from squash.planning import CostModel, keep_for
from squash.search.admitting import Known, admit, admit_alike, trace_admission
from squash.search.clusters import Clusters
from squash.search.found import Found, Query, found_at_once
from squash.search.jobs import Admission, Job
from squash.search.levels import scan_matches, walk_by_levels, walked_plan
from squash.search.trace import Trace
from squash.segment.exact import unit_rows

# Once for what is missing, and once with it.
_ATTEMPTS = 2


def search_partitions(
    metric: Metric, costs: CostModel, clusters: Clusters, query: Query, trace: Trace
) -> Found:
    """Find the rows of all partitions that answer a query, and some more, with their distances."""
    bitmaps = clusters.take_bitmaps()
    try:
        keep = keep_for(query.k, query.recall_target)
        table = clusters.table()
        job = Job(metric, costs, clusters, table, query, keep, bitmaps, trace)
        return _search_admitted(job, admit(job))
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
    with _jobs(metric, costs, clusters, queries, traces) as jobs:
        found = _search_many(jobs, _search_admitted)
        return [one for one in found if one is not None]


def search_at_hand(
    metric: Metric,
    costs: CostModel,
    clusters: Clusters,
    queries: Sequence[Query],
    traces: Sequence[Trace],
) -> list[Found | None]:
    """Find the same as far as all that a query takes is in the table; None where it is not.

    Nothing is noted in the trace of a query that was not searched.
    """
    with _jobs(metric, costs, clusters, queries, traces) as jobs:
        return _search_many(jobs, None)


@contextmanager
def _jobs(
    metric: Metric,
    costs: CostModel,
    clusters: Clusters,
    queries: Sequence[Query],
    traces: Sequence[Trace],
) -> Iterator[list[Job]]:
    bitmaps = clusters.take_bitmaps()
    try:
        table = clusters.table()
        yield [
            Job(metric, costs, clusters, table, query, keep_for(query.k, query.recall_target),
                 bitmaps, trace)
            for query, trace in zip(queries, traces, strict=True)
        ]  # fmt: skip
    finally:
        clusters.give_bitmaps(bitmaps)


def _search_many(
    jobs: Sequence[Job], alone: Callable[[Job, Admission], Found] | None
) -> list[Found | None]:
    """Search for queries that are asked alike in one call; for the others `alone`, or not."""
    found: dict[int, Found | None] = {}
    known: Known = {}
    alike: dict[tuple[int, float], list[tuple[int, Job, Admission]]] = {}
    for place, job in enumerate(jobs):
        admission, at_once = admit_alike(job, known)
        if at_once:
            found[place] = alone(job, admission) if alone else None
            continue
        asked = (job.query.k, job.query.recall_target)
        alike.setdefault(asked, []).append((place, job, admission))
    for group in alike.values():
        for (place, job, admission), near in zip(group, _near_many(group), strict=True):
            job.trace.predicted = admission.overall
            if isinstance(near, kernels.Near):
                found[place] = _found_near(job, near)
            else:
                found[place] = alone(job, admission) if alone else None
    return [found[place] for place in range(len(jobs))]


def _near_many(group: Sequence[tuple[int, Job, Admission]]) -> Sequence[object]:
    """Search for queries that are asked alike; what could not be found so is no `Near`."""
    job = group[0][1]
    codec = job.clusters.trained.codec
    if not codec.scannable or len(group) == 1:
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
        records=_records(job),
    )


def _records(job: Job) -> kernels.RecordTable | None:
    """Return what keys are read from, if they are all that is read of the records found."""
    return None if job.query.include_metadata else job.clusters.records()


def _search_admitted(job: Job, admission: Admission) -> Found:
    trace_admission(job, admission)
    if admission.scan_all:
        return scan_matches(job, admission)
    if job.clusters.trained.codec.scannable and not job.query.explain:
        found = _search_at_once(job, admission)
        if found is not None:
            return found
    return walk_by_levels(job, admission)


def _search_at_once(job: Job, admission: Admission) -> Found | None:
    """Search in one call of the kernels; None where that can't be.

    It can't where vectors are not at hand whole, or cells leave rows open that only the exact
    columns can settle.
    """
    query, table, clusters = job.query, job.table, job.clusters
    codec = clusters.trained.codec
    vector = unit_rows(query.vector[None, :])[0] if job.metric is Metric.COSINE else query.vector
    plan = clusters.search_plan(query.recall_target, query.k, job.keep, job.costs)
    records = _records(job)
    for _ in range(_ATTEMPTS):
        near = kernels.search(
            table,
            codec.axes,
            codec.mean,
            vector=vector,
            query=query.vector,
            metric=job.metric._value_,
            plan=plan,
            overall=admission.overall,
            sure=job.bitmaps.sure,
            possible=job.bitmaps.possible,
            program=admission.program,
            counts=admission.counts,
            records=records,
        )
        if isinstance(near, kernels.Near):
            return _found_near(job, near)
        if isinstance(near, kernels.StaysOpen):
            return None
        numbers = set(table.partition[near.taken].tolist())
        if not clusters.load_vectors(table, numbers):
            return None
        clusters.load_codes(table, numbers)
    return None


def _found_near(job: Job, near: kernels.Near) -> Found:
    trace = job.trace
    trace.plan = walked_plan(near.ranked, near.low_scanned)
    trace.walked(job.table.partition, near.taken)
    trace.examined += near.rows_seen
    trace.passed += near.admitted
    trace.scanned += near.low_scanned + near.ranked
    trace.vectors_read += near.read
    noted = trace.noted
    noted.append(("clusters", near.rows_seen, near.admitted))
    if near.ranked:
        noted.append(("low-bit codes", near.admitted, near.ranked))
        noted.append(("full codes", near.ranked, near.kept))
    noted.append(("refine", near.kept, near.read))
    clusters = job.clusters
    return found_at_once(
        (clusters.partitions, near.partition, near.row, near.distances, near.keys, clusters.keys)
    )
