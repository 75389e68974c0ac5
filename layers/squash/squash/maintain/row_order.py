"""An order of a cluster's rows in which those of like attributes lie together.

Codes are scanned in blocks, vectors and records are read in pages. Of a cluster whose rows lie as
they came, a filter admits some rows of every block and page; where like rows lie together, it
admits many rows of a few.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import I64, U8
from squash.attributes import CellScheme, Columns
from squash.limits import CODE_BLOCK_ROWS

# Where a half is no whole block any more, it ends at a multiple of so many rows.
_LEAF_ROWS: Final = 8
_CODES: Final = 256
# An attribute of more strings than one in so many rows is a name, a title or a text: who asks for
# one finds hardly a row, wherever it lies; and a cut serves one attribute.
_STRING_ROWS: Final = 2


def attribute_order(columns: Columns, cells: CellScheme, begins: I64) -> I64:
    """Order the rows of each cluster as the leaves of a k-d tree over their attributes.

    A cluster is cut in halves, at a multiple of `CODE_BLOCK_ROWS`, by the attribute over whose
    cells it spreads most; then each half, until a few rows are left. How far it spreads is held
    against how far all rows do. Of attributes alike the first by name is taken, and of rows alike
    the order stays: it depends on the cells alone.

    Parameters
    ----------
    cells:
        Of n rows.
    begins:
        int64 [c + 1], cluster i is rows begins[i] to begins[i + 1]; none is empty.

    Returns
    -------
    int64 [n], which row comes where; a cluster's rows stay among themselves.

    """
    order = np.arange(columns.rows)
    codes = _varying(columns, cells)
    if not len(codes):
        return order
    whole = np.ptp(codes, axis=1).astype(np.float64)[:, None]
    while True:
        sizes, lying = np.diff(begins), codes[:, order]
        least = np.minimum.reduceat(lying, begins[:-1], axis=1)
        spread = (np.maximum.reduceat(lying, begins[:-1], axis=1) - least) / whole
        cut = (sizes > _LEAF_ROWS) & (spread.max(axis=0) > 0)
        if not cut.any():
            return order
        part = np.repeat(np.arange(len(sizes)), sizes)
        key = lying[np.argmax(spread, axis=0)[part], np.arange(len(order))]
        key[~cut[part]] = 0
        order = order[np.argsort(part * _CODES + key, kind="stable")]
        unit = np.where(sizes > CODE_BLOCK_ROWS, CODE_BLOCK_ROWS, _LEAF_ROWS)
        halves = begins[:-1] + -(-sizes // (2 * unit)) * unit
        begins = np.sort(np.concatenate((begins, halves[cut])))


def _varying(columns: Columns, cells: CellScheme) -> U8:
    """Return uint8 [a, n], the cells of the attributes that differ from row to row, by name."""
    rows, table = columns.rows, cells.encode(columns)
    varying: list[U8] = []
    for name in sorted(columns.names):
        column, codes = columns.column(name), table.codes(name)
        if column is None or codes is None or _STRING_ROWS * column.string_count > rows:
            continue
        if np.ptp(codes) > 0:
            varying.append(codes)
    return np.stack(varying) if varying else np.empty((0, rows), np.uint8)
