"""One query from its vector to the distances of its nearest rows, in one native call.

It is `prepare`, `walk`, `scan` (or, of few admitted rows, `gather_rows`) and `refine` in a row, and
gives what they give; the sum of their fixed costs is what it saves.
"""

from __future__ import annotations

from array import array
from operator import lt
from typing import Any, Final, NamedTuple

import numpy as np

from squash.arrays import F32, F64, I64, U32, distinct
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.distances import MetricName, gather_rows, refine, row_distances
from squash.kernels.expecting import MatchPlanner, Ranges, asked_of
from squash.kernels.filtering import filter_clusters
from squash.kernels.listed import filter_listed
from squash.kernels.native_table import native_table
from squash.kernels.prepare import prepare
from squash.kernels.record_keys import RecordTable, split_keys
from squash.kernels.rotations import Rotation
from squash.kernels.scanning import scan
from squash.kernels.search_rooms import COUNTS_FORM, Room, SearchPlan, room_of
from squash.kernels.tables import ClusterTable, FilterProgram, PreparedQuery, Taken
from squash.kernels.walking import walk
from squash.values import dataclass, maker_of

_FILTERED, _LISTED, _KEY_BYTES, _EVERY, _SINGLE = 8, 9, 10, 11, 12  # which of the counts
STAYS_OPEN: Final = -(1 << 63)
_NOT_AT_ONCE: Final = STAYS_OPEN + 2


