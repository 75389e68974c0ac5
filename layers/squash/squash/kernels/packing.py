"""Codes of any width from 0 to 8 bits, packed row by row; a dimension may straddle two bytes.

The bits of dimension j follow those of j - 1 at once, most significant first, in bytes filled from
their most significant bit; a row ends on a byte's boundary, its last bits are zero.
"""

from __future__ import annotations

import numpy as np

from squash.arrays import U8

_BYTE_BITS = 8
_CHUNK_BITS = 1 << 26


def packed_bytes(widths: U8) -> int:
    """Return how many bytes a row of these widths (uint8 [d]) takes."""
    return -(-int(widths.astype(np.int64).sum()) // _BYTE_BITS)


def pack_rows(codes: U8, widths: U8) -> U8:
    """Pack uint8 [n, d], codes[:, j] < 2^widths[j], into uint8 [n, w]."""
    source, shift = _bit_places(widths)
    out = np.empty((len(codes), packed_bytes(widths)), dtype=np.uint8)
    for part in _chunks(len(codes), len(source)):
        bits = (codes[part][:, source] >> shift) & 1
        out[part] = np.packbits(bits, axis=1)
    return out


def unpack_rows(packed: U8, widths: U8) -> U8:
    """Unpack what `pack_rows` packed: uint8 [n, w] to uint8 [n, d]."""
    source, shift = _bit_places(widths)
    out = np.zeros((len(packed), len(widths)), dtype=np.uint8)
    used = np.flatnonzero(widths)
    begins = np.searchsorted(source, used)
    for part in _chunks(len(packed), len(source)):
        if len(used):
            bits = np.unpackbits(packed[part], axis=1, count=len(source))
            out[part, used] = np.add.reduceat(bits << shift, begins, axis=1, dtype=np.uint8)
    return out


def _bit_places(widths: U8) -> tuple[np.ndarray, U8]:
    """For each bit of a packed row: the dimension it belongs to, and its weight's exponent."""
    counts = widths.astype(np.int64)
    source = np.repeat(np.arange(len(widths)), counts)
    ends = np.repeat(np.cumsum(counts), counts)
    return source, (ends - 1 - np.arange(len(source))).astype(np.uint8)


def _chunks(rows: int, bits: int) -> list[slice]:
    size = max(1, _CHUNK_BITS // max(bits, 1))
    return [slice(start, start + size) for start in range(0, rows, size)]
