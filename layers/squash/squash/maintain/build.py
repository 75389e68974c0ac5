"""The bulk build: from rows in any order to balanced partitions, memory bounded throughout.

Three passes over the source. The first draws a sample; codec, clusters and cells are trained on
it. The second gives each row its cluster and spills it to its bucket on the local disk. The third
goes through the buckets, one at a time, and writes partitions; on the way brute force over what
passes by calibrates recall. Memory holds the sample, one batch and one partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

_CODEC_ROWS_MAX = 1 << 16

Report = Callable[[Progress], None]
WritePartition = Callable[[Mapping[str, bytes], int], str]


class RowSource(Protocol):
    """Rows that can be read from front to back, several times, in the same order."""

    rows: int

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows, some thousands at a time."""
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
    cells: CellScheme
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
    done = 0
    for batch in source.batches():
        cluster = assigner.assign(_measured(batch.vectors, config.metric))
        spill.add(batch, bucket=plan.bucket_of_cluster[cluster], cluster=cluster)
        done += len(batch)
        report(Progress("assign", done, source.rows, "rows"))
    return _write_buckets(
        spill, plan, config, options=options, write_partition=write_partition, report=report
    )


def _train(source: RowSource, config: IndexConfig, options: BuildOptions, report: Report) -> _Plan:
    wanted = min(
        source.rows, options.sample_rows_max, options.sample_bytes_max // (4 * config.dimension)
    )
    sample, metadata = _sample(source, wanted, config, report)
    measured = _measured(sample, config.metric)
    count = max(1, min(len(sample) // 8, round(source.rows / options.cluster_rows_target)))
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
    columns = Columns.from_metadata(metadata, non_filterable=config.non_filterable)
    return _Plan(
        codec=codec,
        cells=CellScheme.fit(columns),
        centers=centers,
        bucket_of_cluster=bucket,
        queries=codec.project(_spread(measured, options.calibration_queries)),
    )


def _sample(
    source: RowSource, wanted: int, config: IndexConfig, report: Report
) -> tuple[F32, list[Metadata]]:
    generator = np.random.Generator(np.random.Philox(config.seed))
    chosen = np.sort(generator.choice(source.rows, size=wanted, replace=False))
    vectors = np.empty((wanted, config.dimension), dtype=np.float32)
    metadata: list[Metadata] = []
    start = 0
    for batch in source.batches():
        first, last = np.searchsorted(chosen, (start, start + len(batch)))
        mine = chosen[first:last] - start
        vectors[first:last] = batch.vectors[mine]
        metadata.extend(batch.metadata[row] for row in mine.tolist())
        start += len(batch)
        report(Progress("sample", start, source.rows, "rows"))
    return vectors, metadata


def _write_buckets(
    spill: Spill,
    plan: _Plan,
    config: IndexConfig,
    *,
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
                cells=plan.cells,
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
        cells=plan.cells,
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
    counts = np.bincount(member)
    order = np.argsort(member, kind="stable")
    ends = np.cumsum(counts)
    members = np.flatnonzero(counts)
    group = np.zeros(len(members), dtype=np.int64)
    if len(cluster) > options.partition_rows_max:
        rows_of = (order[ends[m] - counts[m] : ends[m]] for m in members)
        vectors = spill.vectors(bucket)
        means = np.stack([vectors[rows].mean(axis=0, dtype=np.float64) for rows in rows_of])
        group = group_clusters(
            means.astype(np.float32), counts[members], rows_max=options.partition_rows_max
        )
    for number in range(int(group.max()) + 1):
        mine = members[group == number]
        chosen = np.concatenate([order[ends[m] - counts[m] : ends[m]] for m in mine])
        begins = np.concatenate(([0], np.cumsum(counts[mine])))
        rows = spill.read(bucket, chosen)
        projected = plan.codec.project(_measured(rows.vectors, config.metric))
        # The mean of the rows a cluster really has is a better centre than the sample's.
        center = np.stack(
            [projected[a:b].mean(axis=0, dtype=np.float64) for a, b in pairwise(begins.tolist())]
        ).astype(np.float32)
        yield rows, projected, center, begins


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
