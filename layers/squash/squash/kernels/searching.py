"""One query from its vector to the distances of its nearest rows, in one native call.

It is `prepare`, `walk`, `scan` (or, of few admitted rows, `gather_rows`) and `refine` in a row, and
gives what they give; the sum of their fixed costs is what it saves.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np

from squash.arrays import F32, F64, I64, U32, AnyArray, distinct
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.distances import (
    METRIC_NUMBERS,
    MetricName,
    gather_rows,
    refine,
    row_distances,
)
from squash.kernels.native import address
from squash.kernels.native_table import NativeTable, native_table
from squash.kernels.packing import low_groups
from squash.kernels.prepare import prepare
from squash.kernels.record_keys import RecordTable
from squash.kernels.scanning import ROOM_CLUSTER_BYTES, ROOM_ROW_BYTES, level_bytes, scan
from squash.kernels.tables import ClusterTable, FilterProgram
from squash.kernels.walking import walk
from squash.values import dataclass, maker_of

# `sq_search`: what differs from query to query, then the addresses of its room.
_ASKED: Final = Struct("=QQqQq" + "QQQQQQQqdddqq" + "qddqdd")
# The 64-bit words of it that differ between queries of one plan; the others stay as they are.
_QUERY: Final = 3
_PROGRAM: Final = 5
_FILTER_PLACE: Final = 8 * _PROGRAM
_FILTER: Final = Struct("=5Q")  # program, counts of sure and possible rows, and their bitmaps
_OVERALL: Final = 13
_ROOMS: Final = Struct("=21Q")
_COUNTS: Final = Struct("=8q")
_STAYS_OPEN: Final = -(1 << 63)
_ALIGNMENT: Final = 64
_COARSE_QUERY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Straight:
    """Up to how many admitted rows are measured at once, without their codes.

    `base`, and `each` for every cluster taken, but never more than `most`.
    """

    most: int
    base: float
    each: float

    def holds(self, admitted: int, clusters: int) -> bool:
        """Tell whether so many rows of so many clusters are."""
        return admitted <= self.most and admitted <= self.base + self.each * clusters


@dataclass(frozen=True, slots=True, eq=False)
class SearchPlan:
    """What a search is asked besides its query and filter; see `walk` and `scan`."""

    k: int
    prior_rows: float
    thinning: float
    inverse_need: F64
    adverse: F64
    anchor_rows: int
    exponent: int
    keep: int
    reach: float
    share_min: float
    straight: Straight


class Near(NamedTuple):
    """The nearest k rows and what ties with the last of them, ascending by distance.

    `taken` clusters were taken, in which `admitted` rows pass, of `rows_seen`; of these
    `low_scanned` were scanned, `ranked` by their full codes, `kept`, and `read` measured. `keys`
    are the rows' keys, where they were asked for and are at hand.
    """

    partition: list[int]
    row: list[int]
    distances: list[float]
    taken: I64
    rows_seen: int
    admitted: int
    low_scanned: int
    ranked: int
    kept: int
    read: int
    keys: list[str] | None


near_of: Final = maker_of(Near)


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """A search that could not go on: partitions of the clusters `taken` are not loaded."""

    taken: I64


@dataclass(frozen=True, slots=True, eq=False)
class StaysOpen:
    """A search that could not go on: cells leave rows of the clusters taken open.

    Or more rows pass than are measured at once, where all are.
    """


def search(
    table: ClusterTable,
    axes: F32,
    mean: F32,
    *,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    overall: float,
    sure: U32,
    possible: U32,
    program: FilterProgram | None = None,
    counts: tuple[I64, I64] | None = None,
    records: RecordTable | None = None,
    every: bool = False,
) -> Near | Missing | StaysOpen:
    """Search the clusters of a table.

    Parameters
    ----------
    table:
        The clusters; codes and vectors of those taken must be loaded.
    axes, mean:
        As for `prepare`.
    query:
        float32 [d]; for cosine it is prepared as of length one.
    metric:
        Which distance.
    plan:
        What is asked.
    overall, sure, possible, program, counts:
        As for `walk`.
    records:
        What keys of the rows found are read from, if they are wanted.
    every:
        Whether all rows that pass are measured, in whatever cluster; a filter is then given by
        `counts` and its bitmaps.

    """
    chosen = native.active()
    if chosen is None:
        return _by_parts(
            table, axes, mean, query=query, metric=metric, plan=plan,
            overall=overall, bitmaps=(sure, possible), program=program, counts=counts,
            every=every,
        )  # fmt: skip
    beside = native_table(table)
    bound = None if program is None else beside.bind(program)
    room = room_of(beside, len(mean))
    try:
        depth = 1 if bound is None else bound.depth
        room.prepare(chosen, table, axes, mean, metric=metric, plan=plan, depth=depth)
        query = room.ask(query)  # which must outlive the search
        if bound is None and counts is None:
            room.admit_all(overall)
        else:
            program_at = 0 if bound is None or counts is not None else bound.at
            room.admit(program_at, counts, sure, possible, overall)
        found = (chosen.search_all if every else chosen.search)(beside.at, room.at)
        seen = _COUNTS.unpack_from(room.counts)
        if found == _STAYS_OPEN:
            return StaysOpen()
        taken = room.taken[: seen[3]].copy()
        if found < 0:
            return Missing(taken)
        keys = None
        if records is not None:
            keys = records.keys_at(chosen, room.near_partition_at, room.near_row_at, found)
        return near_of(
            (
                room.near_partition[:found].tolist(),
                room.near_row[:found].tolist(),
                room.near_distance[:found].tolist(),
                taken,
                seen[0],
                seen[1],
                *seen[4:],
                keys,
            )
        )
    finally:
        beside.rooms.append(room)


def coarse_query_bytes(dimension: int) -> int:
    """Return the room of a query in bytes, which bounds of distances to centers want."""
    return _COARSE_QUERY_BYTES + -(-dimension // 4) * 4


def room_of(beside: NativeTable, vector_dimension: int) -> Room:
    """Take room for a search out of a table's pool; it is to be put back."""
    try:
        room: Room = beside.rooms.pop()
    except IndexError:
        room = Room(vector_dimension)
    return room


