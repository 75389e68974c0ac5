"""Makes searches go by the codes, however few rows there are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from squash.kernels import MatchPlanner, SearchPlan, Straight
from squash.planning import CostModel
from squash.search import LocalSearcher
from squash.search.clusters import Clusters

_search_plan = Clusters.search_plan
_planner = Clusters.planner
_search_one = LocalSearcher.search_one


@contextmanager
def codes_only() -> Iterator[None]:
    """Let no plan measure rows without ranking them by their codes first."""
    with (
        patch.object(Clusters, "planner", _walking),
        patch("squash.planning.costs.SCAN_ALL_MATCHES_MAX", -1),
        patch.object(CostModel, "straight", lambda *_: Straight(-1, 0.0, 0.0)),
        patch.object(Clusters, "search_plan", _planned_anew),
        patch.object(LocalSearcher, "search_one", _searched_anew),
    ):
        yield


def _walking(clusters: Clusters, *given: Any) -> MatchPlanner:
    """Plan as where vectors come page by page: then no more are measured than always are, none."""
    kept, clusters._planners = clusters._planners, {}
    try:
        with patch.object(clusters, "whole", new=False):
            return _planner(clusters, *given)
    finally:
        clusters._planners = kept


def _planned_anew(clusters: Clusters, *given: Any) -> SearchPlan:
    """Neither use a plan that was made elsewhere, nor leave one."""
    kept, clusters._plans = clusters._plans, {}
    try:
        return _search_plan(clusters, *given)
    finally:
        clusters._plans = kept


def _searched_anew(searcher: LocalSearcher, *given: Any) -> Any:
    """Do the same with what is kept for the next query."""
    searcher._last = None
    try:
        return _search_one(searcher, *given)
    finally:
        searcher._last = None
