"""Keys and metadata as pages of JSON.

A page is the unit in which records are fetched and checked; each record is then parsed alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import I64, U32, U64
from squash.container import Buffer
from squash.errors import ChecksumError, DataError
from squash.kernels.record_keys import PLAIN_KEY
from squash.limits import ROW_PAGE_ROWS
from squash.model import Metadata
from squash.values import dataclass

# A record is followed by the next one, or by its page's end and perhaps the next page.
_FOLLOWED_BY: Final = frozenset({",", "]", "]["})
# How a record ends with what follows it, the usual first; and how long the latter is.
_ENDS: Final = tuple((f"}}]{one}".encode(), len(one)) for one in sorted(_FOLLOWED_BY))
_USUAL_END: Final = _ENDS[0][0]
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_DECODER: Final = json.JSONDecoder()
# Writes many records at once: raw line feeds stand in no string of JSON, so they tell where values
# end. What is written holds no value that is part of itself.
_LINES_ENCODER: Final = json.JSONEncoder(
    separators=(",\n", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)
# Records written or parsed in one call: it is the calls that cost.
_TOGETHER: Final = ROW_PAGE_ROWS


@dataclass(frozen=True, slots=True)
class DocumentPages:
    """Packed pages.

    `offsets` is uint64 [pages + 1], `crc32` uint32 [pages]; `row_offsets` is uint32 [n], the byte
    of its page at which a row's record begins.
    """

    data: bytes
    offsets: U64
    crc32: U32
    row_offsets: U32


def write_records(keys: Sequence[str], metadata: Sequence[Metadata]) -> list[bytes]:
    """Return the JSON of each [key, metadata], as segments hold it."""
    records: list[bytes] = []
    for start in range(0, len(keys), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        # Pairs of all rows at once would be old to the garbage collector, and cost it a round.
        some = list(zip(keys[part], map(dict, metadata[part]), strict=True))
        text = _LINES_ENCODER.encode(some)[1:-1]
        lines = text.replace("}],\n[", "}]\n[").replace(",\n", ",").encode().split(b"\n")
        # Lists of lists with objects in them may look like the end of a record.
        alike = len(lines) > len(some)
        records += [_ENCODER.encode(pair).encode() for pair in some] if alike else lines
    return records


def read_records(records: Sequence[bytes]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return keys and metadata of what `write_records` or a segment's pages gave.

    Raises
    ------
    DataError
        If one is no record.

    """
    keys: list[str] = []
    metadata: list[dict[str, Any]] = []
    for start in range(0, len(records), _TOGETHER):
        some = records[start : start + _TOGETHER]
        try:
            text = str(b"[%b]" % b",".join(some), "utf-8")
        except UnicodeDecodeError as error:
            raise _no_records() from error
        own, values = read_joined(text, len(some))
        keys += own
        metadata += values
    return keys, metadata


