"""What an allocator decides: of every query, which rows of which clusters are to be searched, how.

It goes through the first levels just as a search in one process does, with the routing table and
the attributes alone; codes, vectors and documents are the processors' affair.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import field, replace
from typing import TypeVar

import numpy as np

from squash.arrays import I64, U32, Mask, distinct
from squash.kernels import BLOCK_ROWS, ClusterTable, concatenated_ranges
from squash.kernels import PreparedQuery as Prepared
from squash.limits import TASK_DOCUMENTS_BYTES_MAX
from squash.model import SegmentRef
from squash.planning import DEFAULT_COSTS, CostModel, keep_for
from squash.search.admitting import Known, admit_alike, trace_admission
from squash.search.clusters import Clusters
from squash.search.filtering import exactly
from squash.search.found import Query
from squash.search.index_view import IndexView
from squash.search.jobs import Admission, Job
from squash.search.levels import gather_matches, gather_straight, walk_clusters
from squash.search.tasks import Admitted, Asked, Mode, Part, Rotated, Task, TaskQuery
from squash.search.trace import Trace
from squash.segment import ATTRIBUTES
from squash.values import dataclass

Home = TypeVar("Home", bound=Hashable)

# Of k rows, a processor with a share of what is searched finds about that share, give or take.
_DELIVER_LEAST = 10
_DELIVER_SHARE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """What is to be done for one query; parts are the partitions' numbers in the snapshot."""

    query: Query
    asked: Asked
    mode: Mode
    trace: Trace
    rotated: Rotated | None
    admitted: tuple[Admitted, ...]
    parts: I64
    clusters: I64
    """int64 [m] twice: the clusters taken, nearest first, and whose each is."""


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """What is to be done for several queries of one snapshot."""

    view: IndexView
    queries: tuple[Planned, ...]


def allocate(
    view: IndexView, queries: Sequence[Query], *, costs: CostModel = DEFAULT_COSTS
) -> Allocation:
    """Decide which rows of a snapshot's partitions are to be searched for some queries, and how.

    What is in no partition is not looked at: see `scan_rest`.

    Parameters
    ----------
    view:
        The snapshot.
    queries:
        What is asked; one filter that several have should be one object.
    costs:
        What the steps of a search cost, by which plans are chosen.

    """
    drafts = _Drafts(view, costs)
    for query in queries:
        drafts.add(query)
    return Allocation(view, drafts.finished())


def tasks_of(
    allocation: Allocation,
    homes: Sequence[Home],
    *,
    prefix: str,
    documents_bytes_max: int = TASK_DOCUMENTS_BYTES_MAX,
) -> dict[Home, Task]:
    """Divide what is to be done among processors.

    Parameters
    ----------
    allocation:
        What is to be done.
    homes:
        Of every partition of the snapshot, in its order, who searches it.
    prefix:
        Where the index lies in the store.
    documents_bytes_max:
        See `Task`.

    Returns
    -------
    A task for everyone who has something to do.

    """
    view = allocation.view
    trained = view.trained
    if trained is None:
        return {}
    base = np.cumsum([0, *(partition.count for partition in view.partitions)]).tolist()
    codec = trained.codec
    empty = Task(
        prefix=prefix,
        metric=view.metric,
        dimension=view.dimension,
        space=codec.space,
        projected_dimension=codec.dimension,
        codec=codec.name,
        codec_version=codec.version,
        trained=None if codec.scannable else view.trained_ref,
        parts=(),
        admitted=(),
        queries=(),
        documents_bytes_max=documents_bytes_max,
    )
    places: dict[Home, list[int]] = {}
    for number, home in enumerate(homes):
        places.setdefault(home, []).append(number)
    tasks: dict[Home, Task] = {}
    for home, numbers in places.items():
        shares = _shares_of(allocation, numbers, delivering=documents_bytes_max > 0)
        if shares.queries:
            used = sorted({admitted.part for admitted in shares.admitted})
            parts = tuple(
                Part(number, _named(view.partitions[number].reader.ref), base[number])
                for number in used
            )
            tasks[home] = replace(
                empty, parts=parts, admitted=shares.placed(used), queries=tuple(shares.queries)
            )
    return tasks


