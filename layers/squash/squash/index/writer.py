"""Putting, deleting and replacing: from rows to a durable commit."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from squash.errors import ConflictError, InvalidArgumentError, UnavailableError
from squash.index.commits import DeleteKeys, Operation, PutRows, PutSegments, Replace
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.object_keys import segment_key
from squash.index.state import State
from squash.limits import (
    COMMIT_WITHIN_MS,
    FLAT_SEGMENT_ROWS_MAX,
    INLINE_COMMIT_BYTES_MAX,
    INLINE_COMMIT_ROWS_MAX,
)
from squash.model import ObjectRef, RowBatch, SegmentRef
from squash.storage import ObjectStore

BuildFlat: TypeAlias = Callable[[RowBatch], Mapping[str, bytes]]
Condition: TypeAlias = Callable[[Opened], None]
"""Raises if a write may not follow a state."""


def put(
    log: IndexLog,
    opened: Opened,
    rows: RowBatch,
    *,
    build_flat: BuildFlat,
    condition: Condition | None = None,
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
    condition:
        Asked of the state that the commit would follow, before anything is written.
    commit_id:
        To repeat a call whose outcome was unknown; else a new one is made.

    Raises
    ------
    SquashError
        As `IndexLog.append`, and what the store raises while segments are written.

    """
    if not len(rows) and condition is None:
        return opened
    putting = Putting(log, rows, build_flat=build_flat)

    def decide(opened: Opened) -> Operation | None:
        if condition is not None:
            condition(opened)
        return putting.operation() if len(rows) else None

    if commit_id is not None and not putting.inline:
        # What repeats a call that happened need not write its segments again.
        opened = log.refresh(opened)
    return log.append(opened, decide, commit_id=commit_id or log.ids.new_id())


class Putting:
    """What puts rows: made when it is first asked for, and then the same however often.

    Parameters
    ----------
    log:
        The index's.
    rows:
        At least one, checked, with no key twice.
    build_flat:
        Makes a flat segment's objects, by name.

    """

    def __init__(self, log: IndexLog, rows: RowBatch, *, build_flat: BuildFlat) -> None:
        self._log = log
        self._rows = rows
        self._build_flat = build_flat
        self._made: PutSegments | None = None
        self._begun_ms = 0
        self.inline: Final = len(rows) <= INLINE_COMMIT_ROWS_MAX and _fits_inline(rows)
        """Whether the commit holds the rows itself."""

    def operation(self) -> Operation:
        """Return the operation; many rows are first written to flat segments.

        Raises
        ------
        UnavailableError
            If they were written too long ago to be named now.

        """
        if self.inline:
            return PutRows(self._rows)
        if self._made is None:
            self._begun_ms = self._log.now_ms()
            self._made = _put_segments(self._log, self._rows, self._build_flat)
        check_in_time(self._log, self._begun_ms)
        return self._made


def check_in_time(log: IndexLog, begun_ms: int) -> None:
    """Refuse to name objects that garbage collection may take: nobody has named them for so long.

    Parameters
    ----------
    log:
        The index's.
    begun_ms:
        When the first of them was about to be written.

    Raises
    ------
    UnavailableError
        If that was more than `COMMIT_WITHIN_MS` ago.

    """
    if log.now_ms() - begun_ms > COMMIT_WITHIN_MS:
        raise UnavailableError(
            f"writing took more than {COMMIT_WITHIN_MS // 3_600_000} hours, and what was written "
            "first may have been collected: repeat the call, with less in it"
        )


def _put_segments(log: IndexLog, rows: RowBatch, build_flat: BuildFlat) -> PutSegments:
    segments = []
    for start in range(0, len(rows), FLAT_SEGMENT_ROWS_MAX):
        part = slice(start, start + FLAT_SEGMENT_ROWS_MAX)
        batch = RowBatch(rows.keys[part], rows.vectors[part], rows.metadata[part])
        segments.append(
            write_segment(
                log.store, log.ids.new_id(), "flat", rows=len(batch), objects=build_flat(batch)
            )
        )
    return PutSegments(tuple(segments))


def delete(
    log: IndexLog,
    opened: Opened,
    keys: Sequence[str],
    *,
    condition: Condition | None = None,
    commit_id: str | None = None,
) -> Opened:
    """Delete records, all at once; keys that are not there do no harm.

    Raises
    ------
    SquashError
        As `IndexLog.append`.

    """
    if not keys and condition is None:
        return opened

    def decide(opened: Opened) -> Operation | None:
        if condition is not None:
            condition(opened)
        return DeleteKeys(keys) if keys else None

    return log.append(opened, decide, commit_id=commit_id or log.ids.new_id())


def check_unchanged(state: State, if_snapshot: int | None) -> None:
    """Refuse a write if records changed after a snapshot; folds change none.

    Parameters
    ----------
    state:
        The state that the write would follow.
    if_snapshot:
        The snapshot's number, at least 0; None makes no condition.

    Raises
    ------
    ConflictError
        If a later commit put or deleted records.
    InvalidArgumentError
        If there is no such snapshot yet.

    """
    if if_snapshot is None:
        return
    if if_snapshot > state.sequence:
        raise InvalidArgumentError(
            f"if_snapshot is {if_snapshot}, and the newest snapshot is {state.sequence}: give the "
            "number of one that was read",
            field="if_snapshot",
        )
    if state.changed > if_snapshot:
        raise ConflictError(
            f"records changed after snapshot {if_snapshot}, in commit {state.changed}; the newest "
            f"snapshot is {state.sequence}: read it, then decide again",
            field="if_snapshot",
        )


def replace(
    log: IndexLog,
    opened: Opened,
    *,
    inputs: Sequence[str],
    fresh: Sequence[int],
    outputs: Sequence[SegmentRef],
    base: int,
    trained: ObjectRef | None = None,
    begun_ms: int | None = None,
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
    begun_ms:
        When the first object of `outputs` was about to be written, if that was before `opened` was
        read; see `check_in_time`. Commits after the base count from its reading on too: what they
        did to the outputs must not be collected before it is known to be needed.
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
    UnavailableError
        If it began too long ago: drop the outputs.
    SquashError
        As `IndexLog.append`.

    """
    operation = Replace(tuple(inputs), tuple(fresh), tuple(outputs), trained, base, trained_base)
    began_ms = opened.read_ms if begun_ms is None else min(begun_ms, opened.read_ms)

    def decide(opened: Opened) -> Operation:
        del opened
        check_in_time(log, began_ms)
        return operation

    return log.append(opened, decide, commit_id=commit_id or log.ids.new_id())


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
        references[name] = write_object(store, segment_key(segment_id, name), data)
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
