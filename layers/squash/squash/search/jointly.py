"""Several queries in this process, where reads cost requests: what they read, they read together.

They are planned as an allocator plans them and carried out as one processor would (`processing`),
on this process' own table: codes, vectors and documents of all are fetched in a few rounds, however
many queries there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from squash.arrays import I64, Mask, distinct
from squash.errors import InternalError
from squash.index.prefetch import prefetch_rows
from squash.index.reader import SegmentReader
from squash.planning import CostModel
from squash.quantize import Codec
from squash.search.allocating import allocate, tasks_of
from squash.search.clusters import Clusters
from squash.search.found import Found, Query, nearest_and_ties
from squash.search.gathering import gather
from squash.search.index_view import IndexView
from squash.search.partitions import search_at_hand
from squash.search.processing import process
from squash.search.slot import Held
from squash.search.tasks import Task
from squash.search.trace import Trace
from squash.search.view import SegmentView

_HERE = 0


class OwnSlot:
    """A `Slots` over the clusters of a snapshot, by whose numbers a task's parts go."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters

    def readers(self, task: Task) -> list[SegmentReader]:
        """Return the readers of all parts' segments."""
        return [self._clusters.partitions[part.number].reader for part in task.parts]

    def trained_codec(self, task: Task) -> Codec:
        """Return the snapshot's codec."""
        del task
        return self._clusters.trained.codec

    def hold(self, task: Task, parts: Sequence[int]) -> Held:
        """Return the snapshot's table."""
        del parts
        clusters = self._clusters
        numbers = np.array([part.number for part in task.parts], dtype=np.int64)
        lengths = np.diff(clusters.trained.partition_begins)
        return Held(clusters.table(), numbers, clusters.first_clusters[numbers], lengths[numbers])

    def holds_codes(self, task: Task, held: Held, parts: Sequence[int]) -> bool:
        """Tell that codes are to be asked for: those that are there are not read again."""
        del task, held, parts
        return False

    def load_codes(self, task: Task, held: Held, wanted: Mapping[int, I64]) -> Held:
        """Load the codes of some clusters by part."""
        del task
        clusters = [held.first_clusters[part] + mine for part, mine in wanted.items()]
        self._clusters.load_clusters(held.table, np.concatenate(clusters))
        return held

    def load_vectors(self, task: Task, held: Held, parts: Sequence[int]) -> tuple[Held, Mask]:
        """Put in the vectors of parts that are at hand whole; tell of which parts they are."""
        there = np.zeros(len(task.parts), dtype=np.bool_)
        for part in parts:
            there[part] = self._clusters.load_vectors(held.table, (held.numbers.item(part),))
        return held, there

    def let_go(self) -> None:
        """Have the snapshot's table hold no longer what the retained data let go of."""
        self._clusters.table()


def search_partitions_jointly(
    view: IndexView, queries: Sequence[Query], *, costs: CostModel
) -> list[tuple[Found, Trace]]:
    """Find for each query what `search_partitions` finds."""
    clusters = view.clusters
    if clusters is None:
        raise InternalError("a snapshot without partitions was to be searched in them")
    if not clusters.holds_vectors():
        return _read_jointly(view, clusters, queries, costs)
    traces = [Trace() for _ in queries]
    at_hand = search_at_hand(view.metric, costs, clusters, queries, traces)
    others = [query for query, one in zip(queries, at_hand, strict=True) if one is None]
    read = iter(_read_jointly(view, clusters, others, costs))
    return [
        next(read) if one is None else (one, trace)
        for one, trace in zip(at_hand, traces, strict=True)
    ]


def _read_jointly(
    view: IndexView, clusters: Clusters, queries: Sequence[Query], costs: CostModel
) -> list[tuple[Found, Trace]]:
    allocation = allocate(view, queries, costs=costs)
    homes = [_HERE] * len(view.partitions)
    # Documents are read when it is known whose are needed, see `prefetch_matches`.
    tasks = tasks_of(allocation, homes, prefix="", documents_bytes_max=0)
    slot = OwnSlot(clusters)
    return gather(allocation, [process(task, slot) for task in tasks.values()])


def prefetch_matches(found: Sequence[Sequence[Found]], queries: Sequence[Query]) -> None:
    """Get what the matches of several queries need of segments, in one round for all."""
    views: dict[int, SegmentView] = {}
    documents: dict[int, list[int]] = {}
    vectors: dict[int, list[int]] = {}
    for lists, query in zip(found, queries, strict=True):
        for source, row in nearest_and_ties(lists, query.k):
            if isinstance(source, SegmentView) and not source.reader.reads_whole():
                views[id(source)] = source
                documents.setdefault(id(source), []).append(row)
                if query.include_vector:
                    vectors.setdefault(id(source), []).append(row)
    prefetch_rows(
        vectors=[(views[at].reader, distinct(np.array(rows))) for at, rows in vectors.items()],
        documents=[(views[at].reader, distinct(np.array(rows))) for at, rows in documents.items()],
    )
