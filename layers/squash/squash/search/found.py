"""Rows with their exact distances, and what becomes of them: the k nearest of all (level 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

import numpy as np

from squash.arrays import F32, F64, I64
from squash.attributes import FilterNode
from squash.drafts import make_matches
from squash.index.prefetch import RowsOf, prefetch_documents, prefetch_vectors
from squash.kernels import ascends
from squash.model import Match, Metadata
from squash.search.trace import Trace
from squash.search.view import KeyReader, SegmentView
from squash.values import maker_of

T = TypeVar("T")


class Source(Protocol):
    """What a merge needs of the rows found: a segment's, those only in the log, or delivered."""

    def vectors(self, rows: I64) -> F32:
        """Return float32 [m, d], in the order of `rows`."""
        ...

    def documents(self, rows: I64) -> Sequence[tuple[str, Metadata]]:
        """Return key and metadata, in the order of `rows`."""
        ...

    def document_keys(self, rows: I64) -> list[str]:
        """Return the keys alone, in the order of `rows`; cheaper than `documents`."""
        ...

    def key_reader(self) -> KeyReader | None:
        """Return what gives one row's key at once; None where rows are better read together."""
        ...


class Query(NamedTuple):
    """What is asked: the `k` rows nearest to `vector` (float32 [d]) that pass `node`."""

    vector: F32
    k: int
    node: FilterNode | None = None
    recall_target: float = 0.95
    exact: bool = False
    include_metadata: bool = True
    include_vector: bool = False
    explain: bool = False
    allow_partial: bool = False
    """Whether the rest is an answer where part of the index cannot be searched."""
    deadline_ms: int | None = None
    """When the answer must be there, in milliseconds since 1970 UTC."""
    matches_max: int | None = None
    """How many matches all queries of a call may have together; None for any number."""

    def until(self, deadline_ms: int | None) -> Query:
        """Return the same, to be answered until some time."""
        return self._replace(deadline_ms=deadline_ms)

    def within(self, matches_max: int | None) -> Query:
        """Return the same, of a call that may have so many matches in all."""
        return self._replace(matches_max=matches_max)

    def alike(self) -> Query:
        """Return what queries asked alike have in common, itself if it is no more than that.

        That is all but vector, filter and limits.
        """
        own = (self.node, self.deadline_ms, self.matches_max)
        if not len(self.vector) and own == (None, None, None):
            return self
        vector = self.vector[:0].copy()
        return self._replace(vector=vector, node=None, deadline_ms=None, matches_max=None)

    def of(self, vector: F32, node: FilterNode | None) -> Query:
        """Return what asks the same of another vector, among the rows that pass another filter."""
        return query_at_once((vector, self.k, node, *self[3:]))

    def of_each(self, vectors: Iterable[F32], nodes: Iterable[FilterNode | None]) -> list[Query]:
        """Return what asks the same of each of several vectors, with its filter."""
        _, k, _, *rest = self
        pairs = zip(vectors, nodes, strict=True)
        return [query_at_once((vector, k, node, *rest)) for vector, node in pairs]


query_at_once: Final = maker_of(Query)


class Found(NamedTuple):
    """Rows of some sources: whose each is, which row, and how far."""

    sources: Sequence[Source]
    owner: list[int]
    rows: list[int]
    distances: list[float]
    keys: list[str] | None = None
    """Of each row, where they were read already."""
    read_keys: Callable[[list[int], list[int]], list[str] | None] | None = None
    """Gives the keys of rows of several sources at once, or None; see `PartitionRecords.keys`."""


found_at_once: Final = maker_of(Found)


def found_of(sources: Sequence[Source], owner: I64, rows: I64, distances: F64) -> Found:
    """Return rows found, of arrays [m]."""
    return Found(sources, owner.tolist(), rows.tolist(), distances.tolist())


def merge(found: Sequence[Found], query: Query) -> tuple[Match, ...]:
    """Keep the k nearest of all, ties by key (level 7)."""
    joined = _joined(found)
    if joined is None:
        return ()
    order = _nearest(joined, query.k)
    distances = _at(joined.distances, order)
    none = (None,) * len(order)
    metadata: Sequence[Metadata | None] = none
    vectors: Sequence[F32 | None] = none
    keys: Sequence[str]
    if query.include_metadata:
        documents = _gathered(
            joined, order, lambda source, rows: source.documents(rows), prefetch_documents
        )
        keys, metadata = zip(*documents, strict=True)
    else:
        keys = _keys(joined, order)
    if query.include_vector:
        vectors = _gathered(
            joined, order, lambda source, rows: list(source.vectors(rows)), prefetch_vectors
        )
    return make_matches(keys, distances, metadata, vectors)