class Room:
    """All memory that a search works in, and its `sq_search`; one search at a time."""

    def __init__(self, vector_dimension: int) -> None:
        self._vector_dimension = vector_dimension
        self._query_shape = (vector_dimension,)
        memory = np.zeros(_ASKED.size + _ROOMS.size, dtype=np.uint8)
        self.at = address(memory)
        self._asked = memory.data
        self._words = self._asked.cast("Q")
        self._reals = self._asked.cast("d")
        self._prepared: tuple[SearchPlan, F32, F32, MetricName] | None = None
        self._bitmaps: tuple[U32, U32, int, int] | None = None
        self._admits_all = True
        self._walks = False  # whether the last filter's bitmaps stand there, and no counts
        self.rows = self.depth = 0

    def prepare(
        self,
        chosen: native.Native,
        table: ClusterTable,
        axes: F32,
        mean: F32,
        *,
        metric: MetricName,
        plan: SearchPlan,
        depth: int,
    ) -> None:
        """Write down what queries have in common; mostly it is there from the last one."""
        last = self._prepared
        if (
            last is not None
            and last[0] is plan
            and last[1] is axes
            and last[2] is mean
            and last[3] == metric
            and depth <= self.depth
        ):
            return
        if mean.shape != (self._vector_dimension,):
            raise InternalError("a search was asked of vectors of another dimension")
        rows = max(plan.keep, plan.straight.most, self.rows, 1)
        if self.rows < rows or self.depth < depth:
            self.grow(table, rows, depth)
        beside = native_table(table)
        beside.coarsen(chosen)
        axes_at, mean_at = beside.rotation(axes, mean)
        _ASKED.pack_into(
            self._asked, 0,
            axes_at, mean_at, len(mean), 0, METRIC_NUMBERS[metric],
            0, 0, 0, 0, 0, address(plan.inverse_need), address(plan.adverse),
            plan.k, 0.0, plan.prior_rows, plan.thinning, plan.anchor_rows, plan.exponent,
            plan.keep, plan.reach, plan.share_min,
            plan.straight.most, plan.straight.base, plan.straight.each,
        )  # fmt: skip
        self._admits_all, self._walks = True, False
        self._prepared = plan, axes, mean, metric

    def ask(self, query: F32) -> F32:
        """Write down what is asked; the array returned must outlive the search."""
        if query.shape != self._query_shape:
            raise InternalError("a query of another dimension was given to a search")
        asked = np.ascontiguousarray(query, dtype=np.float32)
        self._words[_QUERY] = address(asked)
        return asked

    def admit_all(self, overall: float) -> None:
        """Say that there is no filter."""
        self._reals[_OVERALL] = overall
        if not self._admits_all:
            _FILTER.pack_into(self._asked, _FILTER_PLACE, 0, 0, 0, 0, 0)
            self._admits_all, self._walks = True, False

    def admit(
        self,
        program_at: int,
        counts: tuple[I64, I64] | None,
        sure: U32,
        possible: U32,
        overall: float,
    ) -> None:
        """Say which rows pass: those of a program, or those of counts, by their bitmaps."""
        self._reals[_OVERALL] = overall
        bitmaps = self._bitmaps
        if bitmaps is None or bitmaps[0] is not sure or bitmaps[1] is not possible:
            bitmaps = self._bitmaps = (sure, possible, address(sure), address(possible))
        elif counts is None and self._walks:
            self._words[_PROGRAM] = program_at
            return
        sure_at, possible_at = (0, 0) if counts is None else map(address, counts)
        _FILTER.pack_into(
            self._asked, _FILTER_PLACE,
            program_at, sure_at, possible_at, bitmaps[2], bitmaps[3],
        )  # fmt: skip
        self._admits_all, self._walks = False, counts is None

    def grow(self, table: ClusterTable, rows: int, depth: int) -> None:
        """Make room for so many rows, and filters of this depth."""
        self.rows, self.depth = rows, max(depth, self.depth)
        clusters, dimension = table.centers.shape
        sizes = {
            "projected": 8 * dimension,
            "entries": 16 * low_groups(dimension),
            "distances": 4 * clusters,
            "scalars": 24,
            "scratch": 8 * (dimension + self._vector_dimension),
            "taken": 24 * clusters,
            "keys": 8 * clusters,
            "stack": 256 * self.depth,
            "partition": 8 * rows,
            "row": 8 * rows,
            "estimates": 4 * rows,
            "lower_bounds": 4 * rows,
            "measured": 8 * rows,
            "room": rows * ROOM_ROW_BYTES + clusters * ROOM_CLUSTER_BYTES + level_bytes(dimension),
            "heap": 8 * rows,
            "items": 16 * rows,
            "near_distance": 8 * rows,
            "near_partition": 8 * rows,
            "near_row": 8 * rows,
            "counts": _COUNTS.size,
            "coarse": coarse_query_bytes(dimension),
        }
        steps = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes.values()]
        memory = np.empty(sum(steps) + _ALIGNMENT, dtype=np.uint8)
        begin = -address(memory) % _ALIGNMENT
        begins = dict(zip(sizes, np.cumsum([begin, *steps[:-1]]).tolist(), strict=True))
        _ROOMS.pack_into(
            self._asked, _ASKED.size, *(address(memory) + place for place in begins.values())
        )

        def part(name: str, dtype: type, count: int) -> AnyArray:
            return np.ndarray(count, dtype, memory, begins[name])

        self.taken: I64 = part("taken", np.int64, clusters)
        self.near_distance: F64 = part("near_distance", np.float64, rows)
        self.near_partition: I64 = part("near_partition", np.int64, rows)
        self.near_row: I64 = part("near_row", np.int64, rows)
        self.counts: memoryview = part("counts", np.uint8, _COUNTS.size).data
        self.near_partition_at = address(self.near_partition)
        self.near_row_at = address(self.near_row)


