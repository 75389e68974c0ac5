"""Queries of one snapshot that ask alike, each searched in one call of the kernels.

What they have in common is found once; a query that needs more than one call goes on as all others
do, from where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from squash import kernels
from squash.arrays import F32, AnyArray
from squash.attributes import FilterNode
from squash.attributes.nodes import And
from squash.drafts import make_bare_matches, make_matches
from squash.errors import DataError, InternalError
from squash.kernels import native
from squash.limits import (
    SCAN_ALL_MATCHES_MAX,
    VECTOR_SQUARE_SURE_MAX,
    VECTOR_SQUARE_SURE_MIN,
)
from squash.model import Match
from squash.planning import CostModel
from squash.search.admitting import admit_at_once, note_missed
from squash.search.clusters import Bitmaps, Clusters
from squash.search.expecting import expect
from squash.search.found import Query
from squash.search.index_view import IndexView
from squash.search.jobs import Job
from squash.search.partitions import match_further, match_partitions, near_matches
from squash.search.trace import Trace
from squash.segment import read_joined

_OPEN: Final = (kernels.Missing, kernels.StaysOpen)
_NOT_FOUND: Final = (*_OPEN, kernels.Unchecked)
_Outcome: TypeAlias = (
    kernels.Near | kernels.Settled | kernels.Missing | kernels.StaysOpen | kernels.Unchecked
)
_SOUND: Final = (VECTOR_SQUARE_SURE_MIN, VECTOR_SQUARE_SURE_MAX)
_BARE: Final = kernels.Maker(make_bare_matches)
_DOCUMENTS: Final = kernels.Maker(None)

Told: TypeAlias = Trace | Callable[[], Trace]
"""What happened on the way of a query, or what finds it out when somebody asks."""


def at_once_of(view: IndexView, options: Query, costs: CostModel) -> AtOnce | None:
    """Return what searches a snapshot for what some options ask; None where that is more work.

    So it is where rows are in no partition, or expire, or where somebody wants to know about each
    level.
    """
    clusters = view.clusters
    if clusters is None or view.exact_rows or clusters.expires is not None:
        return None
    if options.exact or options.explain or not clusters.scannable:
        return None
    keep = clusters.keep(options.k, options.recall_target)
    table, codec = clusters.table(), clusters.trained.codec
    standing = kernels.standing_search(
        table,
        codec.rotation,
        codec.mean,
        metric=view.metric.value,
        plan=clusters.search_plan(options.recall_target, options.k, keep, costs),
    )
    return None if standing is None else AtOnce(view, clusters, options, costs, standing)


class AtOnce:
    """Searches a snapshot for what some options ask, as long as `serves` says so."""

    def __init__(
        self,
        view: IndexView,
        clusters: Clusters,
        options: Query,
        costs: CostModel,
        standing: kernels.StandingSearch,
    ) -> None:
        self._view = view
        self._clusters = clusters
        self._options = options
        self._costs = costs
        self._standing = standing
        self._table = standing.table
        self._keep = keep = clusters.keep(options.k, options.recall_target)
        self._planner = clusters.planner(costs, keep, options.recall_target, options.k)
        documented = _DOCUMENTS if options.include_metadata else _BARE
        self._maker = None if options.include_vector else documented
        self._few = clusters.alive_total <= SCAN_ALL_MATCHES_MAX

    def serves(self, view: IndexView, options: Query) -> bool:
        """Tell whether queries of these options are searched by it; vector and filter are none."""
        return (
            view is self._view
            and (options is self._options or _asks(options) == _asks(self._options))
            and self._clusters.table() is self._table
            and native.active() is self._standing.chosen
        )

    def search(self, vector: F32, node: FilterNode | None) -> tuple[tuple[Match, ...], Told]:
        """Do as `squash.search.search` does with the options, a vector and a filter."""
        found = self._searched(vector, node, kernels.ANY)
        return self._by_parts(vector, node) if found is None else found

    def search_unchecked(
        self, vector: AnyArray, node: FilterNode | None
    ) -> tuple[tuple[Match, ...], Told] | None:
        """Search for what may be no vector of this index.

        None where somebody has to look at it, or the search takes more calls.
        """
        if self._standing.chosen.entry is None:
            return None
        return self._searched(vector, node, _SOUND)

    def _searched(
        self, vector: AnyArray, node: FilterNode | None, sound: kernels.Sound
    ) -> tuple[tuple[Match, ...], Told] | None:
        clusters, options = self._clusters, self._options
        near: _Outcome | None
        if node is None:
            # Keys also where metadata is read of the same records: they are asked for together.
            near = self._standing.search(
                vector, clusters.alive_share, None, None, None,
                records=clusters.records.table, every=self._few, maker=self._maker, sound=sound,
            )  # fmt: skip
        else:
            bitmaps = clusters.take_bitmaps()
            try:
                near = self._filtered(vector, node, bitmaps, sound)
                if isinstance(near, _OPEN):
                    return self._further(vector, node, bitmaps, near)
            finally:
                clusters.give_bitmaps(bitmaps)
        if near is None or isinstance(near, _NOT_FOUND):
            return None
        if node is not None and near.listed < 0 and clusters.listing.is_counted():
            self._miss(node)
        rows, k = clusters.row_count, options.k
        # What is told holds counts, and nothing of what was found: an answer may be kept for long.
        if isinstance(near, kernels.Settled):
            matches = near.rows if self._maker is _BARE else _documented(*near.rows)
            if matches is None:
                return None
            return matches, partial(_told_settled, near.counts, rows, k, len(matches))
        matches = near_matches(clusters, near, options)
        rows_found, searched = len(near.distances), near.searched()
        told = partial(
            _told, near.filtered, searched, near.every, rows, k, rows_found, len(matches)
        )
        return matches, told

    def _filtered(
        self, vector: AnyArray, node: FilterNode, bitmaps: Bitmaps, sound: kernels.Sound
    ) -> _Outcome | None:
        """Search by a filter in one call; None where it must be evaluated before."""
        records = self._clusters.records.table
        # What is expected of a filter that comes again is known.
        if type(node) is And and node.intervals is not None and not node.again:
            names, ends = node.intervals
            alike = self._table.ranges.get(names)
            if alike is not None:
                return self._standing.ask(
                    vector, alike, ends, self._planner, bitmaps.sure, bitmaps.possible,
                    records=records, maker=self._maker, sound=sound,
                )  # fmt: skip
        admission = admit_at_once(self._expected(node))
        if admission is None:
            return None
        program, overall, _, every, _, most = admission
        return self._standing.search(
            vector, overall, program, bitmaps.sure, bitmaps.possible,
            records=records, every=every, listed_most=most,
            filtered_most=SCAN_ALL_MATCHES_MAX, maker=self._maker, sound=sound,
        )  # fmt: skip

    def _expected(self, node: FilterNode) -> kernels.Expected:
        clusters = self._clusters
        return expect(clusters, self._table, self._planner, node, clusters.alive_share)

    def _further(
        self,
        vector: AnyArray,
        node: FilterNode,
        bitmaps: Bitmaps,
        near: kernels.Missing | kernels.StaysOpen,
    ) -> tuple[tuple[Match, ...], Trace]:
        """Go on with what one call could not search."""
        admission = admit_at_once(self._expected(node))
        if admission is None:
            raise InternalError("a filter was searched at once that could not be")
        query = self._options.of(np.asarray(vector, dtype=np.float32), node)
        job = Job(
            self._view.metric, self._costs, self._clusters, self._table, query, self._keep,
            bitmaps, Trace(),
        )  # fmt: skip
        return match_further(job, admission, near), job.trace

    def _miss(self, node: FilterNode) -> None:
        """Note what lists that there are not would have spared."""
        admission = admit_at_once(self._expected(node))
        if admission is not None and admission.program is not None:
            note_missed(
                self._clusters, self._table, self._costs, admission.program, admission.filter_ns
            )

    def _by_parts(self, vector: F32, node: FilterNode | None) -> tuple[tuple[Match, ...], Trace]:
        trace, query = Trace(), self._options.of(vector, node)
        metric = self._view.metric
        return match_partitions(metric, self._costs, self._clusters, query, trace), trace


def _documented(text: str, distances: tuple[float, ...]) -> tuple[Match, ...] | None:
    """Make matches of records; None where one is damaged: who reads it alone says which."""
    try:
        keys, metadata = read_joined(text, len(distances))
    except DataError:
        return None
    return make_matches(keys, distances, metadata, (None,) * len(keys))


def _asks(options: Query) -> tuple[object, ...]:
    """Return what queries of one plan have in common."""
    return options[1:2] + options[3:8]


def _told_settled(counts: bytes, rows: int, k: int, matches: int) -> Trace:
    said = kernels.SettledCounts(counts)
    return _told(said.filtered, said.searched, said.every, rows, k, matches, matches)


def _told(  # noqa: PLR0917 - a partial's, which every query makes
    filtered: int,
    searched: tuple[int, ...],
    every: bool,
    rows: int,
    k: int,
    found: int,
    matches: int,
) -> Trace:
    """Return what an answer's usage says of a search in one call."""
    trace = Trace()
    if filtered >= 0:
        trace.level("filter", rows, filtered)
    if every:
        trace.measured(rows, searched[-1], k)
    else:
        trace.searched(searched)
    trace.level("merge", found, matches)
    return trace
