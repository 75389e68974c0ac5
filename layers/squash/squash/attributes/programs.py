"""Filters as programs over cells, which the kernels run cluster by cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, cast

import numpy as np

from squash.arrays import F64
from squash.attributes.cells import CellScheme
from squash.attributes.filters import And, Exists, FilterNode, Not, OneOf, Or, Within
from squash.kernels import AND, LEAF, NOT, OR, FilterProgram, Leaf

# Beyond so many single numbers a row's value is better looked up where tables can be made.
_INTERVALS_MAX: Final = 16


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
    made = _Program(scheme, holds_lists)
    made.append(node)
    return FilterProgram(np.array(made.operations, dtype=np.int32), tuple(made.leaves))


class _Program:
    def __init__(self, scheme: CellScheme, holds_lists: Callable[[str], bool]) -> None:
        self.operations: list[tuple[int, int]] = []
        self.leaves: list[Leaf] = []
        self._scheme = scheme
        self._holds_lists = holds_lists

    def append(self, node: FilterNode) -> None:
        """Append a filter's operations."""
        if isinstance(node, Not):
            self.append(node.part)
            self.operations.append((NOT, 0))
        elif isinstance(node, (And, Or)):
            joins = isinstance(node, And)
            parts = self._joined(node.parts) if joins else node.parts
            for place, part in enumerate(parts):
                self.append(part)
                if place:
                    self.operations.append((AND if joins else OR, 0))
        else:
            self.operations.append((LEAF, len(self.leaves)))
            self.leaves.append(_leaf(node, self._scheme))

    def _joined(self, parts: Sequence[FilterNode]) -> Sequence[FilterNode]:
        """Make one interval of those of one attribute, where no row holds a list."""
        joined: list[FilterNode] = []
        places: dict[tuple[str, type], int] = {}
        for part in parts:
            if not isinstance(part, Within) or self._holds_lists(part.attribute):
                joined.append(part)
                continue
            place = places.setdefault((part.attribute, part.kind), len(joined))
            if place == len(joined):
                joined.append(part)
            else:
                joined[place] = _intersection(cast("Within", joined[place]), part)
        return joined


def _intersection(one: Within, other: Within) -> Within:
    """Return the interval that lies in both; if there is none, its ends are in the wrong order."""
    low, high = one, one
    if other.low is not None:
        # Of equal ends the open one leaves less.
        beyond = one.low is None or (other.low, not other.low_closed) > (
            one.low,
            not one.low_closed,
        )
        low = other if beyond else one
    if other.high is not None:
        ends = (other.high, other.high_closed), (one.high, one.high_closed)
        high = other if one.high is None or ends[0] < ends[1] else one
    return Within(one.attribute, one.kind, low.low, low.low_closed, high.high, high.high_closed)


def _leaf(node: Exists | OneOf | Within, scheme: CellScheme) -> Leaf:
    cells = scheme.of(node.attribute)
    truth = cells.table(node)
    if isinstance(node, Exists):
        return Leaf(node.attribute, truth)
    sure, possible = cells.list_masks(node)
    return Leaf(node.attribute, truth, cells.list_code, sure, possible, _intervals(node))


def _intervals(node: OneOf | Within) -> F64 | None:
    """Return the numbers that pass, float64 [m, 2]; None where strings may pass as well."""
    if isinstance(node, Within):
        if node.kind is str:
            return None
        low = -math.inf if node.low is None else float(node.low)
        high = math.inf if node.high is None else float(node.high)
        # An end that is excluded is the next number's, included.
        if not node.low_closed:
            low = math.nextafter(low, math.inf)
        if not node.high_closed:
            high = math.nextafter(high, -math.inf)
        return np.array([[low, high]])
    values = [value for value in node.values if not isinstance(value, bool)]
    if any(isinstance(value, str) for value in values) or len(values) > _INTERVALS_MAX:
        return None
    return np.array([[value, value] for value in values], dtype=np.float64).reshape(-1, 2)
