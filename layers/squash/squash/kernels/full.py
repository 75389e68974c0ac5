"""The full codes of 4 bits: row by row, so that one admitted row is one or a few cache lines.

Byte j of a row holds dimension j in its low nibble and dimension ceil(d / 2) + j in its high one.
"""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, U8


def pack_nibbles(codes: U8) -> U8:
    """Pack uint8 [n, d], each below 16, into uint8 [n, ceil(d / 2)]."""
    half = -(-codes.shape[1] // 2)
    packed = codes[:, :half].copy()
    packed[:, : codes.shape[1] - half] |= codes[:, half:] << 4
    return packed


def unpack_nibbles(packed: U8, dimension: int) -> U8:
    """Unpack what `pack_nibbles` packed: uint8 [n, ceil(d / 2)] to uint8 [n, d]."""
    return np.concatenate((packed & 15, packed >> 4), axis=1)[:, :dimension]


def full_products(units: F32, queries: F32) -> F32:
    """Return the inner product of each row with its own query: float32 [n, d] twice to [n]."""
    return np.asarray(np.einsum("ij,ij->i", units, queries))
