"""From the rows of a bucket to partitions that hold the caps, one in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import CellScheme, Columns
from squash.maintain.row_order import attribute_order
from squash.maintain.spill import Spill
from squash.model import IndexConfig, Metric, RowBatch
from squash.quantize import Codec
from squash.segment import read_records
from squash.segment.exact import unit_rows
from squash.training import Assigner, group_clusters, kmeans, short_path, split_rows
from squash.values import dataclass

# So many times the rows it aims at a cluster may have.
_CROWDED = 4
# Where a bucket's clusters have so many times the rows they aim at on the average, the sample was
# too small for as many as the rows ask for: the bucket's own rows tell which there should be.
_COARSE = 2
# Of rows that are cut, the bytes of those that decide how; and of those looked at together.
_CUT_SAMPLE_BYTES = 64 << 20
_CUT_CHUNK_BYTES = 16 << 20
_CUT_ROWS_PER_CLUSTER = 8
_ROW_VALUE_BYTES = 4


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
    begins[i + 1], those of like attributes together. `records` are what segments hold of keys and
    metadata, `columns` the attributes that are filterable.
    """

    rows: RowBatch
    records: Sequence[bytes]
    columns: Columns
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
    spill: Spill,
    bucket: int,
    member: I64,
    *,
    codec: Codec,
    cells: CellScheme,
    config: IndexConfig,
    sizes: Sizes,
) -> Iterator[Part]:
    """Yield the partitions of a bucket.

    Parameters
    ----------
    spill, bucket:
        The rows.
    member:
        int64 [n], the cluster of each, numbered from 0.
    codec, cells, config:
        The index's; its seed decides what is left to chance where a cluster is cut.
    sizes:
        The caps; a cluster above its own is cut.

    Raises
    ------
    DataError
        If a record is none: the segment that it comes from is damaged.

    """
    part_of = partial(_part, codec=codec, cells=cells, config=config)
    metric, seed = config.metric, config.seed
    member = _capped(spill.vectors(bucket), member, metric=metric, sizes=sizes, seed=seed)
    if len(member) <= sizes.partition_rows_max:
        yield part_of(spill, bucket, member)
        return
    vectors = spill.vectors(bucket)
    order, begins = _by_cluster(member)
    counts = np.diff(begins)
    members = np.flatnonzero(counts)
    means = [
        vectors[order[begins[one] : begins[one + 1]]].mean(axis=0, dtype=np.float64)
        for one in members.tolist()
    ]
    group = np.zeros(len(counts), dtype=np.int64)
    group[members] = group_clusters(
        np.stack(means).astype(np.float32), counts[members], rows_max=sizes.partition_rows_max
    )
    split = spill.split(bucket, part=group[member], cluster=member)
    for number in range(split.buckets):
        yield part_of(split, number, split.clusters(number))
        split.drop(number)


def measured(vectors: F32, metric: Metric) -> F32:
    """Return float32 [n, d], what codecs measure by squared L2: for cosine, of length one."""
    return unit_rows(vectors) if metric is Metric.COSINE else np.asarray(vectors)


def _part(
    spill: Spill,
    bucket: int,
    cluster: I64,
    *,
    codec: Codec,
    cells: CellScheme,
    config: IndexConfig,
) -> Part:
    vectors = spill.vectors(bucket)
    member = np.unique(cluster, return_inverse=True)[1]  # noqa: TID251 - with places
    member = _along_path(vectors, member, config.metric)
    order, begins = _by_cluster(member)
    # Records first: when it is known how rows lie, their vectors are copied once.
    records = spill.records(bucket, order)
    keys, metadata = read_records(records)
    columns = Columns.from_metadata(metadata, non_filterable=config.non_filterable)
    lying = attribute_order(columns, cells, begins)
    at = lying.tolist()
    rows = RowBatch(
        [keys[row] for row in at],
        np.asarray(vectors[order[lying]]),
        [metadata[row] for row in at],
    )
    projected = codec.project(measured(rows.vectors, config.metric))
    # The mean of the rows a cluster really has is a better centre than the sample's.
    centers = [projected[a:b].mean(axis=0, dtype=np.float64) for a, b in pairwise(begins.tolist())]
    return Part(
        rows,
        [records[row] for row in at],
        columns.reordered(lying),
        projected,
        np.stack(centers).astype(np.float32),
        begins,
    )


