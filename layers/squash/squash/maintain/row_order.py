"""An order of a cluster's rows in which those of like attributes lie together.

Codes are scanned in blocks, vectors and records are read in pages. Of a cluster whose rows lie as
they came, a filter admits some rows of every block and page; where like rows lie together, it
admits many rows of a few.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F64, I64, U8
from squash.attributes import CellScheme, Column, Columns
from squash.limits import CODE_BLOCK_ROWS

# Where a half is no whole block any more, it ends at a multiple of so many rows.
_LEAF_ROWS: Final = 8
_CODES: Final = 256
# A cluster of 512 rows is cut four times before its parts are blocks: of more attributes, those of
# the most rows take part. Memory holds a few bytes of each for every row.
_ATTRIBUTES_MAX: Final = 16
# An attribute of more strings than one in so many rows is a name, a title or a text: who asks for
# one finds hardly a row, wherever it lies; and a cut serves one attribute.
_STRING_ROWS: Final = 2


def attribute_order(columns: Columns, cells: CellScheme, begins: I64) -> I64:
    """Order the rows of each cluster as the leaves of a k-d tree over their attributes.

    A cluster is cut in halves, at a multiple of `CODE_BLOCK_ROWS`, by the attribute whose cells
    vary most in it; then each half, until a few rows are left. Variances are held against the
    square of the span of all rows' cells. Of attributes alike the first is taken, by how many rows
    have it and by name; of rows alike the order stays. Attributes of which a row holds a list, and
    those whose strings hardly repeat, take no part.

    Parameters
    ----------
    columns, cells:
        Of n rows, and how their values are cut into cells.
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
    spans = np.ptp(codes, axis=1).astype(np.float64)[:, None]
    while True:
        sizes, lying = np.diff(begins), codes[:, order]
        # One after another: of all at once, memory would hold wide numbers of every row.
        spread = np.stack([_variances(one, begins) for one in lying]) / (spans * spans)
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


def _variances(codes: U8, begins: I64) -> F64:
    """Return float64 [p], the variance of an attribute in each part; 0 where all is alike."""
    wide, sizes = codes.astype(np.int64), np.diff(begins)
    sums = np.add.reduceat(wide, begins[:-1])
    squares = np.add.reduceat(wide * wide, begins[:-1])
    # Whole numbers until the division: the same on every machine.
    variances: F64 = (sizes * squares - sums * sums) / (sizes * sizes)
    return variances


def _varying(columns: Columns, cells: CellScheme) -> U8:
    """Return uint8 [a, n], the cells of the attributes that take part and are not all alike."""
    found: list[tuple[int, str, Column]] = []
    for name in columns.names:
        column = columns.column(name)
        if column is None or column.offsets is not None:
            continue
        if _STRING_ROWS * column.string_count <= columns.rows:
            found.append((-int(np.count_nonzero(column.present(None))), name, column))
    most = sorted(found, key=lambda one: one[:2])[:_ATTRIBUTES_MAX]
    every = [cells.of(name).value_codes(column)[column.ids] for _, name, column in most]
    varying = [codes for codes in every if np.ptp(codes) > 0]
    return np.stack(varying) if varying else np.empty((0, columns.rows), np.uint8)
