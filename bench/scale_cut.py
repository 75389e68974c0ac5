"""How a bulk build of so many rows is cut into pieces, tasks, clusters and partitions.

Pure arithmetic on `squash.limits` and the defaults of `BuildOptions`; the plan of a real build has
the files that there are, this has files of one size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scale_platform import FILE_BYTES
from squash import limits
from squash.kernels import FLIPS
from squash.maintain import BuildOptions, parts
from squash.maintain.bulk.stages import STAGES, Stage
from squash.planning.building import key_range_count, piece_rows_max

OPTIONS: Final = BuildOptions()
FULL_SHARE: Final = 0.78
"""How full a partition is of its target: buckets are halved, so that few are quite full."""
SEGMENT_BYTES: Final = 632.0
"""Of a segment in a commit or snapshot; `scale_limits.segment_bytes` makes one."""
DOCUMENT_BYTES: Final = 40.0
"""Of a row's key and metadata in a run: short ones; rows without keys are taken to have none."""
RUN_ROW_BYTES: Final = 12.0
"""Of a row's number and cluster in a run."""
KEY_ROW_BYTES: Final = 24.0
CUT_SAMPLE_BYTES: Final = parts._CUT_SAMPLE_BYTES  # noqa: SLF001 - of a crowded cluster
_FLAT_CLUSTERS: Final = 4_096  # up to so many centers all are compared, see `training.clustering`
_GROUPS_SEARCHED: Final = 6
_NEAR_CENTERS: Final = 64
_PASSES: Final = 10
_WHOLE_PASSES: Final = 2
_CODEC_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Cut:
    """A build's counts; see `Plan` for what they are."""

    rows: int
    dimension: int
    files: int
    pieces: int
    piece_rows: int
    sample_rows: int
    sample_pieces: int
    clusters: int
    partitions: int
    groups: int
    key_ranges: int
    tasks: Mapping[Stage, int]

    @property
    def vector_bytes(self) -> int:
        """Of the input."""
        return 4 * self.dimension * self.rows

    @property
    def sampled_rows(self) -> int:
        """How many rows lie in the pieces that the sample is drawn from."""
        return min(self.rows, self.sample_pieces * self.piece_rows)

    @property
    def run_bytes(self) -> float:
        """Of all runs."""
        return self.rows * (4 * self.dimension + self.document_bytes + RUN_ROW_BYTES)

    @property
    def document_bytes(self) -> float:
        """Of a row's key and metadata, on their way."""
        return DOCUMENT_BYTES if self.key_ranges else 0.0

    @property
    def model_bytes(self) -> float:
        """Of what training learned, which each task of `assign` and `assemble` reads."""
        rows = self.clusters + self.dimension + OPTIONS.calibration_queries
        return 4.0 * self.dimension * rows

    @property
    def line_bytes(self) -> float:
        """Of what a task of `assemble` or `keys` reads of all directories of runs or keys."""
        return 8.0 * (4 * self.pieces + self.tasks[Stage.ASSIGN])

    @property
    def filled(self) -> float:
        """How many of all groups' parts of all runs hold a row, if rows come in no order."""
        each = self.piece_rows / self.groups
        return self.pieces * self.groups * -math.expm1(-each)

    def work(self, stage: Stage) -> float:
        """Return the multiplications that a stage's algorithms take, all its tasks together."""
        dimension, clusters = self.dimension, self.clusters
        match stage:
            case Stage.TRAIN:
                codec = min(self.sample_rows, _CODEC_ROWS) * rotation_work(dimension)
                return kmeans_work(self.sample_rows, clusters, dimension) + codec
            case Stage.ASSIGN:
                return self.rows * assign_work(clusters, dimension)
            case Stage.ASSEMBLE:  # cut, rotated, and measured against the held-out queries
                each = rotation_work(dimension) + dimension * OPTIONS.calibration_queries
                return self.rows * each + cutting_work(self.rows, clusters, dimension)
            case Stage.CALIBRATE:
                return float(OPTIONS.calibration_queries * clusters * dimension)
            case Stage.KEYS:
                return self.rows * math.log2(max(self.rows, 2))
            case _:
                return 0.0


def assign_work(clusters: int, dimension: int) -> float:
    """Return the multiplications to find a row's nearest center."""
    if clusters <= _FLAT_CLUSTERS:
        return float(clusters * dimension)
    return (1 + _GROUPS_SEARCHED) * math.sqrt(clusters) * dimension


