"""The attributes of a partition, each read by itself where it is known where they lie."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from squash.arrays import U8, U64
from squash.attributes import Column, Columns
from squash.container import Buffer
from squash.errors import ChecksumError, DataError
from squash.index.loading import Pages, Want, Whole
from squash.index.reader import SegmentReader
from squash.index.references import MALFORMED
from squash.segment import Section, Sections, read_cells, read_column


class _Piece(NamedTuple):
    """An attribute's cells, or its column."""

    attribute: str
    section: Section
    exact: bool


class AttributeParts:
    """The attributes of one partition.

    Whether damage is found does not depend on what else was read: the cells of each attribute, and
    its column, have a checksum of their own. Where objects are better loaded whole, or nothing
    tells where the parts of this one lie, all of it is read, and checked by its reference.

    Parameters
    ----------
    reader:
        The partition's.
    sections:
        Where its attributes lie; None where that is not known.

    """

    def __init__(self, reader: SegmentReader, sections: Sections | None) -> None:
        self.loader = reader.loader
        self._reader = reader
        whole = reader.attributes_ref.bytes <= reader.loader.whole_bytes_max
        self._sections = None if whole else sections

    def cells(self, name: str) -> tuple[U8 | None, U64 | None]:
        """Return an attribute's codes, uint8 [n], and its signatures, uint64 [n], if it has lists.

        None are those of an attribute that no row has.
        """
        if self._sections is None:
            table = self._reader.cells()
            return table.codes(name), table.signatures(name)
        section = self._sections.cells.get(name)
        if section is None:
            return None, None
        found: tuple[U8, U64 | None] = self._load(_Piece(name, section, exact=False))
        return found

    def columns(self) -> Columns:
        """Return the exact columns; each is read when it is first needed."""
        if self._sections is None:
            return self._reader.columns()
        load = {
            name: partial(self._column, _Piece(name, section, exact=True))
            for name, section in self._sections.columns.items()
        }
        return Columns(self._reader.ref.rows, load)

    def want(self, asked: Mapping[str, bool]) -> list[Want]:
        """Return what is read for the cells of some attributes, and the columns of those asked."""
        if self._sections is None:
            return [Whole(self._reader.attributes_ref)]
        pieces: list[_Piece] = []
        for name, exact in asked.items():
            if name in self._sections.cells:
                pieces.append(_Piece(name, self._sections.cells[name], exact=False))
                if exact:
                    pieces.append(_Piece(name, self._sections.columns[name], exact=True))
        return [self._pages(pieces)] if pieces else []

    def want_columns(self, names: Iterable[str] | None = None) -> list[Want]:
        """Return what is read for the columns of some attributes; without names, of all."""
        if self._sections is None:
            return [Whole(self._reader.attributes_ref)]
        columns = self._sections.columns
        asked = [name for name in (columns if names is None else names) if name in columns]
        pieces = [_Piece(name, columns[name], exact=True) for name in asked]
        return [self._pages(pieces)] if pieces else []

    def _column(self, piece: _Piece) -> Column:
        found: Column = self._load(piece)
        return found

    def _load(self, piece: _Piece) -> Any:
        wanted = self._pages([piece])
        return self.loader.load_pages(wanted.ref, wanted.pages, wanted.decode)[0]

    def _pages(self, pieces: list[_Piece]) -> Pages:
        ref, rows = self._reader.attributes_ref, self._reader.ref.rows
        for piece in pieces:
            if piece.section.stop > ref.bytes:
                # Before it is read: a range far beyond an object's end would be planned for long.
                raise self._damaged(piece, f"ends beyond the object's {ref.bytes} bytes")

        def decode(i: int, data: Buffer) -> Any:
            piece = pieces[i]
            if zlib.crc32(data) != piece.section.crc32:
                raise ChecksumError(
                    f"attribute {piece.attribute!r:.80} of {ref.key} has another checksum than "
                    "what was trained says: the object is damaged. Run `squash verify` to see "
                    "what else is, and restore it from a copy.",
                    object_key=ref.key,
                )
            # A copy, since the buffer may be a small part of a long read.
            own = bytes(data)
            try:
                return read_column(own, rows) if piece.exact else read_cells(own, rows)
            except (DataError, *MALFORMED) as error:
                raise self._damaged(piece, f"has parts that do not fit ({error})") from error

        return Pages(ref, [(one.section.start, one.section.stop) for one in pieces], decode)

    def _damaged(self, piece: _Piece, what: str) -> DataError:
        key = self._reader.attributes_ref.key
        return DataError(
            f"attribute {piece.attribute!r:.80} of {key} {what}: it, or what was trained, is "
            "damaged. Run `squash verify` to see which, and restore it from a copy.",
            object_key=key,
        )
