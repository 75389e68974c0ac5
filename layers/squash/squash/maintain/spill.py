"""Rows on their way from the order they came in to the partition they belong to.

A build reads its source once from front to back and must hand over one partition at a time.
Between the two lie files in a scratch folder, some for each bucket, so that memory holds one bucket
at most, whatever the size of the whole. Keys and metadata lie there as blocks of JSON, a block for
each batch: one call writes or reads a block, and it is the calls that cost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from squash.arrays import F32, I64
from squash.model import Metadata, RowBatch


class Spill:
    """Files of rows by bucket.

    Parameters
    ----------
    folder:
        An empty folder on a local disk with room for the data.
    dimension:
        d.
    buckets:
        How many buckets there are.

    """

    def __init__(self, folder: Path, *, dimension: int, buckets: int) -> None:
        self._folder = folder
        self._dimension = dimension
        self._block_bytes: list[list[int]] = [[] for _ in range(buckets)]
        self.buckets = buckets
        self.rows = 0

    def add(self, rows: RowBatch, *, bucket: I64, cluster: I64) -> None:
        """Append rows, each to its bucket, with the cluster it was assigned to."""
        self.rows += len(rows)
        order = np.argsort(bucket, kind="stable")
        begins = np.searchsorted(bucket[order], np.arange(self.buckets + 1))
        for number in np.flatnonzero(np.diff(begins)).tolist():
            mine = order[begins[number] : begins[number + 1]]
            self._append(number, ".vectors", rows.vectors[mine].astype("<f4").tobytes())
            self._append(number, ".clusters", cluster[mine].astype("<i8").tobytes())
            keys = [rows.keys[row] for row in mine.tolist()]
            metadata = [rows.metadata[row] for row in mine.tolist()]
            block = json.dumps([keys, metadata], ensure_ascii=False).encode()
            self._append(number, ".documents", block)
            self._block_bytes[number].append(len(block))

    def clusters(self, bucket: int) -> I64:
        """Return the cluster of each row of a bucket."""
        path = self._path(bucket, ".clusters")
        return np.fromfile(path, dtype="<i8") if path.exists() else np.empty(0, np.int64)

    def vectors(self, bucket: int) -> F32:
        """Return the vectors of a bucket, mapped from its file: float32 [n, d]."""
        path = self._path(bucket, ".vectors")
        return np.memmap(path, dtype="<f4", mode="r").reshape(-1, self._dimension)

    def read(self, bucket: int, rows: I64) -> RowBatch:
        """Read a bucket whole, its rows in the given order."""
        keys: list[str] = []
        metadata: list[Metadata] = []
        for some_keys, some_metadata in self._blocks(bucket):
            keys += some_keys
            metadata += some_metadata
        places = rows.tolist()
        return RowBatch(
            [keys[row] for row in places],
            np.asarray(self.vectors(bucket)[rows]),
            [metadata[row] for row in places],
        )

    def batches(self, bucket: int) -> Iterator[tuple[RowBatch, I64]]:
        """Yield a bucket's rows as they were added, with their clusters."""
        cluster, vectors = self.clusters(bucket), self.vectors(bucket)
        start = 0
        for keys, metadata in self._blocks(bucket):
            mine = slice(start, start + len(keys))
            yield RowBatch(keys, np.asarray(vectors[mine]), metadata), cluster[mine]
            start += len(keys)

    def split(self, bucket: int, *, part: I64, cluster: I64) -> Spill:
        """Distribute a bucket that is too large to be read whole.

        Parameters
        ----------
        bucket:
            Which.
        part, cluster:
            int64 [n], each row's bucket and cluster in what is returned. Rows keep their order.

        """
        folder = self._folder / f"{bucket}.parts"
        folder.mkdir()
        parts = Spill(folder, dimension=self._dimension, buckets=int(part.max()) + 1)
        start = 0
        for batch, _ in self.batches(bucket):
            mine = slice(start, start + len(batch))
            parts.add(batch, bucket=part[mine], cluster=cluster[mine])
            start += len(batch)
        return parts

    def drop(self, bucket: int) -> None:
        """Remove a bucket's files."""
        for suffix in (".vectors", ".clusters", ".documents"):
            self._path(bucket, suffix).unlink(missing_ok=True)

    def _blocks(self, bucket: int) -> Iterator[tuple[list[str], list[Metadata]]]:
        with self._path(bucket, ".documents").open("rb") as file:
            for length in self._block_bytes[bucket]:
                keys, metadata = json.loads(file.read(length))
                yield keys, metadata

    def _append(self, bucket: int, suffix: str, data: bytes) -> None:
        with self._path(bucket, suffix).open("ab") as file:
            file.write(data)

    def _path(self, bucket: int, suffix: str) -> Path:
        return self._folder / f"{bucket}{suffix}"


def batches(rows: RowBatch, size: int) -> Iterator[RowBatch]:
    """Cut rows into batches."""
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        yield RowBatch(rows.keys[part], rows.vectors[part], rows.metadata[part])


def concatenate(parts: Sequence[RowBatch], dimension: int) -> RowBatch:
    """Join batches."""
    vectors = [np.empty((0, dimension), np.float32), *(part.vectors for part in parts)]
    return RowBatch(
        [key for part in parts for key in part.keys],
        np.concatenate(vectors),
        [metadata for part in parts for metadata in part.metadata],
    )
