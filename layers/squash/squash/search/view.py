"""One snapshot of an index, opened for searching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from squash.arrays import F32, I64, Mask
from squash.attributes import Columns
from squash.errors import DataError
from squash.index.attribute_parts import AttributeParts
from squash.index.reader import SegmentReader
from squash.index.trained import Trained
from squash.model import Metadata, RowBatch
from squash.segment import CODES, KeyTable, Partition
from squash.values import remembered

KeyReader: TypeAlias = Callable[[int], str]
"""Gives a row's key."""


class Rows(Protocol):
    """What exact search needs of a set of rows: a segment's, or those only in the log."""

    @property
    def count(self) -> int:
        """How many rows there are, dead ones included."""
        ...

    @property
    def alive(self) -> Mask | None:
        """Which rows live, bool [n]; None if all do."""
        ...

    def columns(self) -> Columns:
        """Return the exact attribute columns."""
        ...

    def all_vectors(self) -> F32:
        """Return float32 [n, d]."""
        ...

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

    def keys(self) -> KeyTable:
        """Return the key table."""
        ...


class FreshView:
    """Rows that only the log holds yet.

    Parameters
    ----------
    rows:
        The rows, each key once.
    non_filterable:
        Metadata keys that are not attributes.

    """

    alive: Mask | None = None

    def __init__(self, rows: RowBatch, *, non_filterable: tuple[str, ...]) -> None:
        self._rows = rows
        self._non_filterable = non_filterable

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @remembered
    def _columns(self) -> Columns:
        return Columns.from_metadata(self._rows.metadata, non_filterable=self._non_filterable)

    def columns(self) -> Columns:
        """Return the exact attribute columns."""
        return self._columns

    @remembered
    def _keys(self) -> KeyTable:
        return KeyTable.build(self._rows.keys)

    def keys(self) -> KeyTable:
        """Return the key table."""
        return self._keys

    @remembered
    def _places(self) -> dict[str, int]:
        return dict(zip(self._rows.keys, range(len(self._rows)), strict=True))

    def find(self, keys: Sequence[str]) -> I64:
        """Return int64 [m], the row of each key or -1, without hashing all that are here."""
        return np.array([self._places.get(key, -1) for key in keys], dtype=np.int64)

    def all_vectors(self) -> F32:
        """Return float32 [n, d]."""
        return self._rows.vectors

    def vectors(self, rows: I64) -> F32:
        """Return float32 [m, d], in the order of `rows`."""
        return np.asarray(self._rows.vectors[rows])

    def documents(self, rows: I64) -> list[tuple[str, Metadata]]:
        """Return key and metadata, in the order of `rows`."""
        return [(self._rows.keys[row], self._rows.metadata[row]) for row in rows.tolist()]

    def document_keys(self, rows: I64) -> list[str]:
        """Return the keys alone, in the order of `rows`."""
        return [self._rows.keys[row] for row in rows.tolist()]

    def key_reader(self) -> KeyReader:
        """Return what gives one row's key."""
        return self._rows.keys.__getitem__


class SegmentView:
    """One segment and which of its rows live in this snapshot.

    Parameters
    ----------
    reader:
        The segment.
    dead:
        Returns bool [n], the rows that were deleted or replaced; None if none was.

    """

    def __init__(self, reader: SegmentReader, dead: Callable[[], Mask | None]) -> None:
        self.reader = reader
        self._dead = dead

    @property
    def count(self) -> int:
        """How many rows there are, dead ones included."""
        return self.reader.ref.rows

    @remembered
    def alive(self) -> Mask | None:
        """Which rows live, bool [n]; None if all do."""
        dead = self._dead()
        return None if dead is None or not dead.any() else ~dead

    def columns(self) -> Columns:
        """Return the exact attribute columns."""
        return self.reader.columns()

    def keys(self) -> KeyTable:
        """Return the key table."""
        return self.reader.keys()

    def all_vectors(self) -> F32:
        """Return float32 [n, d]."""
        return self.reader.all_vectors()

    def vectors(self, rows: I64) -> F32:
        """Return float32 [m, d], in the order of `rows`."""
        return self.reader.vectors(rows)

    def documents(self, rows: I64) -> list[tuple[str, dict[str, Any]]]:
        """Return key and metadata, in the order of `rows`."""
        return self.reader.documents(rows)

    def document_keys(self, rows: I64) -> list[str]:
        """Return the keys alone, in the order of `rows`."""
        return self.reader.document_keys(rows)

    def key_reader(self) -> KeyReader | None:
        """Return what gives one row's key at once; None where they are read by pages."""
        return self.reader.key_reader()


class PartitionView(SegmentView):
    """A segment with codes, and where its clusters stand in the routing table.

    Parameters
    ----------
    reader, dead:
        As for `SegmentView`.
    trained:
        What it was built with.
    number:
        Its position in the routing table.

    """

    def __init__(
        self,
        reader: SegmentReader,
        dead: Callable[[], Mask | None],
        *,
        trained: Trained,
        number: int,
    ) -> None:
        super().__init__(reader, dead)
        self.trained = trained
        self._sections = trained.sections_of(number)
        self.first_cluster = int(trained.partition_begins[number])
        self.end_cluster = int(trained.partition_begins[number + 1])

    @remembered
    def cluster_begins(self) -> I64:
        """Where its clusters begin: int64 [c + 1] row numbers."""
        rows = self.trained.cluster_rows[self.first_cluster : self.end_cluster]
        begins = np.concatenate((np.zeros(1, np.int64), np.cumsum(rows)))
        if begins[-1] != self.reader.ref.rows:
            raise self._misfit(f"{begins[-1]} rows where it has {self.reader.ref.rows}")
        return begins

    @remembered
    def attributes(self) -> AttributeParts:
        """Its attributes, each read by itself if it can be."""
        return AttributeParts(self.reader, self._sections)

    def columns(self) -> Columns:
        """Return the exact attribute columns."""
        return self.attributes.columns()

    def partition(self) -> Partition:
        """Return clusters and codes.

        Raises
        ------
        DataError
            If its clusters are not those of the routing table: rows and blocks are found by that.

        """
        found = self.reader.partition(self.trained.codec)
        if not np.array_equal(found.codes.cluster_begins, self.cluster_begins):
            raise self._misfit("other clusters than it has")
        return found

    def check_head(self) -> None:
        """Refuse a head that is not the routing table's and its codec's; see `partition`."""
        head, codec = self.reader.codes_head(), self.trained.codec
        if not np.array_equal(head.cluster_begins, self.cluster_begins):
            raise self._misfit("other clusters than it has")
        if (head.codec, head.codec_version) != (codec.name, codec.version):
            raise self._misfit("another codec than it was written by")

    def _misfit(self, what: str) -> DataError:
        codes = self.reader.ref.objects.get(CODES)
        return DataError(
            f"the routing table gives segment {self.reader.ref.id} {what}: run `squash verify`, "
            "and restore it from a copy",
            object_key=None if codes is None else codes.key,
        )
