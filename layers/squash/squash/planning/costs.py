"""What the steps of a search cost, and the plans that follow from it.

The costs are times of one core, fitted by `bench/costs.py` (docs/decisions/0007); only their
ratios matter for the plans. The defaults were measured on an AMD EPYC (Zen 5) with AVX-512, 1 MiB
of second and 32 MiB of last-level cache, rows being read from memory. `SQUASH_COSTS` names a file
with those of another machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final, Self

from squash.kernels import MatchPlan, MatchPlanner, Prices, Straight
from squash.limits import SCAN_ALL_MATCHES_MAX
from squash.planning.probing import Need, thinning
from squash.planning.scanning import Keep
from squash.values import dataclass

SURVIVING_SHARE: Final = 0.1
"""About which share of the rows survives the scan of signs: that of queries, not of machines."""
# However cheap they are, no more rows than these are measured without their codes: a search keeps
# room for them, and where they lie dense a scan of signs is what they should be held against.
STRAIGHT_ROWS_MAX: Final = 4_096
UNSURE_SHARE_MAX: Final = 0.2
"""Where more than this share of possible rows is unsure, cells say too little to walk by."""

# To list a row costs some twelve times what a gathered one does. Where a quarter of that was
# missed, more will be; and should it not, little is lost.
_LISTING_PAYS: Final = 12 / 4
# An interval of numbers has two ends, each in a cell of some 250.
_OPEN_SHARE: Final = 2 / 250
# What a matrix's value took, in files of when all rotations were matrices.
_MATRIX_COST: Final = "rotated_value"


@dataclass(frozen=True, slots=True)
class CostModel:
    """Nanoseconds of one core.

    Parameters
    ----------
    filter_row:
        To look up one row's cell for one comparison of a filter, all rows in their order.
    open_row:
        To look up the value of a row whose cell leaves it open.
    rotated_dimension:
        To rotate a query: a dimension.
    center_value:
        To measure a query's distance to a center: a dimension.
    cluster, cluster_dimension:
        To take a cluster and see the query from its center: once, and a dimension.
    low_row, low_row_dimension:
        To score a row's signs, clusters lying anywhere: once, and a dimension.
    gathered_row, gathered_row_dimension:
        To score a row's full code wherever it lies: once, and a dimension.
    exact_row, exact_row_dimension:
        To measure a row's exact distance wherever it lies: once, and a dimension.

    The defaults lie near the geometric means of what two machines take, one of AMD and one of
    Intel (decision 0007).

    """

    filter_row: float = 0.073
    open_row: float = 27.0
    rotated_dimension: float = 6.0
    center_value: float = 0.062
    cluster: float = 310.0
    cluster_dimension: float = 0.78
    low_row: float = 0.4
    low_row_dimension: float = 0.0032
    gathered_row: float = 11.0
    gathered_row_dimension: float = 0.056
    exact_row: float = 30.0
    exact_row_dimension: float = 0.38

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave.

        Raises
        ------
        ValueError
            If a name is unknown or missing, or a value is not a finite number above 0. Costs of
            two machines mean nothing side by side, so that none may be left out; but for what it
            takes to rotate a query, of which older files have another measure.

        """
        if _MATRIX_COST in value:
            kept = {name: cost for name, cost in value.items() if name != _MATRIX_COST}
            value = {"rotated_dimension": cls().rotated_dimension, **kept}
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - names):
            raise ValueError(f"{unknown[0]!r} is no cost: they are {', '.join(sorted(names))}")
        if missing := sorted(names - set(value)):
            raise ValueError(f"{missing[0]!r} is missing: measure all of them")
        for name, cost in value.items():
            known = isinstance(cost, int | float) and not isinstance(cost, bool)
            if not known or not 0 < cost < math.inf:
                raise ValueError(f"{name} is a number of nanoseconds above 0, not {cost!r}")
        return cls(**{name: float(cost) for name, cost in value.items()})

    def to_json(self) -> dict[str, float]:
        """Return JSON values."""
        return asdict(self)

    def listed(self, comparisons: int) -> float:
        """Return what a row of a list costs that is asked a filter's comparisons.

        A cell lies wherever the row does, as a gathered row's code; and so do its bits.
        """
        return self.gathered_row * (1 + comparisons)

    def listing_pays(self, rows: int) -> float:
        """Return how much lists must have spared before one is made."""
        return _LISTING_PAYS * rows * self.gathered_row

    def preparation(self, dimension: int, clusters: int) -> float:
        """Return what it costs to rotate a query and measure its distances to all centers."""
        return (self.rotated_dimension + self.center_value * clusters) * dimension

    def begun(self, dimension: int) -> float:
        """Return what a cluster costs before the first of its rows."""
        return self.cluster + self.cluster_dimension * dimension

    def signs(self, dimension: int) -> float:
        """Return what a row's signs cost, of a cluster that is scanned."""
        return self.low_row + self.low_row_dimension * dimension

    def gathered(self, dimension: int) -> float:
        """Return what a gathered row's full code costs."""
        return self.gathered_row + self.gathered_row_dimension * dimension

    def exact(self, dimension: int) -> float:
        """Return what a row's exact distance costs."""
        return self.exact_row + self.exact_row_dimension * dimension

    def share_min(self, dimension: int) -> float:
        """Return from which share of a cluster's rows on a scan of all signs is the cheaper one.

        The scan pays for the signs of all rows, and for the codes of those admitted that survive.
        """
        spared = (1.0 - SURVIVING_SHARE) * self.gathered(dimension)
        return min(self.signs(dimension) / spared, 1.0)

    def straight(self, dimension: int, refined: int) -> Straight:
        """Return up to how many admitted rows exact distances at once cost less than codes first.

        With codes, the query is seen from each cluster, each row is gathered, and `refined` are
        measured; without, each is measured.
        """
        most = max(STRAIGHT_ROWS_MAX, refined)
        spared = self.exact(dimension) - self.gathered(dimension)
        if spared <= 0:
            return Straight(most, float(most), 0.0)
        refining = refined * self.exact(dimension)
        return Straight(most, refining / spared, self.begun(dimension) / spared)


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


