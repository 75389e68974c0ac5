"""Keys, metadata and vectors that travel with the rows found, and rows that have them at hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, I64, distinct
from squash.errors import DataError
from squash.index.prefetch import prefetch_rows
from squash.index.reader import SegmentReader
from squash.model import Metadata
from squash.search.found import Found, Source, found_of
from squash.search.tasks import Delivery
from squash.values import dataclass

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_FLOAT_BYTES: Final = 4
_KEY_ALONE: Final = 1
_WITH_METADATA: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Which rows of some sources are to be delivered, nearest first, and what of them.

    `places` is int64 [m], where each stands in the list that it is delivered with; `owner` and
    `rows` say whose each is, and which.
    """

    sources: Sequence[Source]
    places: I64
    owner: Sequence[int]
    rows: Sequence[int]
    include_metadata: bool
    include_vector: bool


def deliver(wanted: Sequence[Wanted], *, dimension: int, bytes_max: int) -> list[Delivery]:
    """Read what is to be delivered of several queries' rows, each source's rows together.

    Parameters
    ----------
    wanted:
        By query.
    dimension:
        The vectors' d.
    bytes_max:
        How many bytes all of it may have. Each query has an equal share, in which its nearest come
        first; what finds no room is left out.

    """
    share = bytes_max // max(len(wanted), 1)
    at_hand = _AtHand()
    documents = [at_hand.documents(one) for one in wanted]
    behind = [
        one
        for one, found in zip(wanted, documents, strict=True)
        if found is None or one.include_vector
    ]
    read = _Read(behind)
    return [
        _delivery(one, read.documents(one) if found is None else found, read, share, dimension)
        for one, found in zip(wanted, documents, strict=True)
    ]


def _delivery(
    wanted: Wanted, documents: list[bytes], read: _Read, bytes_max: int, dimension: int
) -> Delivery:
    vector_bytes = wanted.include_vector * dimension * _FLOAT_BYTES
    fitting = len(documents)
    if sum(map(len, documents)) + vector_bytes * fitting > bytes_max:
        sizes = accumulate(len(document) + vector_bytes for document in documents)
        fitting = sum(size <= bytes_max for size in sizes)
    vectors = None
    if wanted.include_vector:
        vectors = np.empty((fitting, dimension), dtype=np.float32)
        for place in range(fitting):
            vectors[place] = read.vector(wanted, place)
    return Delivery(wanted.places[:fitting], tuple(documents[:fitting]), vectors)


class _AtHand:
    """Documents of segments whose records are retained whole: nothing is to be fetched there."""

    def __init__(self) -> None:
        self._writers: dict[tuple[int, bool], Callable[[int], bytes] | None] = {}

    def documents(self, wanted: Wanted) -> list[bytes] | None:
        """Return the rows' documents; None if some are not at hand."""
        writers = {owner: self._writer(wanted, owner) for owner in set(wanted.owner)}
        found = []
        for owner, row in zip(wanted.owner, wanted.rows, strict=True):
            writer = writers[owner]
            if writer is None:
                return None
            found.append(writer(row))
        return found

    def _writer(self, wanted: Wanted, owner: int) -> Callable[[int], bytes] | None:
        source = wanted.sources[owner]
        if not isinstance(source, SegmentReader):
            return None
        key = (id(source), wanted.include_metadata)
        if key not in self._writers:
            self._writers[key] = source.document_writer(metadata=wanted.include_metadata)
        return self._writers[key]


class _Read:
    """What was read of the rows of some sources, by source and row."""

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._bytes: dict[tuple[int, int, bool], bytes] = {}
        self._vectors: dict[tuple[int, int], F32] = {}
        sources: dict[int, Source] = {}
        documents: dict[tuple[int, bool], set[int]] = {}
        vectors: dict[int, set[int]] = {}
        for one in wanted:
            for owner, row in zip(one.owner, one.rows, strict=True):
                source = one.sources[owner]
                sources[id(source)] = source
                documents.setdefault((id(source), one.include_metadata), set()).add(row)
                if one.include_vector:
                    vectors.setdefault(id(source), set()).add(row)

        ordered = {asked: _ascending(rows) for asked, rows in documents.items()}
        measured = {source: _ascending(rows) for source, rows in vectors.items()}
        _prefetch(sources, documents=ordered, vectors=measured)
        for (at, metadata), rows in ordered.items():
            found: Sequence[Sequence[Any]]
            if metadata:
                found = [[key, dict(values)] for key, values in sources[at].documents(rows)]
            else:
                found = [[key] for key in sources[at].document_keys(rows)]
            for row, record in zip(rows.tolist(), found, strict=True):
                self._bytes[at, row, metadata] = _ENCODER.encode(record).encode()
        for at, rows in measured.items():
            for row, vector in zip(rows.tolist(), sources[at].vectors(rows), strict=True):
                self._vectors[at, row] = vector

    def documents(self, wanted: Wanted) -> list[bytes]:
        """Return the rows' documents."""
        return [
            self._bytes[id(wanted.sources[owner]), row, wanted.include_metadata]
            for owner, row in zip(wanted.owner, wanted.rows, strict=True)
        ]

    def vector(self, wanted: Wanted, place: int) -> F32:
        """Return a row's vector."""
        return self._vectors[id(wanted.sources[wanted.owner[place]]), wanted.rows[place]]


