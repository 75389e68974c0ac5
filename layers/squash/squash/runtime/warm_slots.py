"""What a processor's container keeps between calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from squash.limits import WARM_INDEXES_MAX
from squash.runtime.retained import LoadCounts, RetainedMemory, RetainedObjects
from squash.runtime.settings import Settings
from squash.search.slot import Slot
from squash.search.spending import Spent
from squash.storage import CountingStore, ObjectStore, PrefixStore
from squash.storage.tmp import TmpFiles

T = TypeVar("T")


class StoreMeter:
    """Counts what is asked of a store and of loaders over it, from when it is made on.

    A container of Lambda's serves one call at a time, so that this is what one call asked. Where
    threads of one process stand in for containers, each counts what all ask meanwhile.

    Parameters
    ----------
    store:
        The store below all loaders.
    loads:
        Returns what was asked of all loaders until now.

    """

    def __init__(self, store: CountingStore, loads: Callable[[], LoadCounts]) -> None:
        self._store = store
        self._loads = loads
        self._store_before = store.counts()
        self._loads_before = loads()

    def spent(self) -> Spent:
        """Return what was asked since."""
        counts = self._store.counts() - self._store_before
        loads = self._loads().since(self._loads_before)
        spent = Spent(
            parts_from_memory=loads.memory,
            parts_from_tmp=loads.tmp,
            parts_from_store=loads.store,
        )
        spent.add_store(counts)
        return spent


class Lately(Generic[T]):
    """Something for each of the indexes used last, by their prefix."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, prefix: str, make: Callable[[], T]) -> T:
        """Return what is kept of an index, or make it."""
        with self._lock:
            found = self._kept.get(prefix)
            if found is None:
                found = self._kept[prefix] = make()
                if len(self._kept) > WARM_INDEXES_MAX:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(prefix)
            return found

    def every(self) -> list[T]:
        """Return all that is kept."""
        with self._lock:
            return list(self._kept.values())


def sum_loads(loaders: Iterable[RetainedObjects]) -> LoadCounts:
    """Return what was asked of several loaders until now."""
    counts = [loader.counts() for loader in loaders]
    return LoadCounts(
        sum(one.memory for one in counts),
        sum(one.tmp for one in counts),
        sum(one.store for one in counts),
    )


class WarmSlots:
    """A `Slot` for each index, over one memory.

    Parameters
    ----------
    store:
        The whole store.
    settings:
        How much is retained.
    tmp:
        Files behind the memory.

    """

    def __init__(
        self, store: ObjectStore, *, settings: Settings, tmp: TmpFiles | None = None
    ) -> None:
        self._store = CountingStore(store)
        self._settings = settings
        self._memory = RetainedMemory(settings.retained_bytes_max)
        self._tmp = tmp
        self._warm: Lately[tuple[RetainedObjects, Slot]] = Lately()

    def slot_of(self, prefix: str) -> Slot:
        """Return what is kept of the index below a prefix."""
        return self._warm.of(prefix, lambda: self._made(prefix))[1]

    def meter(self) -> StoreMeter:
        """Begin to count."""
        return StoreMeter(
            self._store, lambda: sum_loads(loader for loader, _ in self._warm.every())
        )

    def _made(self, prefix: str) -> tuple[RetainedObjects, Slot]:
        loader = RetainedObjects(
            PrefixStore(self._store, prefix),
            whole_bytes_max=self._settings.whole_bytes_max,
            memory=self._memory,
            tmp=self._tmp,
            namespace=prefix,
        )
        return loader, Slot(loader)
