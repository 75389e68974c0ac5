"""Flattening: the first step of a fold, from many commits that hold rows to one flat segment.

It goes the way of a log-structured merge: what was gathered takes flat segments in, the smallest
first, as long as the next has at most `ABSORB_RATIO` times the rows gathered before it. So

- a segment that is taken in becomes part of one at least 1.5 times as large: a row is written
  anew at most log(FLAT_SEGMENT_ROWS_MAX / n) / log 1.5 times, n being the rows of its first
  segment: 16 times from 63 single rows on, and half as often where all are of one size;
- of the segments left each is more than twice as large as the one before: they are at most
  log2(FLAT_SEGMENT_ROWS_MAX), besides those that are too large to be taken in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from squash.arrays import I64
from squash.errors import CommitUnknownError, SquashError
from squash.index.commits import PutRows
from squash.index.fresh import segment_bytes, unclaimed
from squash.index.live import LoadKeys, Opened, fresh_dead
from squash.index.log import IndexLog
from squash.index.reader import SegmentReader
from squash.index.state import claimed_until
from squash.index.writer import replace, write_segment
from squash.limits import FLAT_SEGMENT_ROWS_MAX, FLATTEN_SEGMENT_BYTES_MAX
from squash.maintain.live_rows import LiveRows, drop
from squash.maintain.spill import concatenate, read_rows
from squash.model import IndexConfig, RowBatch, SegmentRef
from squash.segment import build_flat
from squash.values import dataclass

ABSORB_RATIO: Final = 2

LiveOf: TypeAlias = Callable[[SegmentRef], tuple[SegmentReader, I64]]


@dataclass(frozen=True, slots=True)
class Flattening:
    """What becomes one flat segment: commits by their sequences, and flat segments."""

    fresh: tuple[int, ...]
    segments: tuple[SegmentRef, ...]


def plan_flatten(opened: Opened) -> Flattening:
    """Choose what to flatten: the oldest commits, and the flat segments that are not much larger.

    It is what fits one flat segment and the memory of a small function; of commits at least one,
    if there is any. What a fold has claimed is left to it.
    """
    fresh: list[int] = []
    rows = size = 0
    for sequence in unclaimed(opened.state):
        commit = opened.commits[sequence]
        more = len(commit.operation.rows) if isinstance(commit.operation, PutRows) else 0
        if fresh and not _fits(rows + more, size + commit.stored_bytes):
            break
        fresh.append(sequence)
        rows += more
        size += commit.stored_bytes
    segments: list[SegmentRef] = []
    until = claimed_until(opened.state)
    flat = [
        segment
        for segment in opened.state.segments
        if segment.kind == "flat" and segment.as_of > until
    ]
    for segment in sorted(flat, key=lambda one: one.rows) if fresh else []:
        size += segment_bytes(segment)
        if segment.rows > ABSORB_RATIO * rows or not _fits(rows + segment.rows, size):
            break
        segments.append(segment)
        rows += segment.rows
    return Flattening(tuple(fresh), tuple(segments))


def flatten(
    log: IndexLog,
    opened: Opened,
    config: IndexConfig,
    *,
    load_keys: LoadKeys,
    live_of: LiveOf,
) -> Opened:
    """Bring fresh commits, and flat segments of their size, into one flat segment: live rows only.

    Writers go on meanwhile: what they commit applies to the new segment too.

    Parameters
    ----------
    log, opened, config:
        The index as it was read.
    load_keys:
        Gives a segment's key table.
    live_of:
        Gives a segment's reader and its live rows in `opened`: int64, ascending.

    Returns
    -------
    The index with the segment in it; as it was, where there is nothing to flatten.

    Raises
    ------
    ConflictError
        If another fold took one of the inputs first; its result stands, this one left nothing.
    CommitUnknownError
        If the store did not say; what was written stays, for a commit may name it.
    SquashError
        As `IndexLog.append`; what was written is removed, if this may remove anything.

    """
    plan = plan_flatten(opened)
    if not plan.fresh:
        return opened
    source = LiveRows(
        _live_fresh(opened, plan.fresh, config.dimension, load_keys),
        [live_of(segment) for segment in plan.segments],
    )
    rows, records = read_rows(list(source.batches()), config.dimension)
    written: list[SegmentRef] = []
    if len(rows):
        objects = build_flat(rows, non_filterable=config.non_filterable, records=records)
        written.append(
            write_segment(log.store, log.ids.new_id(), "flat", rows=len(rows), objects=objects)
        )
    try:
        return replace(
            log,
            opened,
            inputs=[segment.id for segment in plan.segments],
            fresh=plan.fresh,
            outputs=written,
            base=opened.sequence,
        )
    except CommitUnknownError:
        raise
    except SquashError as error:
        _drop(log, written, error)
        raise


def _drop(log: IndexLog, written: list[SegmentRef], error: SquashError) -> None:
    """Remove what no commit names; a writer need not be allowed to, then it is left to gc."""
    try:
        drop(log.store, written, [])
    except SquashError as left:
        error.add_note(f"and what was written could not be removed: {left}")


def _fits(rows: int, size: int) -> bool:
    return rows <= FLAT_SEGMENT_ROWS_MAX and size <= FLATTEN_SEGMENT_BYTES_MAX


def _live_fresh(
    opened: Opened, fresh: tuple[int, ...], dimension: int, load_keys: LoadKeys
) -> RowBatch:
    dead = fresh_dead(opened, load_keys=load_keys)
    parts: list[RowBatch] = []
    for sequence in fresh:
        operation = opened.commits[sequence].operation
        if isinstance(operation, PutRows):
            live = np.flatnonzero(~dead[sequence])
            rows = operation.rows
            parts.append(
                RowBatch(
                    [rows.keys[row] for row in live.tolist()],
                    rows.vectors[live],
                    [rows.metadata[row] for row in live.tolist()],
                )
            )
    return concatenate(parts, dimension)
