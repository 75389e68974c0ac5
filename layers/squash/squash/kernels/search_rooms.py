"""What a search in one native call is asked, and the memory that it works in.

A room keeps what queries of one plan have in common: a query writes where its vector lies, and its
filter.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import numpy as np

from squash.arrays import F32, F64, I64, LINE_BYTES, U32, AnyArray, by_lines
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.distances import METRIC_NUMBERS, MetricName
from squash.kernels.native import address
from squash.kernels.native_table import NativeTable, native_table
from squash.kernels.outcomes import COUNTS_FORM
from squash.kernels.packing import low_groups
from squash.kernels.record_keys import KEY_BYTES, RecordTable
from squash.kernels.rotations import NativeRotation, Rotation
from squash.kernels.scanning import ROOM_CLUSTER_BYTES, ROOM_ROW_BYTES, level_bytes
from squash.kernels.tables import ClusterTable
from squash.values import dataclass

# `sq_search`: what differs from query to query, then the addresses of its room.
_ASKED: Final = Struct("=QqQq" + "QQQQQQQqddddqq" + "qddqdd")
# The 64-bit words of it that differ between queries of one plan; the others stay as they are.
_PROGRAM: Final = 4
_FILTER_PLACE: Final = 8 * _PROGRAM
_FILTER: Final = Struct("=5Q")  # program, counts of sure and possible rows, and their bitmaps
_OVERALL: Final = 12
_ROOMS: Final = Struct("=21Q")
# And what lists and keys want: lists, listed_most, filtered_most, all_counts; records and how many
# partitions they are of, and the room for keys and its bytes.
_BESIDE: Final = Struct("=QqqQQqQq")
_BESIDE_PLACE: Final = _ASKED.size + _ROOMS.size
_FILTERING: Final = Struct("=Qqq")
_READING: Final = Struct("=Qq")
_RECORDS_PLACE: Final = _BESIDE_PLACE + _FILTERING.size + 8
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
    need_against: float
    anchor_rows: int
    exponent: int
    keep: int
    reach: float
    share_min: float
    straight: Straight


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
        self._query = by_lines(vector_dimension, np.float32)
        memory = np.zeros(_ASKED.size + _ROOMS.size + _BESIDE.size, dtype=np.uint8)
        self.at = address(memory)
        self._asked = memory.data
        self._words = self._asked.cast("Q")
        self._reals = self._asked.cast("d")
        self._prepared: tuple[SearchPlan, NativeRotation, MetricName] | None = None
        self._bitmaps: tuple[U32, U32, int, int] | None = None
        self._admits_all = True
        self._walks = False  # whether the last filter's bitmaps stand there, and no counts
        self._filtering = (0, -1, 0)
        self.records: RecordTable | None = None
        """What keys are read from; see `read_keys`."""
        self.rows = self.depth = 0
        self.prepared_by: object = None
        """What stands for who prepared it last, if they say so; None as soon as others do."""

    def prepare(
        self,
        chosen: native.Native,
        table: ClusterTable,
        rotation: Rotation,
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
            and last[1].rotation is rotation
            and last[1].mean is mean
            and last[2] == metric
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
        by = beside.rotation(rotation, mean)
        _ASKED.pack_into(
            self._asked, 0,
            by.at, len(mean), address(self._query), METRIC_NUMBERS[metric],
            0, 0, 0, 0, 0, address(plan.inverse_need), address(plan.adverse),
            plan.k, 0.0, plan.prior_rows, plan.thinning, plan.need_against,
            plan.anchor_rows, plan.exponent,
            plan.keep, plan.reach, plan.share_min,
            plan.straight.most, plan.straight.base, plan.straight.each,
        )  # fmt: skip
        self._admits_all, self._walks = True, False
        self._prepared, self.prepared_by = (plan, by, metric), None

    def ask(self, query: AnyArray, overall: float) -> None:
        """Write down what is asked, and about which share of all rows passes."""
        if query.shape != self._query.shape:
            raise InternalError("a query of another dimension was given to a search")
        self._query[:] = query
        self._reals[_OVERALL] = overall

    def admit_all(self) -> None:
        """Say that there is no filter."""
        if not self._admits_all:
            _FILTER.pack_into(self._asked, _FILTER_PLACE, 0, 0, 0, 0, 0)
            self._admits_all, self._walks = True, False

    def admit(
        self,
        program_at: int,
        counts: tuple[I64, I64] | None,
        sure: U32,
        possible: U32,
    ) -> None:
        """Say which rows pass: those of a program, or those of counts, by their bitmaps."""
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

    def filter_all(self, lists_at: int, listed_most: int, filtered_most: int) -> None:
        """Say how far a program is evaluated for all clusters."""
        asked = (lists_at, listed_most, filtered_most)
        if asked != self._filtering:
            _FILTERING.pack_into(self._asked, _BESIDE_PLACE, *asked)
            self._filtering = asked

    def read_keys(self, records: RecordTable | None) -> None:
        """Say what keys are read from."""
        at, partitions = (0, 0) if records is None else (records.at, records.partitions)
        _READING.pack_into(self._asked, _RECORDS_PLACE, at, partitions)
        self.records = records

    def filtered(self) -> tuple[I64, I64]:
        """Return sure and possible rows of all clusters, where a program was evaluated."""
        sure, possible = self._all_counts.copy()
        return sure, possible

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
            "counts": COUNTS_FORM.size,
            "coarse": coarse_query_bytes(dimension),
            "all_counts": 16 * clusters,
            "key_room": KEY_BYTES * rows,
        }
        steps = [-(-size // LINE_BYTES) * LINE_BYTES for size in sizes.values()]
        memory = by_lines(sum(steps), np.uint8)
        begins = dict(zip(sizes, np.cumsum([0, *steps[:-1]]).tolist(), strict=True))
        places = [address(memory) + place for place in begins.values()]
        *rooms, counts_at, keys_at = places
        self.key_bytes = sizes["key_room"]
        _ROOMS.pack_into(self._asked, _ASKED.size, *rooms)
        self._filtering, self.records = (0, -1, 0), None
        _BESIDE.pack_into(
            self._asked, _BESIDE_PLACE,
            *self._filtering, counts_at, 0, 0, keys_at, self.key_bytes,
        )  # fmt: skip

        def part(name: str, dtype: type, count: int) -> AnyArray:
            return np.ndarray(count, dtype, memory, begins[name])

        self.taken: I64 = part("taken", np.int64, clusters)
        self.near_distance: F64 = part("near_distance", np.float64, rows)
        self.near_partition: I64 = part("near_partition", np.int64, rows)
        self.near_row: I64 = part("near_row", np.int64, rows)
        self.counts: memoryview = part("counts", np.uint8, COUNTS_FORM.size).data
        self._all_counts: I64 = part("all_counts", np.int64, 2 * clusters).reshape(2, clusters)
        self.keys: memoryview = part("key_room", np.uint8, self.key_bytes).data
        self.near_partition_at = address(self.near_partition)
        self.near_row_at = address(self.near_row)