def plan_matches(costs: CostModel, expected: Matches, *, always_max: int) -> MatchPlan:
    """Choose between measuring every row that passes, and walking clusters.

    To measure all, the filter is evaluated for every row; a walk evaluates it only for the rows of
    the clusters that it takes. Up to `always_max` matches all of them are measured, whatever it
    costs: then recall is certain.
    """
    prices = prices_of(
        costs,
        rows=expected.rows,
        clusters=expected.clusters,
        dimension=expected.dimension,
        refined=expected.refined,
    )
    return prices.plan(
        expected.matches,
        expected.open_rows,
        comparisons=expected.comparisons,
        clusters_needed=expected.clusters_needed,
        always_most=always_max,
    )


def prices_of(
    costs: CostModel, *, rows: int, clusters: int, dimension: int, refined: int
) -> Prices:
    """Return what is the same for all filters of an index; see `Matches`."""
    return Prices(
        rows=rows,
        clusters=clusters,
        refined=refined,
        filter_row=costs.filter_row,
        open_row=costs.open_row,
        exact=costs.exact(dimension),
        preparation=costs.preparation(dimension, clusters),
        begun=costs.begun(dimension),
        signs=costs.signs(dimension),
        gathered=costs.gathered(dimension),
        listed=costs.listed(0),
        surviving=SURVIVING_SHARE,
    )


def planner_of(
    costs: CostModel,
    keep: Keep,
    need: Need,
    *,
    k: int,
    rows: int,
    clusters: int,
    dimension: int,
    lists: bool,
    whole: bool,
) -> MatchPlanner:
    """Return what plans filters of an index that are asked for k answers at one recall.

    Parameters
    ----------
    costs:
        What steps cost.
    keep, need:
        How far codes are trusted, and what a walk must meet.
    k:
        How many answers are wanted.
    rows, clusters, dimension:
        Those of the index.
    lists, whole:
        As for `MatchPlanner`.

    """
    prices = prices_of(
        costs, rows=rows, clusters=clusters, dimension=dimension, refined=keep.refined
    )
    return MatchPlanner(
        prices,
        walked=need.walked,
        thinning=thinning(k),
        open_least=_OPEN_SHARE,
        always_most=SCAN_ALL_MATCHES_MAX,
        unsure_most=UNSURE_SHARE_MAX,
        lists=lists,
        whole=whole,
    )
