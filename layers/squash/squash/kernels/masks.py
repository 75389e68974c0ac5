"""Inner loops over rows: three-valued truth, one byte a row, and the ids of values.

Truth is 0 no, 1 maybe, 2 yes; so AND is the minimum, OR the maximum, and NOT the distance from 2
(DESIGN 4, level 1).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import I64, U8, U32, U64, Mask

NO: Final = 0
MAYBE: Final = 1
YES: Final = 2


def apply_table(cells: U8, table: U8) -> U8:
    """Look up each row's truth.

    Parameters
    ----------
    cells:
        uint8 [n], cell codes.
    table:
        uint8 [256], the truth of each code.

    Returns
    -------
    uint8 [n], writable and the caller's own.

    """
    # table[cells] would widen every code to an 8-byte index first, at several times the time.
    return np.frombuffer(bytearray(cells).translate(table.tobytes()), dtype=np.uint8)


def both(left: U8, right: U8) -> U8:
    """Return the truth of AND, uint8 [n], written over `left`."""
    return np.minimum(left, right, out=left)


def either(left: U8, right: U8) -> U8:
    """Return the truth of OR, uint8 [n], written over `left`."""
    return np.maximum(left, right, out=left)


def negate(truth: U8) -> U8:
    """Return the truth of NOT, uint8 [n], written over `truth`."""
    return np.subtract(np.uint8(YES), truth, out=truth)


def bits_truth(signatures: U64, *, sure: int, possible: int) -> U8:
    """Return yes where a signature has a bit of `sure`, else maybe where it has one of `possible`.

    Parameters
    ----------
    signatures:
        uint64 [n].
    sure, possible:
        64 bits each; `possible` includes `sure`.

    """
    truth: U8 = ((signatures & np.uint64(possible)) != 0).view(np.uint8)
    truth += ((signatures & np.uint64(sure)) != 0).view(np.uint8)
    return truth


def sure_and_possible(truth: U8) -> tuple[Mask, Mask]:
    """Return which rows certainly pass and which may, bool [n] each."""
    return truth == YES, truth != NO


def ids_within(ids: U32, first: int, last: int) -> Mask:
    """Return which of uint32 [n] ids lie in [first, last): bool [n]."""
    # Ids below `first` wrap round to large ones, so that one comparison does for two.
    return np.asarray((ids - np.uint32(first)) < np.uint32(last - first))


def bit_places(words: U32) -> I64:
    """Return the places of the bits of a bitmap that are set, int64 ascending.

    Parameters
    ----------
    words:
        uint32 [w]; bit j of word i has place 32 i + j.

    """
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
    return np.flatnonzero(bits).astype(np.int64)
