"""Reading the commit log: opening the newest state, reading on, and opening older ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from squash.clock import Clock
from squash.container import Buffer
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
)
from squash.index import snapshots
from squash.index.commits import Commit, Dropped, log_key
from squash.index.live import Opened, Retained
from squash.index.references import read_object
from squash.index.state import State, apply, commits_needed, dropped
from squash.limits import CATALOGUE_TRUSTED_MS, SNAPSHOT_EVERY_COMMITS
from squash.model import ObjectRef
from squash.storage import Getter, ObjectStore, getter_of, shared_reads

# Garbage collection spares the log of at least an hour: who read longer ago than this must not
# take a number that is free only because its commit was collected, or went with a dropped index.
STALE_AFTER_MS: Final = CATALOGUE_TRUSTED_MS
_WINDOW: Final = 16  # as many as are read at once
_FIRST_WINDOW: Final = 4


class LogReader:
    """Opens one index's states by its log.

    Parameters
    ----------
    store:
        The store below the index's own prefix, `<name>/<id>/`.
    clock:
        Time.
    check_current:
        Looks into the catalogue, where this is the index that was looked up just now, and raises if
        it is no more; see `squash.index.dropping` for when. Without it nobody looks.
    looked_ms:
        The time before the catalogue was looked into for this index; without it, now.

    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        check_current: Callable[[], None] | None = None,
        looked_ms: int | None = None,
    ) -> None:
        self.store = store
        self._clock = clock
        self._reads = shared_reads()
        self._check_current = check_current
        self._looked_ms = clock.now_ms() if looked_ms is None else looked_ms
        # Of the commit that was asked for last, its number, and what asks for it.
        self._next: tuple[int, Getter] | None = None

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
            return self._open_anew(known, read_ahead)
        # Every strongly consistent query comes through here, and mostly nothing is new.
        sequence = known.state.sequence + 1
        asked = self._next
        if asked is None or asked[0] != sequence:
            asked = self._next = (sequence, getter_of(self.store, log_key(sequence)))
        data = asked[1]()
        if data is not None:
            return self._follow(known, _commit_of(data, sequence))
        return known if now == known.read_ms else known.seen_at(now)

    def _follow(self, known: Opened, following: Commit) -> Opened:
        """Read on from the commit that follows what is known."""
        commits = {**known.commits, following.sequence: following}
        try:
            found = self._read_on(replace(known, commits=commits))
        except DataError:
            if not self._is_old(known, self._clock.now_ms()):
                raise
        else:
            if not self._is_old(known, self._clock.now_ms()):
                return found
        # Who stood still may have met the gaps, or an end, that a collection left meanwhile.
        return self._open_anew(known, None)

    def _open_anew(self, known: Opened | None, read_ahead: Callable[[str], None] | None) -> Opened:
        """Read on where little can be relied on, and look into the catalogue if that is due."""
        found: list[Opened] = []

        def read() -> None:
            found.append(self._open_newest(known, read_ahead))

        check = self._check_current
        with self.telling_of_drops():
            read()
            # Not before: a drop removes the entry first, and then what the log was read by.
            now = self._clock.now_ms()
            looked_long_ago = abs(now - self._looked_ms) > CATALOGUE_TRUSTED_MS
            if check is not None and (known is not None or looked_long_ago):
                check()
                self._looked_ms = now
        return found[0]

    @contextmanager
    def telling_of_drops(self) -> Iterator[None]:
        """Have what looks damaged because the index is being dropped be told as that.

        Raises
        ------
        NotFoundError
            In place of damage, if the index is no more.

        """
        try:
            yield
        except DataError:
            self.refuse_dropped()
            raise

    def refuse_dropped(self) -> None:
        """Look into the catalogue, where something is missing.

        Raises
        ------
        NotFoundError
            If the index is no more.

        """
        if self._check_current is not None:
            self._check_current()

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

    def now_ms(self) -> int:
        """Return the time, in milliseconds since 1970 UTC."""
        return self._clock.now_ms()

    def commit_at(self, sequence: int) -> Commit | None:
        """Return a commit; None if it is not there: not yet, or collected."""
        return self._get(sequence)

    def load_bitmap(self, ref: ObjectRef) -> Buffer:
        """Get a bitmap's bytes, checked."""
        return read_object(self.store, ref)

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
        while True:
            if read_ahead is None:
                newest, trained = snapshots.newest_snapshot(self.store), None
            else:
                newest, trained = snapshots.newest_and_trained(self.store)
            if known is not None and newest <= known.state.snapshot_sequence:
                return self._read_on(known)
            beside = [partial(read_ahead, trained)] if read_ahead and trained else []
            try:
                return self._open_from(newest, known or self._empty(), beside)
            except DataError:
                # Who stood still since the listing may find that a newer snapshot took its place.
                if snapshots.newest_snapshot(self.store) <= newest:
                    raise

    def _open_from(
        self, newest: int, opened: Opened, beside: Sequence[Callable[[], None]]
    ) -> Opened:
        """Open the index from a snapshot; do beside it what else is to be done at once."""
        commits = dict(opened.commits)
        read_ms = self._clock.now_ms()
        listed: list[str] = []
        jobs = [lambda: listed.extend(self._listed(newest)), *beside]
        key = snapshots.snapshot_key(newest) if newest else None
        # Without a snapshot there are few commits, and most likely these.
        guessed = range(1, _FIRST_WINDOW + 1) if not newest else range(0)
        data, found = self._get_beside(key, guessed, commits, jobs)
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
            opened = self._read_on(opened)
            if log_key(opened.sequence) < listed[-1]:
                raise _hole(opened.sequence + 1)  # as where a drop has removed what is between
            return opened
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
        data = self.store.get(log_key(sequence))
        return None if data is None else _commit_of(data, sequence)

    def _is_old(self, opened: Opened, now_ms: int) -> bool:
        """Tell if the log, or the catalogue, was last looked at too long ago."""
        if abs(now_ms - opened.read_ms) > STALE_AFTER_MS:
            return True
        if self._check_current is None:
            return False
        return abs(now_ms - self._looked_ms) > CATALOGUE_TRUSTED_MS

    def _empty(self) -> Opened:
        return Opened(State(), {}, self._clock.now_ms(), Retained())


def _commit_of(data: Buffer, sequence: int) -> Commit:
    return Commit.from_bytes(data, sequence=sequence, where=log_key(sequence))


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


def _applied(state: State, commit: Commit) -> State:
    try:
        return apply(state, commit)
    except (ConflictError, InvalidArgumentError) as error:
        raise DataError(
            f"{log_key(commit.sequence)} contradicts the commits before it ({error}). Restore the "
            "log from a copy.",
            object_key=log_key(commit.sequence),
        ) from error


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
