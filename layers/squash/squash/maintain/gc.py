"""Garbage collection: removing what no state within the retention needs.

Words. The *horizon* H is the newest stored snapshot that the store has had for the retention; it
and every later state stay readable, whole. What they need is **kept**: the stored snapshots from H
on; every commit after H; of those before, the fresh ones of H, and those after the base of a fold
that was committed after H; the segments and trained objects of H, and all that later commits name;
and of a kept segment the bitmaps of H and every later one. Of the rest, what the store has had for
`GC_GRACE_MS` is removed.

**Whose clock.** An object's age is by the store's clock alone: a probe is stored first, and the
time that the store gives it is *now*. A snapshot was stored after its commit was, so a state that
the store has had for the retention is as old at least; whatever the clocks of writers said, each
state that was the newest at any moment of the retention is H or a later one. (`as_of` a time
goes by the commits' own times, which are the writers'.)

**Writers in flight.** Whoever stores objects, or reads inputs, before a commit that rests on them
commits within `COMMIT_WITHIN_MS` or not at all, which is less than the grace. Objects are listed
before the log is read to its end. A commit that this reading finds has what it names kept. One
that comes later began after (now - COMMIT_WITHIN_MS), so that all that it stored, and each commit
after its base, is too young to be removed. A bitmap is named after what it holds and may be met
lying there by whoever writes a snapshot: so each is kept that any state from H on could name, not
only those that stored snapshots do. Who stored a snapshot, and had stood still, removes it if there
is a newer one: its state may be before the horizon by then. A writer that has read the log takes
the next number only within minutes (`STALE_AFTER_MS`); it cannot take one that is free because its
commit was removed.

**Builds.** A bulk build writes segments and a trained object for hours or days before one commit
names them; that commit rests on all commits after the build's base. It leaves objects under
``builds/<id>/`` as it goes: while the newest of them is younger than `GC_GRACE_MS`, the build is
*active*, and all that lies there, the segments and trained objects whose ids begin with the first
half of its own, and the commits after its base are kept. ``builds/`` is listed before the rest: a
build that begins later has only objects too young to be removed. A build that at any time rested
for longer than `BUILD_RESTS_MS_MAX`, by the store's clock, refuses to go on and to be published
(`maintain/bulk/resting.py`): that is less than the grace, so that whenever a collection listed, a
build that may be published yet was active. What is left of others goes by the usual rules; what
lies under ``builds/<id>/`` stays for `BUILD_KEPT_MS` after the newest of it, for who asks how it
went, the request the longest.

**Restorations.** One names segments that no later state need have, of a state that may be about to
be collected. So it first commits what it will name, then looks if a snapshot or the first commit
still leads to that state, and gives up if none does; and a collection reads the log on once more
after it has removed snapshots and commits, before it removes anything that they name. If it finds
that first commit, it spares what is named there; if not, the restoration comes to look after the
snapshots are gone. The commit of the restoration itself follows within `RESTORE_WITHIN_MS`, which
is less than any retention: until then the first is later than every horizon.

**Readers in flight.** The state that a reader took for the newest within the retention is H or a
later one: all that it reads stays. One that looks at an older state may find something missing, and
goes over to the newest.

**Two at once.** What one removes no state from its own horizon on needs; the later of the horizons
says what is left, as if its collection had run alone. Who misses what it has listed gives up.

**Dying on the way.** First the stored snapshots before H go, the oldest first, young ones too,
since nobody is about to name one; then commits, the oldest first; then segments and bitmaps,
trained objects, and at last what is left of builds. Nothing of it is needed from H on, so any part
of it leaves an index that opens, verifies, and answers as of H and later. Before H, a state is
readable while a snapshot or the first commit leads to it, and both are gone before anything is that
it names.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Final, assert_never

from squash.clock import Clock, IdSource
from squash.container import Buffer
from squash.errors import DataError, InvalidArgumentError, UnavailableError, shown
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
from squash.index.references import MALFORMED
from squash.index.state import State, dropped
from squash.limits import (
    BUILD_KEPT_MS,
    DELETE_BATCH_KEYS,
    GC_GRACE_MS,
    GC_RETENTION_S_MIN,
    ID_PATTERN,
)
from squash.maintain.bulk.keys import BUILD_DIGITS, request_key
from squash.model import ObjectRef, SegmentRef
from squash.reports import GcReport, ObjectCount, Progress
from squash.storage import ObjectInfo, ObjectStore
from squash.values import dataclass

PROBES: Final = "gc/"
# In the order in which they go.
KINDS: Final = ("snapshots", "commits", "segments", "bitmaps", "trained", "builds", "probes")
# A restoration may name them again: the log is read once more before they go.
_NAMED_AGAIN: Final = frozenset({"segments", "bitmaps", "trained"})
_PATTERNS: Final = (
    ("snapshots", re.compile(r"snapshots/([0-9]{20})")),
    ("commits", re.compile(r"log/([0-9]{20})")),
    ("bitmaps", re.compile(rf"segments/({ID_PATTERN})/deleted-([0-9]{{20}})")),
    ("segments", re.compile(rf"segments/({ID_PATTERN})/[0-9a-z][0-9a-z_-]*")),
    ("trained", re.compile(rf"trained/({ID_PATTERN})")),
    ("builds", re.compile(rf"builds/({ID_PATTERN})/.+")),
    ("settings", re.compile(r"settings/([0-9]{20})")),
    ("probes", re.compile(rf"(?:{PROBES}|settings/now/)({ID_PATTERN})")),
)
_WINDOW: Final = 8

Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Listed:
    """An object below the index's prefix, as its key tells it; `unknown` is none of the format."""

    info: ObjectInfo
    kind: str
    number: int = 0
    """Of a commit, a snapshot, settings, or the commit that a bitmap is named after."""
    segment: str = ""
    """The id of the segment, trained object or build that it is of."""