@dataclass(slots=True)
class _Shares:
    """One home's share of what is to be done; parts are numbers in the snapshot."""

    queries: list[TaskQuery] = field(default_factory=list)
    admitted: list[Admitted] = field(default_factory=list)

    def placed(self, used: Sequence[int]) -> tuple[Admitted, ...]:
        """Return what is admitted, with the parts' places in a task."""
        places = {number: place for place, number in enumerate(used)}
        for at, query in enumerate(self.queries):
            self.queries[at] = replace(query, parts=np.searchsorted(used, query.parts))
        return tuple(replace(one, part=places[one.part]) for one in self.admitted)


def _shares_of(allocation: Allocation, numbers: Sequence[int], *, delivering: bool) -> _Shares:
    """Return what is to be done in some partitions."""
    shares = _Shares()
    places: dict[int, int] = {}
    mine: Mask = np.zeros(len(allocation.view.partitions), dtype=np.bool_)
    mine[numbers] = True
    for number, planned in enumerate(allocation.queries):
        admitted = [one for one in planned.admitted if mine[one.part]]
        if not admitted:
            continue
        for one in admitted:
            if id(one) not in places:
                places[id(one)] = len(shares.admitted)
                shares.admitted.append(one)
        here = mine[planned.parts]
        clusters = planned.clusters[here]
        shares.queries.append(
            TaskQuery(
                number=number,
                asked=planned.asked,
                mode=planned.mode,
                vector=planned.query.vector,
                rotated=planned.rotated,
                admitted=tuple(places[id(one)] for one in admitted),
                parts=planned.parts[here],
                clusters=clusters,
                deliver=_delivered(planned, len(clusters), admitted) if delivering else 0,
            )
        )
    return shares


def _delivered(planned: Planned, clusters: int, admitted: Sequence[Admitted]) -> int:
    """Return how many rows of a share are worth delivering with their documents."""
    k = planned.asked.k
    every = len(planned.clusters) or len(planned.admitted)
    share = (clusters or len(admitted)) / every
    return min(k, _DELIVER_LEAST + math.ceil(_DELIVER_SHARE * share * k))


def _named(segment: SegmentRef) -> SegmentRef:
    """Return a segment as a processor knows it: what it reads, and nothing that changes."""
    objects = {name: ref for name, ref in segment.objects.items() if name != ATTRIBUTES}
    return SegmentRef(segment.id, segment.kind, segment.rows, 0, objects)


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """The clusters a query took, numbered over all, and the bits of their blocks."""

    clusters: I64
    words: U32


