"""Runs: the rows of a piece, side by side by group; and the hashes of their keys, by range.

`assign` leaves a run for each piece, ``runs/<piece>``, and a directory for each of its batches;
each task of `assemble` reads its group's part of every run: see `parted`. A part holds, one after
the other: row numbers, int64 [n], ascending; clusters, int32 [n]; vectors, float32 [n, d]; and
documents, JSON: a list of blocks, each of keys and metadata, where null stands for keys that are
the rows' numbers, and the number of rows for metadata that are all empty.

Where rows have keys of their own, ``keys/<piece>`` holds a part for each range of hashes: uint64
[n, 3], both halves of the hash and the row's number, sorted. `keys` leaves ``replaced/<range>``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from squash.arrays import F32, I64, U64
from squash.container import Buffer
from squash.errors import ChecksumError
from squash.index.references import MALFORMED
from squash.index.sealed import open_sealed, seal
from squash.maintain.bulk import keys
from squash.maintain.bulk.parted import (
    Directory,
    Part,
    damaged,
    pack_directory,
    pack_parts,
    read_parts,
)
from squash.maintain.bulk.plan import Plan
from squash.model import Metadata, RowBatch
from squash.planning.building import key_range_begins
from squash.segment.keys import hash_keys
from squash.storage import ObjectStore

RUNS: Final = "runs"
KEYS: Final = "keys"
REPLACED: Final = "replaced"
_RUN: Final = "build-run"
_HASHES: Final = "build-keys"
_ROWS_REPLACED: Final = "build-replaced"
_DIRECTORIES: Final = "directories"
_VERSION: Final = 1
_HASH_WORDS: Final = 3


class RunRows(NamedTuple):
    """Rows of one group out of one run, in the order of their numbers."""

    numbers: I64
    """int64 [n]: each row's number through all files."""
    clusters: I64
    """int64 [n]"""
    rows: RowBatch


class Run:
    """Gathers the rows of a piece.

    Its vectors are held as they are, its documents as JSON, which is a fraction of what they take
    in Python.

    Parameters
    ----------
    rows_max:
        How many rows it can take.
    dimension:
        d.
    groups:
        How many groups there are.
    keyed:
        Whether rows have keys of their own.

    """

    def __init__(self, rows_max: int, *, dimension: int, groups: int, keyed: bool) -> None:
        self._vectors: F32 = np.empty((rows_max, dimension), dtype="<f4")
        self._numbers: I64 = np.empty(rows_max, dtype="<i8")
        self._clusters = np.empty(rows_max, dtype="<i4")
        self._groups: I64 = np.empty(rows_max, dtype=np.int64)
        self._blocks: list[list[bytes]] = [[] for _ in range(groups)]
        self._hashes: list[U64] = []
        self._keyed = keyed
        self.rows = 0

    def add(self, rows: RowBatch, *, numbers: I64, clusters: I64, groups: I64) -> None:
        """Take rows, in the order of their numbers, with where each of them goes."""
        count = len(rows)
        here = slice(self.rows, self.rows + count)
        self._vectors[here] = rows.vectors
        self._numbers[here] = numbers
        self._clusters[here] = clusters
        self._groups[here] = groups
        self.rows += count
        if self._keyed:
            self._hashes.append(hash_keys(rows.keys))
        order = np.argsort(groups, kind="stable")
        begins = np.searchsorted(groups[order], np.arange(len(self._blocks) + 1))
        for number in np.flatnonzero(np.diff(begins)).tolist():
            mine = order[begins[number] : begins[number + 1]].tolist()
            self._blocks[number].append(self._block(rows, mine))

    def run_object(self, build: str, piece: int) -> tuple[bytearray, I64]:
        """Return the object ``runs/<piece>``, and what its directory says; the rows stay."""
        order = np.argsort(self._groups[: self.rows], kind="stable")
        begins = np.searchsorted(self._groups[order], np.arange(len(self._blocks) + 1)).tolist()
        parts: list[tuple[int, Sequence[Buffer]]] = []
        for (first, last), blocks in zip(pairwise(begins), self._blocks, strict=True):
            parts.append((last - first, self._part(order[first:last], blocks) if blocks else ()))
        facts = {**_facts(build, piece), "dimension": self._vectors.shape[1]}
        return pack_parts(_RUN, facts, parts)

    def keys_object(self, build: str, piece: int, *, ranges: int) -> tuple[bytearray, I64]:
        """Return the object ``keys/<piece>``, and what its directory says."""
        table = np.empty((self.rows, _HASH_WORDS), dtype="<u8")
        if self._hashes:
            table[:, :2] = np.concatenate(self._hashes)
        table[:, 2] = self._numbers[: self.rows]
        # Numbers ascend: of equal hashes, a stable sort leaves the latest row last.
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        begins = key_range_begins(np.ascontiguousarray(table[:, 0]), ranges).tolist()
        parts: list[tuple[int, Sequence[Buffer]]] = [
            (last - first, (_bytes_of(table[first:last]),) if last > first else ())
            for first, last in pairwise(begins)
        ]
        return pack_parts(_HASHES, _facts(build, piece), parts)

    def _part(self, rows: I64, blocks: list[bytes]) -> Sequence[Buffer]:
        arrays = (self._numbers[rows], self._clusters[rows], self._vectors[rows])
        return (*map(_bytes_of, arrays), b"[" + b",".join(blocks) + b"]")

    def _block(self, rows: RowBatch, places: list[int]) -> bytes:
        mine = [rows.keys[row] for row in places] if self._keyed else None
        metadata = [rows.metadata[row] for row in places]
        block = [mine, metadata if any(metadata) else len(places)]
        return json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode()


