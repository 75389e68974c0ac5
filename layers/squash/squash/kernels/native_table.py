"""A cluster table as the native kernels see it: addresses, taken once and kept beside it.

Arrays of a partition may be put in at any time, followed by `refresh`. None may be taken out or
replaced while a query of this table runs: what a query reads must outlive it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, U8, U64, AnyArray, by_lines
from squash.errors import InternalError
from squash.kernels.binding import BoundProgram, RangesAlike
from squash.kernels.native import Native, active, address, aligned_address, checked_address
from squash.kernels.rotations import NativeRotation, Rotation
from squash.kernels.sampled import Sample
from squash.kernels.tables import ClusterTable, FilterProgram, RowList

_SPACES: Final = {"l2": 0, "dot": 1}
# What `coarsen` makes of the centers: so many side by side, and so many dimensions of each.
_TOGETHER: Final = 16
_QUAD: Final = 4
_ABOUT_BYTES: Final = 16
# Fewer centers are as soon measured as bounded: a walk orders them all at once.
_COARSE_CLUSTERS_MIN: Final = 256


class _Table(ctypes.Structure):
    """`sq_table` of squash_kernels.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("clusters", "dimension", "partitions", "space")),
        ("vector_dimension", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "centers",
                "center_norms",
                "spreads",
                "rows",
                "partition",
                "first_row",
                "first_block",
                "local_block",
                "alive",
                "alive_counts",
                "row_base",
                "blocks",
                "full",
                "vectors",
                "coarse",
            )
        ),
    )


class Walk(ctypes.Structure):
    """`sq_walk` of squash_kernels.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                "program",
                "sure_counts",
                "possible_counts",
                "sure",
                "possible",
                "inverse_need",
                "adverse",
            )
        ),
        ("k", ctypes.c_int64),
        *(
            (name, ctypes.c_double)
            for name in ("overall", "prior_rows", "thinning", "need_against")
        ),
        *((name, ctypes.c_int64) for name in ("anchor_rows", "exponent")),
    )


class _List(ctypes.Structure):
    """`sq_list` of squash_kernels.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("columns", "slots", "begins", "numbered"))


class Lists(ctypes.Structure):
    """`sq_lists` of squash_kernels.h, and what it points to."""

    _fields_ = (
        ("count", ctypes.c_int64),
        ("lists", ctypes.c_void_p),
        ("owners", ctypes.c_void_p),
    )
    kept: tuple[Any, ...]


class Workspace:
    """Room for what one call at a time writes; addresses beside the arrays."""

    __slots__ = (
        "_cells",
        "_heap",
        "_scratch",
        "_stack",
        "heap_at",
        "scalars",
        "scalars_at",
        "sums",
        "sums_at",
        "taken",
        "taken_at",
        "walk",
        "walk_at",
    )

    def __init__(self, clusters: int) -> None:
        self.taken = np.empty((3, max(1, clusters)), dtype=np.int64)
        self.taken_at = address(self.taken)
        self._heap = np.empty(max(1, clusters), dtype=np.uint64)
        self.heap_at = address(self._heap)
        self.sums = (ctypes.c_int64 * 3)()
        self.sums_at = ctypes.addressof(self.sums)
        self.scalars = (ctypes.c_double * 3)()
        self.scalars_at = ctypes.addressof(self.scalars)
        self.walk = Walk()
        self.walk_at = ctypes.addressof(self.walk)
        self._cells: tuple[F64, F64, int, int] | None = None
        self._stack = _Room()
        self._scratch = _Room()

    def walk_cells(self, inverse_need: F64, adverse: F64) -> tuple[int, int]:
        """Return the addresses of a walk's tables by cell; the last ones are kept."""
        kept = self._cells
        if kept is None or kept[0] is not inverse_need or kept[1] is not adverse:
            at = aligned_address(inverse_need, np.float64, "inverse_need")
            kept = (inverse_need, adverse, at, aligned_address(adverse, np.float64, "adverse"))
            self._cells = kept
        return kept[2], kept[3]

    def stack(self, depth: int) -> int:
        """Return the address of room for `depth` pairs of bitmaps."""
        return self._stack.of(depth * STACK_WORDS)

    def scratch(self, count: int) -> int:
        """Return the address of room for `count` float64."""
        return self._scratch.of(count)


class _Room:
    """Memory that grows to what is asked for."""

    __slots__ = ("_at", "_words")

    def __init__(self) -> None:
        self._words = np.empty(64, dtype=np.uint64)
        self._at = address(self._words)

    def of(self, words: int) -> int:
        """Return the address of room for this many 64-bit words."""
        if len(self._words) < words:
            self._words = np.empty(words, dtype=np.uint64)
            self._at = address(self._words)
        return self._at


