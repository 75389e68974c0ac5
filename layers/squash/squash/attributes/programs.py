"""Filters as programs over cells, which the kernels run cluster by cluster."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from squash.arrays import F64
from squash.attributes.cells import CellScheme
from squash.attributes.filters import And, Exists, FilterNode, Not, OneOf, Or, Within
from squash.kernels import AND, LEAF, NOT, OR, FilterProgram, Leaf

# Beyond so many single numbers a row's value is better looked up where tables can be made.
_INTERVALS_MAX: Final = 16


def compile_filter(node: FilterNode, scheme: CellScheme) -> FilterProgram:
    """Turn a filter into a postfix program; every comparison becomes a truth by cell code."""
    operations: list[tuple[int, int]] = []
    leaves: list[Leaf] = []
    _append(node, scheme, operations, leaves)
    return FilterProgram(np.array(operations, dtype=np.int32), tuple(leaves))


def _append(
    node: FilterNode,
    scheme: CellScheme,
    operations: list[tuple[int, int]],
    leaves: list[Leaf],
) -> None:
    if isinstance(node, Not):
        _append(node.part, scheme, operations, leaves)
        operations.append((NOT, 0))
    elif isinstance(node, (And, Or)):
        combine = AND if isinstance(node, And) else OR
        for place, part in enumerate(node.parts):
            _append(part, scheme, operations, leaves)
            if place:
                operations.append((combine, 0))
    else:
        operations.append((LEAF, len(leaves)))
        leaves.append(_leaf(node, scheme))


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
