"""Samples: rows that training sees, as the tasks of `sample` leave them.

A task leaves ``sample/<batch>``, a container: of its share of the sample row numbers, vectors and,
where rows have keys, hashes of these; and the metadata of some of them, by which cells are cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import starmap
from typing import Any, Final

import numpy as np

from squash.arrays import F32, I64, U64, AnyArray
from squash.container import Buffer
from squash.index.sealed import open_sealed, seal
from squash.maintain.bulk import keys
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.records import read_part
from squash.maintain.learning import sampled_rows
from squash.model import Metadata
from squash.planning.building import places_in_pieces
from squash.storage import ObjectStore
from squash.values import dataclass

SAMPLE: Final = "sample"
"""The folder of samples."""
_KIND: Final = "build-sample"
_VERSION: Final = 1
_HASH_WORDS: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some rows of a build, by ascending number.

    Parameters
    ----------
    numbers:
        int64 [s], each row's number through all files.
    vectors:
        float32 [s, d].
    hashes:
        uint64 [s, 2], of keys; [0, 2] where rows have none of their own.
    cell_numbers, metadata:
        int64 [m] and as many: the rows by which cells are cut, and what they hold.

    """

    numbers: I64
    vectors: F32
    hashes: U64
    cell_numbers: I64
    metadata: Sequence[Metadata]

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """Which rows a build trains on: numbers of rows by piece, int64, ascending.

    `cells` are those among them that cells are cut by.
    """

    rows: dict[int, I64]
    cells: dict[int, I64]

    @property
    def drawn(self) -> int:
        """How many rows were drawn, bad ones and doubles among them."""
        return sum(len(rows) for rows in self.rows.values())


def draw(plan: Plan, seed: int) -> Draw:
    """Draw the rows that training sees: the same for every task, whatever its batch.

    Where all pieces are looked at, they are those that a build of the same rows in one go draws.
    """
    pieces = sorted(piece for batch in plan.sample_batches for piece in batch)
    rows = [plan.pieces[piece].rows for piece in pieces]
    chosen, cells = sampled_rows(sum(rows), min(plan.sample_rows, sum(rows)), seed)
    firsts = [plan.pieces[piece].first for piece in pieces]

    def by_piece(some: I64) -> dict[int, I64]:
        places = places_in_pieces(some, rows)
        return dict(zip(pieces, starmap(np.add, zip(places, firsts, strict=True)), strict=True))

    return Draw(by_piece(chosen), by_piece(cells))


def write_sample(store: ObjectStore, build: str, batch: int, sample: Sample) -> None:
    """Store a task's share of the sample; the same gives the same bytes."""
    metadata = json.dumps(list(sample.metadata), ensure_ascii=False, separators=(",", ":"))
    arrays: dict[str, AnyArray] = {
        "numbers": sample.numbers.astype("<i8"),
        "cell_numbers": sample.cell_numbers.astype("<i8"),
        "hashes": sample.hashes.astype("<u8"),
        "metadata": np.frombuffer(metadata.encode(), dtype=np.uint8),
        "vectors": sample.vectors,
    }
    header = {"build": build, "batch": batch}
    store.put(
        keys.part_key(build, SAMPLE, batch), seal(_KIND, _VERSION, header=header, arrays=arrays)
    )


def read_sample(store: ObjectStore, build: str, batch: int, *, dimension: int) -> Sample:
    """Return a task's share of the sample.

    Raises
    ------
    ChecksumError
        If it is missing, or differs from what was written.
    DataError
        If it is something else.

    """
    key = keys.part_key(build, SAMPLE, batch)
    return read_part(
        store,
        key,
        lambda data: _sample(data, key, build=build, batch=batch, dimension=dimension),
    )


def read_samples(store: ObjectStore, build: str, plan: Plan, *, dimension: int) -> Sample:
    """Return all of the sample, by ascending number, of each key its last row alone.

    Raises
    ------
    ChecksumError, DataError
        As `read_sample`.

    """
    parts = [
        read_sample(store, build, batch, dimension=dimension)
        for batch in range(len(plan.sample_batches))
    ]
    numbers = np.concatenate([np.empty(0, np.int64), *(part.numbers for part in parts)])
    order = np.argsort(numbers, kind="stable")
    if plan.keyed and parts:
        hashes = np.concatenate([part.hashes for part in parts])
        order = order[_last_of_each(hashes[order])]
    vectors = np.empty((len(order), dimension), dtype=np.float32)
    place = np.full(len(numbers), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    start = 0
    for part in parts:
        where = place[start : start + len(part)]
        vectors[where[where >= 0]] = part.vectors[where >= 0]
        start += len(part)
    numbers = numbers[order]
    cells = [
        (number, one)
        for part in parts
        for number, one in zip(part.cell_numbers.tolist(), part.metadata, strict=True)
    ]
    kept = set(numbers.tolist()) if plan.keyed else None
    cells = sorted((cell for cell in cells if kept is None or cell[0] in kept), key=_number)
    return Sample(
        numbers,
        vectors,
        np.empty((0, _HASH_WORDS), np.uint64),
        np.array([number for number, _ in cells], dtype=np.int64),
        [one for _, one in cells],
    )


def _number(cell: tuple[int, Any]) -> int:
    return cell[0]


def _last_of_each(hashes: U64) -> I64:
    """Return which rows are the last ones of their hashes: int64, ascending."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equal ones, the last is last
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1)
    return np.sort(order[last])


def _sample(data: Buffer, key: str, *, build: str, batch: int, dimension: int) -> Sample:
    container = open_sealed(data, kind=_KIND, versions=(_VERSION,), where=key)
    found = Sample(
        container.array_of("numbers", "<i8"),
        container.array_of("vectors", "<f4", 2),
        container.array_of("hashes", "<u8", 2),
        container.array_of("cell_numbers", "<i8"),
        json.loads(container.array_of("metadata", "<u1").tobytes()),
    )
    if (
        (container.header["build"], container.header["batch"]) != (build, batch)
        or found.vectors.shape != (len(found), dimension)
        or found.hashes.shape not in {(0, _HASH_WORDS), (len(found), _HASH_WORDS)}
        or len(found.cell_numbers) != len(found.metadata)
    ):
        raise ValueError("rows, vectors and metadata differ in number")
    return found