@dataclass(slots=True)
class Needed:
    """What the states from a horizon on need."""

    horizon: int
    commits_after: int
    fresh: frozenset[int]
    objects: dict[str, ObjectRef] = field(default_factory=dict)
    segments: dict[str, SegmentRef] = field(default_factory=dict)
    bitmaps_from: dict[str, int] = field(default_factory=dict)
    """By segment, the bitmap of the horizon; of the others every one is needed."""
    read_to: int = 0
    """The last commit that was looked at."""
    active: frozenset[str] = frozenset()
    """The beginnings of the ids of what active builds have written."""
    over: frozenset[str] = frozenset()
    """The builds of which nothing is wanted any more."""

    def keeps(self, one: Listed) -> bool:
        """Tell whether an object is needed, or may be by a state that is not yet there."""
        match one.kind:
            case "snapshots":
                return one.number >= self.horizon
            case "commits":
                return one.number > self.commits_after or one.number in self.fresh
            case "bitmaps":
                known = one.segment in self.segments
                return known and one.number >= self.bitmaps_from.get(one.segment, 0)
            case "builds":
                return one.segment not in self.over
            case "settings":
                return True  # who changes them removes what is older
            case "probes":
                return False
            case _:
                return one.info.key in self.objects or one.segment[:BUILD_DIGITS] in self.active

    def add(self, operation: Operation) -> None:
        """Add what a commit names."""
        match operation:
            case PutSegments(segments):
                self._add_segments(segments)
            case Replace():
                self._add_restored(operation.outputs)
                self._add_segments(operation.outputs)
                self._add_objects([operation.trained] if operation.trained else [])
                # Its outputs' dead rows follow from what was committed since.
                self.commits_after = min(self.commits_after, operation.base)
            case PutRows() | DeleteKeys():
                pass
            case Dropped():
                raise dropped()
            case _:
                assert_never(operation)

    def add_state(self, state: State) -> None:
        """Add what a snapshot names."""
        self._add_segments(state.segments)
        self._add_objects([state.trained] if state.trained else [])
        for segment in state.segments:
            if segment.deleted is not None:
                number = int(segment.deleted.key.rpartition("-")[2])
                self.bitmaps_from[segment.id] = number

    def _add_restored(self, segments: Iterable[SegmentRef]) -> None:
        """Add the bitmaps with which segments are named; older ones than those of the horizon."""
        for segment in segments:
            if segment.deleted is not None:
                self._add_objects([segment.deleted])
                number = int(segment.deleted.key.rpartition("-")[2])
                if segment.id in self.bitmaps_from:
                    self.bitmaps_from[segment.id] = min(number, self.bitmaps_from[segment.id])

    def _add_segments(self, segments: Iterable[SegmentRef]) -> None:
        for segment in segments:
            self.segments[segment.id] = segment
            self._add_objects(segment.objects.values())

    def _add_objects(self, refs: Iterable[ObjectRef]) -> None:
        self.objects.update((ref.key, ref) for ref in refs)


