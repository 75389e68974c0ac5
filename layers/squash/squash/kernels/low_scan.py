"""The scan of low-bit codes: one look-up of a 16-entry table for each four dimensions.

The tables hold bytes and the sums are integers, so that a native kernel (a byte shuffle and 16-bit
additions) gives exactly the same numbers. `sign_table` makes the table of one query and says what
a sum means; the price is a rounding of at most half a step a group.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F64, I64, U8, U32, AnyArray
from squash.kernels.packing import GROUP_DIMENSIONS, low_groups
from squash.limits import CODE_BLOCK_ROWS
from squash.values import dataclass

ENTRIES: Final = 1 << GROUP_DIMENSIONS
ENTRY_MAX: Final = 255
# So many bytes of at most 255 still fit 16 bits.
_GROUPS_PER_PASS: Final = 257
_BYTES: Final = np.arange(256, dtype=np.uint8)
SIGNS: Final = np.where(np.arange(ENTRIES)[:, None] >> np.arange(GROUP_DIMENSIONS) & 1, 1.0, -1.0)
"""float64 [16, 4]: of each entry of a table, the sign of each of a group's dimensions."""


@dataclass(frozen=True, slots=True)
class SignTable:
    """A query's look-up tables: `<q, s>` of a row's signs s is `sum * step + base`.

    The rounding is at most `groups * step / 2`.
    """

    entries: U8
    """uint8 [groups, 16]."""
    step: float
    base: float

    def products(self, sums: U32) -> F64:
        """Return float64 [n], the inner products of the query with the signs."""
        return sums.astype(np.float64) * self.step + self.base


def sign_table(query: AnyArray) -> SignTable:
    """Make the table of a projected query, float [d]."""
    groups = low_groups(len(query))
    padded = np.zeros(groups * GROUP_DIMENSIONS, dtype=np.float64)
    padded[: len(query)] = query
    values = padded.reshape(groups, GROUP_DIMENSIONS) @ SIGNS.T
    least = -np.abs(padded).reshape(groups, GROUP_DIMENSIONS).sum(axis=1)
    step = float(-2.0 * least.min(initial=0.0)) / ENTRY_MAX
    if step == 0.0:
        return SignTable(np.zeros((groups, ENTRIES), dtype=np.uint8), 0.0, float(least.sum()))
    entries = np.rint((values - least[:, None]) / step)
    entries = np.clip(entries, 0, ENTRY_MAX).astype(np.uint8)
    return SignTable(entries, step, float(least.sum()))


def low_scan(low: U8, blocks: I64, entries: U8) -> U32:
    """Sum the table entries of every row of some low-bit blocks.

    Parameters
    ----------
    low:
        uint8 [all blocks, groups, 16], as `pack_low` lays it out.
    blocks:
        int64 [m], the blocks to scan, in this order.
    entries:
        uint8 [groups, 16].

    Returns
    -------
    uint32 [m * 32], row after row; padding rows have a sum too.

    """
    # Group after group, over all blocks at once. A byte holds two rows, so one look-up in a table
    # of 256 pairs serves both: the low row's sum grows in the low 16 bits, the high row's above.
    bytes_by_group = np.ascontiguousarray(low[blocks].transpose(1, 0, 2))
    wide = entries.astype(np.uint32)
    pairs = wide[:, _BYTES & 15] | (wide[:, _BYTES >> 4] << np.uint32(16))
    totals = np.zeros((len(blocks), 2, CODE_BLOCK_ROWS // 2), dtype=np.uint32)
    for first in range(0, len(entries), _GROUPS_PER_PASS):
        sums = np.zeros(bytes_by_group.shape[1:], dtype=np.uint32)
        for group in range(first, min(first + _GROUPS_PER_PASS, len(entries))):
            sums += pairs[group].take(bytes_by_group[group])
        totals[:, 0] += sums & np.uint32(0xFFFF)
        totals[:, 1] += sums >> np.uint32(16)
    return totals.reshape(-1)
