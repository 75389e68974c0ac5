"""What the searching kernels read: the clusters of one snapshot, and filters over their cells.

`layers/squash/native/README.md` defines every field and operation.
"""

from __future__ import annotations

from array import array
from dataclasses import field
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Literal, Protocol

import numpy as np

from squash.arrays import F32, F64, I64, U8, U32, U64
from squash.values import dataclass

BLOCK_FACTOR_BYTES: Final = 320
"""Bytes of the factors of one block of 32 rows."""
_CONJUNCTIONS_MAX: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class RowList:
    """The rows of an attribute by cell, of a cell by number, then those without one."""

    slots: U32
    """uint32 [rows of partitions with the column]: 32 * block + the row's place in it."""
    begins: I64
    """int64 [257], where each code's slots begin."""
    numbered: I64
    """int64 [256], where those of each code that have a number end."""
    owners: U32
    """uint32 [all blocks], the cluster of each; one array for all lists of a table."""


@dataclass(slots=True, eq=False)
class ClusterTable:
    """All clusters of a snapshot; a partition's arrays are None while it is not loaded.

    `blocks[i]` is uint8 [b, block bytes], `full[i]` uint8 [n, w], `vectors[i]` float32 [n, d] of
    partition i. `columns[name]` holds the cell codes uint8 [n] of an attribute by partition, and
    `signatures[name]` uint64 [n]; None where the partition has none.
    """

    space: Literal["l2", "dot"]
    dimension: int
    centers: F32
    """float32 [c, D]"""
    center_norms: F64
    rows: I64
    partition: I64
    first_row: I64
    first_block: I64
    local_block: I64
    alive: U32
    alive_counts: I64
    row_base: I64
    blocks: list[U8 | None]
    full: list[U8 | None]
    vectors: list[F32 | None]
    columns: dict[str, list[U8 | None]] = field(default_factory=dict)
    signatures: dict[str, list[U64 | None]] = field(default_factory=dict)
    values: dict[str, list[tuple[F64, U32] | None]] = field(default_factory=dict)
    """By attribute and partition: the distinct numbers, ascending, and each row's place in them,
    uint32 [n]; a place beyond them is no number. None where rows hold lists."""
    attributes: set[str] = field(default_factory=set)
    """Those of which columns and signatures are in, of every partition."""
    valued: set[str] = field(default_factory=set)
    """Those of which the values are in, too: of the others no interval of numbers is asked."""
    kept: dict[int, object] = field(default_factory=dict)
    """By partition: what fills its codes in, kept as long as they are here."""
    native: object | None = None
    """What the native kernels keep beside it: addresses of the arrays above."""
    listed: dict[str, RowList] = field(default_factory=dict)
    """By attribute, of those for which it has paid to make one."""
    asked: dict[int, Any] = field(default_factory=dict)
    """What is known of filters that were asked lately, for who asks them."""
    ranges: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """And, by attributes, what filters of intervals of these have in common."""
    spreads: F32 | None = None
    """float32 [c], what is added to the squared distances to centers by which clusters are taken;
    None where that is nothing."""


@dataclass(slots=True, eq=False)
class Leaf:
    """A question about one attribute: its truth by cell code, and by a list's signature.

    It never changes. It is not frozen, since every filter of a query makes some, and Python takes
    ten times as long to make a frozen one.
    """

    attribute: Final[str]
    truth: Final[bytes]
    """uint8 [256]: 0 no, 1 maybe, 2 yes."""
    list_code: Final[int] = -1
    sure_bits: Final[int] = 0
    possible_bits: Final[int] = 0
    intervals: Final[tuple[tuple[float, float], ...] | None] = None
    """Both ends included: the numbers that pass, if they alone may be open."""
    sets: Final[bytes | None] = None
    """What `sets_of` makes of the truth, if it is known."""


class NumberCells(Protocol):
    """The cells of an attribute without lists, as far as ranges of numbers ask for them."""

    @property
    def number_ends(self) -> F64:
        """The first number of every cell of numbers but the first, ascending; then infinity."""

    @property
    def list_code(self) -> int:
        """The code of a list."""

    def within(
        self, attribute: str, kind: type[float | str], low: float | None, high: float | None
    ) -> Leaf:
        """Ask whether a number lies in [low, high); None where it is open to that side."""