class Runs:
    """Writes what a batch of `assign` leaves, piece by piece.

    Parameters
    ----------
    store, build, plan:
        The build.
    batch:
        Which batch; its directories are written by `close`.

    """

    def __init__(self, store: ObjectStore, build: str, plan: Plan, batch: int) -> None:
        self._store = store
        self._build = build
        self._plan = plan
        self._batch = batch
        self._runs: list[I64] = []
        self._hashes: list[I64] = []

    def write(self, piece: int, run: Run) -> None:
        """Store the run of the batch's next piece, and the hashes of its keys."""
        if self._plan.keyed:
            data, lines = run.keys_object(self._build, piece, ranges=self._plan.key_ranges)
            self._store.put(keys.part_key(self._build, KEYS, piece), data)
            self._hashes.append(lines)
        data, lines = run.run_object(self._build, piece)
        self._store.put(keys.part_key(self._build, RUNS, piece), data)
        self._runs.append(lines)

    def close(self) -> None:
        """Store the directories of what was written."""
        for name, kind, lines in ((RUNS, _RUN, self._runs), (KEYS, _HASHES, self._hashes)):
            if lines:
                place = _directory(self._build, self._plan, name, self._batch)
                self._store.put(place.key, pack_directory(kind, place.about, lines))


def read_group(
    store: ObjectStore, build: str, plan: Plan, group: int, *, dimension: int
) -> Iterator[RunRows]:
    """Yield what the runs of all pieces hold of a group, in the order of pieces.

    A request for each batch of `assign`, and one for each run that holds any; some are read ahead,
    as far as 32 MiB hold them.

    Parameters
    ----------
    store, build, plan:
        The build.
    group:
        Which.
    dimension:
        d.

    Raises
    ------
    ChecksumError
        If a run is missing, or differs from what was written.

    """
    for part in read_parts(store, _directories(build, plan, RUNS), group):
        yield _run_rows(part, dimension)


