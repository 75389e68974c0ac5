"""Filters over attribute cells, cluster by cluster: which rows surely pass and which may."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from squash.arrays import I64, U8, U32, Mask, distinct
from squash.kernels import native
from squash.kernels.masks import NO, YES
from squash.kernels.native_table import native_table
from squash.kernels.packing import concatenated_ranges
from squash.kernels.sampled import sampled_rows
from squash.kernels.tables import AND, LEAF, NOT, ClusterTable, FilterProgram, Leaf
from squash.limits import CODE_BLOCK_ROWS
from squash.values import dataclass

_Array = TypeVar("_Array")


def filter_clusters(
    table: ClusterTable, program: FilterProgram, clusters: I64, sure: U32, possible: U32
) -> tuple[I64, I64]:
    """Write which live rows of some clusters surely pass, and which may.

    Parameters
    ----------
    table, program:
        The clusters, and a filter over their cells.
    clusters:
        int64 [m], which ones.
    sure, possible:
        uint32 [all blocks]; written at the blocks of these clusters, left alone elsewhere.

    Returns
    -------
    int64 [m], the rows that surely pass, and int64 [m], those that may.

    """
    chosen = native.active()
    if chosen is None:
        return _filter_rows(table, program, clusters, (sure, possible))
    kept = native_table(table)
    bound = kept.bind(program)
    wanted = np.ascontiguousarray(clusters, dtype=np.int64)
    counts = np.empty((2, len(wanted)), dtype=np.int64)
    counts_at = native.address(counts)
    space = kept.take_workspace()
    chosen.filter(
        kept.at,
        bound.at,
        len(wanted),
        native.address(wanted),
        native.address(sure),
        native.address(possible),
        counts_at,
        counts_at + counts.strides[0],
        space.stack(bound.depth),
    )
    kept.give_workspace(space)
    return counts[0], counts[1]


def filter_sample(table: ClusterTable, program: FilterProgram, every: int) -> tuple[int, int, int]:
    """Count on some rows of clusters 0, `every`, 2 `every` and so on; see `sampled_rows`.

    Returns
    -------
    These rows, dead ones included, those that surely pass, and those that may.

    """
    chosen = native.active()
    if chosen is not None:
        kept = native_table(table)
        bound = kept.bind(program)
        sample = kept.sample(table, [leaf.attribute for leaf in program.asked], every)
        space = kept.take_workspace()
        chosen.filter_sample(sample.at, bound.at, space.sums_at, space.stack(bound.depth))
        sures, possibles, _ = space.sums
        kept.give_workspace(space)
        return sample.rows, sures, possibles
    sampled = sampled_rows(table, every)
    owners, sures, possibles = table.partition[sampled.clusters], 0, 0
    for partition in distinct(owners).tolist():
        here = owners == partition
        rows = sampled.rows[here][sampled.alive[here]]
        truth = evaluate(table, program, partition, rows)
        sures += int(np.count_nonzero(truth.sure))
        possibles += int(np.count_nonzero(truth.possible))
    return int(np.count_nonzero(sampled.there)), sures, possibles


def _filter_rows(
    table: ClusterTable, program: FilterProgram, clusters: I64, bitmaps: tuple[U32, U32]
) -> tuple[I64, I64]:
    counts = (np.zeros(len(clusters), dtype=np.int64), np.zeros(len(clusters), dtype=np.int64))
    partitions = table.partition[clusters]
    for partition in distinct(partitions).tolist():
        here = np.flatnonzero(partitions == partition)
        chosen = clusters[here]
        lengths = table.rows[chosen]
        truth = evaluate(
            table, program, partition, concatenated_ranges(table.first_row[chosen], lengths)
        )
        blocks = -(-lengths // CODE_BLOCK_ROWS)
        begins = np.cumsum(blocks) - blocks
        places = concatenated_ranges(begins * CODE_BLOCK_ROWS, lengths)
        targets = concatenated_ranges(table.first_block[chosen], blocks)
        owners = np.repeat(np.arange(len(here)), blocks)
        for kind, mask in enumerate((truth.sure, truth.possible)):
            words = _words(mask, places, int(blocks.sum())) & table.alive[targets]
            ones = np.bitwise_count(words).astype(np.int64)
            counts[kind][here] = np.bincount(owners, ones, minlength=len(here)).astype(np.int64)
            bitmaps[kind][targets] = words
    return counts


@dataclass(frozen=True, slots=True)
class Truth:
    """Which rows surely pass and which may, bool [n] each."""

    sure: Mask
    possible: Mask


def evaluate(table: ClusterTable, program: FilterProgram, partition: int, rows: I64) -> Truth:
    """Evaluate a program on rows; then once more on those it leaves open, by their values."""
    found = _run(table, program, partition, rows, settle=False)
    if any(leaf.intervals is not None for leaf in program.leaves):
        still_open = np.flatnonzero(found.possible & ~found.sure)
        settled = _run(table, program, partition, rows[still_open], settle=True)
        found.sure[still_open] = settled.sure
        found.possible[still_open] = settled.possible
    return found


def _run(
    table: ClusterTable, program: FilterProgram, partition: int, rows: I64, *, settle: bool
) -> Truth:
    stack: list[Truth] = []
    for operation, number in program.operations:
        if operation == LEAF:
            leaf = program.leaves[number]
            stack.append(_evaluate_leaf(table, leaf, partition, rows, settle=settle))
        elif operation == NOT:
            top = stack.pop()
            stack.append(Truth(~top.possible, ~top.sure))
        else:
            right, left = stack.pop(), stack.pop()
            join = np.logical_and if operation == AND else np.logical_or
            stack.append(Truth(join(left.sure, right.sure), join(left.possible, right.possible)))
    return stack.pop()


def _evaluate_leaf(
    table: ClusterTable, leaf: Leaf, partition: int, rows: I64, *, settle: bool
) -> Truth:
    column = array_of(table.columns.get(leaf.attribute), partition)
    if column is None:
        return Truth(np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_))
    codes = column[rows]
    truth: U8 = np.frombuffer(leaf.truth, dtype=np.uint8)[codes]
    sure, possible = truth == YES, truth != NO
    values = array_of(table.values.get(leaf.attribute), partition)
    if settle and values is not None and leaf.intervals is not None:
        numbers, ids = values
        asked = np.flatnonzero(possible & ~sure & (ids[rows] < len(numbers)))
        value = numbers[ids[rows[asked]]]
        inside = np.zeros(len(asked), dtype=np.bool_)
        for low, high in leaf.intervals:
            inside |= (value >= low) & (value <= high)
        sure[asked] = possible[asked] = inside
    if leaf.list_code >= 0:
        lists = np.flatnonzero(codes == leaf.list_code)
        signatures = array_of(table.signatures.get(leaf.attribute), partition)
        if signatures is None:
            sure[lists] = possible[lists] = False
        else:
            listed = signatures[rows[lists]]
            sure[lists] = (listed & np.uint64(leaf.sure_bits)) != 0
            possible[lists] = (listed & np.uint64(leaf.possible_bits)) != 0
    return Truth(sure, possible)


def array_of(arrays: list[_Array | None] | None, partition: int) -> _Array | None:
    """Return the array of a partition; None where there is none."""
    return None if arrays is None else arrays[partition]


def _words(mask: Mask, places: I64, blocks: int) -> U32:
    """Return uint32 [blocks]: bit `places[i]` is `mask[i]`, all others are 0."""
    padded = np.zeros(blocks * CODE_BLOCK_ROWS, dtype=np.bool_)
    padded[places] = mask
    words: U32 = np.packbits(padded, bitorder="little").view("<u4").astype(np.uint32, copy=False)
    return words