def _ascending(rows: set[int]) -> I64:
    return np.array(sorted(rows), dtype=np.int64)


def _prefetch(
    sources: Mapping[int, Source],
    *,
    documents: Mapping[tuple[int, bool], I64],
    vectors: Mapping[int, I64],
) -> None:
    """Get what is to be read of several segments in one round."""
    readers = {at: one for at, one in sources.items() if isinstance(one, SegmentReader)}
    if len(readers) > 1:
        prefetch_rows(
            vectors=[(readers[at], rows) for at, rows in vectors.items() if at in readers],
            documents=[(readers[at], rows) for (at, _), rows in documents.items() if at in readers],
        )


class Delivered:
    """Rows of a segment of which some were delivered; the others are read from it.

    Parameters
    ----------
    behind:
        The segment.
    documents, vectors:
        What was delivered, by row.

    """

    def __init__(
        self, behind: Source, documents: Mapping[int, bytes], vectors: Mapping[int, F32]
    ) -> None:
        self.behind = behind
        self._documents = documents
        self._vectors = vectors
        self._parsed: dict[int, list[Any]] = {}

    def documents(self, rows: I64) -> list[tuple[str, Metadata]]:
        """Return key and metadata, in the order of `rows`."""

        def at_hand(row: int) -> tuple[str, Metadata] | None:
            parsed = self._record(row)
            return None if parsed is None or len(parsed) != _WITH_METADATA else tuple(parsed)

        return _completed(rows, at_hand, self.behind.documents)

    def document_keys(self, rows: I64) -> list[str]:
        """Return the keys alone, in the order of `rows`."""

        def at_hand(row: int) -> str | None:
            parsed = self._record(row)
            return None if parsed is None else parsed[0]

        return _completed(rows, at_hand, self.behind.document_keys)

    def key_reader(self) -> Callable[[int], str] | None:
        """Return nothing: keys are better read together, where some are not at hand."""
        return None

    def vectors(self, rows: I64) -> F32:
        """Return float32 [m, d], in the order of `rows`."""
        found = _completed(rows, self._vectors.get, self.behind.vectors)
        return np.stack(found) if found else self.behind.vectors(rows)

    def _record(self, row: int) -> list[Any] | None:
        parsed = self._parsed.get(row)
        if parsed is None and row in self._documents:
            parsed = self._parsed[row] = _parse(self._documents[row])
        return parsed


def found_delivered(
    sources: Sequence[Source],
    found: tuple[I64, I64, F64],
    deliveries: Iterable[tuple[I64, I64, Delivery]],
) -> Found:
    """Return rows found with what was delivered of them at hand.

    Parameters
    ----------
    sources:
        What holds the rows.
    found:
        Rows [m]: whose each is, its number, and its distance.
    deliveries:
        Lists of rows: whose, numbers; and what was delivered of the list.

    """
    owner, row, distances = found
    used = distinct(owner).tolist()
    documents: dict[int, dict[int, bytes]] = {number: {} for number in used}
    vectors: dict[int, dict[int, F32]] = {number: {} for number in used}
    for owners, rows, delivery in deliveries:
        places = delivery.places
        pairs = list(zip(owners[places].tolist(), rows[places].tolist(), strict=True))
        for (number, at), document in zip(pairs, delivery.documents, strict=True):
            if number in documents:
                documents[number][at] = document
        if delivery.vectors is not None:
            for (number, at), vector in zip(pairs, delivery.vectors, strict=True):
                if number in vectors:
                    vectors[number][at] = vector
    behind = [Delivered(sources[number], documents[number], vectors[number]) for number in used]
    return found_of(behind, np.searchsorted(used, owner), row, distances)


def _completed(rows: I64, at_hand: Callable[[int], Any], read: Callable[[I64], Any]) -> list[Any]:
    """Return something of each row: what is at hand, and what is read of all others together."""
    found: dict[int, Any] = {row: at_hand(row) for row in rows.tolist()}
    missing = [row for row, value in found.items() if value is None]
    if missing:
        values = read(np.array(missing, dtype=np.int64))
        found.update(zip(missing, values, strict=True))
    return [found[row] for row in rows.tolist()]


def _parse(document: bytes) -> list[Any]:
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise _broken() from error
    fits = (
        isinstance(parsed, list)
        and len(parsed) in {_KEY_ALONE, _WITH_METADATA}
        and isinstance(parsed[0], str)
        and (len(parsed) == _KEY_ALONE or isinstance(parsed[1], dict))
    )
    if not fits:
        raise _broken()
    record: list[Any] = parsed
    return record


def _broken() -> DataError:
    return DataError("a document that was delivered is no record: the message is damaged")
