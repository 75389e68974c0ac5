"""The build: from rows in any order to balanced partitions, memory bounded throughout.

Three passes over the rows. The first draws a sample of the vectors; codec and clusters are trained
on it. The second gives each row its cluster and spills it to its bucket on the local disk; what it
sees of the metadata decides the cells. The third goes through the buckets, one at a time, and
writes partitions; on the way brute force over what passes by calibrates recall. Memory holds the
sample, one batch and one partition. `maintain.bulk` does the same by tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from squash.arrays import F32, I64
from squash.index.trained import Trained
from squash.limits import (
    CLUSTER_ROWS_TARGET,
    EXACT_ROWS_MAX,
    PARTITION_BYTES_MAX,
    PARTITION_ROWS_MAX,
    PARTITION_ROWS_TARGET,
)
from squash.maintain.assembly import Assembly, WritePartition, finish
from squash.maintain.learning import (
    Placer,
    Report,
    learn,
    learn_cells,
    sample_rows,
    sampled_rows,
)
from squash.maintain.one_thread import one_blas_thread
from squash.maintain.parts import Sizes
from squash.maintain.spill import Spill, WrittenRows
from squash.model import IndexConfig
from squash.reports import Progress
from squash.segment import read_records
from squash.values import dataclass


class RowSource(Protocol):
    """Rows that can be read from front to back, several times, in the same order."""

    rows: int

    def batches(self) -> Iterator[WrittenRows]:
        """Yield all rows, some thousands at a time."""
        ...

    def vectors(self) -> Iterator[F32]:
        """Yield the vectors of the same rows alone: float32 [n, d], some thousands at a time."""
        ...


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an index is cut, trained and folded.

    Parameters
    ----------
    partition_rows_target, partition_rows_max:
        The size partitions aim at, and the cap that holds.
    cluster_rows_target:
        Rows in a cluster, about.
    sample_rows_max, sample_bytes_max:
        How much of the data the training sees; it is held in memory.
    calibration_queries:
        How many rows serve as held-out queries.
    exact_rows_max:
        Up to so many rows become one flat segment, searched exactly without training.
    thrifty:
        Whether a fold may leave rows outside of partitions where it would have to write much for
        few: the way to fold often.
    carry_on:
        Asked before each group of partitions is written anew; after a no, what is pending for the
        rest waits on. None always goes on.

    """

    partition_rows_target: int = PARTITION_ROWS_TARGET
    partition_rows_max: int = PARTITION_ROWS_MAX
    cluster_rows_target: int = CLUSTER_ROWS_TARGET
    sample_rows_max: int = 262_144
    sample_bytes_max: int = 256 << 20
    calibration_queries: int = 400
    exact_rows_max: int = EXACT_ROWS_MAX
    thrifty: bool = False
    carry_on: Callable[[], bool] | None = None

    def fitted(self, dimension: int) -> BuildOptions:
        """Return them with partitions that fit memory, too, where vectors have many dimensions."""
        most = max(PARTITION_BYTES_MAX // (4 * dimension), 2)
        return replace(
            self,
            partition_rows_target=min(self.partition_rows_target, most // 2),
            partition_rows_max=min(self.partition_rows_max, most),
        )

    def sizes(self) -> Sizes:
        """Return the sizes that hold within a partition."""
        return Sizes(self.cluster_rows_target, self.partition_rows_max)


def build(
    source: RowSource,
    config: IndexConfig,
    *,
    options: BuildOptions,
    scratch: Path,
    write_partition: WritePartition,
    report: Report,
) -> Trained:
    """Build partitions of all rows of a source.

    The same source, configuration, options and seed give the same objects on the same machine,
    however many cores it has, and the same as the tasks of a bulk build give of the same rows.

    Parameters
    ----------
    source:
        At least one row; keys differ.
    config:
        The index's dimension, metric, codec, seed and non-filterable keys.
    options:
        Sizes.
    scratch:
        An empty folder with room for the vectors and metadata.
    write_partition:
        Stores a partition's objects (by name) and returns the segment's id.
    report:
        Told of every step.

    """
    with one_blas_thread():
        wanted = sample_rows(source.rows, config.dimension, options)
        chosen, for_cells = sampled_rows(source.rows, wanted, config.seed)
        sample = _sample(source, chosen, config.dimension, report)
        learned = learn(sample, rows=source.rows, config=config, sizes=options, report=report)
        del sample
        spill = Spill(scratch, dimension=config.dimension, buckets=learned.buckets)
        placer = Placer(learned, config.metric)
        done = 0
        seen: list[bytes] = []
        for batch in source.batches():
            first, last = np.searchsorted(for_cells, (done, done + len(batch)))
            seen.extend(batch.records[row] for row in (for_cells[first:last] - done).tolist())
            cluster, bucket = placer.place(batch.vectors)
            spill.add(batch, bucket=bucket, cluster=cluster)
            done += len(batch)
            report(Progress("assign", done, source.rows, "rows"))
        cells = learn_cells(read_records(seen)[1], config)
        del seen
        assembly = Assembly(
            learned,
            cells,
            config,
            sizes=options.sizes(),
            write_partition=write_partition,
            report=lambda rows: report(Progress("encode", rows, spill.rows, "rows")),
        )
        for bucket_number in range(spill.buckets):
            assembly.add(spill, bucket_number, bucket=bucket_number)
        return finish(
            assembly.routing, assembly.neighbours(), assembly.ranks(), learned=learned,
            cells=cells, config=config,
        )  # fmt: skip


def _sample(source: RowSource, chosen: I64, dimension: int, report: Report) -> F32:
    sample = np.empty((len(chosen), dimension), dtype=np.float32)
    start = 0
    for vectors in source.vectors():
        first, last = np.searchsorted(chosen, (start, start + len(vectors)))
        sample[first:last] = vectors[chosen[first:last] - start]
        start += len(vectors)
        report(Progress("sample", start, source.rows, "rows"))
    return sample
