"""What a segment's objects are called and hold; `docs/format.md` says it for other languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from squash.arrays import I64, U32, U64, distinct
from squash.container import Container
from squash.errors import DataError
from squash.limits import ROW_PAGE_ROWS
from squash.values import dataclass

ROWS: Final = "rows"  # key table, directory of the pages of vectors and documents
VECTORS: Final = "vectors"  # full-precision vectors
DOCUMENTS: Final = "documents"  # keys and metadata
ATTRIBUTES: Final = "attributes"  # exact columns and, in partitions, cells
CODES: Final = "codes"  # partitions only: clusters, codes, factors
HEAD: Final = "head"  # partitions only: where parts of the others lie, and their checksums

VERSION: Final = 1
FLOAT_BYTES: Final = 4
_ROW_OFFSETS: Final = "document_row_offsets"
_BYTES_MAX: Final = 1 << 48


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the pages of a segment's vectors and documents lie.

    `vector_start` and `document_start` count bytes from the first of the object; page i of the
    vectors holds rows i·ROW_PAGE_ROWS and on. `document_begins` is int64 [n + 1]: row i's record
    lies in [document_begins[i], document_begins[i + 1]) of the pages' bytes, with what separates
    it from the next; None where the writer did not say.
    """

    rows: int
    dimension: int
    vector_start: int
    vector_crc32: U32
    document_start: int
    document_offsets: U64
    document_crc32: U32
    document_begins: I64 | None

    @classmethod
    def from_container(cls, container: Container, where: str) -> Directory:
        """Read and check a segment's `rows` object.

        Raises
        ------
        DataError
            If its parts do not fit each other.

        """
        header = container.header
        offsets = container.array_of("document_page_offsets", "<u8")
        for name in ("rows", "dimension", "page_rows", "vector_start", "document_start"):
            if type(header[name]) is not int or header[name] < 0:
                raise DataError(f"{where} has {name} {header[name]!r:.80}", object_key=where)
        found = cls(
            rows=header["rows"],
            dimension=header["dimension"],
            vector_start=header["vector_start"],
            vector_crc32=container.array_of("vector_page_crc32", "<u4"),
            document_start=header["document_start"],
            document_offsets=offsets,
            document_crc32=container.array_of("document_page_crc32", "<u4"),
            document_begins=_document_begins(container, offsets, header["rows"], where),
        )
        pages = -(-found.rows // ROW_PAGE_ROWS)
        lengths = len(found.vector_crc32), len(found.document_crc32), len(found.document_offsets)
        ascending = bool(np.all(found.document_offsets[1:] >= found.document_offsets[:-1]))
        sized = lengths == (pages, pages, pages + 1)
        if header["page_rows"] != ROW_PAGE_ROWS or not sized or not ascending:
            raise DataError(f"{where} has a directory that does not fit its rows", object_key=where)
        return found

    def vector_page(self, page: int) -> tuple[int, int]:
        """Return [start, stop) of one page in the `vectors` object."""
        row_bytes = self.dimension * FLOAT_BYTES
        first = int(page) * ROW_PAGE_ROWS
        last = min(first + ROW_PAGE_ROWS, self.rows)
        return self.vector_start + first * row_bytes, self.vector_start + last * row_bytes

    def document_page(self, page: int) -> tuple[int, int]:
        """Return [start, stop) of one page in the `documents` object."""
        start, stop = self.document_offsets[page], self.document_offsets[page + 1]
        return self.document_start + int(start), self.document_start + int(stop)


def _document_begins(container: Container, page_offsets: U64, rows: int, where: str) -> I64 | None:
    """Return where the records begin, counted from the first page; checked to be inside of it."""
    if _ROW_OFFSETS not in container.names():
        return None
    in_page = container.array_of(_ROW_OFFSETS, "<u4")
    if len(in_page) != rows or len(page_offsets) != -(-rows // ROW_PAGE_ROWS) + 1:
        raise DataError(f"{where} has record offsets that do not fit its rows", object_key=where)
    if int(page_offsets.max()) > _BYTES_MAX:
        raise DataError(f"{where} has pages beyond all objects", object_key=where)
    pages = page_offsets.astype(np.int64)
    begins = np.empty(rows + 1, dtype=np.int64)
    begins[:-1] = in_page
    begins[:-1] += np.repeat(pages[:-1], ROW_PAGE_ROWS)[:rows]
    # As if another page followed: what comes after the last record is then its page's end.
    begins[-1] = pages[-1] + 1
    firsts = begins[:-1:ROW_PAGE_ROWS]
    if not (np.array_equal(firsts, pages[:-1] + 1) and np.all(begins[1:] > begins[:-1])):
        raise DataError(f"{where} has record offsets that do not ascend", object_key=where)
    return begins


def page_ranges(rows: I64 | Sequence[int]) -> I64:
    """Return int64, the pages that hold `rows`, int64 [n], ascending, each once."""
    return distinct(np.asarray(rows, dtype=np.int64) // ROW_PAGE_ROWS)
