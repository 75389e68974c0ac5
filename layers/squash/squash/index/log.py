"""The commit log: reading on, appending, and writing snapshots now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias

from squash.clock import Clock, IdSource
from squash.container import Buffer
from squash.errors import (
    ChecksumError,
    CommitUnknownError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    SquashError,
    ThrottledError,
    UnavailableError,
)
from squash.index import snapshots
from squash.index.commits import Commit, Dropped, Operation, log_key
from squash.index.live import LoadKeys, Opened, Retained
from squash.index.references import read_object
from squash.index.state import State, apply, commits_needed, dropped
from squash.limits import (
    CATALOGUE_TRUSTED_MS,
    COMMIT_ATTEMPTS_MAX,
    SNAPSHOT_EVERY_COMMITS,
    SNAPSHOT_EVERY_LOG_BYTES,
)
from squash.model import ObjectRef
from squash.storage import ObjectStore, Reads

# Garbage collection spares the log of at least an hour: who read longer ago than this must not
# take a number that is free only because its commit was collected, or went with a dropped index.
STALE_AFTER_MS: Final = CATALOGUE_TRUSTED_MS
_SAME_NUMBER_ATTEMPTS_MAX: Final = 5
_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 0.32
_WINDOW: Final = 16  # as many as are read at once
_FIRST_WINDOW: Final = 4
_RETRY_AFTER_MS: Final = 1000

Decide: TypeAlias = Callable[[Opened], Operation | None]
"""Says what is right to do after a state, or None for nothing; raises if nothing may be done."""


class IndexLog:
    """One index's log.

    Parameters
    ----------
    store:
        The store below the index's own prefix, `<name>/<id>/`.
    clock, ids:
        Time and jitter.
    load_keys:
        Gives a segment's key table, for snapshots.
    report:
        Told why a snapshot could not be written; the next writer tries again.
    check_current:
        Looks into the catalogue, where this is the index that was looked up just now, and raises if
        it is no more; see `squash.index.dropping` for when. Without it nobody looks.

    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        ids: IdSource,
        *,
        load_keys: LoadKeys,
        report: Callable[[SquashError], None],
        check_current: Callable[[], None] | None = None,
    ) -> None:
        self.store = store
        self.ids = ids
        self._clock = clock
        self._load_keys = load_keys
        self._report = report
        self._reads = Reads()
        self._check_current = check_current
        self._looked_ms = clock.now_ms()
        self._looks = Reads()

    def refresh(
        self, known: Opened | None, *, read_ahead: Callable[[str], None] | None = None
    ) -> Opened:
        """Read on until the log's end.

        Parameters
        ----------
        known:
            What was read before; then a single GET tells that nothing is new.
        read_ahead:
            Told, where nothing was read before, of the trained object that the newest snapshot
            most likely names, while that is read.

        Raises
        ------
        NotFoundError
            If the index was dropped.
        DataError
            If the log or a snapshot is damaged, or of a newer format.
        UnavailableError, ThrottledError, PermissionDeniedError
            From the store.

        """
        now = self._clock.now_ms()
        if known is None or self._is_old(known, now):
            return self._open_anew(known, read_ahead, now)
        # Every strongly consistent query comes through here, and mostly nothing is new.
        following = self._get(known.sequence + 1)
        if following is not None:
            commits = {**known.commits, following.sequence: following}
            return self._read_on(replace(known, commits=commits))
        return known if now == known.read_ms else known.seen_at(now)

    def _open_anew(
        self, known: Opened | None, read_ahead: Callable[[str], None] | None, now: int
    ) -> Opened:
        """Read on where little can be relied on, and look into the catalogue if that is due."""
        found: list[Opened] = []

        def read() -> None:
            found.append(self._open_newest(known, read_ahead))

        check = self._check_current
        if check is None:
            read()
        elif known is not None or _too_far(self._looked_ms, now):
            self._looks.run([check, read])
            self._looked_ms = now
        else:
            try:
                read()
            except DataError:
                # What is being dropped looks damaged.
                check()
                raise
        return found[0]

    def open_at(self, sequence: int, known: Opened | None = None) -> Opened:
        """Open the index as it was after a commit, whatever was committed since.

        Parameters
        ----------
        sequence:
            The commit's number; 0 for the empty index.
        known:
            What was read before. If it is of an earlier commit, and not of one long before, only
            what lies between is read; if it is of a later one, it is of no use.

        Raises
        ------
        NotFoundError
            If objects of the log that this takes are not there.
        DataError
            If the log or a snapshot is damaged, or of a newer format.
        UnavailableError, ThrottledError, PermissionDeniedError
            From the store.

        """
        if known is not None and known.sequence == sequence:
            return known
        if known is not None and 0 < sequence - known.sequence <= SNAPSHOT_EVERY_COMMITS:
            with suppress(NotFoundError):
                return self._open_after(known, sequence)
            # What lies between was collected, up to a stored snapshot.
        return self._open_after(
            replace(self._empty(), state=self._snapshot_until(sequence)), sequence
        )

    def _open_after(self, known: Opened, sequence: int) -> Opened:
        """Go on from an earlier commit."""
        commits = dict(known.commits)
        state = known.state
        for commit in self._get_all(range(state.sequence + 1, sequence + 1), commits, sequence):
            commits[commit.sequence] = commit
            state = _applied(state, commit)
        for commit in self._get_all(commits_needed(state), commits, sequence):
            commits[commit.sequence] = commit
        return self._with_needed(replace(known, state=state), commits)

    def _get_all(
        self, sequences: Sequence[int], held: dict[int, Commit], wanted: int
    ) -> list[Commit]:
        """Get the commits that the snapshot after commit `wanted` takes."""
        found: list[Commit] = []
        for sequence, commit in zip(sequences, self._get_many(sequences, held), strict=True):
            if commit is None:
                raise _gone(wanted, log_key(sequence))
            found.append(commit)
        return found

    def _snapshot_until(self, sequence: int) -> State:
        """Return the newest stored snapshot that is not of a later commit; the first is empty."""
        found = snapshots.newest_snapshot(self.store, until=sequence)
        if not found:
            return State()
        key = snapshots.snapshot_key(found)
        data = self.store.get(key)
        if data is None:
            raise _gone(sequence, key)
        return snapshots.from_bytes(data, sequence=found, where=key)

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
                return self._snapshot_if_due(after)
            # Who read and then waited would be behind again, and never win against a busy writer.
            self._wait(attempt)
            commits = {**opened.commits, winner.sequence: winner}
            opened, newest = self._read_on(replace(opened, commits=commits)), True
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
        except SquashError:
            # Of an older state, what it names may have been collected, too.
            if newest:
                raise
            return None

    def _after(self, opened: Opened, commit: Commit) -> Opened:
        return self._with_needed(
            replace(opened, state=apply(opened.state, commit)),
            {**opened.commits, commit.sequence: commit},
        )

    def now_ms(self) -> int:
        """Return the time, in milliseconds since 1970 UTC."""
        return self._clock.now_ms()

    def commit_at(self, sequence: int) -> Commit | None:
        """Return a commit; None if it is not there: not yet, or collected."""
        return self._get(sequence)

    def load_bitmap(self, ref: ObjectRef) -> Buffer:
        """Get a bitmap's bytes, checked."""
        return read_object(self.store, ref)

    def _put(self, commit: Commit, data: bytes) -> Commit:
        """Try to take a number; return the commit that has it now."""
        cause: SquashError | None = None
        for attempt in range(_SAME_NUMBER_ATTEMPTS_MAX):
            try:
                if self.store.put_if_absent(log_key(commit.sequence), data):
                    return commit
                # The store may have tried twice and met its own first try: what lies there tells.
                found = self._get(commit.sequence)
            except (UnavailableError, ThrottledError) as error:
                cause = error
                found = self._look(commit.sequence)
            except SquashError as error:
                if cause is None:
                    raise
                raise _unknown(commit) from error
            if found is not None:
                return found
            self._wait(attempt)
        raise _unknown(commit) from cause

    def _look(self, sequence: int) -> Commit | None:
        try:
            return self._get(sequence)
        except (UnavailableError, ThrottledError):
            return None  # Not known; the caller puts the same bytes at the same number again.

    def _read_on(self, opened: Opened, *, window: int = 1) -> Opened:
        """Apply commits until there are none; from far behind, take a newer snapshot first.

        Parameters
        ----------
        opened:
            What is known, perhaps without the commits that its readers need.
        window:
            How many commits to ask for at first: mostly there is none.

        """
        commits = dict(opened.commits)
        state = opened.state
        started = state.sequence
        absent = 0
        while True:
            # Before it is asked for: a slow answer is as old as its question.
            read_ms = self._clock.now_ms()
            ahead = range(state.sequence + 1, state.sequence + 1 + window)
            found = self._get_many(ahead, commits)
            for commit in found:
                if commit is None:
                    break
                commits[commit.sequence] = commit
                state = _applied(state, commit)
            # Numbers have no gaps: a commit behind an absent one says that both are there by now.
            if found[-1] is None and not any(found[found.index(None) :]):
                break
            if None in found:
                if absent == state.sequence + 1:
                    raise _hole(absent)
                absent = state.sequence + 1
            window = min(2 * window, _WINDOW)
        opened = replace(opened, state=state, read_ms=read_ms)
        if state.sequence > started and state.sequence - state.snapshot_sequence > (
            SNAPSHOT_EVERY_COMMITS
        ):
            # Without newer snapshots a reader that lives long would hold ever more commits.
            opened = self._from_newest(replace(opened, commits=commits))
            commits = dict(opened.commits)
        # Only now: of what was read, later commits may have folded most.
        return self._with_needed(opened, commits)

    def _open_newest(
        self, known: Opened | None, read_ahead: Callable[[str], None] | None
    ) -> Opened:
        """Open the index from its newest snapshot, and go on to the log's end.

        Where that is one listing tells, which is as good as a GET that finds nothing: it was the
        end when it was asked for. Commits are then got by their names, all at once.
        """
        opened = known or self._empty()
        if read_ahead is None:
            newest, trained = snapshots.newest_snapshot(self.store), None
        else:
            newest, trained = snapshots.newest_and_trained(self.store)
        if known is not None and newest <= known.state.snapshot_sequence:
            return self._read_on(known)
        commits = dict(opened.commits)
        read_ms = self._clock.now_ms()
        listed: list[str] = []
        beside: list[Callable[[], None]] = [lambda: listed.extend(self._listed(newest))]
        if read_ahead is not None and trained is not None:
            beside.append(partial(read_ahead, trained))
        key = snapshots.snapshot_key(newest) if newest else None
        # Without a snapshot there are few commits, and most likely these.
        guessed = range(1, _FIRST_WINDOW + 1) if not newest else range(0)
        data, found = self._get_beside(key, guessed, commits, beside)
        commits.update((commit.sequence, commit) for commit in found if commit is not None)
        state = _snapshot_of(data, newest, key) if key is not None else opened.state
        end = newest + _following(listed, newest)
        if listed and not end:
            self._check_beginning(listed)
        ahead = range(newest + 1, max(end, opened.sequence) + 1)
        for commit in self._get_many(ahead, commits):
            if commit is None:
                raise _hole(state.sequence + 1)
            commits[commit.sequence] = commit
            state = _applied(state, commit)
        opened = replace(opened, state=state, commits=commits, read_ms=read_ms)
        if end - newest < len(listed):
            # What follows was written meanwhile, or something is missing: this finds out.
            return self._read_on(opened)
        return self._with_needed(opened, commits)

    def _check_beginning(self, listed: Sequence[str]) -> None:
        """Refuse a log that lacks its beginning: that went with a dropped index, or is lost."""
        last = self._get(int(listed[-1].rpartition("/")[2]))
        if last is not None and isinstance(last.operation, Dropped):
            raise dropped()
        snapshots.check_beginning(self.store)

    def _listed(self, after: int) -> list[str]:
        return [info.key for info in self.store.list("log/", start_after=log_key(after))]

    def _from_newest(self, opened: Opened) -> Opened:
        """Go over to the newest snapshot, and to the same commit as before or a later one.

        What comes back holds what commits were read, not yet those that its readers need.
        """
        newest = snapshots.newest_snapshot(self.store)
        if newest <= opened.state.snapshot_sequence:
            return opened
        key = snapshots.snapshot_key(newest)
        commits = dict(opened.commits)
        missing = range(newest + 1, opened.sequence + 1)
        data, found = self._get_beside(key, missing, commits)
        state = _snapshot_of(data, newest, key)
        for sequence, commit in zip(missing, found, strict=True):
            if commit is None:
                raise _hole(sequence)
            commits[sequence] = commit
            state = _applied(state, commit)
        return replace(opened, state=state, commits=commits)

    def _with_needed(self, opened: Opened, commits: dict[int, Commit]) -> Opened:
        """Hold exactly the commits that readers of this state need."""
        needed = commits_needed(opened.state)
        held: dict[int, Commit] = {}
        for sequence, commit in zip(needed, self._get_many(needed, commits), strict=True):
            if commit is None:
                raise _hole(sequence)
            held[sequence] = commit
        retained = opened.retained
        for sequence in [one for one in list(retained.hashes) if one not in held]:
            retained.hashes.pop(sequence, None)
        segments = {segment.id for segment in opened.state.segments}
        for one in [one for one in list(retained.dead) if one not in segments]:
            retained.dead.pop(one, None)
        return replace(opened, commits=held)

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

    def write_snapshot(self, opened: Opened) -> Opened:
        """Write the snapshot of a state, and go over to it."""
        state, objects = snapshots.materialise(
            opened, load_keys=self._load_keys, load_bitmap=self.load_bitmap
        )
        for key, data in objects.items():
            self.store.put_if_absent(key, data)
        self.store.put_if_absent(snapshots.snapshot_key(state.sequence), snapshots.to_bytes(state))
        return self._with_needed(replace(opened, state=state), dict(opened.commits))

    def _get_many(self, sequences: Sequence[int], held: dict[int, Commit]) -> list[Commit | None]:
        return self._get_beside(None, sequences, held)[1]

    def _get_beside(
        self,
        key: str | None,
        sequences: Sequence[int],
        held: dict[int, Commit],
        beside: Sequence[Callable[[], None]] = (),
    ) -> tuple[Buffer | None, list[Commit | None]]:
        """Get commits, and an object beside them, and do what else is to be done at once."""
        found: dict[int, Commit | None] = {}
        objects: list[Buffer | None] = []

        def get(sequence: int) -> None:
            found[sequence] = self._get(sequence)

        jobs = list(beside)
        if key is not None:
            jobs.append(lambda: objects.append(self.store.get(key)))
        jobs += [partial(get, sequence) for sequence in sequences if sequence not in held]
        if jobs:
            self._reads.run(jobs)
        commits = [held.get(sequence) or found[sequence] for sequence in sequences]
        return (objects[0] if objects else None), commits

    def _get(self, sequence: int) -> Commit | None:
        key = log_key(sequence)
        data = self.store.get(key)
        return None if data is None else Commit.from_bytes(data, sequence=sequence, where=key)

    def _is_old(self, opened: Opened, now_ms: int) -> bool:
        """Tell if the log, or the catalogue, was last looked at too long ago."""
        if abs(now_ms - opened.read_ms) > STALE_AFTER_MS:
            return True
        return self._check_current is not None and _too_far(self._looked_ms, now_ms)

    def _wait(self, attempt: int) -> None:
        longest = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
        self._clock.sleep(longest * self.ids.jitter())

    def _empty(self) -> Opened:
        return Opened(State(), {}, self._clock.now_ms(), Retained())


