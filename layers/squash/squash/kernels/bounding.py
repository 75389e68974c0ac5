"""From angles to bounds: what a code's angles say of an inner product, and the slack for rounding.

`squash.quantize.bounds` derives the formulas; `layers/squash/native/README.md` says where the
native kernels use them. Each line below is one order of IEEE operations, which they keep.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from squash.arrays import F64

SLACK: Final = 2.0**-21
ALIGNMENT_ERROR: Final = 2.0**-21
SUBNORMAL: Final = 2.0**-149
# Half an ulp of a float16, as a share of its value, and the spacing of its subnormals.
HALF_ERROR: Final = 2.0**-11
HALF_SUBNORMAL: Final = 2.0**-24
# A code this far off its row is not rescaled: the noise would be blown up with it.
_COSINE_LEAST: Final = 2.0**-6


def rescaling_cosines(sines: F64) -> F64:
    """Return float64 [m], the cosines of the angles between codes and rows, kept away from 0."""
    return np.maximum(np.sqrt(np.maximum(1 - sines * sines, 0.0)), _COSINE_LEAST)


def alignments(products: F64, *, query_norms: F64, code_norms: F64) -> F64:
    """Return cos(phi) = <q~, u> / (|q~| |u|), float64 [m]; 0 where a norm is 0."""
    scale = query_norms * code_norms
    aligned = np.clip(products / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
    return np.where(scale > 0, aligned, 0.0)


def cosine_interval(sines: F64) -> tuple[F64, F64]:
    """Return the least and the most cosine that a sine rounded to float16 may stand for."""
    least = np.maximum(sines * (1 - HALF_ERROR) - HALF_SUBNORMAL, 0.0)
    most = np.minimum(sines * (1 + HALF_ERROR) + HALF_SUBNORMAL, 1.0)
    return np.sqrt(1 - most * most), np.sqrt(1 - least * least)


def product_limits(
    norms: F64,
    *,
    query_norms: F64,
    alignment: F64,
    cosine_least: F64,
    cosine_most: F64,
    alignment_error: F64 | float = ALIGNMENT_ERROR,
) -> F64:
    """Return the upper bound of <q~, r>, float64 [m].

    Parameters
    ----------
    norms, query_norms:
        float64 [m], |r| and |q~|.
    alignment:
        float64 [m], cos(phi), to within `alignment_error`.
    cosine_least, cosine_most:
        float64 [m], between which cos(theta) lies.
    alignment_error:
        One for all, or float64 [m].

    """
    alignment_least = np.maximum(alignment - alignment_error, -1.0)
    alignment_most = np.minimum(alignment + alignment_error, 1.0)
    # Of two intervals of angles that do not meet, the ends that face each other are the nearest.
    phi = np.clip(cosine_least, alignment_least, alignment_most)
    theta = np.clip(alignment, cosine_least, cosine_most)
    cosine = phi * theta + np.sqrt((1 - phi * phi) * (1 - theta * theta))
    meet = (alignment_most >= cosine_least) & (alignment_least <= cosine_most)
    return np.asarray(norms * query_norms * np.where(meet, 1.0, cosine))


def safe_bounds(
    space: Literal["l2", "dot"],
    bounds: F64,
    *,
    norms: F64,
    query_norms: F64,
    center_norms: F64,
    offset: float,
) -> F64:
    """Take the slack for rounding off lower bounds of distances, float64 [m] all."""
    if space == "l2":
        span = norms + query_norms
        slack = SLACK * span * (span + center_norms) + SUBNORMAL
        return np.maximum(bounds - slack, 0.0)
    span = query_norms * (norms + center_norms) + abs(offset)
    return np.asarray(bounds - SLACK * span - SUBNORMAL)