def kmeans_work(rows: int, clusters: int, dimension: int) -> float:
    """Return the multiplications of k-means, by Lloyd's algorithm in one level or two."""
    if clusters <= _FLAT_CLUSTERS:
        near = min(_NEAR_CENTERS, clusters)
        passes = _WHOLE_PASSES * clusters + (_PASSES - _WHOLE_PASSES) * near
        return float(rows * dimension * passes)
    groups = math.ceil(math.sqrt(clusters))
    coarse = kmeans_work(rows, groups, dimension) + rows * assign_work(groups, dimension)
    return coarse + kmeans_work(rows, math.ceil(clusters / groups), dimension)


def cutting_work(rows: int, clusters: int, dimension: int) -> float:
    """Return the multiplications to cut clusters that are much too large, each on its own."""
    each = rows / clusters
    if each <= parts._COARSE * OPTIONS.cluster_rows_target:  # noqa: SLF001
        return 0.0
    sample = min(round(each), CUT_SAMPLE_BYTES // (4 * dimension))
    count = max(min(sample // 8, round(each / OPTIONS.cluster_rows_target)), 1)
    return clusters * kmeans_work(sample, count, dimension) + rows * assign_work(count, dimension)


def rotation_work(dimension: int) -> float:
    """Return how many sums rotate a row of 64 dimensions or more (decision 0030)."""
    stages = dimension.bit_length() - 1
    return float(FLIPS * stages * 2**stages)


def cut(rows: int, dimension: int, *, keyed: bool = False, files: int | None = None) -> Cut:
    """Cut a build.

    Parameters
    ----------
    rows, dimension:
        Of the input.
    keyed:
        Whether rows have keys of their own, so that doubles must be found.
    files:
        How many there are; None takes files of `FILE_BYTES`.

    """
    vector = 4 * dimension
    total = rows * vector
    files = files or max(math.ceil(total / FILE_BYTES), 1)
    piece_rows = piece_rows_max(
        dimension, rows_max=limits.BUILD_PIECE_ROWS_MAX, bytes_max=limits.BUILD_PIECE_BYTES_MAX
    )
    per_file = math.ceil(rows / files)
    pieces = files * math.ceil(per_file / piece_rows)
    sample_rows = min(rows, OPTIONS.sample_rows_max, OPTIONS.sample_bytes_max // vector)
    sample_pieces = min(pieces, limits.BUILD_SAMPLE_PIECES_MAX)
    clusters = max(min(sample_rows // 8, round(rows / OPTIONS.cluster_rows_target)), 1)
    batches = _batches(total, pieces)
    held = rows * (vector + RUN_ROW_BYTES + (DOCUMENT_BYTES if keyed else 0.0))
    groups = math.ceil(held / limits.BUILD_GROUP_BYTES_MAX)
    groups = min(groups, partitions(rows), clusters, limits.BUILD_BATCHES_MAX)
    ranges = key_range_count(rows) if keyed else 0
    sampled = min(rows, sample_pieces * piece_rows) * vector
    tasks = dict.fromkeys(STAGES, 1)
    tasks |= {
        Stage.ENCODE: 0,
        Stage.SAMPLE: _batches(sampled, sample_pieces),
        Stage.ASSIGN: batches,
        Stage.KEYS: ranges,
        Stage.ASSEMBLE: groups,
    }
    return Cut(
        rows,
        dimension,
        files,
        pieces,
        min(piece_rows, per_file),
        sample_rows,
        sample_pieces,
        clusters,
        partitions(rows),
        groups,
        ranges,
        tasks,
    )


def _batches(size_bytes: int, pieces: int) -> int:
    wanted = math.ceil(size_bytes / limits.BUILD_BATCH_BYTES)
    return max(min(wanted, pieces, limits.BUILD_BATCHES_MAX), 1)


def partitions(rows: int) -> int:
    """Return how many a finished index has."""
    return max(math.ceil(rows / (FULL_SHARE * OPTIONS.partition_rows_target)), 1)


def snapshot_bytes(rows: int) -> float:
    """Return the bytes of a snapshot: it names every segment's objects."""
    return partitions(rows) * SEGMENT_BYTES


def routing_bytes(rows: int, dimension: int) -> float:
    """Return the bytes of the centers of a finished index: a cluster has 512 rows."""
    return rows / limits.CLUSTER_ROWS_TARGET * (4.0 * dimension + 8.0)
