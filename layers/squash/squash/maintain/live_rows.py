"""The rows that live in a snapshot, from front to back; and segments written by a fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from squash.arrays import F32, I64
from squash.clock import IdSource
from squash.index.reader import SegmentReader
from squash.index.writer import write_segment
from squash.maintain.spill import WrittenRows, batches, written_rows
from squash.model import RowBatch, SegmentRef
from squash.segment import write_records
from squash.storage import ObjectStore

_BATCH_ROWS = 16_384


class LiveRows:
    """The live rows of a snapshot, from front to back.

    Parameters
    ----------
    fresh:
        The rows that only the log holds.
    segments:
        The segments, each with its live rows (int64, ascending).

    """

    def __init__(self, fresh: RowBatch, segments: list[tuple[SegmentReader, I64]]) -> None:
        self._fresh = fresh
        self._segments = segments
        self.rows = len(fresh) + sum(len(rows) for _, rows in segments)

    def batches(self) -> Iterator[WrittenRows]:
        """Yield all rows, some thousands at a time."""
        yield from map(written_rows, batches(self._fresh, _BATCH_ROWS))
        for reader, live in self._segments:
            yield from segment_batches(reader, live)

    def vectors(self) -> Iterator[F32]:
        """Yield the vectors of the same rows alone, float32 [n, d] some thousands at a time."""
        yield from (part.vectors for part in batches(self._fresh, _BATCH_ROWS))
        for reader, live in self._segments:
            vectors = reader.all_vectors()
            for start in range(0, len(live), _BATCH_ROWS):
                yield _some(vectors, live[start : start + _BATCH_ROWS])


def segment_batches(reader: SegmentReader, live: I64) -> Iterator[WrittenRows]:
    """Yield some rows of a segment, int64 [n], some thousands at a time, in the order given.

    Where the segment's records are read whole, they are handed on as they are stored.
    """
    if not len(live):
        return
    vectors = reader.all_vectors()
    for start in range(0, len(live), _BATCH_ROWS):
        rows = live[start : start + _BATCH_ROWS]
        whole = reader.whole_records(rows)
        if whole is None:
            pairs = reader.documents(rows)
            records = write_records([key for key, _ in pairs], [values for _, values in pairs])
        else:
            records = whole.written_all(rows)
        yield WrittenRows(_some(vectors, rows), records)


def _some(vectors: F32, rows: I64) -> F32:
    """Return some rows, at least one; where they lie side by side, in order, without a copy."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first == len(rows) and np.array_equal(rows, np.arange(first, last)):
        return np.asarray(vectors[first:last])
    return np.asarray(vectors[rows])


def drop(store: ObjectStore, segments: list[SegmentRef], others: list[str]) -> None:
    """Remove objects that no commit names."""
    keys = [ref.key for segment in segments for ref in segment.objects.values()]
    store.delete(keys + others)


def store_segment(  # noqa: PLR0917 - all but the last two are bound once
    store: ObjectStore,
    ids: IdSource,
    written: list[SegmentRef],
    kind: Literal["flat", "partition"],
    objects: Mapping[str, bytes],
    rows: int,
) -> str:
    """Store a segment, add it to those written, and return its id."""
    segment = write_segment(store, ids.new_id(), kind, rows=rows, objects=objects)
    written.append(segment)
    return segment.id
