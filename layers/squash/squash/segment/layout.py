"""What a segment's objects are called and hold; `docs/format.md` says it for other languages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from squash.arrays import I64, U32, U64
from squash.container import Container
from squash.errors import DataError
from squash.limits import ROW_PAGE_ROWS

ROWS: Final = "rows"  # key table, directory of the pages of vectors and documents
VECTORS: Final = "vectors"  # full-precision vectors
DOCUMENTS: Final = "documents"  # keys and metadata
ATTRIBUTES: Final = "attributes"  # exact columns and, in partitions, cells
CODES: Final = "codes"  # partitions only: clusters, codes, factors

VERSION: Final = 1
FLOAT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the pages of a segment's vectors and documents lie.

    `vector_start` and `document_start` count bytes from the first of the object; page i of the
    vectors holds rows i·ROW_PAGE_ROWS and on.
    """

    rows: int
    dimension: int
    vector_start: int
    vector_crc32: U32
    document_start: int
    document_offsets: U64
    document_crc32: U32

    @classmethod
    def from_container(cls, container: Container, where: str) -> Directory:
        """Read and check a segment's `rows` object.

        Raises
        ------
        DataError
            If its parts do not fit each other.

        """
        header = container.header
        for name in ("rows", "dimension", "page_rows", "vector_start", "document_start"):
            if type(header[name]) is not int or header[name] < 0:
                raise DataError(f"{where} has {name} {header[name]!r:.80}", object_key=where)
        found = cls(
            rows=header["rows"],
            dimension=header["dimension"],
            vector_start=header["vector_start"],
            vector_crc32=container.array_of("vector_page_crc32", "<u4"),
            document_start=header["document_start"],
            document_offsets=container.array_of("document_page_offsets", "<u8"),
            document_crc32=container.array_of("document_page_crc32", "<u4"),
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
        first = page * ROW_PAGE_ROWS
        last = min(first + ROW_PAGE_ROWS, self.rows)
        return self.vector_start + first * row_bytes, self.vector_start + last * row_bytes

    def document_page(self, page: int) -> tuple[int, int]:
        """Return [start, stop) of one page in the `documents` object."""
        start, stop = self.document_offsets[page], self.document_offsets[page + 1]
        return self.document_start + int(start), self.document_start + int(stop)


def page_ranges(rows: I64 | Sequence[int]) -> I64:
    """Return the pages that hold `rows`, ascending, each once."""
    return np.unique(np.asarray(rows, dtype=np.int64) // ROW_PAGE_ROWS)
