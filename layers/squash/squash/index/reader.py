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
from squash.index.references import MALFORMED
from squash.limits import CODE_BLOCK_ROWS, ROW_PAGE_ROWS
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
    Records,
    page_ranges,
    parse_page,
)
from squash.segment.layout import VERSION

T = TypeVar("T")
_WHOLE_SHARE = 4


class Loader(Protocol):
    """Gets immutable objects and retains what was made of them.

    `whole_bytes_max` says up to which size an object is better loaded whole than page by page: a
    local store's are, S3's are not. `evictions` counts the objects and pages that were let go.
    """

    whole_bytes_max: int
    evictions: int

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
    dimension:
        d, the index's: vectors of any other are refused.

    Raises
    ------
    ChecksumError, DataError, UnsupportedFormatError
        From every method, if an object is damaged or of a newer format.

    """

    def __init__(self, ref: SegmentRef, loader: Loader, *, dimension: int) -> None:
        self.ref = ref
        self._dimension = dimension
        self._loader = loader
        # What the loader retains, for as long as it let nothing go.
        self._records: Records | None = None
        self._records_since = -1
        self._has_begins: bool | None = None

    def directory(self) -> Directory:
        """Return where its pages lie."""

        def decode(container: Container, where: str) -> Directory:
            found = Directory.from_container(container, where)
            shape = found.rows, found.dimension
            if shape != (self.ref.rows, self._dimension):
                raise ValueError(f"vectors {shape}, not {(self.ref.rows, self._dimension)}")
            pages = len(found.vector_crc32)
            if pages:
                # Before they are read: ranges far beyond an object's end would be planned for long.
                self._check_inside(VECTORS, found.vector_page(pages - 1)[1])
                self._check_inside(DOCUMENTS, found.document_page(pages - 1)[1])
            return found

        return self._part(ROWS, "directory", decode)

    def _check_inside(self, name: str, end: int) -> None:
        ref = self.ref.objects.get(name)
        if ref is not None and end > ref.bytes:
            raise ValueError(f"pages of {name} up to byte {end} of {ref.bytes}")

    def keys(self) -> KeyTable:
        """Return its key table."""

        def decode(container: Container, where: str) -> KeyTable:
            del where
            found = KeyTable.from_container(container)
            if len(found) != self.ref.rows:
                raise ValueError(f"{len(found)} keys, not {self.ref.rows}")
            return found

        return self._part(ROWS, "keys", decode)

    def columns(self) -> Columns:
        """Return its exact attribute columns."""

        def decode(container: Container, where: str) -> Columns:
            del where
            found = Columns.from_arrays(
                container.header["columns"], lambda name: container.array(f"columns.{name}")
            )
            if found.rows != self.ref.rows:
                raise ValueError(f"{found.rows} rows, not {self.ref.rows}")
            return found

        return self._part(ATTRIBUTES, "columns", decode)

    def cells(self) -> CellTable:
        """Return its quantised attributes (partitions only)."""

        def decode(container: Container, where: str) -> CellTable:
            del where
            found = CellTable.from_arrays(
                container.header["cells"], lambda name: container.array(f"cells.{name}")
            )
            if found.rows != self.ref.rows:
                raise ValueError(f"{found.rows} rows, not {self.ref.rows}")
            return found

        return self._part(ATTRIBUTES, "cells", decode)

    def partition(self, codec: Codec) -> Partition:
        """Return its clusters and codes (partitions only)."""

        def decode(container: Container, where: str) -> Partition:
            written = container.header["codec"], container.header["codec_version"]
            if written != (codec.name, codec.version):
                raise DataError(
                    f"{where} was written by codec {written}, its index names "
                    f"{(codec.name, codec.version)}",
                    object_key=where,
                )
            codes = PartitionCodes.from_container(container, where)
            if codes.centers.shape[1] != codec.dimension:
                raise ValueError(f"centers of {codes.centers.shape[1]}, not {codec.dimension}")
            blocks = int((-(-np.diff(codes.cluster_begins) // CODE_BLOCK_ROWS)).sum())
            counts = {"row": self.ref.rows, "block": blocks, "cluster": len(codes.centers)}
            for spec in codec.stored_specs:
                found, shape = codes.arrays[spec.name], (counts[spec.per], *spec.shape)
                if found.shape != shape or found.dtype != np.dtype(spec.dtype):
                    raise ValueError(f"{spec.name} is {found.dtype} {found.shape}, not {shape}")
            return Partition(codes.readable_by(codec), codec)

        return self._part(CODES, "codes", decode)

    def check_codes(self) -> None:
        """Read its clusters and codes without a codec (partitions only)."""
        self._part(CODES, "clusters", PartitionCodes.from_container)

    def all_vectors(self) -> F32:
        """Return float32 [n, d], all of its vectors."""

        def decode(container: Container, where: str) -> F32:
            del where
            vectors = container.array("vector")
            if vectors.shape != (self.ref.rows, self._dimension) or vectors.dtype != "<f4":
                raise ValueError(f"vectors {vectors.dtype} {vectors.shape}")
            return vectors

        return self._part(VECTORS, "vectors", decode)

    def reads_whole(self) -> bool:
        """Tell whether vectors are better read whole than page by page."""
        return self._object(VECTORS).bytes <= self._loader.whole_bytes_max

    def whole_vectors(self) -> F32 | None:
        """Return float32 [n, d] if they are better read whole; None if page by page."""
        return self.all_vectors() if self.reads_whole() else None

    def evictions(self) -> int:
        """Return how often retained objects were let go, of any segment."""
        return self._loader.evictions

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
        wanted = rows.tolist()
        whole = self._whole_records()
        if whole is not None:
            return [whole.record(row) for row in wanted]
        if not self._tells_records():
            return self._parsed_pages(rows)
        pages = self._record_pages(rows)
        return [pages[row // ROW_PAGE_ROWS].record(row) for row in wanted]

    def document_keys(self, rows: I64) -> list[str]:
        """Return the keys of the given rows, in their order, without parsing the metadata."""
        wanted = rows.tolist()
        whole = self._whole_records()
        if whole is not None:
            return [whole.key(row) for row in wanted]
        if not self._tells_records():
            return [key for key, _ in self._parsed_pages(rows)]
        pages = self._record_pages(rows)
        return [pages[row // ROW_PAGE_ROWS].key(row) for row in wanted]

    def key_reader(self) -> Callable[[int], str] | None:
        """Return what gives a row's key, where records are read whole; else None."""
        whole = self._whole_records()
        return None if whole is None else whole.key

    def _tells_records(self) -> bool:
        """Tell if the segment says where each record begins: earlier writers did not."""
        if self._has_begins is None:
            self._has_begins = self.directory().document_begins is not None
        return self._has_begins

    def _whole_records(self) -> Records | None:
        """Return all records, checked at once, where whole objects are better and it is possible.

        With one look-up a call, since matches lie in many segments, few in each.
        """
        if self._records is not None and self._records_since == self._loader.evictions:
            return self._records
        if self._object(DOCUMENTS).bytes > self._loader.whole_bytes_max:
            return None
        if not self._tells_records():
            return None
        since = self._loader.evictions
        self._records = self._part(DOCUMENTS, "records", self._decode_records)
        self._records_since = since
        return self._records

    def _decode_records(self, container: Container, where: str) -> Records:
        directory = self.directory()
        pages = container.array_of("pages", "|u1")
        if directory.document_begins is None or pages.nbytes != directory.document_offsets[-1]:
            raise ValueError(f"pages of {pages.nbytes} bytes")
        return Records(pages.data, 0, directory.document_begins, where)

    def _record_pages(self, rows: I64) -> dict[int, Records]:
        """Return the pages that hold some rows, by number; their checked bytes are retained."""
        directory = self.directory()
        ref = self._object(DOCUMENTS)
        pages = page_ranges(rows).tolist()
        begins = directory.document_begins

        def decode(i: int, data: Buffer) -> Records:
            _check(data, int(directory.document_crc32[pages[i]]), ref)
            if begins is None:
                raise DataError(f"{ref.key} has records that lie nowhere", object_key=ref.key)
            # A copy, since the buffer may be a small part of a long read.
            return Records(bytes(data), int(directory.document_offsets[pages[i]]), begins, ref.key)

        parts = self._loader.load_pages(ref, [directory.document_page(p) for p in pages], decode)
        return dict(zip(pages, parts, strict=True))

    def _parsed_pages(self, rows: I64) -> list[tuple[str, dict[str, Any]]]:
        """Return key and metadata of some rows from whole pages, parsed and retained so."""
        directory = self.directory()
        ref = self._object(DOCUMENTS)
        pages = page_ranges(rows)

        def decode(i: int, data: Buffer) -> list[tuple[str, dict[str, Any]]]:
            page = int(pages[i])
            found = parse_page(data, crc32=int(directory.document_crc32[page]), where=ref.key)
            if len(found) != min(ROW_PAGE_ROWS, directory.rows - page * ROW_PAGE_ROWS):
                raise DataError(f"{ref.key} has a page of {len(found)} rows", object_key=ref.key)
            return found

        parts = self._loader.load_pages(ref, [directory.document_page(p) for p in pages], decode)
        records = dict(zip(pages.tolist(), parts, strict=True))
        return [records[row // ROW_PAGE_ROWS][row % ROW_PAGE_ROWS] for row in rows.tolist()]

    def check_documents(self) -> None:
        """Read its documents in every way: whole, page by page, and record by record.

        Raises
        ------
        DataError
            If one way gives what another does not; the key is that of the `rows` object where
            that says wrongly where records are.

        """
        directory = self.directory()
        expected = int(directory.document_offsets[-1])

        def decode(container: Container, where: str) -> int:
            del where
            length = container.array("pages").nbytes
            if length != expected:
                raise ValueError(f"pages of {length} bytes, not {expected}")
            return length

        self._part(DOCUMENTS, "pages", decode)
        if self._tells_records():
            rows = np.arange(directory.rows, dtype=np.int64)
            if self._parsed_pages(rows) != self.documents(rows):
                where = self._object(ROWS).key
                raise DataError(
                    f"{where} says that records are where others are: the object is damaged. "
                    "Restore it from a copy.",
                    object_key=where,
                )

    def check_whole(self, name: str) -> None:
        """Check the length and checksum of an object of any name."""
        self._loader.load(self._object(name), "length", len)

    def _part(self, name: str, part: str, decode: Callable[[Container, str], T]) -> T:
        """Load an object and decode a part of it; what does not fit is a DataError of its key."""
        ref = self._object(name)

        def decode_all(data: Buffer) -> T:
            container = Container(data, kind=f"segment-{name}", versions=(VERSION,), where=ref.key)
            try:
                return decode(container, ref.key)
            except DataError as error:
                error.object_key = error.object_key or ref.key
                raise
            except MALFORMED as error:
                raise DataError(
                    f"{ref.key} has parts that do not fit ({error!r}): the object is damaged. Run "
                    "`squash verify` to see what else is, and restore it from a copy.",
                    object_key=ref.key,
                ) from error

        return self._loader.load(ref, part, decode_all)

    def _object(self, name: str) -> ObjectRef:
        ref = self.ref.objects.get(name)
        if ref is None:
            raise DataError(f"segment {self.ref.id} has no {name!r} object")
        return ref


def _check(data: Buffer, crc32: int, ref: ObjectRef) -> None:
    if zlib.crc32(data) != crc32:
        raise ChecksumError(
            f"a page of {ref.key} has another checksum than its segment says: the object is "
            "damaged. Run `squash verify` to see what else is, and restore it from a copy.",
            object_key=ref.key,
        )
