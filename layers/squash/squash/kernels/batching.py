"""Several queries searched in one native call, those near one another one after the other.

Each gets what `search` gives it, to the bit. What is shared is memory: centers are read once for
all queries, and a cluster's codes are still in the cache when the next query comes to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from squash.arrays import F32, F64, I64, U32, AnyArray
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.distances import MetricName
from squash.kernels.native import address
from squash.kernels.native_table import native_table
from squash.kernels.outcomes import (
    COUNTS,
    FILTERED,
    LISTED,
    STAYS_OPEN,
    Missing,
    Near,
    StaysOpen,
    near_of,
)
from squash.kernels.packing import low_groups
from squash.kernels.record_keys import RecordTable
from squash.kernels.rotations import Rotation
from squash.kernels.search_rooms import SearchPlan, coarse_query_bytes, room_of
from squash.kernels.searching import search
from squash.kernels.tables import ClusterTable, FilterProgram
from squash.values import dataclass

# `sq_batch`.
_BATCH: Final = Struct("=q9Qq11Q")
_TAKEN: Final = 3  # which of them says how many clusters were taken
_TOO_MANY: Final = STAYS_OPEN + 1
# Distances to centers that are held at once: 16 MiB.
_DISTANCES_MAX: Final = 1 << 22
# Rows of answers that are: 24 MiB.
_NEAR_MAX: Final = 1 << 20


Outcome: TypeAlias = Near | Missing | StaysOpen


class Told(NamedTuple):
    """What the kernels write of q queries with room for m rows each, and for all c clusters.

    `found` is int64 [q], below 0 where there are no rows; `distances` float64 [q, m], `partition`
    and `row` int64 [q, m]; `taken` int64 [q, c] and `counts` int64 [q, COUNTS].
    """

    found: I64
    distances: F64
    partition: I64
    row: I64
    taken: I64
    counts: I64

    @classmethod
    def room(cls, queries: int, rows: int, clusters: int) -> Told:
        """Return room for it."""
        return cls(
            np.empty(queries, dtype=np.int64),
            np.empty((queries, rows), dtype=np.float64),
            np.empty((queries, rows), dtype=np.int64),
            np.empty((queries, rows), dtype=np.int64),
            np.empty((queries, clusters), dtype=np.int64),
            np.empty((queries, COUNTS), dtype=np.int64),
        )


class NearMany:
    """What was found for n queries, the rows of all of them one after another.

    Attributes
    ----------
    row_begins, taken_begins:
        n + 1 places: query i has the rows, and took the clusters, from its own to the next.
    partition, row:
        Of all rows, int64 by part of the batch.
    distances, keys:
        Of all rows; `keys` is None where they were not asked for, or are not all at hand.
    taken:
        int64, by part of the batch.
    counts:
        Of each query, `Near.rows_seen` and what follows it up to `read`; the third and fourth, and
        those behind, are no fields.
    apart:
        The outcome of queries of which there is nothing here, by their places.

    """

    def __init__(self) -> None:
        self.row_begins: list[int] = [0]
        self.taken_begins: list[int] = [0]
        self.partition: list[I64] = []
        self.row: list[I64] = []
        self.distances: list[float] = []
        self.keys: list[str] | None = []
        self.taken: list[I64] = []
        self.counts: list[list[int]] = []
        self.apart: dict[int, Outcome] = {}
        self._ascends: list[bool] = []

    def __len__(self) -> int:
        return len(self.counts)

    def __iter__(self) -> Iterator[Outcome]:
        return map(self.outcome, range(len(self)))

    def settled(self) -> list[bool]:
        """Tell of each query whether it is one of those here, and its rows lie each farther."""
        settled = self._ascends.copy()
        for i in self.apart:
            settled[i] = False
        return settled

    def outcome(self, i: int) -> Outcome:
        """Return what `search` gives of one query."""
        apart = self.apart.get(i)
        if apart is not None:
            return apart
        mine, seen = slice(*self.row_begins[i : i + 2]), self.counts[i]
        return near_of(
            (
                _joined(self.partition)[mine].tolist(),
                _joined(self.row)[mine].tolist(),
                self.distances[mine],
                self.taken_of(i),
                seen[0],
                seen[1],
                *seen[4:8],
                None if self.keys is None else self.keys[mine],
                *seen[FILTERED : LISTED + 1],
                False,
            )
        )

    def taken_of(self, i: int) -> I64:
        """Return the clusters that a query took: its own, without those of the others."""
        return _joined(self.taken)[slice(*self.taken_begins[i : i + 2])].copy()

    def partitions_visited(self, partition_of: I64, partitions: int) -> list[int]:
        """Return in how many partitions each query took clusters.

        Parameters
        ----------
        partition_of:
            int64 [c], of each cluster.
        partitions:
            How many there are.

        """
        taken = _joined(self.taken)
        owner = np.repeat(np.arange(len(self)), np.diff(self.taken_begins))
        visits = np.zeros((len(self), partitions), dtype=np.bool_)
        visits[owner, partition_of[taken]] = True
        visited: list[int] = np.sum(visits, axis=1).tolist()
        return visited

    def add(self, told: Told) -> tuple[I64, I64]:
        """Take in a part of a batch; return partitions and rows of all that it found, int64."""
        distances, taken, counts = told.distances, told.taken, told.counts
        near = np.maximum(told.found, 0)
        there = np.arange(distances.shape[1]) < near[:, np.newaxis]
        ascends = (distances[:, 1:] > distances[:, :-1]) | ~there[:, 1:]
        partition, row = told.partition[there], told.row[there]
        self._ascends += np.all(ascends, axis=1).tolist()
        self.row_begins += (np.cumsum(near) + self.row_begins[-1]).tolist()
        self.partition.append(partition)
        self.row.append(row)
        self.distances += distances[there].tolist()
        lengths = counts[:, _TAKEN]
        ends = np.cumsum(lengths)
        self.taken_begins += (ends + self.taken_begins[-1]).tolist()
        # Not a part of what all clusters have room in, which would be kept as long.
        skipped = np.arange(len(taken)) * taken.shape[1] - (ends - lengths)
        places = np.arange(int(lengths.sum())) + np.repeat(skipped, lengths)
        self.taken.append(taken.reshape(-1)[places])
        self.counts += counts.tolist()
        return partition, row

    def add_keys(self, keys: list[str] | None) -> None:
        """Take in the keys of what was added last."""
        if self.keys is not None and keys is not None:
            self.keys += keys
        else:
            self.keys = None

    def add_apart(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what queries gave that were searched one by one."""
        self.apart |= enumerate(outcomes, len(self))
        count = len(outcomes)
        self.counts += [[0] * COUNTS] * count
        self.row_begins += self.row_begins[-1:] * count
        self.taken_begins += self.taken_begins[-1:] * count
        self._ascends += [False] * count
        self.keys = None


