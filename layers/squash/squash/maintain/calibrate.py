"""Learning, from the index's own rows, how many clusters a query must visit."""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, F64, I64
from squash.planning import BANDS, CALIBRATED_NEIGHBOURS, Calibration


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
        shape = (len(BANDS), len(queries), CALIBRATED_NEIGHBOURS)
        self._distances: F64 = np.full(shape, np.inf)
        self._clusters: I64 = np.full(shape, -1, dtype=np.int64)

    def add(self, projected: F32, clusters: I64) -> None:
        """Look at some rows: float32 [n, D] and the number of the cluster of each."""
        order = self._generator.random(len(projected))
        for start in range(0, len(projected), 16_384):
            part = slice(start, start + 16_384)
            distances = self._measure(projected[part])
            for band, share in enumerate(BANDS):
                admitted = np.flatnonzero(order[part] < share)
                if len(admitted):
                    self._keep(band, distances[:, admitted], clusters[part][admitted])

    def fit(self, centers: F32) -> Calibration:
        """Learn from what was seen; `centers` is float32 [c, D], in the clusters' numbering."""
        ranks: list[list[I64]] = [[] for _ in BANDS]
        to_centers = self._measure(centers)
        for query in range(len(self._queries)):
            place = np.empty(len(centers), dtype=np.int64)
            place[np.argsort(to_centers[query], kind="stable")] = np.arange(len(centers))
            for band in range(len(BANDS)):
                true = self._clusters[band, query]
                ranks[band].append(place[true[true >= 0]])
        return Calibration.fit(ranks, k=CALIBRATED_NEIGHBOURS, clusters=len(centers))

    def _measure(self, rows: F32) -> F32:
        products = self._queries @ rows.T
        if self._space == "dot":
            return -products
        squares = np.einsum("ij,ij->i", rows, rows)
        own = np.einsum("ij,ij->i", self._queries, self._queries)
        distances = squares[None, :] + own[:, None] - 2.0 * products
        # The query itself is a row of the index: at distance zero but for rounding.
        scale = squares[None, :] + own[:, None]
        distances[distances <= 1e-6 * scale] = np.inf
        return np.asarray(distances, dtype=np.float32)

    def _keep(self, band: int, distances: F32, clusters: I64) -> None:
        both = np.concatenate((self._distances[band], distances), axis=1)
        owners = np.concatenate(
            (self._clusters[band], np.broadcast_to(clusters, distances.shape)), axis=1
        )
        best = np.argpartition(both, CALIBRATED_NEIGHBOURS - 1, axis=1)[:, :CALIBRATED_NEIGHBOURS]
        self._distances[band] = np.take_along_axis(both, best, axis=1)
        found = np.take_along_axis(owners, best, axis=1)
        self._clusters[band] = np.where(np.isfinite(self._distances[band]), found, -1)
