"""The compactor: folds the indexes that are due, as far as time allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from squash.database import Database
from squash.errors import ConflictError, InvalidArgumentError, NotFoundError, UnavailableError
from squash.limits import (
    FOLD_BEGIN_MS_MIN,
    FOLD_COMMITS_MIN,
    FOLD_GROUP_MS_MIN,
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


def is_due(backlog: Backlog) -> bool:
    """Tell if a fold is worth what it costs.

    Every query scans what is in no partition, and a fold writes partitions anew for it: as
    `pending_rows_max` has it, the two cost the same at some number of rows. And many small commits
    make every cold reader wait. A thrifty fold leaves at most half of that number behind, so that
    no index stays due.
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
        ``{"index": name}``, or a schedule's event, of which nothing is needed.
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
    name = event.get("index")
    if name is not None and not isinstance(name, str):
        raise InvalidArgumentError("the event's index is a name", field="index")
    # One that is asked for by name is folded whether it is due or not.
    names = [name] if name else [config.name for config in database.list_indexes()]
    done: list[Folded] = []
    for one in names:
        done.append(_fold(database, one, asked=name is not None, remaining_ms=remaining_ms))
        folded = done[-1]
        note(
            f"index {folded.index}: {folded.outcome}",
            index=folded.index,
            outcome=folded.outcome,
            snapshot=folded.snapshot,
            rows=folded.rows,
        )
    return done


def _fold(database: Database, name: str, *, asked: bool, remaining_ms: Callable[[], int]) -> Folded:
    from squash.maintain import BuildOptions  # noqa: PLC0415 - only who folds needs what is behind

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
        # With too little time for all, some partitions are folded, and the rest by the next call.
        options = BuildOptions(
            thrifty=not asked, carry_on=lambda: remaining_ms() >= FOLD_GROUP_MS_MIN
        )
        result = index.optimize(progress=watch, options=options)
    except ConflictError:
        # Another fold was first, and its result stands.
        return Folded(name, "conflict")
    except NotFoundError:
        return Folded(name, "gone")
    return Folded(name, "folded", result.snapshot, result.rows)
