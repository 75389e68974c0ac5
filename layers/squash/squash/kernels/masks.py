"""Three-valued truth, one byte a row: 0 no, 1 maybe, 2 yes.

So AND is the minimum, OR the maximum, and NOT the distance from 2.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import U8, Mask

NO: Final = 0
MAYBE: Final = 1
YES: Final = 2


def apply_table(cells: U8, table: U8) -> U8:
    """Look up each row's truth: uint8 [n] cell codes in a uint8 [256] truth table."""
    return table[cells]


def both(left: U8, right: U8) -> U8:
    """Return the truth of AND, uint8 [n]."""
    return np.minimum(left, right)


def either(left: U8, right: U8) -> U8:
    """Return the truth of OR, uint8 [n]."""
    return np.maximum(left, right)


def negate(truth: U8) -> U8:
    """Return the truth of NOT, uint8 [n]."""
    return YES - truth


def sure_and_possible(truth: U8) -> tuple[Mask, Mask]:
    """Return which rows certainly pass and which may, bool [n] each."""
    return truth == YES, truth != NO
