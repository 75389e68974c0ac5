"""Small loops over rows: the ids of values, and the places of bits. Truth by cell is 0, 1 or 2."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import I64, U32, Mask

NO: Final = 0
MAYBE: Final = 1
YES: Final = 2


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
