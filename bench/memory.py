"""Bounded memory: an index from an array on disk that is larger than the memory it may use.

    python bench/memory.py --rows 3000000 --bound-mib 900

Writes clustered vectors to a `.npy` file in chunks, imports it as `squash import` does (the
memory-mapped importer, then optimize) in a child process, and fails if the child's anonymous
memory, which no file backs, ever exceeds the bound. The resident peak is told beside it: it counts
the pages of mapped files, which the system takes back when it wants them.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from argparse import Namespace
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

import squash
from report import command_line, conditions, number, table, write_section
from resident import AnonymousPeak, anonymous_bytes, resident_peak_bytes
from squash.cli.importers import ImportOptions, open_rows
from squash.limits import MIB, PARTITION_ROWS_TARGET
from squash.maintain import BuildOptions

NOTE: Final = """An index built from a memory-mapped array larger than the memory it may use; \
{partitions:,} partitions, {cpu_s:,.0f} s of CPU. Anonymous memory is what no file backs; pages of \
mapped files count in the resident peak, but the system takes them back when it wants them."""

_CHUNK_ROWS: Final = 50_000
_CLUSTERS: Final = 2_000
_SEED: Final = 3


@dataclass(frozen=True, slots=True)
class Spent:
    """What the child took."""

    start_bytes: int
    import_peak_bytes: int
    optimize_peak_bytes: int
    resident_peak_bytes: int
    cpu_s: float
    partitions: int

    @property
    def anonymous_peak_bytes(self) -> int:
        """The higher of the two peaks."""
        return max(self.import_peak_bytes, self.optimize_peak_bytes)


def write_vectors(path: Path, rows: int, dimension: int) -> None:
    """Write float32 [rows, dimension]: points about random centres, a chunk at a time."""
    generator = np.random.default_rng(_SEED)
    centers = generator.normal(size=(_CLUSTERS, dimension)).astype(np.float32)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dimension))
    for start in range(0, rows, _CHUNK_ROWS):
        count = min(_CHUNK_ROWS, rows - start)
        noise = generator.standard_normal((count, dimension), dtype=np.float32)
        array[start : start + count] = (
            centers[generator.integers(_CLUSTERS, size=count)] + 0.5 * noise
        )
    array.flush()


def import_file(path: Path, folder: Path, retained_bytes_max: int, options: BuildOptions) -> Spent:
    """Build an index from a file, and watch this process's memory."""
    dimension = np.load(path, mmap_mode="r").shape[1]
    start_bytes, start = anonymous_bytes(), time.process_time()
    database = squash.connect(str(folder), retained_bytes_max=retained_bytes_max)
    index = database.create_index("big", dimension=dimension, metric="euclidean")
    with AnonymousPeak() as importing:
        index.import_batches(
            open_rows(path, dimension=dimension, options=ImportOptions()).batches()
        )
    with AnonymousPeak() as optimizing:
        index.optimize(options=options, scratch=folder)
    return Spent(
        start_bytes,
        importing.peak_bytes,
        optimizing.peak_bytes,
        resident_peak_bytes(),
        time.process_time() - start,
        index.stats().partitions,
    )


def measured(arguments: Namespace) -> Spent:
    """Write the file, and import it in a child process."""
    options = BuildOptions(
        partition_rows_target=arguments.partition_rows,
        partition_rows_max=2 * arguments.partition_rows,
        sample_rows_max=arguments.sample_rows,
    )
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="squash-memory-") as folder,
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        path = Path(folder, "vectors.npy")
        write_vectors(path, arguments.rows, arguments.dimension)
        store = Path(folder, "store")
        store.mkdir()
        return pool.submit(import_file, path, store, arguments.retained_mib * MIB, options).result()


def section(spent: Spent, arguments: Namespace) -> str:
    """Return the document's section."""
    size = arguments.rows * arguments.dimension * 4
    lines = [
        (f"the file: {arguments.rows:,} x {arguments.dimension} float32", number(size / MIB)),
        ("stated bound of anonymous memory", number(arguments.bound_mib)),
        ("anonymous at the start (Python, NumPy)", number(spent.start_bytes / MIB)),
        ("anonymous peak, import", number(spent.import_peak_bytes / MIB)),
        ("anonymous peak, optimize", number(spent.optimize_peak_bytes / MIB)),
        ("resident peak, mapped files included", number(spent.resident_peak_bytes / MIB)),
    ]
    return "\n\n".join(
        [
            "## Memory of a build",
            conditions(command_line(), ("numpy",)),
            NOTE.format(partitions=spent.partitions, cpu_s=spent.cpu_s),
            table(("memory", "MiB"), lines),
        ]
    )


def main() -> None:
    """Measure, tell, and fail if the bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--bound-mib", type=int, default=900)
    parser.add_argument("--partition-rows", type=int, default=PARTITION_ROWS_TARGET)
    parser.add_argument("--sample-rows", type=int, default=BuildOptions().sample_rows_max)
    parser.add_argument("--retained-mib", type=int, default=256)
    parser.add_argument("--out", type=Path, help="write a section of this document")
    arguments = parser.parse_args()
    spent = measured(arguments)
    print(json.dumps({**asdict(spent), "anonymous_peak_bytes": spent.anonymous_peak_bytes}))
    if spent.anonymous_peak_bytes > arguments.bound_mib * MIB:
        sys.exit(
            f"error: anonymous memory reached {spent.anonymous_peak_bytes / MIB:,.0f} MiB, "
            f"the bound is {arguments.bound_mib:,} MiB"
        )
    if arguments.out is not None:
        write_section(arguments.out, "memory", section(spent, arguments))


if __name__ == "__main__":
    main()
