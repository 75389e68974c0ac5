"""Who answers queries on a snapshot: this process by itself, or one that calls others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from squash.arrays import AnyArray
from squash.attributes import FilterNode
from squash.model import Match
from squash.planning import DEFAULT_COSTS, CostModel
from squash.search.at_once import AtOnce, Told, at_once_of
from squash.search.found import Query
from squash.search.index_view import IndexView
from squash.search.query import search, search_many
from squash.search.trace import Trace


class Searcher(Protocol):
    """Answers queries on one snapshot."""

    def search(
        self, view: IndexView, queries: Sequence[Query]
    ) -> list[tuple[tuple[Match, ...], Trace]]:
        """Return the matches of each query, and what happened on the way.

        Raises
        ------
        UnavailableError
            If part of the index could not be searched, or not in time, and a query does not allow
            for that.

        """
        ...


class LocalSearcher:
    """Searches in this process.

    Parameters
    ----------
    costs:
        What the steps of a search cost on this machine; plans are chosen by it.

    """

    def __init__(self, costs: CostModel = DEFAULT_COSTS) -> None:
        self._costs = costs
        # Mostly a query asks what the one before it asked, of the same snapshot.
        self._last: AtOnce | None = None

    def search(
        self, view: IndexView, queries: Sequence[Query]
    ) -> list[tuple[tuple[Match, ...], Trace]]:
        """Return the matches of each query; what is begun is finished, whatever the deadline."""
        if len(queries) > 1:
            return search_many(view, queries, costs=self._costs)
        return [self._search(view, query) for query in queries]

    def _search(self, view: IndexView, query: Query) -> tuple[tuple[Match, ...], Trace]:
        at_once = self._at_once(view, query)
        if at_once is None:
            return search(view, query, costs=self._costs)
        matches, told = at_once.search(query.vector, query.node)
        return matches, told if isinstance(told, Trace) else told()

    def search_one(
        self, view: IndexView, vector: AnyArray, node: FilterNode | None, options: Query
    ) -> tuple[tuple[Match, ...], Told] | None:
        """Search for an array and filter, and what else options ask; None where `search` must.

        That is where the array may be no vector that the index takes, and where the time, or the
        number of matches, is limited, too: who searches so has to look at these.
        """
        if options.deadline_ms is not None or options.matches_max is not None:
            return None
        at_once = self._at_once(view, options)
        return None if at_once is None else at_once.search_unchecked(vector, node)

    def _at_once(self, view: IndexView, options: Query) -> AtOnce | None:
        last = self._last
        if last is None or not last.serves(view, options):
            # What is kept for the next query holds nothing of this one.
            last = self._last = at_once_of(view, options.alike(), self._costs)
        return last
