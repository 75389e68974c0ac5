"""What an allocator hands a processor, and what it gets back: values, as messages carry them.

A task holds several queries for several partitions of one slot. What queries share stands in it
once: the partitions, what a filter admits of each, and all that is asked besides the vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from enum import IntEnum

import numpy as np

from squash.arrays import F32, F64, I64, U8, U32
from squash.model import Metric, ObjectRef, SegmentRef
from squash.quantize import Space
from squash.values import dataclass


class Mode(IntEnum):
    """What is done with the rows that a query admits."""

    MEASURE = 0
    """All of them get their exact distances."""
    SCAN = 1
    """The kernels scan the codes of clusters; the kept rows are refined."""
    RANK = 2
    """A codec that the kernels don't scan ranks them; the kept rows are refined."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked besides a vector and a filter; see `planning.Keep` and `kernels.scan`."""

    k: int
    keep: int
    low_keep: int
    reach: float
    share_min: float
    include_metadata: bool
    include_vector: bool
    explain: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One partition of a snapshot: its number there, its segment, and its first global row."""

    number: int
    segment: SegmentRef
    row_base: int


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """Which live rows of one of a task's parts pass a filter.

    Either `rows` names them (int64, ascending), or `words` has a bit for each row of the blocks of
    some `clusters` (int64 [c], ascending; uint32 [blocks], cluster after cluster). If it is
    neither, all rows are admitted.
    """

    part: int
    """The place of its part in the task."""
    rows: I64 | None = None
    clusters: I64 | None = None
    words: U32 | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rotated:
    """A query as `kernels.prepare` left it, without its distances to centers."""

    projected: F64
    """float64 [D]"""
    offset: float
    entries: U8
    """uint8 [groups, 16]"""
    step: float
    base: float


@dataclass(frozen=True, slots=True, eq=False)
class TaskQuery:
    """One query of a task."""

    number: int
    """Its place among the allocator's queries."""
    asked: Asked
    mode: Mode
    vector: F32
    """float32 [d], as it was asked."""
    rotated: Rotated | None
    """In mode SCAN."""
    admitted: tuple[int, ...]
    """Places among what the task admits, one for each part to be searched."""
    parts: I64
    clusters: I64
    """int64 [m] twice: clusters to scan or rank, nearest first, and whose each is."""
    deliver: int
    """How many of its nearest rows are delivered with key and metadata."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What one call asks of a processor.

    Parameters
    ----------
    prefix:
        Where the index lies in the store, with a slash at its end.
    metric, dimension, space, projected_dimension:
        Of the index, and of its codes.
    codec, codec_version:
        What the codes are.
    trained:
        What the codec is loaded from, where the kernels don't scan its codes.
    parts, admitted, queries:
        What to search, of that which rows, and for what.
    documents_bytes_max:
        How many bytes of keys, metadata and vectors the answer may hold.

    """

    prefix: str
    metric: Metric
    dimension: int
    space: Space
    projected_dimension: int
    codec: str
    codec_version: int
    trained: ObjectRef | None
    parts: tuple[Part, ...]
    admitted: tuple[Admitted, ...]
    queries: tuple[TaskQuery, ...]
    documents_bytes_max: int

    def of_queries(self, places: Sequence[int]) -> Task:
        """Return the task of some of its queries, with just what they need."""
        return _narrowed(self, [self.queries[place] for place in places])

    def of_parts(self, places: Sequence[int]) -> Task:
        """Return the task of some of its parts."""
        kept = set(places)
        narrowed = []
        for query in self.queries:
            admitted = tuple(at for at in query.admitted if self.admitted[at].part in kept)
            here = np.isin(query.parts, list(kept))
            narrowed.append(
                replace(
                    query,
                    admitted=admitted,
                    parts=query.parts[here],
                    clusters=query.clusters[here],
                )
            )
        return _narrowed(self, [query for query in narrowed if query.admitted])


def _narrowed(task: Task, queries: Sequence[TaskQuery]) -> Task:
    """Leave out of a task what some queries have no use for."""
    used = sorted({at for query in queries for at in query.admitted})
    parts = sorted({task.admitted[at].part for at in used})
    part_places = {part: place for place, part in enumerate(parts)}
    admitted_places = {at: place for place, at in enumerate(used)}
    moved = np.zeros(len(task.parts), dtype=np.int64)
    moved[parts] = np.arange(len(parts))
    return replace(
        task,
        parts=tuple(task.parts[part] for part in parts),
        admitted=tuple(
            replace(task.admitted[at], part=part_places[task.admitted[at].part]) for at in used
        ),
        queries=tuple(
            replace(
                query,
                admitted=tuple(admitted_places[at] for at in query.admitted),
                parts=moved[query.parts],
            )
            for query in queries
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """Keys, metadata and vectors of some rows of a list.

    `places` is int64 [m], positions in that list; `documents` has the JSON of [key] or
    [key, metadata] of each; `vectors` is float32 [m, d], None where they were not asked for.
    """

    places: I64
    documents: tuple[bytes, ...]
    vectors: F32 | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a processor did for one query; see `kernels.Ranked`."""

    admitted: int = 0
    low_scanned: int = 0
    ranked: int = 0
    pruned: int = 0
    read: int = 0
    least_left: float = np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a processor found for one query.

    Rows are int64 [m] and the snapshot's numbers of their partitions; `estimates` and
    `lower_bounds` float32 [m], and there just where rows were ranked, bounds just where that is to
    be explained; `distances` float64 [m], NaN where a bound made it needless to measure.
    """

    number: int
    mode: Mode
    searched: I64
    """int64 [p], the numbers of the partitions searched."""
    partition: I64
    row: I64
    distances: F64
    estimates: F32 | None
    lower_bounds: F32 | None
    counts: Counts
    delivery: Delivery


@dataclass(frozen=True, slots=True, eq=False)
class TaskAnswer:
    """What a processor answers; `spent` is what it cost, in names of the caller's choice."""

    queries: tuple[Kept, ...]
    spent: Mapping[str, float] = field(default_factory=dict)