def _by_parts(
    table: ClusterTable,
    axes: F32,
    mean: F32,
    *,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    overall: float,
    bitmaps: tuple[U32, U32],
    program: FilterProgram | None,
    counts: tuple[I64, I64] | None,
    every: bool,
) -> Near | Missing | StaysOpen:
    if every:
        return _all_by_parts(table, query, metric, plan, counts=counts, possible=bitmaps[1])
    prepared = prepare(table, axes, mean, query, unit=metric == "cosine")
    taken = walk(
        table,
        prepared.distances,
        program=None if counts is not None else program,
        counts=counts,
        sure=bitmaps[0],
        possible=bitmaps[1],
        k=plan.k,
        overall=overall,
        prior_rows=plan.prior_rows,
        thinning=plan.thinning,
        inverse_need=plan.inverse_need,
        adverse=plan.adverse,
        anchor_rows=plan.anchor_rows,
        exponent=plan.exponent,
    )
    if taken.possible_seen > taken.sure_seen:
        return StaysOpen()
    straight = plan.straight.holds(taken.possible_seen, len(taken.clusters))
    needed: list[list[Any]] = [table.vectors]
    if not straight:
        needed += table.blocks, table.full
    for number in distinct(table.partition[taken.clusters]).tolist():
        if any(arrays[number] is None for arrays in needed):
            return Missing(taken.clusters)
    possible = None if program is None and counts is None else bitmaps[1]
    low_scanned = ranked_rows = 0
    if straight:
        partition, row = gather_rows(table, taken.clusters, possible)
        distances = row_distances(metric, query, table, partition, row)
        read = len(row)
    else:
        ranked = scan(
            table, taken.clusters, possible, prepared,
            keep=plan.keep, reach=plan.reach, share_min=plan.share_min, bounds=False,
        )  # fmt: skip
        partition, row = ranked.partition, ranked.row
        low_scanned, ranked_rows = ranked.low_scanned, ranked.ranked
        distances, read = refine(
            metric, query, table, partition, row, lower_bounds=ranked.lower_bounds, k=plan.k
        )
    order = _nearest(distances, plan.k)
    return Near(
        partition[order].tolist(),
        row[order].tolist(),
        distances[order].tolist(),
        taken.clusters,
        taken.rows_seen,
        taken.possible_seen,
        low_scanned,
        ranked_rows,
        len(row),
        read,
        None,
    )


