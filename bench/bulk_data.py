"""Input files for builds to be measured: real data sets, or made ones of any dimension."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data import load
from made import Made

F32 = NDArray[np.float32]
CHUNK_ROWS: Final = 16_384
QUERIES: Final = 200
_MADE: Final = "made-"
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Input:
    """Rows to build from, and queries."""

    name: str
    rows: int
    dimension: int
    metric: str
    queries: F32

    def chunks(self, start: int, stop: int) -> Iterator[F32]:
        """Yield float32 [n, d] of rows start to stop, some thousands at a time."""
        source = None if self.name.startswith(_MADE) else load(self.name, limit=self.rows).vectors
        made = Made(self.dimension) if source is None else None
        for first in range(start, stop, CHUNK_ROWS):
            last = min(first + CHUNK_ROWS, stop)
            if made is not None:
                yield made.draw(last - first, first)
            else:
                yield np.ascontiguousarray(source[first:last], np.float32)


def opened(text: str) -> Input:
    """Open ``NAME``, ``NAME:ROWS`` or ``made-D:ROWS``."""
    name, _, limit = text.partition(":")
    rows = int(limit) if limit else None
    if name.startswith(_MADE):
        dimension = int(name.removeprefix(_MADE))
        queries = Made(dimension).draw(QUERIES, 1 << 40)
        return Input(name, rows or 100_000, dimension, "euclidean", queries)
    data = load(name, limit=rows)
    rows, dimension = data.vectors.shape
    return Input(name, rows, dimension, data.metric, np.array(data.queries[:QUERIES], np.float32))


def write_files(one: Input, folder: Path, *, files: int, parquet: bool) -> None:
    """Write the rows into so many files of about a size; Parquet with keys and a number `u`."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = np.linspace(0, one.rows, files + 1).round().astype(int).tolist()
    for number, (start, stop) in enumerate(pairwise(edges)):
        if parquet:
            _write_parquet(one, folder / f"{number:05d}.parquet", start, stop)
        else:
            _write_npy(one, folder / f"{number:05d}.npy", start, stop)


def _write_npy(one: Input, path: Path, start: int, stop: int) -> None:
    shape = (stop - start, one.dimension)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in one.chunks(start, stop):
            file.write(np.ascontiguousarray(chunk, "<f4").tobytes())


def _write_parquet(one: Input, path: Path, start: int, stop: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), one.dimension)
    schema = pa.schema([("key", pa.string()), ("vector", vector), ("u", pa.float64())])
    numbers = np.random.default_rng((_SEED, start)).random(stop - start)
    at = start
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for chunk in one.chunks(start, stop):
            keys = [f"row-{row}" for row in range(at, at + len(chunk))]
            flat = pa.FixedSizeListArray.from_arrays(pa.array(chunk.ravel()), one.dimension)
            u = pa.array(numbers[at - start : at - start + len(chunk)])
            arrays: list[Any] = [pa.array(keys), flat, u]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            at += len(chunk)
