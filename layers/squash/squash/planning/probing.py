"""How many clusters a query must visit, learned from the index itself.

The share of rows that pass a filter decides how far the k nearest of them lie: the clusters
needed grow about as selectivity^-0.43 (ALGORITHMS 7.2). So `Calibration` holds, for each recall
target and selectivity band, what held-out queries needed, and `take_clusters` walks the clusters
from the nearest on until the need is met. Not all queries need as much: of one that lies close to
the nearest center others are far, and few clusters hold what is near. So a cluster counts the more,
the farther it is compared with the anchor (`kernels.walk`), where distances are squares. Of rows of
length one, a cluster is as far as its rows are on average, where that makes walks shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, I64, U32
from squash.kernels import (
    FARTHEST,
    UNANCHORED,
    ClusterTable,
    FilterProgram,
    SearchPlan,
    Straight,
    Taken,
    cell_of,
    cell_values,
    walk,
)
from squash.planning.recall import TARGETS, between_targets, least_for, with_margin
from squash.planning.scanning import Keep, Kept, keep_for
from squash.values import dataclass

BANDS: Final = (1.0, 0.1, 0.01, 0.001)
"""Selectivities at which an index is calibrated, descending."""

CALIBRATED_NEIGHBOURS: Final = 10
"""How many true neighbours of each held-out query calibration asks for."""

EXPONENTS: Final = (0, 1, 2, 3, 4)
"""By which far clusters may count more; calibration takes that of the shortest walks."""

_USUAL = (0.9, 0.99)  # targets by whose walks exponents are compared
_PRIOR_ROWS = 1_024.0  # a cluster's selectivity is drawn towards the index's by this many rows
# Where fewer rows pass around the query than overall, the nearest of them lie far out. With 0.6
# descriptors of pictures far from the query miss 0.95 by a hundredth, with 0.8 they meet it, for up
# to 2.3 % more rows walked by filters that have nothing to do with the vectors (0003).
_ADVERSE_EXPONENT = 0.8
_NEED_EXPONENT = 0.5


@dataclass(frozen=True, slots=True)
class Weighted:
    """What a walk needs where far clusters count more, float64 [targets, bands] each.

    `needed` is what the clusters must count together, and `walked` how many that were on average.
    With the exponent 0 they count alike. `against` is float64 [targets], how many times as much is
    needed without a query's own region, at least 1; None where that was not measured.
    """

    exponent: int
    needed: F64
    walked: F64
    against: F64 | None = None

    @classmethod
    def fit(
        cls,
        exponent: int,
        weights: list[list[F64]],
        curves: list[F64],
        grid: I64,
        *,
        k: int,
        clusters: int,
        away: list[F64] | None = None,
    ) -> Weighted:
        """Learn from held-out queries.

        Parameters
        ----------
        exponent:
            What they were counted by.
        weights:
            For each band, for each query, what the clusters count together from the nearest on up
            to each of those that hold its true k nearest admitted rows.
        curves:
            For each band, float64 [q, g], what the nearest `grid` clusters count together.
        grid:
            int64 [g], numbers of clusters, ascending from 1 to all of them.
        k:
            How many true neighbours each query has (fewer where fewer rows were admitted).
        clusters:
            How many clusters there are.
        away:
            As one of `weights` where all rows pass but those of the query's own region, whose
            clusters do not count; None where that was not measured.

        """
        needed = _needs(weights, k=k, most=_heaviest(clusters))
        walked = np.full(needed.shape, float(clusters))
        for band, (own, curve) in enumerate(zip(weights, curves, strict=True)):
            measured = np.flatnonzero([len(one) > 0 for one in own])
            if len(measured):
                # A walk takes whole clusters: as many as together count so much at least.
                least = needed[:, band]
                taken = [np.ceil(np.interp(least, curve[q], grid) - 1e-6) for q in measured]
                walked[:, band] = [np.mean(column) for column in np.array(taken).T.copy()]
        against = None
        if away is not None and any(len(one) for one in away):
            more = _needs([away], k=k, most=_heaviest(clusters))[:, 0] / needed[:, 0]
            against = np.maximum(more, 1.0)
        return cls(exponent, needed, _monotone(walked), against)

    def cost(self) -> float:
        """Return how many clusters walks take, the mean over bands and usual targets, as a log."""
        usual = [row for row, target in enumerate(TARGETS) if _USUAL[0] <= target <= _USUAL[1]]
        return float(np.log(self.walked[usual]).mean())

    def scaled(self, factor: float, *, clusters: int) -> Weighted:
        """Return what is needed among `clusters`, where `factor` times as many clusters are."""
        return Weighted(
            self.exponent,
            np.clip(self.needed * factor, 1.0, _heaviest(max(clusters, 1))),
            np.clip(self.walked * factor, 1.0, max(clusters, 1)),
            self.against,
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a walk needs: `clusters_needed` float64 [targets, bands], all counting alike.

    Targets and bands are in the order of TARGETS and BANDS. `weighted` is None for distances that
    are no squares, and in indexes of earlier releases.
    """

    clusters_needed: F64
    weighted: Weighted | None = None
    spread: Weighted | None = None
    """What it needs where a cluster is as far as its rows are on average (`unit_spreads`), if walks
    are shorter so: they go by this then, and those of earlier releases by the others."""
    kept: Kept | None = None
    """How many rows must pass from the codes to the exact distances, where that was measured."""
    against: F64 | None = None
    """As of `Weighted`, where walks go by `clusters_needed`."""

    @classmethod
    def best(
        cls,
        ways: Sequence[Weighted],
        *,
        spread: Sequence[Weighted] = (),
        clusters: int,
        kept: Kept | None = None,
    ) -> Calibration:
        """Choose the way to count with the shortest walks.

        Parameters
        ----------
        ways:
            Those by distances to centers; of the first the exponent is 0.
        spread:
            And by distances to rows.
        clusters:
            How many there are.
        kept:
            How many rows must be kept.

        """
        best = min(ways, key=Weighted.cost)
        plain = np.minimum(ways[0].needed, clusters)
        shorter = min(spread, key=Weighted.cost, default=best)
        return cls(
            plain,
            best if best.exponent else None,
            shorter if shorter.cost() < best.cost() else None,
            kept,
            ways[0].against,
        )

    @property
    def walked_by(self) -> Weighted | None:
        """By what walks go; None where all clusters count alike, by distances to centers."""
        return self.spread if self.spread is not None else self.weighted

    def keep(self, k: int, recall_target: float) -> Keep:
        """Return how many rows are to be kept for k answers."""
        if self.kept is None:
            return keep_for(k, recall_target)
        return self.kept.keep(k, recall_target)

    def needed(self, recall_target: float, selectivity: F64) -> F64:
        """Return float64 [n], how many clusters are needed at each of n selectivities, 0 to 1.

        Between bands the need is a power law, between targets one in the share that may be missed.
        """
        return _between(self.clusters_needed, recall_target, selectivity)

    def scaled(self, *, measured: int, clusters: int) -> Calibration:
        """Return what is needed among another number of clusters than it was measured among.

        Clusters are of a size, so more of them are so because there are more rows; then a query's
        nearest rows lie in a smaller part of space, but of clusters more.
        """
        factor = (clusters / max(measured, 1)) ** _NEED_EXPONENT
        weighted, spread = (
            None if one is None else one.scaled(factor, clusters=clusters)
            for one in (self.weighted, self.spread)
        )
        needed = np.clip(self.clusters_needed * factor, 1.0, max(clusters, 1))
        return Calibration(needed, weighted, spread, self.kept, self.against)

    def need_against(self, recall_target: float) -> float:
        """Return how many times as much is needed where a filter leaves out the query's region."""
        weighted = self.walked_by
        against = self.against if weighted is None else weighted.against
        if against is None:
            return 1.0
        return float(np.exp(between_targets(np.log(against)[:, None], recall_target)[0]))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        made: dict[str, Any] = {
            "targets": list(TARGETS),
            "bands": list(BANDS),
            "clusters_needed": self.clusters_needed.tolist(),
        }
        for name, one in (("weighted", self.weighted), ("spread", self.spread)):
            if one is not None:
                made[name] = {
                    "exponent": one.exponent,
                    "needed": one.needed.tolist(),
                    "walked": one.walked.tolist(),
                }
                if one.against is not None:
                    made[name]["against"] = one.against.tolist()
        if self.against is not None:
            made["against"] = self.against.tolist()
        if self.kept is not None:
            made["kept"] = self.kept.to_json()
        return made

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Calibration:
        """Read back what `to_json` gave; targets and bands are part of the format's version.

        Raises
        ------
        ValueError
            If it is not what `to_json` gives.

        """
        return cls(
            _table(value["clusters_needed"], "clusters_needed"),
            _weighted(value, "weighted", EXPONENTS[1:]),
            _weighted(value, "spread", EXPONENTS),
            Kept.from_json(value["kept"]) if value.get("kept") is not None else None,
            _against(value),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Need:
    """What a walk over clusters must meet, as tables over the kernels' grid of shares."""

    inverse: F64
    """float64 [513]: what a cluster meets of the need, by the share of rows that pass."""
    adverse: F64
    """float64 [513]: by which factor what was met counts less, by share here / share overall."""
    walked: F64
    """float64 [513]: how many clusters are expected to meet it, by the share of rows that pass."""
    exponent: int
    """By which power of how far they are far clusters count more; 0 if they do not."""
    against: float
    """How many times as much is needed at most where a filter leaves out what is around a query."""

    @classmethod
    def of(cls, calibration: Calibration, recall_target: float) -> Need:
        """Make the tables of one recall target."""
        shares = cell_values()
        needed = walked = calibration.needed(recall_target, shares)
        weighted = calibration.walked_by
        if weighted is not None:
            needed = _between(weighted.needed, recall_target, shares)
            walked = _between(weighted.walked, recall_target, shares)
        return cls(
            1.0 / needed,
            np.minimum(shares, 1.0) ** _ADVERSE_EXPONENT,
            walked,
            0 if weighted is None else weighted.exponent,
            calibration.need_against(recall_target),
        )

    def clusters(self, share: float, k: int) -> float:
        """Return how many clusters are needed where a share of the rows passes everywhere."""
        return self.walked.item(cell_of(share * thinning(k)))

    def anchor_rows(self, k: int) -> int:
        """Return with how many rows that may pass a walk for k reaches its anchor."""
        return max(k, CALIBRATED_NEIGHBOURS) if self.exponent or self.against > 1 else UNANCHORED


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
        need_against=need.against,
        anchor_rows=need.anchor_rows(k),
        exponent=need.exponent,
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
    expect meets as much less, and one beyond the anchor more, the farther it is. It goes on until
    the need is met and the sure rows of what was taken reach k, or nothing possible is left. So
    at least min(k, matches) rows are found, always; how near they are is what calibration promises.

    Calibration knows filters that have nothing to do with the vectors. Where fewer rows pass around
    the query than elsewhere, the nearest of them lie far out, where centres tell little: the need
    grows with the ratio of the two shares. Where hardly any pass before the anchor, it grows up to
    what held-out queries needed whose own regions were left out.

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
        need_against=need.against,
        anchor_rows=need.anchor_rows(k),
        exponent=need.exponent,
    )