STACK_WORDS: Final = 32
"""SQ_STACK_WORDS of squash_kernels.h: uint64 of one pair of bitmaps on a filter's stack."""


class NativeTable:
    """Addresses of a table's arrays: `at` is that of its `sq_table`."""

    __slots__ = (
        "_attributes",
        "_by_partition",
        "_coarse",
        "_lists",
        "_rotation",
        "_sample",
        "_spaces",
        "_structure",
        "at",
        "partitions",
        "ranges",
        "rooms",
    )

    def __init__(self, table: ClusterTable) -> None:
        self.partitions = len(table.blocks)
        self._by_partition: dict[tuple[str, str], U64] = {}
        self._attributes: dict[str, tuple[int, int, int, int, int]] = {}
        self.ranges: dict[tuple[str, ...], RangesAlike] = {}
        """By attributes, what programs that ask for ranges of these have in common."""
        self._sample: Sample | None = None
        self._spaces: list[Workspace] = []
        self.rooms: list[Any] = []
        """A pool: what searches work in, one at a time."""
        self._rotation: NativeRotation | None = None
        self._coarse: U8 | None = None
        self._lists = Lists()
        clusters, dimension = table.centers.shape
        self._structure = _Table(
            clusters=clusters,
            dimension=dimension,
            partitions=self.partitions,
            space=_SPACES[table.space],
            centers=aligned_address(table.centers, np.float32, "centers"),
            center_norms=aligned_address(table.center_norms, np.float64, "center_norms"),
            spreads=(
                None
                if table.spreads is None
                else aligned_address(table.spreads, np.float32, "spreads")
            ),
            **{
                name: aligned_address(getattr(table, name), np.int64, name)
                for name in (
                    "rows",
                    "partition",
                    "first_row",
                    "first_block",
                    "local_block",
                    "alive_counts",
                    "row_base",
                )
            },
            alive=aligned_address(table.alive, np.uint32, "alive"),
            **{name: address(self.addresses(name, "")) for name in ("blocks", "full", "vectors")},
        )
        self.at = ctypes.addressof(self._structure)
        for partition in range(self.partitions):
            self.refresh(table, partition)

    @property
    def vector_dimension(self) -> int:
        """d, or 0 while no partition has vectors."""
        dimension: int = self._structure.vector_dimension
        return dimension

    def coarsen(self, chosen: Native) -> None:
        """Make bounds of the distances to centers, which searches then measure fewer of.

        Tables of few clusters stay as they are.
        """
        if self._coarse is None:
            with _LOCK:
                self._coarsen(chosen)

    def _coarsen(self, chosen: Native) -> None:
        if self._coarse is not None:
            return
        structure = self._structure
        clusters, dimension = structure.clusters, structure.dimension
        some = clusters if clusters >= _COARSE_CLUSTERS_MIN else 0
        bytes_each = _QUAD * -(-dimension // _QUAD) + _ABOUT_BYTES
        coarse = by_lines(-(-some // _TOGETHER) * _TOGETHER * bytes_each, np.uint8)
        levels = np.empty(dimension, dtype=np.int8)
        if some and chosen.coarsen(self.at, address(coarse), address(levels)):
            structure.coarse = address(coarse)
        self._coarse = coarse

    def addresses(self, kind: str, name: str) -> U64:
        """Return uint64 [2 p], the addresses of an array by partition; 0 where there is none.

        The second half are those of the sample.
        """
        found = self._by_partition.get((kind, name))
        if found is None:
            found = np.zeros(max(1, 2 * self.partitions), dtype=np.uint64)
            found = self._by_partition.setdefault((kind, name), found)
        return found

    def attribute(self, name: str) -> tuple[int, int, int, int, int]:
        """Return where the addresses of an attribute's arrays lie, as `sq_leaf` has them.

        Columns, signatures, numbers, the counts of these, and ids.
        """
        found = self._attributes.get(name)
        if found is None:
            columns, signatures, numbers, counts, ids = (
                address(self.addresses(kind, name))
                for kind in ("columns", "signatures", "numbers", "number_counts", "ids")
            )
            found = self._attributes[name] = (columns, signatures, numbers, counts, ids)
        return found

    def refresh(self, table: ClusterTable, partition: int) -> None:
        """Take the addresses of one partition's arrays again, since they have changed.

        Others may put in columns at the same time.
        """
        vectors = table.vectors[partition]
        if vectors is not None:
            self._structure.vector_dimension = vectors.shape[1]
        self._set("blocks", "", partition, table.blocks[partition], np.uint8)
        self._set("full", "", partition, table.full[partition], np.uint8)
        self._set("vectors", "", partition, vectors, np.float32)
        for name, columns in list(table.columns.items()):
            self._set("columns", name, partition, columns[partition], np.uint8)
        for name, signatures in list(table.signatures.items()):
            self._set("signatures", name, partition, signatures[partition], np.uint64)
        for name, values in list(table.values.items()):
            found = values[partition]
            numbers, ids = (None, None) if found is None else found
            self._set("numbers", name, partition, numbers, np.float64)
            self._set("ids", name, partition, ids, np.uint32)
            self.addresses("number_counts", name)[partition] = (
                0 if numbers is None else len(numbers)
            )

    def bind(self, program: FilterProgram) -> BoundProgram:
        """Return a program bound to this table; it keeps that for when it is asked again."""
        kept = program.native
        if isinstance(kept, BoundProgram) and kept.table is self:
            return kept
        chosen = active()
        if chosen is None:
            raise InternalError("a filter was to be bound where no native kernels serve")
        program.native = bound = BoundProgram.of(chosen, self, program)
        return bound

    def sample(self, table: ClusterTable, attributes: Iterable[str], every: int) -> Sample:
        """Return the sample of this table's rows, with some attributes of them.

        All who ask for it name the same `every`.
        """
        sample = self._sample
        if sample is None or sample.every != every:
            sample = self._new_sample(table, every)
        for attribute in attributes:
            if not sample.holds(attribute):
                with _LOCK:
                    sample.fill(self, table, attribute)
        return sample

    def _new_sample(self, table: ClusterTable, every: int) -> Sample:
        with _LOCK:
            sample = self._sample
            if sample is None or sample.every != every:
                sample = Sample(table, every)
                sample.hold(_Table(partitions=2 * self.partitions, **sample.structure))
                self._sample = sample
            return sample

    def lists(self, listed: Mapping[str, RowList]) -> int:
        """Return the address of the lists of a table's rows, which only ever become more."""
        lists = self._lists
        if lists.count != len(listed):
            given = list(listed.items())
            array = (_List * len(given))(
                *(
                    _List(
                        address(self.addresses("columns", name)),
                        aligned_address(one.slots, np.uint32, "slots"),
                        aligned_address(one.begins, np.int64, "begins"),
                        aligned_address(one.numbered, np.int64, "numbered"),
                    )
                    for name, one in given
                )
            )
            owners = aligned_address(given[0][1].owners, np.uint32, "owners")
            # A new one: another query may be reading the last.
            lists = Lists(len(given), ctypes.addressof(array), owners)
            lists.kept = (array, given, self._lists)
            self._lists = lists
        return ctypes.addressof(lists)

    def rotation(self, rotation: Rotation, mean: F32) -> NativeRotation:
        """Return a codec's rotation and mean as searches take them; the last ones are kept."""
        kept = self._rotation
        if kept is None or kept.rotation is not rotation or kept.mean is not mean:
            kept = self._rotation = NativeRotation(rotation, mean, self._structure.dimension)
        return kept

    def take_workspace(self) -> Workspace:
        """Take a workspace out of the pool, or make one; `give_workspace` puts it back."""
        try:
            return self._spaces.pop()
        except IndexError:
            return Workspace(self._structure.clusters)

    def give_workspace(self, workspace: Workspace) -> None:
        """Put a workspace back for other calls."""
        self._spaces.append(workspace)

    def _set(
        self, kind: str, name: str, partition: int, array: AnyArray | None, dtype: Any
    ) -> None:
        at = 0 if array is None else checked_address(array, dtype, f"{kind} {name}")
        known = self.addresses(kind, name)
        if name and self._sample is not None and known[partition] != at:
            self._sample.forget(name)
        known[partition] = at


# Between making a table's addresses and putting in arrays, so that neither misses the other.
_LOCK: Final = threading.Lock()


def native_table(table: ClusterTable) -> NativeTable:
    """Return what the native kernels keep beside a table, made when it is first asked for."""
    found = table.native
    if isinstance(found, NativeTable):
        return found
    with _LOCK:
        found = table.native
        if not isinstance(found, NativeTable):
            found = table.native = NativeTable(table)
        return found


def refresh(table: ClusterTable, partition: int) -> None:
    """Say that arrays of a partition were put in."""
    with _LOCK:
        if isinstance(table.native, NativeTable):
            table.native.refresh(table, partition)
