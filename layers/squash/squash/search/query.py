"""One query on one snapshot: the levels of the query plan, in order."""

from __future__ import annotations

import numpy as np

from squash.model import Explanation, Match, Metric
from squash.planning import DEFAULT_COSTS, CostModel
from squash.search.filtering import exactly
from squash.search.found import Found, Query, found_of, merge
from squash.search.index_view import IndexView
from squash.search.partitions import search_partitions
from squash.search.trace import Trace
from squash.search.view import Rows
from squash.segment.exact import nearest


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
    trace = Trace()
    found = [_scan(view.metric, query, rows, trace) for rows in view.exact_rows if rows.count]
    if query.exact:
        found += [_scan(view.metric, query, rows, trace) for rows in view.partitions]
        trace.partitions_visited = len(view.partitions)
        trace.clusters_visited = len(view.trained.centers) if view.trained else 0
    elif view.clusters is not None:
        found.append(search_partitions(view.metric, costs, view.clusters, query, trace))
    matches = merge(found, query)
    trace.level("merge", sum(len(f.rows) for f in found), len(matches))
    return matches, trace


def _scan(metric: Metric, query: Query, rows: Rows, trace: Trace) -> Found:
    """Search rows exactly, one by one."""
    admitted = exactly(rows, query.node)
    count = rows.count if admitted is None else len(admitted)
    trace.examined += rows.count
    trace.passed += count
    trace.scanned += count
    trace.vectors_read += count
    trace.level("exact scan", rows.count, count)
    if not count:
        return Found((rows,), [], [], [])
    near, distances = nearest(metric, query.vector, rows.all_vectors(), rows=admitted, k=query.k)
    return found_of((rows,), np.zeros(len(near), dtype=np.int64), near, distances)


def explain(view: IndexView, query: Query, trace: Trace) -> Explanation:
    """Say how a query was answered."""
    return Explanation(
        plan=trace.plan,
        levels=tuple(trace.levels),
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
