"""Making the content of an index again what it was after an earlier commit.

Its segments come back by reference, with bitmaps of the rows that were dead then; rows that were in
no segment are written to flat ones. Garbage collection may be about to remove what no later state
needs: `maintain/gc.py` says why it does not, or why this gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from squash.errors import CommitUnknownError, NotFoundError, SquashError, UnavailableError
from squash.index import snapshots
from squash.index.commits import Operation, Replace, log_key
from squash.index.live import LoadKeys, Opened, unpack_mask
from squash.index.log import IndexLog
from squash.index.object_keys import SEGMENTS, TRAINED
from squash.index.writer import BuildFlat, check_unchanged, write_segment
from squash.limits import FLAT_SEGMENT_ROWS_MAX, RESTORE_WITHIN_MS
from squash.maintain.live_rows import drop
from squash.model import ObjectRef, RowBatch, SegmentRef


def restore(
    log: IndexLog,
    opened: Opened,
    then: Opened,
    fresh: RowBatch,
    *,
    load_keys: LoadKeys,
    build_flat: BuildFlat,
    if_snapshot: int | None,
    commit_id: str,
) -> Opened:
    """Make the content of an index what it was; nothing is done if no record changed since.

    Parameters
    ----------
    log, opened:
        The index.
    then:
        The index as it was.
    fresh:
        The rows that were live then and in no segment.
    load_keys, build_flat:
        Gives a segment's key table; makes a flat segment's objects.
    if_snapshot:
        Only if no record changed after this snapshot; None makes no condition.
    commit_id:
        Of the commit; repeated with the same one, it happens once.

    Returns
    -------
    The index with the commit in it; as it was where there was nothing to do.

    Raises
    ------
    ConflictError
        If records changed after `if_snapshot`.
    NotFoundError
        If what the index was then was collected meanwhile.
    UnavailableError
        If it took too long, or the store did not answer; nothing was changed.
    CommitUnknownError
        If it is not known whether it happened.
    SquashError
        As `IndexLog.append`.

    """
    written: list[SegmentRef] = []
    try:
        restoring = _Restoring(log, then, load_keys)
        if not restoring.wanted(opened, if_snapshot):
            opened = log.refresh(opened)
            if commit_id in opened.state.recent or not restoring.wanted(opened, if_snapshot):
                return opened
        restoring.prepare(fresh, build_flat, written)
        opened = restoring.begin(opened)
        return restoring.commit(opened, if_snapshot, commit_id)
    except CommitUnknownError:
        # What may have been committed is not dropped.
        raise
    except SquashError:
        drop(log.store, written, [])
        raise


def restored_rows(log: IndexLog, outputs: Sequence[SegmentRef]) -> int:
    """Return how many rows live in segments with the bitmaps that they are named with."""
    rows = 0
    for segment in outputs:
        rows += segment.rows
        if segment.deleted is not None:
            rows -= int(unpack_mask(log.load_bitmap(segment.deleted), segment.rows).sum())
    return rows


class _Restoring:
    """The steps of one restoration."""

    def __init__(self, log: IndexLog, then: Opened, load_keys: LoadKeys) -> None:
        self._log = log
        self._then = then
        self._load_keys = load_keys
        self._outputs: tuple[SegmentRef, ...] = ()
        self._begun_ms = 0

    def wanted(self, opened: Opened, if_snapshot: int | None) -> bool:
        """Tell if records changed since; refuse if the condition does not hold."""
        check_unchanged(opened.state, if_snapshot)
        return opened.state.changed > self._then.sequence

    def prepare(self, fresh: RowBatch, build_flat: BuildFlat, written: list[SegmentRef]) -> None:
        """Write what the commit will name and is not there: bitmaps, and flat segments."""
        store = self._log.store
        state, bitmaps = snapshots.materialise(
            self._then, load_keys=self._load_keys, load_bitmap=self._log.load_bitmap
        )
        for key, data in bitmaps.items():
            store.put_if_absent(key, data)
        for start in range(0, len(fresh), FLAT_SEGMENT_ROWS_MAX):
            part = slice(start, start + FLAT_SEGMENT_ROWS_MAX)
            rows = RowBatch(fresh.keys[part], fresh.vectors[part], fresh.metadata[part])
            written.append(
                write_segment(
                    store,
                    self._log.ids.new_id(),
                    "flat",
                    rows=len(rows),
                    objects=build_flat(rows),
                )
            )
        stood = [replace(segment, as_of=0, deleted_as_of=0) for segment in state.segments]
        self._outputs = (*stood, *written)

    def begin(self, opened: Opened) -> Opened:
        """Commit what will be named, and see that it was not being collected before that."""
        self._begun_ms = self._log.now_ms()

        def decide(opened: Opened) -> Operation:
            return self._operation(opened, begins=True)

        try:
            opened = self._log.append(opened, decide, commit_id=self._log.ids.new_id())
        except CommitUnknownError as error:
            raise UnavailableError(
                "the store did not answer; nothing was restored: repeat the call"
            ) from error
        if not self._leads_there() or not self._all_there():
            raise NotFoundError(
                f"snapshot {self._then.sequence} was collected meanwhile, and nothing was "
                "restored: choose a newer one; Index.snapshots() tells which there are"
            )
        return opened

    def commit(self, opened: Opened, if_snapshot: int | None, commit_id: str) -> Opened:
        """Replace all that is there then."""

        def decide(opened: Opened) -> Operation | None:
            if not self.wanted(opened, if_snapshot):
                return None
            if self._log.now_ms() - self._begun_ms > RESTORE_WITHIN_MS:
                raise UnavailableError(
                    f"restoring took more than {RESTORE_WITHIN_MS // 60_000} minutes, and what it "
                    "names may have been collected: repeat the call"
                )
            return self._operation(opened)

        return self._log.append(opened, decide, commit_id=commit_id)

    def _operation(self, opened: Opened, *, begins: bool = False) -> Replace:
        state = opened.state
        return Replace(
            inputs=() if begins else tuple(segment.id for segment in state.segments),
            fresh=() if begins else state.fresh,
            outputs=self._outputs,
            trained=self._trained(),
            base=opened.sequence,
            content="restore",
            begins=begins,
            restored=self._then.sequence,
        )

    def _trained(self) -> ObjectRef | None:
        return self._then.state.trained

    def _leads_there(self) -> bool:
        """Tell if a snapshot or the first commit, and what came after it, lead there still."""
        store, sequence = self._log.store, self._then.sequence
        stored = snapshots.newest_snapshot(store, until=sequence)
        wanted = {log_key(one) for one in range(stored + 1, sequence + 1)}
        after = log_key(stored)
        found = {info.key for info in store.list("log/", start_after=after, limit=len(wanted))}
        return wanted <= found

    def _all_there(self) -> bool:
        """Tell if all objects that will be named are."""
        refs = [ref for segment in self._outputs for ref in segment.objects.values()]
        refs += [segment.deleted for segment in self._outputs if segment.deleted is not None]
        trained = self._trained()
        refs += [] if trained is None else [trained]
        wanted = {ref.key for ref in refs}
        for prefix in (SEGMENTS, TRAINED):
            wanted -= {info.key for info in self._log.store.list(prefix)}
        return not wanted
