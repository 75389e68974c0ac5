"""Filters of which few rows may pass: found in lists of an attribute's rows, not row by row."""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F64, I64, U8, U32, distinct
from squash.kernels import native
from squash.kernels.filtering import array_of, evaluate
from squash.kernels.masks import MAYBE, YES
from squash.kernels.native_table import native_table
from squash.kernels.packing import concatenated_ranges
from squash.kernels.tables import AND, LEAF, NOT, ClusterTable, FilterProgram, Leaf, RowList
from squash.limits import CODE_BLOCK_ROWS

_CODES: Final = 256
_SLOTS_MAX: Final = 1 << 32
# RUNS and OPERANDS of listed.c.
_RUNS_MAX: Final = 1024
_OPERANDS_MAX: Final = 64


def listed_bytes(table: ClusterTable) -> int | None:
    """Return how many bytes a list of all rows takes; None where its numbers would not do."""
    if CODE_BLOCK_ROWS * len(table.alive) >= _SLOTS_MAX:
        return None
    return 4 * int(table.rows.sum()) + 4 * len(table.alive)


def list_rows(table: ClusterTable, name: str) -> RowList:
    """List the rows of an attribute that has been loaded."""
    slots: list[U32] = [np.empty(0, dtype=np.uint32)]
    codes: list[U8] = [np.empty(0, dtype=np.uint8)]
    numbers: list[F64] = [np.empty(0)]
    for partition, column in enumerate(table.columns[name]):
        if column is None:
            continue
        mine = np.flatnonzero(table.partition == partition)
        lengths = table.rows[mine]
        rows = concatenated_ranges(table.first_row[mine], lengths)
        first = CODE_BLOCK_ROWS * table.first_block[mine]
        slots.append(concatenated_ranges(first, lengths).astype(np.uint32))
        codes.append(column[rows])
        numbers.append(_numbers(table, name, partition, rows))
    code, number = np.concatenate(codes), np.concatenate(numbers)
    # NaN is no number, and comes last.
    order = np.lexsort((number, code))
    counts = np.bincount(code, minlength=_CODES)
    begins = np.zeros(_CODES + 1, dtype=np.int64)
    np.cumsum(counts, out=begins[1:])
    numbered = np.bincount(code[~np.isnan(number)], minlength=_CODES)
    known = next(iter(table.listed.values()), None)
    blocks = -(-table.rows // CODE_BLOCK_ROWS)
    owners = np.repeat(np.arange(len(table.rows), dtype=np.uint32), blocks)
    return RowList(
        slots=np.concatenate(slots)[order],
        begins=begins,
        numbered=begins[:-1] + numbered,
        owners=owners if known is None else known.owners,
    )


def filter_listed(
    table: ClusterTable, program: FilterProgram, rows_most: int, sure: U32, possible: U32
) -> tuple[I64, I64] | None:
    """Find what `filter_clusters` finds of all clusters, by `table.listed`.

    Parameters
    ----------
    table, program:
        The clusters, and a filter over their cells.
    rows_most:
        How many rows may be looked at.
    sure, possible:
        uint32 [all blocks]; written at the blocks of clusters of which some row may pass, left
        alone elsewhere.

    Returns
    -------
    int64 [c], the rows that surely pass, and int64 [c], those that may; None, and nothing is
    written, where lists don't say that all others fail, or more rows would have to be looked at.

    """
    chosen = native.active()
    if not table.listed:
        return None
    if chosen is None:
        return _filter_listed(table, program, rows_most, (sure, possible))
    kept = native_table(table)
    bound = kept.bind(program)
    counts = np.empty((2, len(table.rows)), dtype=np.int64)
    counts_at = native.address(counts)
    space = kept.take_workspace()
    looked_at = chosen.filter_listed(
        kept.at,
        bound.at,
        kept.lists(table.listed),
        rows_most,
        native.address(sure),
        native.address(possible),
        counts_at,
        counts_at + counts.strides[0],
        space.stack(bound.depth),
    )
    kept.give_workspace(space)
    return None if looked_at < 0 else (counts[0], counts[1])


def _filter_listed(
    table: ClusterTable, program: FilterProgram, rows_most: int, bitmaps: tuple[U32, U32]
) -> tuple[I64, I64] | None:
    runs = _cover(table, program)
    if runs is None or sum(map(len, runs)) > rows_most:
        return None
    owners = next(iter(table.listed.values())).owners
    slots = np.sort(distinct(np.concatenate([np.empty(0, dtype=np.uint32), *runs]))).astype(
        np.int64
    )
    block, bit = np.divmod(slots, CODE_BLOCK_ROWS)
    lives = (table.alive[block] >> bit.astype(np.uint32)) & np.uint32(1) == 1
    slots, block, bit = slots[lives], block[lives], bit[lives]
    cluster = owners[block].astype(np.int64)
    rows = table.first_row[cluster] + slots - CODE_BLOCK_ROWS * table.first_block[cluster]
    passing = np.zeros((2, len(slots)), dtype=np.bool_)
    for partition in distinct(table.partition[cluster]).tolist():
        mine = np.flatnonzero(table.partition[cluster] == partition)
        truth = evaluate(table, program, partition, rows[mine])
        passing[:, mine] = truth.sure, truth.possible
    counts = np.array([np.bincount(cluster[one], minlength=len(table.rows)) for one in passing])
    some = np.flatnonzero(counts[1])
    blocks = -(-table.rows[some] // CODE_BLOCK_ROWS)
    written = concatenated_ranges(table.first_block[some], blocks)
    for bitmap, one in zip(bitmaps, passing, strict=True):
        bitmap[written] = 0
        np.bitwise_or.at(
            bitmap, block[one], np.left_shift(np.uint32(1), bit[one].astype(np.uint32))
        )
    return counts[0].astype(np.int64), counts[1].astype(np.int64)


def _cover(table: ClusterTable, program: FilterProgram) -> list[U32] | None:
    """Return runs of lists beyond which a program is false for all rows; None if none are known."""
    stack: list[list[U32] | None] = []
    for operation, number in program.operations:
        if operation == LEAF:
            if len(stack) == _OPERANDS_MAX:
                return None
            stack.append(_leaf_cover(table, program.leaves[number]))
        elif operation == NOT:
            stack[-1] = None
        else:
            right, left = stack.pop(), stack.pop()
            if operation == AND:
                stack.append(min((left, right), key=_length))
            else:
                stack.append(None if left is None or right is None else left + right)
        if sum(len(one) for one in stack if one is not None) > _RUNS_MAX:
            return None
    return stack[0]


def _length(runs: list[U32] | None) -> float:
    return np.inf if runs is None else sum(map(len, runs))


def _leaf_cover(table: ClusterTable, leaf: Leaf) -> list[U32] | None:
    listed = table.listed.get(leaf.attribute)
    if listed is None:
        return None
    runs: list[U32] = []
    for code, truth in enumerate(leaf.truth):
        begin, end = listed.begins[code], listed.begins[code + 1]
        if code == leaf.list_code:
            if leaf.possible_bits:
                runs.append(listed.slots[begin:end])
        elif truth == MAYBE and leaf.intervals is not None:
            numbered = listed.numbered[code]
            numbers = _numbers_of(table, leaf.attribute, listed, listed.slots[begin:numbered])
            for low, high in leaf.intervals:
                first = begin + int(np.searchsorted(numbers, low, "left"))
                last = begin + int(np.searchsorted(numbers, high, "right"))
                runs.append(listed.slots[first : max(first, last)])
            runs.append(listed.slots[numbered:end])
        elif truth in {MAYBE, YES}:
            runs.append(listed.slots[begin:end])
    return [run for run in runs if len(run)]


def _numbers_of(table: ClusterTable, name: str, listed: RowList, slots: U32) -> F64:
    cluster = listed.owners[slots // CODE_BLOCK_ROWS].astype(np.int64)
    rows = table.first_row[cluster] + slots - CODE_BLOCK_ROWS * table.first_block[cluster]
    numbers = np.empty(len(slots))
    for partition in distinct(table.partition[cluster]).tolist():
        mine = np.flatnonzero(table.partition[cluster] == partition)
        numbers[mine] = _numbers(table, name, partition, rows[mine])
    return numbers


def _numbers(table: ClusterTable, name: str, partition: int, rows: I64) -> F64:
    """Return the numbers of some rows, NaN for those that have none."""
    values = array_of(table.values.get(name), partition)
    found = np.full(len(rows), np.nan)
    if values is not None:
        numbers, ids = values
        numbered = np.flatnonzero(ids[rows] < len(numbers))
        found[numbered] = numbers[ids[rows[numbered]]]
    return found
