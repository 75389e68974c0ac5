"""The transforms before a codec: random rotations, and the principal axes (the paper's KLT)."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32, F64, AnyArray
from squash.kernels import HadamardRotation, Rotation, rotate_rows, rotated

# Values widened at once: 8 MiB of float64.
_CHUNK_VALUES: Final = 1 << 20
_POWER_STEPS: Final = 8


def random_matrix(dimension: int, seed: int) -> F32:
    """Return float32 [d, d], a random orthogonal matrix; the same for the same seed."""
    normal = np.random.Generator(np.random.Philox(seed)).standard_normal((dimension, dimension))
    q, r = np.linalg.qr(normal)
    # The signs make the factorisation unique, and the rotation evenly distributed.
    return np.ascontiguousarray(q * np.where(np.diag(r) < 0, -1.0, 1.0), dtype=np.float32)


def principal_axes(centered: F64) -> F32:
    """Return float32 [d, d]: principal axes of rows float64 [n, d], one a row, largest first."""
    scale = float(np.abs(centered).max(initial=0.0))
    unit = centered / scale if scale > 0 else centered
    _, vectors = np.linalg.eigh(unit.T @ unit)
    axes = vectors.T[::-1]
    # An axis and its opposite serve alike: the largest component is made positive.
    largest = np.argmax(np.abs(axes), axis=1)
    signs = np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)
    return np.ascontiguousarray(axes * signs[:, None], dtype=np.float32)


def principal_spread(points: F32 | F64, weights: F64) -> F64:
    """Return where points lie along the direction of their largest variance, by power iteration.

    Parameters
    ----------
    points, weights:
        float [n, d], and what each counts for in the variance, float64 [n].

    Returns
    -------
    float64 [n], from their weighted mean on.

    """
    wide = points.astype(np.float64)
    centred = wide - np.average(wide, axis=0, weights=weights)
    scale = float(np.abs(centred).max())
    if scale == 0.0:
        return np.zeros(len(points))
    centred /= scale
    direction = centred[int(np.argmax(np.einsum("ij,ij->i", centred, centred)))]
    for _ in range(_POWER_STEPS):
        turned = (centred * weights[:, None]).T @ (centred @ direction)
        norm = float(np.linalg.norm(turned))
        if norm == 0.0:
            break
        direction = turned / norm
    return np.asarray(centred @ direction)


def mean_of(rows: F32) -> F32:
    """Return float32 [d], the mean of float32 [n, d]; zeros if there are no rows."""
    if len(rows) == 0:
        return np.zeros(rows.shape[1], dtype=np.float32)
    mean: F32 = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean


def project_rows(vectors: F32, *, mean: F32, rotation: Rotation) -> F32:
    """Return float32 [n, D]: x - mean rotated, in float64, rounded once."""
    if isinstance(rotation, HadamardRotation):
        return rotate_rows(rotation, mean, vectors)
    axes = rotation
    result = np.empty((len(vectors), len(axes)), dtype=np.float32)
    wide = axes.astype(np.float64).T
    size = max(1, _CHUNK_VALUES // max(1, vectors.shape[1]))
    for begin in range(0, len(vectors), size):
        part = slice(begin, begin + size)
        result[part] = (vectors[part].astype(np.float64) - mean) @ wide
    return result


def project_query(
    query: AnyArray, *, mean: F32, rotation: Rotation, centered: bool
) -> tuple[F64, float]:
    """Return a query's projection float64 [D], and `<q, mean>` where the mean stays in."""
    wide = query.astype(np.float64)
    offset = 0.0
    if centered:
        wide -= mean
    else:
        offset = float(wide @ mean.astype(np.float64))
    if isinstance(rotation, HadamardRotation):
        return rotated(rotation, wide), offset
    return rotation.astype(np.float64) @ wide, offset


def are_finite(*arrays: Rotation) -> bool:
    """Tell whether all numbers are: those of arrays; a rotation without a matrix has none."""
    return all(
        bool(np.isfinite(array).all())
        for array in arrays
        if not isinstance(array, HadamardRotation)
    )
