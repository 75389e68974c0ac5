"""A cluster table as the native kernels see it: addresses, taken once and kept beside it.

Arrays of a partition may be put in at any time, followed by `refresh`. None may be taken out or
replaced while a query of this table runs: what a query reads must outlive it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, U8, U64, AnyArray
from squash.errors import InternalError
from squash.kernels.masks import NO, YES
from squash.kernels.native import address
from squash.kernels.tables import AND, LEAF, NOT, OR, ClusterTable, FilterProgram

_SPACES: Final = {"l2": 0, "dot": 1}
_PROGRAMS_MAX: Final = 64


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
            )
        ),
    )


class _Leaf(ctypes.Structure):
    """`sq_leaf` of squash_kernels.h."""

    _fields_ = (
        ("column", ctypes.c_void_p),
        ("signatures", ctypes.c_void_p),
        ("truth", ctypes.c_void_p),
        ("sets", ctypes.c_void_p),
        ("list_code", ctypes.c_int64),
        ("sure_bits", ctypes.c_uint64),
        ("possible_bits", ctypes.c_uint64),
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
        *((name, ctypes.c_double) for name in ("overall", "prior_rows", "thinning")),
    )


class _Program(ctypes.Structure):
    """`sq_program` of squash_kernels.h."""

    _fields_ = (
        ("operations", ctypes.c_int64),
        ("code", ctypes.c_void_p),
        ("leaves", ctypes.c_void_p),
        ("depth", ctypes.c_int64),
    )


class BoundProgram:
    """A filter program bound to a table: `at` is the address of its `sq_program`."""

    __slots__ = ("_kept", "at", "depth")

    def __init__(self, table: NativeTable, program: FilterProgram) -> None:
        self.depth = _checked_depth(program)
        operations = np.ascontiguousarray(program.operations, dtype=np.int32)
        truths = np.zeros((max(1, len(program.leaves)), 256), dtype=np.uint8)
        sets = np.zeros((max(1, len(program.leaves)), 64), dtype=np.uint8)
        leaves = (_Leaf * max(1, len(program.leaves)))()
        for i, leaf in enumerate(program.leaves):
            truths[i] = leaf.truth
            sets[i] = _sets(leaf.truth)
            leaves[i] = _Leaf(
                address(table.addresses("columns", leaf.attribute)),
                address(table.addresses("signatures", leaf.attribute)),
                address(truths) + 256 * i,
                address(sets) + 64 * i,
                leaf.list_code,
                leaf.sure_bits,
                leaf.possible_bits,
            )
        structure = _Program(
            len(operations), address(operations), ctypes.addressof(leaves), self.depth
        )
        self.at = ctypes.addressof(structure)
        self._kept = (program, operations, truths, sets, leaves, structure)


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
            at = _aligned(inverse_need, np.float64, "inverse_need")
            kept = (inverse_need, adverse, at, _aligned(adverse, np.float64, "adverse"))
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
        "_by_partition",
        "_programs",
        "_rotation",
        "_spaces",
        "_structure",
        "at",
        "partitions",
    )

    def __init__(self, table: ClusterTable) -> None:
        self.partitions = len(table.blocks)
        self._by_partition: dict[tuple[str, str], U64] = {}
        self._programs: dict[int, tuple[FilterProgram, BoundProgram]] = {}
        self._spaces: list[Workspace] = []
        self._rotation: tuple[F32, F32, int, int] | None = None
        clusters, dimension = table.centers.shape
        self._structure = _Table(
            clusters=clusters,
            dimension=dimension,
            partitions=self.partitions,
            space=_SPACES[table.space],
            centers=_aligned(table.centers, np.float32, "centers"),
            center_norms=_aligned(table.center_norms, np.float64, "center_norms"),
            **{
                name: _aligned(getattr(table, name), np.int64, name)
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
            alive=_aligned(table.alive, np.uint32, "alive"),
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

    def addresses(self, kind: str, name: str) -> U64:
        """Return uint64 [p], the addresses of an array by partition; 0 where there is none."""
        found = self._by_partition.get((kind, name))
        if found is None:
            found = np.zeros(max(1, self.partitions), dtype=np.uint64)
            found = self._by_partition.setdefault((kind, name), found)
        return found

    def refresh(self, table: ClusterTable, partition: int) -> None:
        """Take the addresses of one partition's arrays again, since they have changed."""
        vectors = table.vectors[partition]
        if vectors is not None:
            self._structure.vector_dimension = vectors.shape[1]
        self._set("blocks", "", partition, table.blocks[partition], np.uint8)
        self._set("full", "", partition, table.full[partition], np.uint8)
        self._set("vectors", "", partition, vectors, np.float32)
        for name, columns in table.columns.items():
            self._set("columns", name, partition, columns[partition], np.uint8)
        for name, signatures in table.signatures.items():
            self._set("signatures", name, partition, signatures[partition], np.uint64)

    def bind(self, program: FilterProgram) -> BoundProgram:
        """Return a program bound to this table; the last ones are kept."""
        kept = self._programs.get(id(program))
        if kept is not None:
            return kept[1]
        if len(self._programs) >= _PROGRAMS_MAX:
            self._programs.clear()
        bound = BoundProgram(self, program)
        # The program is kept too, so that its id stays its own.
        self._programs[id(program)] = (program, bound)
        return bound

    def rotation(self, axes: F32, mean: F32) -> tuple[int, int]:
        """Return the addresses of a codec's axes and mean; the last ones are kept."""
        kept = self._rotation
        if kept is None or kept[0] is not axes or kept[1] is not mean:
            axes_at = _aligned(axes, np.float32, "axes")
            kept = self._rotation = (axes, mean, axes_at, _aligned(mean, np.float32, "mean"))
        return kept[2], kept[3]

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
        at = 0 if array is None else _address_of(array, dtype, f"{kind} {name}")
        self.addresses(kind, name)[partition] = at


