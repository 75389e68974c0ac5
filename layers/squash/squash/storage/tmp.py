"""Files on the local disk behind a remote store: what was fetched once need not be fetched again.

Only what never changes belongs here. The files are those of one process at a time, which holds a
lock on their folder; a process that finds a folder nobody holds takes over what is in it, since
every file tells by a checksum over its name and content whether it is what it was: where a runtime
was ended by force, Lambda starts the next one in the same environment, with its /tmp. A file that
is damaged, half written or gone is fetched again; a full disk means fewer files, never an error.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from typing import Final

from squash.container import Buffer
from squash.storage.protocol import ObjectInfo, ObjectStore

_FOLDER: Final = "squash-retained-{}"
_LOCK: Final = "lock"
_PART: Final = ".part"
_FOLDERS_MAX: Final = 64
_CHECKSUM_BYTES: Final = 4
_NAME_BYTES: Final = 16
# Of the free space, so that others find some too.
_FREE_SHARE: Final = 0.75
_IMMUTABLE: Final = ("segments/", "trained/")


class TmpFiles:
    """Runs of bytes by name in files of a private folder, least recently used out first.

    Parameters
    ----------
    parent:
        The folder in which a folder is made, or taken over.
    bytes_max:
        How many bytes of files there may be; None for most of what is free.

    """

    def __init__(self, parent: str, *, bytes_max: int | None = None) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
        self._writing = 0
        self._numbers = count()
        self._held = -1
        self._folder = self._take_folder(parent)
        if self._folder:
            self._adopt()
        self._bytes_max = self._most(bytes_max) if self._folder else 0
        self._make_room()

    @property
    def bytes(self) -> int:
        """How many bytes of files there are."""
        return self._bytes

    @property
    def folder(self) -> str:
        """The private folder; empty if none could be had, and nothing is kept then."""
        return self._folder

    def over(self, store: ObjectStore, namespace: str = "") -> TmpStore:
        """Return a store that reads through these files; see `TmpStore`."""
        return TmpStore(store, self, namespace)

    def read(self, name: str) -> Buffer | None:
        """Return what was written under a name; None if it is not there whole."""
        with self._lock:
            if name not in self._files:
                return None
            self._files.move_to_end(name)
        try:
            with open(self._path(name), "rb", buffering=0) as file:  # noqa: PTH123 - a hot path
                data = file.readall()
        except OSError:
            data = b""
        content = memoryview(data)[:-_CHECKSUM_BYTES]
        if _checksum(name, content) == data[-_CHECKSUM_BYTES:]:
            return content
        self.drop(name)
        return None

    def write(self, name: str, data: Buffer) -> None:
        """Keep bytes under a name, if there is room for them beside what is being written."""
        size = len(data) + _CHECKSUM_BYTES
        with self._lock:
            if name in self._files or self._writing + size > self._bytes_max:
                return
            self._writing += size
            self._make_room()
        reserved = size
        part = self._path(f"{name}.{next(self._numbers)}{_PART}")
        try:
            with open(part, "xb", opener=_private) as file:
                file.write(data)
                file.write(_checksum(name, data))
            with self._lock:  # so that names and files never differ
                os.replace(part, self._path(name))  # noqa: PTH105
                self._bytes += size - self._files.pop(name, 0)
                self._files[name] = size
                self._writing -= reserved
                reserved = 0
        except OSError:
            # The disk is full, or somebody tidied the folder away: served without it.
            with suppress(OSError):
                os.unlink(part)  # noqa: PTH108
        finally:
            if reserved:
                with self._lock:
                    self._writing -= reserved

    def drop(self, name: str) -> None:
        """Remove what was written under a name; nothing is fine."""
        with self._lock:
            self._remove(name)

    def close(self) -> None:
        """Let others take the folder over; what is in it stays."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
            self._bytes_max = 0

    def _make_room(self) -> None:
        """Remove files until what is being written fits beside them; the lock must be held."""
        while self._files and self._bytes + self._writing > self._bytes_max:
            self._remove(next(iter(self._files)))

    def _remove(self, name: str) -> None:
        self._bytes -= self._files.pop(name, 0)
        with suppress(OSError):
            os.unlink(self._path(name))  # noqa: PTH108

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _take_folder(self, parent: str) -> str:
        """Return a folder that nobody else holds or could have put files into."""
        for number in range(_FOLDERS_MAX):
            folder = f"{parent}/{_FOLDER.format(number)}"
            try:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700)  # noqa: PTH102
                found = os.lstat(folder)
                if (
                    not stat.S_ISDIR(found.st_mode)
                    or found.st_uid != os.geteuid()
                    or found.st_mode & 0o077
                ):
                    continue
                held = os.open(f"{folder}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                continue
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(held)
                continue
            self._held = held
            return folder
        return ""

    def _adopt(self) -> None:
        """Take over what another process left, oldest first, and remove what it left half done."""
        found: list[tuple[int, str, int]] = []
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_PART):
                    with suppress(OSError):
                        os.unlink(entry.path)  # noqa: PTH108
                elif entry.name != _LOCK and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, entry.name, status.st_size))
        for _, name, size in sorted(found):
            self._files[name] = size
            self._bytes += size

    def _most(self, bytes_max: int | None) -> int:
        if bytes_max is not None:
            return bytes_max
        try:
            status = os.statvfs(self._folder)
        except OSError:
            return 0
        return int((status.f_bavail * status.f_frsize + self._bytes) * _FREE_SHARE)


