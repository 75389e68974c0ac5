"""The cells of one attribute, and what a comparison with it is over them; see `cells`."""

from __future__ import annotations

import math
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass  # noqa: TID251 - it keeps what its properties found, without slots
from itertools import accumulate
from operator import or_
from sys import float_info
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import F64, U8, U64
from squash.attributes.columns import Column
from squash.attributes.nodes import Ordered
from squash.kernels import Leaf, truth_of_spans
from squash.limits import SIGNATURE_BITS
from squash.model import Scalar
from squash.values import remembered

Cut: TypeAlias = tuple[Ordered, int]
Span: TypeAlias = tuple[int, int]

# Beyond so many single numbers a row's value is better looked up where tables can be made.
_INTERVALS_MAX: Final = 16
_PRESENT: Final[Span] = (1, 256)
_GREATEST: Final = float_info.max


@dataclass(frozen=True)
class AttributeCells:
    """The cells of one attribute: cuts between numbers, cuts between strings, owners of bits."""

    number_cuts: tuple[Cut, ...] = ()
    string_cuts: tuple[Cut, ...] = ()
    owners: tuple[Scalar, ...] = ()

    @remembered
    def false_code(self) -> int:
        """The code of false; true's and lists' follow it."""
        return len(self.number_cuts) + len(self.string_cuts) + 3

    @remembered
    def list_code(self) -> int:
        """The code of a list, the last one."""
        return self.false_code + 2

    @remembered
    def number_ends(self) -> F64:
        """The first number of every cell of numbers but the first, ascending; then infinity."""
        return np.array([*self._ends[float][0], math.inf])

    def value_codes(self, column: Column) -> U8:
        """Return the cell of every value number, and 0 for "none": uint8 [value_count + 1]."""
        cuts = self.number_cuts
        before = np.array([value for value, side in cuts if side == 0], dtype=np.float64)
        after = np.array([value for value, side in cuts if side == 1], dtype=np.float64)
        numbers = 1 + np.searchsorted(before, column.numbers, side="right")
        numbers += np.searchsorted(after, column.numbers, side="left")
        first = len(cuts) + 2
        strings = [first + bisect_right(self.string_cuts, (text, 0)) for text in column.strings]
        fixed = [self.false_code, self.false_code + 1, 0]
        return np.concatenate((numbers, strings, fixed)).astype(np.uint8)

    def signature_bits(self, column: Column) -> U64:
        """Return the signature bit of every value number: uint64 [value_count]."""
        values: list[Scalar] = [*column.numbers.tolist(), *column.strings, False, True]
        names = [identity(value) for value in values]
        bits = [1 << self._owned.get(name, self._shared_bit(name)) for name in names]
        return np.array(bits, dtype=np.uint64)

    def exists(self, attribute: str) -> Leaf:
        """Ask whether a record has the attribute."""
        truth, sets = truth_of_spans((), (_PRESENT,))
        return Leaf(attribute, truth, sets=sets)

    def within(
        self, attribute: str, kind: type[float | str], low: Ordered | None, high: Ordered | None
    ) -> Leaf:
        """Ask whether a value of a type lies in [low, high); None where it is open to that side."""
        possible, sure = self._spans(kind, low, high)
        list_code = self.list_code
        truth, sets = truth_of_spans((possible, (list_code, list_code + 1)), (sure,))
        sure_bits = self._owned_within(kind, low, high) if self.owners else 0
        intervals = None
        if kind is float:
            least = -_GREATEST if low is None else float(low)
            beyond = math.inf if high is None else float(high)
            intervals = ((least, math.nextafter(beyond, -math.inf)),)
        return Leaf(
            attribute, truth, list_code, sure_bits, sure_bits | self._shared_bits, intervals, sets
        )

    def one_of(self, attribute: str, values: Sequence[Scalar]) -> Leaf:
        """Ask whether a value is one of these."""
        list_code = self.list_code
        possible: list[Span] = [(list_code, list_code + 1)]
        sure: list[Span] = []
        sure_bits = possible_bits = 0
        for value in values:
            if isinstance(value, bool):
                code = self.false_code + value
                sure.append((code, code + 1))
            else:
                kind = str if isinstance(value, str) else float
                touched, inside = self._spans(kind, value, after(value))
                possible.append(touched)
                sure.append(inside)
            name = identity(value)
            bit = self._owned.get(name)
            if bit is None:
                possible_bits |= 1 << self._shared_bit(name)
            else:
                sure_bits |= 1 << bit
        truth, sets = truth_of_spans(possible, sure)
        return Leaf(
            attribute,
            truth,
            list_code,
            sure_bits,
            sure_bits | possible_bits,
            _numbers(values),
            sets,
        )

    def _spans(
        self, kind: type[float | str], low: Ordered | None, high: Ordered | None
    ) -> tuple[Span, Span]:
        """Return the codes that [low, high) touches, and those inside it.

        Cell i of a type lies between its cuts i - 1 and i.
        """
        ends, first = self._ends[kind]
        count = len(ends)
        begin = begin_inside = first
        if low is not None:
            at = bisect_left(ends, low)
            begin_inside += at + 1
            begin += at + 1 if at < count and ends[at] == low else at
        end = end_inside = first + count + 1
        if high is not None:
            at = bisect_left(ends, high)
            end = first + at + 1
            end_inside = end if at < count and ends[at] == high else end - 1
        end = max(end, begin)
        end_inside = max(end_inside, begin_inside)
        return (begin, end), (begin_inside, end_inside)

    @remembered
    def _ends(self) -> dict[type[float | str], tuple[Sequence[Any], int]]:
        """By type the first value of every cell but the first, and that cell's code.

        Where a cut after a value meets one before the next value there is, nothing lies between
        them: two are equal then, and it does not matter what becomes of the cell.
        """
        numbers, strings = (
            [after(value) if side else value for value, side in cuts]
            for cuts in (self.number_cuts, self.string_cuts)
        )
        return {float: (numbers, 1), str: (strings, len(numbers) + 2)}

    @remembered
    def _owned(self) -> dict[bytes, int]:
        """The bit of every owner."""
        return {identity(value): i for i, value in enumerate(self.owners)}

    @remembered
    def _owned_by_value(self) -> dict[type[float | str], tuple[list[Any], list[int]]]:
        """By type the owners, ascending, and the bits together of all before each, and of all."""
        found = {}
        for kind in (float, str):
            mine = sorted(
                (value, 1 << bit)
                for bit, value in enumerate(self.owners)
                if not isinstance(value, bool) and isinstance(value, str) is (kind is str)
            )
            bits = accumulate((bit for _, bit in mine), or_, initial=0)
            found[kind] = ([value for value, _ in mine], list(bits))
        return found

    @remembered
    def _shared_bits(self) -> int:
        return (1 << SIGNATURE_BITS) - (1 << len(self.owners))

    def _shared_bit(self, name: bytes) -> int:
        shared = SIGNATURE_BITS - len(self.owners)
        return len(self.owners) + zlib.crc32(name) % shared

    def _owned_within(
        self, kind: type[float | str], low: Ordered | None, high: Ordered | None
    ) -> int:
        """Return the bits of the owners that lie in [low, high)."""
        values, bits = self._owned_by_value[kind]
        begin = 0 if low is None else bisect_left(values, low)
        end = len(values) if high is None else bisect_left(values, high)
        return bits[end] & ~bits[begin]


def after(value: Ordered) -> Ordered:
    """Return the least value above another: there is none between them."""
    return value + "\0" if isinstance(value, str) else math.nextafter(value, math.inf)


def identity(value: Scalar) -> bytes:
    """Name a value for good: a letter for its type, then its bytes; 0.0 and -0.0 are one."""
    if isinstance(value, bool):
        return b"b\1" if value else b"b\0"
    if isinstance(value, str):
        return b"s" + value.encode()
    return b"n" + struct.pack("<d", float(value) + 0.0)


def _numbers(values: Sequence[Scalar]) -> tuple[tuple[float, float], ...] | None:
    """Return the numbers among some values as intervals; None where a row may pass otherwise."""
    numbers = [float(value) for value in values if not isinstance(value, (bool, str))]
    if len(numbers) > _INTERVALS_MAX or any(isinstance(value, str) for value in values):
        return None
    return tuple((number, number) for number in numbers)
