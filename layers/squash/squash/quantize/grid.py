"""The uniform grid of the default codec: codes that point as nearly as may be along a residual."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32, U8, Mask

BITS_MAX: Final = 8
# The rescale factors tried lie between shares of (levels + 10) / max|o|; the shares, for 2 to 8
# bits, are those of extended RaBitQ (arXiv 2409.09913), but for 4 bits: below its 0.52 lies the
# best factor of most rows of 16 to 128 dimensions (of GloVe's, 1 - cos falls from 0.0049 to
# 0.0041). A factor between two tried ones is lost little by: the cosine is flat at its top.
_START_SHARES: Final = (0.15, 0.20, 0.42, 0.59, 0.71, 0.75, 0.77)
_TRIALS: Final = 10
# As version 1 of the codec had them: its rows are coded anew when an index is verified.
_START_SHARES_1: Final = (0.15, 0.20, 0.52, 0.59, 0.71, 0.75, 0.77)
_TRIALS_1: Final = 16
_BEYOND_TOP: Final = 10


def grid_levels(directions: F32, bits: int, *, version: int = 2) -> F32:
    """Return the magnitudes of the codes that maximise the cosine with some directions.

    Parameters
    ----------
    directions:
        float32 [n, D], the absolute values of unit vectors o (or of zeros).
    bits:
        Bits a dimension B, sign included.
    version:
        Of the codec, which decides what is tried.

    Returns
    -------
    float32 [n, D] of half-integers `min(floor(t |o|), 2 ** (B - 1) - 1) + 1/2`, for the best t
    among those tried.

    """
    top = (1 << (bits - 1)) - 1
    if top == 0:
        return np.full_like(directions, 0.5)
    peaks = directions.max(axis=1, initial=0.0)
    ends: F32 = ((top + _BEYOND_TOP) / np.where(peaks > 0, peaks, 1)).astype(np.float32)
    starts, trials = (_START_SHARES_1, _TRIALS_1) if version == 1 else (_START_SHARES, _TRIALS)
    shares = np.geomspace(starts[bits - 2], 1.0, trials).astype(np.float32)
    best = np.full(len(directions), -1.0, dtype=np.float32)
    factors = ends.copy()
    levels = np.empty_like(directions)
    for share in shares:
        trial: F32 = ends * share
        _fill_levels(directions, trial, top=top, out=levels)
        products = np.vecdot(levels, directions)
        cosines = products / np.sqrt(np.vecdot(levels, levels))
        better = cosines > best
        np.copyto(best, cosines, where=better)
        np.copyto(factors, trial, where=better)
    return _fill_levels(directions, factors, top=top, out=levels)


def grid_codes(levels: F32, *, negative: Mask, bits: int) -> U8:
    """Return uint8 [n, D]: magnitudes and signs as codes `u + (2 ** B - 1) / 2`.

    Of the half-integer h + 1/2 that is 2 ** (B - 1) + h, and of its opposite that number with all
    B bits turned: in bytes, without a branch for each value.
    """
    codes: U8 = levels.astype(np.uint8)
    codes += np.uint8(1 << (bits - 1))
    codes ^= negative.view(np.uint8) * np.uint8((1 << bits) - 1)
    return codes


def _fill_levels(directions: F32, factors: F32, *, top: int, out: F32) -> F32:
    np.multiply(directions, factors[:, None], out=out)
    np.floor(out, out=out)
    np.minimum(out, np.float32(top), out=out)
    out += np.float32(0.5)
    return out