class _Drafts:
    """Plans in the making."""

    def __init__(self, view: IndexView, costs: CostModel) -> None:
        self._view = view
        self._costs = costs
        self._planned: list[Planned] = []
        # By filter: what its queries took, and everything that passes it. A filter's node lives as
        # long as its query, so that its id stays its own.
        self._taken: dict[int, dict[int, _Taken]] = {}
        self._matches: dict[tuple[int, bool], tuple[Admitted, ...]] = {}
        self._known: Known = {}
        # One for all: what is known of a filter is known of the columns that this one has, and
        # another may lack them, if something was let go meanwhile.
        clusters = view.clusters
        self._table = None if clusters is None else clusters.table()

    def add(self, query: Query) -> None:
        """Plan a query."""
        trace = Trace()
        if query.exact:
            trained = self._view.trained
            trace.exact_partitions(
                len(self._view.partitions), len(trained.centers) if trained else 0
            )
            self._measure(query, trace, self._exact_matches(query, trace))
            return
        clusters, table = self._view.clusters, self._table
        if clusters is None or table is None:
            self._measure(query, trace, ())
            return
        bitmaps = clusters.take_bitmaps()
        try:
            keep = clusters.keep(query.k, query.recall_target)
            job = Job(self._view.metric, self._costs, clusters, table, query, keep, bitmaps, trace)
            admission, _ = admit_alike(job, self._known, measures=False)
            trace_admission(job, admission)
            if admission.scan_all:
                rows = gather_matches(job, admission)
                key = (id(query.node), False)
                if key not in self._matches:
                    self._matches[key] = _admitted_rows(clusters, *rows)
                self._measure(query, trace, self._matches[key])
            else:
                self._walk(job, admission)
        finally:
            clusters.give_bitmaps(bitmaps)

    def finished(self) -> tuple[Planned, ...]:
        """Return the plans, with what each filter admits of the clusters that its queries took."""
        clusters = self._view.clusters
        if clusters is not None:
            for taken in self._taken.values():
                admitted = _admitted_blocks(clusters, list(taken.values()))
                for place in taken:
                    planned = self._planned[place]
                    self._planned[place] = replace(
                        planned,
                        admitted=tuple(admitted[part] for part in distinct(planned.parts).tolist()),
                    )
        return tuple(self._planned)

    def _exact_matches(self, query: Query, trace: Trace) -> tuple[Admitted, ...]:
        key = (id(query.node), True)
        if key not in self._matches:
            self._matches[key] = tuple(
                Admitted(number, rows=exactly(rows, query.node))
                for number, rows in enumerate(self._view.partitions)
            )
        for admitted, rows in zip(self._matches[key], self._view.partitions, strict=True):
            count = rows.count if admitted.rows is None else len(admitted.rows)
            trace.exact_scan(rows.count, count)
        return tuple(one for one in self._matches[key] if one.rows is None or len(one.rows))

    def _walk(self, job: Job, admission: Admission) -> None:
        walked = walk_clusters(job, admission)
        table, clusters = job.table, walked.taken.clusters
        if walked.straight:
            rows = gather_straight(job, walked)
            self._measure(job.query, job.trace, _admitted_rows(job.clusters, *rows))
            return
        scannable = job.clusters.scannable
        bits = table.alive if walked.possible is None else walked.possible
        words = bits[_blocks_of(table, clusters)]
        taken = self._taken.setdefault(id(job.query.node), {})
        taken[len(self._planned)] = _Taken(clusters, words)
        parts = table.partition[clusters]
        self._planned.append(
            Planned(
                query=job.query,
                asked=self._asked(job.query),
                mode=Mode.SCAN if scannable else Mode.RANK,
                trace=job.trace,
                rotated=_rotated(walked.prepared) if scannable else None,
                admitted=(),
                parts=parts,
                clusters=clusters - job.clusters.first_clusters[parts],
            )
        )

    def _measure(self, query: Query, trace: Trace, admitted: tuple[Admitted, ...]) -> None:
        none = np.empty(0, dtype=np.int64)
        asked = self._asked(query)
        self._planned.append(Planned(query, asked, Mode.MEASURE, trace, None, admitted, none, none))

    def _asked(self, query: Query) -> Asked:
        clusters, trained = self._view.clusters, self._view.trained
        # Without clusters all that is asked is exact distances, and nothing goes by it.
        chosen = keep_for if clusters is None else clusters.keep
        keep = chosen(query.k, query.recall_target)
        dimension = trained.codec.dimension if trained else self._view.dimension
        return Asked(
            k=query.k,
            keep=keep.refined,
            low_keep=keep.low,
            reach=keep.reach,
            share_min=self._costs.share_min(dimension),
            include_metadata=query.include_metadata,
            include_vector=query.include_vector,
            explain=query.explain,
        )


def _rotated(prepared: Prepared) -> Rotated:
    return Rotated(
        prepared.projected, prepared.offset, prepared.entries, prepared.step, prepared.base
    )


def _admitted_rows(clusters: Clusters, partition: I64, rows: I64) -> tuple[Admitted, ...]:
    """Sort rows by partition; int64 [m] each."""
    order = np.lexsort((rows, partition))
    partition, rows = partition[order], rows[order]
    found = []
    for number in distinct(partition).tolist():
        begin, end = np.searchsorted(partition, [number, number + 1]).tolist()
        every = end - begin == clusters.partitions[number].count
        found.append(Admitted(number, rows=None if every else rows[begin:end]))
    return tuple(found)


def _admitted_blocks(clusters: Clusters, taken: Sequence[_Taken]) -> Mapping[int, Admitted]:
    """Join the bits of clusters taken by queries with one filter; by partition.

    A row's bit depends on the filter alone, so that it does not matter whose a cluster's are.
    """
    table = clusters.table()
    every = np.concatenate([one.clusters for one in taken])
    words = np.concatenate([one.words for one in taken])
    counts = -(-table.rows[every] // BLOCK_ROWS)
    begins = np.cumsum(counts) - counts
    once, first = np.unique(every, return_index=True)  # noqa: TID251 - with places
    partition = table.partition[once]
    found = {}
    for number in distinct(partition).tolist():
        here = partition == number
        mine, at = once[here], first[here]
        own = words[concatenated_ranges(begins[at], counts[at])]
        if int(np.bitwise_count(own).sum()) == int(table.rows[mine].sum()):
            found[number] = Admitted(number)
        else:
            local = mine - clusters.first_clusters[number]
            found[number] = Admitted(number, clusters=local, words=own)
    return found


def _blocks_of(table: ClusterTable, clusters: I64) -> I64:
    return concatenated_ranges(table.first_block[clusters], -(-table.rows[clusters] // BLOCK_ROWS))
