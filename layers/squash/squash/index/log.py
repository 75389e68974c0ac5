"""The commit log: appending, and writing snapshots now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from squash.clock import Clock, IdSource
from squash.errors import (
    CommitUnknownError,
    DataError,
    NotFoundError,
    SquashError,
    ThrottledError,
    UnavailableError,
)
from squash.index import snapshots
from squash.index.commits import Commit, Operation, log_key
from squash.index.live import LoadKeys, Opened
from squash.index.opening import LogReader
from squash.index.state import RECENT_COMMITS_MAX, State, apply
from squash.limits import (
    COMMIT_ATTEMPTS_MAX,
    SNAPSHOT_EVERY_COMMITS,
    SNAPSHOT_EVERY_LOG_BYTES,
)
from squash.storage import ObjectStore

_LOG = logging.getLogger("squash")
_SAME_NUMBER_ATTEMPTS_MAX: Final = 5
_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 0.32
_RETRY_AFTER_MS: Final = 1000

Decide: TypeAlias = Callable[[Opened], Operation | None]
"""Says what is right to do after a state, or None for nothing; raises if nothing may be done."""


def _warn(error: SquashError) -> None:
    _LOG.warning("a snapshot could not be written; the next writer tries again: %s", error)


class IndexLog(LogReader):
    """One index's log, read and written.

    Parameters
    ----------
    store:
        The store below the index's own prefix, `<name>/<id>/`.
    clock, ids:
        Time and jitter.
    load_keys:
        Gives a segment's key table, for snapshots.
    report:
        Told why a snapshot could not be written; without it, the log of the process is.
    check_current, looked_ms:
        As of `LogReader`.

    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        ids: IdSource,
        *,
        load_keys: LoadKeys,
        report: Callable[[SquashError], None] = _warn,
        check_current: Callable[[], None] | None = None,
        looked_ms: int | None = None,
    ) -> None:
        super().__init__(store, clock, check_current, looked_ms)
        self.ids = ids
        self._load_keys = load_keys
        self._report = report

    def append(self, known: Opened, what: Operation | Decide, *, commit_id: str) -> Opened:
        """Make an operation durable.

        A decision is asked anew for every number that is tried, about the state that the number
        would follow: who lost a race decides by what the winner did. A refusal, and that nothing
        is to be done, count only of a state that was the newest during this call.

        Parameters
        ----------
        known:
            The index as last read; it need not be the newest.
        what:
            What changes; or a function of the state before that decides so.
        commit_id:
            As `IdSource` makes them. A call repeated with the same one changes nothing twice, and
            asks for no decision once its commit is seen.

        Returns
        -------
        The index with the change in it, or as last read if nothing was to be done.

        Raises
        ------
        ConflictError
            If a fold's inputs were folded by another.
        NotFoundError
            If the index was dropped.
        SquashError
            What the decision raised about the newest state.
        ThrottledError
            If others were first, too often.
        CommitUnknownError
            If the store's answers were lost: the change may have happened or may yet.
        UnavailableError, PermissionDeniedError, DataError
            If it did not happen.

        """
        opened, newest = known, False
        if self._is_old(opened, self._clock.now_ms()):
            opened, newest = self.refresh(opened), True
        for attempt in range(COMMIT_ATTEMPTS_MAX):
            if commit_id in opened.state.recent:
                return opened
            operation = self._decide(what, opened, newest=newest)
            if operation is None:
                if newest:
                    return opened
                opened, newest = self.refresh(opened), True
                continue
            # It may have taken long to decide: segments were written, perhaps.
            if self._is_old(opened, self._clock.now_ms()):
                decided_about = opened.sequence
                opened, newest = self.refresh(opened), True
                if opened.sequence != decided_about:
                    continue
            # Clocks differ between writers; times along the log never go back.
            time_ms = max(self._clock.now_ms(), opened.state.time_ms)
            commit = Commit(opened.sequence + 1, commit_id, time_ms, operation)
            data = commit.to_bytes()
            commit = replace(commit, stored_bytes=len(data))
            # All that can fail is done before the commit, so that nothing can fail after it.
            after = self._after(opened, commit)
            winner = self._put(commit, data)
            if winner.commit_id == commit_id:
                # What an earlier call stored may be another decision than this one's.
                after = after if winner is commit else self._after(opened, winner)
                if not self._is_old(opened, self._clock.now_ms()):
                    return self._snapshot_if_due(after)
                opened, newest = self._seen_in_log(after, winner, data), True
                continue
            # Who read and then waited would be behind again, and never win against a busy writer.
            self._wait(attempt)
            opened, newest = self._follow(opened, winner), True
        raise ThrottledError(
            f"{COMMIT_ATTEMPTS_MAX} times another writer was first: wait, then repeat, with more "
            "rows in each call",
            retry_after_ms=_RETRY_AFTER_MS,
        )

    def _decide(
        self, what: Operation | Decide, opened: Opened, *, newest: bool
    ) -> Operation | None:
        """Ask what to do; a refusal that is not about the newest state counts as nothing."""
        if not callable(what):
            return what
        try:
            return what(opened)
        except SquashError as error:
            # Of an older state, what it names may have been collected, too.
            if not newest:
                return None
            if isinstance(error, DataError):
                self.refuse_dropped()
            raise

    def _after(self, opened: Opened, commit: Commit) -> Opened:
        return self._with_needed(
            replace(opened, state=apply(opened.state, commit)),
            {**opened.commits, commit.sequence: commit},
        )

    def _put(self, commit: Commit, data: bytes) -> Commit:
        """Try to take a number; return the commit that has it now."""
        cause: SquashError | None = None
        unchanged = True
        for attempt in range(_SAME_NUMBER_ATTEMPTS_MAX):
            try:
                if self.store.put_if_absent(log_key(commit.sequence), data):
                    return commit
                # The store may have tried twice and met its own first try: what lies there tells.
                found = self._get(commit.sequence)
            except (UnavailableError, ThrottledError) as error:
                cause = error
                unchanged &= isinstance(error, UnavailableError) and error.unchanged
                found = self._look(commit)
            except SquashError as error:
                if cause is None:
                    raise
                raise _unknown(commit) from error
            if found is not None:
                return found
            self._wait(attempt)
        if cause is not None and unchanged:
            raise cause  # as of a full disk: that is what is to be said, and it did not happen
        raise _unknown(commit) from cause

    def _seen_in_log(self, after: Opened, commit: Commit, data: bytes) -> Opened:
        """Read the log anew after a put that took long: its number may have been collected before.

        Returns
        -------
        The newest state; if the commit is none of its last ones it did not happen, and is gone.

        """
        try:
            opened = self.refresh(after)
            if commit.commit_id not in opened.state.recent:
                if opened.sequence - commit.sequence >= RECENT_COMMITS_MAX:
                    raise _unknown(commit)
                self.store.delete_if_same(log_key(commit.sequence), data)
        except NotFoundError:
            raise  # The index was dropped, and what was put with it.
        except SquashError as error:
            raise _unknown(commit) from error
        return opened

    def _look(self, commit: Commit) -> Commit | None:
        """Look what has a number after a put of it that was not answered."""
        try:
            return self._get(commit.sequence)
        except (UnavailableError, ThrottledError):
            return None  # Not known; the caller puts the same bytes at the same number again.
        except SquashError as error:
            # Credentials may expire between the two: that says nothing of what was put.
            raise _unknown(commit) from error

    def _snapshot_if_due(self, opened: Opened) -> Opened:
        """Write a snapshot if the log has grown; the commit stands whatever happens here."""
        if not _due(opened.state):
            return opened
        try:
            newest = self._from_newest(opened)
            opened = self._with_needed(newest, dict(newest.commits))
            return self.write_snapshot(opened) if _due(opened.state) else opened
        except SquashError as error:
            self._report(error)
            return opened

    def try_snapshot(self, opened: Opened) -> Opened:
        """Write the snapshot of a state; if that fails, report it, and stay with the log.

        For who has committed: the commit stands without a snapshot, and the next writer makes one.
        """
        try:
            return self.write_snapshot(opened)
        except SquashError as error:
            self._report(error)
            return opened

    def write_snapshot(self, opened: Opened) -> Opened:
        """Write the snapshot of a state, and go over to it."""
        state, objects = snapshots.materialise(
            opened, load_keys=self._load_keys, load_bitmap=self.load_bitmap
        )
        for key, data in objects.items():
            self.store.put_if_absent(key, data)
        key = snapshots.snapshot_key(state.sequence)
        mine = self.store.put_if_absent(key, snapshots.to_bytes(state))
        stood_still = mine and self._is_old(opened, self._clock.now_ms())
        if stood_still and snapshots.newest_snapshot(self.store) > state.sequence:
            # It may have come after a collection, and name what is gone.
            self.store.delete([key])
            return opened
        return self._with_needed(replace(opened, state=state), dict(opened.commits))

    def _wait(self, attempt: int) -> None:
        longest = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
        self._clock.sleep(longest * self.ids.jitter())


def _due(state: State) -> bool:
    return (
        state.sequence - state.snapshot_sequence >= SNAPSHOT_EVERY_COMMITS
        or state.log_bytes >= SNAPSHOT_EVERY_LOG_BYTES
    )


def _unknown(commit: Commit) -> CommitUnknownError:
    return CommitUnknownError(
        f"the store did not say whether commit {commit.sequence} was stored. Repeat the call with "
        f"commit_id={commit.commit_id!r}: it then happens once.",
        commit_id=commit.commit_id,
    )