@dataclass(slots=True, eq=False)
class Range:
    """A leaf that is an interval of numbers, of an attribute without lists: [low, high).

    An end that is open is infinite. The native kernels find its truth by cell code themselves.
    """

    attribute: Final[str]
    low: Final[float]
    high: Final[float]
    cells: Final[NumberCells]

    def leaf(self) -> Leaf:
        """Return the same as a leaf with its truth."""
        low = None if self.low == -np.inf else self.low
        high = None if self.high == np.inf else self.high
        return self.cells.within(self.attribute, float, low, high)


LEAF: Final = 0
AND: Final = 1
OR: Final = 2
NOT: Final = 3


class Intervals(Protocol):
    """What filters have in common that ask for intervals of the same attributes."""

    def asked(self, ends: array[float]) -> tuple[Range, ...]:
        """Return the comparisons of one of them, by low and high of each interval."""


class FilterProgram:
    """A filter as a postfix list of (operation, leaf number or 0), and its leaves.

    Parameters
    ----------
    operations:
        The list.
    asked:
        The leaves as they are asked, some as ranges of numbers; or what gives them for `ends`, when
        somebody asks for them.

    """

    __slots__ = ("_asked", "_leaves", "ends", "native", "operations")

    def __init__(
        self,
        operations: tuple[tuple[int, int], ...],
        asked: tuple[Leaf | Range, ...] | Intervals,
        ends: array[float] | None = None,
    ) -> None:
        self.operations: Final = operations
        self._asked = asked
        self.ends: Final = ends
        """Low and high of each interval of a filter of intervals, if it was made of these."""
        self._leaves: tuple[Leaf, ...] | None = None
        self.native: object | None = None
        """What the native kernels keep beside it: how it is bound to the table it was last asked
        of."""

    @property
    def asked(self) -> tuple[Leaf | Range, ...]:
        """The leaves as they are asked, some as ranges of numbers."""
        asked = self._asked
        if not isinstance(asked, tuple):
            asked = self._asked = asked.asked(self.ends or array("d"))
        return asked

    @property
    def comparisons(self) -> int:
        """How many leaves there are."""
        return len(self.asked) if self.ends is None else len(self.ends) // 2

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves, each with its truth by cell code."""
        if self._leaves is None:
            self._leaves = tuple(
                one.leaf() if isinstance(one, Range) else one for one in self.asked
            )
        return self._leaves


@lru_cache(maxsize=_CONJUNCTIONS_MAX)
def all_hold(leaves: int) -> tuple[tuple[int, int], ...]:
    """Return the operations of so many leaves that must all hold."""
    others = (((LEAF, number), (AND, 0)) for number in range(1, leaves))
    return ((LEAF, 0), *chain.from_iterable(others))


@dataclass(frozen=True, slots=True, eq=False)
class PreparedQuery:
    """A query as `prepare` leaves it for a table's other operations."""

    projected: F64
    offset: float
    entries: U8
    """uint8 [groups, 16]"""
    step: float
    base: float
    distances: F32
    """float32 [c], to the centers."""


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """The clusters that a walk took, nearest first, and what it saw on its way."""

    clusters: I64
    sure_counts: I64
    possible_counts: I64
    rows_seen: int
    possible_seen: int
    sure_seen: int


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The rows that a scan kept, ascending by what they are ranked by, then by global row.

    These, their `estimates` and `lower_bounds`, `admitted` and `low_scanned` do not depend on the
    order in which clusters were scanned; `ranked`, `pruned` and `least_left` do.
    """

    partition: I64
    row: I64
    estimates: F32
    """Rank values: full-code estimates, or, where they are farther and were asked, what the signs
    say at best."""
    lower_bounds: F32
    admitted: int
    low_scanned: int
    """Rows whose signs were asked."""
    ranked: int
    """Rows whose full codes were."""
    pruned: int
    """The others."""
    least_left: float = np.inf
    """The least lower bound of the rows that were ranked and not kept, if it was asked for."""
