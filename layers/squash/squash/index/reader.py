"""Reading a segment: which of its objects, checked how, and kept by whom."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from weakref import ReferenceType

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.attributes import CellTable, Columns
from squash.container import Buffer, Container
from squash.errors import ChecksumError, DataError
from squash.index.loading import ClusterParts, Loader, Pages, Want, Whole
from squash.index.parts import SegmentParts
from squash.limits import CODE_BLOCK_ROWS, DOCUMENTS_AHEAD_BYTES_MAX, ROW_PAGE_ROWS
from squash.model import ObjectRef, SegmentRef
from squash.quantize import ArraySpec, Codec
from squash.segment import (
    ATTRIBUTES,
    CODES,
    DOCUMENTS,
    HEAD,
    ROWS,
    VECTORS,
    ClusterCodes,
    CodesHead,
    KeyTable,
    Partition,
    PartitionCodes,
    Records,
    page_ranges,
    parse_page,
)

T = TypeVar("T")
_WHOLE_SHARE = 4


class SegmentReader(SegmentParts):
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
        super().__init__(ref, loader, dimension=dimension)
        # What the loader retains, for as long as it let nothing go.
        self._records: Records | None = None
        self._records_since = -1
        self._has_begins: bool | None = None
        self._codes: ReferenceType[ClusterCodes] | None = None
        self._codes_since = -1

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

    @property
    def attributes_ref(self) -> ObjectRef:
        """The object that `columns` and `cells` read."""
        return self._object(ATTRIBUTES)

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
            self._check_arrays(codes, codec.stored_specs)
            return Partition(codes.readable_by(codec), codec)

        return self._part(CODES, "codes", decode)

    def reads_codes_whole(self) -> bool:
        """Tell whether codes are read whole: they are better so, or nothing tells their parts."""
        small = self._object(CODES).bytes <= self.loader.whole_bytes_max
        return small or HEAD not in self.ref.objects

    def codes_head(self) -> CodesHead:
        """Return its clusters, and where the codes of each lie (partitions only)."""
        if not self.reads_codes_whole():
            return self.stored_head()

        def decode(container: Container, where: str) -> CodesHead:
            codes = PartitionCodes.from_container(container, where)
            header = container.header
            named = header["codec"], header["codec_version"]
            return CodesHead(codes.cluster_begins, codes.centers, *named, arrays=None)

        return self._part(CODES, "head", decode)

    def stored_head(self) -> CodesHead:
        """Return what its `head` object says of its codes (partitions only)."""

        def decode(container: Container, where: str) -> CodesHead:
            codes_bytes = self._object(CODES).bytes
            head = CodesHead.from_container(container, where, codes_bytes=codes_bytes)
            if head.cluster_begins[-1] != self.ref.rows:
                raise ValueError(f"clusters of {head.cluster_begins[-1]} rows")
            return head

        return self._part(HEAD, "codes", decode)

    def cluster_codes(self, clusters: I64, specs: Sequence[ArraySpec]) -> Mapping[str, AnyArray]:
        """Return the codes of some clusters, in arrays of the partition's full shape.

        Parameters
        ----------
        clusters:
            int64 [m], clusters of this partition.
        specs:
            The arrays that its codec stores, see `Codec.stored_specs`.

        Returns
        -------
        Arrays by name, filled at least where these clusters lie. As long as somebody has them,
        further calls return the same ones, with more filled in; what is filled in stays.

        """
        codes = self.held_codes(specs)
        if codes is not None:
            self.loader.fetch(self._missing_codes(codes, clusters))
            return codes

        def decode(container: Container, where: str) -> Mapping[str, AnyArray]:
            found = PartitionCodes.from_container(container, where)
            if not np.array_equal(found.cluster_begins, self.codes_head().cluster_begins):
                raise ValueError("other clusters than its head")
            self._check_arrays(found, specs)
            return found.arrays

        return self._part(CODES, "arrays", decode)

    def all_clusters_codes(self, specs: Sequence[ArraySpec]) -> Mapping[str, AnyArray]:
        """Return the codes of all clusters; see `cluster_codes`."""
        return self.cluster_codes(np.arange(len(self.codes_head().cluster_begins) - 1), specs)

    def held_codes(self, specs: Sequence[ArraySpec]) -> ClusterCodes | None:
        """Return the arrays that `cluster_codes` fills, as they are; None where it reads whole."""
        known = None if self._codes is None else self._codes()
        if known is not None and self._codes_since == self.loader.evictions:
            # Asked each time, so that what is used counts as used.
            return self.loader.cluster_codes(self._object(CODES), lambda: known)
        head = self.codes_head()
        if head.arrays is None:
            return None
        arrays, where, since = head.arrays, self._object(CODES).key, self.loader.evictions
        head.check_specs(specs, self._object(HEAD).key)
        codes = self.loader.cluster_codes(self._object(CODES), lambda: ClusterCodes(arrays, where))
        self._codes, self._codes_since = ReferenceType(codes), since
        return codes

    def _missing_codes(self, codes: ClusterCodes, clusters: I64) -> list[Want]:
        missing = codes.missing(clusters)
        if not missing:
            return []
        ref = self._object(CODES)
        if self.loader.fills_all(ref, sum(codes.bytes_of(one) for one in missing)):
            missing = codes.missing_of_all()
        return [ClusterParts(ref, codes, missing)]

    def _check_arrays(self, codes: PartitionCodes, specs: Sequence[ArraySpec]) -> None:
        """Refuse codes of another shape than their clusters and codec give."""
        blocks = int((-(-np.diff(codes.cluster_begins) // CODE_BLOCK_ROWS)).sum())
        counts = {"row": self.ref.rows, "block": blocks, "cluster": len(codes.centers)}
        for spec in specs:
            found, shape = codes.arrays[spec.name], (counts[spec.per], *spec.shape)
            if found.shape != shape or found.dtype != np.dtype(spec.dtype):
                raise ValueError(f"{spec.name} is {found.dtype} {found.shape}, not {shape}")

    def all_codes(self) -> PartitionCodes:
        """Return its clusters and codes as they are stored (partitions only)."""
        return self._part(CODES, "clusters", PartitionCodes.from_container)

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
        """Tell whether vectors are always read whole: it does not depend on what is retained."""
        return self._object(VECTORS).bytes <= self.loader.whole_bytes_max

    def codes_bytes(self) -> int:
        """Return how many bytes the codes of all clusters have."""
        return self._object(CODES).bytes

    def vectors_bytes(self, rows: I64 | None) -> int:
        """Return how many bytes the vectors of some rows are read as, about; None is all rows."""
        whole, count = self._object(VECTORS).bytes, max(-(-self.ref.rows // ROW_PAGE_ROWS), 1)
        pages = count if rows is None or self.reads_whole() else len(page_ranges(rows))
        return whole if pages * _WHOLE_SHARE > count else whole * pages // count

    def holds_vectors(self) -> bool:
        """Tell whether vectors are at hand whole, or always read so."""
        return self.reads_whole() or self.loader.holds_whole(self._object(VECTORS))

    def whole_vectors(self) -> F32 | None:
        """Return float32 [n, d] if they are at hand whole, or always read so; else None."""
        return self.all_vectors() if self.holds_vectors() else None

    def vectors(self, rows: I64) -> F32:
        """Return float32 [m, d], the vectors of the given rows, in their order."""
        wanted = self._vector_pages(rows)
        if wanted is None:
            return np.asarray(self.all_vectors()[rows])
        parts = self.loader.load_pages(wanted.ref, wanted.pages, wanted.decode)
        # Only a segment's last page is short, and it sorts last: positions stay regular.
        position = np.searchsorted(page_ranges(rows), rows // ROW_PAGE_ROWS) * ROW_PAGE_ROWS
        return np.asarray(np.concatenate(parts)[position + rows % ROW_PAGE_ROWS])

    def _vector_pages(self, rows: I64) -> Pages | None:
        """Return the pages that hold the vectors of some rows; None if all are better read."""
        directory = self.directory()
        ref = self._object(VECTORS)
        pages = page_ranges(rows)
        page_count = -(-directory.rows // ROW_PAGE_ROWS)
        if ref.bytes <= self.loader.whole_bytes_max or len(pages) * _WHOLE_SHARE > page_count:
            return None
        ranges = [directory.vector_page(p) for p in pages.tolist()]
        if self.loader.takes_whole(ref, ranges):
            return None

        def decode(i: int, data: Buffer) -> F32:
            _check(data, int(directory.vector_crc32[pages[i]]), ref)
            # A copy, since the buffer may be a small part of a long read.
            return np.frombuffer(data, dtype="<f4").reshape(-1, directory.dimension).copy()

        return Pages(ref, ranges, decode)

    def documents(self, rows: I64) -> list[tuple[str, dict[str, Any]]]:
        """Return key and metadata of the given rows, in their order."""
        wanted = rows.tolist()
        whole = self.whole_records(rows)
        if whole is not None:
            return [whole.record(row) for row in wanted]
        if not self._tells_records():
            return self._parsed_pages(rows)
        pages = self._record_pages(rows)
        return [pages[row // ROW_PAGE_ROWS].record(row) for row in wanted]

    def document_keys(self, rows: I64) -> list[str]:
        """Return the keys of the given rows, in their order, without parsing the metadata."""
        wanted = rows.tolist()
        whole = self.whole_records(rows)
        if whole is not None:
            return [whole.key(row) for row in wanted]
        if not self._tells_records():
            return [key for key, _ in self._parsed_pages(rows)]
        pages = self._record_pages(rows)
        return [pages[row // ROW_PAGE_ROWS].key(row) for row in wanted]

    def key_reader(self) -> Callable[[int], str] | None:
        """Return what gives a row's key, where records are read whole; else None."""
        whole = self.whole_records()
        return None if whole is None else whole.key

    def document_writer(self, *, metadata: bool) -> Callable[[int], bytes] | None:
        """Return what gives the JSON of a row's [key] or [key, metadata]; None as `key_reader`."""
        whole = self.whole_records()
        if whole is None:
            return None
        return whole.written if metadata else whole.written_key

    def _tells_records(self) -> bool:
        """Tell if the segment says where each record begins: earlier writers did not."""
        if self._has_begins is None:
            self._has_begins = self.directory().document_begins is not None
        return self._has_begins

    def whole_records(self, rows: I64 | None = None) -> Records | None:
        """Return all records, checked at once, where whole objects are better and it is possible.

        With one look-up a call, since matches lie in many segments, few in each. Without `rows`
        that are wanted, only what is at hand is.
        """
        if self._records is not None and self._records_since == self.loader.evictions:
            return self._records
        if not self._takes_documents(rows):
            return None
        if not self._tells_records():
            return None
        since = self.loader.evictions
        self._records = self._part(DOCUMENTS, "records", self._decode_records)
        self._records_since = since
        return self._records

    def _takes_documents(self, rows: I64 | None) -> bool:
        """Tell whether documents are always read whole, or are so at hand, or better for rows."""
        ref = self._object(DOCUMENTS)
        if ref.bytes <= self.loader.whole_bytes_max:
            return True
        if rows is None or not self._tells_records():
            return self.loader.holds_whole(ref)
        directory = self.directory()
        ranges = [directory.document_page(page) for page in page_ranges(rows).tolist()]
        return self.loader.takes_whole(ref, ranges)

    def _decode_records(self, container: Container, where: str) -> Records:
        directory = self.directory()
        pages = container.array_of("pages", "|u1")
        if directory.document_begins is None or pages.nbytes != directory.document_offsets[-1]:
            raise ValueError(f"pages of {pages.nbytes} bytes")
        return Records(pages.data, 0, directory.document_begins, where)

    def _record_pages(self, rows: I64) -> dict[int, Records]:
        """Return the pages that hold some rows, by number; their checked bytes are retained."""
        wanted = self._wanted_records(rows)
        parts = self.loader.load_pages(wanted.ref, wanted.pages, wanted.decode)
        return dict(zip(page_ranges(rows).tolist(), parts, strict=True))

    def _wanted_records(self, rows: I64) -> Pages:
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

        return Pages(ref, [directory.document_page(p) for p in pages], decode)

    def _parsed_pages(self, rows: I64) -> list[tuple[str, dict[str, Any]]]:
        """Return key and metadata of some rows from whole pages, parsed and retained so."""
        wanted = self._wanted_pages(rows)
        parts = self.loader.load_pages(wanted.ref, wanted.pages, wanted.decode)
        records = dict(zip(page_ranges(rows).tolist(), parts, strict=True))
        return [records[row // ROW_PAGE_ROWS][row % ROW_PAGE_ROWS] for row in rows.tolist()]

    def _wanted_pages(self, rows: I64) -> Pages:
        directory = self.directory()
        ref = self._object(DOCUMENTS)
        pages = page_ranges(rows)

        def decode(i: int, data: Buffer) -> list[tuple[str, dict[str, Any]]]:
            page = int(pages[i])
            found = parse_page(data, crc32=int(directory.document_crc32[page]), where=ref.key)
            if len(found) != min(ROW_PAGE_ROWS, directory.rows - page * ROW_PAGE_ROWS):
                raise DataError(f"{ref.key} has a page of {len(found)} rows", object_key=ref.key)
            return found

        return Pages(ref, [directory.document_page(p) for p in pages], decode)

    # What the methods above will ask the loader for, to be fetched for several segments at once.

    def want_heads(self) -> list[Want]:
        """Return what `codes_head` and `directory` read (partitions only)."""
        codes = CODES if self.reads_codes_whole() else HEAD
        return [Whole(self._object(name)) for name in sorted({codes, self._directory_name()})]

    def want_directory(self) -> list[Want]:
        """Return what `directory` reads."""
        return [Whole(self._object(self._directory_name()))]

    def want_codes(self, clusters: I64, specs: Sequence[ArraySpec]) -> list[Want]:
        """Return what `cluster_codes` reads besides the head."""
        codes = self.held_codes(specs)
        if codes is None:
            return [Whole(self._object(CODES))]
        return self._missing_codes(codes, clusters)

    def want_vectors(self, rows: I64) -> list[Want]:
        """Return what `vectors` reads besides the directory."""
        return [self._vector_pages(rows) or Whole(self._object(VECTORS))]

    def want_documents(self, rows: I64) -> list[Want]:
        """Return what `documents` and `document_keys` read besides the directory."""
        if not self._tells_records():
            return [self._wanted_pages(rows)]
        whole = self._takes_documents(rows)
        return [Whole(self._object(DOCUMENTS)) if whole else self._wanted_records(rows)]

    def want_first_documents(self, rows: I64) -> list[Want]:
        """Return what `documents` reads of some rows, of as many as have small pages."""
        if self._object(DOCUMENTS).bytes <= self.loader.whole_bytes_max:
            return []
        offsets = self.directory().document_offsets
        pages = rows // ROW_PAGE_ROWS
        _, firsts = np.unique(pages, return_index=True)  # noqa: TID251 - with places
        sizes = np.zeros(len(rows), dtype=np.int64)
        sizes[firsts] = (offsets[pages[firsts] + 1] - offsets[pages[firsts]]).astype(np.int64)
        fitting = rows[np.cumsum(sizes) <= DOCUMENTS_AHEAD_BYTES_MAX]
        return self.want_documents(fitting) if len(fitting) else []

    def want_scan(self, *, filtered: bool) -> list[Want]:
        """Return what measuring every row reads and is not retained."""
        names = (VECTORS, ROWS, ATTRIBUTES) if filtered else (VECTORS, ROWS)
        refs = [self._object(name) for name in names]
        return [Whole(ref) for ref in refs if not self.loader.holds_whole(ref)]

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


def _check(data: Buffer, crc32: int, ref: ObjectRef) -> None:
    if zlib.crc32(data) != crc32:
        raise ChecksumError(
            f"a page of {ref.key} has another checksum than its segment says: the object is "
            "damaged. Run `squash verify` to see what else is, and restore it from a copy.",
            object_key=ref.key,
        )
