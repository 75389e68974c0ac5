"""How many clusters a query must visit, learned from the index itself.

The share of rows that pass a filter decides how far the k nearest of them lie: the clusters
needed grow about as selectivity^-0.43 (ALGORITHMS 7.2). So `Calibration` holds, for each recall
target and selectivity band, how many clusters held-out queries needed, and `take_clusters`
walks the clusters from the nearest on until the need is met.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, I64, U32
from squash.kernels import (
    ClusterTable,
    FilterProgram,
    SearchPlan,
    Straight,
    Taken,
    cell_of,
    cell_values,
    walk,
)
from squash.planning.scanning import Keep
from squash.values import dataclass

TARGETS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
BANDS: Final = (1.0, 0.1, 0.01, 0.001)
"""Selectivities at which an index is calibrated, descending."""

CALIBRATED_NEIGHBOURS: Final = 10
"""How many true neighbours of each held-out query calibration asks for."""

_PRIOR_ROWS = 1_024.0  # a cluster's selectivity is drawn towards the index's by this many rows
# Where fewer rows pass around the query than overall, the nearest of them lie far out. With 0.6
# descriptors of pictures far from the query miss 0.95 by a hundredth, with 0.8 they meet it, for up
# to 2.3 % more rows walked by filters that have nothing to do with the vectors (0003).
_ADVERSE_EXPONENT = 0.8
_NEED_EXPONENT = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """Clusters needed: float64 [targets, bands], in the order of TARGETS and BANDS."""

    clusters_needed: F64

    @classmethod
    def fit(cls, ranks: list[list[I64]], *, k: int, clusters: int) -> Calibration:
        """Learn from held-out queries.

        Parameters
        ----------
        ranks:
            For each band, for each query, the positions (0 is nearest) in the order of centre
            distances of the clusters that hold its true k nearest admitted rows.
        k:
            How many true neighbours each query has (fewer where fewer rows were admitted).
        clusters:
            How many clusters there are.

        """
        needed = np.full((len(TARGETS), len(BANDS)), float(clusters))
        for band, per_query in enumerate(ranks):
            measured = [r for r in per_query if len(r)]
            if not measured:
                continue
            for row, target in enumerate(TARGETS):
                needed[row, band] = _rank_for(measured, _with_margin(target, len(measured) * k))
        # More selective never needs fewer, nor does a higher target: smooth out the sample's noise.
        needed = np.maximum.accumulate(np.maximum.accumulate(needed, axis=0), axis=1)
        return cls(np.minimum(needed, clusters))

    def needed(self, recall_target: float, selectivity: F64) -> F64:
        """Return how many clusters are needed at each of the given selectivities.

        Between bands the need is a power law, between targets one in the share that may be missed.
        """
        missed = -np.log10(np.maximum(1.0 - np.array([*TARGETS, recall_target]), 1e-6))
        target = min(max(missed[-1], missed[0]), missed[-2])
        by_band = np.log(self.clusters_needed)
        y = np.array([np.interp(target, missed[:-1], column) for column in by_band.T])[::-1]
        wanted = np.log(np.clip(selectivity, BANDS[-1] / 8.0, 1.0))
        x = np.log(BANDS[::-1])
        slope = min((y[0] - y[1]) / (x[0] - x[1]), -0.3)
        beyond = y[0] + (wanted - x[0]) * slope
        return np.asarray(np.exp(np.where(wanted < x[0], beyond, np.interp(wanted, x, y))))

    def scaled(self, *, measured: int, clusters: int) -> Calibration:
        """Return what is needed among another number of clusters than it was measured among.

        Clusters are of a size, so more of them are so because there are more rows; then a query's
        nearest rows lie in a smaller part of space, but of clusters more.
        """
        factor = (clusters / max(measured, 1)) ** _NEED_EXPONENT
        return Calibration(np.clip(self.clusters_needed * factor, 1.0, max(clusters, 1)))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "targets": list(TARGETS),
            "bands": list(BANDS),
            "clusters_needed": self.clusters_needed.tolist(),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Calibration:
        """Read back what `to_json` gave; targets and bands are part of the format's version.

        Raises
        ------
        ValueError
            If it is not what `to_json` gives.

        """
        needed = np.array(value["clusters_needed"], dtype=np.float64)
        if needed.shape != (len(TARGETS), len(BANDS)) or not np.all(needed >= 1.0):
            raise ValueError(f"clusters_needed has the shape {needed.shape}, or values below 1")
        return cls(needed)


@dataclass(frozen=True, slots=True, eq=False)
class Need:
    """What a walk over clusters must meet, as tables over the kernels' grid of shares."""

    inverse: F64
    """float64 [513]: what a cluster meets of the need, by the share of rows that pass."""
    adverse: F64
    """float64 [513]: by which factor what was met counts less, by share here / share overall."""

    @classmethod
    def of(cls, calibration: Calibration, recall_target: float) -> Need:
        """Make the tables of one recall target."""
        shares = cell_values()
        return cls(
            1.0 / calibration.needed(recall_target, shares),
            np.minimum(shares, 1.0) ** _ADVERSE_EXPONENT,
        )

    def clusters(self, share: float, k: int) -> float:
        """Return how many clusters are needed where a share of the rows passes everywhere."""
        return 1.0 / self.inverse.item(cell_of(share * thinning(k)))


