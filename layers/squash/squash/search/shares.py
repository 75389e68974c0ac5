"""How many rows pass one comparison, from what was counted when its attribute was loaded."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np

from squash.arrays import F64, I64, U8, U32
from squash.kernels import Leaf, Range, share_within

_CELLS: Final = 256
_VALUES_MAX: Final = 32_768
_NO_NUMBERS: Final = array("d")


class AttributeShares:
    """One attribute's cells counted, and a sample of its numbers.

    Parameters
    ----------
    counts:
        int64 [256], how many rows each cell has.
    rows:
        How many rows there are.
    numbers:
        The sample, ascending; None where the values are not known.

    """

    def __init__(self, counts: I64, rows: int, numbers: array[float] | None = None) -> None:
        self._rows = max(rows, 1)
        self._counts = counts
        self.step = max(rows // _VALUES_MAX, 1)
        """Of how many rows one is in the sample."""
        self._numbers = numbers

    @property
    def numbers(self) -> array[float]:
        """The sample; empty where the values are not known."""
        return _NO_NUMBERS if self._numbers is None else self._numbers

    @classmethod
    def counted(cls, codes: Sequence[U8 | None], rows: int) -> AttributeShares:
        """Return those of the cells of n rows: uint8 [n] by partition, None where all lack it."""
        counts = np.zeros(_CELLS, dtype=np.int64)
        for column in codes:
            if column is not None:
                counts += np.bincount(column, minlength=_CELLS)
        return cls(counts, rows)

    def with_values(self, values: Sequence[tuple[F64, U32] | None]) -> AttributeShares:
        """Return them with a sample of numbers, by which intervals are told; these if they have it.

        Parameters
        ----------
        values:
            Distinct numbers and each row's place in them by partition, as in a cluster table.

        """
        if self._numbers is not None:
            return self
        drawn = [_drawn(one, self.step) for one in values if one is not None]
        # Not a list: its numbers would lie all over memory, and a search would wait for each.
        numbers = array("d", np.sort(np.concatenate([*drawn, np.empty(0)])).tobytes())
        return AttributeShares(self._counts, self._rows, numbers)

    def of(self, leaf: Leaf | Range) -> tuple[float, float]:
        """Return about which share of all rows passes, and which share the cells leave open.

        An interval of numbers is looked up in the sample; else half of what is open is counted.
        """
        numbers, step = self.numbers, self.step
        if isinstance(leaf, Range):
            return share_within(numbers, leaf.low, leaf.high, step, self._rows), 0.0
        intervals = leaf.intervals
        if intervals is not None and not (leaf.list_code >= 0 and self._counts[leaf.list_code]):
            inside = 0
            for low, high in intervals:
                begin = bisect_left(numbers, low)
                inside += max(bisect_right(numbers, high) - begin, 0)
            return min(inside * step / self._rows, 1.0), 0.0
        truth = np.frombuffer(leaf.truth, dtype=np.uint8)
        possible = int(self._counts[truth > 0].sum())
        sure = int(self._counts[truth > 1].sum())
        return (sure + possible) / 2 / self._rows, (possible - sure) / self._rows


def _drawn(values: tuple[F64, U32], step: int) -> F64:
    numbers, ids = values
    places = ids[::step]
    return np.asarray(numbers[places[places < len(numbers)]])
