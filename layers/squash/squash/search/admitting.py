"""Level 1: what a filter admits, as far as it is evaluated before clusters are walked."""

from __future__ import annotations

import math
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from squash import kernels
from squash.arrays import I64, distinct
from squash.attributes import FilterNode, asked_of, only_live
from squash.errors import InternalError
from squash.index.prefetch import prefetch_columns
from squash.kernels import ClusterTable, Expected, FilterProgram, MatchPlan, MatchPlanner
from squash.limits import SCAN_ALL_MATCHES_MAX
from squash.planning import UNSURE_SHARE_MAX, CostModel
from squash.search.clusters import Clusters
from squash.search.expecting import expect, planner_of
from squash.search.expecting import plan as planned
from squash.search.expiring import split_live
from squash.search.jobs import Admission, Job
from squash.search.listing import MISSES_EACH
from squash.values import maker_of

_admission: Final = maker_of(Admission)


def admit(job: Job, *, alone: bool = True, measures: bool = True) -> Admission:
    """Compile the filter, find out about how many rows pass, and plan.

    Parameters
    ----------
    job:
        The query; its bitmaps may be written.
    alone:
        Whether no other query's filter has to be known in the bitmaps before this one is searched.
    measures:
        Whether at least those are searched before, of which all that passes is measured; else it is
        known then what passes.

    """
    node, expires = job.query.node, job.clusters.expires
    if node is None or expires is None:
        return _admit(job, node, alone, measures)
    job.clusters.load_columns(job.table, asked_of(node))
    rest, time = split_live(node, expires)
    span = None if time is None else job.clusters.span(job.table, expires, time)
    if span is None:
        return _admit(job, node, alone, measures)
    if span.begin == -math.inf:
        return _admit(job, rest, alone, measures)  # Nothing has expired yet.
    if rest is not None:
        return _admit(job, only_live(rest, span.live), alone, measures)
    known = span.recall(job)
    if known is None:
        known = _admit(job, span.live, alone, measures)
        span.learn(job, known)
    return known


def _admit(job: Job, node: FilterNode | None, alone: bool, measures: bool) -> Admission:
    clusters = job.clusters
    alive = clusters.alive_share
    if node is None:
        few = clusters.alive_total <= SCAN_ALL_MATCHES_MAX
        return _admission((None, alive, None, few, 0.0, -1))
    expected = expect(clusters, job.table, planner_of(job), node, alive)
    program, share = expected[:2]
    job.trace.expected = _costs_us(expected)
    at_once = alone or (measures and expected.every > 0)
    # Nobody is told of levels that a search in one call goes by.
    if at_once and not job.query.explain and clusters.scannable:
        admission = admit_at_once(expected)
        if admission is not None:
            return admission
    if not expected.every:
        filter_ns, counts = expected.walk_filter_ns, None
        if alone:
            counts = _listed(job, program, share, filter_ns)
        return _admission((program, share, counts, False, filter_ns, -1))
    return _everywhere(job, program, _filter_all(job, program, share, expected.filter_ns))


def admit_at_once(expected: Expected) -> Admission | None:
    """Admit by what is expected of a filter; None where it must be evaluated before the search."""
    if expected.every < 0:
        return None
    every = expected.every > 0
    filter_ns = expected.filter_ns if every else expected.walk_filter_ns
    most = int(expected.listed_most)
    return _admission((expected.program, expected.share, None, every, filter_ns, most))


Known: TypeAlias = dict[tuple[int, int, float], tuple[Admission, dict[str, float]]]
"""Admissions that queries share, with the costs found on the way; for `admit_alike`."""


def admit_alike(job: Job, known: Known, *, measures: bool) -> tuple[Admission, bool]:
    """Do as `admit` of queries that are not alone, once for those that ask alike.

    Returns
    -------
    The admission; and whether the bitmaps hold this filter's rows now, which the next query's may
    displace.

    """
    query = job.query
    # One filter that all queries have is one object.
    asked = (id(query.node), query.k, query.recall_target)
    if asked not in known:
        admission = admit(job, alone=False, measures=measures)
        if admission.scan_all or admission.counts is not None:
            return admission, True
        known[asked] = (admission, job.trace.costs_us)
    admission, job.trace.costs_us = known[asked]
    return admission, False


def admit_filtered(job: Job, admission: Admission, counts: tuple[I64, I64] | None) -> Admission:
    """Admit again a query of which not all that passes could be measured at once.

    Parameters
    ----------
    job, admission:
        The query, and what was known of its filter.
    counts:
        Sure and possible rows of every cluster, if all were filtered; the bitmaps hold these rows.

    """
    program = admission.program
    if program is None:
        raise InternalError("a query without a filter was to be filtered")
    if counts is None:
        counts = _filter_all(job, program, admission.overall, admission.filter_ns)
    return _everywhere(job, program, counts)


def trace_measured(job: Job, program: FilterProgram, matches: int) -> None:
    """Note that all matches of a filter were measured at once: how many, and what plans cost."""
    rows = job.clusters.row_count
    share = matches / max(rows, 1)
    job.trace.predicted = share
    job.trace.level("filter", rows, matches)
    job.trace.expected = partial(_costs_measured, planner_of(job), program, share)


