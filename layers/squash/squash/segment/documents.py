"""Keys and metadata as pages of JSON: a page is the unit in which records are read back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from squash.arrays import U32, U64
from squash.container import Buffer
from squash.errors import ChecksumError, DataError
from squash.limits import ROW_PAGE_ROWS
from squash.model import Metadata


@dataclass(frozen=True, slots=True)
class DocumentPages:
    """Packed pages: `offsets` is uint64 [pages + 1], `crc32` uint32 [pages]."""

    data: bytes
    offsets: U64
    crc32: U32


def pack_documents(keys: Sequence[str], metadata: Sequence[Metadata]) -> DocumentPages:
    """Pack records into pages of `ROW_PAGE_ROWS`: each page a JSON list of [key, metadata]."""
    pages = [
        json.dumps(
            [
                [key, dict(meta)]
                for key, meta in zip(
                    keys[start : start + ROW_PAGE_ROWS],
                    metadata[start : start + ROW_PAGE_ROWS],
                    strict=True,
                )
            ],
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        ).encode()
        for start in range(0, len(keys), ROW_PAGE_ROWS)
    ]
    offsets = np.zeros(len(pages) + 1, dtype=np.uint64)
    offsets[1:] = np.cumsum([len(page) for page in pages], dtype=np.uint64)
    checksums = np.array([zlib.crc32(page) for page in pages], dtype=np.uint32)
    return DocumentPages(b"".join(pages), offsets, checksums)


def parse_page(page: Buffer, *, crc32: int, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Read one page back.

    Raises
    ------
    ChecksumError
        If the page's checksum differs.
    DataError
        If a page with the right checksum is not what `pack_documents` writes.

    """
    if zlib.crc32(page) != crc32:
        raise ChecksumError(
            f"a page of {where} has another checksum than its segment says: the object is damaged. "
            "Run `squash verify` to see what else is, and restore it from a copy.",
            object_key=where,
        )
    try:
        return [(key, metadata) for key, metadata in json.loads(bytes(page))]
    except (ValueError, TypeError) as error:
        raise DataError(f"a page of {where} holds no records", object_key=where) from error
