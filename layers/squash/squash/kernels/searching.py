"""One query from its vector to the distances of its nearest rows, in one native call.

It is `prepare`, `walk`, `scan` (or, of few admitted rows, `gather_rows`) and `refine` in a row, and
gives what they give; the sum of their fixed costs is what it saves.
"""

from __future__ import annotations

from array import array
from math import inf
from typing import Final, TypeAlias

from squash.arrays import F32, I64, U32, AnyArray
from squash.errors import InternalError
from squash.kernels import native
from squash.kernels.by_parts import search_by_parts
from squash.kernels.distances import MetricName
from squash.kernels.expecting import MatchPlanner, Ranges, beside_of
from squash.kernels.making import Maker
from squash.kernels.native_table import native_table
from squash.kernels.outcomes import (
    COUNTS_FORM,
    EVERY,
    FILTERED,
    KEY_BYTES,
    LISTED,
    NOT_AT_ONCE,
    SINGLE,
    STAYS_OPEN,
    UNCHECKED,
    Missing,
    Near,
    Settled,
    StaysOpen,
    Unchecked,
    near_of,
    settled_of,
)
from squash.kernels.record_keys import RecordTable, split_keys
from squash.kernels.rotations import Rotation
from squash.kernels.search_rooms import Room, SearchPlan, room_of
from squash.kernels.tables import ClusterTable, FilterProgram

Sound: TypeAlias = tuple[float, float]
"""The least and the most that a query's squares may add up to; any, where that is infinity."""
ANY: Final[Sound] = (0.0, inf)


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
        return search_by_parts(
            table, rotation, mean, query=query, metric=metric, plan=plan,
            overall=overall, bitmaps=(sure, possible), program=program, counts=counts,
            every=every, listed_most=listed_most, filtered_most=filtered_most,
        )  # fmt: skip
    found = standing.search(
        query, overall, program, sure, possible,
        counts=counts, records=records, every=every, listed_most=listed_most,
        filtered_most=filtered_most,
    )  # fmt: skip
    if isinstance(found, (Settled, Unchecked)):
        raise InternalError("a search of rows, of any query, gave something else")
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
        query: AnyArray,
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
        maker: Maker | None = None,
        sound: Sound = ANY,
    ) -> Near | Settled | Missing | StaysOpen | Unchecked:
        """Search as `search` does; without a filter there need be no bitmaps.

        With a maker, rows are given as that has it, where it says it all.

        By the C entry `query` may be any array, if it is said what is sound: float32 or float64
        [d], C-contiguous, whose values' squares add up to at least and at most so much. Any other
        is not searched for.
        """
        chosen, beside = self.chosen, self._beside
        bound = None if program is None else beside.bind(program)
        room = room_of(beside, len(self._mean))
        try:
            depth = 1 if bound is None else bound.depth
            if room.prepared_by is not self._me or depth > room.depth:
                self._prepare(room, depth)
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
            entry = chosen.entry
            if entry is None:
                room.ask(query, overall)
                found = (chosen.search_all if every else chosen.search)(beside.at, room.at)
            else:
                found = entry.call(
                    entry.search_all if every else entry.search, beside.at, room.at,
                    0 if maker is None else maker.at, query, *sound, overall,
                )  # fmt: skip
                if type(found) is tuple:
                    return settled_of(found)
                if found is None:
                    return _unchecked(sound)
            return _outcome(chosen, room, found, maker)
        finally:
            beside.rooms.append(room)

    def ask(  # noqa: PLR0917 - by their places they are found sooner
        self,
        query: AnyArray,
        alike: Ranges,
        ends: array[float],
        planner: MatchPlanner,
        sure: U32,
        possible: U32,
        *,
        records: RecordTable | None = None,
        maker: Maker | None = None,
        sound: Sound = ANY,
    ) -> Near | Settled | Missing | StaysOpen | Unchecked | None:
        """Search by a filter of intervals as `expect` says of it; None where it can't be at once.

        Parameters
        ----------
        alike, ends, planner:
            As for `expect`.
        query, sure, possible, records, maker, sound:
            As for `search`.

        """
        chosen, beside = self.chosen, self._beside
        asked = beside_of(self.table, alike)
        room = room_of(beside, len(self._mean))
        try:
            if room.prepared_by is not self._me or asked.depth > room.depth:
                self._prepare(room, asked.depth)
            room.admit(0, None, sure, possible)  # a program is made there
            listed = self.table.listed
            room.filter_all(beside.lists(listed) if listed else 0, -1, 0)
            if records is not room.records:
                room.read_keys(records)
            entry = chosen.entry
            if entry is None:
                room.ask(query, 0.0)
                words, at = asked.program(ends)
                found = chosen.ask(beside.at, room.at, asked.at, planner.at, at)
                del words  # The kernels have read them.
            else:
                found = entry.call(
                    entry.ask, beside.at, room.at, 0 if maker is None else maker.at, query, *sound,
                    0.0, asked.room, ends, asked.intervals_at, asked.at, planner.at,
                )  # fmt: skip
                if type(found) is tuple:
                    return settled_of(found)
                if found is None:
                    return _unchecked(sound)
            return None if found == NOT_AT_ONCE else _outcome(chosen, room, found, maker)
        finally:
            beside.rooms.append(room)

    def _prepare(self, room: Room, depth: int) -> None:
        room.prepare(
            self.chosen, self.table, self._rotation, self._mean,
            metric=self._metric, plan=self._plan, depth=depth,
        )  # fmt: skip
        room.prepared_by = self._me


def _unchecked(sound: Sound) -> Unchecked:
    if sound is ANY:
        raise InternalError("a search was asked with a query of another dimension or dtype")
    return UNCHECKED


def _outcome(
    chosen: native.Native, room: Room, found: int, maker: Maker | None
) -> Near | Settled | Missing | StaysOpen:
    """Return what a search left in its room."""
    seen = COUNTS_FORM.unpack_from(room.counts)
    if found < 0:
        if found != STAYS_OPEN:
            return Missing(room.taken[: seen[3]].copy())
        return StaysOpen(room.filtered() if seen[EVERY] and seen[FILTERED] >= 0 else None)
    keys, records = None, room.records
    if records is not None:
        key_bytes = seen[KEY_BYTES]
        if 0 < key_bytes <= room.key_bytes:
            keys = split_keys(room.keys[: key_bytes - 1])
        elif key_bytes >= 0 or not found:
            keys = records.keys_at(chosen, room.near_partition_at, room.near_row_at, found)
    distances: list[float] = room.near_distance[:found].tolist()
    make = None if maker is None else maker.make
    if make is not None and keys is not None and seen[SINGLE]:
        return settled_of((make(keys, distances), room.counts.tobytes(), seen[LISTED]))
    return near_of(
        (
            room.near_partition[:found].tolist(),
            room.near_row[:found].tolist(),
            distances,
            room.taken[: seen[3]].copy(),
            seen[0],
            seen[1],
            *seen[4:FILTERED],
            keys,
            seen[FILTERED],
            seen[LISTED],
            seen[EVERY] != 0,
        )
    )
