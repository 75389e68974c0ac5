"""The compactor: folds the indexes that are due, and collects what nothing needs any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from squash.database import Database
from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from squash.limits import (
    FOLD_BEGIN_MS_MIN,
    FOLD_COMMITS_MIN,
    FOLD_STOP_MS_MIN,
)
from squash.model import Backlog, Progress
from squash.planning import pending_rows_max


class Note(Protocol):
    """Writes a line to the log."""

    def __call__(self, words: str, **fields: Any) -> None:
        """Write it, with fields."""
        ...


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of one index: "folded", "not due", "conflict", "no time" or "gone"."""

    index: str
    outcome: str
    snapshot: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of one index: "collected", "begun", "no time", "damaged" or "gone"."""

    index: str
    outcome: str
    objects: int = 0
    """How many were removed, and their bytes."""
    bytes: int = 0


def is_due(backlog: Backlog) -> bool:
    """Tell if a fold is worth what it costs.

    What is new must be many rows beside those that are there; and many small commits make every
    cold reader wait.
    """
    many = pending_rows_max(backlog.rows_in_partitions)
    return backlog.rows > many or backlog.commits >= FOLD_COMMITS_MIN


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
        ``{"index": name}``, perhaps with ``"full": true``; or a schedule's event, of which nothing
        is needed.
    remaining_ms:
        How much time is left.
    note:
        Told what was done.

    Returns
    -------
    What became of each index looked at.

    Raises
    ------
    InvalidArgumentError
        If the event names an index by something that is no name.
    UnavailableError
        If time ran out in the midst of a fold, which left nothing behind.

    """
    name = _name(event)
    full = event.get("full", False) is True
    # One that is asked for by name is folded whether it is due or not.
    names = [name] if name else [config.name for config in database.list_indexes()]
    done: list[Folded] = []
    for one in names:
        asked = name is not None
        done.append(_fold(database, one, asked=asked, full=full, remaining_ms=remaining_ms))
        folded = done[-1]
        note(
            f"index {folded.index}: {folded.outcome}",
            index=folded.index,
            outcome=folded.outcome,
            snapshot=folded.snapshot,
            rows=folded.rows,
        )
    return done


def collect(
    database: Database,
    event: Mapping[str, Any],
    *,
    retention_s: int,
    remaining_ms: Callable[[], int],
    note: Note,
) -> list[Collected]:
    """Collect the garbage of one index that the event names, or else of all.

    It may be broken off at any moment, and is: what was begun is gone on with the next time.

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
    What became of each index looked at. Of several, one that is damaged stops none of the others.

    Raises
    ------
    InvalidArgumentError
        If the event says something that cannot be done.
    DataError
        If the index that the event names is damaged; nothing was removed.

    """
    name = _name(event)
    asked_s = event.get("retention_s", retention_s)
    names = [name] if name else [config.name for config in database.list_indexes()]
    done: list[Collected] = []
    for one in names:
        try:
            done.append(_collect(database, one, retention_s=asked_s, remaining_ms=remaining_ms))
        except DataError as error:
            if name is not None:
                raise
            note(f"index {one}: {error}", index=one, outcome="damaged")
            done.append(Collected(one, "damaged"))
            continue
        collected = done[-1]
        note(
            f"index {one}: {collected.outcome}",
            index=one,
            outcome=collected.outcome,
            objects=collected.objects,
            bytes=collected.bytes,
        )
    return done


def _collect(
    database: Database, name: str, *, retention_s: Any, remaining_ms: Callable[[], int]
) -> Collected:
    stopped = False

    def watch(progress: Progress) -> None:
        nonlocal stopped
        if remaining_ms() < FOLD_STOP_MS_MIN:
            stopped = True
            raise UnavailableError(f"no time is left to collect {name!r} ({progress.stage})")

    if remaining_ms() < FOLD_BEGIN_MS_MIN:
        return Collected(name, "no time")
    try:
        report = database.index(name).gc(retention_s=retention_s, progress=watch)
    except NotFoundError:
        return Collected(name, "gone")
    except UnavailableError:
        if not stopped:
            raise
        return Collected(name, "begun")
    return Collected(name, "collected", report.total.objects, report.total.bytes)


def _name(event: Mapping[str, Any]) -> str | None:
    name = event.get("index")
    if name is not None and not isinstance(name, str):
        raise InvalidArgumentError("the event's index is a name", field="index")
    return name


def _fold(
    database: Database, name: str, *, asked: bool, full: bool, remaining_ms: Callable[[], int]
) -> Folded:
    def watch(progress: Progress) -> None:
        if remaining_ms() < FOLD_STOP_MS_MIN:
            raise UnavailableError(
                f"no time is left to fold index {name!r} ({progress.stage}): give the compactor a "
                "longer time-out or more memory",
                index=name,
            )

    if remaining_ms() < FOLD_BEGIN_MS_MIN:
        return Folded(name, "no time")
    try:
        index = database.index(name)
        backlog = index.backlog()
        if not asked and not is_due(backlog):
            return Folded(name, "not due", backlog.snapshot)
        result = index.optimize(progress=watch, full=full)
    except ConflictError:
        # Another fold was first, and its result stands.
        return Folded(name, "conflict")
    except NotFoundError:
        return Folded(name, "gone")
    return Folded(name, "folded", result.snapshot, result.rows)
