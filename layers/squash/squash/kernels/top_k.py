"""The k smallest values, in a fixed order."""

from __future__ import annotations

import numpy as np

from squash.arrays import I64, AnyArray


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
