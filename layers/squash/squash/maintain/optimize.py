"""Folding: everything that lives in an index, brought into partitions anew."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from squash.arrays import F32, I64
from squash.clock import IdSource
from squash.errors import SquashError
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.reader import SegmentReader
from squash.index.writer import replace, write_object, write_segment
from squash.maintain.build import BuildOptions, build
from squash.maintain.spill import batches, concatenate
from squash.model import IndexConfig, ObjectRef, Progress, RowBatch, SegmentRef
from squash.segment import build_flat
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

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows, some thousands at a time."""
        yield from batches(self._fresh, _BATCH_ROWS)
        for reader, live in self._segments:
            vectors = reader.all_vectors()
            for start in range(0, len(live), _BATCH_ROWS):
                rows = live[start : start + _BATCH_ROWS]
                documents = reader.documents(rows)
                yield RowBatch(
                    [key for key, _ in documents],
                    np.asarray(vectors[rows]),
                    [metadata for _, metadata in documents],
                )

    def vectors(self) -> Iterator[F32]:
        """Yield the vectors of the same rows alone."""
        yield from (part.vectors for part in batches(self._fresh, _BATCH_ROWS))
        for reader, live in self._segments:
            vectors = reader.all_vectors()
            for start in range(0, len(live), _BATCH_ROWS):
                yield np.asarray(vectors[live[start : start + _BATCH_ROWS]])


def optimize(
    log: IndexLog,
    opened: Opened,
    config: IndexConfig,
    source: LiveRows,
    *,
    options: BuildOptions,
    scratch: Path | None,
    report: Callable[[Progress], None],
) -> Opened:
    """Fold a snapshot's live rows into partitions, or, where they are few, one flat segment.

    Writers go on meanwhile: what they commit applies to the new segments too. A fold that loses
    against another drops what it wrote.

    Parameters
    ----------
    log, opened, config:
        The index as it was read.
    source:
        The rows that live in `opened`.
    options:
        Sizes.
    scratch:
        A folder with room for the data; None for the system's.
    report:
        Told of every step.

    Raises
    ------
    ConflictError
        If another fold was first.

    """
    state = opened.state
    written: list[SegmentRef] = []
    others: list[str] = []
    trained: ObjectRef | None = None
    try:
        write = partial(_store, log.store, log.ids, written)
        if source.rows > options.exact_rows_max:
            with tempfile.TemporaryDirectory(prefix="squash-", dir=scratch) as folder:
                built = build(
                    source,
                    config,
                    options=options,
                    scratch=Path(folder),
                    write_partition=partial(write, "partition"),
                    report=report,
                )
            others.append(f"trained/{log.ids.new_id()}")
            trained = write_object(log.store, others[0], built.trained.to_bytes())
        elif source.rows:
            rows = concatenate(list(source.batches()), config.dimension)
            write("flat", build_flat(rows, non_filterable=config.non_filterable), len(rows))
            report(Progress("encode", len(rows), len(rows), "rows"))
        return replace(
            log,
            opened,
            inputs=[segment.id for segment in state.segments],
            fresh=state.fresh,
            outputs=written,
            base=opened.sequence,
            trained=trained,
        )
    except SquashError:
        drop(log.store, written, others)
        raise


def drop(store: ObjectStore, segments: list[SegmentRef], others: list[str]) -> None:
    """Remove objects that no commit names."""
    keys = [ref.key for segment in segments for ref in segment.objects.values()]
    store.delete(keys + others)


def _store(  # noqa: PLR0917 - all but the last two are bound once
    store: ObjectStore,
    ids: IdSource,
    written: list[SegmentRef],
    kind: Literal["flat", "partition"],
    objects: Mapping[str, bytes],
    rows: int,
) -> str:
    segment = write_segment(store, ids.new_id(), kind, rows=rows, objects=objects)
    written.append(segment)
    return segment.id
