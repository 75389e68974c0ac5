"""What a build learns from a sample of its rows: codec, clusters, partitions to be, cells, queries.

Both ways of building go by it, over an index's own rows in one go and from files in tasks. What is
learned depends on the sampled rows, how many rows there are, the configuration and the sizes; not
on who asks, nor on how the rows were dealt out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from squash.arrays import F32, I64
from squash.attributes import CellScheme, Columns
from squash.maintain.parts import measured
from squash.model import IndexConfig, Metadata, Metric
from squash.planning import choose_rows
from squash.quantize import Codec, Space, preset_of, train_codec, unit_spreads
from squash.reports import Progress
from squash.training import Assigner, group_clusters, kmeans
from squash.values import dataclass

# Rows that are enough to train a codec on, and to cut attributes into 255 cells by.
_CODEC_ROWS_MAX = 1 << 16
CELL_ROWS_MAX = 1 << 16
# A cluster is learned of so many sampled rows at least; where the sample has fewer, clusters are
# coarser, and cut when their rows are at hand: see `parts`.
_SAMPLE_ROWS_PER_CLUSTER = 8

Report = Callable[[Progress], None]


class LearningSizes(Protocol):
    """The sizes that decide what is learned."""

    @property
    def partition_rows_target(self) -> int:
        """The size partitions aim at."""

    @property
    def cluster_rows_target(self) -> int:
        """Rows in a cluster, about."""

    @property
    def sample_rows_max(self) -> int:
        """How many rows training sees, at most."""

    @property
    def sample_bytes_max(self) -> int:
        """And how many bytes of their vectors."""

    @property
    def calibration_queries(self) -> int:
        """How many rows serve as held-out queries."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a sample taught.

    Parameters
    ----------
    codec:
        Trained.
    centers:
        float32 [c, d], not projected: distances survive the projection.
    bucket_of_cluster:
        int64 [c], the partition to be that each cluster goes to, numbered from 0.
    bucket_rows:
        int64 [b], about how many rows each will have.
    queries:
        float32 [q, D], held-out queries; see `held_out`.

    """

    codec: Codec
    centers: F32
    bucket_of_cluster: I64
    bucket_rows: I64
    queries: F32

    @property
    def buckets(self) -> int:
        """How many partitions there will be, about."""
        return len(self.bucket_rows)


class Placer:
    """Gives each row its cluster and its bucket, whatever rows it is asked for together.

    Parameters
    ----------
    learned:
        What the sample taught.
    metric:
        The index's.

    """

    def __init__(self, learned: Learned, metric: Metric) -> None:
        self._assigner = Assigner(learned.centers)
        self._bucket_of_cluster = learned.bucket_of_cluster
        self._metric = metric

    def place(self, vectors: F32) -> tuple[I64, I64]:
        """Return the cluster and the bucket of each row of float32 [n, d]: int64 [n] each."""
        cluster = self._assigner.assign(measured(vectors, self._metric))
        return cluster, self._bucket_of_cluster[cluster]


def sample_rows(rows: int, dimension: int, sizes: LearningSizes) -> int:
    """Return how many of so many rows training sees."""
    return min(rows, sizes.sample_rows_max, max(sizes.sample_bytes_max // (4 * dimension), 1))


def sampled_rows(rows: int, count: int, seed: int) -> tuple[I64, I64]:
    """Return the rows that training sees, and those among them that cells are cut by.

    Parameters
    ----------
    rows, count:
        How many there are, and how many are to be drawn; see `sample_rows`.
    seed:
        The index's.

    Returns
    -------
    (int64 [count], int64 [m]): numbers of rows, ascending.

    """
    chosen = choose_rows(rows, count, seed=seed)
    return chosen, chosen[:: max(-(-count // CELL_ROWS_MAX), 1)]


def learn(
    sample: F32,
    *,
    rows: int,
    config: IndexConfig,
    sizes: LearningSizes,
    report: Report,
) -> Learned:
    """Learn from a sample.

    Parameters
    ----------
    sample:
        float32 [s, d], rows of the index, at least one, in their order.
    rows:
        How many rows the index will have.
    config, sizes:
        The index's, and the build's.
    report:
        Told of every step.

    """
    sample = measured(sample, config.metric)
    count = min(len(sample) // _SAMPLE_ROWS_PER_CLUSTER, round(rows / sizes.cluster_rows_target))
    count = max(count, 1)
    centers = kmeans(
        sample,
        clusters=count,
        seed=config.seed,
        tick=lambda done, total: report(Progress("cluster", done, total, "passes")),
    )
    # Fewer rows do for the codec, and for how full the clusters will be.
    some = np.ascontiguousarray(sample[:: -(-len(sample) // _CODEC_ROWS_MAX)])
    member = Assigner(centers).assign(some)
    name, codec_options = preset_of(config.codec)
    codec = train_codec(
        name,
        sample=some,
        residuals=some - centers[member],
        space=space_of(config.metric),
        seed=config.seed,
        **codec_options,
    )
    report(Progress("train", 1, 1, "codec"))
    share = rows / len(some)
    cluster_rows = np.ceil(np.bincount(member, minlength=count) * share).astype(np.int64)
    bucket = group_clusters(centers, cluster_rows, rows_max=sizes.partition_rows_target)
    return Learned(
        codec=codec,
        centers=centers,
        bucket_of_cluster=bucket,
        bucket_rows=np.bincount(bucket, weights=cluster_rows).astype(np.int64),
        queries=held_out(codec, _spread(sample, sizes.calibration_queries)),
    )


def learn_cells(metadata: Sequence[Metadata], config: IndexConfig) -> CellScheme:
    """Cut attributes into cells by the metadata of some rows; see `sampled_rows`."""
    columns = Columns.from_metadata(metadata, non_filterable=config.non_filterable)
    return CellScheme.fit(columns)


def space_of(metric: Metric) -> Space:
    """Return what a distance is to codecs: cosine indexes normalise first and take `l2`."""
    return "dot" if metric is Metric.DOT else "l2"


def _spread(rows: F32, count: int) -> F32:
    """Take `count` rows at even distances: the sample is in the source's order."""
    step = max(len(rows) // max(count, 1), 1)
    return np.asarray(rows[::step][:count])


def held_out(codec: Codec, rows: F32) -> F32:
    """Return rows float32 [n, d] as queries, float32 [n, D].

    They are projected; in space `dot` the mean is not taken off, as it is not off queries. A
    query's products with projected rows are then those of the vectors, but for its product with the
    mean, which is the same for all rows.
    """
    return codec.project(rows) - off_queries(codec)


def own_rows(codec: Codec, queries: F32) -> F32:
    """Return float32 [n, D], the projected rows that queries of `held_out` are."""
    return queries + off_queries(codec)


def off_queries(codec: Codec) -> F32:
    """Return float32 [1, D], what is taken off rows by their projection and not off queries."""
    nothing = np.zeros((1, len(codec.mean)), dtype=np.float32)
    return codec.project(nothing) if codec.space == "dot" else nothing[:, :1]


def spreads_of(metric: Metric, codec: Codec, centers: F32) -> F32 | None:
    """Return how far rows lie from the centers of their clusters, where centers tell.

    That is for cosine, whose rows have length one; see `unit_spreads`.
    """
    return unit_spreads(codec, centers) if metric is Metric.COSINE else None