def _costs_measured(
    planner: MatchPlanner, program: FilterProgram, share: float
) -> dict[str, float]:
    return _costs_us(planned(planner, program, share, 0.0))


def trace_admission(job: Job, admission: Admission) -> None:
    """Note what is known of a filter before the walk."""
    job.trace.predicted = admission.overall
    if admission.counts is not None:
        job.trace.level("filter", job.clusters.row_count, int(admission.counts[1].sum()))


def _costs_us(plan: MatchPlan | Expected) -> dict[str, float]:
    return {
        "walk clusters": plan.walk_ns / 1000,
        "scan all matches": plan.scan_all_ns / 1000,
    }


def _listed(
    job: Job, program: FilterProgram, share: float, filter_ns: float
) -> tuple[I64, I64] | None:
    """Filter all clusters by lists of rows, where there are any and few rows have to be asked."""
    table, bitmaps = job.table, job.bitmaps
    most = planner_of(job).listed_most(share, filter_ns, comparisons=program.comparisons)
    if most < 0:
        return None
    if table.listed:
        found = kernels.filter_listed(table, program, most, bitmaps.sure, bitmaps.possible)
        if found is not None:
            return found
    miss_lists(job, program, filter_ns)
    return None


def listed_most(job: Job, admission: Admission) -> int:
    """Return how many rows of lists may be asked in the place of a walk's filter; -1 is none.

    It is for queries that are searched in one call. What lists that there are not would have
    spared is noted.
    """
    program, share, filter_ns = admission.program, admission.overall, admission.filter_ns
    if program is None:
        return -1
    most = planner_of(job).listed_most(share, filter_ns, comparisons=program.comparisons)
    if most < 0:
        return -1
    # With several comparisons only queries asked alone note what they miss: to find out takes a
    # twentieth of a query's time in a batch, and mostly the list of one would spare nothing.
    if program.comparisons == 1 and program.asked[0].attribute not in job.table.listed:
        miss_lists(job, program, filter_ns)
    return most if job.table.listed else -1


def miss_lists(job: Job, program: FilterProgram, filter_ns: float) -> None:
    """Note what lists that there are not would have spared, if this is a miss that counts."""
    if job.clusters.listing.is_counted():
        note_missed(job.clusters, job.table, job.costs, program, filter_ns)


def note_missed(
    clusters: Clusters,
    table: ClusterTable,
    costs: CostModel,
    program: FilterProgram,
    filter_ns: float,
) -> None:
    """Note what lists that there are not would have spared."""
    rows, comparisons = clusters.row_count, program.comparisons
    expected: dict[str, float] = {}
    for leaf in program.asked:
        if leaf.attribute not in table.listed:
            passing, still_open = clusters.shares(leaf.attribute).of(leaf)
            # Half of what is open counts as passing.
            spared = filter_ns - rows * (passing + still_open / 2) * costs.listed(comparisons)
            expected[leaf.attribute] = MISSES_EACH * max(spared, 0.0)
    clusters.listing.miss(table, expected, pays_ns=costs.listing_pays(rows))


def _filter_all(
    job: Job, program: FilterProgram, share: float, filter_ns: float
) -> tuple[I64, I64]:
    """Evaluate a filter for all rows."""
    counts = _listed(job, program, share, filter_ns)
    if counts is not None:
        return counts
    every_cluster = np.arange(len(job.table.rows))
    return kernels.filter_clusters(
        job.table, program, every_cluster, job.bitmaps.sure, job.bitmaps.possible
    )


def _everywhere(job: Job, program: FilterProgram, counts: tuple[I64, I64]) -> Admission:
    """Admit what counts say; what the cells leave open is settled by the values, if it is much."""
    bitmaps, clusters = job.bitmaps, job.clusters
    sure, possible = int(counts[0].sum()), int(counts[1].sum())
    if possible - sure > UNSURE_SHARE_MAX * possible:
        # Of other clusters the bitmaps may mean nothing.
        some = counts[1] > 0
        resolve(job, np.flatnonzero(some))
        found = np.where(some, clusters.counts(bitmaps.sure), 0)
        counts, possible = (found, found), int(found.sum())
    share = possible / max(clusters.row_count, 1)
    plan = planned(planner_of(job), program, share, 0.0)
    job.trace.expected = _costs_us(plan)
    return Admission(program, share, counts, scan_all=bool(plan.scan_all))


def resolve(job: Job, clusters: I64) -> int:
    """Check the unsure rows of some clusters, int64 [c], by their values: they become sure, or go.

    Returns how many went.
    """
    bitmaps, node = job.bitmaps, job.query.node
    partition, rows = kernels.gather_rows(job.table, clusters, bitmaps.possible & ~bitmaps.sure)
    failed = 0
    numbers = distinct(partition).tolist()
    views = job.clusters.partitions
    if node is not None and len(numbers) > 1:
        prefetch_columns([views[number].attributes for number in numbers], list(asked_of(node)))
    for number in numbers:
        mine = rows[partition == number]
        passing = views[number].columns().evaluate(node, mine)
        job.clusters.settle(bitmaps, number, mine, passing)
        failed += len(mine) - int(passing.sum())
    return failed