def collect(
    store: ObjectStore,
    *,
    clock: Clock,
    ids: IdSource,
    retention_s: float,
    dry_run: bool,
    report: Report,
) -> GcReport:
    """Remove what no state within the retention needs; the module says what that is, and why.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    clock, ids:
        Time, for a dry run, which stores no probe; and the probe's name.
    retention_s:
        For how long a state stays readable after it was the newest, at least.
    dry_run:
        Only say what would be removed.
    report:
        Told of every batch.

    Raises
    ------
    InvalidArgumentError
        If the retention is too short.
    DataError
        If the log or the horizon's snapshot is damaged: nothing was removed.
    UnavailableError, ThrottledError, PermissionDeniedError
        From the store; what was removed by then is gone, and the index is sound.

    """
    check_retention(retention_s)
    now_ms = time_to_collect(store, clock=clock, ids=ids, dry_run=dry_run)
    listed = list_objects(store)
    report(Progress("list", len(listed), len(listed), "objects"))
    horizon = _horizon(listed, now_ms - int(retention_s * 1000))
    needed = find_needed(store, listed, horizon.number if horizon else 0, report)
    _add_builds(store, listed, needed, now_ms)
    unneeded = [one for one in listed if one.kind != "unknown" and not needed.keeps(one)]
    young: list[Listed] = []
    old: list[Listed] = []
    for one in unneeded:
        aged = one.info.modified_ms < now_ms - GC_GRACE_MS
        (old if aged or one.kind == "snapshots" else young).append(one)
    if not dry_run:
        old = _remove(store, old, needed, report)
    return GcReport(
        horizon=needed.horizon,
        horizon_ms=horizon.info.modified_ms if horizon else None,
        removed={kind: count([one for one in old if one.kind == kind]) for kind in KINDS},
        spared=count(young),
        unknown=count([one for one in listed if one.kind == "unknown"]),
        dry_run=dry_run,
    )


def list_objects(store: ObjectStore) -> list[Listed]:
    """List all that lies below the index's prefix."""
    return [_parse(info) for info in store.list("")]


def find_needed(
    store: ObjectStore, listed: Sequence[Listed], horizon: int, report: Report
) -> Needed:
    """Read the log from a horizon to its end, and say what the states from there on need.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    listed:
        What lies in it; listed before.
    horizon:
        A stored snapshot's number; 0 for the empty index.
    report:
        Told of what is read.

    Raises
    ------
    DataError
        If the horizon's snapshot or a commit after it is damaged or missing.
    UnavailableError
        If another collection removed what was listed.

    """
    state = State()
    if horizon:
        key = snapshots.snapshot_key(horizon)
        state = snapshots.from_bytes(_listed(store, key), sequence=horizon, where=key)
    needed = Needed(horizon, horizon, frozenset(state.fresh))
    needed.add_state(state)
    there = {one.number for one in listed if one.kind == "commits"}
    newest = max(there, default=0)
    for sequence in range(horizon + 1, newest + 1):
        # A folder may list a commit that came meanwhile, and not one that came before it.
        if sequence not in there and store.get(log_key(sequence)) is None:
            if isinstance(_commit(store, newest).operation, Dropped):
                raise dropped()
            raise DataError(
                f"{log_key(sequence)} is missing although later commits are there: the index is "
                "damaged, and nothing was removed. Run `squash repair` to see what can be mended.",
                object_key=log_key(sequence),
            )
    with ThreadPoolExecutor(_WINDOW) as pool:
        for first in range(horizon + 1, newest + 1, _WINDOW):
            some = range(first, min(first + _WINDOW, newest + 1))
            for commit in pool.map(lambda sequence: _commit(store, sequence), some):
                needed.add(commit.operation)
            report(Progress("read", some[-1] - horizon, newest - horizon, "commits"))
    needed.read_to = max(newest, horizon)
    # What was committed since the listing.
    _read_on(store, needed)
    return needed


def _read_on(store: ObjectStore, needed: Needed) -> None:
    """Add what commits name that came since the log was read."""
    while data := store.get(log_key(needed.read_to + 1)):
        needed.read_to += 1
        key = log_key(needed.read_to)
        needed.add(Commit.from_bytes(data, sequence=needed.read_to, where=key).operation)


def _add_builds(store: ObjectStore, listed: Sequence[Listed], needed: Needed, now_ms: int) -> None:
    """Say which builds are active, and of which nothing is wanted any more."""
    newest: dict[str, int] = {}
    for one in listed:
        if one.kind == "builds":
            newest[one.segment] = max(one.info.modified_ms, newest.get(one.segment, 0))
    active = [build for build, at_ms in newest.items() if at_ms >= now_ms - GC_GRACE_MS]
    for build in active:
        needed.commits_after = min(needed.commits_after, _base_of(store, build))
    needed.active = frozenset(build[:BUILD_DIGITS] for build in active)
    needed.over = frozenset(
        build for build, at_ms in newest.items() if at_ms < now_ms - BUILD_KEPT_MS
    )


def _base_of(store: ObjectStore, build: str) -> int:
    """Return the commit after which an active build began; 0, which spares all, if none can say."""
    data = store.get(request_key(build))
    try:
        return max(0, int(json.loads(bytes(data or b""))["base"]))
    except MALFORMED:
        return 0


def count(some: Sequence[Listed]) -> ObjectCount:
    """Count objects and their bytes."""
    return ObjectCount(len(some), sum(one.info.bytes for one in some))


