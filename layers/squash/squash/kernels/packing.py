"""Bit packing: row-major codes of any widths, and the blocked layout of low-bit codes.

A packed row is one little-endian bit stream: bit `i` of the stream is bit `i % 8` of byte `i // 8`,
and the dimensions follow one another, each with its own width, so that a dimension may straddle
two bytes:

    widths 3, 5, 6      byte 0: b b b b b a a a      (a = dimension 0, b = 1, c = 2;
                        byte 1: 0 0 0 c c c c c c ... most significant bit on the left)

Codes of exactly four bits have a layout of their own (`pack_nibbles`), because two masks unpack it:

    byte i of w = ceil(d / 2):   high half = dimension w + i,   low half = dimension i

Low-bit codes lie in blocks of 32 rows, the layout a 16-entry byte shuffle looks up: for each group
of four dimensions 16 bytes, whose byte `j` holds row `j` in its low half and row `j + 16` in its
high half; bit `i` of a half is dimension `4 * group + i`:

    block:  | group 0: 16 bytes | group 1: 16 bytes | ...
    byte j: | row j+16: dims 3 2 1 0 | row j: dims 3 2 1 0 |

In memory the factors of a block's rows follow its signs, so that a scan reads one stream
(`pack_blocks`):

    | signs: 16 bytes a group | norm f32[32] | secant f16[32] | shift f16[32] | sine f16[32] |
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F16, F32, I64, U8, U32, AnyArray, Mask
from squash.kernels.tables import BLOCK_FACTOR_BYTES
from squash.limits import CODE_BLOCK_ROWS

GROUP_DIMENSIONS: Final = 4
_BYTE_BITS: Final = 8
_ALL_ROWS: Final = np.uint32(0xFFFFFFFF)
_HALF: Final = CODE_BLOCK_ROWS // 2
# The factors of a block's rows, in their order, with the bytes of one.
_FACTORS: Final = ((np.float32, 4), (np.float16, 2), (np.float16, 2), (np.float16, 2))


def uniform_widths(dimension: int, bits: int) -> U8:
    """Return uint8 [d], the widths of `dimension` codes of `bits` bits each."""
    return np.full(dimension, bits, dtype=np.uint8)


def packed_bytes(widths: U8) -> int:
    """Return w, the bytes that one packed row of these widths takes."""
    return (int(widths.sum(dtype=np.int64)) + 7) // 8


def pack_rows(codes: U8, widths: U8) -> U8:
    """Pack codes into row-major bit streams (section 2.2 of the paper: shared segments).

    Parameters
    ----------
    codes:
        uint8 [n, d]; `codes[i, j] < 2 ** widths[j]`.
    widths:
        uint8 [d], each 0 to 8 bits.

    Returns
    -------
    uint8 [n, w]; unused bits at a row's end are 0.

    """
    # Columns of the result are built as rows of its transpose: they then lie side by side.
    columns = np.zeros((packed_bytes(widths), len(codes)), dtype=np.uint8)
    begins = _bit_begins(widths)
    for j, (begin, width) in enumerate(zip(begins.tolist(), widths.tolist(), strict=True)):
        if width == 0:
            continue
        byte, shift = divmod(begin, _BYTE_BITS)
        columns[byte] |= np.left_shift(codes[:, j], shift)
        if shift + width > _BYTE_BITS:
            columns[byte + 1] |= np.right_shift(codes[:, j], _BYTE_BITS - shift)
    return np.ascontiguousarray(columns.T)


def unpack_rows(packed: U8, widths: U8) -> U8:
    """Unpack what `pack_rows` packed: uint8 [n, w] to uint8 [n, d]."""
    if len(widths) == 0 or packed.shape[1] == 0:
        return np.zeros((len(packed), len(widths)), dtype=np.uint8)
    byte, shift = np.divmod(_bit_begins(widths), 8)
    # A dimension of width 0 at the very end begins past the last byte; its mask is 0 anyway.
    last = packed.shape[1] - 1
    words = packed[:, np.minimum(byte, last)].astype(np.uint16)
    words |= packed[:, np.minimum(byte + 1, last)].astype(np.uint16) << np.uint16(8)
    words >>= shift.astype(np.uint16)
    words &= ((1 << widths.astype(np.int64)) - 1).astype(np.uint16)
    return words.astype(np.uint8)


def pack_nibbles(codes: U8) -> U8:
    """Pack four-bit codes uint8 [n, d] into uint8 [n, ceil(d / 2)]: low half first dimensions."""
    rows, dimension = codes.shape
    width = (dimension + 1) // 2
    packed = codes[:, :width].copy()
    packed[:, : dimension - width] |= np.left_shift(codes[:, width:], 4)
    return packed.reshape(rows, width)


def unpack_nibbles(packed: U8, dimension: int) -> U8:
    """Unpack what `pack_nibbles` packed: uint8 [n, ceil(d / 2)] to uint8 [n, d]."""
    width = packed.shape[1]
    codes = np.empty((len(packed), dimension), dtype=np.uint8)
    np.bitwise_and(packed, 15, out=codes[:, :width])
    np.right_shift(packed[:, : dimension - width], 4, out=codes[:, width:])
    return codes


def concatenated_ranges(begins: I64, lengths: I64) -> I64:
    """Return int64: `begins[i] .. begins[i] + lengths[i] - 1` for each i, one after another."""
    starts = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    return np.repeat(begins - starts, lengths) + np.arange(total, dtype=np.int64)


def block_begins(cluster_begins: I64) -> I64:
    """Return int64 [c + 1], the first low-bit block of each cluster, and the number of blocks."""
    blocks = -(-np.diff(cluster_begins) // CODE_BLOCK_ROWS)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(blocks)]).astype(np.int64)


def whole_blocks(rows: I64) -> U32:
    """Return uint32 [blocks] with a bit for each row that there is, of clusters of so many rows."""
    blocks = -(-rows // CODE_BLOCK_ROWS)
    words = np.full(int(blocks.sum()), _ALL_ROWS, dtype=np.uint32)
    ends = rows % CODE_BLOCK_ROWS
    short = np.flatnonzero(ends)
    words[(np.cumsum(blocks) - 1)[short]] = (np.left_shift(1, ends[short]) - 1).astype(np.uint32)
    return words


def low_groups(dimension: int) -> int:
    """Return the groups of four dimensions in a low-bit block."""
    return -(-dimension // GROUP_DIMENSIONS)


def pack_low(signs: Mask, cluster_begins: I64) -> U8:
    """Lay signs out in blocks of 32 rows; each cluster starts a block.

    Parameters
    ----------
    signs:
        bool [n, d]; rows lie side by side by cluster.
    cluster_begins:
        int64 [c + 1].

    Returns
    -------
    uint8 [blocks, groups, 16]; padding rows and dimensions are 0.

    """
    rows, dimension = signs.shape
    groups = low_groups(dimension)
    nibbles = np.zeros((rows, groups), dtype=np.uint8)
    for i in range(min(GROUP_DIMENSIONS, dimension)):
        columns = signs[:, i::GROUP_DIMENSIONS].astype(np.uint8)
        nibbles[:, : columns.shape[1]] |= np.left_shift(columns, i)
    begins = block_begins(cluster_begins)
    blocks = int(begins[-1])
    places = concatenated_ranges(begins[:-1] * CODE_BLOCK_ROWS, np.diff(cluster_begins))
    padded = np.zeros((blocks * CODE_BLOCK_ROWS, groups), dtype=np.uint8)
    padded[places] = nibbles
    halves = padded.reshape(blocks, 2, _HALF, groups)
    joined = halves[:, 0] | np.left_shift(halves[:, 1], 4)
    return np.ascontiguousarray(joined.transpose(0, 2, 1))


def unpack_low(low: U8, dimension: int) -> Mask:
    """Return bool [blocks * 32, d], the signs of every row of the blocks, padding rows too."""
    blocks, groups, _ = low.shape
    halves = np.stack([low & 15, low >> 4], axis=1).transpose(0, 1, 3, 2)
    nibbles = halves.reshape(blocks * CODE_BLOCK_ROWS, groups, 1)
    bits = (nibbles >> np.arange(GROUP_DIMENSIONS, dtype=np.uint8)) & 1
    columns = groups * GROUP_DIMENSIONS
    return bits.reshape(blocks * CODE_BLOCK_ROWS, columns)[:, :dimension].astype(np.bool_)


def pack_blocks(
    signs: Mask, *, norm: F32, secant: F16, shift: F16, sine: F16, cluster_begins: I64
) -> U8:
    """Lay signs and factors out in blocks of 32 rows; each cluster starts a block.

    Parameters
    ----------
    signs:
        bool [n, d]; rows lie side by side by cluster.
    norm:
        float32 [n].
    secant, shift, sine:
        float16 [n].
    cluster_begins:
        int64 [c + 1].

    Returns
    -------
    uint8 [blocks, 16 * groups + 320]; padding rows and dimensions are 0.

    """
    low = pack_low(signs, cluster_begins)
    begins = block_begins(cluster_begins)[:-1] * CODE_BLOCK_ROWS
    places = concatenated_ranges(begins, np.diff(cluster_begins))
    parts = [low.reshape(len(low), low.shape[1] * _HALF)]
    for values, (dtype, size) in zip((norm, secant, shift, sine), _FACTORS, strict=True):
        padded = np.zeros(len(low) * CODE_BLOCK_ROWS, dtype=dtype)
        padded[places] = values
        parts.append(padded.view(np.uint8).reshape(len(low), CODE_BLOCK_ROWS * size))
    return np.concatenate(parts, axis=1)


def split_blocks(blocks: U8, dimension: int) -> tuple[U8, F32, F16, F16, F16]:
    """See what `pack_blocks` packed, uint8 [b, 16 * groups + 320], as views.

    Returns
    -------
    uint8 [b, groups, 16], the signs; float32 [b, 32], norm; float16 [b, 32], secant, shift, sine.

    """
    count = len(blocks)
    groups = low_groups(dimension)
    begin = blocks.shape[1] - BLOCK_FACTOR_BYTES
    low = blocks[:, :begin].reshape(count, groups, _HALF)
    factors: list[AnyArray] = []
    for dtype, size in _FACTORS:
        end = begin + CODE_BLOCK_ROWS * size
        factors.append(blocks[:, begin:end].view(dtype))
        begin = end
    norm, secant, shift, sine = factors
    return low, norm, secant, shift, sine


def _bit_begins(widths: AnyArray) -> I64:
    wide = widths.astype(np.int64)
    begins: I64 = np.cumsum(wide) - wide
    return begins
