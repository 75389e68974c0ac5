"""What a filter means: the definition that everything faster is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from squash.attributes.nodes import And, Exists, FilterNode, Not, OneOf, Or, Within


def matches(node: FilterNode | None, metadata: Mapping[str, Any]) -> bool:
    """Say whether a record passes a filter.

    ========================== ==========================================================
    filter                     a record passes if
    ========================== ==========================================================
    ``{a: v}``                 as ``{a: {$eq: v}}``
    ``{a: .., b: ..}``         every entry holds, as with ``$and``
    ``{a: {$gt: v, $lt: w}}``  every operator holds
    ``$and, $or: [..]``        every filter holds; some filter holds
    ``$not: filter``           the filter does not hold; also ``{a: {$not: {$gt: v}}}``
    ``$eq, $in``               a equals the value, or one of the values
    ``$ne, $nin``              ``$eq``, ``$in`` does not hold: also if there is no a
    ``$gt $gte $lt $lte``      a compares so with the number or string
    ``$between: [v, w]``       v <= a <= w
    ``$startsWith``            a is a string that starts so
    ``$containsAny``           a holds one of the values
    ``$containsAll``           a holds every value
    ``$exists``                the record has (or, for false, lacks) a
    ========================== ==========================================================

    A list passes a comparison if one of its elements does; an empty list passes none, but exists.
    For ``$containsAny`` and ``$containsAll`` a single value counts as a list of one. Strings
    compare by code point. A comparison of unlike types is false; true and false are no numbers.
    """
    if node is None:
        return True
    if isinstance(node, And):
        return all(matches(part, metadata) for part in node.parts)
    if isinstance(node, Or):
        return any(matches(part, metadata) for part in node.parts)
    if isinstance(node, Not):
        return not matches(node.part, metadata)
    if node.attribute not in metadata:
        return False
    if isinstance(node, Exists):
        return True
    value = metadata[node.attribute]
    elements = value if isinstance(value, list) else [value]
    if isinstance(node, OneOf):
        return any(_equal(element, wanted) for element in elements for wanted in node.values)
    return any(_within(element, node) for element in elements)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return type(value) in _like(wanted) and value == wanted


def _within(value: Any, node: Within) -> bool:
    if isinstance(value, bool) or type(value) not in _like(node.kind()):
        return False
    above = node.low is None or (value >= node.low if node.low_closed else value > node.low)
    below = node.high is None or (value <= node.high if node.high_closed else value < node.high)
    return bool(above and below)


def _like(value: Any) -> tuple[type, ...]:
    return (str,) if isinstance(value, str) else (int, float)