def complete(found: Sequence[Found], query: Query, trace: Trace) -> tuple[Match, ...]:
    """Merge all that was found for a query into its matches."""
    matches = merge(found, query)
    trace.level("merge", sum([len(one.rows) for one in found]), len(matches))
    return matches


def nearest(found: Sequence[Found], k: int) -> Found:
    """Return the k nearest of all, by distance and key."""
    joined = _joined(found)
    if joined is None:
        return Found((), [], [], [])
    order = _nearest(joined, k)
    return Found(
        joined.sources,
        _at(joined.owner, order),
        _at(joined.rows, order),
        _at(joined.distances, order),
    )


def nearest_and_ties(found: Sequence[Found], k: int) -> list[tuple[Source, int]]:
    """Return source and row of the k nearest of all, and of those that tie with the last."""
    joined = _joined(found)
    if joined is None:
        return []
    return [
        (joined.sources[joined.owner[place]], joined.rows[place])
        for place in _with_ties(joined.distances, k)
    ]


def _joined(found: Sequence[Found]) -> Found | None:
    """Return all rows as one; None if there are none."""
    if len(found) != 1:
        found = [one for one in found if one.rows]
    if len(found) <= 1:
        return found[0] if found and found[0].rows else None
    joined = Found([], [], [], [])
    sources: list[Source] = []
    for one in found:
        joined.owner.extend(owner + len(sources) for owner in one.owner)
        joined.rows.extend(one.rows)
        joined.distances.extend(one.distances)
        sources.extend(one.sources)
    return Found(sources, joined.owner, joined.rows, joined.distances)


def _at(values: list[T], order: Sequence[int]) -> list[T]:
    """Return what lies at some places; of the first ones it is a slice."""
    if isinstance(order, range):
        return values[: len(order)]
    return [values[place] for place in order]


def _nearest(found: Found, k: int) -> Sequence[int]:
    """Return the places of the k nearest, by distance and key."""
    distances = found.distances
    if ascends(distances):
        return range(min(k, len(distances)))
    order = _with_ties(distances, k)
    if len({distances[place] for place in order}) == len(order):
        return order
    keys = dict(zip(order, _keys(found, order), strict=True))
    order.sort(key=lambda place: (distances[place], keys[place]))
    return order[:k]


def _with_ties(distances: Sequence[float], k: int) -> list[int]:
    """Return the places of the k least, ascending, and of those that tie with the last."""
    order = sorted(range(len(distances)), key=distances.__getitem__)
    if len(order) > k:
        last = distances[order[k - 1]]
        end = k
        while end < len(order) and distances[order[end]] == last:
            end += 1
        del order[end:]
    return order


def _keys(found: Found, order: Sequence[int]) -> list[str]:
    if found.keys is not None:
        return _at(found.keys, order)
    sources, owner, rows = found.sources, found.owner, found.rows
    if found.read_keys is not None:
        together = found.read_keys(_at(owner, order), _at(rows, order))
        if together is not None:
            return together
    readers: dict[int, KeyReader] = {}
    keys: list[str] = []
    for place in order:
        of = owner[place]
        reader = readers.get(of) or sources[of].key_reader()
        if reader is None:
            break
        readers[of] = reader
        keys.append(reader(rows[place]))
    else:
        return keys
    return _gathered(
        found, order, lambda source, rows: source.document_keys(rows), prefetch_documents
    )


def _gathered(
    found: Found,
    order: Sequence[int],
    read: Callable[[Source, I64], Iterable[T]],
    prefetch: Callable[[RowsOf], None],
) -> list[T]:
    """Read something of every row, one source after another; return it in the rows' order."""
    places: dict[int, list[int]] = {}
    for place, at in enumerate(order):
        places.setdefault(found.owner[at], []).append(place)
    gathered: dict[int, T] = {}
    rows_of = {
        owner: np.array([found.rows[order[place]] for place in mine], dtype=np.int64)
        for owner, mine in places.items()
    }
    _prefetch([(found.sources[owner], rows) for owner, rows in rows_of.items()], prefetch)
    for owner, mine in places.items():
        rows = rows_of[owner]
        gathered.update(zip(mine, read(found.sources[owner], rows), strict=True))
    return [gathered[place] for place in range(len(order))]


def _prefetch(wanted: Sequence[tuple[Source, I64]], prefetch: Callable[[RowsOf], None]) -> None:
    """Get what is read of several segments in one round, where it comes by pages."""
    paged = [
        (source.reader, rows)
        for source, rows in wanted
        if isinstance(source, SegmentView) and not source.reader.reads_whole()
    ]
    if len(paged) > 1:
        prefetch(paged)
