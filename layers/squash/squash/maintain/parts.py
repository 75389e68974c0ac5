"""From the rows of a bucket to partitions that hold the caps, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from squash.arrays import F32, I64
from squash.maintain.spill import Spill
from squash.model import Metric, RowBatch
from squash.quantize import Codec
from squash.segment.exact import unit_rows
from squash.training import group_clusters, split_rows

# So many times the rows it aims at a cluster may have.
_CROWDED = 4


@dataclass(frozen=True, slots=True)
class Sizes:
    """The rows a cluster aims at, and the caps of clusters and partitions."""

    cluster_rows_target: int
    partition_rows_max: int

    @property
    def cluster_rows_max(self) -> int:
        """The cap of a cluster."""
        return min(_CROWDED * self.cluster_rows_target, self.partition_rows_max)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one partition to be, side by side by cluster.

    `projected` is float32 [n, D], `centers` float32 [c, D]; cluster i is rows begins[i] to
    begins[i + 1].
    """

    rows: RowBatch
    projected: F32
    centers: F32
    begins: I64

    @property
    def cluster_rows(self) -> I64:
        """Return int64 [c], the rows of each cluster."""
        return np.diff(self.begins)

    def clusters(self) -> I64:
        """Return int64 [n], the cluster of each row."""
        return np.repeat(np.arange(len(self.centers)), self.cluster_rows)

    def energy(self) -> float:
        """Return the mean squared distance of rows to their cluster's centre."""
        total = 0.0
        for center, (first, last) in zip(self.centers, pairwise(self.begins.tolist()), strict=True):
            away = self.projected[first:last] - center
            total += float(np.einsum("ij,ij->", away, away, dtype=np.float64))
        return total / max(len(self.rows), 1)


def parts_of(
    spill: Spill, bucket: int, member: I64, *, codec: Codec, metric: Metric, sizes: Sizes
) -> Iterator[Part]:
    """Yield the partitions of a bucket.

    Parameters
    ----------
    spill, bucket:
        The rows.
    member:
        int64 [n], the cluster of each, numbered from 0.
    codec, metric:
        The index's.
    sizes:
        The caps; a cluster above its own is cut.

    """
    member = _capped(spill, bucket, member, metric, sizes)
    if len(member) <= sizes.partition_rows_max:
        yield _part(spill, bucket, member, codec, metric)
        return
    counts = np.bincount(member)
    members = np.flatnonzero(counts)
    vectors = spill.vectors(bucket)
    means = np.stack([vectors[member == m].mean(axis=0, dtype=np.float64) for m in members])
    group = np.zeros(len(counts), dtype=np.int64)
    group[members] = group_clusters(
        means.astype(np.float32), counts[members], rows_max=sizes.partition_rows_max
    )
    split = spill.split(bucket, part=group[member], cluster=member)
    for number in range(split.buckets):
        yield _part(split, number, split.clusters(number), codec, metric)
        split.drop(number)


def measured(vectors: F32, metric: Metric) -> F32:
    """Return what the codecs measure by squared L2: for cosine, vectors of length one."""
    return unit_rows(vectors) if metric is Metric.COSINE else np.asarray(vectors)


def _part(spill: Spill, bucket: int, cluster: I64, codec: Codec, metric: Metric) -> Part:
    _, member, counts = np.unique(cluster, return_inverse=True, return_counts=True)
    begins = np.concatenate(([0], np.cumsum(counts)))
    rows = spill.read(bucket, np.argsort(member, kind="stable"))
    projected = codec.project(measured(rows.vectors, metric))
    # The mean of the rows a cluster really has is a better centre than the sample's.
    centers = [projected[a:b].mean(axis=0, dtype=np.float64) for a, b in pairwise(begins.tolist())]
    return Part(rows, projected, np.stack(centers).astype(np.float32), begins)


def _capped(spill: Spill, bucket: int, member: I64, metric: Metric, sizes: Sizes) -> I64:
    """Cut the clusters that are much too large."""
    member = member.copy()
    for crowded in np.flatnonzero(np.bincount(member) > sizes.cluster_rows_max):
        rows = np.flatnonzero(member == crowded)
        vectors = measured(np.asarray(spill.vectors(bucket)[rows]), metric)
        part = split_rows(vectors, rows_max=sizes.cluster_rows_target)
        member[rows] = np.where(part == 0, crowded, member.max() + part)
    return member
