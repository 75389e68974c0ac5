"""Folding: everything that lives in an index, brought into partitions anew."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from squash.arrays import I64
from squash.clock import IdSource
from squash.errors import SquashError
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.reader import SegmentReader
from squash.index.writer import replace, write_object, write_segment
from squash.limits import EXACT_ROWS_MAX
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
            for start in range(0, len(live), _BATCH_ROWS):
                rows = live[start : start + _BATCH_ROWS]
                documents = reader.documents(rows)
                yield RowBatch(
                    [key for key, _ in documents],
                    np.asarray(reader.all_vectors()[rows]),
                    [metadata for _, metadata in documents],
                )


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
    try:
        trained = _write(log, config, source, written, others, options, scratch, report)
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


def _write(
    log: IndexLog,
    config: IndexConfig,
    source: LiveRows,
    written: list[SegmentRef],
    others: list[str],
    options: BuildOptions,
    scratch: Path | None,
    report: Callable[[Progress], None],
) -> ObjectRef | None:
    if source.rows == 0:
        return None
    if source.rows <= EXACT_ROWS_MAX:
        rows = concatenate(list(source.batches()), config.dimension)
        objects = build_flat(rows, non_filterable=config.non_filterable)
        written.append(_store(log.store, log.ids, "flat", objects, len(rows)))
        report(Progress("encode", len(rows), len(rows), "rows"))
        return None

    def write_partition(objects: Mapping[str, bytes], rows: int) -> str:
        written.append(_store(log.store, log.ids, "partition", objects, rows))
        return written[-1].id

    with tempfile.TemporaryDirectory(prefix="squash-", dir=scratch) as folder:
        built = build(
            source,
            config,
            options=options,
            scratch=Path(folder),
            write_partition=write_partition,
            report=report,
        )
    key = f"trained/{log.ids.new_id()}"
    others.append(key)
    return write_object(log.store, key, built.trained.to_bytes())


def _store(
    store: ObjectStore, ids: IdSource, kind: str, objects: Mapping[str, bytes], rows: int
) -> SegmentRef:
    write = partial(write_segment, store, ids.new_id(), rows=rows, objects=objects)
    return write("partition") if kind == "partition" else write("flat")
