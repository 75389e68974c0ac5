"""A commit's id is for one write: what comes with that of another is refused.

A commit tells of its write what it was and of which keys, so far they are compared: a put of the
same keys with other content is taken for a repetition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from squash.errors import ConflictError, SquashError
from squash.index.commits import DeleteKeys, Operation, PutRows, PutSegments, Replace
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.state import committed_at
from squash.model import AsOf

_LOG = logging.getLogger("squash")

Same: TypeAlias = Callable[[Operation], bool]
"""Tells whether a commit's operation may be that of a write."""


def puts(keys: Sequence[str]) -> Same:
    """Tell of a put or a patch of keys."""

    def same(operation: Operation) -> bool:
        if isinstance(operation, PutSegments):
            # Their keys would have to be read.
            return sum(segment.rows for segment in operation.segments) == len(keys)
        return isinstance(operation, PutRows) and list(operation.rows.keys) == list(keys)

    return same


def deletes(keys: Sequence[str]) -> Same:
    """Tell of a deletion of keys."""
    return lambda operation: (
        isinstance(operation, DeleteKeys) and list(operation.keys) == list(keys)
    )


def deletes_passing(operation: Operation) -> bool:
    """Tell of a deletion by a filter, whose keys are known only to who did it."""
    return isinstance(operation, DeleteKeys)


def restores(as_of: AsOf) -> Same:
    """Tell of a restoration; of a time, which commit it meant is known only to who did it."""
    return lambda operation: (
        isinstance(operation, Replace)
        and operation.content == "restore"
        and (not isinstance(as_of, int) or operation.restored == as_of)
    )


def check_repeated(log: IndexLog, opened: Opened, commit_id: str, same: Same) -> None:
    """Refuse a write that came with another's id, and so was not done.

    Parameters
    ----------
    log, opened:
        The index, as it is when the write is over.
    commit_id:
        What the write came with.
    same:
        Tells whether a commit may be that of this write.

    Raises
    ------
    ConflictError
        If the commit of this id is another's. One that has been collected, or cannot be read, is
        taken for its own.

    """
    sequence = committed_at(opened.state, commit_id)
    if sequence is None:
        return
    commit = opened.commits.get(sequence)
    if commit is None:
        try:
            commit = log.commit_at(sequence)
        except SquashError as error:
            # It may have been made just now, and what is durable must not end in an error.
            _LOG.warning("a write was not compared with the commit of its commit_id: %s", error)
    if commit is not None and not same(commit.operation):
        raise ConflictError(
            f"commit_id is {commit_id}, and another write had it, which made the snapshot "
            f"{sequence}; nothing was written. Make a new one for each write, and give it again "
            "only with the same",
            field="commit_id",
        )