def thinning(k: int) -> float:
    """Return by what the share is thinned for k answers.

    The k-th nearest of all lies about as far as the tenth nearest of a share of 10/k.
    """
    return min(CALIBRATED_NEIGHBOURS / k, 1.0)


def search_plan(
    need: Need, *, k: int, keep: Keep, share_min: float, straight: Straight
) -> SearchPlan:
    """Return what a whole search of the clusters is asked: a walk, a scan, and refinement."""
    return SearchPlan(
        k=k,
        prior_rows=_PRIOR_ROWS,
        thinning=thinning(k),
        inverse_need=need.inverse,
        adverse=need.adverse,
        keep=keep.refined,
        reach=keep.reach,
        share_min=share_min,
        straight=straight,
    )


def take_clusters(
    table: ClusterTable,
    distances: F32,
    *,
    k: int,
    need: Need,
    overall: float,
    sure: U32,
    possible: U32,
    program: FilterProgram | None = None,
    counts: tuple[I64, I64] | None = None,
) -> Taken:
    """Choose clusters, nearest first, in a single pass (levels 2 and 3 of the query plan).

    Clusters are taken in ascending distance, those without possible rows left out. Each, taken or
    not, meets 1/needed(s) of the need, where s is the share of its rows that passes, or that of all
    clusters nearer than it, whichever is smaller; one with fewer passing rows than its size lets
    expect meets as much less. It goes on until the need is met and the sure
    rows of what was taken reach k, or nothing possible is left. So at least min(k, matches) rows
    are found, always; how near they are is what the calibration promises.

    Calibration knows filters that have nothing to do with the vectors. Where fewer rows pass around
    the query than elsewhere, the nearest of them lie far out, where centres tell little: the need
    grows with the ratio of the two shares.

    Parameters
    ----------
    table:
        The clusters.
    distances:
        float32 [c], the query's distance to each centre.
    k:
        How many rows are wanted.
    need:
        What was learned of the recall target.
    overall:
        The share of all rows that may pass.
    sure, possible:
        uint32 [blocks], where the bitmaps of the clusters looked at go; with `counts` they are
        there already.
    program, counts:
        A filter to evaluate on the way, or int64 [c] sure and possible rows of every cluster;
        neither if all live rows pass.

    """
    return walk(
        table,
        distances,
        program=program,
        counts=counts,
        sure=sure,
        possible=possible,
        k=k,
        overall=overall,
        prior_rows=_PRIOR_ROWS,
        thinning=thinning(k),
        inverse_need=need.inverse,
        adverse=need.adverse,
    )


def _with_margin(target: float, samples: int) -> float:
    """Aim above the target by the sampling error of a mean of `samples` hits, and a little."""
    error = np.sqrt(target * (1.0 - target) / max(samples, 1))
    return min(target + 1.5 * float(error) + 0.1 * (1.0 - target), 1.0)


def _rank_for(per_query: list[I64], target: float) -> float:
    """Return the smallest number of clusters with which the mean recall reaches `target`."""
    ranks = np.concatenate(per_query)
    weights = np.concatenate([np.full(len(r), 1.0 / len(r)) for r in per_query]) / len(per_query)
    order = np.argsort(ranks, kind="stable")
    covered = np.cumsum(weights[order])
    position = int(np.searchsorted(covered, target - 1e-9))
    return float(ranks[order[min(position, len(order) - 1)]] + 1)
