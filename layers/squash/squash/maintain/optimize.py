"""Folding: everything that lives in an index, brought into partitions anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from squash.errors import CommitUnknownError, SquashError
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.object_keys import trained_key
from squash.index.writer import replace, write_object
from squash.maintain.build import BuildOptions, build
from squash.maintain.live_rows import LiveRows, drop, store_segment
from squash.maintain.spill import read_rows
from squash.model import IndexConfig, ObjectRef, SegmentRef
from squash.reports import Progress
from squash.segment import build_flat
from squash.storage.scratch import scratch_folder


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
    CommitUnknownError
        If it is not known whether the fold was committed; nothing is dropped then.

    """
    state, begun_ms = opened.state, log.now_ms()
    written: list[SegmentRef] = []
    others: list[str] = []
    trained: ObjectRef | None = None
    try:
        write = partial(store_segment, log.store, log.ids, written)
        if source.rows > options.exact_rows_max:
            with scratch_folder(scratch) as folder:
                built = build(
                    source,
                    config,
                    options=options,
                    scratch=folder,
                    write_partition=lambda _bucket, _part, objects, rows: write(
                        "partition", objects, rows
                    ),
                    report=report,
                )
            others.append(trained_key(log.ids.new_id()))
            trained = write_object(log.store, others[0], built.to_bytes())
        elif source.rows:
            rows, records = read_rows(list(source.batches()), config.dimension)
            objects = build_flat(rows, non_filterable=config.non_filterable, records=records)
            write("flat", objects, len(rows))
            report(Progress("encode", len(rows), len(rows), "rows"))
        return replace(
            log,
            opened,
            inputs=[segment.id for segment in state.segments],
            fresh=state.fresh,
            outputs=written,
            base=opened.sequence,
            trained=trained,
            begun_ms=begun_ms,
        )
    except CommitUnknownError:
        # What may have been committed is not dropped.
        raise
    except SquashError:
        drop(log.store, written, others)
        raise
