"""Learning, from the index's own rows, how many clusters a query must visit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from squash.arrays import F32, F64, I64, Mask, distinct
from squash.kernels import ratios_beyond
from squash.maintain.centers import center_distances, nearest_centers
from squash.planning import (
    BANDS,
    CALIBRATED_NEIGHBOURS,
    EXPONENTS,
    Calibration,
    Kept,
    Weighted,
)
from squash.quantize import Space
from squash.values import dataclass

# Rows compared with all queries at once: few enough that their distances stay in cache.
_CHUNK_ROWS = 2_048
# Below this share of |x|^2 + |q|^2 a squared distance is zero but for rounding, and below this one
# of |x||q| inner products are alike.
_SAME = 1e-6
# Distances of queries to all centres that are held at once, in values: 64 MiB.
_RANKED_VALUES_MAX = 1 << 24
# What clusters count together is kept at so many ranks an octave.
_GRID = 8
# The nearest of so many clusters are a query's own region: one in so many, but one at least.
_OWN_SHARE = 20


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest rows of held-out queries among some rows: how far, and in which cluster.

    Both are [n, q, k], ascending by distance, of equal ones the first seen first: so what was
    found among some rows and among others gives, joined, what would be found among all.
    `distances` is float32, infinite where there is none, `clusters` int64, -1 there. There is one
    of n for each band, and one more of all rows but those of a query's own region; it is missing
    where an earlier release found them.
    """

    distances: F32
    clusters: I64

    @classmethod
    def none(cls, queries: int) -> Neighbours:
        """Return those among no rows."""
        shape = (len(BANDS) + 1, queries, CALIBRATED_NEIGHBOURS)
        return cls(np.full(shape, np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int64))

    @property
    def away(self) -> bool:
        """Whether there are those beyond the query's own region."""
        return len(self.distances) > len(BANDS)

    def joined(self, later: Neighbours, *, clusters: int) -> Neighbours:
        """Return the nearest of these and others, whose clusters are numbered after `clusters`."""
        if self.away != later.away:
            return self.of_bands().joined(later.of_bands(), clusters=clusters)
        owners = np.where(later.clusters >= 0, later.clusters + clusters, -1)
        distances = np.concatenate((self.distances, later.distances), axis=2)
        every = np.concatenate((self.clusters, owners), axis=2)
        best = np.argsort(distances, axis=2, kind="stable")[:, :, :CALIBRATED_NEIGHBOURS]
        return Neighbours(
            np.take_along_axis(distances, best, axis=2), np.take_along_axis(every, best, axis=2)
        )

    def of_bands(self) -> Neighbours:
        """Return those of the bands alone."""
        return Neighbours(self.distances[: len(BANDS)], self.clusters[: len(BANDS)])


class Itself:
    """Finds the rows that held-out queries are themselves.

    Parameters
    ----------
    queries, own:
        float32 [q, D], as queries and as projected rows.
    space:
        "l2" or "dot".

    """

    def __init__(self, queries: F32, own: F32, space: Space) -> None:
        self._space = space
        self._squares: F32 = np.einsum("ij,ij->i", queries, queries)
        self._products: F32 = np.einsum("ij,ij->i", queries, own)

    def among(self, distances: F32, squares: F32, query: I64) -> Mask:
        """Tell of distances of rows to queries which are a query's to itself, but for rounding.

        Parameters
        ----------
        distances:
            float32 of any shape.
        squares, query:
            The rows' squares, and the queries' numbers, int64, of shapes that fit it.

        """
        if self._space == "l2":
            return distances <= _SAME * (squares + self._squares[query])
        away = np.abs(distances + self._products[query])
        lengths = np.sqrt(squares) * np.sqrt(self._squares[query])
        return np.asarray(away <= _SAME * lengths)


