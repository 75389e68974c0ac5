"""As which the nearest rows of held-out queries are ranked by their codes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from squash.arrays import F32, I64
from squash.container import Container
from squash.kernels import ClusterTable, block_begins, prepare_projected, scan, whole_blocks
from squash.maintain.centers import center_distances, nearest_centers
from squash.maintain.learning import off_queries
from squash.maintain.parts import Part
from squash.planning import KEPT_FOR, KEPT_MEASURED_MAX, KEPT_TARGETS, Kept, keep_for
from squash.quantize import Codec
from squash.segment import CODES, PartitionCodes
from squash.segment.layout import VERSION
from squash.values import dataclass

# Rows that compete with a query's nearest lie in clusters around it: about so many are scanned.
_CLUSTERS_SCANNED: Final = 16
# Of held-out queries so many are asked at most, a third for each of KEPT_TARGETS.
_QUERIES_MAX: Final = 240
# A row projected again, or with the mean put back, is the same but for its last place: below this
# share of the squares of both and of the query, a squared distance is that of a row to itself. Rows
# that only expanded distances cannot tell apart are others, and what codes tell apart worst: far
# from the mean there are many.
_SAME_ROW: Final = 1e-13


@dataclass(frozen=True, slots=True, eq=False)
class CodeRanks:
    """Of held-out queries, the rows that their codes say are nearest, in that order.

    Both are float32 [q, m], m at most KEPT_MEASURED_MAX, infinite where there is none: what the
    codes say, ascending, and the distances. Of what was found among some rows and among others the
    best are, joined, those among all.
    """

    estimates: F32
    distances: F32

    @classmethod
    def none(cls, queries: int) -> CodeRanks:
        """Return those among no rows."""
        nothing = np.empty((queries, 0), dtype=np.float32)
        return cls(nothing, nothing)

    def joined(self, later: CodeRanks) -> CodeRanks:
        """Return the best of these and others; of equal ones these come first."""
        estimates = np.concatenate((self.estimates, later.estimates), axis=1)
        distances = np.concatenate((self.distances, later.distances), axis=1)
        best = np.argsort(estimates, axis=1, kind="stable")[:, :KEPT_MEASURED_MAX]
        return CodeRanks(
            np.take_along_axis(estimates, best, axis=1), np.take_along_axis(distances, best, axis=1)
        )

    def kept(self) -> Kept | None:
        """Return how many rows must be kept; None where no ranks were seen."""
        found: list[list[I64]] = [[] for _ in KEPT_TARGETS]
        self.add_to(found, first=0)
        return Kept.fit(found) if any(found) else None

    def add_to(self, found: list[list[I64]], *, first: int) -> None:
        """Put the ranks of the nearest rows to those of other queries, `first` before these."""
        for query, distances in enumerate(self.distances, first):
            count = int(np.count_nonzero(np.isfinite(distances)))
            if count:
                nearest = np.argsort(distances[:count], kind="stable")
                found[_turn(query)].append(nearest[: KEPT_FOR[-1]] + 1)


class RankCollector:
    """Collects the ranks by codes of held-out queries' nearest rows while partitions are written.

    Parameters
    ----------
    queries, own:
        float32 [q, D], rows of the index as queries, and as projected rows.
    codec:
        What rows are encoded by. Nothing is collected of codecs that kernels do not scan.
    centers:
        float32 [c, D], projected: about where clusters will be.
    first:
        How many other queries there are before these.

    """

    def __init__(
        self, queries: F32, *, own: F32, codec: Codec, centers: F32, first: int = 0
    ) -> None:
        self._first = first
        wanted = min(len(queries), _QUERIES_MAX) if codec.scannable else 0
        some = np.linspace(0, len(queries) - 1, wanted).astype(np.int64)
        self._queries = queries[some]
        self._codec = codec
        self._own = own[some]
        self._within = self._around(centers)
        self._found = [CodeRanks.none(1) for _ in self._queries]

    def add(self, part: Part, objects: Mapping[str, bytes]) -> None:
        """Look at a partition, and at the objects that it was written as."""
        measured = center_distances(self._queries, part.centers, self._codec.space)
        near = measured <= self._within[:, None]
        asked = np.flatnonzero(near.any(axis=1))
        if not len(asked):
            return
        table = _table_of(part, objects, self._codec)
        for query in asked.tolist():
            found = self._ranked(table, part, np.flatnonzero(near[query]), query)
            self._found[query] = self._found[query].joined(found)

    def ranks(self) -> CodeRanks:
        """Return what was found so far."""
        width = max((one.estimates.shape[1] for one in self._found), default=0)
        shape = (len(self._found), width)
        estimates = np.full(shape, np.inf, dtype=np.float32)
        distances = np.full(shape, np.inf, dtype=np.float32)
        for query, one in enumerate(self._found):
            count = one.estimates.shape[1]
            estimates[query, :count], distances[query, :count] = one.estimates, one.distances
        return CodeRanks(estimates, distances)

    def _ranked(self, table: ClusterTable, part: Part, clusters: I64, query: int) -> CodeRanks:
        """Rank the rows of some clusters."""
        asked, own = self._queries[query], self._own[query]
        ranked = scan(
            table,
            clusters,
            None,
            prepare_projected(table, asked),
            # One more: the query is a row itself, and does not count.
            keep=KEPT_MEASURED_MAX + 1,
            reach=keep_for(KEPT_FOR[-1], KEPT_TARGETS[_turn(self._first + query)]).reach,
            share_min=0.0,
            bounds=False,
        )
        rows = part.projected[ranked.row]
        away = rows - own
        apart = np.einsum("ij,ij->i", away, away)
        product = self._codec.space == "dot"
        distances = -np.einsum("ij,j->i", rows, asked) if product else apart
        squares = np.einsum("ij,ij->i", rows, rows) + np.dot(own, own) + np.dot(asked, asked)
        others = apart > _SAME_ROW * squares
        best = np.flatnonzero(others)[:KEPT_MEASURED_MAX]
        return CodeRanks(ranked.estimates[None, best], distances[None, best])

    def _around(self, centers: F32) -> F32:
        """Return float32 [q], how far the clusters scanned may be."""
        if len(centers) <= _CLUSTERS_SCANNED:
            return np.full(len(self._queries), np.inf, dtype=np.float32)
        return nearest_centers(self._queries, centers, _CLUSTERS_SCANNED, self._codec.space)[:, -1]


class RanksWithin:
    """Collects the ranks of some rows' nearest in the same partition, while one is written anew.

    Parameters
    ----------
    codec:
        What rows are encoded by.

    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._asked = 0
        self._found: list[list[I64]] = [[] for _ in KEPT_TARGETS]

    def add(self, part: Part, objects: Mapping[str, bytes], *, share: float) -> None:
        """Look at a partition that has this share of all rows looked at."""
        wanted = min(math.ceil(_QUERIES_MAX * share), len(part.rows))
        places = np.linspace(0, len(part.rows) - 1, wanted).astype(np.int64)
        own = part.projected[places]
        collector = RankCollector(
            own - off_queries(self._codec),
            own=own,
            codec=self._codec,
            centers=part.centers,
            first=self._asked,
        )
        collector.add(part, objects)
        collector.ranks().add_to(self._found, first=self._asked)
        self._asked += wanted

    def kept(self) -> Kept | None:
        """Return how many rows must be kept; None where no ranks were seen."""
        return Kept.fit(self._found) if any(self._found) else None