class Near(NamedTuple):
    """The nearest k rows and what ties with the last of them, ascending by distance.

    `taken` clusters were taken, in which `admitted` rows pass, of `rows_seen`; of these
    `low_scanned` were scanned, `ranked` by their full codes, `kept`, and `read` measured. `keys`
    are the rows' keys, where they were asked for and are at hand. `filtered` is how many rows pass,
    where a program was evaluated for all clusters, else -1. `listed` is 1 where that was by lists,
    -1 where lists would have paid but did not serve, and `every` whether all that passes was
    measured.
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
    filtered: int
    listed: int
    every: bool

    def searched(self) -> tuple[int, ...]:
        """Return the counts from `rows_seen` to `read`."""
        return self[4:10]


near_of: Final = maker_of(Near)


class Settled(NamedTuple):
    """The nearest rows by their keys, where no more than k were found and none ties with another.

    `counts` are as the kernels left them.
    """

    keys: list[str]
    distances: list[float]
    counts: tuple[int, ...]

    @property
    def filtered(self) -> int:
        """As of `Near`."""
        return self.counts[_FILTERED]

    @property
    def listed(self) -> int:
        """As of `Near`."""
        return self.counts[_LISTED]

    @property
    def every(self) -> bool:
        """As of `Near`."""
        return self.counts[_EVERY] != 0

    def searched(self) -> tuple[int, ...]:
        """Return the counts of `Near` from `rows_seen` to `read`."""
        return self.counts[:2] + self.counts[4:_FILTERED]


_settled: Final = maker_of(Settled)


@dataclass(frozen=True, slots=True, eq=False)
class Missing:
    """A search that could not go on: partitions of the clusters `taken` are not loaded."""

    taken: I64


@dataclass(frozen=True, slots=True, eq=False)
class StaysOpen:
    """A search that could not go on: cells leave rows of the clusters taken open.

    Or more rows pass than are measured at once, where all are. If a program was evaluated for all
    clusters, `counts` are those of sure and possible rows, which the bitmaps hold.
    """

    counts: tuple[I64, I64] | None = None


def search(
    table: ClusterTable,
    rotation: Rotation,
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
    listed_most: int = -1,
    filtered_most: int = 0,
) -> Near | Missing | StaysOpen:
    """Search the clusters of a table.

    Parameters
    ----------
    table:
        The clusters; codes and vectors of those taken must be loaded.
    rotation, mean:
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
        Whether all rows that pass are measured, in whatever cluster: those of `counts` and their
        bitmaps, or of a program, which is then evaluated for all clusters.
    listed_most:
        Where there are no counts: up to so many rows of lists are asked to filter all clusters,
        see `filter_listed`; below 0 none.
    filtered_most:
        Of `every` row that passes a program, up to so many are measured.

    """
    standing = standing_search(table, rotation, mean, metric=metric, plan=plan)
    if standing is None:
        return _by_parts(
            table, rotation, mean, query=query, metric=metric, plan=plan,
            overall=overall, bitmaps=(sure, possible), program=program, counts=counts,
            every=every, listed_most=listed_most, filtered_most=filtered_most,
        )  # fmt: skip
    found = standing.search(
        query, overall, program, sure, possible,
        counts=counts, records=records, every=every, listed_most=listed_most,
        filtered_most=filtered_most,
    )  # fmt: skip
    if isinstance(found, Settled):
        raise InternalError("a search gave keys where it was to give rows")
    return found


def standing_search(
    table: ClusterTable, rotation: Rotation, mean: F32, *, metric: MetricName, plan: SearchPlan
) -> StandingSearch | None:
    """Return what searches of a table and plan have in common; None if the twins serve.

    The arguments are those of `search`.
    """
    chosen = native.active()
    if chosen is None:
        return None
    return StandingSearch(chosen, table, rotation, mean, metric=metric, plan=plan)


class StandingSearch:
    """What searches of one plan have in common, so that nothing is asked twice on a query's way.

    It stands for as long as its table does, and the kernels that served when it was made.
    """

    __slots__ = ("_beside", "_me", "_mean", "_metric", "_plan", "_rotation", "chosen", "table")

    def __init__(
        self,
        chosen: native.Native,
        table: ClusterTable,
        rotation: Rotation,
        mean: F32,
        *,
        metric: MetricName,
        plan: SearchPlan,
    ) -> None:
        self._me = object()  # by which rooms know who prepared them, without holding the table
        self.chosen: Final = chosen
        self.table: Final = table
        self._rotation = rotation
        self._mean = mean
        self._metric: MetricName = metric
        self._plan = plan
        self._beside = native_table(table)

    def search(
        self,
        query: F32,
        overall: float,
        program: FilterProgram | None,
        sure: U32 | None,
        possible: U32 | None,
        *,
        counts: tuple[I64, I64] | None = None,
        records: RecordTable | None = None,
        every: bool = False,
        listed_most: int = -1,
        filtered_most: int = 0,
        settle: bool = False,
    ) -> Near | Settled | Missing | StaysOpen:
        """Search as `search` does; without a filter there need be no bitmaps.

        With `settle`, rows are given by their keys alone where that says it all.
        """
        chosen, beside = self.chosen, self._beside
        bound = None if program is None else beside.bind(program)
        room = room_of(beside, len(self._mean))
        try:
            depth = 1 if bound is None else bound.depth
            if room.prepared_by is not self._me or depth > room.depth:
                self._prepare(room, depth)
            room.ask(query, overall)
            if sure is None or possible is None or (bound is None and counts is None):
                room.admit_all()
            else:
                room.admit(
                    0 if bound is None or counts is not None else bound.at, counts, sure, possible
                )
                listed = self.table.listed
                lists_at = beside.lists(listed) if listed_most >= 0 and listed else 0
                room.filter_all(lists_at, listed_most, filtered_most)
            if records is not room.records:
                room.read_keys(records)
            found = (chosen.search_all if every else chosen.search)(beside.at, room.at)
            return _outcome(chosen, room, found, settle=settle)
        finally:
            beside.rooms.append(room)

    def ask(  # noqa: PLR0917 - by their places they are found sooner
        self,
        query: F32,
        alike: Ranges,
        ends: array[float],
        planner: MatchPlanner,
        sure: U32,
        possible: U32,
        *,
        records: RecordTable | None = None,
        settle: bool = False,
    ) -> Near | Settled | Missing | StaysOpen | None:
        """Search by a filter of intervals as `expect` says of it; None where it can't be at once.

        Parameters
        ----------
        alike, ends, planner:
            As for `expect`.
        query, sure, possible, records, settle:
            As for `search`.

        """
        chosen, beside = self.chosen, self._beside
        asked, words, at = asked_of(self.table, alike, ends)
        room = room_of(beside, len(self._mean))
        try:
            if room.prepared_by is not self._me or asked.depth > room.depth:
                self._prepare(room, asked.depth)
            room.ask(query, 0.0)
            room.admit(0, None, sure, possible)  # a program is made there
            listed = self.table.listed
            room.filter_all(beside.lists(listed) if listed else 0, -1, 0)
            if records is not room.records:
                room.read_keys(records)
            found = chosen.ask(beside.at, room.at, asked.at, planner.at, at)
            del words  # The kernels have read them.
            return None if found == _NOT_AT_ONCE else _outcome(chosen, room, found, settle=settle)
        finally:
            beside.rooms.append(room)

    def _prepare(self, room: Room, depth: int) -> None:
        room.prepare(
            self.chosen, self.table, self._rotation, self._mean,
            metric=self._metric, plan=self._plan, depth=depth,
        )  # fmt: skip
        room.prepared_by = self._me


def _outcome(
    chosen: native.Native, room: Room, found: int, *, settle: bool
) -> Near | Settled | Missing | StaysOpen:
    """Return what a search left in its room."""
    seen = COUNTS_FORM.unpack_from(room.counts)
    if found < 0:
        if found != STAYS_OPEN:
            return Missing(room.taken[: seen[3]].copy())
        return StaysOpen(room.filtered() if seen[_EVERY] and seen[_FILTERED] >= 0 else None)
    keys, records = None, room.records
    if records is not None:
        key_bytes = seen[_KEY_BYTES]
        if 0 < key_bytes <= room.key_bytes:
            keys = split_keys(room.keys[: key_bytes - 1])
        elif key_bytes >= 0 or not found:
            keys = records.keys_at(chosen, room.near_partition_at, room.near_row_at, found)
    distances: list[float] = room.near_distance[:found].tolist()
    if settle and keys is not None and seen[_SINGLE]:
        return _settled((keys, distances, seen))
    return near_of(
        (
            room.near_partition[:found].tolist(),
            room.near_row[:found].tolist(),
            distances,
            room.taken[: seen[3]].copy(),
            seen[0],
            seen[1],
            *seen[4:_FILTERED],
            keys,
            seen[_FILTERED],
            seen[_LISTED],
            seen[_EVERY] != 0,
        )
    )


def ascends(distances: list[float]) -> bool:
    """Tell whether each row is farther than the one before: what is found at once comes so."""
    return all(map(lt, distances, distances[1:]))


def _by_parts(
    table: ClusterTable,
    rotation: Rotation,
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
    listed_most: int,
    filtered_most: int,
) -> Near | Missing | StaysOpen:
    known, counts = counts, counts or _filter_all(table, program, bitmaps, listed_most)
    listed, filtered = int(counts is not known), -1
    if program is not None and listed_most >= 0 and counts is None:
        listed = -1
    if every and program is not None and counts is None:
        counts = filter_clusters(table, program, np.arange(len(table.rows)), *bitmaps)
    if counts is not None and counts is not known:
        filtered = int(counts[1].sum())
    if every:
        most = min(plan.straight.most, filtered_most) if filtered >= 0 else plan.straight.most
        found = _all_by_parts(
            table, query, metric, plan, counts=counts, possible=bitmaps[1], most=most
        )
        if isinstance(found, StaysOpen) and filtered >= 0:
            return StaysOpen(counts)
        return (
            found._replace(filtered=filtered, listed=listed) if isinstance(found, Near) else found
        )
    prepared = prepare(table, rotation, mean, query, unit=metric == "cosine")
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
        need_against=plan.need_against,
        anchor_rows=plan.anchor_rows,
        exponent=plan.exponent,
    )
    if taken.possible_seen > taken.sure_seen:
        return StaysOpen()
    found = _taken_by_parts(
        table, query, metric, plan,
        prepared=prepared, taken=taken,
        possible=None if program is None and counts is None else bitmaps[1],
    )  # fmt: skip
    return found._replace(filtered=filtered, listed=listed) if isinstance(found, Near) else found


def _taken_by_parts(
    table: ClusterTable,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    *,
    prepared: PreparedQuery,
    taken: Taken,
    possible: U32 | None,
) -> Near | Missing:
    """Find the nearest rows of the clusters that a walk took, among those possible or all."""
    straight = plan.straight.holds(taken.possible_seen, len(taken.clusters))
    needed: list[list[Any]] = [table.vectors]
    if not straight:
        needed += table.blocks, table.full
    for number in distinct(table.partition[taken.clusters]).tolist():
        if any(arrays[number] is None for arrays in needed):
            return Missing(taken.clusters)
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
        -1,
        0,
        every=False,
    )


def _filter_all(
    table: ClusterTable, program: FilterProgram | None, bitmaps: tuple[U32, U32], listed_most: int
) -> tuple[I64, I64] | None:
    """Filter all clusters by lists, if that is asked for and takes few rows."""
    if program is None or listed_most < 0:
        return None
    return filter_listed(table, program, listed_most, *bitmaps)


def _all_by_parts(
    table: ClusterTable,
    query: F32,
    metric: MetricName,
    plan: SearchPlan,
    *,
    counts: tuple[I64, I64] | None,
    possible: U32,
    most: int,
) -> Near | Missing | StaysOpen:
    sure_counts, possible_counts = counts or (table.alive_counts, table.alive_counts)
    chosen = np.flatnonzero(possible_counts)
    admitted = int(possible_counts.sum())
    if not int(sure_counts.sum()) == admitted <= most:
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
        -1,
        0,
        every=True,
    )


def _nearest(distances: F64, k: int) -> I64:
    """Return the places of the k nearest, and of what ties with the last of them, ascending."""
    order = np.argsort(distances, kind="stable")
    order = order[: int(np.sum(~np.isnan(distances)))]
    if len(order) > k:
        last = distances[order[k - 1]]
        order = order[: int(np.searchsorted(distances[order], last, side="right"))]
    return order