class TmpStore:
    """An `ObjectStore` whose immutable objects are read through files on the local disk.

    Parameters
    ----------
    store:
        An index's own: below its prefix lie `segments/` and `trained/`, and they alone are kept.
    files:
        Where.
    namespace:
        Tells the store's keys from those of others that use the same files.

    """

    def __init__(self, store: ObjectStore, files: TmpFiles, namespace: str = "") -> None:
        self._store = store
        self._files = files
        self._namespace = namespace
        self._lock = threading.Lock()
        self.hits = 0
        """Objects and ranges that came from files."""

    def get(self, key: str) -> Buffer | None:
        """Return an object's bytes, or None."""
        if not key.startswith(_IMMUTABLE):
            return self._store.get(key)
        name = self._name(key, None)
        data = self._files.read(name)
        if data is not None:
            self._hit(1)
            return data
        data = self._store.get(key)
        if data is not None:
            self._files.write(name, data)
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes of each range; those that no file holds are asked for together."""
        if not key.startswith(_IMMUTABLE):
            return self._store.get_ranges(key, ranges)
        names = [self._name(key, one) for one in ranges]
        found = [self._files.read(name) for name in names]
        missing = [i for i, data in enumerate(found) if data is None]
        self._hit(len(found) - len(missing))
        if missing:
            fetched = self._store.get_ranges(key, [ranges[i] for i in missing])
            for i, data in zip(missing, fetched, strict=True):
                self._files.write(names[i], data)
                found[i] = data
        return [data for data in found if data is not None]

    def put(self, key: str, data: Buffer) -> None:
        """Pass on."""
        self._store.put(key, data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Pass on."""
        return self._store.put_if_absent(key, data)

    def delete(self, keys: Iterable[str]) -> None:
        """Pass on."""
        self._store.delete(keys)

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Pass on."""
        self._store.delete_if_same(key, data)

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Pass on."""
        return self._store.list(prefix, start_after=start_after, limit=limit)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Pass on."""
        return self._store.list_folders(prefix)

    def forget(self, key: str, ranges: Sequence[tuple[int, int]] | None) -> None:
        """Remove what files hold of an object: all of it, or ranges; for who found it damaged."""
        for part in [None] if ranges is None else ranges:
            self._files.drop(self._name(key, part))

    def _hit(self, hits: int) -> None:
        with self._lock:
            self.hits += hits

    def _name(self, key: str, part: tuple[int, int] | None) -> str:
        text = f"{self._namespace}\0{key}\0{part}"
        return blake2b(text.encode(), digest_size=_NAME_BYTES, usedforsecurity=False).hexdigest()


def _checksum(name: str, data: Buffer) -> bytes:
    return zlib.crc32(data, zlib.crc32(name.encode())).to_bytes(_CHECKSUM_BYTES, "little")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
