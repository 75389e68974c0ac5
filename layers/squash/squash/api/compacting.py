"""The compactor: folds the indexes that are due, and collects what nothing needs any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from squash.database import Database
from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    SquashError,
    UnavailableError,
)
from squash.index import catalogue
from squash.limits import (
    FOLD_BEGIN_MS_MIN,
    FOLD_COMMITS_MIN,
    FOLD_GROUP_MS_MIN,
    FOLD_STOP_MS_MIN,
)
from squash.model import Backlog
from squash.planning import pending_rows_max
from squash.planning.turns import in_turn
from squash.reports import Progress
from squash.values import dataclass

if TYPE_CHECKING:
    from squash.maintain import BuildOptions

Report = Callable[[Progress], None]

_SCHEDULED: Final = "detail-type"  # as every event of EventBridge has it
_FLAGS: Final = frozenset({"full", "gc", "thrifty"})
_OF_FOLDS: Final = frozenset({"full", "gc", "index", "thrifty"})
_OF_COLLECTIONS: Final = frozenset({"gc", "index", "retention_s"})


class Note(Protocol):
    """Writes a line to the log."""

    def __call__(self, words: str, **fields: Any) -> None:
        """Write it, with fields."""
        ...


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of one index.

    The outcome is "folded", "not due", "building" (a bulk build will replace what is there),
    "conflict", "no time", "gone" or "failed".
    """

    index: str
    outcome: str
    snapshot: int = 0
    rows: int = 0
    why: str = ""
    """It failed."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of one index: "collected", "failed" (and why), "no time" or "gone"."""

    index: str
    outcome: str
    objects: int = 0
    """How many were removed, and their bytes."""
    bytes: int = 0
    why: str = ""


def is_due(backlog: Backlog) -> bool:
    """Tell if a fold is worth what it costs.

    Every query scans what is in no partition, and a fold writes partitions anew for it: as
    `pending_rows_max` has it, the two cost the same at some number of rows. And many small commits
    make every cold reader wait. A thrifty fold leaves at most half of that number behind, so that
    no index stays due.
    """
    many = pending_rows_max(backlog.rows_in_partitions)
    return backlog.rows > many or backlog.commits >= FOLD_COMMITS_MIN


def check_event(event: Any) -> bool:
    """Tell if an event asks for a collection, and not for folds.

    What it says beside what is known here may be meant to spare something, such as a dry run: then
    nothing is done. A schedule's event, of which only the time is read, may say whatever it does.

    Raises
    ------
    InvalidArgumentError
        If it is no event, or says something that is not known here.

    """
    if not isinstance(event, dict):
        raise InvalidArgumentError("an event is a JSON object")
    if _SCHEDULED in event:
        return False
    for name in _FLAGS & event.keys():
        if not isinstance(event[name], bool):
            raise InvalidArgumentError(f"the event's {name} is true or false", field=name)
    collects = event.get("gc", False)
    known = _OF_COLLECTIONS if collects else _OF_FOLDS
    for name in event:
        if name not in known:
            raise InvalidArgumentError(
                f"{name!r:.80} means nothing to a {'collection' if collects else 'fold'}: the "
                f"event may say {', '.join(sorted(known))}",
                field=name,
            )
    return bool(collects)


def compact(
    database: Database,
    event: Mapping[str, Any],
    *,
    remaining_ms: Callable[[], int],
    note: Note,
) -> list[Folded]:
    """Fold one index that the event names, or else all that are due.

    Parameters
    ----------
    database:
        Holds the indexes.
    event:
        ``{"index": name}``, perhaps with ``"full": true``, or with ``"thrifty": true`` to let rows
        wait where it would have to write much for few; or a schedule's event: those folds are
        thrifty. At each "time" that it says the indexes are looked at in another order, so that
        none always comes when the time is up.
    remaining_ms:
        How much time is left.
    note:
        Told what was done.

    Returns
    -------
    What became of each index looked at. Of several, one that is damaged stops none of the others.

    Raises
    ------
    InvalidArgumentError
        If the event names an index by something that is no name.
    DataError
        If the index that the event names is damaged.
    UnavailableError
        If time ran out in the midst of a fold, which left nothing behind.
    SquashError, OSError
        As the fold of the index that the event names. Of several the first that was met, when the
        others have been looked at: whoever watches the function sees that it failed.

    """
    name = _name(event)
    full = event.get("full", False) is True
    thrifty = name is None or event.get("thrifty", False) is True
    # One that is asked for by name is folded whether it is due or not.
    asked = name is not None
    names = catalogue.names(database.store) if name is None else [name]
    done: dict[str, Folded] = {}
    failure: SquashError | OSError | None = None
    # A schedule's event says its time.
    for one in in_turn(names, event.get("time")):
        options = _options(thrifty=thrifty, remaining_ms=remaining_ms)
        try:
            folded = _fold(
                database, one, asked=asked, full=full, options=options, remaining_ms=remaining_ms
            )
        except (SquashError, OSError) as error:
            if asked:
                raise
            # Its rows may be too many for the disk: every run would end with it, and never come to
            # those after it.
            failure = failure or error
            folded = Folded(one, "failed", why=str(error))
        done[one] = folded
        note(
            f"index {folded.index}: {folded.outcome}",
            index=folded.index,
            outcome=folded.outcome,
            snapshot=folded.snapshot,
            rows=folded.rows,
            why=folded.why,
        )
    if failure is not None:
        raise failure
    return [done[one] for one in names]