def native_table(table: ClusterTable) -> NativeTable:
    """Return what the native kernels keep beside a table, made when it is first asked for."""
    found = table.native
    if not isinstance(found, NativeTable):
        found = table.native = NativeTable(table)
    return found


def refresh(table: ClusterTable, partition: int) -> None:
    """Say that arrays of a partition were put in."""
    if isinstance(table.native, NativeTable):
        table.native.refresh(table, partition)


def _aligned(array: AnyArray, dtype: Any, name: str) -> int:
    if not array.flags.aligned:
        raise InternalError(f"the native kernels want {name} aligned to its {array.dtype}")
    return _address_of(array, dtype, name)


def _address_of(array: AnyArray, dtype: Any, name: str) -> int:
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise InternalError(
            f"the native kernels want {name} as C-contiguous {np.dtype(dtype)}, not {array.dtype}"
        )
    return address(array)


def _sets(truth: U8) -> U8:
    """Return uint8 [64], the codes of sure and possible truth as byte shuffles look them up."""
    members = np.stack([truth == YES, truth != NO]).reshape(2, 2, 8, 16)
    return np.packbits(members, axis=2, bitorder="little").reshape(-1)


def _checked_depth(program: FilterProgram) -> int:
    """Return how many pairs of bitmaps a program has on its stack at most.

    Raises
    ------
    InternalError
        If it is not a postfix list that leaves one pair.

    """
    depth = deepest = 0
    operations: Sequence[Sequence[int]] = program.operations.tolist()
    for operation, number in operations:
        wanted = {LEAF: 0, NOT: 1, AND: 2, OR: 2}.get(operation)
        known = wanted is not None and (operation != LEAF or 0 <= number < len(program.leaves))
        if wanted is None or not known or depth < wanted:
            raise InternalError(f"filter program: operation {operation} has no operands")
        depth += 1 - wanted
        deepest = max(deepest, depth)
    if depth != 1:
        raise InternalError(f"filter program: it leaves {depth} results, not one")
    return deepest
