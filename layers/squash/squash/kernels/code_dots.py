"""Scores of gathered packed rows: inner products of grid codes, and table sums of cell codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from squash.arrays import F32, F64, I64, U8, AnyArray
from squash.kernels.packing import (
    pack_nibbles,
    pack_rows,
    uniform_widths,
    unpack_nibbles,
    unpack_rows,
)

_NIBBLE_BITS: Final = 4
# Values unpacked at once: 4 MiB of float64.
_CHUNK_VALUES: Final = 1 << 19


def pack_grid(codes: U8, bits: int) -> U8:
    """Pack grid codes uint8 [n, d] of `bits` bits: nibble halves at 4 bits, else a bit stream."""
    if bits == _NIBBLE_BITS:
        return pack_nibbles(codes)
    return pack_rows(codes, uniform_widths(codes.shape[1], bits))


def unpack_grid(packed: U8, *, bits: int, dimension: int) -> U8:
    """Unpack what `pack_grid` packed, to uint8 [n, d]."""
    if bits == _NIBBLE_BITS:
        return unpack_nibbles(packed, dimension)
    return unpack_rows(packed, uniform_widths(dimension, bits))


def grid_bytes(dimension: int, bits: int) -> int:
    """Return the bytes of one packed row of grid codes."""
    return (dimension + 1) // 2 if bits == _NIBBLE_BITS else (dimension * bits + 7) // 8


def grid_dots(
    packed: U8, rows: I64, *, bits: int, queries: F32, row_queries: I64
) -> tuple[F64, F64]:
    """Multiply gathered grid codes with queries.

    A code k of `bits` bits stands for the half-integer `u = k - (2 ** bits - 1) / 2`.

    Parameters
    ----------
    packed:
        uint8 [n, w], from `pack_grid`.
    rows:
        int64 [m], the rows to score.
    bits:
        Bits a dimension, 1 to 8.
    queries:
        float32 [q, d].
    row_queries:
        int64 [m], which query each row meets.

    Returns
    -------
    float64 [m], the inner products `<query, u>`, to within 2^-22 |query| |u|; and float64 [m],
    `|u|^2`, exact.

    """
    dots = np.empty(len(rows), dtype=np.float64)
    squares = np.empty(len(rows), dtype=np.float64)
    dimension = queries.shape[1]
    middle = ((1 << bits) - 1) / 2
    wide = queries.astype(np.float64)
    for part in _chunks(len(rows), dimension):
        codes = unpack_grid(packed[rows[part]], bits=bits, dimension=dimension)
        values = codes.astype(np.float64) - middle
        squares[part] = np.vecdot(values, values)
        if len(wide) == 1:
            dots[part] = values @ wide[0]
        else:
            dots[part] = np.vecdot(values, wide[row_queries[part]])
    return dots, squares


def table_sums(
    packed: U8, rows: I64, *, widths: U8, tables: AnyArray, row_tables: I64
) -> list[F64]:
    """Sum, for gathered rows, the look-up table entries of their cells.

    Parameters
    ----------
    packed:
        uint8 [n, w], from `pack_rows`.
    rows:
        int64 [m], the rows to score.
    widths:
        uint8 [d]; dimension j has `2 ** widths[j]` cells.
    tables:
        float [kinds, t, cells of all dimensions, one dimension after another].
    row_tables:
        int64 [m], which of the t tables each row uses.

    Returns
    -------
    One float64 [m] for each kind of table.

    """
    kinds, count, cells = tables.shape
    sums = [np.empty(len(rows), dtype=np.float64) for _ in range(kinds)]
    begins = cell_begins(widths)[:-1]
    flat = tables.reshape(kinds, count * cells)
    for part in _chunks(len(rows), len(widths)):
        places = unpack_rows(packed[rows[part]], widths) + begins
        places += (row_tables[part] * cells)[:, None]
        for kind in range(kinds):
            sums[kind][part] = flat[kind].take(places).sum(axis=1, dtype=np.float64)
    return sums


def cell_begins(widths: U8) -> I64:
    """Return int64 [d + 1]: where each dimension's cells begin in a flat table; their number."""
    counts = np.left_shift(1, widths.astype(np.int64))
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]).astype(np.int64)


def _chunks(rows: int, dimension: int) -> Iterator[slice]:
    size = max(1, _CHUNK_VALUES // max(1, dimension))
    for begin in range(0, rows, size):
        yield slice(begin, min(begin + size, rows))