def _all_by_parts(
    table: ClusterTable,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    *,
    counts: tuple[I64, I64] | None,
    possible: U32,
) -> Near | Missing | StaysOpen:
    sure_counts, possible_counts = counts or (table.alive_counts, table.alive_counts)
    chosen = np.flatnonzero(possible_counts)
    admitted = int(possible_counts.sum())
    if not int(sure_counts.sum()) == admitted <= plan.straight.most:
        return StaysOpen()
    if any(table.vectors[number] is None for number in set(table.partition[chosen].tolist())):
        return Missing(chosen)
    partition, row = gather_rows(table, chosen, None if counts is None else possible)
    distances = row_distances(metric, query, table, partition, row)
    order = _nearest(distances, plan.k)
    return Near(
        partition[order].tolist(),
        row[order].tolist(),
        distances[order].tolist(),
        chosen,
        int(table.rows[chosen].sum()),
        admitted,
        0,
        0,
        len(row),
        len(row),
        None,
    )


def _nearest(distances: F64, k: int) -> I64:
    """Return the places of the k nearest, and of what ties with the last of them, ascending."""
    order = np.argsort(distances, kind="stable")
    order = order[: int(np.sum(~np.isnan(distances)))]
    if len(order) > k:
        last = distances[order[k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    return order
