"""Building a Squash index in a process of its own, so that its CPU time and memory are its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

import squash
from data import Dataset, load
from resident import AnonymousPeak, resident_peak_bytes
from squash.model import RowBatch

UNIFORM: Final = "u"
_BATCH_ROWS: Final = 16_384
_SEED: Final = 11


@dataclass(frozen=True, slots=True)
class BuildCost:
    """What a build took; resident pages of the mapped data count in `resident_bytes` alone."""

    import_cpu_s: float
    optimize_cpu_s: float
    anonymous_bytes: int
    resident_bytes: int


def uniform(rows: int) -> NDArray[np.float64]:
    """Return the filter's column: a permutation of 0, 1/n, 2/n, ..: a share s lies below s."""
    return np.random.default_rng(_SEED).permutation(rows) / rows


def build(name: str, limit: int | None, folder: Path) -> BuildCost:
    """Build the index `name` in a folder, in a child process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_build, name, limit, folder).result()


def _build(name: str, limit: int | None, folder: Path) -> BuildCost:
    data = load(name, limit=limit)
    with AnonymousPeak() as memory:
        start = time.process_time()
        index = squash.connect(str(folder)).create_index(
            name, dimension=data.vectors.shape[1], metric=data.metric
        )
        index.import_batches(_batches(data))
        imported = time.process_time()
        index.optimize()
        end = time.process_time()
    return BuildCost(imported - start, end - imported, memory.peak_bytes, resident_peak_bytes())


def _batches(data: Dataset) -> Iterator[RowBatch]:
    """Yield the rows with row numbers for keys, so that answers name rows."""
    column = uniform(len(data.vectors))
    for start in range(0, len(data.vectors), _BATCH_ROWS):
        stop = min(start + _BATCH_ROWS, len(data.vectors))
        metadata = [
            {**known, UNIFORM: value}
            for known, value in zip(
                data.metadata(start, stop), column[start:stop].tolist(), strict=True
            )
        ]
        yield RowBatch(
            [str(row) for row in range(start, stop)],
            np.array(data.vectors[start:stop], dtype=np.float32),
            metadata,
        )
