"""One query on one snapshot: the levels of the query plan, in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from squash.attributes import FilterNode, only_live
from squash.index.prefetch import prefetch_scan
from squash.limits import JOINT_QUERIES_MAX
from squash.model import Explanation, Match, Metric
from squash.planning import DEFAULT_COSTS, CostModel
from squash.search.filtering import exactly
from squash.search.found import Found, Query, complete, found_of
from squash.search.index_view import IndexView
from squash.search.partitions import (
    match_partitions,
    match_partitions_many,
    search_partitions,
    search_partitions_many,
)
from squash.search.trace import Trace
from squash.search.view import Rows, SegmentView
from squash.segment.exact import nearest


def live_only(
    nodes: Sequence[FilterNode | None], live: FilterNode | None
) -> Sequence[FilterNode | None]:
    """Have filters pass live records alone; None if none ever expires."""
    if live is None:
        return nodes
    # One filter that several queries have stays one object: it is prepared once.
    asked = {id(node): node for node in nodes}
    lasting = {known: only_live(node, live) for known, node in asked.items()}
    return [lasting[id(node)] for node in nodes]


def search(
    view: IndexView, query: Query, *, costs: CostModel = DEFAULT_COSTS
) -> tuple[tuple[Match, ...], Trace]:
    """Search for what a query asks.

    Parameters
    ----------
    view:
        The snapshot.
    query:
        What is asked; its vector must have the index's dimension and be finite.
    costs:
        What the steps of a search cost, by which plans are chosen.

    Returns
    -------
    Exactly min(k, rows that pass) matches, ascending by distance, ties by key; and what happened
    on the way.

    """
    trace, clusters = Trace(), None if query.exact else view.clusters
    if clusters is not None and not view.exact_rows:
        return match_partitions(view.metric, costs, clusters, query, trace), trace
    found = scan_rest(view, query, trace)
    if query.exact:
        found += _scan_partitions(view, query, trace)
    elif clusters is not None:
        found.append(search_partitions(view.metric, costs, clusters, query, trace))
    return complete(found, query, trace), trace


def search_many(
    view: IndexView, queries: Sequence[Query], *, costs: CostModel = DEFAULT_COSTS
) -> list[tuple[tuple[Match, ...], Trace]]:
    """Search for what each of several queries asks; `search` finds the same."""
    clusters = view.clusters
    if clusters is None or any(query.exact or query.explain for query in queries):
        return [search(view, query, costs=costs) for query in queries]
    if not clusters.whole and len(queries) > 1:
        return _search_jointly(view, queries, costs)
    traces = [Trace() for _ in queries]
    if not view.exact_rows:
        matches = match_partitions_many(view.metric, costs, clusters, queries, traces)
        return list(zip(matches, traces, strict=True))
    scanned = [scan_rest(view, query, trace) for query, trace in zip(queries, traces, strict=True)]
    found = search_partitions_many(view.metric, costs, clusters, queries, traces)
    return [
        (complete([*exact, near], query, trace), trace)
        for exact, near, query, trace in zip(scanned, found, queries, traces, strict=True)
    ]


def _search_jointly(
    view: IndexView, queries: Sequence[Query], costs: CostModel
) -> list[tuple[tuple[Match, ...], Trace]]:
    # What plans and gathers is loaded by who searches: a processor does neither.
    from squash.search.jointly import (  # noqa: PLC0415
        prefetch_matches,
        search_partitions_jointly,
    )

    rest = [Trace() for _ in queries]
    scanned = [scan_rest(view, query, trace) for query, trace in zip(queries, rest, strict=True)]
    near: list[tuple[Found, Trace]] = []
    for first in range(0, len(queries), JOINT_QUERIES_MAX):
        near += search_partitions_jointly(
            view, queries[first : first + JOINT_QUERIES_MAX], costs=costs
        )
    found = [[*exact, best] for exact, (best, _) in zip(scanned, near, strict=True)]
    prefetch_matches(found, queries)
    results = []
    for query, one, trace, (_, told) in zip(queries, found, rest, near, strict=True):
        told.follow(trace)
        results.append((complete(one, query, told), told))
    return results


def scan_rest(view: IndexView, query: Query, trace: Trace) -> list[Found]:
    """Search exactly what is in no partition: fresh rows and flat segments."""
    if not view.exact_rows:
        return []
    segments = [rows.reader for rows in view.exact_rows if isinstance(rows, SegmentView)]
    paged = [reader for reader in segments if not reader.reads_whole()]
    if paged:
        prefetch_scan(paged, filtered=query.node is not None)
    return [_scan(view.metric, query, rows, trace) for rows in view.exact_rows if rows.count]


def _scan_partitions(view: IndexView, query: Query, trace: Trace) -> list[Found]:
    trace.exact_partitions(len(view.partitions), len(view.trained.centers) if view.trained else 0)
    return [_scan(view.metric, query, rows, trace) for rows in view.partitions]


def _scan(metric: Metric, query: Query, rows: Rows, trace: Trace) -> Found:
    """Search rows exactly, one by one."""
    admitted = exactly(rows, query.node)
    count = rows.count if admitted is None else len(admitted)
    trace.exact_scan(rows.count, count)
    if not count:
        return Found((rows,), [], [], [])
    near, distances = nearest(metric, query.vector, rows.all_vectors(), rows=admitted, k=query.k)
    return found_of((rows,), np.zeros(len(near), dtype=np.int64), near, distances)


def explain(view: IndexView, query: Query, trace: Trace) -> Explanation:
    """Say how a query was answered."""
    return Explanation(
        plan=trace.plan,
        levels=trace.levels,
        partitions_visited=trace.partitions_visited,
        partitions_total=len(view.partitions),
        clusters_visited=trace.clusters_visited,
        clusters_total=len(view.trained.centers) if view.trained else 0,
        selectivity_predicted=trace.predicted,
        selectivity_actual=trace.passed / trace.examined if trace.examined else 0.0,
        recall_target=1.0 if query.exact else query.recall_target,
        certified=trace.certified,
        costs_us=trace.costs_us,
    )
