"""Retained data: what was loaded, kept in memory up to a number of bytes.

Objects are immutable and named by what they are, so nothing kept here can be stale. An entry is
installed only when it is whole and checked. Who wants what another thread is loading waits for it;
if that load fails, the waiter loads for itself, and nothing of the failure stays.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from squash.container import Buffer
from squash.errors import ChecksumError, DataError, SquashError
from squash.index.loading import ClusterParts, Name, Pages, Range, Want, Whole
from squash.model import ObjectRef
from squash.planning.wholes import better_whole, charge
from squash.segment import ClusterCodes
from squash.storage import ObjectStore, Reads
from squash.storage.tmp import TmpFiles
from squash.values import dataclass

T = TypeVar("T")
_Key: TypeAlias = tuple[str, str, object]
_CODES = "codes"
_FOUND, _PAST = 0, 2  # which of a loader's counts


@dataclass(slots=True)
class _Object:
    """A whole object and what was decoded from it: views of the same bytes, evicted together."""

    data: Buffer
    parts: dict[str, Any]


@dataclass(slots=True, eq=False)
class _Flight:
    """One read on its way, of pieces of one want."""

    want: Want
    names: list[Any]
    values: dict[Any, Any] = field(default_factory=dict)
    landed: threading.Event = field(default_factory=threading.Event)


class LoadCounts(NamedTuple):
    """Objects and ranges that were asked for, by where they were found."""

    memory: int
    tmp: int
    store: int

    def since(self, earlier: LoadCounts) -> LoadCounts:
        """Return what was asked for after `earlier`."""
        return LoadCounts(
            self.memory - earlier.memory, self.tmp - earlier.tmp, self.store - earlier.store
        )


class RetainedMemory:
    """What loaders keep, least recently used out first; several may share one.

    Parameters
    ----------
    bytes_max:
        How many bytes of stored objects may be held, decoded. What is larger by itself is served
        and not kept.

    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.evictions = 0
        self.lock = threading.Lock()
        self.flights: dict[_Key, _Flight] = {}
        self.codes: WeakValueDictionary[_Key, ClusterCodes] = WeakValueDictionary()
        """Also those that were let go while somebody still reads them: there is never another."""
        self._entries: OrderedDict[_Key, tuple[Any, int]] = OrderedDict()
        # By object: the pages kept of it, what reads of its pieces have cost since it was last
        # whole, and, of those that are about to be read whole, their bytes.
        self._pages: dict[tuple[str, str], set[Range]] = {}
        self.charged: dict[tuple[str, str], int] = {}
        self.promised: dict[tuple[str, str], int] = {}
        # Objects of which a read failed that was of more than was asked for.
        self.in_pieces: set[tuple[str, str]] = set()

    def find(self, key: _Key) -> Any:
        """Return what is kept, None if nothing is; the lock must be held."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def keep(self, key: _Key, value: Any, size: int) -> None:
        """Keep something, or another size of it; the lock must be held."""
        self._drop(key)
        if size > self.bytes_max:
            self.evictions += 1
            return
        self._entries[key] = (value, size)
        self.bytes += size
        if isinstance(key[2], tuple):
            self._pages.setdefault(key[:2], set()).add(key[2])
        while self.bytes > self.bytes_max:
            self._drop(next(iter(self._entries)))
            self.evictions += 1

    def keep_whole(self, key: _Key, value: Any, size: int) -> None:
        """Keep a whole object instead of its pages; the lock must be held."""
        for page in list(self._pages.get(key[:2], ())):
            self._drop((*key[:2], page))
        self.charged.pop(key[:2], None)
        self.keep(key, value, size)

    def pages_bytes(self, key: _Key) -> int:
        """Return how many bytes of an object's pages are kept; the lock must be held."""
        return sum(stop - start for start, stop in self._pages.get(key[:2], ()))

    def _drop(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry[1]
        if isinstance(key[2], tuple):
            pages = self._pages[key[:2]]
            pages.discard(key[2])
            if not pages:
                del self._pages[key[:2]]


class RetainedObjects:
    """A `Loader` over a store, with a least-recently-used bound in bytes.

    Parameters
    ----------
    store:
        Where the objects lie.
    bytes_max:
        How many bytes of stored objects may be held, decoded, if it shares no `memory`.
    whole_bytes_max:
        See `Loader`.
    memory:
        What it shares with others.
    tmp:
        Files that stand behind it. Then the store is an index's own, see `TmpStore`.
    namespace:
        Tells its store's keys from those of others that share memory or files.
    reads:
        Whose threads read; without it, threads of its own.

    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        bytes_max: int = 0,
        whole_bytes_max: int,
        memory: RetainedMemory | None = None,
        tmp: TmpFiles | None = None,
        namespace: str = "",
        reads: Reads | None = None,
    ) -> None:
        self.whole_bytes_max = whole_bytes_max
        self._tmp = None if tmp is None else tmp.over(store, namespace)
        self._store: ObjectStore = self._tmp or store
        self._memory = RetainedMemory(bytes_max) if memory is None else memory
        self._namespace = namespace
        self._reads = reads or Reads()
        self._ahead: tuple[str, Buffer | None] | None = None
        self._counts = [0, 0, 0]  # found in memory, unused, and past memory
        # Every query takes it twice: a function of Python would be most of that.
        self.noted: Callable[[], tuple[int, ...]] = (
            partial(tuple, self._counts) if self._tmp is None else self._noted
        )
        """Return what `counts` does as plain numbers."""

    @property
    def evictions(self) -> int:
        """How often something was let go."""
        return self._memory.evictions

    @property
    def retained_bytes(self) -> int:
        """How many bytes are held."""
        return self._memory.bytes

    def counts(self) -> LoadCounts:
        """Return what was asked for until now."""
        return LoadCounts(*self.noted())

    def _noted(self) -> tuple[int, ...]:
        hits = self._tmp.hits if self._tmp is not None else 0
        found, _, past = self._counts
        return found, hits, past - hits

    def load(self, ref: ObjectRef, part: str, decode: Callable[[Buffer], T]) -> T:
        """Get a whole object, check its length and checksum, decode a part of it, retain both.

        Raises
        ------
        ChecksumError
            If the object is gone, or is not what its snapshot says.

        """
        memory = self._memory
        with memory.lock:
            whole: _Object | None = memory.find(self._key(ref, None))
            self._counts[_FOUND] += whole is not None
        if whole is None:
            whole = self._obtain([Whole(ref)])[0][None]
        value: T | None = whole.parts.get(part)
        if value is None:
            value = whole.parts.setdefault(part, decode(whole.data))
        return value

    def load_pages(
        self,
        ref: ObjectRef,
        pages: Sequence[Range],
        decode: Callable[[int, Buffer], T],
    ) -> list[T]:
        """Get the byte ranges `pages`, decode the i-th as decode(i, bytes), retain each result.

        Raises
        ------
        ChecksumError
            If the object is gone or too short, or as `decode` raises.

        """
        found = self._obtain([Pages(ref, pages, decode)])[0]
        return [found[page] for page in pages]

    def cluster_codes(self, ref: ObjectRef, make: Callable[[], ClusterCodes]) -> ClusterCodes:
        """Return the arrays of an object's codes; see `Loader`."""
        key = self._key(ref, _CODES)
        memory = self._memory
        with memory.lock:
            codes: ClusterCodes | None = memory.find(key)
            if codes is not None:
                return codes
        made = make()
        with memory.lock:
            codes = memory.codes.setdefault(key, made)
            memory.keep(key, codes, codes.filled_bytes)
            return codes

    def keep_derived(self, ref: ObjectRef, name: str, size: int) -> bool:
        """Count what was made in memory as retained, if there is room; see `Loader`."""
        memory = self._memory
        with memory.lock:
            if memory.bytes + sum(memory.promised.values()) + size > memory.bytes_max:
                return False
            memory.keep(self._key(ref, name), name, size)
            return True

    def holds_whole(self, ref: ObjectRef) -> bool:
        """Tell whether an object is retained whole."""
        with self._memory.lock:
            return self._memory.find(self._key(ref, None)) is not None

    def takes_whole(self, ref: ObjectRef, ranges: Sequence[Range]) -> bool:
        """Tell whether an object is retained whole, or is now better loaded so; see `Loader`."""
        memory = self._memory
        with memory.lock:
            if memory.find(self._key(ref, None)) is not None:
                return True
            if self._key(ref, None)[:2] not in memory.charged:
                return False
            missing = sum(
                stop - start
                for start, stop in ranges
                if memory.find(self._key(ref, (start, stop))) is None
            )
            return missing > 0 and self._promise(ref, missing)

    def fills_all(self, ref: ObjectRef, missing_bytes: int) -> bool:
        """Tell whether an object's codes are now better filled in all; see `Loader`."""
        with self._memory.lock:
            return self._promise(ref, missing_bytes, fills=True)

    def _promise(self, ref: ObjectRef, missing: int, *, fills: bool = False) -> bool:
        """Tell whether an object is to be read whole, and count it as if it were there."""
        memory = self._memory
        key = self._key(ref, None)
        if key[:2] in memory.in_pieces:
            return False
        if key[:2] in memory.promised:
            return True
        with_it = memory.bytes + sum(memory.promised.values()) + ref.bytes
        whole = better_whole(
            charged=memory.charged.get(key[:2], 0),
            missing_bytes=missing,
            object_bytes=ref.bytes,
            retained=with_it - memory.pages_bytes(key),
            bytes_max=memory.bytes_max,
        )
        if whole and not fills:
            memory.promised[key[:2]] = ref.bytes
        return whole

    def read_ahead(self, key: str) -> None:
        """Read an object that is likely to be asked for next; if that fails, it is read then.

        It is not known yet what its bytes should be: `load` checks them, as it does any others.
        """
        with suppress(SquashError):
            self._ahead = key, self._store.get(key)

    def fetch(self, wants: Sequence[Want]) -> None:
        """Get what is wanted of several objects and is not retained, all in one round.

        Raises
        ------
        ChecksumError
            As `load` and `load_pages` do. What other objects gave is retained then.

        """
        self._obtain(wants)

    def misses(self, wants: Sequence[Want]) -> bool:
        """Tell whether something of what is wanted is not retained."""
        with self._memory.lock:
            return any(self._present(want, name) is None for want in wants for name in want.names())

    def _obtain(self, wants: Sequence[Want]) -> list[dict[Name, Any]]:
        """Return the pieces of each want by name: found, read here, or awaited."""
        obtained: list[dict[Name, Any]] = [{} for _ in wants]
        while True:
            mine, theirs = self._claim(wants, obtained)
            if mine:
                flights = [flight for _, flight in mine]
                try:
                    self._reads.run([partial(self._fly, flight) for flight in flights])
                finally:
                    for flight in flights:  # those that an interrupt kept on the ground
                        self._land(flight, {})
            for place, flight in mine:
                obtained[place].update(flight.values)
            for place, name, flight in theirs:
                flight.landed.wait()
                if name in flight.values:
                    obtained[place][name] = flight.values[name]
            if all(name in obtained[place] for place, name, _ in theirs):
                return obtained

    def _claim(
        self, wants: Sequence[Want], obtained: Sequence[dict[Name, Any]]
    ) -> tuple[list[tuple[int, _Flight]], list[tuple[int, Name, _Flight]]]:
        """Return what is to be read here, and what others, or earlier wants, are reading."""
        mine: list[tuple[int, _Flight]] = []
        theirs: list[tuple[int, Name, _Flight]] = []
        memory = self._memory
        with memory.lock:
            for place, want in enumerate(wants):
                missing: dict[Name, None] = {}
                for name in want.names():
                    if name in obtained[place]:
                        continue
                    value = self._present(want, name)
                    flight = memory.flights.get(self._key(want.ref, name))
                    if value is not None:
                        obtained[place][name] = value
                        self._counts[_FOUND] += _weight(want)
                    elif flight is not None:
                        theirs.append((place, name, flight))
                    else:
                        missing[name] = None
                if missing:
                    flight = _Flight(want, list(missing))
                    mine.append((place, flight))
                    for name in missing:
                        memory.flights[self._key(want.ref, name)] = flight
        return mine, theirs

    def _present(self, want: Want, name: Any) -> Any:
        if isinstance(want, ClusterParts):
            return want.codes if want.codes.is_filled(name) else None
        return self._memory.find(self._key(want.ref, name))

    def _fly(self, flight: _Flight) -> None:
        """Read what one flight is for, check it, and land it."""
        values: dict[Any, Any] = {}
        try:
            values = self._values(flight.want, flight.names)
        except DataError:
            if self._tmp:
                # It may be the way here that damaged it: the next one asks the store.
                self._tmp.forget(flight.want.ref.key, _ranges(flight.want, flight.names))
            raise
        finally:
            self._land(flight, values)

    def _values(self, want: Want, names: Sequence[Any]) -> dict[Any, Any]:
        if isinstance(want, Whole):
            return {None: _Object(self._checked(want.ref), {})}
        key = want.ref.key
        if isinstance(want, Pages):
            places = {page: i for i, page in enumerate(want.pages)}
            buffers = self._store.get_ranges(key, names)
            return {
                page: want.decode(places[page], data)
                for page, data in zip(names, buffers, strict=True)
            }
        codes, width = want.codes, len(want.codes)
        buffers = self._store.get_ranges(key, _ranges(want, names) or ())
        for i, name in enumerate(names):
            codes.fill(name, buffers[i * width : (i + 1) * width])
        return dict.fromkeys(names, codes)

    def _land(self, flight: _Flight, values: dict[Any, Any]) -> None:
        """Keep what was read, and let those go on who wait for it; a second time does nothing."""
        want, memory = flight.want, self._memory
        with memory.lock:
            if flight.landed.is_set():
                return
            for name in flight.names:
                memory.flights.pop(self._key(want.ref, name), None)
            self._charge(want, flight.names, failed=not values)
            for name, value in values.items():
                self._counts[_PAST] += _weight(want)
                if isinstance(want, ClusterParts):
                    want.codes.note_filled(name)
                elif isinstance(want, Pages):
                    start, stop = name
                    memory.keep(self._key(want.ref, name), value, stop - start)
                else:
                    memory.keep_whole(self._key(want.ref, name), value, want.ref.bytes)
            if values and isinstance(want, ClusterParts):
                memory.keep(self._key(want.ref, _CODES), want.codes, want.codes.filled_bytes)
            flight.values = values
            flight.landed.set()

    def _charge(self, want: Want, names: Sequence[Any], *, failed: bool) -> None:
        """Note what a read cost, as far as it may have been better to read the whole object."""
        memory, of = self._memory, self._key(want.ref, None)[:2]
        ranges = _ranges(want, names)
        promised = memory.promised.pop(of, 0) if ranges is None else 0
        if failed:
            # Damage is told to who reads what is damaged, and not to who need not read it.
            if promised or isinstance(want, ClusterParts):
                memory.in_pieces.add(of)
        elif ranges is not None:
            read = charge(sum(stop - start for start, stop in ranges))
            memory.charged[of] = memory.charged.get(of, 0) + read

    def _checked(self, ref: ObjectRef) -> Buffer:
        ahead, self._ahead = self._ahead, None
        data = ahead[1] if ahead and ahead[0] == ref.key else self._store.get(ref.key)
        if data is None:
            raise ChecksumError(
                f"{ref.key} is missing from the store, though a snapshot names it. Restore it "
                "from a copy, or read an older snapshot.",
                object_key=ref.key,
            )
        if len(data) != ref.bytes or zlib.crc32(data) != ref.crc32:
            raise ChecksumError(
                f"{ref.key} has another length or checksum than its snapshot says: the object is "
                "damaged. Run `squash verify` to see what else is, and restore it from a copy.",
                object_key=ref.key,
            )
        return data

    def _key(self, ref: ObjectRef, name: object) -> _Key:
        return (self._namespace, ref.key, name)


def _ranges(want: Want, names: Sequence[Any]) -> list[Range] | None:
    """Return what is read for some pieces; None for all of the object."""
    if isinstance(want, Whole):
        return None
    if isinstance(want, Pages):
        return list(names)
    return [one for name in names for one in want.codes.ranges(name)]


def _weight(want: Want) -> int:
    """Return how many ranges, or objects, a piece of it is."""
    return len(want.codes) if isinstance(want, ClusterParts) else 1
