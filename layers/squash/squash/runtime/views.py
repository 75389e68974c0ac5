"""The snapshots of one index, opened for searching; the last few are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np

from squash.arrays import I64, Mask
from squash.clock import Clock, IdSource
from squash.errors import DataError, InvalidArgumentError, NotFoundError, SquashError
from squash.index import snapshots
from squash.index.as_of import History, check_as_of, moment_ms
from squash.index.entries import Entry
from squash.index.live import Opened, dead_rows, fresh_rows, touched_since
from squash.index.log import IndexLog
from squash.index.reader import SegmentReader
from squash.index.trained import Trained
from squash.limits import VIEWS_KEPT_MAX
from squash.model import AsOf, RowBatch, SegmentRef
from squash.runtime.retained import RetainedMemory, RetainedObjects
from squash.runtime.settings import Settings
from squash.search import FreshView, IndexView, PartitionView, Rows, SegmentView
from squash.segment import KeyTable
from squash.storage import ObjectStore, shared_reads
from squash.storage.tmp import TmpFiles

A = TypeVar("A")
T = TypeVar("T")


class IndexViews:
    """An index's log, read on, and a view of every snapshot that is asked for.

    Threads may share it.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    entry:
        What the catalogue says of it.
    settings, clock, ids:
        How this process uses its machine; time; names.
    check_current, looked_ms:
        As of `IndexLog`.
    memory, tmp:
        What was loaded is kept in; without them, in memory of its own and in no files.

    """

    def __init__(
        self,
        store: ObjectStore,
        entry: Entry,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        check_current: Callable[[], None] | None = None,
        looked_ms: int | None = None,
        memory: RetainedMemory | None = None,
        tmp: TmpFiles | None = None,
    ) -> None:
        self._entry = entry
        self._config = entry.config
        self._settings = settings
        self._clock = clock
        self.loader = RetainedObjects(
            store,
            whole_bytes_max=settings.whole_bytes_max,
            memory=memory or RetainedMemory(settings.retained_bytes_max),
            tmp=tmp,
            namespace=entry.prefix,
            reads=shared_reads(),
        )
        self.log = IndexLog(
            store,
            clock,
            ids,
            load_keys=self._load_keys,
            check_current=check_current,
            looked_ms=looked_ms,
        )
        self.history = History(store)
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._kept: OrderedDict[int, tuple[Opened, IndexView]] = OrderedDict()
        self._again: Opened | None = None
        # That was asked for last, and so is kept: mostly it is asked for again.
        self._last: IndexView | None = None

    def refresh(self) -> Opened:
        """Read the log to its end."""
        return self.install(self.log.refresh(self._opened))

    def known(self) -> Opened:
        """Return what was last read; read it if nothing was."""
        return self._opened or self.refresh()

    def install(self, opened: Opened) -> Opened:
        """Go over to what was read or written, unless something newer is known; return that."""
        if opened is self._opened:
            return opened
        with self._lock:
            known = self._opened
            if known is None or opened.state.sequence >= known.state.sequence:
                self._opened = opened
                return opened
            return known

    def view(self, consistency: str) -> IndexView:
        """Return the newest snapshot, or with "eventual" one that was the newest not long ago.

        Raises
        ------
        InvalidArgumentError
            If it is neither "strong" nor "eventual".

        """
        opened = self._opened
        if consistency == "strong":
            if opened is None:
                return self._newest_view_of(self._refresh_to_search())
            # Every query comes through here, and mostly nothing is new.
            newest = self.log.refresh(opened)
            if newest is not opened:
                newest = self.install(newest)
            last = self._last
            if last is not None and last.snapshot == newest.state.sequence:
                return last
            return self._newest_view_of(newest)
        if consistency != "eventual":
            raise InvalidArgumentError(
                f"consistency is 'strong' or 'eventual', not {consistency!r}", field="consistency"
            )
        age_ms = self._clock.now_ms() - opened.read_ms if opened else 0
        # A clock that was set back says nothing about how old it is.
        if opened is None or not 0 <= age_ms <= self._settings.staleness_ms_max:
            opened = self._refresh_to_search()
        return self._newest_view_of(opened)

    def read(
        self, consistency: str, read: Callable[[IndexView, A], T], what: A
    ) -> tuple[IndexView, T]:
        """Read something from a snapshot; if something of it is gone, once more from the newest.

        What garbage collection takes was in no newest snapshot for an hour at least: only who
        stood still for so long can miss it.
        """
        return self.read_from(self.view(consistency), read, what)

    def read_from(
        self, view: IndexView, read: Callable[[IndexView, A], T], what: A
    ) -> tuple[IndexView, T]:
        """Do as `read`, from this snapshot if that can be."""
        try:
            return view, read(view, what)
        except DataError:
            newest = self.view("strong")
            if newest.snapshot == view.snapshot:
                raise
            with self.log.telling_of_drops():
                return newest, read(newest, what)

    def _newest_view_of(self, opened: Opened) -> IndexView:
        """Return the snapshot that was read as the newest, or the one that is by now.

        Who stood still since may find something of it collected.
        """
        try:
            return self.view_of(opened)
        except DataError:
            newest = self.refresh()
            if newest.sequence == opened.sequence:
                raise
            return self.view_of(newest)

    def _refresh_to_search(self) -> Opened:
        """Do as `refresh`, and read what a first search needs beside it."""
        known = self._opened
        # Who writes needs no trained object; who reads needs it next, and each round counts.
        cold = known is None and self._settings.billed
        return self.install(
            self.log.refresh(known, read_ahead=self.loader.read_ahead if cold else None)
        )

    def as_of(self, as_of: AsOf) -> tuple[IndexView, int]:
        """Return the snapshot of a number or a moment, and the time that it is then.

        That is the moment, or when the snapshot's commit was made, in milliseconds since 1970 UTC.

        Raises
        ------
        InvalidArgumentError
            If it is neither, or a number beyond the newest.
        NotFoundError
            If there was no commit then yet, or what there was has been collected.

        """
        opened, time_ms = self.opened_as_of(as_of)
        try:
            view = self.view_of(opened)
        except (DataError, NotFoundError) as error:
            self.refuse_gone(opened.sequence, error)
            raise
        return view, time_ms

    def opened_as_of(self, as_of: AsOf) -> tuple[Opened, int]:
        """Return the index as it was then, and the time that it is then; see `as_of`."""
        asked = check_as_of(as_of)
        # What was is told of an index that is there now: its log is looked at for that, too.
        newest = self.refresh()
        if isinstance(asked, int):
            sequence, time_ms = asked, None
        else:
            time_ms = moment_ms(asked)
            sequence = self.history.at_time(time_ms, newest, self._clock.now_ms())
        if not self._is_open(sequence):
            self.history.check_number(sequence, newest)
        try:
            opened = self._opened_at(sequence)
        except (DataError, NotFoundError) as error:
            self.refuse_gone(sequence, error)
            raise
        return opened, opened.state.time_ms if time_ms is None else time_ms

    def at_hand(self) -> IndexView | None:
        """Return the newest snapshot that is known, if it is open; nothing is read."""
        with self._lock:
            kept = self._kept.get(self._opened.sequence) if self._opened else None
            return kept[1] if kept else None

    def view_at(self, sequence: int) -> IndexView:
        """Return the snapshot after a commit, whatever was committed since.

        Raises
        ------
        NotFoundError
            If it cannot be opened any more.

        """
        return self.view_of(self._opened_at(sequence))

    def _is_open(self, sequence: int) -> bool:
        with self._lock:
            return sequence in self._kept

    def _opened_at(self, sequence: int) -> Opened:
        with self._lock:
            opened = [self._opened, *(opened for opened, _ in self._kept.values())]
        before = [one for one in opened if one is not None and one.sequence <= sequence]
        nearest = max(before, key=lambda one: one.sequence, default=None)
        return self.log.open_at(sequence, nearest)

    def refuse_gone(self, sequence: int, error: SquashError) -> None:
        """Say that a snapshot was collected, if that may be why something of it is not there.

        From the oldest stored snapshot on everything must be there: what is missing is damage.

        Raises
        ------
        NotFoundError
            If it is an older one, or the index was dropped.

        """
        self.log.refuse_dropped()
        if sequence < snapshots.oldest_snapshot(self.log.store):
            raise NotFoundError(
                f"snapshot {sequence} was collected: ask for a newer one; Index.snapshots() tells "
                "which there are"
            ) from error

    def fresh(self, opened: Opened) -> RowBatch:
        """Return the live rows that are in no segment."""
        return fresh_rows(opened, self._config.dimension, load_keys=self._load_keys)

    def touched_since(self, opened: Opened, sequence: int, keys: KeyTable) -> bool:
        """Tell whether a commit after `sequence` put or deleted one of some keys."""
        return touched_since(opened, sequence, keys, load_keys=self._load_keys)

    def live(self, opened: Opened, ref: SegmentRef) -> I64:
        """Return int64, the live rows of a segment, ascending."""
        dead = self._dead(opened, ref)
        return np.arange(ref.rows) if dead is None else np.flatnonzero(~dead)

    def reader(self, ref: SegmentRef, loader: RetainedObjects | None = None) -> SegmentReader:
        """Return a segment's reader, by another loader if one is given."""
        return SegmentReader(ref, loader or self.loader, dimension=self._config.dimension)

    def view_of(self, opened: Opened) -> IndexView:
        """Return the snapshot that was read or written."""
        last = self._last
        if last is not None and last.snapshot == opened.state.sequence:
            return last
        with self._lock:
            kept = self._kept.get(opened.sequence)
            if kept is not None:
                self._kept.move_to_end(opened.sequence)
                self._last = kept[1]
                return kept[1]
        with self.log.telling_of_drops():
            view = self._make_view(opened)
        with self._lock:
            self._kept[opened.sequence] = (opened, view)
            self._last = view
            self._kept.move_to_end(opened.sequence)
            if self._opened is not None and self._opened.sequence in self._kept:
                # Who looks back through old snapshots does not close the newest to all others.
                self._kept.move_to_end(self._opened.sequence)
            while len(self._kept) > VIEWS_KEPT_MAX:
                self._kept.popitem(last=False)
        return view

    def _make_view(self, opened: Opened) -> IndexView:
        trained = self._trained(opened)
        exact: list[Rows] = []
        fresh = self.fresh(opened)
        if len(fresh):
            exact.append(FreshView(fresh, non_filterable=self._config.non_filterable))
        partitions: dict[str, PartitionView] = {}
        numbers = {name: i for i, name in enumerate(trained.partition_ids)} if trained else {}
        for ref in opened.state.segments:
            reader = self.reader(ref)
            dead = partial(self._dead, opened, ref)
            if ref.kind == "flat" or trained is None or ref.id not in numbers:
                exact.append(SegmentView(reader, dead))
            else:
                number = numbers[ref.id]
                partitions[ref.id] = PartitionView(reader, dead, trained=trained, number=number)
        if len(partitions) != len(numbers):
            # A routing table of partitions that are not all there routes nothing: search exactly.
            exact.extend(partitions.values())
            partitions, numbers = {}, {}
        return IndexView(
            metric=self._config.metric,
            dimension=self._config.dimension,
            snapshot=opened.sequence,
            exact_rows=tuple(exact),
            # Not by their first cluster: a partition without clusters shares it with another.
            partitions=tuple(partitions[name] for name in numbers),
            trained=trained,
            trained_ref=opened.state.trained if trained else None,
            entry=self._entry,
        )

    def _trained(self, opened: Opened) -> Trained | None:
        ref = opened.state.trained
        if ref is None or all(segment.kind == "flat" for segment in opened.state.segments):
            return None
        dimension = self._config.dimension
        return self.loader.load(
            ref, "trained", lambda data: Trained.from_bytes(data, ref.key, dimension=dimension)
        )

    def _dead(self, opened: Opened, ref: SegmentRef) -> Mask | None:
        load_bitmap = self.log.load_bitmap
        try:
            return dead_rows(opened, ref, load_keys=self._load_keys, load_bitmap=load_bitmap)
        except DataError:
            again = self._read_again(opened)
            if again is None:
                raise
            same = next(one for one in again.state.segments if one.id == ref.id)
            self._again = None  # unless that is there still
            dead = dead_rows(again, same, load_keys=self._load_keys, load_bitmap=load_bitmap)
            self._again = again
            opened.retained.dead[ref.id] = again.retained.dead[ref.id]
            return dead

    def _read_again(self, opened: Opened) -> Opened | None:
        """Open a state by a newer snapshot than it was read from; None if there is none.

        Then what the older one named may have been collected, though the state was not.
        """
        again = self._again
        if again is None or again.sequence != opened.sequence:
            try:
                again = self.log.open_at(opened.sequence)
            except NotFoundError:
                return None
        newer = again.state.snapshot_sequence > opened.state.snapshot_sequence
        return again if newer else None

    def _load_keys(self, ref: SegmentRef) -> KeyTable:
        return self.reader(ref).keys()