def read_hashes(store: ObjectStore, build: str, plan: Plan, number: int) -> Iterator[U64]:
    """Yield what all pieces hold of a range of hashes, in the order of pieces.

    Returns
    -------
    uint64 [n, 3] of each piece that holds any: the hash's halves and the row's number, ascending.

    Raises
    ------
    ChecksumError
        As `read_group`.

    """
    for part in read_parts(store, _directories(build, plan, KEYS), number):
        if len(part.data) != part.rows * _HASH_WORDS * 8:
            raise damaged(part.key, "has a part of another length than its rows take")
        yield np.frombuffer(part.data, dtype="<u8").reshape(-1, _HASH_WORDS)


def replaced_object(numbers: I64) -> bytes:
    """Return the object ``replaced/<range>``: int64 [m], ascending, the rows that give way."""
    return seal(_ROWS_REPLACED, _VERSION, header={}, arrays={"rows": numbers.astype("<i8")})


def read_replaced(store: ObjectStore, build: str, plan: Plan) -> I64:
    """Return the numbers of all rows that a later row of the same key replaced.

    Returns
    -------
    int64 [m], ascending; empty where rows have no keys of their own.

    Raises
    ------
    ChecksumError
        If one of the lists is missing, or differs from what was written.

    """
    found = [np.empty(0, np.int64)]
    for number in range(plan.key_ranges if plan.keyed else 0):
        key = keys.part_key(build, REPLACED, number)
        data = store.get(key)
        if data is None:
            raise damaged(key, "is missing")
        try:
            container = open_sealed(data, kind=_ROWS_REPLACED, versions=(_VERSION,), where=key)
        except ChecksumError as error:
            raise damaged(key, "is not as it was written: its checksum differs") from error
        found.append(container.array_of("rows", "<i8"))
    return np.sort(np.concatenate(found))


def _run_rows(part: Part, dimension: int) -> RunRows:
    count, data = part.rows, memoryview(part.data)
    ends = np.cumsum([8 * count, 4 * count, 4 * dimension * count]).tolist()
    if len(data) < ends[-1]:
        raise damaged(part.key, "has a part shorter than its rows take")
    numbers = np.frombuffer(data[: ends[0]], dtype="<i8")
    clusters = np.frombuffer(data[ends[0] : ends[1]], dtype="<i4").astype(np.int64)
    vectors = np.frombuffer(data[ends[1] : ends[2]], dtype="<f4").reshape(count, dimension)
    try:
        names, metadata = _documents(bytes(data[ends[2] :]), numbers)
    except MALFORMED as error:
        raise damaged(part.key, f"has documents that cannot be read ({error!r})") from error
    if len(names) != count or len(metadata) != count:
        raise damaged(part.key, "has more or fewer documents than rows")
    return RunRows(numbers, clusters, RowBatch(names, vectors, metadata))


def _documents(text: bytes, numbers: I64) -> tuple[list[str], list[Metadata]]:
    names: list[str] = []
    metadata: list[Metadata] = []
    for some_names, some_metadata in json.loads(text):
        empty = isinstance(some_metadata, int)
        at = len(metadata)
        metadata += [{} for _ in range(some_metadata)] if empty else some_metadata
        if some_names is None:
            some_names = map(str, numbers[at : len(metadata)].tolist())  # noqa: PLW2901
        names += some_names
    return names, metadata


def _directories(build: str, plan: Plan, name: str) -> list[Directory]:
    batches = range(len(plan.assign_batches) - 1)
    return [_directory(build, plan, name, batch) for batch in batches]


def _directory(build: str, plan: Plan, name: str, batch: int) -> Directory:
    pieces = range(*plan.assign_batches[batch : batch + 2])
    return Directory(
        key=keys.part_key(build, f"{name}/{_DIRECTORIES}", batch),
        about=f"{build}/{name}/{batch}",
        objects=tuple(keys.part_key(build, name, piece) for piece in pieces),
    )


def _facts(build: str, piece: int) -> dict[str, Any]:
    return {"build": build, "piece": piece}


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")
