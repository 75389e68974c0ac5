"""Reading a segment: which of its objects, checked how, and kept by whom."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import CellTable, Columns
from squash.container import Buffer, Container
from squash.errors import ChecksumError, DataError
from squash.limits import ROW_PAGE_ROWS
from squash.model import ObjectRef, SegmentRef
from squash.quantize import Codec
from squash.segment import (
    ATTRIBUTES,
    CODES,
    DOCUMENTS,
    ROWS,
    VECTORS,
    Directory,
    KeyTable,
    Partition,
    PartitionCodes,
    page_ranges,
    parse_page,
)
from squash.segment.layout import VERSION

T = TypeVar("T")
_WHOLE_SHARE = 4


class Loader(Protocol):
    """Gets immutable objects and retains what was made of them.

    `whole_bytes_max` says up to which size an object is better loaded whole than page by page: a
    local store's are, S3's are not.
    """

    whole_bytes_max: int

    def load(self, ref: ObjectRef, part: str, decode: Callable[[Buffer], T]) -> T:
        """Get a whole object, check its length and checksum, decode it, retain the result."""
        ...

    def load_pages(
        self,
        ref: ObjectRef,
        pages: Sequence[tuple[int, int]],
        decode: Callable[[int, Buffer], T],
    ) -> list[T]:
        """Get the byte ranges `pages`, decode the i-th as decode(i, bytes), retain each result."""
        ...


class SegmentReader:
    """One segment's parts, each loaded when it is first asked for.

    Parameters
    ----------
    ref:
        The segment.
    loader:
        Gets and retains its objects.

    Raises
    ------
    ChecksumError, DataError, UnsupportedFormatError
        From every method, if an object is damaged or of a newer format.

    """

    def __init__(self, ref: SegmentRef, loader: Loader) -> None:
        self.ref = ref
        self._loader = loader

    def directory(self) -> Directory:
        """Return where its pages lie."""
        ref = self._object(ROWS)
        return self._loader.load(
            ref,
            "directory",
            lambda data: Directory.from_container(_open(data, ref, "segment-rows"), ref.key),
        )

    def keys(self) -> KeyTable:
        """Return its key table."""
        ref = self._object(ROWS)
        return self._loader.load(
            ref, "keys", lambda data: KeyTable.from_container(_open(data, ref, "segment-rows"))
        )

    def columns(self) -> Columns:
        """Return its exact attribute columns."""
        ref = self._object(ATTRIBUTES)

        def decode(data: Buffer) -> Columns:
            container = _open(data, ref, "segment-attributes")
            return Columns.from_arrays(
                container.header["columns"], lambda name: container.array(f"columns.{name}")
            )

        return self._loader.load(ref, "columns", decode)

    def cells(self) -> CellTable:
        """Return its quantised attributes (partitions only)."""
        ref = self._object(ATTRIBUTES)

        def decode(data: Buffer) -> CellTable:
            container = _open(data, ref, "segment-attributes")
            return CellTable.from_arrays(
                container.header["cells"], lambda name: container.array(f"cells.{name}")
            )

        return self._loader.load(ref, "cells", decode)

    def partition(self, codec: Codec) -> Partition:
        """Return its clusters and codes (partitions only)."""
        ref = self._object(CODES)

        def decode(data: Buffer) -> Partition:
            container = _open(data, ref, "segment-codes")
            written = container.header["codec"], container.header["codec_version"]
            if written != (codec.name, codec.version):
                raise DataError(
                    f"{ref.key} was written by codec {written}, its index names "
                    f"{(codec.name, codec.version)}",
                    object_key=ref.key,
                )
            return Partition(PartitionCodes.from_container(container, ref.key), codec)

        return self._loader.load(ref, "codes", decode)

    def all_vectors(self) -> F32:
        """Return float32 [n, d], all of its vectors."""
        ref = self._object(VECTORS)

        def decode(data: Buffer) -> F32:
            return _open(data, ref, "segment-vectors").array("vector")

        return self._loader.load(ref, "vectors", decode)

    def vectors(self, rows: I64) -> F32:
        """Return float32 [m, d], the vectors of the given rows, in their order."""
        directory = self.directory()
        ref = self._object(VECTORS)
        pages = page_ranges(rows)
        page_count = -(-directory.rows // ROW_PAGE_ROWS)
        if ref.bytes <= self._loader.whole_bytes_max or len(pages) * _WHOLE_SHARE > page_count:
            return np.asarray(self.all_vectors()[rows])

        def decode(i: int, data: Buffer) -> F32:
            _check(data, int(directory.vector_crc32[pages[i]]), ref)
            return np.frombuffer(data, dtype="<f4").reshape(-1, directory.dimension)

        parts = self._loader.load_pages(ref, [directory.vector_page(p) for p in pages], decode)
        # Only a segment's last page is short, and it sorts last: positions stay regular.
        position = np.searchsorted(pages, rows // ROW_PAGE_ROWS) * ROW_PAGE_ROWS
        return np.asarray(np.concatenate(parts)[position + rows % ROW_PAGE_ROWS])

    def documents(self, rows: I64) -> list[tuple[str, dict[str, Any]]]:
        """Return key and metadata of the given rows, in their order."""
        directory = self.directory()
        ref = self._object(DOCUMENTS)
        pages = page_ranges(rows)

        def decode(i: int, data: Buffer) -> list[tuple[str, dict[str, Any]]]:
            page = pages[i]
            return parse_page(data, crc32=int(directory.document_crc32[page]), where=ref.key)

        parts = self._loader.load_pages(ref, [directory.document_page(p) for p in pages], decode)
        records = dict(zip(pages.tolist(), parts, strict=True))
        return [records[row // ROW_PAGE_ROWS][row % ROW_PAGE_ROWS] for row in rows.tolist()]

    def _object(self, name: str) -> ObjectRef:
        ref = self.ref.objects.get(name)
        if ref is None:
            raise DataError(f"segment {self.ref.id} has no {name!r} object")
        return ref


def _open(data: Buffer, ref: ObjectRef, kind: str) -> Container:
    return Container(data, kind=kind, versions=(VERSION,), where=ref.key)


def _check(data: Buffer, crc32: int, ref: ObjectRef) -> None:
    if zlib.crc32(data) != crc32:
        raise ChecksumError(
            f"a page of {ref.key} has another checksum than its segment says: the object is "
            "damaged. Run `squash verify` to see what else is, and restore it from a copy.",
            object_key=ref.key,
        )
