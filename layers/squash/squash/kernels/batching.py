"""Several queries searched in one native call, those near one another one after the other.

Each gets what `search` gives it, to the bit. What is shared is memory: centers are read once for
all queries, and a cluster's codes are still in the cache when the next query comes to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

import numpy as np

from squash.arrays import F32, F64, U32, AnyArray
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.distances import MetricName
from squash.kernels.native import address
from squash.kernels.native_table import native_table
from squash.kernels.packing import low_groups
from squash.kernels.record_keys import RecordTable
from squash.kernels.searching import (
    Missing,
    Near,
    SearchPlan,
    StaysOpen,
    coarse_query_bytes,
    near_of,
    room_of,
    search,
)
from squash.kernels.tables import ClusterTable, FilterProgram
from squash.values import dataclass

# `sq_batch`.
_BATCH: Final = Struct("=q10Qq8Q")
_COUNTS: Final = 8
_TOO_MANY: Final = -(1 << 63) + 1
_STAYS_OPEN: Final = -(1 << 63)
# Distances to centers that are held at once: 16 MiB.
_DISTANCES_MAX: Final = 1 << 22
# Rows of answers that are: 24 MiB.
_NEAR_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """What all queries of a batch have in common."""

    table: ClusterTable
    axes: F32
    mean: F32
    metric: MetricName
    plan: SearchPlan
    sure: U32
    possible: U32
    records: RecordTable | None

    def one(
        self, vector: F32, query: F32, overall: float, program: FilterProgram | None
    ) -> Near | Missing | StaysOpen:
        """Search for one of them."""
        return search(
            self.table, self.axes, self.mean, vector=vector, query=query, metric=self.metric,
            plan=self.plan, overall=overall, sure=self.sure, possible=self.possible,
            program=program, records=self.records,
        )  # fmt: skip


def search_many(
    table: ClusterTable,
    axes: F32,
    mean: F32,
    *,
    vectors: F32,
    queries: F32,
    metric: MetricName,
    plan: SearchPlan,
    overall: F64,
    programs: Sequence[FilterProgram | None],
    sure: U32,
    possible: U32,
    records: RecordTable | None = None,
) -> list[Near | Missing | StaysOpen]:
    """Search the clusters of a table for each of n queries; see `search`.

    Parameters
    ----------
    table, axes, mean, metric, plan:
        As for `search`.
    vectors, queries:
        float32 [n, d].
    overall, programs:
        float64 [n], and n of them.
    sure, possible:
        uint32 [all blocks], one after another written by all.
    records:
        As for `search`.

    """
    size = min(_DISTANCES_MAX // max(1, len(table.centers)), _NEAR_MAX // _near_most(plan))
    size = max(1, size)
    shared = _Shared(table, axes, mean, metric, plan, sure, possible, records)
    found: list[Near | Missing | StaysOpen] = []
    for begin in range(0, len(vectors), size):
        part = slice(begin, begin + size)
        found += _search_part(shared, vectors[part], queries[part], overall[part], programs[part])
    return found


def _search_part(
    shared: _Shared,
    vectors: F32,
    queries: F32,
    overall: F64,
    programs: Sequence[FilterProgram | None],
) -> list[Near | Missing | StaysOpen]:
    chosen = native.active()
    if chosen is None:
        return [
            shared.one(vectors[i], queries[i], float(overall[i]), programs[i])
            for i in range(len(vectors))
        ]
    table, plan = shared.table, shared.plan
    count, (clusters, dimension) = len(vectors), table.centers.shape
    if not len(programs) == len(queries) == len(overall) == count:
        raise InternalError("a batch has as many filters and shares as queries")
    beside = native_table(table)
    beside.coarsen(chosen)
    bound = [None if program is None else beside.bind(program) for program in programs]
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
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
    found = np.empty(count, dtype=np.int64)
    distances = np.empty((count, near_most), dtype=np.float64)
    places = np.empty((2, count, near_most), dtype=np.int64)
    taken = np.empty((count, clusters), dtype=np.int64)
    counts = np.empty((count, _COUNTS), dtype=np.int64)
    batch = _BATCH.pack(
        count,
        *_addresses(vectors, queries, ats, overall, *rooms),
        near_most,
        *_addresses(found, distances, places[0], places[1], taken, counts, coarse, lazily),
    )
    depth = max((one.depth for one in bound if one is not None), default=1)
    room = room_of(beside, len(shared.mean))
    try:
        room.prepare(table, shared.axes, shared.mean, shared.metric, plan, depth=depth)
        room.ask(vectors, queries)
        room.admit(0, None, shared.sure, shared.possible, 0.0)
        chosen.search_many(beside.at, room.at, batch)
    finally:
        beside.rooms.append(room)
    # The rows of all answers, one after another.
    there = np.arange(near_most) < found[:, np.newaxis]
    partition, row = places[0][there], places[1][there]
    keys = None
    if shared.records is not None:
        keys = shared.records.keys_at(chosen, address(partition), address(row), len(row))
    partitions, rows, near_distances = partition.tolist(), row.tolist(), distances[there].tolist()
    results: list[Near | Missing | StaysOpen] = []
    end = 0
    for i, (near, seen) in enumerate(zip(found.tolist(), counts.tolist(), strict=True)):
        if near == _STAYS_OPEN:
            results.append(StaysOpen())
        elif near == _TOO_MANY:
            results.append(shared.one(vectors[i], queries[i], float(overall[i]), programs[i]))
        elif near < 0:
            results.append(Missing(taken[i, : seen[3]]))
        else:
            begin, end = end, end + near
            # Its own: who keeps an answer would keep what all clusters have room in.
            results.append(
                near_of(
                    (
                        partitions[begin:end],
                        rows[begin:end],
                        near_distances[begin:end],
                        taken[i, : seen[3]].copy(),
                        seen[0],
                        seen[1],
                        *seen[4:],
                        None if keys is None else keys[begin:end],
                    )
                )
            )
    return results


def _near_most(plan: SearchPlan) -> int:
    """Return for how many rows of an answer there is room; few tie with the k-th."""
    return 2 * plan.k + 8


def _addresses(*arrays: AnyArray) -> list[int]:
    return [address(array) for array in arrays]