def _turn(query: int) -> int:
    """Return for which of KEPT_TARGETS a query is asked: they take turns."""
    return query % len(KEPT_TARGETS)


def _table_of(part: Part, objects: Mapping[str, bytes], codec: Codec) -> ClusterTable:
    """Return the table of a partition alone, its codes in it."""
    container = Container(objects[CODES], kind="segment-codes", versions=(VERSION,), where=CODES)
    codes = PartitionCodes.from_container(container, CODES).readable_by(codec)
    rows, clusters = part.cluster_rows, len(part.centers)
    blocks = block_begins(part.begins)[:-1]
    return ClusterTable(
        space=codec.space,
        dimension=part.centers.shape[1],
        centers=part.centers,
        center_norms=np.sqrt(np.einsum("ij,ij->i", part.centers, part.centers, dtype=np.float64)),
        rows=rows,
        partition=np.zeros(clusters, dtype=np.int64),
        first_row=part.begins[:-1].copy(),
        first_block=blocks,
        local_block=blocks,
        alive=whole_blocks(rows),
        alive_counts=rows.copy(),
        row_base=np.zeros(1, dtype=np.int64),
        blocks=[np.asarray(codes.arrays["blocks"])],
        full=[np.asarray(codes.arrays["full"])],
        vectors=[None],
    )
