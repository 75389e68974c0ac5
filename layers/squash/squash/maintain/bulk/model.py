"""What training leaves to the tasks after it: where rows go, and what partitions share.

The object ``model`` is a container. Rows go to clusters, these to buckets (partitions to be), and
buckets side by side to groups, one for each task of `assemble`. Where the rows are so few that
they become flat segments, nothing is learned, and all go to cluster, bucket and group 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from squash.arrays import F32, I64, AnyArray
from squash.attributes import CellScheme
from squash.container import Buffer, Container
from squash.errors import DataError, UnavailableError
from squash.index.references import MALFORMED
from squash.index.sealed import open_sealed, seal
from squash.maintain.bulk import keys
from squash.maintain.learning import Learned, Placer
from squash.model import Metric
from squash.quantize import are_finite, load_codec
from squash.storage import ObjectStore
from squash.values import dataclass

KIND: Final = "build-model"
VERSION: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where rows go: int64 [n] each."""

    cluster: I64
    bucket: I64
    group: I64


@dataclass(frozen=True, slots=True, eq=False)
class BuildModel:
    """What was learned, and how buckets are dealt out.

    Parameters
    ----------
    learned:
        None where all rows become flat segments.
    cells:
        Of attributes; none, where they do.
    group_begins:
        int64 [g + 1], the first bucket of each group, and the number of buckets.

    """

    learned: Learned | None
    cells: CellScheme
    group_begins: I64

    @property
    def clusters(self) -> int:
        """How many clusters there are, at least one."""
        return 1 if self.learned is None else len(self.learned.centers)

    @property
    def buckets(self) -> int:
        """How many buckets there are, at least one."""
        return int(self.group_begins[-1])

    @property
    def groups(self) -> int:
        """How many groups there are, at least one: as many tasks has `assemble`."""
        return len(self.group_begins) - 1

    def to_bytes(self) -> bytes:
        """Return the object's bytes."""
        cell_header, cell_arrays = self.cells.to_arrays()
        header: dict[str, Any] = {"flat": self.learned is None, "cells": cell_header}
        arrays: dict[str, AnyArray] = {"group_begins": self.group_begins.astype(np.int64)}
        arrays.update({f"cells.{name}": array for name, array in cell_arrays.items()})
        if self.learned is not None:
            header["codec"], codec_arrays = self.learned.codec.to_arrays()
            arrays["centers"] = self.learned.centers.astype(np.float32)
            arrays["bucket_of_cluster"] = self.learned.bucket_of_cluster.astype(np.int64)
            arrays["bucket_rows"] = self.learned.bucket_rows.astype(np.int64)
            arrays["queries"] = self.learned.queries.astype(np.float32)
            arrays.update({f"codec.{name}": array for name, array in codec_arrays.items()})
        return seal(KIND, VERSION, header=header, arrays=arrays)

    @classmethod
    def from_bytes(cls, data: Buffer, where: str, *, dimension: int) -> BuildModel:
        """Read the object; its centres must be of the index's dimension.

        Raises
        ------
        ChecksumError, DataError, UnsupportedFormatError
            If it is damaged, or of a newer format.

        """
        container = open_sealed(data, kind=KIND, versions=(VERSION,), where=where)
        try:
            found = cls(
                None if container.header["flat"] is True else _learned(container),
                CellScheme.from_arrays(
                    container.header["cells"], lambda name: container.array(f"cells.{name}")
                ),
                container.array_of("group_begins", "<i8"),
            )
        except DataError as error:
            error.object_key = error.object_key or where
            raise
        except MALFORMED as error:
            raise _broken(where, f"has parts that do not fit ({error!r})") from error
        _check(found, where, dimension)
        return found


