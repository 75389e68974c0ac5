"""Retained data: what was loaded, kept in memory up to a number of bytes.

Objects are immutable and named by what they are, so nothing kept here can be stale. An entry is
installed only when it is whole and checked.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from squash.container import Buffer
from squash.errors import ChecksumError
from squash.model import ObjectRef
from squash.storage import ObjectStore

T = TypeVar("T")


@dataclass(slots=True)
class _Whole:
    """A whole object and what was decoded from it: views of the same bytes, evicted together."""

    data: Buffer
    parts: dict[str, Any]


class RetainedObjects:
    """A `Loader` over a store, with a least-recently-used bound in bytes.

    Parameters
    ----------
    store:
        Where the objects lie.
    bytes_max:
        How many bytes of stored objects may be held, decoded.
    whole_bytes_max:
        See `Loader`.

    """

    def __init__(self, store: ObjectStore, *, bytes_max: int, whole_bytes_max: int) -> None:
        self.whole_bytes_max = whole_bytes_max
        self.evictions = 0
        self._store = store
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[tuple[str, object], tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, ref: ObjectRef, part: str, decode: Callable[[Buffer], T]) -> T:
        """Get a whole object, check its length and checksum, decode a part of it, retain both.

        Raises
        ------
        ChecksumError
            If the object is gone, or is not what its snapshot says.

        """
        whole: _Whole | None = self._find((ref.key, None))
        if whole is None:
            whole = _Whole(self._checked(ref), {})
            self._install((ref.key, None), whole, ref.bytes)
        value: T | None = whole.parts.get(part)
        if value is None:
            value = decode(whole.data)
            whole.parts[part] = value
        return value

    def load_pages(
        self,
        ref: ObjectRef,
        pages: Sequence[tuple[int, int]],
        decode: Callable[[int, Buffer], T],
    ) -> list[T]:
        """Get the byte ranges `pages`, decode the i-th as decode(i, bytes), retain each result.

        Raises
        ------
        ChecksumError
            If the object is gone or too short, or as `decode` raises.

        """
        found: list[T | None] = [self._find((ref.key, page)) for page in pages]
        missing = [i for i, value in enumerate(found) if value is None]
        if missing:
            buffers = self._store.get_ranges(ref.key, [pages[i] for i in missing])
            for i, data in zip(missing, buffers, strict=True):
                value = decode(i, data)
                found[i] = value
                self._install((ref.key, pages[i]), value, len(data))
        return [value for value in found if value is not None]

    def _checked(self, ref: ObjectRef) -> Buffer:
        data = self._store.get(ref.key)
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

    def _find(self, key: tuple[str, object]) -> Any:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def _install(self, key: tuple[str, object], value: Any, size: int) -> None:
        with self._lock:
            if key in self._entries:
                return
            if size > self._bytes_max:
                self.evictions += 1
                return
            self._entries[key] = (value, size)
            self._bytes += size
            while self._bytes > self._bytes_max:
                _, (_, freed) = self._entries.popitem(last=False)
                self._bytes -= freed
                self.evictions += 1
