"""How many rows pass one comparison, from what was counted when its attribute was loaded."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np

from squash.arrays import F64, I64, U8, U32
from squash.kernels import Leaf, Range

_CELLS: Final = 256
_VALUES_MAX: Final = 32_768


class AttributeShares:
    """One attribute's cells counted, and a sample of its numbers.

    Parameters
    ----------
    codes:
        uint8 [n] by partition; None where every row lacks the attribute.
    values:
        Distinct numbers and each row's place in them by partition, as in a cluster table.
    rows:
        How many rows there are.

    """

    def __init__(
        self,
        codes: Sequence[U8 | None],
        values: Sequence[tuple[F64, U32] | None],
        rows: int,
    ) -> None:
        self._rows = max(rows, 1)
        self._counts: I64 = np.zeros(_CELLS, dtype=np.int64)
        for column in codes:
            if column is not None:
                self._counts += np.bincount(column, minlength=_CELLS)
        self._step = max(rows // _VALUES_MAX, 1)
        drawn = [_drawn(one, self._step) for one in values if one is not None]
        # Not a list: its numbers would lie all over memory, and a search would wait for each.
        self._numbers = array("d", np.sort(np.concatenate([*drawn, np.empty(0)])).tobytes())

    def of(self, leaf: Leaf | Range) -> tuple[float, float]:
        """Return about which share of all rows passes, and which share the cells leave open.

        An interval of numbers is looked up in the sample; else half of what is open is counted.
        """
        if isinstance(leaf, Range):
            begin = bisect_left(self._numbers, leaf.low)
            inside = max(bisect_left(self._numbers, leaf.high) - begin, 0)
            return min(inside * self._step / self._rows, 1.0), 0.0
        intervals = leaf.intervals
        if intervals is not None and not (leaf.list_code >= 0 and self._counts[leaf.list_code]):
            numbers, inside = self._numbers, 0
            for low, high in intervals:
                begin = bisect_left(numbers, low)
                inside += max(bisect_right(numbers, high) - begin, 0)
            return min(inside * self._step / self._rows, 1.0), 0.0
        truth = np.frombuffer(leaf.truth, dtype=np.uint8)
        possible = int(self._counts[truth > 0].sum())
        sure = int(self._counts[truth > 1].sum())
        return (sure + possible) / 2 / self._rows, (possible - sure) / self._rows


def _drawn(values: tuple[F64, U32], step: int) -> F64:
    numbers, ids = values
    places = ids[::step]
    return np.asarray(numbers[places[places < len(numbers)]])
