"""The past of an index: which snapshot a number or a moment means, and what each commit did.

Commits have times, given by their writers' clocks. Those of this release never go back; older logs
may hold times that go back a little, as the clocks of their writers differed. What the index was
at a moment is therefore the state after the last commit before any that is later than the moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from squash.arrays import is_whole_number
from squash.errors import InvalidArgumentError, NotFoundError, shown
from squash.index import snapshots
from squash.index.commits import (
    Commit,
    DeleteKeys,
    Dropped,
    Operation,
    PutRows,
    PutSegments,
    Replace,
    log_key,
)
from squash.index.live import Opened
from squash.index.state import dropped
from squash.limits import (
    COMMIT_TIMES_KEPT_MAX,
    LIST_PAGE_MAX,
    SNAPSHOT_EVERY_COMMITS,
    WHOLE_NUMBER_BITS_MAX,
)
from squash.model import SnapshotInfo, SnapshotOperation
from squash.storage import ObjectStore

# How much earlier than a commit before it a commit may say it was made.
CLOCKS_DIFFER_MS: Final = 10_000
_WINDOW: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def check_as_of(value: Any) -> int | datetime:
    """Check what a caller gives as `as_of`.

    Raises
    ------
    InvalidArgumentError
        If it is neither a snapshot's number nor a time that says its zone.

    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidArgumentError(
                f"as_of is {value.isoformat()}, which names no moment: give it a time zone, such "
                "as datetime.now(UTC) has",
                field="as_of",
            )
        return value
    if not (is_whole_number(value) and 0 <= int(value) < 1 << WHOLE_NUMBER_BITS_MAX):
        raise InvalidArgumentError(
            f"as_of is a snapshot's number, from 0, or a datetime with a time zone, not "
            f"{shown(value)}",
            field="as_of",
        )
    return int(value)


