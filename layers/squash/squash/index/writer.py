"""Putting, deleting and replacing: from rows to a durable commit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from squash.index.commits import DeleteKeys, PutRows, PutSegments, Replace
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.limits import FLAT_SEGMENT_ROWS_MAX, INLINE_COMMIT_BYTES_MAX, INLINE_COMMIT_ROWS_MAX
from squash.model import ObjectRef, RowBatch, SegmentRef
from squash.storage import ObjectStore

BuildFlat: TypeAlias = Callable[[RowBatch], Mapping[str, bytes]]


def put(
    log: IndexLog,
    opened: Opened,
    rows: RowBatch,
    *,
    build_flat: BuildFlat,
    commit_id: str | None = None,
) -> Opened:
    """Put rows, all at once; few are held by the commit, many by flat segments written before.

    Parameters
    ----------
    log, opened:
        The index.
    rows:
        Checked, with no key twice.
    build_flat:
        Makes a flat segment's objects, by name.
    commit_id:
        To repeat a call whose outcome was unknown; else a new one is made.

    Raises
    ------
    SquashError
        As `IndexLog.append`, and what the store raises while segments are written.

    """
    if not len(rows):
        return opened
    commit_id = commit_id or log.ids.new_id()
    if len(rows) <= INLINE_COMMIT_ROWS_MAX and _fits_inline(rows):
        return log.append(opened, PutRows(rows), commit_id=commit_id)
    segments = []
    for start in range(0, len(rows), FLAT_SEGMENT_ROWS_MAX):
        part = slice(start, start + FLAT_SEGMENT_ROWS_MAX)
        batch = RowBatch(rows.keys[part], rows.vectors[part], rows.metadata[part])
        segments.append(
            write_segment(
                log.store, log.ids.new_id(), "flat", rows=len(batch), objects=build_flat(batch)
            )
        )
    return log.append(opened, PutSegments(tuple(segments)), commit_id=commit_id)


def delete(
    log: IndexLog, opened: Opened, keys: Sequence[str], *, commit_id: str | None = None
) -> Opened:
    """Delete records, all at once; keys that are not there do no harm.

    Raises
    ------
    SquashError
        As `IndexLog.append`.

    """
    if not keys:
        return opened
    return log.append(opened, DeleteKeys(keys), commit_id=commit_id or log.ids.new_id())


def replace(
    log: IndexLog,
    opened: Opened,
    *,
    inputs: Sequence[str],
    fresh: Sequence[int],
    outputs: Sequence[SegmentRef],
    base: int,
    trained: ObjectRef | None = None,
    trained_base: str | None = None,
    commit_id: str | None = None,
) -> Opened:
    """Put segments in the place of others and of fresh commits; no record changes.

    Parameters
    ----------
    log, opened:
        The index.
    inputs, fresh:
        Ids of segments and sequences of commits whose live rows `outputs` hold.
    outputs:
        Segments already written.
    base:
        The commit after which the inputs were read.
    trained:
        What new partitions share; None to leave what is.
    trained_base:
        The key of the trained object that `trained` was made of, where it lists partitions that
        are no outputs; else None.
    commit_id:
        To repeat a call whose outcome was unknown; else a new one is made.

    Raises
    ------
    ConflictError
        If an input is live no more, or another fold has changed the trained object: drop the
        outputs.
    SquashError
        As `IndexLog.append`.

    """
    operation = Replace(tuple(inputs), tuple(fresh), tuple(outputs), trained, base, trained_base)
    return log.append(opened, operation, commit_id=commit_id or log.ids.new_id())


def write_segment(
    store: ObjectStore,
    segment_id: str,
    kind: Literal["flat", "partition"],
    *,
    rows: int,
    objects: Mapping[str, bytes],
) -> SegmentRef:
    """Store a segment's objects and return the reference that a commit names it by.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    segment_id, kind, rows:
        Of the segment.
    objects:
        Bytes by name.

    """
    references = {}
    for name, data in objects.items():
        references[name] = write_object(store, f"segments/{segment_id}/{name}", data)
    return SegmentRef(id=segment_id, kind=kind, rows=rows, as_of=0, objects=references)


def write_object(store: ObjectStore, key: str, data: bytes) -> ObjectRef:
    """Store an object under a key of its own and return its reference."""
    store.put(key, data)
    return ObjectRef(key, len(data), zlib.crc32(data))


def _fits_inline(rows: RowBatch) -> bool:
    total = rows.vectors.nbytes + sum(len(key.encode()) for key in rows.keys)
    for metadata in rows.metadata:
        if total > INLINE_COMMIT_BYTES_MAX:
            break
        total += len(json.dumps(metadata, ensure_ascii=False).encode())
    return total <= INLINE_COMMIT_BYTES_MAX