def collect(
    database: Database,
    event: Mapping[str, Any],
    *,
    retention_s: int,
    remaining_ms: Callable[[], int],
    note: Note,
) -> list[Collected]:
    """Collect the garbage of one index that the event names; or of all, and of dropped ones.

    It may be broken off at any moment: what is left is collected the next time.

    Parameters
    ----------
    database:
        Holds the indexes.
    event:
        ``{"gc": true}``, perhaps with an ``"index"``, and with a ``"retention_s"`` of its own.
    retention_s:
        Every state of the last so many seconds stays readable, where the event says nothing.
    remaining_ms:
        How much time is left.
    note:
        Told what was done.

    Returns
    -------
    What became of each index looked at. Of several, one that fails stops none of the others.

    Raises
    ------
    InvalidArgumentError
        If the event says something that cannot be done.
    DataError
        If the index that the event names is damaged; nothing was removed.
    UnavailableError
        If time ran out in the midst of the index that the event names.

    """
    name, asked_s = _name(event), event.get("retention_s", retention_s)
    watch = _Watch(remaining_ms, "collect garbage")
    if remaining_ms() < FOLD_BEGIN_MS_MIN:
        done = [Collected(name or "*", "no time")]
    elif name is not None:
        done = [_collect(database, name, retention_s=asked_s, watch=watch)]
    else:
        done = _collect_all(database, retention_s=asked_s, watch=watch)
    for one in done:
        note(
            f"index {one.index}: {one.outcome}",
            index=one.index,
            outcome=one.outcome,
            objects=one.objects,
            bytes=one.bytes,
            why=one.why,
        )
    return done


def _collect(database: Database, name: str, *, retention_s: Any, watch: Report) -> Collected:
    try:
        total = database.index(name).gc(retention_s, progress=watch).total
    except NotFoundError:
        return Collected(name, "gone")
    return Collected(name, "collected", total.objects, total.bytes)


def _collect_all(database: Database, *, retention_s: Any, watch: Report) -> list[Collected]:
    report = database.gc(retention_s, progress=watch)
    done = [
        Collected(name, "collected", found.total.objects, found.total.bytes)
        for name, found in report.indexes.items()
    ]
    done += [Collected(name, "failed", why=why) for name, why in report.failed.items()]
    remains = report.remains
    if remains.objects:
        done.append(Collected("*", "remains of dropped indexes", remains.objects, remains.bytes))
    return done


class _Watch:
    """Stops what reports its steps, when hardly any time is left."""

    def __init__(self, remaining_ms: Callable[[], int], work: str) -> None:
        self._remaining_ms = remaining_ms
        self._work = work

    def __call__(self, progress: Progress) -> None:
        if self._remaining_ms() < FOLD_STOP_MS_MIN:
            raise UnavailableError(
                f"no time is left to {self._work} ({progress.stage}): give the compactor a longer "
                "time-out or more memory"
            )


def _options(*, thrifty: bool, remaining_ms: Callable[[], int]) -> BuildOptions:
    """Fold as many partitions as there is time for; the next call folds the rest."""
    from squash.maintain import BuildOptions  # noqa: PLC0415 - only who folds needs what is behind

    return BuildOptions(thrifty=thrifty, carry_on=lambda: remaining_ms() >= FOLD_GROUP_MS_MIN)


def _name(event: Mapping[str, Any]) -> str | None:
    name = event.get("index")
    if name is not None and not isinstance(name, str):
        raise InvalidArgumentError("the event's index is a name", field="index")
    return name


def _fold(
    database: Database,
    name: str,
    *,
    asked: bool,
    full: bool,
    options: BuildOptions,
    remaining_ms: Callable[[], int],
) -> Folded:
    watch = _Watch(remaining_ms, f"fold index {name!r}")
    if remaining_ms() < FOLD_BEGIN_MS_MIN:
        return Folded(name, "no time")
    try:
        index = database.index(name)
        backlog = index.backlog()
        if backlog.building is not None:
            return Folded(name, "building", backlog.snapshot)
        if not asked and not is_due(backlog):
            return Folded(name, "not due", backlog.snapshot)
        result = index.optimize(progress=watch, options=options, full=full)
    except ConflictError:
        # Another fold was first, and its result stands.
        return Folded(name, "conflict")
    except NotFoundError:
        return Folded(name, "gone")
    except DataError as error:
        if asked:
            raise
        return Folded(name, "failed", why=str(error))
    return Folded(name, "folded", result.snapshot, result.rows)
