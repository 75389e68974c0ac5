"""Stores made of another store, each adding one thing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from squash.container import Buffer
from squash.storage.protocol import (
    Getter,
    HasGetters,
    ObjectInfo,
    ObjectStore,
    check_folder_prefix,
    getter_of,
)
from squash.storage.ranges import plan_reads
from squash.storage.rounds import count_round

_KEYS_PER_REQUEST: Final = 1000


_NO_KINDS: Final[Mapping[str, int]] = MappingProxyType({})

# What is counted, by its place in `Noted`; from `_GET` on requests by their kind.
_ROUNDS: Final = 0
_BYTES_IN: Final = 1
_BYTES_OUT: Final = 2
_GET: Final = 3
_KINDS: Final = {"get": _GET, "range": 4, "put": 5, "delete": 6, "list": 7}

Noted: TypeAlias = tuple[int, ...]
"""All that was counted until some moment; `StoreCounts.of` tells what it is."""


class StoreCounts(NamedTuple):
    """What was asked of a store.

    `requests` and bytes are what S3 would be asked, whatever the store: near ranges are one
    request, long ones several. A round is a call that waited: one `get_ranges` is one round, and
    so is all that `squash.storage.Reads` asks for at once.
    """

    requests: int = 0
    rounds: int = 0
    bytes_in: int = 0
    """Read from the store."""
    bytes_out: int = 0
    """Written to it."""
    by_kind: Mapping[str, int] = _NO_KINDS
    """Requests of each kind: get, range, put, delete, list."""

    @classmethod
    def of(cls, noted: Noted) -> StoreCounts:
        """Tell what `CountingStore.noted` gave."""
        kinds = {kind: noted[place] for kind, place in _KINDS.items() if noted[place]}
        return cls(sum(noted[_GET:]), noted[_ROUNDS], noted[_BYTES_IN], noted[_BYTES_OUT], kinds)

    def __sub__(self, earlier: StoreCounts) -> StoreCounts:
        before = earlier.by_kind.get
        kinds = {
            kind: count - before(kind, 0)
            for kind, count in self.by_kind.items()
            if count != before(kind, 0)
        }
        return StoreCounts(
            self.requests - earlier.requests,
            self.rounds - earlier.rounds,
            self.bytes_in - earlier.bytes_in,
            self.bytes_out - earlier.bytes_out,
            kinds,
        )


class CountingStore(HasGetters):
    """Counts what is asked of a store; failed calls count too."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._counts = [0] * (_GET + len(_KINDS))
        # Every query takes it twice: a function of Python would be most of that.
        self.noted: Callable[[], Noted] = partial(tuple, self._counts)
        """Return what `counts` does as plain numbers.

        Of a call that another thread makes now, part may be in it.
        """

    def counts(self) -> StoreCounts:
        """Return what was asked until now."""
        with self._lock:
            return StoreCounts.of(self.noted())

    def get(self, key: str) -> Buffer | None:
        """Count and pass on."""
        return self._counting(partial(self._store.get, key))()

    def getter(self, key: str) -> Getter:
        """Return what counts and passes on."""
        return self._counting(getter_of(self._store, key))

    def _counting(self, pass_on: Getter) -> Getter:
        counts, lock = self._counts, self._lock

        def get() -> Buffer | None:
            data = None
            try:
                data = pass_on()
            finally:
                with lock:
                    counts[_GET] += 1
                    counts[_ROUNDS] += count_round(self)
                    if data is not None:
                        counts[_BYTES_IN] += len(data)
            return data

        return get

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Count and pass on."""
        plan = plan_reads(ranges)
        self._count(
            "range", requests=len(plan.reads), rounds=count_round(self) if plan.reads else 0
        )
        data = self._store.get_ranges(key, ranges)
        self._count("range", requests=0, rounds=0, bytes_in=plan.read_bytes)
        return data

    def put(self, key: str, data: Buffer) -> None:
        """Count and pass on."""
        self._count("put", bytes_out=len(data))
        self._store.put(key, data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Count and pass on."""
        self._count("put", bytes_out=len(data))
        return self._store.put_if_absent(key, data)

    def delete(self, keys: Iterable[str]) -> None:
        """Count and pass on."""
        listed = list(keys)
        requests = -(-len(listed) // _KEYS_PER_REQUEST)
        self._count("delete", requests=requests, rounds=requests)
        self._store.delete(listed)

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Count, what is compared as got, and pass on."""
        self._count("get", bytes_in=len(data))
        self._count("delete")
        self._store.delete_if_same(key, data)

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Count, a request for every thousand objects, and pass on."""
        return self._counted(self._store.list(prefix, start_after=start_after, limit=limit))

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Count, a request for every thousand names, and pass on."""
        for i, name in enumerate(self._store.list_folders(prefix)):
            if i % _KEYS_PER_REQUEST == 0:
                self._count("list")
            yield name

    def _counted(self, found: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        self._count("list", rounds=count_round(self))
        for i, info in enumerate(found):
            if i and i % _KEYS_PER_REQUEST == 0:
                self._count("list")
            yield info

    def _count(
        self,
        kind: str,
        *,
        requests: int = 1,
        rounds: int = 1,
        bytes_in: int = 0,
        bytes_out: int = 0,
    ) -> None:
        with self._lock:
            self._counts[_KINDS[kind]] += requests
            self._counts[_ROUNDS] += rounds
            self._counts[_BYTES_IN] += bytes_in
            self._counts[_BYTES_OUT] += bytes_out


class PrefixStore(HasGetters):
    """A store's keys below a prefix, without it.

    Parameters
    ----------
    store:
        The whole store.
    prefix:
        Empty, or ending with "/".

    """

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        check_folder_prefix(prefix)
        self._store = store
        self._prefix = prefix

    def get(self, key: str) -> Buffer | None:
        """Pass on."""
        return self._store.get(self._prefix + key)

    def getter(self, key: str) -> Getter:
        """Pass on."""
        return getter_of(self._store, self._prefix + key)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Pass on."""
        return self._store.get_ranges(self._prefix + key, ranges)

    def put(self, key: str, data: Buffer) -> None:
        """Pass on."""
        self._store.put(self._prefix + key, data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Pass on."""
        return self._store.put_if_absent(self._prefix + key, data)

    def delete(self, keys: Iterable[str]) -> None:
        """Pass on."""
        self._store.delete(self._prefix + key for key in keys)

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Pass on."""
        self._store.delete_if_same(self._prefix + key, data)

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Pass on."""
        after = self._prefix + start_after if start_after else ""
        for info in self._store.list(self._prefix + prefix, start_after=after, limit=limit):
            yield ObjectInfo(info.key[len(self._prefix) :], info.bytes, info.modified_ms)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Pass on."""
        return self._store.list_folders(self._prefix + prefix)