def moment_ms(moment: datetime) -> int:
    """Return a moment in whole milliseconds since 1970 UTC, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


class History:
    """Looks up commits of one index's log; what it learned of their times is kept.

    Parameters
    ----------
    store:
        The store below the index's own prefix.

    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._times: dict[int, int] = {}

    def check_number(self, sequence: int, newest: Opened) -> None:
        """Refuse the number of a snapshot that there is not.

        Raises
        ------
        InvalidArgumentError
            If it is beyond the newest.
        NotFoundError
            If it was collected.

        """
        if sequence > newest.sequence:
            raise InvalidArgumentError(
                f"there is no snapshot {sequence} yet: the newest is {newest.sequence}",
                field="as_of",
            )
        # Fewer commits than that are soon read, and then tell by themselves.
        if SNAPSHOT_EVERY_COMMITS < sequence < newest.sequence:
            begins = self._store.get(log_key(1)) is not None
            if not begins and not snapshots.newest_snapshot(self._store, until=sequence):
                raise _collected(f"snapshot {sequence}")

    def at_time(self, time_ms: int, newest: Opened, now_ms: int) -> int:
        """Return the number of the last commit before any that is later than a moment.

        Parameters
        ----------
        time_ms:
            The moment.
        newest:
            The index as last read: to its end, unless its last commit is later than the moment.
        now_ms:
            The time now.

        Raises
        ------
        NotFoundError
            If the moment is before the first commit, or so long ago that what the index was then
            was collected, or in the future.

        """
        if time_ms > max(now_ms, newest.state.time_ms):
            raise NotFoundError(
                f"what the index will be at {_text(time_ms)} is not known yet: leave as_of out "
                "for the newest snapshot"
            )
        self._learn(newest.commits.values())
        last = self._crossing(time_ms, newest)
        last = self._before_first_later(last, time_ms)
        if not last:
            raise NotFoundError(
                f"there was nothing at {_text(time_ms)} yet, before the first commit: ask for a "
                "later time; Index.snapshots() tells which there are"
            )
        if last != newest.sequence and self._time(last) is None:
            self._check_stored(last, time_ms)
        return last

    def page(self, newest: int, limit: int, before: int | None) -> list[SnapshotInfo]:
        """Return what the commits did, the newest first, back to where they were collected.

        Parameters
        ----------
        newest:
            The last commit.
        limit:
            How many at most, 1 to `LIST_PAGE_MAX`.
        before:
            Only commits before this one.

        Raises
        ------
        InvalidArgumentError
            If an argument is out of its range.

        """
        if not 1 <= limit <= LIST_PAGE_MAX:
            raise InvalidArgumentError(f"limit is from 1 to {LIST_PAGE_MAX}", field="limit")
        if before is not None and before < 1:
            raise InvalidArgumentError("before is a snapshot's number, from 1", field="before")
        last = newest if before is None else min(newest, before - 1)
        first = max(last - limit, 0)
        found: list[SnapshotInfo] = []
        for end in range(last, first, -_WINDOW):
            commits = self._read(range(end, max(end - _WINDOW, first), -1))
            there = commits[: commits.index(None)] if None in commits else commits
            found += [_info(commit) for commit in there if commit is not None]
            if len(there) < len(commits):
                break
        return found

    def _crossing(self, time_ms: int, newest: Opened) -> int:
        """Return a commit that is gone or not later than a moment, and whose next one is later."""
        if newest.state.time_ms <= time_ms:
            return newest.sequence
        low, high = 0, newest.sequence
        while high - low > 1:
            middle = (low + high) // 2
            found = self._time(middle)
            if found is None or found <= time_ms:
                low = middle
            else:
                high = middle
        return low

    def _before_first_later(self, last: int, time_ms: int) -> int:
        """Go back from a commit to the one before the first that is later than a moment.

        None is later that comes before one earlier by more than clocks differ.
        """
        window, end = 1, last
        while end > 0:
            sequences = range(end, max(end - window, 0), -1)
            for sequence, found in zip(sequences, self._times_of(sequences), strict=True):
                if found is None or found <= time_ms - CLOCKS_DIFFER_MS:
                    return last
                if found > time_ms:
                    last = sequence - 1
            end -= window
            window = min(2 * window, _WINDOW)
        return last

    def _check_stored(self, sequence: int, time_ms: int) -> None:
        """Refuse a snapshot whose commit was collected, unless it is stored itself."""
        key = snapshots.snapshot_key(sequence)
        data = self._store.get(key)
        if data is None:
            raise _collected(f"what the index was at {_text(time_ms)}")
        if snapshots.from_bytes(data, sequence=sequence, where=key).time_ms > time_ms:
            raise _collected(f"what the index was at {_text(time_ms)}")

    def _time(self, sequence: int) -> int | None:
        return self._times_of((sequence,))[0]

    def _times_of(self, sequences: Sequence[int]) -> list[int | None]:
        """Return the commits' times; None for those that are not there."""
        held = {one: self._times[one] for one in sequences if one in self._times}
        found = [commit for commit in self._read([s for s in sequences if s not in held]) if commit]
        self._learn(found)
        held.update((commit.sequence, commit.time_ms) for commit in found)
        return [held.get(sequence) for sequence in sequences]

    def _learn(self, commits: Iterable[Commit]) -> None:
        times = {commit.sequence: commit.time_ms for commit in commits}
        if len(self._times) + len(times) > COMMIT_TIMES_KEPT_MAX:
            self._times = {}
        # Replaced whole: threads may be reading it.
        self._times = {**self._times, **times}

    def _read(self, sequences: Sequence[int]) -> list[Commit | None]:
        if len(sequences) <= 1:
            return [self._get(sequence) for sequence in sequences]
        with ThreadPoolExecutor(min(len(sequences), _WINDOW)) as pool:
            return list(pool.map(self._get, sequences))

    def _get(self, sequence: int) -> Commit | None:
        key = log_key(sequence)
        data = self._store.get(key)
        return None if data is None else Commit.from_bytes(data, sequence=sequence, where=key)


def _info(commit: Commit) -> SnapshotInfo:
    operation, rows = _done(commit.operation)
    return SnapshotInfo(commit.sequence, commit.time_ms, operation, rows)


def _done(operation: Operation) -> tuple[SnapshotOperation, int]:
    match operation:
        case PutRows(rows):
            return "put", len(rows)
        case PutSegments(segments):
            return "put", sum(segment.rows for segment in segments)
        case DeleteKeys(keys):
            return "delete", len(keys)
        case Replace(outputs=outputs, content=content):
            written = 0 if operation.begins else sum(segment.rows for segment in outputs)
            return content if content and operation.changes else "fold", written
        case Dropped():
            raise dropped()
        case _:
            assert_never(operation)


def _collected(what: str) -> NotFoundError:
    return NotFoundError(
        f"{what} was collected: ask for a newer one; Index.snapshots() tells which there are"
    )


def _text(time_ms: int) -> str:
    try:
        return (_EPOCH + time_ms * _MILLISECOND).isoformat(timespec="milliseconds")
    except OverflowError:
        return f"{time_ms} ms since 1970"