class NeighbourCollector:
    """Collects the true nearest rows of held-out queries while a build passes the rows by.

    For every selectivity band a random share of the rows is admitted; each query's nearest
    admitted rows are found by brute force, and the clusters that hold them remembered. So are those
    of the nearest rows beyond the query's own region, the clusters around it.

    Parameters
    ----------
    queries:
        float32 [q, D], rows of the index as queries; see `learning.held_out`.
    own:
        float32 [q, D], the same as projected rows: what is as far as one of these is the query
        itself, and is not counted.
    space:
        "l2" or "dot", as the codec has it.
    centers:
        float32 [c, D], about those of the clusters to come: they tell how far regions reach.
    seed:
        Decides, with where rows lie, which of them each band admits.

    """

    def __init__(self, queries: F32, *, own: F32, space: Space, centers: F32, seed: int) -> None:
        self._queries = queries
        self._regions = own_regions(queries, centers, space=space)
        self._itself = Itself(queries, own, space)
        self._space = space
        self._seed = seed
        # A row's product with these, and its square where that counts, is its distance but for
        # the query's own square, which changes no order.
        self._factors: F32 = -queries if space == "dot" else -2 * queries
        squares = np.einsum("ij,ij->i", queries, queries)
        self._squares: F32 = np.zeros_like(squares) if space == "dot" else squares
        none = Neighbours.none(len(queries))
        self._distances = none.distances
        self._clusters = none.clusters

    def add(
        self, projected: F32, clusters: I64, *, centers: F32, first: int, place: Sequence[int]
    ) -> None:
        """Look at some rows.

        Parameters
        ----------
        projected:
            float32 [n, D].
        clusters:
            int64 [n], the cluster of each, a place in `centers`.
        centers:
            float32 [c, D], those of some clusters.
        first:
            The number of the first of these among all.
        place:
            What says where they lie, such as (bucket, part): no other rows have it. Which rows are
            admitted depends on it, not on those that were seen before.

        """
        order = admission(self._seed, place, len(projected))
        near = center_distances(self._queries, centers, self._space) <= self._regions[:, None]
        owning = np.flatnonzero(near.any(axis=1))
        owns = near[owning]
        for start in range(0, len(projected), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            # What a band admits are the first rows in this order.
            places = np.argsort(order[part], kind="stable")
            counts = np.searchsorted(order[part][places], BANDS)
            rows = projected[part][places]
            squares = np.einsum("ij,ij->i", rows, rows)
            partial = _measure(self._factors, rows, squares, self._space)
            member = clusters[part][places]
            for band, count in enumerate(counts.tolist()):
                if count:
                    self._keep(
                        band,
                        partial[:, :count],
                        squares=squares[:count],
                        clusters=first + member[:count],
                    )
            partial[owning] = np.where(owns[:, member], np.inf, partial[owning])
            self._keep(len(BANDS), partial, squares=squares, clusters=first + member)

    def neighbours(self) -> Neighbours:
        """Return what was found so far."""
        return Neighbours(self._distances.copy(), self._clusters.copy())

    def fit(
        self, centers: F32, rows: I64, *, spreads: F32 | None, kept: Kept | None
    ) -> Calibration:
        """Learn from what was seen; see the function `fit`."""
        return fit(
            self.neighbours(), self._queries, centers, rows, space=self._space,
            regions=self._regions, spreads=spreads, kept=kept,
        )  # fmt: skip

    def _keep(self, band: int, partial: F32, *, squares: F32, clusters: I64) -> None:
        kept = self._distances[band]
        nearer = np.flatnonzero(partial.min(axis=1) + self._squares < kept[:, -1])
        if not len(nearer):
            return
        own = self._squares[nearer, None]
        distances = partial[nearer] + own
        distances[self._itself.among(distances, squares, nearer[:, None])] = np.inf
        owners = np.broadcast_to(clusters, distances.shape)
        if distances.shape[1] > CALIBRATED_NEIGHBOURS:
            some = _first_smallest(distances, CALIBRATED_NEIGHBOURS)
            distances = np.take_along_axis(distances, some, axis=1)
            owners = np.take_along_axis(owners, some, axis=1)
        both = np.concatenate((kept[nearer], distances), axis=1)
        owners = np.concatenate((self._clusters[band, nearer], owners), axis=1)
        best = np.argsort(both, axis=1, kind="stable")[:, :CALIBRATED_NEIGHBOURS]
        kept[nearer] = np.take_along_axis(both, best, axis=1)
        found = np.take_along_axis(owners, best, axis=1)
        self._clusters[band, nearer] = np.where(np.isfinite(kept[nearer]), found, -1)


def admission(seed: int, place: Sequence[int], rows: int) -> F64:
    """Return float64 [n] in [0, 1): a band admits the rows below its selectivity."""
    chance = np.random.SeedSequence(seed, spawn_key=tuple(place))
    return np.random.Generator(np.random.Philox(chance)).random(rows)


def own_regions(queries: F32, centers: F32, *, space: Space) -> F32:
    """Return how far queries' own regions reach.

    A cluster is a query's own if its center is no farther, as `center_distances` has it.

    Parameters
    ----------
    queries, centers:
        float32 [q, D] and [c, D].
    space:
        "l2" or "dot".

    Returns
    -------
    float32 [q].

    """
    count = max(len(centers) // _OWN_SHARE, 1) + 1
    nearest = nearest_centers(queries, centers, count, space)
    if nearest.shape[1] < count:
        return np.full(len(queries), np.inf, dtype=np.float32)
    # Between two, so that no center's rounding decides.
    return np.asarray(nearest[:, -2:].mean(axis=1))


def fit(
    neighbours: Neighbours,
    queries: F32,
    centers: F32,
    rows: I64,
    *,
    space: Space,
    regions: F32,
    spreads: F32 | None,
    kept: Kept | None,
) -> Calibration:
    """Learn how many clusters queries need.

    Parameters
    ----------
    neighbours:
        The nearest rows of the queries among all rows of the index.
    queries:
        float32 [q, D].
    centers:
        float32 [c, D], in the clusters' numbering.
    rows:
        int64 [c], how many each cluster has.
    space:
        "l2" or "dot".
    regions:
        float32 [q], how far their own regions reach; see `own_regions`.
    spreads:
        float32 [c], what may be added to squared distances to centers; None if nothing.
    kept:
        How many rows must be kept, if it was measured.

    """
    clusters = len(centers)
    steps = 1 + _GRID * clusters.bit_length()
    grid = distinct(np.geomspace(1, clusters, steps).round().astype(np.int64))
    exponents = EXPONENTS if space == "l2" else EXPONENTS[:1]
    added = [None] if spreads is None else [None, spreads]
    ways = [_Ways(exponents, len(queries), grid, away=neighbours.away) for _ in added]
    own = np.einsum("ij,ij->i", queries, queries)
    size = max(_RANKED_VALUES_MAX // max(clusters, 1), 1)
    for start in range(0, len(queries), size):
        to_centers = center_distances(queries[start : start + size], centers, space)
        for query, measured in enumerate(to_centers, start):
            distances = np.maximum(measured + own[query], 0) if space == "l2" else measured
            for way, more in zip(ways, added, strict=True):
                walked = distances if more is None else distances + more
                way.add(
                    query, walked, rows, neighbours.clusters[:, query],
                    beyond=measured > regions[query],
                )  # fmt: skip
    fitted = [way.fit(clusters) for way in ways]
    return Calibration.best(
        fitted[0], spread=fitted[1] if len(fitted) > 1 else (), clusters=clusters, kept=kept
    )


class _Ways:
    """What the clusters that held-out queries need count together, by each exponent."""

    def __init__(self, exponents: Sequence[int], queries: int, grid: I64, *, away: bool) -> None:
        self._exponents = exponents
        self._grid = grid
        self._weights: list[list[list[F64]]] = [[[] for _ in BANDS] for _ in exponents]
        self._curves = np.empty((len(exponents), len(BANDS), queries, len(grid)))
        self._away: list[list[F64]] | None = [[] for _ in exponents] if away else None

    def add(self, query: int, distances: F32, rows: I64, true: I64, *, beyond: Mask) -> None:
        """Count for one query.

        Parameters
        ----------
        query:
            Its number.
        distances:
            float32 [c], to all clusters.
        rows:
            int64 [c], how many each has.
        true:
            int64 [n, k], the clusters of its nearest rows, as of `Neighbours`; -1 where there is
            none.
        beyond:
            bool [c], which clusters are beyond its own region.

        """
        order = np.argsort(distances, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        ascending = distances[order]
        seen = np.cumsum(rows[order]).astype(np.float64)
        for band, share in enumerate(BANDS):
            reached = place[true[band][true[band] >= 0]]
            counts = counted_together(ascending, seen * share)
            for number, counted in zip(range(len(self._exponents)), counts, strict=False):
                self._weights[number][band].append(counted[reached])
                self._curves[number, band, query] = counted[self._grid - 1]
        if self._away is None:
            return
        # The others are walked as well; what they count for having hardly any row is left out.
        left = beyond[order]
        found = true[-1][true[-1] >= 0]
        found = found[beyond[found]]
        if not len(found):
            return
        counts = counted_together(ascending[left], np.cumsum(rows[order][left], dtype=np.float64))
        place[order[left]] = np.arange(np.count_nonzero(left))
        reached = place[found]
        for number, counted in zip(range(len(self._exponents)), counts, strict=False):
            self._away[number].append(counted[reached])

    def fit(self, clusters: int) -> list[Weighted]:
        """Return what walks need, by exponent."""
        return [
            Weighted.fit(
                exponent,
                self._weights[number],
                list(self._curves[number]),
                self._grid,
                k=CALIBRATED_NEIGHBOURS,
                clusters=clusters,
                away=None if self._away is None else self._away[number],
            )
            for number, exponent in enumerate(self._exponents)
        ]


def counted_together(distances: F32, expected: F64) -> Iterator[F64]:
    """Give float64 [c], what clusters count together as a walk counts them, by each exponent.

    Parameters
    ----------
    distances:
        float32 [c], ascending.
    expected:
        float64 [c], how many rows pass up to each.

    """
    anchor = int(np.searchsorted(expected, CALIBRATED_NEIGHBOURS))
    weights, beyond = np.ones(len(distances)), slice(anchor + 1, None)
    # Where so few rows pass, nothing lies beyond the last.
    ratios = ratios_beyond(float(distances[min(anchor, len(distances) - 1)]), distances[beyond])
    for exponent in EXPONENTS:
        if exponent:
            weights[beyond] *= ratios
        yield np.cumsum(weights)


def _measure(factors: F32, rows: F32, squares: F32, space: Space) -> F32:
    partial: F32 = factors @ rows.T
    if space == "l2":
        partial += squares
    return partial


def _first_smallest(values: F32, count: int) -> I64:
    """Return int64 [n, count]: of each row's columns the smallest, of equal ones the first.

    They stand in the order of the columns.
    """
    last = np.partition(values, count - 1, axis=1)[:, count - 1, None]
    below = values < last
    tied = values == last
    left = count - np.count_nonzero(below, axis=1)[:, None]
    chosen = below | (tied & (np.cumsum(tied, axis=1) <= left))
    columns: I64 = np.nonzero(chosen)[1].reshape(len(values), count)
    return columns
