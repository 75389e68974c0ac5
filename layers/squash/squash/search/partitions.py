"""Search in the partitions of a snapshot: in one call of the kernels, or level by level."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from squash import kernels
from squash.drafts import make_bare_matches, make_matches
from squash.limits import SCAN_ALL_MATCHES_MAX
from squash.model import Match, Metric
from squash.planning import CostModel
from squash.search.admitting import (
    Known,
    admit,
    admit_alike,
    admit_filtered,
    listed_most,
    miss_lists,
    trace_admission,
    trace_measured,
)
from squash.search.clusters import Bitmaps, Clusters
from squash.search.found import Found, Query, complete, found_at_once, merge
from squash.search.jobs import Admission, Job
from squash.search.levels import scan_matches, trace_matches, walk_by_levels
from squash.search.trace import Trace

# Once for what is missing, and once with it.
_ATTEMPTS = 2


def search_partitions(
    metric: Metric, costs: CostModel, clusters: Clusters, query: Query, trace: Trace
) -> Found:
    """Find the rows of all partitions that answer a query, and some more, with their distances."""
    return _found_of(*_search_one(metric, costs, clusters, query, trace))


def match_partitions(
    metric: Metric, costs: CostModel, clusters: Clusters, query: Query, trace: Trace
) -> tuple[Match, ...]:
    """Do the same where nothing is searched but partitions: give the matches."""
    return _matches_of(*_search_one(metric, costs, clusters, query, trace))


def _search_one(
    metric: Metric, costs: CostModel, clusters: Clusters, query: Query, trace: Trace
) -> tuple[Job, Found | kernels.Near]:
    bitmaps = clusters.take_bitmaps()
    try:
        keep = clusters.keep(query.k, query.recall_target)
        table = clusters.table()
        job = Job(metric, costs, clusters, table, query, keep, bitmaps, trace)
        return job, _search_admitted(job, admit(job))
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
    found: list[Found | None] = [None] * len(queries)
    with _together(metric, costs, clusters, queries, traces) as asked:
        for place, job, admission in _search_many(asked, partial(_find, asked, found)):
            found[place] = _found_of(job, _search_admitted(job, admission))
    return [one for one in found if one is not None]


def match_partitions_many(
    metric: Metric,
    costs: CostModel,
    clusters: Clusters,
    queries: Sequence[Query],
    traces: Sequence[Trace],
) -> list[tuple[Match, ...]]:
    """Do the same where nothing is searched but partitions: give the matches of each query."""
    matches: list[tuple[Match, ...]] = [()] * len(queries)
    with _together(metric, costs, clusters, queries, traces) as asked:
        for place, job, admission in _search_many(asked, partial(_match, asked, matches)):
            matches[place] = _matches_of(job, _search_admitted(job, admission))
    return matches


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
    found: list[Found | None] = [None] * len(queries)
    with _together(metric, costs, clusters, queries, traces) as asked:
        for _ in _search_many(asked, partial(_find, asked, found)):
            pass
    return found


class _Together(NamedTuple):
    """Queries that are searched together."""

    metric: Metric
    costs: CostModel
    clusters: Clusters
    table: kernels.ClusterTable
    bitmaps: Bitmaps
    queries: Sequence[Query]
    traces: Sequence[Trace]

    def job(self, place: int) -> Job:
        """Return one of them as it is searched alone."""
        query = self.queries[place]
        keep = self.clusters.keep(query.k, query.recall_target)
        return Job(
            self.metric, self.costs, self.clusters, self.table, query, keep, self.bitmaps,
            self.traces[place],
        )  # fmt: skip


@contextmanager
def _together(
    metric: Metric,
    costs: CostModel,
    clusters: Clusters,
    queries: Sequence[Query],
    traces: Sequence[Trace],
) -> Iterator[_Together]:
    bitmaps = clusters.take_bitmaps()
    try:
        yield _Together(metric, costs, clusters, clusters.table(), bitmaps, queries, traces)
    finally:
        clusters.give_bitmaps(bitmaps)


_Take: TypeAlias = Callable[[list[int], kernels.NearMany], list[int]]
"""Takes what was found for queries at some places; gives which of those it could not take."""


_Group: TypeAlias = tuple[list[int], list[Admission], list[int]]
"""The places of queries that are asked alike, what is known of their filters, and `listed_most`."""


def _search_many(asked: _Together, take: _Take) -> Iterator[tuple[int, Job, Admission]]:
    """Search for queries that are asked alike in one call.

    Yields
    ------
    Those that are to be searched alone, by their places: before the next one is asked for, since
    the bitmaps may hold what one's filter admits.

    """
    known: Known = {}
    groups: dict[tuple[int, float, bool, bool], _Group] = {}
    alike: dict[tuple[object, ...], tuple[Admission, dict[str, float], int, _Group]] = {}
    for place, (query, trace) in enumerate(zip(asked.queries, asked.traces, strict=True)):
        _, k, node, recall_target, _, metadata, vector, *_ = query
        # One filter that several queries have is one object.
        there = alike.get((id(node), k, recall_target, metadata, vector))
        if there is None:
            job = asked.job(place)
            admission, at_once = admit_alike(job, known, measures=True)
            if at_once:
                yield place, job, admission
                continue
            group = groups.setdefault((k, recall_target, metadata, vector), ([], [], []))
            there = (admission, trace.costs_us, listed_most(job, admission), group)
            alike[id(node), k, recall_target, metadata, vector] = there
        admission, trace.costs_us, most, (places, admissions, listed) = there
        trace.predicted = admission.overall
        places.append(place)
        admissions.append(admission)
        listed.append(most)
    for places, admissions, listed in groups.values():
        near = _near_many(asked, places, admissions, listed)
        left = range(len(places)) if near is None else take(places, near)
        for i in left:
            yield places[i], asked.job(places[i]), admissions[i]


def _near_many(
    asked: _Together, places: list[int], admissions: list[Admission], listed: list[int]
) -> kernels.NearMany | None:
    """Search for queries that are asked alike; None where that is not done in one call."""
    job = asked.job(places[0])
    codec = job.clusters.trained.codec
    if not codec.scannable or len(places) == 1:
        return None
    queries = np.concatenate([asked.queries[place].vector for place in places])
    queries = queries.reshape(len(places), -1)
    return kernels.search_many(
        job.table,
        codec.rotation,
        codec.mean,
        queries=queries,
        metric=job.metric.value,
        plan=job.clusters.search_plan(job.query.recall_target, job.query.k, job.keep, job.costs),
        overall=np.array([admission.overall for admission in admissions]),
        programs=[admission.program for admission in admissions],
        sure=job.bitmaps.sure,
        possible=job.bitmaps.possible,
        # Also where metadata is read of the same records: they are asked for together here.
        records=job.clusters.records.table,
        listed_most=listed,
    )


def _find(
    asked: _Together, found: list[Found | None], places: list[int], near: kernels.NearMany
) -> list[int]:
    """Take in what was found in one call."""
    left = []
    for i, (place, one) in enumerate(zip(places, near, strict=True)):
        if isinstance(one, kernels.Near):
            job = asked.job(place)
            _note(job, one)
            found[place] = _found_of(job, one)
        else:
            left.append(i)
    return left


def _match(
    asked: _Together, matches: list[tuple[Match, ...]], places: list[int], near: kernels.NearMany
) -> list[int]:
    """Make matches of what was found in one call, of all queries at once."""
    query = asked.queries[places[0]]
    if query.include_metadata or query.include_vector or near.keys is None:
        return _match_others(asked, matches, places, near, range(len(places)))
    made = make_bare_matches(near.keys, near.distances)
    visited = near.partitions_visited(asked.table.partition, len(asked.clusters.partitions))
    begin, others = 0, []
    told = zip(places, near.row_begins[1:], near.settled(), near.counts, visited, strict=True)
    for i, (place, end, settled, counts, partitions) in enumerate(told):
        if settled:
            # None ties with another: they are the k nearest, and in their order.
            matches[place] = made[begin:end]
            trace = asked.traces[place]
            trace.visited(partitions, counts[3])
            if counts[8] >= 0:
                trace.level("filter", asked.clusters.row_count, counts[8])
            trace.searched(counts[:2] + counts[4:8])
            trace.noted.append(("merge", end - begin, end - begin))
        else:
            others.append(i)
        begin = end
    return _match_others(asked, matches, places, near, others)


def _match_others(
    asked: _Together,
    matches: list[tuple[Match, ...]],
    places: list[int],
    near: kernels.NearMany,
    some: Iterable[int],
) -> list[int]:
    left = []
    for i in some:
        one, job = near.outcome(i), asked.job(places[i])
        if isinstance(one, kernels.Near):
            _note(job, one)
            matches[places[i]] = _matches_of(job, one)
        else:
            left.append(i)
    return left


def match_further(
    job: Job, admission: Admission, near: kernels.Missing | kernels.StaysOpen
) -> tuple[Match, ...]:
    """Go on with a query that one call of the kernels could not search: give the matches."""
    found: Found | kernels.Near
    if isinstance(near, kernels.Missing):
        found = _search_admitted(job, admission)
    elif admission.scan_all and admission.program is not None:
        found = _search_filtered(job, admit_filtered(job, admission, near.counts))
    else:
        trace_admission(job, admission)
        found = walk_by_levels(job, admission)
    return _matches_of(job, found)


def _search_admitted(job: Job, admission: Admission) -> Found | kernels.Near:
    """Search for what is admitted, and note how."""
    if admission.scan_all and admission.counts is None and admission.program is not None:
        near = _search_at_once(job, admission)
        if isinstance(near, kernels.Near):
            return near
        admission = admit_filtered(job, admission, None if near is None else near.counts)
    return _search_filtered(job, admission)


def _search_filtered(job: Job, admission: Admission) -> Found | kernels.Near:
    """Do the same for what is to be walked, or of which all that passes is known."""
    trace_admission(job, admission)
    if job.clusters.scannable and not job.query.explain:
        near = _search_at_once(job, admission)
        if isinstance(near, kernels.Near):
            return near
    return scan_matches(job, admission) if admission.scan_all else walk_by_levels(job, admission)


def _search_at_once(job: Job, admission: Admission) -> kernels.Near | kernels.StaysOpen | None:
    """Search in one call of the kernels, and note it; None where vectors are not at hand whole."""
    query, table, clusters = job.query, job.table, job.clusters
    codec = clusters.trained.codec
    plan = clusters.search_plan(query.recall_target, query.k, job.keep, job.costs)
    for _ in range(_ATTEMPTS):
        near = kernels.search(
            table,
            codec.rotation,
            codec.mean,
            query=query.vector,
            metric=job.metric._value_,
            plan=plan,
            overall=admission.overall,
            sure=job.bitmaps.sure,
            possible=job.bitmaps.possible,
            program=admission.program,
            counts=admission.counts,
            records=clusters.records.table,
            every=admission.scan_all,
            listed_most=admission.listed_most,
            filtered_most=SCAN_ALL_MATCHES_MAX,
        )
        if isinstance(near, kernels.Near):
            _note(job, near, admission)
            return near
        if isinstance(near, kernels.StaysOpen):
            return near
        numbers = set(table.partition[near.taken].tolist())
        if not clusters.load_vectors(table, numbers):
            return None
        if not admission.scan_all:
            clusters.load_codes(table, numbers)
    return None


def _matches_of(job: Job, found: Found | kernels.Near) -> tuple[Match, ...]:
    """Make matches of what was found."""
    if not isinstance(found, kernels.Near):
        return complete((found,), job.query, job.trace)
    matches = near_matches(job.clusters, found, job.query)
    job.trace.noted.append(("merge", len(found.distances), len(matches)))
    return matches


def near_matches(clusters: Clusters, near: kernels.Near, query: Query) -> tuple[Match, ...]:
    """Make matches of what the kernels found, with what the query wants of them."""
    keys, distances = near.keys, near.distances
    # Where none ties with another they are the k nearest, and in their order.
    single = len(distances) <= query.k and kernels.ascends(distances)
    if single and not query.include_vector:
        if query.include_metadata:
            documents = clusters.records.documents(near.partition, near.row)
            if documents is not None:
                keys, metadata = documents
                return make_matches(keys, distances, metadata, (None,) * len(keys))
        elif keys is not None:
            return make_bare_matches(keys, distances)
    return merge((_found_of_near(clusters, near),), query)


def _found_of(job: Job, found: Found | kernels.Near) -> Found:
    return _found_of_near(job.clusters, found) if isinstance(found, kernels.Near) else found


def _found_of_near(clusters: Clusters, found: kernels.Near) -> Found:
    """Return what the kernels found as rows of partitions."""
    return found_at_once(
        (
            clusters.partitions,
            found.partition,
            found.row,
            found.distances,
            found.keys,
            clusters.records.keys,
        )
    )


def _note(job: Job, near: kernels.Near, admission: Admission | None = None) -> None:
    """Note what was found in one call, with what was known of the filter where it is alone."""
    trace = job.trace
    if admission is not None:
        program = admission.program
        if program is not None and near.listed < 0:
            miss_lists(job, program, admission.filter_ns)
        if admission.scan_all:
            if program is not None and near.filtered >= 0:
                trace_measured(job, program, near.filtered)
            trace_matches(job, near.taken, near.read)
            return
    if near.filtered >= 0:
        trace.level("filter", job.clusters.row_count, near.filtered)
    trace.walked(job.table.partition, near.taken)
    trace.searched(near.searched())
