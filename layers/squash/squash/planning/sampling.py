"""Which rows a build trains on."""

from __future__ import annotations

import numpy as np

from squash.arrays import I64


def choose_rows(rows: int, count: int, *, seed: int) -> I64:
    """Draw rows, none twice; the same arguments give the same rows.

    Parameters
    ----------
    rows:
        How many there are.
    count:
        How many to draw, at most `rows`.
    seed:
        Decides which.

    Returns
    -------
    int64 [count], numbers from 0, ascending.

    """
    generator = np.random.Generator(np.random.Philox(seed))
    return np.sort(generator.choice(rows, size=count, replace=False).astype(np.int64))