class GroupPlacer:
    """Gives each row its cluster, bucket and group, whatever rows it is asked for together."""

    def __init__(self, model: BuildModel, metric: Metric) -> None:
        self._placer = None if model.learned is None else Placer(model.learned, metric)
        self._group_begins = model.group_begins

    def place(self, vectors: F32) -> Places:
        """Tell where the rows of float32 [n, d] go."""
        if self._placer is None:
            nowhere = np.zeros(len(vectors), dtype=np.int64)
            return Places(nowhere, nowhere, nowhere)
        cluster, bucket = self._placer.place(vectors)
        group = np.searchsorted(self._group_begins, bucket, side="right") - 1
        return Places(cluster, bucket, group.astype(np.int64))


def group_buckets(bucket_rows: I64, *, row_bytes: int, bytes_max: int, groups_max: int) -> I64:
    """Deal buckets out, side by side, to groups of about `bytes_max` bytes.

    Parameters
    ----------
    bucket_rows:
        int64 [b], about how many rows each bucket will have; b at least 1.
    row_bytes:
        What a row takes, about.
    bytes_max:
        Of a group; one bucket at least is in each.
    groups_max:
        If there would be more, groups are larger.

    Returns
    -------
    int64 [g + 1], the first bucket of each group, and b.

    """
    ends = np.cumsum(bucket_rows) * row_bytes
    size = max(bytes_max, 1)
    while True:
        begins = [0]
        while begins[-1] < len(bucket_rows):
            first = begins[-1]
            before = int(ends[first - 1]) if first else 0
            after = int(np.searchsorted(ends, before + size, side="right"))
            begins.append(max(after, first + 1))
        if len(begins) - 1 <= groups_max:
            return np.array(begins, dtype=np.int64)
        size *= 2


def read_model(store: ObjectStore, build: str, *, dimension: int) -> BuildModel:
    """Return what training left.

    Raises
    ------
    UnavailableError
        If the build is not trained yet.
    DataError, UnsupportedFormatError
        If the object is damaged, or of a newer format.

    """
    key = keys.model_key(build)
    data = store.get(key)
    if data is None:
        raise UnavailableError(f"build {build} is not trained yet: {key} is not there")
    return BuildModel.from_bytes(data, key, dimension=dimension)


def write_model(store: ObjectStore, build: str, model: BuildModel, *, dimension: int) -> BuildModel:
    """Store what training left, unless there is something; return what is there.

    On a processor of another kind the same sample gives another model: once rows are dealt out by
    one, a task that runs twice must not exchange it.
    """
    if store.put_if_absent(keys.model_key(build), model.to_bytes()):
        return model
    return read_model(store, build, dimension=dimension)


def _learned(container: Container) -> Learned:
    return Learned(
        codec=load_codec(container.header["codec"], lambda name: container.array(f"codec.{name}")),
        centers=container.array_of("centers", "<f4", 2),
        bucket_of_cluster=container.array_of("bucket_of_cluster", "<i8"),
        bucket_rows=container.array_of("bucket_rows", "<i8"),
        queries=container.array_of("queries", "<f4", 2),
    )


def _check(model: BuildModel, where: str, dimension: int) -> None:
    begins, learned = model.group_begins, model.learned
    buckets = 1 if learned is None else learned.buckets
    if (
        len(begins) < 2  # noqa: PLR2004 - one group, and its end
        or begins[0] != 0
        or begins[-1] != buckets
        or bool(np.any(begins[1:] <= begins[:-1]))
    ):
        raise _broken(where, "deals its buckets out to no groups that fit them")
    if learned is None:
        return
    clusters, bucket = len(learned.centers), learned.bucket_of_cluster
    if (
        not clusters
        or learned.centers.shape[1] != dimension
        or learned.codec.dimension != dimension
        or learned.queries.shape[1] != dimension
        or bucket.shape != (clusters,)
        or int(bucket.min()) < 0
        or int(bucket.max()) >= buckets
        or bool(np.any(learned.bucket_rows < 0))
    ):
        raise _broken(where, "has clusters and buckets that do not fit each other")
    codec = learned.codec
    if not are_finite(learned.centers, learned.queries, codec.mean, codec.rotation):
        raise _broken(where, "holds values that are not finite")


def _broken(where: str, what: str) -> DataError:
    return DataError(f"{where} {what}: start the build anew", object_key=where)