def _following(listed: Sequence[str], newest: int) -> int:
    """Return how many commits there are without a gap after a snapshot."""
    count = 0
    while count < len(listed) and listed[count] == log_key(newest + count + 1):
        count += 1
    return count


def _snapshot_of(data: Buffer | None, sequence: int, key: str) -> State:
    if data is None:
        raise ChecksumError(f"{key} was listed and is gone: try again", object_key=key)
    return snapshots.from_bytes(data, sequence=sequence, where=key)


def _too_far(then_ms: int, now_ms: int) -> bool:
    return abs(now_ms - then_ms) > CATALOGUE_TRUSTED_MS


def _applied(state: State, commit: Commit) -> State:
    try:
        return apply(state, commit)
    except (ConflictError, InvalidArgumentError) as error:
        raise DataError(
            f"{log_key(commit.sequence)} contradicts the commits before it ({error}). Restore the "
            "log from a copy.",
            object_key=log_key(commit.sequence),
        ) from error


def _due(state: State) -> bool:
    return (
        state.sequence - state.snapshot_sequence >= SNAPSHOT_EVERY_COMMITS
        or state.log_bytes >= SNAPSHOT_EVERY_LOG_BYTES
    )


def _hole(sequence: int) -> ChecksumError:
    return ChecksumError(
        f"{log_key(sequence)} is missing although later commits need it. Restore the log from a "
        "copy.",
        object_key=log_key(sequence),
    )


def _gone(sequence: int, key: str) -> NotFoundError:
    return NotFoundError(
        f"the snapshot after commit {sequence} cannot be opened: {key} is not there. Either there "
        "never was such a commit, or it is so old that it was collected: ask for a newer one.",
        object_key=key,
    )


def _unknown(commit: Commit) -> CommitUnknownError:
    return CommitUnknownError(
        f"the store did not say whether commit {commit.sequence} was stored. Repeat the call with "
        f"commit_id={commit.commit_id!r}: it then happens once.",
        commit_id=commit.commit_id,
    )
