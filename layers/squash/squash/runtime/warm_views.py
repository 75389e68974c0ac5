"""What an allocator's container keeps between calls."""

from __future__ import annotations

from squash.clock import Clock, IdSource
from squash.index.entries import Entry
from squash.runtime.retained import RetainedMemory
from squash.runtime.settings import Settings
from squash.runtime.views import IndexViews
from squash.runtime.warm_slots import Lately, StoreMeter, sum_loads
from squash.search import IndexView
from squash.storage import CountingStore, ObjectStore, PrefixStore
from squash.storage.tmp import TmpFiles


class WarmViews:
    """Snapshots of the indexes used last, over one memory.

    Parameters
    ----------
    store:
        The whole store.
    settings, clock, ids:
        How this process uses its machine; time; names.
    tmp:
        Files behind the memory.

    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        tmp: TmpFiles | None = None,
    ) -> None:
        self._store = CountingStore(store)
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._memory = RetainedMemory(settings.retained_bytes_max)
        self._tmp = tmp
        self._warm: Lately[IndexViews] = Lately()

    def view_at(self, entry: Entry, sequence: int) -> IndexView:
        """Return the snapshot of an index after a commit.

        Raises
        ------
        NotFoundError
            If it cannot be opened any more.

        """
        # An index that is dropped and made anew has another prefix: an entry never changes.
        return self._warm.of(entry.prefix, lambda: self._made(entry)).view_at(sequence)

    def meter(self) -> StoreMeter:
        """Begin to count."""
        return StoreMeter(self._store, lambda: sum_loads(one.loader for one in self._warm.every()))

    def _made(self, entry: Entry) -> IndexViews:
        return IndexViews(
            PrefixStore(self._store, entry.prefix),
            entry,
            settings=self._settings,
            clock=self._clock,
            ids=self._ids,
            memory=self._memory,
            tmp=self._tmp,
        )
