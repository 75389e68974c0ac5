"""Filtering exactly, by the values."""

from __future__ import annotations

import numpy as np

from squash.arrays import I64
from squash.attributes import FilterNode
from squash.search.view import Rows


def exactly(rows: Rows, node: FilterNode | None) -> I64 | None:
    """Return int64 [m], the live rows that pass, ascending; None for all."""
    if node is None:
        return None if rows.alive is None else np.flatnonzero(rows.alive)
    passing = rows.columns().evaluate(node)
    if rows.alive is not None:
        passing = passing & rows.alive
    return np.flatnonzero(passing)
