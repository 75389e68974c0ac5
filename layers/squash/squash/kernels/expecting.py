"""What is expected of a filter before it is searched: which share passes, and what plans cost.

Of a filter of intervals of numbers the native kernels bind it, estimate and plan in one call.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from squash.arrays import F64, U8
from squash.kernels import native
from squash.kernels.binding import RangesAlike, bound_of
from squash.kernels.filtering import filter_sample
from squash.kernels.native import address
from squash.kernels.native_table import native_table
from squash.kernels.tables import ClusterTable, FilterProgram, NumberCells, Range, all_hold
from squash.kernels.walking import cell_of
from squash.values import dataclass, maker_of

if TYPE_CHECKING:
    from squash.kernels.native_table import NativeTable

_NO_NUMBERS: Final = array("d")
# `sq_ranges` and `sq_prices`; and the numbers of `sq_expected`.
_ALIKE: Final = Struct("=3QQ2Qd")
_PRICES: Final = Struct("=6q12dQ")
_EXPECTED_WORDS: Final = 9


class MatchPlan(NamedTuple):
    """How the matches of a filter are found: all scanned, or clusters walked."""

    walk_ns: float
    scan_all_ns: float
    filter_ns: float
    """What it costs to evaluate the filter for all rows."""
    walk_filter_ns: float
    """And for those of the clusters that a walk takes."""
    scan_all: bool


_plan_of: Final = maker_of(MatchPlan)


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What the steps of finding matches cost on an index, in nanoseconds.

    Parameters
    ----------
    rows, clusters, refined:
        Rows and clusters of the index, and how many rows a walk measures.
    filter_row, open_row:
        To look up one row's cell for one comparison, and the value of a row that cells leave open.
    exact, signs, gathered:
        A row's exact distance, its signs, and its full code.
    listed:
        A row of a list, and as much again for every comparison that it is asked.
    preparation, begun:
        A query, and a cluster before the first of its rows.
    surviving:
        About which share of the rows survives the scan of signs.

    """

    rows: int
    clusters: int
    refined: int
    filter_row: float
    open_row: float
    exact: float
    preparation: float
    begun: float
    signs: float
    gathered: float
    listed: float
    surviving: float

    def codes(self, rows: float, share: float) -> float:
        """Return what the codes of some clusters' rows cost, of which a share is admitted."""
        gathered = share * self.gathered
        return rows * min(gathered, self.signs + self.surviving * gathered)

    def plan(
        self,
        matches: float,
        open_rows: float,
        *,
        comparisons: int,
        clusters_needed: float,
        always_most: int,
        whole: bool = True,
    ) -> MatchPlan:
        """Choose between measuring every row that passes, and walking clusters.

        Parameters
        ----------
        matches, open_rows:
            Rows that pass, and those whose cells leave it open.
        comparisons:
            How many the filter has.
        clusters_needed:
            How many a walk takes.
        always_most:
            Up to so many matches all are measured, whatever it costs.
        whole:
            Whether more are, if that is cheaper: each may be a page to get, which no price counts.

        """
        rows, clusters, exact = self.rows, self.clusters, self.exact
        filtering = rows * comparisons * self.filter_row
        filtering += open_rows * self.open_row
        every = filtering + matches * exact
        taken = min(clusters_needed, clusters)
        reached = taken / (clusters or 1)
        walk = self.preparation + taken * self.begun
        codes = self.codes(reached * rows, matches / (rows or 1))
        walk += reached * filtering + codes
        walk += min(self.refined, reached * matches) * exact
        scan_all = matches <= always_most or (whole and every <= walk)
        return _plan_of((walk, every, filtering, reached * filtering, scan_all))


