"""What a processor keeps between calls: readers of segments, and one table of their clusters."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from squash import kernels
from squash.arrays import F32, I64, U32, AnyArray, Mask
from squash.errors import DataError
from squash.index.loading import Loader
from squash.index.prefetch import prefetch_codes, prefetch_heads
from squash.index.reader import SegmentReader
from squash.index.trained import Trained
from squash.kernels import BLOCK_ROWS, ClusterTable
from squash.limits import SLOT_SEGMENTS_MAX
from squash.quantize import ArraySpec, Codec, Space, scanned_layout
from squash.search.tasks import Part, Task
from squash.segment import ClusterCodes
from squash.values import dataclass

Specs: TypeAlias = tuple[ArraySpec, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """One segment of the table; `begins` is int64 [c + 1], `centers` float32 [c, D]."""

    row_base: int
    begins: I64
    centers: F32


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes a segment's place in the table: its first global row belongs to a snapshot."""

    segment: str
    row_base: int


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A table that has a task's parts, and where.

    `numbers`, `first_clusters` and `cluster_counts` are int64 [p], by part: its partition in the
    table, its first cluster there, and how many it has.
    """

    table: ClusterTable
    numbers: I64
    first_clusters: I64
    cluster_counts: I64

    def clusters(self, parts: I64, clusters: I64, where: str) -> I64:
        """Return the table's numbers of clusters of some parts, int64 [m].

        Raises
        ------
        DataError
            If a part has no such cluster.

        """
        if np.any(clusters >= self.cluster_counts[parts]):
            raise DataError(f"{where} names a cluster that its segment does not have")
        return self.first_clusters[parts] + clusters

    def blocks(self, clusters: I64) -> I64:
        """Return the blocks of some of the table's clusters, one cluster after another."""
        counts = -(-self.table.rows[clusters] // BLOCK_ROWS)
        return kernels.concatenated_ranges(self.table.first_block[clusters], counts)

    def all_blocks(self, part: int) -> slice:
        """Return all blocks of a part."""
        first = int(self.first_clusters[part])
        end = first + int(self.cluster_counts[part])
        if first == end:
            return slice(0, 0)
        last = end - 1
        stop = int(self.table.first_block[last]) - (-int(self.table.rows[last]) // BLOCK_ROWS)
        return slice(int(self.table.first_block[first]), stop)


class Slot:
    """What a warm container has of the partitions of one index that it searched before.

    Parameters
    ----------
    loader:
        Gets and retains objects below the index's prefix.

    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._lock = threading.Lock()
        self._readers: dict[str, SegmentReader] = {}
        self._layout: tuple[Space, int] | None = None
        self._members: dict[_Key, _Member] = {}
        self._numbers: dict[_Key, int] = {}
        self._table: ClusterTable | None = None
        self._evictions = loader.evictions

    def reader(self, task: Task, part: Part) -> SegmentReader:
        """Return the reader of a part's segment."""
        found = self._readers.get(part.segment.id)
        if found is None or found.ref != part.segment:
            if len(self._readers) >= SLOT_SEGMENTS_MAX:
                self._readers.clear()
            found = SegmentReader(part.segment, self._loader, dimension=task.dimension)
            self._readers[part.segment.id] = found
        return found

    def readers(self, task: Task) -> list[SegmentReader]:
        """Return the readers of all parts' segments."""
        return [self.reader(task, part) for part in task.parts]

    def trained_codec(self, task: Task) -> Codec:
        """Load the codec that a task names.

        Raises
        ------
        DataError
            If it names none, or another than it says.

        """
        ref = task.trained
        if ref is None:
            raise DataError("a task wants rows ranked, and does not say by which codec")
        trained = self._loader.load(
            ref,
            "trained",
            lambda data: Trained.from_bytes(data, ref.key, dimension=task.dimension),
        )
        codec = trained.codec
        if (codec.name, codec.version, codec.space) != (task.codec, task.codec_version, task.space):
            raise DataError(f"{ref.key} holds another codec than a task says", object_key=ref.key)
        return codec

    def hold(self, task: Task, parts: Sequence[int]) -> Held:
        """Return a table that has some of a task's parts, at least; codes may be missing still.

        Raises
        ------
        DataError
            If a segment is not what the task says.

        """
        readers = self.readers(task)
        keys = [_Key(part.segment.id, part.row_base) for part in task.parts]
        layout = (task.space, task.projected_dimension)
        members = self._members if self._layout == layout else {}
        missing = [place for place in parts if keys[place] not in members]

        prefetch_heads([readers[place] for place in missing])
        needed = {keys[place]: members[keys[place]] for place in parts if place not in missing}
        for place in missing:
            found = readers[place].codes_head()
            where = f"segment {task.parts[place].segment.id}"
            written = found.codec, found.codec_version, found.centers.shape[1]
            if written != (task.codec, task.codec_version, task.projected_dimension):
                raise DataError(f"{where} has codes of {written}, which is not what its task says")
            # Copies: what is read may be a part of a larger object, to be let go before the table.
            begins, centers = found.cluster_begins.copy(), found.centers.copy()
            needed[keys[place]] = _Member(task.parts[place].row_base, begins, centers)
        with self._lock:
            table = self._grown(layout, needed)
            numbers = [self._numbers.get(key, -1) for key in keys]
        return _held(table, np.array(numbers, dtype=np.int64))

    def holds_codes(self, task: Task, held: Held, parts: Sequence[int]) -> bool:
        """Tell whether a table has the codes of all clusters of some parts."""
        table = held.table
        _, specs, _ = _layout_of(task)
        for place in parts:
            number = held.numbers.item(place)
            kept = table.kept.get(number)
            if table.full[number] is None:
                return False
            if isinstance(kept, ClusterCodes):
                # Asked each time, so that what is used counts as used.
                reader = self.reader(task, task.parts[place])
                if not kept.is_whole or reader.held_codes(specs) is not kept:
                    return False
        return True

    def load_codes(self, task: Task, held: Held, wanted: Mapping[int, I64]) -> Held:
        """Load the codes of some clusters by part; return a table that has them."""
        readers = self.readers(task)
        layout, specs, as_stored = _layout_of(task)
        places = list(wanted)
        found: list[Mapping[str, AnyArray]]
        if as_stored:
            prefetch_codes([(readers[place], wanted[place]) for place in places], specs)
            found = [readers[place].cluster_codes(wanted[place], specs) for place in places]
        else:
            # An older version's codes are laid out anew, all of them, once.
            found = [readers[place].partition(layout).codes.arrays for place in places]
        numbers = held.numbers[places].tolist()
        with self._lock:
            table = _with_codes(held.table, dict(zip(numbers, found, strict=True)))
            if table is not held.table and self._table is held.table:
                self._table = table
        return replace(held, table=table)

    def load_vectors(self, task: Task, held: Held, parts: Sequence[int]) -> tuple[Held, Mask]:
        """Put in the vectors of parts that are at hand whole.

        Returns
        -------
        A table that has them; and of each of the task's parts whether it has.

        """
        there = np.zeros(len(task.parts), dtype=np.bool_)
        found: dict[int, F32] = {}
        for place in parts:
            # Asked each time, so that what is used counts as used.
            vectors = self.reader(task, task.parts[place]).whole_vectors()
            if vectors is not None:
                there[place] = True
                found[int(held.numbers[place])] = vectors
        with self._lock:
            table = _with_vectors(held.table, found)
            if table is not held.table and self._table is held.table:
                self._table = table
        return replace(held, table=table), there

    def let_go(self) -> None:
        """Hold no longer what the retained data let go of."""
        with self._lock:
            if self._table is not None:
                self._table = self._without_evicted(self._table)

    def _grown(self, layout: tuple[Space, int], needed: Mapping[_Key, _Member]) -> ClusterTable:
        """Return the table with some segments, which it may have already."""
        table = self._table
        more = [key for key in needed if key not in self._members]
        if self._layout != layout or len(self._members) + len(more) > SLOT_SEGMENTS_MAX:
            self._members, table = {}, None
        if table is None or more:
            self._members = {**self._members, **needed}
            self._numbers = {key: number for number, key in enumerate(self._members)}
            table = _table_of(layout, list(self._members.values()), before=table)
        self._layout, self._table = layout, self._without_evicted(table)
        return self._table

    def _without_evicted(self, table: ClusterTable) -> ClusterTable:
        """Return the table as it is, or empty, if anything was let go of since the last one."""
        evictions = self._loader.evictions
        if evictions == self._evictions:
            return table
        self._evictions = evictions
        # What was let go can be freed only if the table does not hold it.
        count = len(table.blocks)
        return replace(
            table,
            blocks=[None] * count,
            full=[None] * count,
            vectors=[None] * count,
            kept={},
            native=None,
        )


@lru_cache(maxsize=16)
def _layout(codec: str, version: int, space: Space, dimension: int) -> tuple[Codec, Specs, bool]:
    """Return what codes are laid out like, its arrays, and whether they are stored like that."""
    layout = scanned_layout(codec, version, space=space, dimension=dimension)
    return layout, layout.specs, layout.stored_specs == layout.specs


def _layout_of(task: Task) -> tuple[Codec, Specs, bool]:
    return _layout(task.codec, task.codec_version, task.space, task.projected_dimension)


def _held(table: ClusterTable, numbers: I64) -> Held:
    firsts = np.searchsorted(table.partition, numbers)
    ends = np.searchsorted(table.partition, numbers, side="right")
    return Held(table, numbers, firsts, ends - firsts)


def _with_codes(table: ClusterTable, found: Mapping[int, Mapping[str, AnyArray]]) -> ClusterTable:
    """Put codes into a table; into a copy, if it has others: a query may be reading those."""
    there = [table.full[number] for number in found]
    others = zip(there, found.values(), strict=True)
    if any(one is not None and one is not arrays["full"] for one, arrays in others):
        table = _copied(table)
    for number, arrays in found.items():
        if table.full[number] is not arrays["full"]:
            table.kept[number] = arrays
            table.blocks[number] = arrays["blocks"]
            table.full[number] = arrays["full"]
            kernels.refresh(table, number)
    return table


def _with_vectors(table: ClusterTable, found: Mapping[int, F32]) -> ClusterTable:
    """Put vectors into a table; into a copy, if it has others."""
    there = [table.vectors[number] for number in found]
    others = zip(there, found.values(), strict=True)
    if any(one is not None and one is not vectors for one, vectors in others):
        table = _copied(table)
    for number, vectors in found.items():
        if table.vectors[number] is not vectors:
            table.vectors[number] = vectors
            kernels.refresh(table, number)
    return table


def _copied(table: ClusterTable) -> ClusterTable:
    return replace(
        table,
        blocks=list(table.blocks),
        full=list(table.full),
        vectors=list(table.vectors),
        kept=dict(table.kept),
        native=None,
    )


def _table_of(
    layout: tuple[Space, int], members: Sequence[_Member], *, before: ClusterTable | None
) -> ClusterTable:
    """Return the table of some segments; what stood in the one before is in it already."""
    space, dimension = layout
    centers = np.concatenate([*(one.centers for one in members), np.empty((0, dimension), "f4")])
    rows = np.concatenate([np.diff(one.begins) for one in members]).astype(np.int64)
    lengths = [len(one.begins) - 1 for one in members]
    partition = np.repeat(np.arange(len(members)), lengths)
    blocks = -(-rows // BLOCK_ROWS)
    firsts = np.cumsum(blocks) - blocks
    sizes = np.bincount(partition, weights=blocks, minlength=len(members)).astype(np.int64)
    alive: U32 = kernels.whole_blocks(rows)
    loaded = len(before.blocks) if before is not None else 0
    more: list[None] = [None] * (len(members) - loaded)
    return ClusterTable(
        space=space,
        dimension=dimension,
        centers=centers,
        center_norms=np.sqrt(np.einsum("ij,ij->i", centers, centers, dtype=np.float64)),
        rows=rows,
        partition=partition,
        first_row=np.concatenate([one.begins[:-1] for one in members]),
        first_block=firsts,
        local_block=firsts - (np.cumsum(sizes) - sizes)[partition],
        alive=alive,
        alive_counts=rows.copy(),
        row_base=np.array([one.row_base for one in members], dtype=np.int64),
        blocks=[*(before.blocks if before is not None else ()), *more],
        full=[*(before.full if before is not None else ()), *more],
        vectors=[*(before.vectors if before is not None else ()), *more],
        kept=dict(before.kept) if before is not None else {},
    )
