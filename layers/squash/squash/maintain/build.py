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
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import CellScheme, Columns
from squash.index.trained import Trained
from squash.limits import (
    CLUSTER_ROWS_TARGET,
    EXACT_ROWS_MAX,
    PARTITION_ROWS_MAX,
    PARTITION_ROWS_TARGET,
)
from squash.maintain.calibrate import NeighbourCollector
from squash.maintain.spill import Spill
from squash.model import IndexConfig, Metadata, Metric, Progress, RowBatch
from squash.quantize import PRESETS, Codec, train_codec
from squash.segment import build_partition
from squash.segment.exact import unit_rows
from squash.training import Assigner, group_clusters, kmeans, split_rows

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
    """How an index is cut and trained.

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

    """

    partition_rows_target: int = PARTITION_ROWS_TARGET
    partition_rows_max: int = PARTITION_ROWS_MAX
    cluster_rows_target: int = CLUSTER_ROWS_TARGET
    sample_rows_max: int = 262_144
    sample_bytes_max: int = 256 << 20
    calibration_queries: int = 400
    exact_rows_max: int = EXACT_ROWS_MAX


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made: the shared state, and each partition's id and rows."""

    trained: Trained
    partitions: tuple[tuple[str, int], ...]


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
) -> Built:
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
        cluster = assigner.assign(_measured(batch.vectors, config.metric))
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
    measured = _measured(_sample(source, wanted, config, report), config.metric)
    count = max(1, min(len(measured) // 8, round(source.rows / options.cluster_rows_target)))
    centers = kmeans(
        measured,
        clusters=count,
        seed=config.seed,
        tick=lambda done, total: report(Progress("cluster", done, total, "passes")),
    )
    # Fewer rows do for the codec, and for how full the clusters will be.
    some = np.ascontiguousarray(measured[:: -(-len(measured) // _CODEC_ROWS_MAX)])
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
        queries=codec.project(_spread(measured, options.calibration_queries)),
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
) -> Built:
    space = "dot" if config.metric is Metric.DOT else "l2"
    collector = NeighbourCollector(plan.queries, space=space, seed=config.seed)
    partitions: list[tuple[str, int]] = []
    centers: list[F32] = []
    sizes: list[I64] = []
    done, total = 0, spill.rows
    for bucket in range(spill.buckets):
        for rows, projected, center, begins in _parts(spill, bucket, plan, config, options):
            first = sum(len(c) for c in centers)
            collector.add(projected, first + np.repeat(np.arange(len(center)), np.diff(begins)))
            objects = build_partition(
                rows,
                projected=projected,
                centers=center,
                cluster_begins=begins,
                codec=plan.codec,
                cells=cells,
                non_filterable=config.non_filterable,
            )
            partitions.append((write_partition(objects, len(rows)), len(rows)))
            centers.append(center)
            sizes.append(np.diff(begins))
            done += len(rows)
            report(Progress("encode", done, total, "rows"))
        spill.drop(bucket)
    all_centers = np.concatenate(centers)
    trained = Trained(
        codec=plan.codec,
        cells=cells,
        calibration=collector.fit(all_centers),
        partition_ids=tuple(name for name, _ in partitions),
        partition_begins=np.concatenate(([0], np.cumsum([len(c) for c in centers]))),
        centers=all_centers,
        cluster_rows=np.concatenate(sizes),
    )
    return Built(trained, tuple(partitions))


def _parts(
    spill: Spill, bucket: int, plan: _Plan, config: IndexConfig, options: BuildOptions
) -> Iterator[tuple[RowBatch, F32, F32, I64]]:
    """Yield a bucket's partitions: rows by cluster, projected; centres; where clusters begin."""
    cluster = spill.clusters(bucket)
    if not len(cluster):
        return
    member = _capped(spill, bucket, cluster, config, options)
    if len(member) <= options.partition_rows_max:
        yield _part(spill, bucket, member, plan, config)
        return
    counts = np.bincount(member)
    members = np.flatnonzero(counts)
    vectors = spill.vectors(bucket)
    means = np.stack([vectors[member == m].mean(axis=0, dtype=np.float64) for m in members])
    group = np.zeros(len(counts), dtype=np.int64)
    group[members] = group_clusters(
        means.astype(np.float32), counts[members], rows_max=options.partition_rows_max
    )
    split = spill.split(bucket, part=group[member], cluster=member)
    for number in range(split.buckets):
        yield _part(split, number, split.clusters(number), plan, config)
        split.drop(number)


def _part(
    spill: Spill, bucket: int, cluster: I64, plan: _Plan, config: IndexConfig
) -> tuple[RowBatch, F32, F32, I64]:
    _, member, counts = np.unique(cluster, return_inverse=True, return_counts=True)
    begins = np.concatenate(([0], np.cumsum(counts)))
    rows = spill.read(bucket, np.argsort(member, kind="stable"))
    projected = plan.codec.project(_measured(rows.vectors, config.metric))
    # The mean of the rows a cluster really has is a better centre than the sample's.
    centers = [projected[a:b].mean(axis=0, dtype=np.float64) for a, b in pairwise(begins.tolist())]
    return rows, projected, np.stack(centers).astype(np.float32), begins


def _capped(
    spill: Spill, bucket: int, cluster: I64, config: IndexConfig, options: BuildOptions
) -> I64:
    """Renumber a bucket's clusters from 0, cutting those that are much too large."""
    _, member = np.unique(cluster, return_inverse=True)
    rows_max = min(4 * options.cluster_rows_target, options.partition_rows_max)
    for crowded in np.flatnonzero(np.bincount(member) > rows_max):
        rows = np.flatnonzero(member == crowded)
        vectors = _measured(np.asarray(spill.vectors(bucket)[rows]), config.metric)
        part = split_rows(vectors, rows_max=options.cluster_rows_target)
        member[rows] = np.where(part == 0, crowded, member.max() + part)
    return np.asarray(member, dtype=np.int64)


def _measured(vectors: F32, metric: Metric) -> F32:
    """Return what the codecs measure by squared L2: for cosine, vectors of length one."""
    return unit_rows(vectors) if metric is Metric.COSINE else np.asarray(vectors)


def _spread(rows: F32, count: int) -> F32:
    """Take `count` rows at even distances: the sample is in the source's order."""
    step = max(len(rows) // max(count, 1), 1)
    return np.asarray(rows[::step][:count])
