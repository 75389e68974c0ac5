"""Search inside one partition: prune on low-bit codes, rank on full codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from squash.arrays import F32, I64, AnyArray, Mask
from squash.container import Container
from squash.kernels import concatenated_ranges, top_k
from squash.quantize import Codec, Prepared
from squash.segment.head import clusters_of
from squash.values import dataclass

_CODES_PREFIX = "codes."
# Below this many admitted rows a scan of low-bit codes has nothing to save.
_LOW_SCAN_ROWS_MIN = 2_000


@dataclass(frozen=True, slots=True)
class PartitionCodes:
    """The clusters and codes of one partition; cluster i is rows begins[i] to begins[i + 1]."""

    cluster_begins: I64
    centers: F32
    arrays: Mapping[str, AnyArray]

    @classmethod
    def from_container(cls, container: Container, where: str) -> PartitionCodes:
        """Read a segment's `codes` object.

        Raises
        ------
        DataError
            If its clusters do not fit its rows.

        """
        begins, centers = clusters_of(container, where)
        arrays = {
            name.removeprefix(_CODES_PREFIX): container.array(name)
            for name in container.names()
            if name.startswith(_CODES_PREFIX)
        }
        return cls(begins, centers, arrays)

    def readable_by(self, codec: Codec) -> PartitionCodes:
        """Return them with the arrays that a codec's scans read."""
        return replace(self, arrays=codec.readable(self.arrays, self.cluster_begins))

    def rows_of(self, clusters: I64) -> I64:
        """Return int64 [n], the rows of the given clusters, int64 [c], in their order."""
        begins = self.cluster_begins[clusters]
        return concatenated_ranges(begins, self.cluster_begins[clusters + 1] - begins)

    def clusters_of(self, rows: I64) -> I64:
        """Return int64 [n], the cluster of each row, int64 [n]."""
        return np.searchsorted(self.cluster_begins, rows, side="right").astype(np.int64) - 1


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows ranked on their full codes, ascending by estimate.

    `estimates` and `lower_bounds` are squared L2 distances, or negated inner products. Of
    `admitted` rows `ranked` were ranked, the others pruned by their low-bit codes.
    """

    rows: I64
    estimates: F32
    lower_bounds: F32
    admitted: int
    ranked: int


class Partition:
    """One partition, ready to be searched by many queries.

    Parameters
    ----------
    codes:
        Its clusters and codes.
    codec:
        What wrote them.

    """

    def __init__(self, codes: PartitionCodes, codec: Codec) -> None:
        self.codes = codes
        self._codec = codec

    def search(
        self,
        prepared: Prepared,
        *,
        clusters: I64,
        admitted: Mask | None,
        low_keep: int,
    ) -> Candidates:
        """Rank the admitted rows of some clusters (levels 4 and 5 of the query plan).

        Parameters
        ----------
        prepared:
            The query, as the codec prepared it.
        clusters:
            int64 [m], clusters of this partition; their order does not matter.
        admitted:
            bool [n], the rows that may be returned; None for all.
        low_keep:
            How many rows pass from the low-bit codes to the full codes.

        """
        # Of rows that tie by their low-bit codes the first ones pass, whoever asks in what order.
        clusters = np.sort(clusters)
        rows = self.codes.rows_of(clusters)
        if admitted is not None:
            rows = rows[admitted[rows]]
        count = len(rows)
        low_keep = max(low_keep, math.ceil(self._codec.low_keep_share * count))
        if count > max(_LOW_SCAN_ROWS_MIN, low_keep):
            scanned, estimates = self._codec.low_scan(
                self.codes.arrays,
                clusters=clusters,
                cluster_begins=self.codes.cluster_begins,
                centers=self.codes.centers,
                prepared=prepared,
            )
            if admitted is not None:
                passing = admitted[scanned]
                scanned, estimates = scanned[passing], estimates[passing]
            rows = scanned[top_k(estimates, low_keep)]
        rows = np.sort(rows)
        values, bounds = self._codec.full_scan(
            self.codes.arrays,
            rows=rows,
            row_clusters=self.codes.clusters_of(rows),
            cluster_begins=self.codes.cluster_begins,
            centers=self.codes.centers,
            prepared=prepared,
        )
        order = np.argsort(values, kind="stable")
        return Candidates(
            rows=rows[order],
            estimates=values[order],
            lower_bounds=bounds[order],
            admitted=count,
            ranked=len(rows),
        )
