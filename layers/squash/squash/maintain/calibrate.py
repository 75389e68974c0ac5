"""Learning, from the index's own rows, how many clusters a query must visit."""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, I64
from squash.planning import BANDS, CALIBRATED_NEIGHBOURS, Calibration

# Rows compared with all queries at once: few enough that their distances stay in cache.
_CHUNK_ROWS = 2_048
# Below this share of |x|^2 + |q|^2 a squared distance is zero but for rounding.
_SAME = 1e-6


class NeighbourCollector:
    """Collects the true nearest rows of held-out queries while a build passes the rows by.

    For every selectivity band a random share of the rows is admitted; each query's nearest
    admitted rows are found by brute force, and the clusters that hold them remembered.

    Parameters
    ----------
    queries:
        float32 [q, D], projected rows of the index; a row at distance zero is the query itself
        and is not counted.
    space:
        "l2" or "dot", as the codec has it.
    seed:
        Decides which rows each band admits.

    """

    def __init__(self, queries: F32, *, space: str, seed: int) -> None:
        self._queries = queries
        self._space = space
        self._generator = np.random.Generator(np.random.Philox(seed))
        # A row's product with these, and its square where that counts, is its distance but for
        # the query's own square, which changes no order.
        self._factors: F32 = -queries if space == "dot" else -2 * queries
        own = np.einsum("ij,ij->i", queries, queries)
        self._own: F32 = np.zeros_like(own) if space == "dot" else own
        shape = (len(BANDS), len(queries), CALIBRATED_NEIGHBOURS)
        self._distances: F32 = np.full(shape, np.inf, dtype=np.float32)
        self._clusters: I64 = np.full(shape, -1, dtype=np.int64)

    def add(self, projected: F32, clusters: I64) -> None:
        """Look at some rows: float32 [n, D] and the number of the cluster of each."""
        order = self._generator.random(len(projected))
        for start in range(0, len(projected), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            # What a band admits are the first rows in this order.
            places = np.argsort(order[part], kind="stable")
            counts = np.searchsorted(order[part][places], BANDS)
            rows = projected[part][places]
            squares = np.einsum("ij,ij->i", rows, rows)
            partial = self._measure(rows, squares)
            for band, count in enumerate(counts.tolist()):
                if count:
                    self._keep(
                        band,
                        partial[:, :count],
                        squares=squares[:count],
                        clusters=clusters[part][places[:count]],
                    )

    def fit(self, centers: F32) -> Calibration:
        """Learn from what was seen; `centers` is float32 [c, D], in the clusters' numbering."""
        ranks: list[list[I64]] = [[] for _ in BANDS]
        to_centers = self._measure(centers, np.einsum("ij,ij->i", centers, centers))
        for query in range(len(self._queries)):
            place = np.empty(len(centers), dtype=np.int64)
            place[np.argsort(to_centers[query], kind="stable")] = np.arange(len(centers))
            for band in range(len(BANDS)):
                true = self._clusters[band, query]
                ranks[band].append(place[true[true >= 0]])
        return Calibration.fit(ranks, k=CALIBRATED_NEIGHBOURS, clusters=len(centers))

    def _measure(self, rows: F32, squares: F32) -> F32:
        partial: F32 = self._factors @ rows.T
        if self._space == "l2":
            partial += squares
        return partial

    def _keep(self, band: int, partial: F32, *, squares: F32, clusters: I64) -> None:
        kept = self._distances[band]
        nearer = np.flatnonzero(partial.min(axis=1) + self._own < kept.max(axis=1))
        if not len(nearer):
            return
        own = self._own[nearer, None]
        distances = partial[nearer] + own
        if self._space == "l2":
            # The query itself is a row of the index.
            distances[distances <= _SAME * (squares + own)] = np.inf
        both = np.concatenate((kept[nearer], distances), axis=1)
        owners = np.concatenate(
            (self._clusters[band, nearer], np.broadcast_to(clusters, distances.shape)), axis=1
        )
        best = np.argpartition(both, CALIBRATED_NEIGHBOURS - 1, axis=1)[:, :CALIBRATED_NEIGHBOURS]
        kept[nearer] = np.take_along_axis(both, best, axis=1)
        found = np.take_along_axis(owners, best, axis=1)
        self._clusters[band, nearer] = np.where(np.isfinite(kept[nearer]), found, -1)