def read_joined(text: str, count: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the same of so many records that are a list of JSON.

    Raises
    ------
    DataError
        If it is no such list.

    """
    try:
        found = _DECODER.decode(text)
        keys = [key for key, _ in found]
        metadata = [values for _, values in found]
    except (ValueError, TypeError, RecursionError) as error:
        raise _no_records() from error
    if len(found) != count or set(map(type, keys)) - {str} or set(map(type, metadata)) - {dict}:
        raise _no_records()
    return keys, metadata


def read_followed(texts: Sequence[bytes]) -> tuple[list[str], list[dict[str, Any]]]:
    """Do the same of what `Records.data` has from where one record begins to the next.

    Raises
    ------
    DataError
        If one is no record.

    """
    return read_records([t[:-1] if t.endswith(_USUAL_END) else _record_of(t) for t in texts])


def _record_of(text: bytes) -> bytes:
    """Return a record without what follows it: nothing if it does not end as one."""
    for ending, length in _ENDS:
        if text.endswith(ending):
            return text[:-length]
    return b""


def _no_records() -> DataError:
    return DataError(
        "a segment has no record where it says that a row's is: it is damaged. Run "
        "`squash verify` to see which, and restore it from a copy."
    )


def pack_records(records: Sequence[bytes]) -> DocumentPages:
    """Pack what `write_records` gave into pages of `ROW_PAGE_ROWS`: each a JSON list of records."""
    starts = range(0, len(records), ROW_PAGE_ROWS)
    pages = [b"[" + b",".join(records[s : s + ROW_PAGE_ROWS]) + b"]" for s in starts]
    offsets = np.zeros(len(pages) + 1, dtype=np.uint64)
    offsets[1:] = np.cumsum([len(page) for page in pages], dtype=np.uint64)
    row_offsets = np.zeros(len(records), dtype=np.uint32)
    for start in starts:
        lengths = [len(record) + 1 for record in records[start : start + ROW_PAGE_ROWS]]
        row_offsets[start : start + ROW_PAGE_ROWS] = np.cumsum([1, *lengths[:-1]])
    checksums = np.array([zlib.crc32(page) for page in pages], dtype=np.uint32)
    return DocumentPages(b"".join(pages), offsets, checksums, row_offsets)


@dataclass(frozen=True, slots=True)
class Records:
    """One page or all of a segment's, checked, and where in them each row's record lies.

    Parameters
    ----------
    data:
        The pages' bytes.
    start:
        Where `data` begins among the bytes of all pages.
    begins:
        int64 [n + 1], see `Directory.document_begins`.
    where:
        The object, for errors.

    """

    data: Buffer
    start: int
    begins: I64
    where: str

    def key(self, row: int) -> str:
        """Return a row's key; the metadata is not looked at.

        Raises
        ------
        DataError
            If there is no record where the segment says.

        """
        item, start = self.begins.item, self.start
        # Of bytes that are copied, which is sooner than to have the expression look at mapped ones.
        found = PLAIN_KEY.match(bytes(self.data[item(row) - start : item(row + 1) - start]))
        if found is None:
            return self.record(row)[0]
        try:
            return str(found[1], "utf-8")
        except ValueError as error:
            raise self._damaged(row) from error

    def record(self, row: int) -> tuple[str, dict[str, Any]]:
        """Return a row's key and metadata, which are the caller's own.

        Raises
        ------
        DataError
            If there is no record where the segment says.

        """
        begin, end = self.begins.item(row) - self.start, self.begins.item(row + 1) - self.start
        try:
            text = str(self.data[begin:end], "utf-8")
            (key, metadata), stop = _DECODER.raw_decode(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(row) from error
        if type(key) is not str or type(metadata) is not dict or text[stop:] not in _FOLLOWED_BY:
            raise self._damaged(row)
        return key, metadata

    def written_key(self, row: int) -> bytes:
        """Return the JSON of [key]; the metadata is not looked at."""
        begin, end = self.begins.item(row) - self.start, self.begins.item(row + 1) - self.start
        found = PLAIN_KEY.match(self.data, begin, end)
        if found is None:
            return _ENCODER.encode([self.record(row)[0]]).encode()
        return b'["%b"]' % found[1]

    def written(self, row: int) -> bytes:
        """Return the JSON of [key, metadata], as it is stored: who reads it checks it."""
        begin, end = self.begins.item(row) - self.start, self.begins.item(row + 1) - self.start
        text = bytes(self.data[begin:end])
        return _record_of(text) or _ENCODER.encode(self.record(row)).encode()

    def written_all(self, rows: I64) -> list[bytes]:
        """Return what `written` gives for each of some rows, int64 [m]."""
        begins, ends = self.begins[rows] - self.start, self.begins[rows + 1] - self.start
        data = self.data
        texts = [bytes(data[a:b]) for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        return [
            text[:-1] if text.endswith(b"}],") else self.written(row)
            for text, row in zip(texts, rows.tolist(), strict=True)
        ]

    def _damaged(self, row: int) -> DataError:
        return DataError(
            f"{self.where} has no record where its segment says that row {row} is: the segment is "
            "damaged. Run `squash verify` to see what else is, and restore it from a copy.",
            object_key=self.where,
        )


def parse_page(page: Buffer, *, crc32: int, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Read one page back, as it must be where a segment does not say where its records begin.

    Raises
    ------
    ChecksumError
        If the page's checksum differs.
    DataError
        If a page with the right checksum is not what `pack_records` writes.

    """
    if zlib.crc32(page) != crc32:
        raise ChecksumError(
            f"a page of {where} has another checksum than its segment says: the object is damaged. "
            "Run `squash verify` to see what else is, and restore it from a copy.",
            object_key=where,
        )
    try:
        return [(key, metadata) for key, metadata in json.loads(bytes(page))]
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"a page of {where} holds no records", object_key=where) from error
