"""Objects in a dict: for tests, and for indexes that need not outlive their process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from squash.clock import Clock, SystemClock
from squash.container import Buffer
from squash.storage.protocol import (
    ObjectInfo,
    check_folder_prefix,
    check_key,
    check_prefix,
    missing,
    too_short,
)
from squash.storage.ranges import check_ranges


class MemoryStore:
    """An `ObjectStore` in memory.

    Parameters
    ----------
    clock:
        Tells when an object was stored.

    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Buffer | None:
        """Return an object's bytes, or None."""
        check_key(key)
        found = self._objects.get(key)
        return None if found is None else found[0]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes of each range, as views."""
        check_ranges(ranges)
        data = self.get(key)
        if data is None:
            raise missing(key)
        longest = max((stop for _, stop in ranges), default=0)
        if longest > len(data):
            raise too_short(key, stop=longest, length=len(data))
        view = memoryview(data)
        return [view[start:stop] for start, stop in ranges]

    def put(self, key: str, data: Buffer) -> None:
        """Store an object."""
        check_key(key)
        with self._lock:
            self._objects[key] = (bytes(data), self._clock.now_ms())

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Store an object unless there is one."""
        check_key(key)
        with self._lock:
            if key in self._objects:
                return False
            self._objects[key] = (bytes(data), self._clock.now_ms())
            return True

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        for key in keys:
            check_key(key)
            with self._lock:
                self._objects.pop(key, None)

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Remove an object that has these bytes."""
        check_key(key)
        with self._lock:
            found = self._objects.get(key)
            if found is not None and found[0] == bytes(data):
                del self._objects[key]

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix, as they are when the listing begins."""
        check_prefix(prefix)
        with self._lock:
            found = [
                ObjectInfo(key, len(data), modified_ms)
                for key, (data, modified_ms) in self._objects.items()
                if key.startswith(prefix) and key > start_after
            ]
        # Code points sort as their UTF-8 bytes do.
        return islice(sorted(found, key=lambda info: info.key), limit)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the names one level below a prefix."""
        check_folder_prefix(prefix)
        rests = (info.key[len(prefix) :] for info in self.list(prefix))
        return iter(sorted({rest.split("/", 1)[0] for rest in rests if "/" in rest}))
