"""Rows on their way from the order they came in to the partition they belong to.

A build reads its source once from front to back and must hand over one partition at a time.
Between the two lie files in a scratch folder, some for each bucket, so that memory holds one bucket
at most, whatever the size of the whole. Keys and metadata lie there as the JSON that segments hold:
it is written where it is not at hand yet, and parsed once, for columns and hashes of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from squash.arrays import F32, I64
from squash.model import RowBatch
from squash.segment import read_records, write_records
from squash.values import dataclass

_BATCH_ROWS = 16_384
_LENGTHS = ".lengths"
_RECORDS = ".documents"


@dataclass(frozen=True, slots=True, eq=False)
class WrittenRows:
    """Rows on their way: float32 [n, d], and the JSON of each [key, metadata]."""

    vectors: F32
    records: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.records)


def written_rows(rows: RowBatch) -> WrittenRows:
    """Write the records of some rows."""
    return WrittenRows(rows.vectors, write_records(rows.keys, rows.metadata))


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
        self.buckets = buckets
        self.rows = 0

    def add(self, rows: WrittenRows, *, bucket: I64, cluster: I64) -> None:
        """Append n rows, each to its bucket, int64 [n], with the cluster it is in, int64 [n]."""
        self.rows += len(rows)
        order = np.argsort(bucket, kind="stable")
        begins = np.searchsorted(bucket[order], np.arange(self.buckets + 1))
        for number in np.flatnonzero(np.diff(begins)).tolist():
            mine = order[begins[number] : begins[number + 1]]
            self._append(number, ".vectors", rows.vectors[mine].astype("<f4").tobytes())
            self._append(number, ".clusters", cluster[mine].astype("<i8").tobytes())
            records = [rows.records[row] for row in mine.tolist()]
            self._append(number, _RECORDS, b"".join(records))
            lengths = np.fromiter(map(len, records), dtype="<u4", count=len(records))
            self._append(number, _LENGTHS, lengths.tobytes())

    def clusters(self, bucket: int) -> I64:
        """Return int64 [n], the cluster of each row of a bucket."""
        path = self._path(bucket, ".clusters")
        return np.fromfile(path, dtype="<i8") if path.exists() else np.empty(0, np.int64)

    def vectors(self, bucket: int) -> F32:
        """Return the vectors of a bucket, mapped from its file: float32 [n, d]."""
        path = self._path(bucket, ".vectors")
        return np.memmap(path, dtype="<f4", mode="r").reshape(-1, self._dimension)

    def records(self, bucket: int, rows: I64) -> list[bytes]:
        """Return the records of some rows of a bucket, int64 [m], in their order."""
        ends = self._record_ends(bucket)
        begins = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
        places = zip(begins[rows].tolist(), ends[rows].tolist(), strict=True)
        with (
            self._path(bucket, _RECORDS).open("rb") as file,
            mmap(file.fileno(), 0, access=ACCESS_READ) as data,
        ):
            return [data[begin:end] for begin, end in places]

    def batches(self, bucket: int) -> Iterator[tuple[WrittenRows, I64]]:
        """Yield a bucket's rows, some thousands at a time, with their clusters, int64 [n]."""
        cluster, vectors = self.clusters(bucket), self.vectors(bucket)
        ends = self._record_ends(bucket)
        with self._path(bucket, _RECORDS).open("rb") as file:
            for start in range(0, len(ends), _BATCH_ROWS):
                mine = slice(start, start + _BATCH_ROWS)
                lengths = np.diff(ends[mine], prepend=ends[start - 1] if start else 0)
                records = [file.read(length) for length in lengths.tolist()]
                yield WrittenRows(np.asarray(vectors[mine]), records), cluster[mine]

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
        for suffix in (".vectors", ".clusters", _LENGTHS, _RECORDS):
            self._path(bucket, suffix).unlink(missing_ok=True)

    def _record_ends(self, bucket: int) -> I64:
        lengths = np.fromfile(self._path(bucket, _LENGTHS), dtype="<u4")
        return np.cumsum(lengths, dtype=np.int64)

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


def read_rows(parts: Sequence[WrittenRows], dimension: int) -> tuple[RowBatch, Sequence[bytes]]:
    """Join batches and read their records, which come with them.

    Raises
    ------
    DataError
        If one is no record: the segment that it comes from is damaged.

    """
    records = [record for part in parts for record in part.records]
    keys, metadata = read_records(records)
    vectors = [np.empty((0, dimension), np.float32), *(part.vectors for part in parts)]
    return RowBatch(keys, np.concatenate(vectors), metadata), records


def concatenate(parts: Sequence[RowBatch], dimension: int) -> RowBatch:
    """Join batches."""
    vectors = [np.empty((0, dimension), np.float32), *(part.vectors for part in parts)]
    return RowBatch(
        [key for part in parts for key in part.keys],
        np.concatenate(vectors),
        [metadata for part in parts for metadata in part.metadata],
    )