def _needs(counts: Sequence[Sequence[F64]], *, k: int, most: float) -> F64:
    """Return float64 [targets, n]: for each of n bands, what reaches a target.

    `counts` is, for each band, for each query, what reaches each of its true rows.
    """
    needed = np.full((len(TARGETS), len(counts)), most)
    for band, per_query in enumerate(counts):
        measured = [one for one in per_query if len(one)]
        if not measured:
            continue
        targets = [with_margin(target, len(measured) * k) for target in TARGETS]
        needed[:, band] = least_for(measured, targets)
    return np.minimum(_monotone(needed), most)


def _monotone(needed: F64) -> F64:
    """More selective never needs less, nor does a higher target: smooth out the sample's noise."""
    return np.asarray(np.maximum.accumulate(np.maximum.accumulate(needed, axis=0), axis=1))


def _between(table: F64, recall_target: float, selectivity: F64) -> F64:
    y = between_targets(np.log(table), recall_target)[::-1]
    wanted = np.log(np.clip(selectivity, BANDS[-1] / 8.0, 1.0))
    x = np.log(BANDS[::-1])
    slope = min((y[0] - y[1]) / (x[0] - x[1]), -0.3)
    beyond = y[0] + (wanted - x[0]) * slope
    return np.asarray(np.exp(np.where(wanted < x[0], beyond, np.interp(wanted, x, y))))


def _heaviest(clusters: int) -> float:
    """Return what so many clusters count at most."""
    return clusters * FARTHEST**3


def _table(value: Any, name: str) -> F64:
    found = np.array(value, dtype=np.float64)
    if found.shape != (len(TARGETS), len(BANDS)) or not np.all(found >= 1.0):
        raise ValueError(f"{name} has the shape {found.shape}, or values below 1")
    return found


def _weighted(value: dict[str, Any], name: str, exponents: Sequence[int]) -> Weighted | None:
    found = value.get(name)
    if found is None:
        return None
    exponent = found["exponent"]
    if exponent not in exponents:
        raise ValueError(f"the exponent of {name} is {exponent}, not one of {tuple(exponents)}")
    return Weighted(
        int(exponent),
        _table(found["needed"], f"{name} needed"),
        _table(found["walked"], f"{name} walked"),
        _against(found),
    )


def _against(value: dict[str, Any]) -> F64 | None:
    if value.get("against") is None:
        return None
    found = np.array(value["against"], dtype=np.float64)
    if found.shape != (len(TARGETS),) or not np.all(found >= 1.0):
        raise ValueError(f"against has the shape {found.shape}, or values below 1")
    return found
