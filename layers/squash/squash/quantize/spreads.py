"""How far rows of length one lie from the centers of their clusters, which the centers tell."""

from __future__ import annotations

import numpy as np

from squash.arrays import F32
from squash.quantize.protocol import Codec


def unit_spreads(codec: Codec, centers: F32) -> F32 | None:
    """Return the mean squared distances to their centers of rows that have length one.

    A mean of such rows that lies closer to the origin has them farther around it:
    mean |x - m|^2 = 1 - |m|^2. So a query's mean squared distance to a cluster's rows is its
    squared distance to the center, and this.

    Parameters
    ----------
    codec:
        By which centers were projected.
    centers:
        float32 [c, D], the means of the clusters' projected rows.

    Returns
    -------
    float32 [c], none below 0; None of codecs that are not scanned by kernels.

    """
    if not codec.scannable:
        return None
    (origin,) = codec.project(np.zeros((1, len(codec.mean)), dtype=np.float32))
    # |c - o|^2 in parts, for the centers of a large index are not to be in memory twice.
    squares = np.einsum("ij,ij->i", centers, centers, dtype=np.float64)
    squares -= 2 * np.einsum("ij,j->i", centers, origin, dtype=np.float64)
    squares += np.einsum("i,i->", origin, origin, dtype=np.float64)
    spreads: F32 = np.maximum(1.0 - squares, 0.0).astype(np.float32)
    return spreads
