"""Filters as JSON of their nodes, for messages: exactly what was parsed, checked as it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from squash.attributes.nodes import And, Exists, FilterNode, Not, OneOf, Or, Within
from squash.limits import FILTER_DEPTH_MAX

# A level of the language, `{"a": {"$not": {...}, ...}}`, becomes at most so many of nodes.
_NODES_A_LEVEL: Final = 4
_DEPTH_MAX: Final = _NODES_A_LEVEL * (FILTER_DEPTH_MAX + 1)
_KINDS: Final[dict[str, type[float | str]]] = {"number": float, "string": str}


def filter_to_json(node: FilterNode) -> list[Any]:
    """Return JSON values."""
    match node:
        case Exists(attribute):
            return ["exists", attribute]
        case OneOf(attribute, values):
            return ["one of", attribute, list(values)]
        case Within():
            kind = "number" if node.kind is float else "string"
            return ["within", node.attribute, kind, node.low, node.low_closed, node.high,
                    node.high_closed]  # fmt: skip
        case And(parts):
            return ["and", [filter_to_json(part) for part in parts]]
        case Or(parts):
            return ["or", [filter_to_json(part) for part in parts]]
        case Not(part):
            return ["not", filter_to_json(part)]


def filter_from_json(value: Any) -> FilterNode:
    """Read back what `filter_to_json` made.

    Raises
    ------
    ValueError, TypeError
        If it is not what that makes.

    """
    return _node(value, _DEPTH_MAX)


def _node(value: Any, depth: int) -> FilterNode:
    if not isinstance(value, list) or not value or not depth:
        raise ValueError("a filter is a list, and does not nest without end")
    match value:
        case ["exists", str() as attribute]:
            return Exists(attribute)
        case ["one of", str() as attribute, list() as values] if values:
            return OneOf(attribute, tuple(_scalar(one) for one in values))
        case ["within", str() as attribute, str() as kind, low, bool() as low_closed, high,
              bool() as high_closed]:  # fmt: skip
            wanted = _KINDS[kind]
            return Within(
                attribute, wanted, _end(low, wanted), low_closed, _end(high, wanted), high_closed
            )
        case ["and", list() as parts] if parts:
            return And(_nodes(parts, depth))
        case ["or", list() as parts] if parts:
            return Or(_nodes(parts, depth))
        case ["not", part]:
            return Not(_node(part, depth - 1))
        case _:
            raise ValueError(f"a filter has no part {value[0]!r:.80} of {len(value)} values")


def _nodes(parts: Sequence[Any], depth: int) -> tuple[FilterNode, ...]:
    return tuple(_node(part, depth - 1) for part in parts)


def _scalar(value: Any) -> float | str | bool:
    return value if isinstance(value, (bool, str)) else _ordered(value, float)


def _end(value: Any, kind: type[float | str]) -> float | str | None:
    return None if value is None else _ordered(value, kind)


def _ordered(value: Any, kind: type[float | str]) -> float | str:
    if type(value) is not kind:
        raise TypeError(f"a filter compares with {value!r:.80}, which is no {kind.__name__}")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a filter compares with a number that is not finite")
        return value
    return str(value)
