"""Indexes kept open between calls, and never mistaken for another of the same name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from squash.database import Database, Index
from squash.errors import NotFoundError, SquashError
from squash.index import catalogue
from squash.limits import OPEN_INDEXES_MAX
from squash.storage import ObjectStore
from squash.values import dataclass

T = TypeVar("T")
Work = Callable[[Index], T]


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: catalogue.Entry
    index: Index


class OpenIndexes:
    """The indexes last used, open.

    An index may be dropped and made anew by another function. Who reads learns of it from the
    index's log, which tells of news too; who writes looks into the catalogue before.

    Parameters
    ----------
    database:
        Opens them.
    store:
        Where the catalogue is read; counted there, if it counts.
    now_ms:
        Tells the time.

    """

    def __init__(
        self, database: Database, store: ObjectStore, *, now_ms: Callable[[], int]
    ) -> None:
        self._database = database
        self._store = store
        self.now_ms = now_ms
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def write(self, name: str, work: Work[T]) -> T:
        """Do something with an index that is there now.

        Raises
        ------
        NotFoundError
            If there is none of this name.

        """
        return work(self._current(name, self._look(name)).index)

    def read(self, name: str, work: Work[T]) -> T:
        """Read from an index; if that fails, and the catalogue has another by now, from this.

        Parameters
        ----------
        name:
            The index's.
        work:
            Reads its log, and more; may be done twice.

        Raises
        ------
        NotFoundError
            If there is none of this name.

        """
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
        if kept is None:
            return self.write(name, work)
        try:
            return work(kept.index)
        except SquashError:
            # An index that was dropped says so, or looks damaged; and another of its name may take
            # what it refuses. So what the catalogue says comes first.
            entry = self._look(name)
            if entry == kept.entry:
                raise
            return work(self._current(name, entry).index)

    def _look(self, name: str) -> catalogue.Entry:
        try:
            return catalogue.load(self._store, name)
        except NotFoundError as error:
            self.forget(name)
            if error.object_key is not None:
                raise  # no index, since no bucket
            # Not the catalogue's words, which suggest names that the caller may not know of.
            raise NotFoundError(
                f"there is no index {name!r}: create it first, or correct the name", index=name
            ) from error

    def _current(self, name: str, entry: catalogue.Entry) -> _Kept:
        with self._lock:
            kept = self._kept.get(name)
        index = self._database.index(name) if kept is None or kept.entry != entry else kept.index
        current = _Kept(entry, index)
        with self._lock:
            self._kept[name] = current
            self._kept.move_to_end(name)
            while len(self._kept) > OPEN_INDEXES_MAX:
                self._kept.popitem(last=False)
        return current

    def forget(self, name: str) -> None:
        """Close an index."""
        with self._lock:
            self._kept.pop(name, None)
