"""The k smallest values, in a fixed order."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import I64, AnyArray
from squash.kernels import native

# A heap of k beats NumPy's partition only while the values are few.
_NATIVE_VALUES_MAX: Final = 1 << 16


def top_k(values: AnyArray, k: int) -> I64:
    """Return the places of the k smallest values, by value and then by place.

    Parameters
    ----------
    values:
        [n], any ordered dtype; NaN counts as larger than all else.
    k:
        How many; all of them if there are fewer.

    Returns
    -------
    int64 [min(k, n)].

    """
    count = len(values)
    k = max(0, min(k, count))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    chosen = native.active()
    if chosen is not None and count <= _NATIVE_VALUES_MAX and values.flags.c_contiguous:
        if values.dtype == np.float32:
            places = np.empty(k, dtype=np.int64)
            chosen.top_k_f32(native.address(values), count, k, native.address(places))
            return places
        if values.dtype == np.float64:
            places, keys = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.uint64)
            at = native.address(places)
            chosen.top_k_f64(native.address(values), count, k, at, native.address(keys))
            return places
    if k == count:
        return np.argsort(values, kind="stable").astype(np.int64)
    # A partition finds the k-th value; of the values equal to it the first places win.
    limit = np.partition(values, k - 1)[k - 1]
    if limit != limit:  # noqa: PLR0124 - only NaN differs from itself: too few real numbers
        return np.argsort(values, kind="stable")[:k].astype(np.int64)
    below = np.flatnonzero(values < limit)
    equal = np.flatnonzero(values == limit)[: k - len(below)]
    places = np.concatenate([below, equal])
    # `below` and `equal` ascend and share no value, so a stable sort leaves ties by place.
    return places[np.argsort(values[places], kind="stable")].astype(np.int64)
