"""How far centers of clusters are from held-out queries."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32
from squash.quantize import Space

# Distances that are held at once, in values: 64 MiB.
_VALUES_MAX: Final = 1 << 24


def center_distances(queries: F32, centers: F32, space: Space) -> F32:
    """Return float32 [q, c], how far centers are, but for what is the same for all of them.

    Parameters
    ----------
    queries, centers:
        float32 [q, D] and [c, D].
    space:
        "l2", squares without the query's own, or "dot".

    """
    products: F32 = queries @ centers.T
    if space == "dot":
        return -products
    measured: F32 = np.einsum("ij,ij->i", centers, centers) - 2 * products
    return measured


def nearest_centers(queries: F32, centers: F32, count: int, space: Space) -> F32:
    """Return float32 [q, m], the least `center_distances` ascending: `count`, or all there are."""
    nearest = np.empty((len(queries), 0), dtype=np.float32)
    # Of a large index they are many.
    size = max(_VALUES_MAX // max(len(queries), 1), 1)
    for start in range(0, len(centers), size):
        some = center_distances(queries, centers[start : start + size], space)
        nearest = np.concatenate((nearest, some), axis=1)
        if nearest.shape[1] > count:
            nearest = np.partition(nearest, count - 1, axis=1)[:, :count]
    nearest.sort(axis=1)
    return nearest
