"""Filters as programs over cells, which the kernels run cluster by cluster."""

from __future__ import annotations

import numpy as np

from squash.attributes.cells import CellScheme
from squash.attributes.filters import And, Exists, FilterNode, Not, OneOf, Or, Within
from squash.kernels import AND, LEAF, NOT, OR, FilterProgram, Leaf


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
    return Leaf(node.attribute, truth, cells.list_code, sure, possible)
