"""What filters are once they were read: a tree of few kinds of nodes.

Operators are reduced to three questions about an attribute: does it exist, is it one of these
values, does it lie within this interval. Everything else is and, or, and not.
"""

from __future__ import annotations

from array import array
from typing import Any, Final, TypeAlias

from squash.model import Scalar
from squash.values import dataclass

Ordered: TypeAlias = float | str


# What nodes say never changes. They are not frozen, since every query with a filter makes some, and
# Python takes ten times as long to make a frozen one.


@dataclass(slots=True, unsafe_hash=True)
class Exists:
    """The record has the attribute."""

    attribute: Final[str]


@dataclass(slots=True, unsafe_hash=True)
class OneOf:
    """The attribute, or an element of it, equals one of the values."""

    attribute: Final[str]
    values: Final[tuple[Scalar, ...]]


@dataclass(slots=True, unsafe_hash=True)
class Within:
    """The attribute, or an element of it, lies in an interval of numbers or of strings.

    `low` or `high` is None where the interval is open to that side; `kind` is float or str.
    """

    attribute: Final[str]
    kind: Final[type[float | str]]
    low: Final[Ordered | None]
    low_closed: Final[bool]
    high: Final[Ordered | None]
    high_closed: Final[bool]


class And:
    """Every part holds.

    Parameters
    ----------
    parts:
        What holds; None for what `plain` says, of which the parts are made when somebody asks for
        them: mostly the intervals are all that is asked.
    intervals:
        The same as intervals of numbers that attributes without lists lie in, where it is known.
    plain:
        A filter that is all ends of intervals and single values, as it was read.

    """

    __slots__ = ("_parts", "again", "intervals", "plain")
    __match_args__ = ("parts",)

    def __init__(
        self,
        parts: tuple[FilterNode, ...] | None,
        intervals: Intervals | None = None,
        plain: Plain = (),
    ) -> None:
        self._parts = parts
        self.again = False
        """Whether the filter was asked before, and this is what was made of it then."""
        self.intervals: Final = intervals
        self.plain: Final = plain

    @property
    def parts(self) -> tuple[FilterNode, ...]:
        """What holds."""
        if self._parts is None:
            self._parts = parts_of(self.plain)
        return self._parts

    def __eq__(self, other: object) -> bool:
        """Compare the parts."""
        return self.parts == other.parts if isinstance(other, And) else NotImplemented

    def __hash__(self) -> int:
        """Hash the parts."""
        return hash((And, self.parts))

    def __repr__(self) -> str:
        """Name the parts."""
        return f"And(parts={self.parts!r})"


@dataclass(slots=True, unsafe_hash=True)
class Or:
    """Some part holds."""

    parts: Final[tuple[FilterNode, ...]]


@dataclass(slots=True, unsafe_hash=True)
class Not:
    """The part does not hold."""

    part: Final[FilterNode]


FilterNode: TypeAlias = Exists | OneOf | Within | And | Or | Not
Intervals: TypeAlias = tuple[tuple[str, ...], "array[float]"]
"""Attributes, and for each low and high of [low, high); an end that is open is infinite."""

Plain: TypeAlias = tuple[tuple[Any, ...], ...]
"""A filter of numbers and short strings alone: of each entry (name, operator, operand, ...)."""

# Of an end of an interval: whether it is the lower one, and whether it belongs to it.
_ENDS: Final = {
    "$gt": (True, False), "$gte": (True, True), "$lt": (False, False), "$lte": (False, True),
}  # fmt: skip


def all_of(parts: list[FilterNode]) -> FilterNode:
    """Return what says that every part holds."""
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def is_lasting(node: FilterNode) -> bool:
    """Tell whether a filter may be the same object when it is asked again, and of some KiB.

    So are ends of intervals and single values. Of several, those that were asked before are:
    mostly there are others each time. Whatever else there is may hold lists of megabytes, and is
    another object whenever it is asked.
    """
    if type(node) is And:
        return node.again
    return type(node) is Within or (type(node) is OneOf and len(node.values) == 1)


def parts_of(plain: Plain) -> tuple[FilterNode, ...]:
    """Make the nodes of what must all hold."""
    if len(plain) == 1:
        return tuple(_all_compared(plain[0]))
    return tuple(all_of(_all_compared(entry)) for entry in plain)


def _all_compared(entry: tuple[Any, ...]) -> list[FilterNode]:
    name = entry[0]
    return [compared(name, *one) for one in zip(entry[1::2], entry[2::2], strict=True)]


def compared(name: str, operator: str, operand: float | str) -> FilterNode:
    """Make the node of one clause of a plain filter."""
    if operator == "$eq":
        return OneOf(name, (operand if type(operand) is str else float(operand),))
    number = float(operand)
    lower, closed = _ENDS[operator]
    if lower:
        return Within(name, float, number, closed, None, False)
    return Within(name, float, None, False, number, closed)
