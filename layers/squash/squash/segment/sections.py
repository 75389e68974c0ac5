"""Where each attribute of a partition lies in its `attributes` object, with checksums.

The cells of an attribute and its column are two runs of bytes, one after the other, so that a
filter reads those of its own attributes and nothing else. The routing table says where they are
(docs/format.md): a reader has it before it looks at any partition.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np

from squash.arrays import U8, U64, AnyArray
from squash.attributes import Column
from squash.container import ALIGNMENT, Buffer, Container, read_layout
from squash.errors import DataError
from squash.values import dataclass

_NAMES: Final = "attribute_names"
_PLACES: Final = "attribute_places"
_CHECKSUMS: Final = "attribute_crc32"
_DESCRIBED: Final = "attributes_described"
_CODES: Final = ".codes"
_LENGTHS: Final = ".lengths"
_BYTES_MAX: Final = 1 << 48


@dataclass(frozen=True, slots=True)
class Section:
    """A run of bytes of an object, and their CRC-32."""

    start: int
    stop: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Sections:
    """Of each attribute that some row of a partition has, its cells and its column."""

    cells: Mapping[str, Section]
    columns: Mapping[str, Section]


def describe_attributes(data: Buffer) -> Sections:
    """Describe a partition's `attributes` object."""
    layout = read_layout(data, where="attributes")
    names = layout.header["columns"]["names"]
    starts = []
    for i in range(len(names)):
        starts.append(layout.entries[f"cells.{i}{_CODES}"].start)
        starts.append(layout.entries[f"columns.{i}{_LENGTHS}"].start)
    view = memoryview(data)
    made = [
        Section(start, stop, zlib.crc32(view[start:stop]))
        for start, stop in pairwise([*starts, len(data)])
    ]
    return Sections(
        dict(zip(names, made[::2], strict=True)), dict(zip(names, made[1::2], strict=True))
    )


def sections_to_arrays(
    described: Sequence[Sections | None],
) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    """Return header and arrays that say where the attributes of p partitions lie.

    Parameters
    ----------
    described:
        By partition; None where it is not known, as of those that earlier releases wrote.

    Returns
    -------
    Nothing if it is known of none.

    """
    if not any(one is not None for one in described):
        return {}, {}
    names = sorted({name for one in described if one is not None for name in one.cells})
    places = np.zeros((len(described), len(names), 3), dtype=np.int64)
    crc32 = np.zeros((len(described), len(names), 2), dtype=np.uint32)
    for number, one in enumerate(described):
        for i, name in enumerate(names):
            if one is not None and name in one.cells:
                cells, column = one.cells[name], one.columns[name]
                places[number, i] = cells.start, column.start, column.stop
                crc32[number, i] = cells.crc32, column.crc32
    known = np.array([one is not None for one in described], dtype=np.uint8)
    return {_NAMES: names}, {_PLACES: places, _CHECKSUMS: crc32, _DESCRIBED: known}


def sections_from_container(container: Container, partitions: int) -> tuple[Sections | None, ...]:
    """Read back what `sections_to_arrays` gave; None of each partition if that was nothing.

    Raises
    ------
    ValueError
        If its parts do not fit each other.

    """
    names = container.header.get(_NAMES)
    if names is None:
        return (None,) * partitions
    places = container.array_of(_PLACES, "<i8", 3)
    crc32 = container.array_of(_CHECKSUMS, "<u4", 3)
    known = container.array_of(_DESCRIBED, "|u1")
    shape = partitions, len(names)
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or len(set(names)) < len(names)
        or (places.shape, crc32.shape, known.shape) != ((*shape, 3), (*shape, 2), (partitions,))
        or bool(np.any((places < 0) | (places > _BYTES_MAX)))
        or bool(np.any(places[:, :, 1:] < places[:, :, :-1]))
    ):
        raise ValueError("places of attributes that do not fit")
    return tuple(
        _sections(names, *one) if there else None
        for *one, there in zip(places.tolist(), crc32.tolist(), known.tolist(), strict=True)
    )


def _sections(
    names: Sequence[str], places: Sequence[Sequence[int]], crc32: Sequence[Sequence[int]]
) -> Sections:
    cells, columns = {}, {}
    for name, (start, middle, stop), (first, second) in zip(names, places, crc32, strict=True):
        if stop > 0:
            cells[name] = Section(start, middle, first)
            columns[name] = Section(middle, stop, second)
    return Sections(cells, columns)


def read_cells(data: Buffer, rows: int) -> tuple[U8, U64 | None]:
    """Return the codes, uint8 [n], and where some row holds a list the signatures, uint64 [n].

    Raises
    ------
    DataError
        If they are of other rows.

    """
    first, both = _padded(rows), _padded(rows) + _padded(8 * rows)
    if len(data) not in {first, both}:
        raise DataError(f"has cells of {len(data)} bytes for {rows} rows")
    codes = np.frombuffer(data, dtype=np.uint8, count=rows)
    if len(data) == first:
        return codes, None
    return codes, np.frombuffer(data, dtype="<u8", count=rows, offset=first)


def read_column(data: Buffer, rows: int) -> Column:
    """Return a column of n rows; it is checked that its arrays fit each other.

    Raises
    ------
    DataError
        If they do not.

    """
    arrays: list[AnyArray] = []
    lengths = np.frombuffer(data, dtype="<u8", count=len(Column.DTYPES)).tolist()
    at = _padded(8 * len(lengths))
    for length, dtype in zip(lengths, Column.DTYPES, strict=True):
        size = length * np.dtype(dtype).itemsize
        if at + size > len(data):
            raise DataError("has a column that ends before its arrays do")
        arrays.append(np.frombuffer(data, dtype=dtype, count=length, offset=at))
        at += _padded(size)
    if at != len(data):
        raise DataError("has a column of other bytes than its arrays'")
    return Column.checked(arrays, rows)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
