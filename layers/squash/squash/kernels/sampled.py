"""A sample of a table's rows, copied to lie together, for what filters are tried on."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from squash.arrays import I64, AnyArray, Mask
from squash.kernels.native import address
from squash.kernels.tables import ClusterTable
from squash.limits import CODE_BLOCK_ROWS

if TYPE_CHECKING:
    from squash.kernels.native_table import NativeTable

# SQ_SAMPLE_ROWS of squash_kernels.h, in blocks.
_BLOCKS_TOGETHER: Final = 1_024 // CODE_BLOCK_ROWS
_NO_NUMBER: Final = np.uint32(0xFFFFFFFF)


class SampledRows(NamedTuple):
    """A block's worth of rows of each of some clusters, m, at equal distances.

    The rows of a cluster lie by their attributes: those of one of its blocks are alike.
    """

    clusters: I64
    """int64 [m]."""
    rows: I64
    """int64 [m, 32], within the partition; where a cluster has fewer, the last is repeated."""
    there: Mask
    """bool [m, 32], whether it is a row, and none repeated."""
    alive: Mask
    """bool [m, 32], whether it lives, besides."""


def sampled_rows(table: ClusterTable, every: int) -> SampledRows:
    """Return the sample of clusters 0, `every`, 2 `every` and so on, but for those without rows."""
    clusters = np.arange(0, len(table.rows), every)
    clusters = clusters[table.rows[clusters] > 0]
    sizes = table.rows[clusters][:, None]
    counts = np.minimum(sizes, CODE_BLOCK_ROWS)
    number = np.arange(CODE_BLOCK_ROWS)
    there = number < counts
    inside = np.minimum(number, counts - 1) * sizes // counts
    words = table.alive[table.first_block[clusters][:, None] + inside // CODE_BLOCK_ROWS]
    living = words >> (inside % CODE_BLOCK_ROWS).astype(np.uint32) & 1
    rows = table.first_row[clusters][:, None] + inside
    return SampledRows(clusters, rows, there, there & (living > 0))


class Sample:
    """`sampled_rows`, a block of each cluster's, as a native table of its own.

    Its partition p + i holds what the sample has of partition i, of p: a program that is bound to
    the whole table finds the columns of both by their partitions.
    """

    def __init__(self, table: ClusterTable, every: int) -> None:
        self.every = every
        sampled = sampled_rows(table, every)
        self.rows = int(np.count_nonzero(sampled.there))
        """How many rows there are, dead ones included."""
        partitions, owners = len(table.blocks), table.partition[sampled.clusters]
        self._places = [sampled.rows[owners == number].reshape(-1) for number in range(partitions)]
        parts: list[tuple[int, int, int]] = []
        for number, mine in enumerate(self._places):
            for first in range(0, len(mine), _BLOCKS_TOGETHER * CODE_BLOCK_ROWS):
                rows = min(len(mine) - first, _BLOCKS_TOGETHER * CODE_BLOCK_ROWS)
                parts.append((rows, partitions + number, first))
        made = np.array(parts, dtype=np.int64).reshape(-1, 3).T.copy()
        blocks = made[0] // CODE_BLOCK_ROWS
        order = np.argsort(owners, kind="stable")
        alive = np.packbits(sampled.alive[order], axis=1, bitorder="little").view("<u4").reshape(-1)
        self._kept: dict[str, list[AnyArray | None]] = {
            "": [made, np.cumsum(blocks) - blocks, alive]
        }
        rows_at, partition_at, first_row_at = (address(column) for column in made)
        self.structure: dict[str, Any] = {
            "clusters": len(parts),
            "rows": rows_at,
            "partition": partition_at,
            "first_row": first_row_at,
            "first_block": address(np.asarray(self._kept[""][1])),
            "alive": address(alive),
        }
        self._past: list[list[AnyArray | None]] = []
        self.at = 0
        self._structure: ctypes.Structure | None = None

    def hold(self, structure: ctypes.Structure) -> None:
        """Take the `sq_table` that was made of `structure`."""
        self._structure, self.at = structure, ctypes.addressof(structure)

    def holds(self, name: str) -> bool:
        """Tell whether the sample's rows of an attribute are there."""
        return name in self._kept

    def fill(self, beside: NativeTable, table: ClusterTable, name: str) -> None:
        """Copy the sample's rows of an attribute, unless they are there."""
        if name in self._kept:
            return
        kept: list[AnyArray | None] = []
        for number, places in enumerate(self._places):
            codes = _of(table.columns.get(name), number)
            signatures = _of(table.signatures.get(name), number)
            values = _of(table.values.get(name), number)
            found: dict[str, AnyArray | None] = {
                "columns": None if codes is None else codes[places],
                "signatures": None if signatures is None else signatures[places],
            }
            found["numbers"], found["ids"] = (
                (None, None) if values is None else _own(values, places)
            )
            for kind, array in found.items():
                at = 0 if array is None else address(array)
                beside.addresses(kind, name)[beside.partitions + number] = at
            numbers = found["numbers"]
            beside.addresses("number_counts", name)[beside.partitions + number] = (
                0 if numbers is None else len(numbers)
            )
            kept += found.values()
        self._kept[name] = kept

    def forget(self, name: str) -> None:
        """Let an attribute be copied again, since its values came in after its cells.

        A query may be reading the copy that there is, so that it is kept.
        """
        before = self._kept.pop(name, None)
        if before is not None:
            self._past.append(before)


def _of(arrays: list[Any] | None, number: int) -> Any:
    return None if arrays is None else arrays[number]


def _own(values: tuple[AnyArray, AnyArray], places: I64) -> tuple[AnyArray, AnyArray]:
    """Return the number of each of some rows, and its place among these."""
    numbers, ids = values
    mine = np.asarray(ids)[places]
    there = mine < len(numbers)
    own = np.zeros(len(places))
    own[there] = np.asarray(numbers)[mine[there]]
    return own, np.where(there, np.arange(len(places), dtype=np.uint32), _NO_NUMBER)
