"""Filters as programs over cells, which the kernels run cluster by cluster."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from math import inf, nextafter
from typing import Any, Final

from squash.attributes.attribute_cells import after
from squash.attributes.cells import CellScheme
from squash.attributes.nodes import (
    And,
    Exists,
    FilterNode,
    Intervals,
    Not,
    OneOf,
    Or,
    Ordered,
    Within,
)
from squash.kernels import AND, LEAF, NOT, OR, FilterProgram, Leaf, Range, all_hold
from squash.values import dataclass

_NEGATE: Final = (NOT, 0)


def compile_filter(
    node: FilterNode, scheme: CellScheme, *, holds_lists: Callable[[str], bool]
) -> FilterProgram:
    """Turn a filter into a postfix program; every comparison becomes a truth by cell code.

    Parameters
    ----------
    node, scheme:
        The filter, and the cells of the rows it is for.
    holds_lists:
        Tells whether some row has a list in an attribute. Where none has, comparisons of one
        attribute that must all hold are one; with lists, each may hold for another element.

    """
    ranges = _ranges(node, scheme, holds_lists)
    if ranges is not None:
        return FilterProgram(all_hold(len(ranges)), ranges)
    made = _Program(scheme, holds_lists)
    made.append(node)
    return FilterProgram(tuple(made.operations), tuple(made.leaves))


def asked_of(node: FilterNode) -> dict[str, bool]:
    """Return the attributes that a filter asks of, and of each whether it asks for numbers.

    What is asked besides numbers is answered by the cells alone, as far as they tell it.
    """
    if type(node) is And and node.intervals is not None:
        return dict.fromkeys(node.intervals[0], True)
    found: dict[str, bool] = {}
    waiting: list[FilterNode] = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (And, Or)):
            waiting += one.parts
        elif isinstance(one, Not):
            waiting.append(one.part)
        else:
            numbers = isinstance(one, Within) and one.kind is float
            if isinstance(one, OneOf):
                numbers = any(type(value) in (int, float) for value in one.values)
            found[one.attribute] = found.get(one.attribute, False) or numbers
    return found


def _ranges(
    node: FilterNode, scheme: CellScheme, holds_lists: Callable[[str], bool]
) -> tuple[Range, ...] | None:
    """Return what most filters are: numbers that lie between others; None if it is anything else.

    It is what `_Program` makes of them, with fewer calls.
    """
    known = intervals_of(node)
    if known is None:
        return None
    names, ends = known
    found: list[Range] = []
    for place, name in enumerate(names):
        cells = scheme.of(name)
        if holds_lists(name) or cells.owners:
            return None
        found.append(Range(name, ends[2 * place], ends[2 * place + 1], cells))
    return tuple(found)


def intervals_of(node: FilterNode) -> Intervals | None:
    """Return the intervals of numbers that a filter asks for, if that is all.

    They are those of attributes without lists; a single number is an interval, too.
    """
    if type(node) is And:
        known = node.intervals
        return _intervals(node) if known is None else known
    if type(node) is Within and node.kind is float:
        ends = [-inf, inf]
        _narrow(ends, node)
    elif type(node) is OneOf and (number := _single_number(node)) is not None:
        ends = [number, nextafter(number, inf)]
    else:
        return None
    return (node.attribute,), array("d", ends)


def _intervals(node: And) -> Intervals | None:
    asked: dict[str, tuple[FilterNode, list[float]]] = {}
    for part in node.parts:
        owner, inner = (part, part.parts) if isinstance(part, And) else (node, (part,))
        for one in inner:
            if isinstance(one, OneOf):
                number = _single_number(one)
                if number is None or one.attribute in asked:
                    return None
                # Nothing else may be asked of it.
                asked[one.attribute] = (one, [number, nextafter(number, inf)])
                continue
            if not isinstance(one, Within) or one.kind is not float:
                return None
            known = asked.get(one.attribute)
            if known is None:
                known = asked[one.attribute] = (owner, [-inf, inf])
            elif known[0] is not owner:
                return None  # Those of different groups are not joined.
            _narrow(known[1], one)
    return tuple(asked), array("d", chain.from_iterable([ends for _, ends in asked.values()]))


def _single_number(node: OneOf) -> float | None:
    if len(node.values) != 1 or isinstance(node.values[0], (bool, str)):
        return None
    return float(node.values[0])


def _narrow(ends: list[float], part: Within) -> None:
    """Leave of [low, high) what also lies in another interval of numbers."""
    end: Any = part.low
    if end is not None:
        ends[0] = max(ends[0], end if part.low_closed else nextafter(end, inf))
    end = part.high
    if end is not None:
        ends[1] = min(ends[1], nextafter(end, inf) if part.high_closed else end)


@dataclass(slots=True)
class _Interval:
    """What is asked of one attribute's numbers or strings: that they lie in [low, high)."""

    attribute: str
    kind: type[float | str]
    low: Ordered | None = None
    high: Ordered | None = None

    def narrow(self, node: Within) -> None:
        """Leave what also lies in another; if nothing does, the ends are in the wrong order."""
        low, high = node.low, node.high
        if low is not None:
            if not node.low_closed:
                low = after(low)
            if self.low is None or low > self.low:  # type: ignore[operator]
                self.low = low
        if high is not None:
            if node.high_closed:
                high = after(high)
            if self.high is None or high < self.high:  # type: ignore[operator]
                self.high = high


class _Program:
    def __init__(self, scheme: CellScheme, holds_lists: Callable[[str], bool]) -> None:
        self.operations: list[tuple[int, int]] = []
        self.leaves: list[Leaf] = []
        self._scheme = scheme
        self._holds_lists = holds_lists

    def append(self, node: FilterNode | _Interval) -> None:
        """Append a filter's operations."""
        if isinstance(node, Not):
            self.append(node.part)
            self.operations.append(_NEGATE)
        elif isinstance(node, And):
            self._join(self._joined(node.parts), AND)
        elif isinstance(node, Or):
            self._join(node.parts, OR)
        else:
            self.operations.append((LEAF, len(self.leaves)))
            self.leaves.append(self._leaf(node))

    def _join(self, parts: Sequence[FilterNode | _Interval], operation: int) -> None:
        for place, part in enumerate(parts):
            self.append(part)
            if place:
                self.operations.append((operation, 0))

    def _joined(self, parts: Sequence[FilterNode]) -> Sequence[FilterNode | _Interval]:
        """Make one interval of those of one attribute, where no row holds a list."""
        joined: list[FilterNode | _Interval] = []
        intervals: dict[tuple[str, type[float | str]], _Interval] = {}
        for part in parts:
            if not isinstance(part, Within):
                joined.append(part)
                continue
            asked = part.attribute, part.kind
            known = intervals.get(asked)
            if known is None:
                if self._holds_lists(part.attribute):
                    joined.append(part)
                    continue
                known = intervals[asked] = _Interval(part.attribute, part.kind)
                joined.append(known)
            known.narrow(part)
        return joined

    def _leaf(self, node: Exists | OneOf | Within | _Interval) -> Leaf:
        cells = self._scheme.of(node.attribute)
        if isinstance(node, Within):
            interval = _Interval(node.attribute, node.kind)
            interval.narrow(node)
            node = interval
        if isinstance(node, _Interval):
            return cells.within(node.attribute, node.kind, node.low, node.high)
        if isinstance(node, OneOf):
            return cells.one_of(node.attribute, node.values)
        return cells.exists(node.attribute)
