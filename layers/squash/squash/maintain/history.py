"""Reading back an index's history: its log, its stored snapshots, and all that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field, replace
from functools import partial
from typing import Final

from squash.container import Buffer
from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedFormatError,
)
from squash.index import snapshots
from squash.index.commits import Commit, Replace, log_key
from squash.index.live import LoadKeys, Opened
from squash.index.log import IndexLog
from squash.index.object_keys import TRAINED, is_bitmap, parted
from squash.index.references import MALFORMED, read_object
from squash.index.settings import check_settings
from squash.index.state import State, apply
from squash.maintain.gc import Listed, Needed, count, list_objects
from squash.model import ObjectRef, SegmentRef
from squash.reports import Damage, ObjectCount, Progress
from squash.storage import ObjectStore
from squash.values import dataclass

# Of a long gap in the log so many numbers are named.
_ABSENT_MAX: Final = 100
_WINDOW: Final = 8
_NOT_LED_TO: Final = "is not what the commits before it lead to"
# What states are made of; what else is there comes and goes as it likes.
_NAMING: Final = frozenset({"snapshots", "commits", "segments", "bitmaps", "trained"})

Report = Callable[[Progress], None]


class Ledger:
    """What was looked at so far, and what of it is damaged."""

    def __init__(self) -> None:
        self.damages: list[Damage] = []
        self.objects = 0
        self.bytes = 0

    def count(self, stored_bytes: int, objects: int = 1) -> None:
        """Count objects that were looked at."""
        self.objects += objects
        self.bytes += stored_bytes

    def note(self, object_key: str, problem: str) -> None:
        """Note damage."""
        self.damages.append(Damage(object_key, problem))

    def refused(self, object_key: str, error: DataError) -> None:
        """Note what cannot be read, and whether that is for being newer than this release."""
        newer = isinstance(error, UnsupportedFormatError)
        self.damages.append(Damage(object_key, str(error), newer))

    def check(self, object_key: str, look: Callable[[], str | None]) -> bool:
        """Look at something and note what is wrong with it; tell if nothing is."""
        try:
            problem = look()
        except DataError as error:
            # A store says where an object lies from its own beginning, not from the index's.
            if error.object_key and not error.object_key.endswith(f"/{object_key}"):
                object_key = error.object_key
            self.refused(object_key, error)
            return False
        except MALFORMED as error:
            problem = f"its parts do not fit each other ({error!r})"
        if problem:
            self.note(object_key, problem)
        return not problem


@dataclass(slots=True)
class History:
    """What the log and the stored snapshots say."""

    listed: Sequence[Listed]
    snapshots: list[int] = field(default_factory=list)
    """Those stored and sound, ascending."""
    commits: set[int] = field(default_factory=set)
    """Those stored and sound."""
    named: dict[str, ObjectRef] = field(default_factory=dict)
    """All that the oldest stored snapshot and what came later name."""
    segments: dict[str, SegmentRef] = field(default_factory=dict)
    """Of these the segments, by id."""
    restored: dict[str, set[int]] = field(default_factory=dict)
    """Of the bitmaps that restorations named, by key, after which commits rows were dead so."""
    unreferenced: ObjectCount = field(default_factory=ObjectCount)
    """What nothing names: left by whoever died, or about to be named."""

    @property
    def begins(self) -> int:
        """The oldest stored snapshot; from there on everything must be there. 0 without one."""
        return self.snapshots[0] if self.snapshots else 0


def verify_history(store: ObjectStore, ledger: Ledger, report: Report) -> History:
    """Read every commit and snapshot there is, needed or not, and hold them against each other.

    Numbers must have no gap, but where garbage was collected; a stored snapshot must list the
    segments, fresh commits and so on that the commits before it lead to.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    ledger:
        Takes what is found.
    report:
        Told of the commits.

    """
    history = History(list_objects(store))
    for one in history.listed:
        key = one.info.key
        if one.kind == "unknown" and key.startswith(("log/", snapshots.PREFIX)):
            what = "commit" if key.startswith("log/") else "snapshot"
            ledger.note(key, f"is no name of a {what}: remove what was put there")
        if one.kind == "settings":
            ledger.count(one.info.bytes)
            ledger.check(key, partial(_check_settings, store, key))
    states = _read_snapshots(store, history, ledger)
    _read_log(store, history, ledger, report, oldest=states)
    return history


def verify_named(
    store: ObjectStore, history: History, ledger: Ledger, *, seen: set[str], report: Report
) -> None:
    """Check what only older states name: that it is there, with its length and checksum.

    Parameters
    ----------
    store, history, ledger, report:
        As `verify_history`, and what it returned.
    seen:
        The keys that were looked at before.

    """
    rest = [ref for key, ref in sorted(history.named.items()) if key not in seen]
    for done, ref in enumerate(rest, 1):

        def look(ref: ObjectRef = ref) -> None:
            read_object(store, ref)

        ledger.count(ref.bytes)
        ledger.check(ref.key, look)
        report(Progress("verify", done, len(rest), "older objects"))


def removed_since(store: ObjectStore, history: History) -> bool:
    """Tell whether anything that a state may name was removed after the history listed it.

    Only then can be taken for damage what a garbage collection removed: it takes commits after the
    snapshots, and what they name after them, so that one listing never shows less than is needed.
    """
    there = {info.key for info in store.list("")}
    return any(one.kind in _NAMING and one.info.key not in there for one in history.listed)


def still_named(
    damages: Sequence[Damage], history: History, newest: State | None
) -> Iterator[Damage]:
    """Yield the damages of objects that the history or the newest state names.

    Parameters
    ----------
    damages:
        Of what a state named that may be gone by now.
    history:
        Read after these were found.
    newest:
        Opened after the history was read; None if it cannot be: then nothing is left out.

    """
    needed = _needed(newest or State())
    keys = history.named.keys() | needed.objects.keys()
    keys |= {one.deleted.key for one in needed.segments.values() if one.deleted is not None}
    segments = history.segments.keys() | needed.segments.keys()

    def named(key: str) -> bool:
        if key.startswith(TRAINED) or is_bitmap(key):
            return key in keys
        # By its id: there may be no reference to an object that its segment must have.
        of = parted(key)
        return of is None or of[0] in segments

    for damage in damages:
        if newest is None or named(damage.object_key):
            yield damage


def verify_newest_snapshot(
    log: IndexLog, history: History, ledger: Ledger, *, load_keys: LoadKeys
) -> None:
    """Replay the log up to the newest stored snapshot, which must be what that gives.

    It is the one that readers open. Of the others, `verify_history` compares all but bitmaps.

    Parameters
    ----------
    log:
        The index's.
    history, ledger:
        As `verify_history` gave them.
    load_keys:
        Gives a segment's key table.

    """
    if not history.snapshots:
        return
    newest = history.snapshots[-1]
    replayed = replay(log, history, newest, load_keys=load_keys)
    if replayed is None:
        return
    key = snapshots.snapshot_key(newest)

    def look() -> str | None:
        stored = snapshots.from_bytes(_get(log.store, key), sequence=newest, where=key)
        return None if _same(stored, replayed) else _NOT_LED_TO

    ledger.check(key, look)


def replay(log: IndexLog, history: History, sequence: int, *, load_keys: LoadKeys) -> State | None:
    """Make the snapshot of a commit from the log and an earlier snapshot, not from its own.

    Returns
    -------
    The state, as `snapshots.materialise` makes it; None if what there is does not lead to it.

    """
    opened = open_without_own(log, history, sequence)
    if opened is None:
        return None
    try:
        made = snapshots.materialise(opened, load_keys=load_keys, load_bitmap=log.load_bitmap)
    except (DataError, NotFoundError):
        return None  # What is damaged is named where it is looked at.
    return made[0]


def open_without_own(log: IndexLog, history: History, sequence: int) -> Opened | None:
    """Open the index after a commit without the snapshot stored of it; None if that cannot be."""
    earlier = max((one for one in history.snapshots if one < sequence), default=0)
    if not history.commits.issuperset(range(earlier + 1, sequence + 1)):
        return None
    try:
        opened = log.open_at(earlier)
        # One at a time, so that the log takes no stored snapshot between.
        for one in range(earlier + 1, sequence + 1):
            opened = log.open_at(one, opened)
    except (DataError, NotFoundError):
        return None
    return opened


def _check_settings(store: ObjectStore, key: str) -> None:
    data = store.get(key)
    if data is not None:  # else they were changed meanwhile
        check_settings(data, key)


def _read_snapshots(store: ObjectStore, history: History, ledger: Ledger) -> State | None:
    """Read every stored snapshot; return the oldest that is sound."""
    oldest: State | None = None
    stored = [one for one in history.listed if one.kind == "snapshots"]
    for one in sorted(stored, key=lambda one: one.number):
        key = one.info.key
        found: list[State] = []

        def look(key: str = key, number: int = one.number, found: list[State] = found) -> None:
            found.append(snapshots.from_bytes(_get(store, key), sequence=number, where=key))

        ledger.count(one.info.bytes)
        if ledger.check(key, look):
            history.snapshots.append(one.number)
            oldest = oldest or found[0]
            for ref in (segment.deleted for segment in found[0].segments):
                if ref is not None:
                    history.named[ref.key] = ref
    return oldest


def _read_log(
    store: ObjectStore, history: History, ledger: Ledger, report: Report, *, oldest: State | None
) -> None:
    stored = sorted(
        (one for one in history.listed if one.kind == "commits"), key=lambda one: one.number
    )
    there = {one.number for one in stored}
    # What the oldest snapshot and later commits need; and what the whole log does, if it is whole.
    guaranteed = _needed(oldest or State())
    whole = there.issuperset(range(1, history.begins + 1))
    everything = _needed(State()) if whole else guaranteed
    walk = _Walk(store, history, ledger)
    for done, (one, commit) in enumerate(_commits(store, stored, ledger), 1):
        ledger.count(one.info.bytes)
        if commit is not None:
            history.commits.add(one.number)
            _note_restored(history, commit)
            if one.number > history.begins and not _only_begins(commit):
                guaranteed.add(commit.operation)
            if everything is not guaranteed:
                everything.add(commit.operation)
            walk.step(commit)
        report(Progress("verify", done, len(stored), "commits"))
    _check_gaps(store, history, there, guaranteed, ledger)
    history.named.update(guaranteed.objects)
    history.segments.update(guaranteed.segments)
    history.unreferenced = count(
        [one for one in history.listed if one.kind != "unknown" and not everything.keeps(one)]
    )


def _note_restored(history: History, commit: Commit) -> None:
    operation = commit.operation
    if isinstance(operation, Replace) and operation.restored is not None:
        for segment in operation.outputs:
            if segment.deleted is not None:
                history.restored.setdefault(segment.deleted.key, set()).add(operation.restored)


def _only_begins(commit: Commit) -> bool:
    """Tell if a commit names what a restoration would have brought back: it may be gone by now."""
    return isinstance(commit.operation, Replace) and commit.operation.begins


def _needed(state: State) -> Needed:
    needed = Needed(state.sequence, state.sequence, frozenset(state.fresh))
    needed.add_state(state)
    return needed


def _commits(
    store: ObjectStore, stored: Sequence[Listed], ledger: Ledger
) -> Iterator[tuple[Listed, Commit | None]]:
    """Read commits some at a time; None for one that is damaged, which is noted."""

    def read(one: Listed) -> Commit | DataError:
        key = one.info.key
        try:
            return Commit.from_bytes(_get(store, key), sequence=one.number, where=key)
        except DataError as error:
            return error

    with ThreadPoolExecutor(_WINDOW) as pool:
        for start in range(0, len(stored), _WINDOW):
            some = stored[start : start + _WINDOW]
            for one, found in zip(some, pool.map(read, some), strict=True):
                if isinstance(found, Commit):
                    yield one, found
                else:
                    ledger.refused(one.info.key, found)
                    yield one, None


def _check_gaps(
    store: ObjectStore, history: History, there: set[int], needed: Needed, ledger: Ledger
) -> None:
    """Note the commits that must be there and are not."""
    begins = history.begins
    wanted = set(range(begins + 1, max(there, default=0))) | needed.fresh
    wanted |= set(range(needed.commits_after + 1, begins + 1))
    # Garbage collection takes the first commit first. Where it is, and nothing needs it, nothing
    # was collected, and the log must be whole from there.
    if 1 in there and 1 not in wanted:
        wanted |= set(range(1, begins + 1))
    for sequence in sorted(wanted - there)[:_ABSENT_MAX]:
        # A folder may list a commit that came meanwhile, and not one that came before it.
        if store.get(log_key(sequence)) is None:
            ledger.note(log_key(sequence), "is missing although later commits are there")


class _Walk:
    """Applies commits in order, and compares stored snapshots with what they lead to."""

    def __init__(self, store: ObjectStore, history: History, ledger: Ledger) -> None:
        self._store = store
        self._stored = set(history.snapshots)
        self._ledger = ledger
        self._state: State | None = State()

    def step(self, commit: Commit) -> None:
        before = commit.sequence - 1
        if self._state is None or self._state.sequence != before:
            # From a snapshot, over what was collected or is damaged.
            self._state = self._load(before) if before in self._stored else None
        if self._state is not None:
            try:
                self._state = apply(self._state, commit)
            except (ConflictError, InvalidArgumentError) as error:
                key = log_key(commit.sequence)
                self._ledger.note(key, f"contradicts the commits before it ({error})")
                self._state = None
        if commit.sequence in self._stored:
            stored = self._load(commit.sequence)
            if stored is not None:
                if self._state is not None and not _same_lists(stored, self._state):
                    self._ledger.note(snapshots.snapshot_key(commit.sequence), _NOT_LED_TO)
                self._state = stored

    def _load(self, sequence: int) -> State | None:
        """Read a snapshot again; None if that cannot be any more, which is noted."""
        key = snapshots.snapshot_key(sequence)
        try:
            return snapshots.from_bytes(_get(self._store, key), sequence=sequence, where=key)
        except DataError as error:
            self._ledger.refused(key, error)
            return None


def _same_lists(stored: State, replayed: State) -> bool:
    """Compare all but what commits did to rows.

    Snapshots of earlier releases say of times, and of what changed last, something else.
    """

    def lists(state: State) -> object:
        segments = [replace(one, deleted=None, deleted_as_of=0) for one in state.segments]
        return segments, state.fresh, state.trained, state.recent

    return lists(stored) == lists(replayed)


def _same(stored: State, replayed: State) -> bool:
    return (
        _same_lists(stored, replayed)
        and stored.segments == replayed.segments
        and dict(stored.fresh_dead) == dict(replayed.fresh_dead)
    )


def _get(store: ObjectStore, key: str) -> Buffer:
    data = store.get(key)
    if data is None:
        raise DataError(f"{key} was listed and is gone", object_key=key)
    return data
