"""What the steps of a search cost, and the plans that follow from it.

The costs are times of one core, fitted by `bench/costs.py`; only their ratios matter for the
plans. The defaults were measured on an AMD EPYC (Zen 5) with AVX-512.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostModel:
    """Nanoseconds of one core.

    Parameters
    ----------
    filter_row:
        To look up one row's cell for one comparison of a filter, all rows in their order.
    open_row:
        To look up the value of a row whose cell leaves it open.
    low_row_dimension:
        To score a row's signs, a dimension.
    gathered_row, gathered_row_dimension:
        To score a row's full code wherever it lies: once, and a dimension.
    exact_row, exact_row_dimension:
        To measure a row's exact distance wherever it lies: once, and a dimension.
    cluster:
        To begin a cluster: its distance, its query residual.

    """

    filter_row: float = 0.05
    open_row: float = 30.0
    low_row_dimension: float = 0.005
    gathered_row: float = 12.0
    gathered_row_dimension: float = 0.06
    exact_row: float = 40.0
    exact_row_dimension: float = 0.35
    cluster: float = 90.0

    def gathered(self, dimension: int) -> float:
        """Return what a gathered row's full code costs."""
        return self.gathered_row + self.gathered_row_dimension * dimension

    def exact(self, dimension: int) -> float:
        """Return what a row's exact distance costs."""
        return self.exact_row + self.exact_row_dimension * dimension

    def share_min(self, dimension: int) -> float:
        """Return from which share of a cluster's rows on a scan of all signs is the cheaper one."""
        return min(self.low_row_dimension * dimension / self.gathered(dimension), 1.0)

    def straight_max(self, dimension: int, refined: int) -> int:
        """Return up to how many admitted rows exact distances at once cost less than codes first.

        With codes, each is gathered and `refined` are measured; without, each is measured.
        """
        exact = self.exact(dimension)
        spared = exact - self.gathered(dimension)
        return refined if spared <= 0 else int(refined * exact / spared)


DEFAULT_COSTS = CostModel()


@dataclass(frozen=True, slots=True)
class Matches:
    """What is expected of a filter and a walk.

    Parameters
    ----------
    rows, matches, open_rows:
        Rows of the index, those that pass, and those whose cells leave it open.
    comparisons:
        How many comparisons the filter has.
    clusters, clusters_needed:
        Clusters of the index, and those that a walk takes.
    dimension, refined:
        The vectors' dimension, and how many rows a walk measures.

    """

    rows: int
    matches: float
    open_rows: float
    comparisons: int
    clusters: int
    clusters_needed: float
    dimension: int
    refined: int


@dataclass(frozen=True, slots=True)
class MatchPlan:
    """How the matches of a filter are found: all of them scanned, or clusters walked."""

    scan_all: bool
    walk_ns: float
    scan_all_ns: float


def plan_matches(costs: CostModel, expected: Matches, *, always_max: int) -> MatchPlan:
    """Choose between measuring every row that passes, and walking clusters.

    To measure all, the filter is evaluated for every row; a walk evaluates it only for the rows of
    the clusters that it takes. Up to `always_max` matches all of them are measured, whatever it
    costs: then recall is certain.
    """
    filtering = expected.rows * expected.comparisons * costs.filter_row
    filtering += expected.open_rows * costs.open_row
    every = filtering + expected.matches * costs.exact(expected.dimension)
    share = min(expected.clusters_needed / max(expected.clusters, 1), 1.0)
    walk = expected.clusters_needed * costs.cluster + share * filtering
    walk += share * expected.matches * costs.gathered(expected.dimension)
    walk += expected.refined * costs.exact(expected.dimension)
    return MatchPlan(expected.matches <= always_max or every <= walk, walk, every)
