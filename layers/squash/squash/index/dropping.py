"""How an index's data goes: first its log ends, by a commit that nothing may follow.

**One look tells.** Whoever reads an index asks its log for the next commit, and so learns that it
was dropped from what tells it of news. That commit, the *tombstone*, is what decides: from then on
no reader answers and no writer commits, whoever dies before the rest is removed.

**What stays.** A reader that has seen commit m as the newest asks for m + 1, so that must be there
if there was one: the tombstone, or a commit from which the log leads to it. It has seen m within
`CATALOGUE_TRUSTED_MS`, or it looks into the catalogue after that; commit m + 1 is younger then. So
of the log the commits of the last `DROPPED_LOG_MS` before the tombstone stay beside it, twice as
long for what clocks and slow requests take; all else goes at once. Garbage collection removes what
stays when the store has had it for `GC_GRACE_MS`.

**A full disk** has no room for the tombstone: then the entry goes first, and what is to go. Who has
the index open finds objects missing until the tombstone is there, or until it looks into the
catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from squash.errors import DataError, ThrottledError, UnavailableError
from squash.index.commits import Commit, Dropped, log_key
from squash.index.snapshots import PREFIX as SNAPSHOTS
from squash.limits import COMMIT_ATTEMPTS_MAX, DROPPED_LOG_MS
from squash.storage import ObjectInfo, ObjectStore

_LOG: Final = "log/"
# What may lie there before an index does: its settings, and what garbage collection puts.
_BEFORE: Final = ("settings/", "gc/")
_COMMIT: Final = re.compile(rf"{_LOG}([0-9]{{20}})")


def begins(store: ObjectStore) -> bool:
    """Tell if there is a stored snapshot, or the first commit: without one, nothing is read.

    Parameters
    ----------
    store:
        As of all functions here, the store below the index's own prefix.

    """
    return any(_beginnings(store))


def was_index(store: ObjectStore) -> bool:
    """Tell if there is what is stored of an index only once its entry is there."""
    return any(not info.key.startswith(_BEFORE) for info in store.list(""))


def tombstone(store: ObjectStore) -> ObjectInfo | None:
    """Return the commit that ends the log; None if that goes on, or cannot be read there."""
    last = _last(store)
    return last if last is not None and _ends(store, _number(last)) else None


def end_log(store: ObjectStore, index_id: str) -> None:
    """Put the tombstone; if there is one already, nothing is to be done.

    Raises
    ------
    UnavailableError, ThrottledError, PermissionDeniedError
        From the store, or since writers were first too often: repeat it.

    """
    last = _last(store)
    number = 0 if last is None else _number(last)
    for _ in range(COMMIT_ATTEMPTS_MAX):
        if number and _ends(store, number):
            return
        number += 1
        # A function of the index and the number alone: who repeats it finds its own.
        data = Commit(number, index_id, 0, Dropped()).to_bytes()
        try:
            if store.put_if_absent(log_key(number), data):
                return
        except UnavailableError:
            # The answer may be what was lost; what lies there tells.
            if store.get(log_key(number)) is None:
                raise
    raise ThrottledError(
        f"{COMMIT_ATTEMPTS_MAX} times a writer was first: repeat the drop", retry_after_ms=1000
    )


def remove_data(store: ObjectStore) -> None:
    """Remove what is not to stay; first what makes an index of the rest, if it has an entry.

    So what is left by one who dies on the way is known for what it is.
    """
    _remove_before(store, tombstone(store))


def make_room(store: ObjectStore) -> None:
    """Remove what is not to stay before the log is ended, for which a full disk has no room.

    Until it is, who has the index open finds part of it missing.
    """
    _remove_before(store, _last(store))


def removable(store: ObjectStore) -> bool:
    """Tell if there is anything that `remove_data` would remove."""
    last = tombstone(store)
    return any(not _stays(info, last) for info in store.list(""))


def _remove_before(store: ObjectStore, last: ObjectInfo | None) -> None:
    store.delete([info.key for info in _beginnings(store) if not _stays(info, last)])
    store.delete(info.key for info in store.list("") if not _stays(info, last))


def _stays(info: ObjectInfo, last: ObjectInfo | None) -> bool:
    if last is None or not _COMMIT.fullmatch(info.key):
        return False
    return info.key == last.key or info.modified_ms >= last.modified_ms - DROPPED_LOG_MS


def _beginnings(store: ObjectStore) -> Iterator[ObjectInfo]:
    yield from store.list(SNAPSHOTS)
    yield from store.list(log_key(1), limit=1)


def _last(store: ObjectStore) -> ObjectInfo | None:
    last = None
    for info in store.list(_LOG):
        if _COMMIT.fullmatch(info.key):
            last = info
    return last


def _number(info: ObjectInfo) -> int:
    return int(info.key.rpartition("/")[2])


def _ends(store: ObjectStore, number: int) -> bool:
    """Tell if a commit is a tombstone; what cannot be read ends nothing."""
    key = log_key(number)
    data = store.get(key)
    if data is None:
        return False
    try:
        commit = Commit.from_bytes(data, sequence=number, where=key)
    except DataError:
        return False
    return isinstance(commit.operation, Dropped)
