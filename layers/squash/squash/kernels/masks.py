"""Small loops over rows: the ids of values, and the places of bits. Truth by cell is 0, 1 or 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from squash.arrays import I64, U32, Mask

NO: Final = 0
MAYBE: Final = 1
YES: Final = 2

_CODES: Final = 256
_MAYBES: Final = bytes([MAYBE]) * _CODES
_YESES: Final = bytes([YES]) * _CODES


def _set_bits() -> list[int]:
    """Return the sets of the codes below 0, 1, .. 256, each as one number."""
    found = [0]
    for code in range(_CODES):
        found.append(found[-1] | 1 << (code >> 7) * 128 + (code & 15) * 8 + (code >> 4 & 7))
    return found


_BELOW: Final = _set_bits()


def truth_of_spans(
    maybe: Iterable[tuple[int, int]], yes: Iterable[tuple[int, int]]
) -> tuple[bytes, bytes]:
    """Return the truth of a comparison by cell code, and the same as sets.

    Parameters
    ----------
    maybe, yes:
        First and last of the codes, the last excluded, where it may hold and where it does; the
        latter goes before.

    Returns
    -------
    uint8 [256], and what `sets_of` makes of it.

    """
    truth = bytearray(_CODES)
    sure = possible = 0
    for begin, end in maybe:
        truth[begin:end] = _MAYBES[begin:end]
        possible |= _BELOW[end] ^ _BELOW[begin]
    for begin, end in yes:
        truth[begin:end] = _YESES[begin:end]
        sure |= _BELOW[end] ^ _BELOW[begin]
    return bytes(truth), (sure | (possible | sure) << _CODES).to_bytes(64, "little")


def sets_of(truth: bytes) -> bytes:
    """Return uint8 [64], the codes of sure and possible truth as byte shuffles look them up."""
    by_half = np.frombuffer(truth, dtype=np.uint8).reshape(2, 8, 16)
    members = np.concatenate((by_half == YES, by_half != NO))
    return np.packbits(members, axis=1, bitorder="little").tobytes()


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