def _joined(parts: list[I64]) -> I64:
    """Join arrays, in place: mostly there is one."""
    if len(parts) != 1:
        parts[:] = [np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)]
    return parts[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """What all queries of a batch have in common."""

    table: ClusterTable
    rotation: Rotation
    mean: F32
    metric: MetricName
    plan: SearchPlan
    sure: U32
    possible: U32
    records: RecordTable | None

    def one(self, query: F32, overall: float, program: FilterProgram | None) -> Outcome:
        """Search for one of them."""
        return search(
            self.table, self.rotation, self.mean, query=query, metric=self.metric,
            plan=self.plan, overall=overall, sure=self.sure, possible=self.possible,
            program=program, records=self.records,
        )  # fmt: skip


def search_many(
    table: ClusterTable,
    rotation: Rotation,
    mean: F32,
    *,
    queries: F32,
    metric: MetricName,
    plan: SearchPlan,
    overall: F64,
    programs: Sequence[FilterProgram | None],
    sure: U32,
    possible: U32,
    records: RecordTable | None = None,
    listed_most: Sequence[int] = (),
) -> NearMany:
    """Search the clusters of a table for each of n queries; see `search`.

    Parameters
    ----------
    table, rotation, mean, metric, plan:
        As for `search`.
    queries:
        float32 [n, d].
    overall, programs:
        float64 [n], and n of them.
    sure, possible:
        uint32 [all blocks], one after another written by all.
    records:
        As for `search`.
    listed_most:
        Of each query, how many rows of lists may be asked to filter all clusters, see
        `filter_listed`; below 0 where the filter is evaluated in the walk. None are, if empty.

    """
    size = min(_DISTANCES_MAX // max(1, len(table.centers)), _NEAR_MAX // _near_most(plan))
    size = max(1, size)
    shared = _Shared(table, rotation, mean, metric, plan, sure, possible, records)
    found = NearMany()
    for begin in range(0, len(queries), size):
        part = slice(begin, begin + size)
        _search_part(
            shared,
            queries[part],
            overall[part],
            programs[part],
            listed_most=listed_most[part],
            into=found,
        )
    return found


def _search_part(
    shared: _Shared,
    queries: F32,
    overall: F64,
    programs: Sequence[FilterProgram | None],
    *,
    listed_most: Sequence[int],
    into: NearMany,
) -> None:
    chosen = native.active()
    first = len(into)

    def apart(i: int) -> Outcome:
        return shared.one(queries[i], float(overall[i]), programs[i])

    if chosen is None:
        into.add_apart([apart(i) for i in range(len(queries))])
        return
    table, plan = shared.table, shared.plan
    count, (clusters, dimension) = len(queries), table.centers.shape
    if not len(programs) == len(overall) == count:
        raise InternalError("a batch has as many filters and shares as queries")
    if queries.shape != (count, len(shared.mean)):
        raise InternalError("queries of another dimension were given to a search")
    if len(listed_most) not in {0, count}:
        raise InternalError("a batch says of each query whether lists serve it, or of none")
    beside = native_table(table)
    bound = [None if program is None else beside.bind(program) for program in programs]
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    overall = np.ascontiguousarray(overall, dtype=np.float64)
    ats = np.array([0 if one is None else one.at for one in bound], dtype=np.uint64)
    near_most = _near_most(plan)
    rooms = [
        np.empty(count * size, dtype=np.uint8)
        for size in (
            8 * dimension, 16 * low_groups(dimension), 4 * clusters, 24, 4 * dimension, 8,
        )
    ]  # fmt: skip
    coarse = np.empty(count * coarse_query_bytes(dimension), dtype=np.uint8)
    lazily = np.empty((count, 2), dtype=np.float64)
    told = Told.room(count, near_most, clusters)
    most = np.array(listed_most, dtype=np.int64)
    listed = table.listed
    lists_at = beside.lists(listed) if listed and np.any(most >= 0) else 0
    listed_counts = np.empty(2 * clusters if lists_at else 0, dtype=np.int64)
    batch = _BATCH.pack(
        count,
        *_addresses(queries, ats, overall, *rooms),
        near_most,
        *_addresses(*told, coarse, lazily),
        lists_at,
        *_addresses(most, listed_counts),
    )
    depth = max((one.depth for one in bound if one is not None), default=1)
    room = room_of(beside, len(shared.mean))
    try:
        room.prepare(
            chosen, table, shared.rotation, shared.mean,
            metric=shared.metric, plan=plan, depth=depth,
        )  # fmt: skip
        room.admit(0, None, shared.sure, shared.possible)
        chosen.search_many(beside.at, room.at, batch)
    finally:
        beside.rooms.append(room)
    partition, row = into.add(told)
    keys = None
    if shared.records is not None:
        keys = shared.records.keys_at(chosen, address(partition), address(row), len(row))
    into.add_keys(keys)
    for i in np.flatnonzero(told.found < 0).tolist():
        outcome = told.found.item(i)
        if outcome == STAYS_OPEN:
            into.apart[first + i] = StaysOpen()
        elif outcome == _TOO_MANY:
            into.apart[first + i] = apart(i)
        else:
            into.apart[first + i] = Missing(into.taken_of(first + i))


def _near_most(plan: SearchPlan) -> int:
    """Return for how many rows of an answer there is room; few tie with the k-th."""
    return 2 * plan.k + 8


def _addresses(*arrays: AnyArray) -> list[int]:
    return [address(array) for array in arrays]
