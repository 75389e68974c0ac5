"""Rotations: by a matrix, or without one, by sign flips and Walsh-Hadamard transforms."""

from __future__ import annotations

import math
from typing import Final, TypeAlias

import numpy as np

from squash.arrays import F32, F64, U8
from squash.errors import InternalError
from squash.kernels import native
from squash.values import dataclass

FLIPS: Final = 6
"""SQ_FLIPS of squash_kernels.h: transforms of a rotation, each with flips before it."""
# Values turned at once by the twin: half a MiB of float64.
_CHUNK_VALUES: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class HadamardRotation:
    """A random rotation in O(d log d), which is as good as a random matrix's.

    Three times over: flip signs at random, transform the first p dimensions, flip signs, transform
    the last p, and move all by a quarter of d. p is the largest power of two that is at most d, so
    that two windows cover all, and the next two lie across where the last met. Each step keeps
    lengths and angles, and after six of them no coordinate tells of a single one of before: entries
    of the matrix that this amounts to have the moments of normal ones, whatever d is (decision
    0030). The steps without moves are those of the fast Johnson-Lindenstrauss transform (Ailon and
    Chazelle 2009); flipped and transformed three times, they stand in for a random
    rotation in Andoni et al., arXiv 1509.02897.
    """

    flips: U8
    """uint8 [6, ceil(d / 8)], of each transform: bit i % 8 of byte i // 8 negates dimension i."""
    dimension: int
    """d, at least 1."""

    @classmethod
    def random(cls, dimension: int, seed: int) -> HadamardRotation:
        """Draw one; the same for the same seed."""
        random = np.random.Generator(np.random.Philox(seed))
        bits = random.integers(0, 2, (FLIPS, dimension), dtype=np.uint8)
        return cls(np.packbits(bits, axis=1, bitorder="little"), dimension)


Rotation: TypeAlias = F32 | HadamardRotation
"""float32 [D, d], orthogonal rows; or one without a matrix, whose D is d."""


class NativeRotation:
    """`sq_rotation` of squash_kernels.h, to so many dimensions: `at` is its address.

    Raises
    ------
    InternalError
        If the arrays are not what native code may read.

    """

    __slots__ = ("_structure", "at", "mean", "rotation")

    def __init__(self, rotation: Rotation, mean: F32, dimension: int) -> None:
        self.rotation, self.mean = rotation, mean
        axes_at = flips_at = 0
        if isinstance(rotation, HadamardRotation):
            if dimension != rotation.dimension or len(mean) != dimension:
                raise InternalError("a rotation of another dimension was given to the kernels")
            if rotation.flips.shape != (FLIPS, -(-dimension // 8)):
                raise InternalError("a rotation has too many flips for its dimension, or too few")
            flips_at = native.checked_address(rotation.flips, np.uint8, "flips")
        else:
            if rotation.shape != (dimension, len(mean)):
                raise InternalError("a rotation of another dimension was given to the kernels")
            axes_at = native.aligned_address(rotation, np.float32, "axes")
        mean_at = native.aligned_address(mean, np.float32, "mean")
        self._structure = np.array([axes_at, flips_at, mean_at], dtype=np.uint64)
        self.at = native.address(self._structure)


def rotate_rows(rotation: HadamardRotation, mean: F32, rows: F32) -> F32:
    """Rotate rows about a mean, in float64, and round once.

    Parameters
    ----------
    rotation:
        Of dimension d.
    mean:
        float32 [d].
    rows:
        float32 [n, d].

    Returns
    -------
    float32 [n, d].

    """
    count, dimension = rows.shape
    found = np.empty((count, dimension), dtype=np.float32)
    chosen = native.active()
    if chosen is not None:
        given = np.ascontiguousarray(rows, dtype=np.float32)
        by = NativeRotation(rotation, mean, dimension)
        scratch = np.empty(2 * dimension, dtype=np.float64)
        chosen.rotate_rows(
            by.at, native.address(given), count, dimension,
            native.address(found), native.address(scratch),
        )  # fmt: skip
        return found
    size = max(1, _CHUNK_VALUES // max(1, dimension))
    for begin in range(0, count, size):
        part = slice(begin, begin + size)
        found[part] = rotated(rotation, rows[part].astype(np.float64) - mean)
    return found


def rotated(rotation: HadamardRotation, values: F64) -> F64:
    """Rotate float64 [..., d]: float64 [..., d]."""
    dimension = rotation.dimension
    # Dimension by dimension, so that what is added lies together.
    turned = np.array(values.reshape(-1, dimension).T, order="C")
    window = 1 << (dimension.bit_length() - 1)
    bits = np.unpackbits(rotation.flips, axis=1, count=dimension, bitorder="little")
    for step, flipped in enumerate(bits.astype(np.bool_)):
        np.negative(turned, out=turned, where=flipped[:, None])
        begin = dimension - window if step % 2 else 0
        _transform(turned[begin : begin + window])
        if step % 2:
            turned = np.roll(turned, dimension // 4, axis=0)
    return np.ascontiguousarray(turned.T).reshape(values.shape)


def _transform(turned: F64) -> None:
    """Transform float64 [p, n] after Walsh and Hadamard, in place; lengths stay as they are."""
    window, count = turned.shape
    turned *= math.sqrt(1.0 / window)
    apart = 1
    while apart < window:
        pairs = turned.reshape(-1, 2, apart, count)
        low, high = pairs[:, 0].copy(), pairs[:, 1]
        pairs[:, 0] += high
        np.subtract(low, high, out=high)
        apart *= 2