def _along_path(vectors: F32, member: I64, metric: Metric) -> I64:
    """Renumber clusters along a short path through their centres.

    A query takes clusters around it: their codes then lie in fewer and shorter ranges. They are not
    projected yet, which changes no distance.
    """
    order, begins = _by_cluster(member)
    centers = [
        measured(np.asarray(vectors[order[a:b]]), metric).mean(axis=0, dtype=np.float64)
        for a, b in pairwise(begins.tolist())
    ]
    path = short_path(np.stack(centers).astype(np.float32))
    number = np.empty(len(path), dtype=np.int64)
    number[path] = np.arange(len(path))
    return np.asarray(number[member])


def _capped(vectors: F32, member: I64, *, metric: Metric, sizes: Sizes, seed: int) -> I64:
    """Cut the clusters that are much too large; where most are, find others in their place."""
    counts = np.bincount(member)
    target = sizes.cluster_rows_target
    most = sizes.cluster_rows_max
    coarse = _COARSE * target * int(np.count_nonzero(counts))
    if len(member) > max(coarse, most):
        return _cut(vectors, np.arange(len(member)), metric=metric, sizes=sizes, seed=seed)
    crowded = np.flatnonzero(counts > most)
    if not len(crowded):
        return member
    order, begins = _by_cluster(member)
    member, clusters = member.copy(), len(counts)
    for one in crowded.tolist():
        rows = order[begins[one] : begins[one + 1]]
        part = _cut(vectors, rows, metric=metric, sizes=sizes, seed=seed)
        member[rows] = np.where(part == 0, one, clusters + part - 1)
        clusters += int(part.max())
    return member


def _cut(vectors: F32, rows: I64, *, metric: Metric, sizes: Sizes, seed: int) -> I64:
    """Return int64 [m], the part of each of some rows, which are too many for one cluster.

    Parts are clusters that k-means finds; where one is crowded still, since its rows are all
    alike, it is cut in halves. Memory holds a sample of the rows, and some of them at a time.
    """
    row_bytes = _ROW_VALUE_BYTES * vectors.shape[1]
    wanted = min(len(rows), max(_CUT_SAMPLE_BYTES // row_bytes, 1))
    chosen = rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]
    sample = measured(np.asarray(vectors[chosen]), metric)
    count = min(len(sample) // _CUT_ROWS_PER_CLUSTER, round(len(rows) / sizes.cluster_rows_target))
    assigner = Assigner(kmeans(sample, clusters=max(count, 1), seed=seed))
    part = np.empty(len(rows), dtype=np.int64)
    size = max(_CUT_CHUNK_BYTES // row_bytes, 1)
    for start in range(0, len(rows), size):
        some = measured(np.asarray(vectors[rows[start : start + size]]), metric)
        part[start : start + size] = assigner.assign(some)
    part = np.unique(part, return_inverse=True)[1]  # noqa: TID251 - with places
    order, begins = _by_cluster(part)
    part, parts = part.copy(), len(begins) - 1
    size = max(size, sizes.cluster_rows_target)
    for one in np.flatnonzero(np.diff(begins) > sizes.cluster_rows_max).tolist():
        left = order[begins[one] : begins[one + 1]]
        for start in range(0, len(left), size):
            mine = left[start : start + size]
            some = measured(np.asarray(vectors[rows[mine]]), metric)
            half = split_rows(some, rows_max=sizes.cluster_rows_target)
            part[mine] = parts + half
            parts += int(half.max()) + 1
    return np.unique(part, return_inverse=True)[1]  # noqa: TID251 - with places


def _by_cluster(member: I64) -> tuple[I64, I64]:
    """Return row numbers by cluster, int64 [n], and where each begins, int64 [c + 1]."""
    begins = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(member))))
    return np.argsort(member, kind="stable"), begins
