"""The coordinator's searcher: this process, processors, or a tree, whichever pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from squash.limits import QUERY_TIMEOUT_MS
from squash.model import Match
from squash.planning import DEFAULT_COSTS, CostModel, Matches
from squash.planning.shape import (
    DEFAULT_SHAPE_COSTS,
    NONE,
    Load,
    Shape,
    ShapeCosts,
    choose_shape,
    work_of,
)
from squash.planning.tree import Place
from squash.search.calls import Calling
from squash.search.clusters import Clusters
from squash.search.found import Found, Query, complete
from squash.search.index_view import IndexView
from squash.search.node_work import QueryWork, Result
from squash.search.query import scan_rest
from squash.search.searcher import LocalSearcher
from squash.search.trace import Trace
from squash.search.tree import answer_node
from squash.values import dataclass

# Before a filter is looked up nobody knows how many rows it admits; this many is what matters
# least: fewer are measured at once, of more a walk meets enough.
_FILTERED_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is there to call.

    Parameters
    ----------
    slots:
        Among which partitions are divided; all functions must have the same.
    vcpus:
        Cores of each function.
    retained_bytes:
        What this process can retain.
    shape:
        Who answers, whatever it costs: for benchmarks. Without it, what pays.
    costs:
        What calls cost.

    """

    slots: tuple[str, ...]
    vcpus: float
    retained_bytes: int
    shape: Shape | None = None
    costs: ShapeCosts = DEFAULT_SHAPE_COSTS


class DistributedSearcher:
    """Answers queries by itself, or by calling others; the answers are the same to the bit.

    Parameters
    ----------
    calling:
        With what it calls.
    fleet:
        What is there to call.
    costs:
        What the steps of a search cost; plans are chosen by it, here and in the allocators.

    """

    def __init__(self, calling: Calling, fleet: Fleet, *, costs: CostModel = DEFAULT_COSTS) -> None:
        self._calling = calling
        self._fleet = fleet
        self._costs = costs
        self._local = LocalSearcher(costs)

    def search(
        self, view: IndexView, queries: Sequence[Query]
    ) -> list[tuple[tuple[Match, ...], Trace]]:
        """Return the matches of each query, and what happened on the way.

        All queries share one deadline, the earliest of theirs, and partial answers are taken only
        if all allow for them.

        Raises
        ------
        PartialAnswerError
            If part of the index could not be searched, and a query does not allow for that.
        SquashError
            As `answer_node`.

        """
        shape = self.shape_for(view, queries)
        if shape.kind == "none":
            return self._local.search(view, queries)
        clock = self._calling.clock
        deadlines = [query.deadline_ms for query in queries if query.deadline_ms is not None]
        deadline_ms = min(deadlines, default=clock.now_ms() + QUERY_TIMEOUT_MS)
        allow_partial = all(query.allow_partial for query in queries)
        caller = self._calling.caller(deadline_ms, allow_partial=allow_partial)
        work = QueryWork(view, self._fleet.slots, self._costs, allow_partial=allow_partial)
        rest: list[tuple[list[Found], Trace]] = []

        def search_rest() -> None:
            for query in queries:
                trace = Trace()
                rest.append((scan_rest(view, query, trace), trace))

        found = answer_node(caller, work, Place(shape.tree), queries, meanwhile=search_rest)
        results = [
            _completed(query, scanned, near)
            for query, scanned, near in zip(queries, rest, found, strict=True)
        ]
        results[0][1].spent = caller.total()
        return results

    def shape_for(self, view: IndexView, queries: Sequence[Query]) -> Shape:
        """Return who is to answer."""
        clusters = view.clusters
        if clusters is None or view.entry is None or not queries or not self._fleet.slots:
            return NONE
        if self._fleet.shape is not None:
            return self._fleet.shape
        return choose_shape(self._load(view, clusters, queries), self._fleet.costs)

    def _load(self, view: IndexView, clusters: Clusters, queries: Sequence[Query]) -> Load:
        plan_ms, scan_ms = work_of(self._costs, _expected(clusters, queries))
        return Load(
            queries=len(queries),
            plan_ms=plan_ms,
            scan_ms=scan_ms,
            index_bytes=view.searched_bytes,
            retained_bytes=self._fleet.retained_bytes,
            partitions=len(view.partitions),
            slots=len(self._fleet.slots),
            vcpus=self._fleet.vcpus,
        )


def _expected(clusters: Clusters, queries: Sequence[Query]) -> Matches:
    """Return what is expected of a query; they are taken to be like the first of those filtered."""
    query = next((one for one in queries if one.node is not None), queries[0])
    rows, count = clusters.row_count, len(clusters.trained.centers)
    share = 1.0 if query.node is None else _FILTERED_SHARE
    if query.exact:
        needed = float(count)
    else:
        needed = clusters.need(query.recall_target).clusters(share, query.k)
    return Matches(
        rows=rows,
        matches=rows * share,
        open_rows=0.0,
        comparisons=0 if query.node is None else 1,
        clusters=count,
        clusters_needed=needed,
        dimension=clusters.trained.codec.dimension,
        refined=clusters.keep(query.k, query.recall_target).refined,
    )


def _completed(
    query: Query, rest: tuple[list[Found], Trace], near: Result
) -> tuple[tuple[Match, ...], Trace]:
    """Merge what was found elsewhere with what is in no partition."""
    scanned, scan = rest
    found, trace = near
    trace.follow(scan)
    return complete([*scanned, found], query, trace), trace