def check_retention(retention_s: float) -> None:
    """Refuse a retention that is too short, or no number."""
    number = isinstance(retention_s, (int, float)) and not isinstance(retention_s, bool)
    if not number or not GC_RETENTION_S_MIN <= retention_s < math.inf:
        raise InvalidArgumentError(
            f"retention_s is a number of seconds, at least {GC_RETENTION_S_MIN}, not "
            f"{shown(retention_s)}: readers and writers rely on what is younger",
            field="retention_s",
        )


def _parse(info: ObjectInfo) -> Listed:
    for kind, pattern in _PATTERNS:
        if (found := pattern.fullmatch(info.key)) is None:
            continue
        if kind == "snapshots":
            return Listed(info, kind, number=snapshots.snapshot_sequence(info.key))
        if kind in {"commits", "settings"}:
            return Listed(info, kind, number=int(found[1]))
        if kind == "bitmaps":
            return Listed(info, kind, number=int(found[2]), segment=found[1])
        return Listed(info, kind, segment=found[1])
    return Listed(info, "unknown")


def time_to_collect(
    store: ObjectStore, *, clock: Clock, ids: IdSource, dry_run: bool = False
) -> int:
    """Return the time by the store's clock, or an earlier one: then more is spared.

    Parameters
    ----------
    store:
        Of which something is collected.
    clock, ids, dry_run:
        As `collect`.

    """
    if dry_run:
        return clock.now_ms()
    try:
        return store_time(store, ids)
    except UnavailableError as error:
        if not error.unchanged:
            raise
    # A full disk has no room for the probe, and this is what makes some: it was that late at least
    # when the newest object was stored, unless the disk's clock was ahead then.
    newest = max((info.modified_ms for info in store.list("")), default=0)
    return min(newest, clock.now_ms())


def store_time(store: ObjectStore, ids: IdSource) -> int:
    """Return the time by the store's clock, as it stamps an object stored now."""
    key = PROBES + ids.new_id()
    store.put(key, b"")
    for info in store.list(key, limit=1):
        store.delete([key])
        return info.modified_ms
    raise UnavailableError(f"the store does not list {key}, just stored: repeat the call")


def _horizon(listed: Sequence[Listed], until_ms: int) -> Listed | None:
    """Choose the horizon; None if it is the empty index, from which every state follows."""
    stored = [one for one in listed if one.kind == "snapshots"]
    aged = [one for one in stored if one.info.modified_ms <= until_ms]
    if aged:
        return max(aged, key=lambda one: one.number)
    oldest = min(stored, key=lambda one: one.number, default=None)
    there = {one.number for one in listed if one.kind == "commits"}
    if oldest is None or there.issuperset(range(1, oldest.number + 1)):
        return None
    # An earlier collection, for a shorter retention, has been further.
    return oldest


def _listed(store: ObjectStore, key: str) -> Buffer:
    data = store.get(key)
    if data is None:
        raise UnavailableError(
            f"{key} was listed and is gone: another collection is under way. Nothing was removed; "
            "repeat the call if it is still wanted."
        )
    return data


def _commit(store: ObjectStore, sequence: int) -> Commit:
    key = log_key(sequence)
    return Commit.from_bytes(_listed(store, key), sequence=sequence, where=key)


def _remove(
    store: ObjectStore, some: Sequence[Listed], needed: Needed, report: Report
) -> list[Listed]:
    """Remove objects kind by kind, in the order that the module gives reasons for.

    Returns
    -------
    Those that were: without what a restoration has named meanwhile.

    """
    removed: list[Listed] = []
    read_again = False
    for kind in KINDS:
        mine = sorted((one for one in some if one.kind == kind), key=_order)
        if mine and kind in _NAMED_AGAIN:
            if not read_again:
                _read_on(store, needed)
                read_again = True
            mine = [one for one in mine if not needed.keeps(one)]
        # The first commit goes alone: without it nobody takes the log for whole.
        alone = 1 if kind == "commits" else 0
        done = len(removed)
        for batch in batches([one.info.key for one in mine], alone=alone):
            store.delete(batch)
            done += len(batch)
            report(Progress("remove", done, len(some), "objects"))
        removed += mine
    return removed


def _order(one: Listed) -> tuple[int, bool, str]:
    """Return the place of an object among those of its kind; of builds the request goes last."""
    return one.number, one.info.key == request_key(one.segment), one.info.key


def batches(keys: Sequence[str], *, alone: int) -> Iterator[Sequence[str]]:
    """Yield keys as many as one request removes; the first so many apart."""
    if alone and keys:
        yield keys[:alone]
    for start in range(alone, len(keys), DELETE_BATCH_KEYS):
        yield keys[start : start + DELETE_BATCH_KEYS]
