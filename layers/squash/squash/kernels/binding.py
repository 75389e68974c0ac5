"""Filter programs as the native kernels read them, bound to the arrays of one table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from squash.errors import InternalError
from squash.kernels.masks import sets_of
from squash.kernels.native import Native, address
from squash.kernels.tables import AND, LEAF, NOT, OR, FilterProgram, Leaf, NumberCells, Range
from squash.values import maker_of

if TYPE_CHECKING:
    from squash.kernels.native_table import NativeTable

_LAYOUTS_MAX: Final = 64
# uint64 of `sq_program`, bytes of `sq_leaf`, and of a leaf's truth by code with its sets.
_PROGRAM_WORDS: Final = 5
_LEAVES: Final = 8 * _PROGRAM_WORDS  # where they begin
_PLACES: Final = Struct("=2Q")  # of operations and leaves, after the first word
_LEAF: Final = Struct("=14Q")
_WORD_MAX: Final = (1 << 64) - 1
_NO_INTERVALS: Final = _WORD_MAX  # -1

_ONE_LEAF: Final = ((LEAF, 0),)
_OPERANDS: Final = {LEAF: 0, NOT: 1, AND: 2, OR: 2}


class BoundProgram(NamedTuple):
    """A filter program bound to a table: `at` is the address of its `sq_program`.

    Structures are written into one room: `sq_program`, then the `sq_leaf`s, the intervals of all,
    the operations, and of each leaf its truth by code, uint8 [256], and its sets. Where these lie,
    and what the truth of a `Range` is, the kernels write.
    """

    table: NativeTable
    at: int
    depth: int
    kept: object
    """What must outlive it."""

    @classmethod
    def of(cls, chosen: Native, table: NativeTable, program: FilterProgram) -> BoundProgram:
        """Bind a program."""
        return _ranges_bound(chosen, table, program) or _bound(chosen, table, program)


bound_of: Final = maker_of(BoundProgram)


def _ranges_bound(
    chosen: Native, table: NativeTable, program: FilterProgram
) -> BoundProgram | None:
    """Bind what most programs are: ranges alone; None if it is not that."""
    names: list[str] = []
    cells: list[NumberCells] = []
    numbers: list[float] = []
    for leaf in program.asked:
        if type(leaf) is not Range:
            return None
        names.append(leaf.attribute)
        cells.append(leaf.cells)
        numbers.append(leaf.low)
        numbers.append(leaf.high)
    kept, asked = table.ranges, tuple(names)
    alike = kept.get(asked)
    if alike is None or alike.cells != cells or alike.operations != program.operations:
        if len(kept) >= _LAYOUTS_MAX:
            kept.clear()
        alike = kept[asked] = RangesAlike(table, program.operations, asked, cells)
    room = alike.room.copy()
    at = address(room)
    _PLACES.pack_into(room.data, 8, at + alike.code, at + _LEAVES)
    alike.ends.pack_into(room.data, alike.intervals, *numbers)
    chosen.bind(at + _LEAVES, len(names), at + alike.intervals, at + alike.tables)
    return BoundProgram(table, at, alike.depth, (room, cells))


def _bound(chosen: Native, table: NativeTable, program: FilterProgram) -> BoundProgram:
    asked, operations = program.asked, program.operations
    depth = _checked_depth(operations, len(asked))
    without = 0
    for leaf in asked:
        if not isinstance(leaf, Range) and leaf.intervals is None:
            without += 1
    if 0 < without < len(asked):
        asked, operations = _intervals_first(asked, operations)
    count, steps = len(asked), len(operations)
    leaves: list[bytes] = []
    numbers: list[float] = []
    tables: list[bytes] = []
    for leaf in asked:
        if isinstance(leaf, Range):
            leaves.append(_words_of_range(table, leaf.attribute, leaf.cells))
            numbers += leaf.low, leaf.high
            tables += b"", b""  # written by `bind`
        else:
            leaves.append(_words(table, leaf))
            for interval in leaf.intervals or ():
                numbers += interval
            tables += leaf.truth, leaf.sets or sets_of(leaf.truth)
    layout = _layout(count, len(numbers), steps)
    room = np.empty(layout.size // 8, dtype=np.uint64)
    at = address(room)
    leaves_at = at + _LEAVES
    intervals_at = leaves_at + _LEAF.size * count
    code_at = intervals_at + 8 * len(numbers)
    layout.pack_into(
        room.data, 0,
        steps, code_at, leaves_at, depth, count - without,
        *leaves, *numbers, *chain.from_iterable(operations), *tables,
    )  # fmt: skip
    chosen.bind(leaves_at, count, intervals_at, code_at + 8 * steps)
    return BoundProgram(table, at, depth, (room, asked))


class RangesAlike:
    """What programs that ask for ranges of the same attributes have in common.

    `room` is one of theirs without its ends; of intervals, operations and tables it says where they
    begin.
    """

    __slots__ = ("cells", "code", "depth", "ends", "intervals", "operations", "room",
                 "tables")  # fmt: skip

    def __init__(
        self,
        table: NativeTable,
        operations: tuple[tuple[int, int], ...],
        attributes: Sequence[str],
        cells: Sequence[NumberCells],
    ) -> None:
        self.operations, self.cells = operations, list(cells)
        count, steps = len(attributes), len(operations)
        self.depth = _checked_depth(operations, count)
        self.intervals = _LEAVES + _LEAF.size * count
        self.code = self.intervals + 16 * count
        self.tables = self.code + 8 * steps
        layout = _layout(count, 2 * count, steps)
        self.room = np.zeros(layout.size // 8, dtype=np.uint64)
        layout.pack_into(
            self.room.data, 0,
            steps, 0, 0, self.depth, count,
            *(_words_of_range(table, *one) for one in zip(attributes, cells, strict=True)),
            *(0.0,) * (2 * count), *chain.from_iterable(operations), *(b"",) * (2 * count),
        )  # fmt: skip
        self.ends = Struct(f"={2 * count}d")


@lru_cache(maxsize=_LAYOUTS_MAX)
def _layout(leaves: int, numbers: int, steps: int) -> Struct:
    words = f"={_PROGRAM_WORDS}Q" + f"{_LEAF.size}s" * leaves
    return Struct(f"{words}{numbers}d{2 * steps}i" + "256s64s" * leaves)


def _words(table: NativeTable, leaf: Leaf) -> bytes:
    """Return a leaf whose truth is known as `sq_leaf`."""
    columns, signatures, values, counts, ids = table.attribute(leaf.attribute)
    return _LEAF.pack(
        columns, signatures, 0, 0, leaf.list_code & _WORD_MAX, leaf.sure_bits, leaf.possible_bits,
        values, counts, ids, 0,
        _NO_INTERVALS if leaf.intervals is None else len(leaf.intervals), 0, 0,
    )  # fmt: skip


def _words_of_range(table: NativeTable, attribute: str, cells: NumberCells) -> bytes:
    """Return what `sq_leaf` has of every range of an attribute."""
    columns, signatures, values, counts, ids = table.attribute(attribute)
    ends = cells.number_ends
    return _LEAF.pack(
        columns, signatures, 0, 0, cells.list_code, 0, _WORD_MAX, values, counts, ids, 0, 1,
        address(ends), len(ends) - 1,
    )  # fmt: skip


def _intervals_first(
    leaves: Sequence[Leaf | Range], operations: Sequence[tuple[int, int]]
) -> tuple[tuple[Leaf | Range, ...], tuple[tuple[int, int], ...]]:
    """Return a program with the leaves that have intervals before the others."""

    def without(place: int) -> bool:
        leaf = leaves[place]
        return not isinstance(leaf, Range) and leaf.intervals is None

    order = sorted(range(len(leaves)), key=without)
    moved = {old: new for new, old in enumerate(order)}
    return tuple(leaves[i] for i in order), tuple(
        (operation, moved[number] if operation == LEAF else number)
        for operation, number in operations
    )


def _checked_depth(operations: Sequence[tuple[int, int]], leaves: int) -> int:
    """Return how many pairs of bitmaps a program has on its stack at most.

    Raises
    ------
    InternalError
        If it is not a postfix list that leaves one pair.

    """
    if operations == _ONE_LEAF and leaves:
        return 1
    depth = deepest = 0
    for operation, number in operations:
        wanted = _OPERANDS.get(operation)
        known = wanted is not None and (operation != LEAF or 0 <= number < leaves)
        if wanted is None or not known or depth < wanted:
            raise InternalError(f"filter program: operation {operation} has no operands")
        depth += 1 - wanted
        deepest = max(deepest, depth)
    if depth != 1:
        raise InternalError(f"filter program: it leaves {depth} results, not one")
    return deepest
