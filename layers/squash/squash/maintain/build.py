"""The bulk build: from rows in any order to balanced partitions, memory bounded throughout.

Three passes over the rows. The first draws a sample of the vectors; codec and clusters are trained
on it. The second gives each row its cluster and spills it to its bucket on the local disk; what it
sees of the metadata decides the cells. The third goes through the buckets, one at a time, and
writes partitions; on the way brute force over what passes by calibrates recall. Memory holds the
sample, one batch and one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import CellScheme, Columns
from squash.index.trained import History, Trained
from squash.limits import (
    CLUSTER_ROWS_TARGET,
    EXACT_ROWS_MAX,
    PARTITION_ROWS_MAX,
    PARTITION_ROWS_TARGET,
)
from squash.maintain.calibrate import NeighbourCollector
from squash.maintain.parts import Sizes, measured, parts_of
from squash.maintain.routing import Routing, encode
from squash.maintain.spill import Spill
from squash.model import IndexConfig, Metadata, Metric, Progress, RowBatch
from squash.quantize import PRESETS, Codec, train_codec
from squash.training import Assigner, group_clusters, kmeans

# Rows that are enough to train a codec on, and to cut attributes into 255 cells by.
_CODEC_ROWS_MAX = 1 << 16
_CELL_ROWS_MAX = 1 << 16

Report = Callable[[Progress], None]
WritePartition = Callable[[Mapping[str, bytes], int], str]


class RowSource(Protocol):
    """Rows that can be read from front to back, several times, in the same order."""

    rows: int

    def batches(self) -> Iterator[RowBatch]:
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

    def sizes(self) -> Sizes:
        """Return the sizes that hold within a partition."""
        return Sizes(self.cluster_rows_target, self.partition_rows_max)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the sample taught."""

    codec: Codec
    centers: F32
    """float32 [c, d], not projected: distances survive the projection."""
    bucket_of_cluster: I64
    queries: F32


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

    The same source, configuration, options and seed give the same objects on the same machine.

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
        Stores a partition's objects (by name) of so many rows and returns the segment's id.
    report:
        Told of every step.

    """
    plan = _train(source, config, options, report)
    buckets = int(plan.bucket_of_cluster.max()) + 1
    spill = Spill(scratch, dimension=config.dimension, buckets=buckets)
    assigner = Assigner(plan.centers)
    seen = _MetadataSample(source.rows, config)
    done = 0
    for batch in source.batches():
        seen.add(batch.metadata)
        cluster = assigner.assign(measured(batch.vectors, config.metric))
        spill.add(batch, bucket=plan.bucket_of_cluster[cluster], cluster=cluster)
        done += len(batch)
        report(Progress("assign", done, source.rows, "rows"))
    return _write_buckets(
        spill,
        plan,
        config,
        cells=seen.cells(),
        options=options,
        write_partition=write_partition,
        report=report,
    )


class _MetadataSample:
    """Keeps the metadata of some rows, as a build passes the rows by, to cut cells by."""

    def __init__(self, rows: int, config: IndexConfig) -> None:
        generator = np.random.Generator(np.random.Philox(config.seed))
        wanted = min(rows, _CELL_ROWS_MAX)
        self._chosen = np.sort(generator.choice(rows, size=wanted, replace=False))
        self._non_filterable = config.non_filterable
        self._metadata: list[Metadata] = []
        self._start = 0

    def add(self, metadata: Sequence[Metadata]) -> None:
        stop = self._start + len(metadata)
        first, last = np.searchsorted(self._chosen, (self._start, stop))
        places = self._chosen[first:last] - self._start
        self._metadata.extend(metadata[row] for row in places.tolist())
        self._start = stop

    def cells(self) -> CellScheme:
        columns = Columns.from_metadata(self._metadata, non_filterable=self._non_filterable)
        return CellScheme.fit(columns)


def _train(source: RowSource, config: IndexConfig, options: BuildOptions, report: Report) -> _Plan:
    wanted = min(
        source.rows, options.sample_rows_max, options.sample_bytes_max // (4 * config.dimension)
    )
    sample = measured(_sample(source, wanted, config, report), config.metric)
    count = max(1, min(len(sample) // 8, round(source.rows / options.cluster_rows_target)))
    centers = kmeans(
        sample,
        clusters=count,
        seed=config.seed,
        tick=lambda done, total: report(Progress("cluster", done, total, "passes")),
    )
    # Fewer rows do for the codec, and for how full the clusters will be.
    some = np.ascontiguousarray(sample[:: -(-len(sample) // _CODEC_ROWS_MAX)])
    member = Assigner(centers).assign(some)
    name, codec_options = PRESETS[config.codec]
    codec = train_codec(
        name,
        sample=some,
        residuals=some - centers[member],
        space="dot" if config.metric is Metric.DOT else "l2",
        seed=config.seed,
        **codec_options,
    )
    report(Progress("train", 1, 1, "codec"))
    share = source.rows / len(some)
    rows = np.ceil(np.bincount(member, minlength=count) * share).astype(np.int64)
    bucket = group_clusters(centers, rows, rows_max=options.partition_rows_target)
    return _Plan(
        codec=codec,
        centers=centers,
        bucket_of_cluster=bucket,
        queries=codec.project(_spread(sample, options.calibration_queries)),
    )


def _sample(source: RowSource, wanted: int, config: IndexConfig, report: Report) -> F32:
    generator = np.random.Generator(np.random.Philox(config.seed))
    chosen = np.sort(generator.choice(source.rows, size=wanted, replace=False))
    sample = np.empty((wanted, config.dimension), dtype=np.float32)
    start = 0
    for vectors in source.vectors():
        first, last = np.searchsorted(chosen, (start, start + len(vectors)))
        sample[first:last] = vectors[chosen[first:last] - start]
        start += len(vectors)
        report(Progress("sample", start, source.rows, "rows"))
    return sample


def _write_buckets(
    spill: Spill,
    plan: _Plan,
    config: IndexConfig,
    *,
    cells: CellScheme,
    options: BuildOptions,
    write_partition: WritePartition,
    report: Report,
) -> Trained:
    space = "dot" if config.metric is Metric.DOT else "l2"
    collector = NeighbourCollector(plan.queries, space=space, seed=config.seed)
    routing = Routing()
    done, total = 0, spill.rows
    for bucket in range(spill.buckets):
        cluster = spill.clusters(bucket)
        if not len(cluster):
            continue
        member = np.unique(cluster, return_inverse=True)[1]
        parts = parts_of(
            spill, bucket, member, codec=plan.codec, metric=config.metric, sizes=options.sizes()
        )
        for part in parts:
            collector.add(part.projected, routing.clusters + part.clusters())
            objects = encode(part, codec=plan.codec, cells=cells, config=config)
            routing.add(write_partition(objects, len(part.rows)), part)
            done += len(part.rows)
            report(Progress("encode", done, total, "rows"))
        spill.drop(bucket)
    history = History(rows_trained=total, energy_trained=routing.energy(), rows_since=0)
    return routing.trained(plan.codec, cells, collector.fit(routing.centers()), history)


def _spread(rows: F32, count: int) -> F32:
    """Take `count` rows at even distances: the sample is in the source's order."""
    step = max(len(rows) // max(count, 1), 1)
    return np.asarray(rows[::step][:count])