class MatchPlanner:
    """Plans filters of one index that are asked for as many answers at the same recall.

    Parameters
    ----------
    prices:
        What steps cost.
    walked, thinning:
        float64 [513], how many clusters walks take, by the cell of the share of rows that passes;
        and by what shares are thinned; see `walk`.
    open_least:
        Which share of rows an interval of numbers leaves open at least.
    always_most:
        Up to so many matches all are measured.
    unsure_most:
        Where cells leave more than this share of those that may pass open, all rows are filtered
        before anything is walked.
    lists:
        Whether there may be lists of rows.
    whole:
        As for `Prices.plan`.

    """

    __slots__ = ("_always_most", "_lists", "_open_least", "_prices", "_thinning", "_unsure_most",
                 "_walked", "_whole", "_words", "at")  # fmt: skip

    def __init__(
        self,
        prices: Prices,
        *,
        walked: F64,
        thinning: float,
        open_least: float,
        always_most: int,
        unsure_most: float,
        lists: bool,
        whole: bool,
    ) -> None:
        self._prices = prices
        self._walked = walked
        self._thinning = thinning
        self._open_least = open_least
        self._always_most = always_most
        self._unsure_most = unsure_most
        self._lists = lists
        self._whole = whole
        words = _PRICES.pack(
            prices.rows, prices.clusters, prices.refined, always_most, lists, whole,
            prices.filter_row, prices.open_row, open_least, unsure_most, prices.exact,
            prices.preparation, prices.begun, prices.signs, prices.gathered, prices.listed,
            prices.surviving, thinning, address(walked),
        )  # fmt: skip
        self._words: U8 = np.frombuffer(words, dtype=np.uint8).copy()
        self.at: int = address(self._words)

    def plan(
        self, share: float, still_open: float, *, comparisons: int, numbers: bool
    ) -> MatchPlan:
        """Plan a filter.

        Parameters
        ----------
        share, still_open:
            About which share of all rows passes, and which its cells leave open.
        comparisons:
            How many it has.
        numbers:
            Whether the first is one with numbers.

        """
        prices = self._prices
        open_share = max(still_open, self._open_least) if numbers else 0.0
        needed = self._walked.item(cell_of(share * self._thinning))
        return prices.plan(
            share * prices.rows,
            open_share * prices.rows,
            comparisons=comparisons,
            clusters_needed=needed,
            always_most=self._always_most,
            whole=self._whole,
        )

    def admit(
        self, share: float, still_open: float, plan: MatchPlan, *, comparisons: int
    ) -> tuple[float, float]:
        """Return what of a filter can be searched at once, and how: the last two of `Expected`."""
        every, filter_ns = 0.0, plan.walk_filter_ns
        if plan.scan_all or not still_open <= self._unsure_most * share:
            few = share * self._prices.rows <= self._always_most
            every, filter_ns = 1.0 if few else -1.0, plan.filter_ns
        if every < 0:
            return every, -1.0
        return every, float(self.listed_most(share, filter_ns, comparisons=comparisons))

    def listed_most(self, share: float, filter_ns: float, *, comparisons: int) -> int:
        """Return how many rows of lists may be asked in the place of a filter; -1 is none.

        Parameters
        ----------
        share:
            About which share of all rows passes.
        filter_ns:
            What it costs to evaluate the filter.
        comparisons:
            How many it has.

        """
        each_ns = self._prices.listed * (1 + comparisons)
        # No fewer rows of lists are asked than pass.
        pays = self._lists and share * self._prices.rows * each_ns < filter_ns
        return int(filter_ns / each_ns) if pays else -1

    def expect(
        self,
        program: FilterProgram,
        share: float,
        still_open: float,
        *,
        numbers: bool,
    ) -> Expected:
        """Return what is expected of a filter, as `plan` and `admit` have it."""
        comparisons = program.comparisons
        plan = self.plan(share, still_open, comparisons=comparisons, numbers=numbers)
        admitted = self.admit(share, still_open, plan, comparisons=comparisons)
        return _expected_of((program, share, still_open, *plan, *admitted))


class Ranges:
    """What filters of a table have in common that ask for an interval of each of some attributes.

    Parameters
    ----------
    attributes, cells:
        The attributes, none of which has lists, and their cells. Cells and values are loaded.
    every:
        Of which clusters a filter of several is tried on a sample; see `filter_sample`.
    numbers, step:
        Of a single attribute: the numbers of every `step`-th row, ascending.
    rows:
        How many rows there are.
    alive:
        Which share of them lives.

    """

    __slots__ = ("alive", "attributes", "cells", "every", "native", "numbers", "operations", "rows",
                 "step")  # fmt: skip

    def __init__(
        self,
        attributes: tuple[str, ...],
        cells: tuple[NumberCells, ...],
        *,
        every: int,
        numbers: array[float] = _NO_NUMBERS,
        step: int = 1,
        rows: int,
        alive: float,
    ) -> None:
        self.attributes: Final = attributes
        self.cells: Final = cells
        self.operations: Final = all_hold(len(attributes))
        self.every: Final = every
        self.numbers: Final = numbers
        self.step: Final = step
        self.rows: Final = max(rows, 1)
        self.alive: Final = alive
        self.native: RangesBeside | None = None

    def asked(self, ends: array[float]) -> tuple[Range, ...]:
        """Return the comparisons of one filter: low and high of each attribute's interval."""
        return tuple(
            Range(name, ends[2 * place], ends[2 * place + 1], cells)
            for place, (name, cells) in enumerate(zip(self.attributes, self.cells, strict=True))
        )


