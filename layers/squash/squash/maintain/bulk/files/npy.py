"""NumPy arrays: rows of one width side by side, each its number's record."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator
from typing import Final

import numpy as np

from squash.arrays import AnyArray
from squash.maintain.bulk.files.chunks import (
    Chunk,
    check_file_dimension,
    chunk_rows,
    cuts,
    unusable,
)
from squash.maintain.bulk.plan import InputFile, Piece
from squash.storage.inputs import InputInfo, InputStore

_HEADER_BYTES: Final = 16 << 10  # NumPy itself reads none above 10,000
_MATRIX: Final = 2
_ITEM_BYTES_MAX: Final = 8  # what is wider is not the same on every machine
_FLOAT_BYTES: Final = 4
# NumPy has Python parse a header, and Pythons before 3.11.8 and 3.12.2 count how deep a parse is
# for all threads together: of two at once one may end in a SystemError.
_PARSING: Final = threading.Lock()


def probe_npy(store: InputStore, info: InputInfo, *, dimension: int) -> InputFile:
    """Read what a `.npy` file's header tells; its `first` is 0.

    Raises
    ------
    InvalidArgumentError
        If it is no such file, is cut short, or holds another thing than rows of the index's
        dimension.

    """
    head = store.read(info, [(0, min(info.bytes, _HEADER_BYTES))])[0]
    shape, fortran, dtype, start = _header(bytes(head), info.url)
    if dtype.kind not in "iuf" or dtype.itemsize > _ITEM_BYTES_MAX:
        what = "Python objects" if dtype.hasobject else f"{dtype} values"
        raise unusable(info.url, f"it holds {what}: vectors are real numbers, best float32")
    if len(shape) != _MATRIX:
        raise unusable(
            info.url,
            f"an array of shape {shape}, where one of two dimensions is taken, a row a record",
        )
    check_file_dimension(shape[1], expected=dimension, url=info.url)
    if fortran and min(shape) > 1:
        raise unusable(
            info.url,
            "it is stored column by column (fortran_order), so that no row lies together: save "
            "numpy.ascontiguousarray(array)",
        )
    _check_length(info, start + math.prod(shape) * dtype.itemsize)
    return InputFile(
        url=info.url,
        kind="npy",
        etag=info.etag,
        bytes=info.bytes,
        first=0,
        rows=shape[0],
        data_start=start,
        dtype=dtype.str,
    )


def read_npy(
    store: InputStore, file: InputFile, piece: Piece, *, dimension: int
) -> Iterator[Chunk]:
    """Yield the rows of a piece, some MB at a time; a request for each."""
    info = InputInfo(file.url, file.etag, file.bytes)
    dtype = np.dtype(file.dtype)
    row_bytes = dimension * dtype.itemsize
    step = chunk_rows(dimension * max(dtype.itemsize, _FLOAT_BYTES))
    begin = piece.first - file.first
    for start, stop in cuts(begin, begin + piece.rows, step):
        place = file.data_start + start * row_bytes
        data = store.read(info, [(place, place + (stop - start) * row_bytes)])[0]
        vectors: AnyArray = np.frombuffer(data, dtype=dtype).reshape(-1, dimension)
        yield Chunk(row=start, first=file.first + start, rows=stop - start, vectors=vectors)


def _header(head: bytes, url: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Return shape, whether columns lie together, dtype, and where the data begins."""
    file = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(file)
        with _PARSING:
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                # What version 3.0 adds are names of fields beyond Latin-1: fields are not taken.
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    except (ValueError, TypeError, EOFError, SyntaxError, OverflowError, RecursionError) as error:
        raise unusable(url, f"not an array that numpy.save wrote, or cut short: {error}") from error
    if min(shape, default=0) < 0:
        raise unusable(url, f"not an array that numpy.save wrote: its shape is {shape}")
    return tuple(shape), bool(fortran), dtype, file.tell()


def _check_length(info: InputInfo, promised: int) -> None:
    if info.bytes < promised:
        raise unusable(
            info.url,
            f"it is cut short: its header tells of {promised:,} bytes, and it has {info.bytes:,}. "
            "Copy or write it again",
        )
    if info.bytes > promised:
        raise unusable(
            info.url,
            f"it has {info.bytes - promised:,} bytes after its array: save each array in a file "
            "of its own",
        )