class Expected(NamedTuple):
    """A filter, about which share of all rows passes and which its cells leave open, and a plan.

    The plan's fields are here themselves: every new filter has one of these made.
    """

    program: FilterProgram
    share: float
    still_open: float
    walk_ns: float
    scan_all_ns: float
    filter_ns: float
    walk_filter_ns: float
    scan_all: float
    """1 or 0."""
    every: float
    """Whether all matches are measured at once, 1 or 0; -1 where all rows are filtered first."""
    listed_most: float
    """How many rows of lists may be asked in the place of a filter; -1 is none."""


_expected_of: Final = maker_of(Expected)


def expect(
    table: ClusterTable, alike: Ranges, ends: array[float], planner: MatchPlanner
) -> Expected:
    """Make a program of a filter of intervals, and find out what is to be expected of it.

    Parameters
    ----------
    table, alike:
        The clusters, and what such filters of them have in common.
    ends:
        Low and high of each attribute's interval, [low, high); infinite where it is open.
    planner:
        Plans it.

    """
    chosen = native.active()
    program = FilterProgram(alike.operations, alike, ends)
    if chosen is None:
        return _expect(table, program, alike, ends, planner)
    beside = beside_of(table, alike)
    room, at = beside.program(ends)
    chosen.expect(beside.at, planner.at, at)
    program.native = bound_of((beside.table, at, beside.depth, room))
    return _expected_of((program, *room[beside.end :]))


def beside_of(table: ClusterTable, alike: Ranges) -> RangesBeside:
    """Return what the native kernels have of such filters of a table."""
    beside = alike.native
    if beside is None or beside.table is not table.native:
        beside = alike.native = RangesBeside(table, alike)
    return beside


def _expect(
    table: ClusterTable,
    program: FilterProgram,
    alike: Ranges,
    ends: array[float],
    planner: MatchPlanner,
) -> Expected:
    comparisons = len(alike.attributes)
    if comparisons == 1:
        share, still_open = (
            share_within(alike.numbers, ends[0], ends[1], alike.step, alike.rows),
            0.0,
        )
        share *= alike.alive
    else:
        seen, sure, possible = filter_sample(table, program, alike.every)
        share, still_open = possible / max(seen, 1), (possible - sure) / max(seen, 1)
    return planner.expect(program, share, still_open, numbers=True)


def share_within(numbers: array[float], low: float, high: float, step: int, rows: int) -> float:
    """Return about which share of rows has a number in [low, high).

    Parameters
    ----------
    numbers:
        Those of every `step`-th row, ascending.
    low, high:
        The interval.
    step, rows:
        How many rows each stands for, and how many there are.

    """
    inside = max(bisect_left(numbers, high) - bisect_left(numbers, low), 0)
    return min(inside * step / rows, 1.0)


class RangesBeside:
    """What the native kernels keep beside `Ranges`: `at` is the address of their `sq_ranges`.

    `room` is a program's, in words, without its intervals; these lie from byte `intervals_at` on,
    and from the word `end` on is what `sq_expected` has.
    """

    __slots__ = ("_intervals", "_kept", "at", "depth", "end", "intervals_at", "room", "table")

    def __init__(self, table: ClusterTable, alike: Ranges) -> None:
        self.table: NativeTable = native_table(table)
        common = RangesAlike(self.table, alike.operations, alike.attributes, alike.cells)
        self.depth = common.depth
        self.intervals_at = common.intervals
        self._intervals = slice(common.intervals // 8, common.code // 8)
        self.end = len(common.room)
        self.room = array("d", common.room.tobytes() + bytes(8 * _EXPECTED_WORDS))
        sample_at, rows = 0, alike.rows
        sample = None
        if len(alike.attributes) > 1:
            sample = self.table.sample(table, alike.attributes, alike.every)
            sample_at, rows = sample.at, max(sample.rows, 1)
        numbers = np.frombuffer(alike.numbers, dtype=np.float64)
        words = _ALIKE.pack(
            len(alike.attributes), sample_at, rows, address(numbers), len(numbers), alike.step,
            alike.alive,
        )  # fmt: skip
        kept = np.frombuffer(words, dtype=np.uint8).copy()
        self.at = address(kept)
        self._kept = (kept, numbers, sample)

    def program(self, ends: array[float]) -> tuple[array[float], int]:
        """Return the room of a filter's program, with its intervals, and where it lies."""
        room = self.room[:]
        room[self._intervals] = ends
        return room, room.buffer_info()[0]
