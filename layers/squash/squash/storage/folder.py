"""Objects as files below a folder, atomic and durable."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Final

from squash.container import Buffer
from squash.errors import (
    InvalidArgumentError,
    PermissionDeniedError,
    SquashError,
    UnavailableError,
)
from squash.limits import MIB
from squash.storage.protocol import (
    Getter,
    HasGetters,
    ObjectInfo,
    check_folder_prefix,
    check_key,
    check_prefix,
    missing,
    too_short,
)
from squash.storage.ranges import check_ranges

# Keys have no part that begins with a dot, so no object can be mistaken for a temporary file.
_TEMPORARY: Final = ".squash-tmp"
# Nobody writes one object for so long: what is older was left by who died.
_LEFT_AFTER_S: Final = 24 * 3_600
_MMAP_BYTES_MIN: Final = MIB
_HUGE_PAGES: Final[int | None] = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux has them
_ATTEMPTS_MAX: Final = 100
_ABSENT: Final = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
# Of a full disk or quota, or a file that may not be so long: then no file gets its name.
_FULL_NUMBERS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ABSENT_NUMBERS: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
# Of a folder that is not removed: one with something in it, or a link to one that is elsewhere.
_KEPT_NUMBERS: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


class FolderStore(HasGetters):
    """An `ObjectStore` below a folder, which is made with the first object.

    An object is written to a temporary file, brought to the disk, and then given its name, so
    that a reader sees all of it or nothing, also after a power failure. Among processes exactly
    one `put_if_absent` of a key wins, since a file system makes a name only once.

    Parameters
    ----------
    path:
        The folder.

    Raises
    ------
    InvalidArgumentError
        If `path` is something else than a folder, begins with the `~` of nobody, or is longer
        than the file system takes.
    PermissionDeniedError, UnavailableError
        If the system does not let it be looked for.

    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._root = Path(path).expanduser().absolute()
        except RuntimeError as error:
            raise InvalidArgumentError(
                f"{os.fspath(path)}: the home folder that ~ stands for is not known; write the "
                "whole path"
            ) from error
        self._swept = False
        self._before_key = os.path.join(self._root, "")  # noqa: PTH118 - keeps the last "/"
        with _named(str(self._root)):
            above = next(one for one in (self._root, *self._root.parents) if one.exists())
            if not above.is_dir():
                raise InvalidArgumentError(
                    f"{above} is a file, so no store can be in {self._root}: name a folder"
                )

    def get(self, key: str) -> Buffer | None:
        """Return an object's bytes; long ones are mapped, not read."""
        check_key(key)
        file = self._open(key)
        if file is None:
            return None
        try:
            status = os.fstat(file)
            if stat.S_ISDIR(status.st_mode):
                return None
            if status.st_size > _MMAP_BYTES_MIN:
                return memoryview(_mapped(file))
            return _read(file, 0, status.st_size)
        except OSError as error:
            raise _translated(key, error) from error
        finally:
            os.close(file)

    def getter(self, key: str) -> Getter:
        """Return what gets an object that is mostly not there.

        Asking for the next commit is what every query costs: an error number is had at half of
        what an exception takes.
        """
        check_key(key)
        access, path = _access(), os.fsencode(self._before_key + key)
        if access is None:
            return partial(self.get, key)

        def get() -> Buffer | None:
            if access(path, os.F_OK) and ctypes.get_errno() in _ABSENT_NUMBERS:
                return None
            return self.get(key)

        return get

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes of each range."""
        check_ranges(ranges)
        file = self._open(key)
        if file is None:
            raise missing(key)
        try:
            status = os.fstat(file)
            if stat.S_ISDIR(status.st_mode):
                raise missing(key)
            longest = max((stop for _, stop in ranges), default=0)
            if longest > status.st_size:
                raise too_short(key, stop=longest, length=status.st_size)
            return [_read(file, start, stop) for start, stop in ranges]
        except OSError as error:
            raise _translated(key, error) from error
        finally:
            os.close(file)

    def put(self, key: str, data: Buffer) -> None:
        """Store an object."""
        path = self._path(key)
        with _named(key), self._temporary(data) as temporary:
            _until_parent_stays(path, lambda: temporary.replace(path))

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Store an object unless there is one."""
        path = self._path(key)
        with _named(key):
            if path.is_file():
                return False
            with self._temporary(data) as temporary:
                try:
                    _until_parent_stays(path, lambda: os.link(temporary, path))
                except FileExistsError:
                    if path.is_dir():
                        raise
                    return False
                return True

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, and folders that become empty."""
        folders: dict[Path, None] = {}
        for key in keys:
            path = self._path(key)
            with _named(key), suppress(*_ABSENT):
                path.unlink()
                folders[path.parent] = None
        for folder in folders:
            with _named(str(folder)):
                self._tidy(folder)

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Remove an object that has these bytes.

        Only who holds the file does so, and to another file nobody can give the name before: so
        what was compared is what is removed. Where a file system has no locks, it mostly is.
        """
        path = self._path(key)
        with _named(key):
            held = _opened_to_hold(path)
            if held is None:
                return
            try:
                with suppress(OSError):
                    fcntl.flock(held, fcntl.LOCK_EX)
                status = os.fstat(held)
                with suppress(*_ABSENT):
                    if os.path.samestat(status, path.stat()) and (
                        _read(held, 0, status.st_size) == bytes(data)
                    ):
                        path.unlink()
                        self._tidy(path.parent)
            finally:
                os.close(held)

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix."""
        check_prefix(prefix)
        above = prefix.rpartition("/")[0]
        folder = self._root / above if above else self._root
        below = f"{above}/" if above else ""
        with _named(prefix):
            yield from islice(_walk(folder, below, prefix, start_after), limit)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the names one level below a prefix."""
        check_folder_prefix(prefix)
        with _named(prefix):
            names = sorted(
                name[:-1] for name, is_folder in _children(self._root / prefix) if is_folder
            )
            for name in names:
                if any(self.list(f"{prefix}{name}/", limit=1)):
                    yield name

    def _open(self, key: str) -> int | None:
        """Open an object's file, None if there is none; what is opened may be a folder."""
        check_key(key)
        try:
            return os.open(self._before_key + key, os.O_RDONLY)
        except _ABSENT:
            return None
        except OSError as error:
            raise _translated(key, error) from error

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    @contextmanager
    def _temporary(self, data: Buffer) -> Iterator[Path]:
        folder = self._root / _TEMPORARY
        _make_folder(folder)
        path = folder / secrets.token_hex(16)
        try:
            with path.open("xb", buffering=0) as file:
                view = memoryview(data).cast("B")
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
                if not self._swept:
                    self._swept = True
                    _sweep(folder, before_s=os.fstat(file.fileno()).st_mtime - _LEFT_AFTER_S)
            yield path
        finally:
            # What is stored is stored, whatever becomes of this: who sweeps removes it a day later.
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _tidy(self, folder: Path) -> None:
        """Bring removals to the disk, and remove folders that hold nothing any more."""
        while folder != self._root:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass  # Somebody else removed it: its parent may be empty now.
            except OSError as error:
                if error.errno not in _KEPT_NUMBERS:
                    raise
                break
            folder = folder.parent
        with suppress(FileNotFoundError):
            _sync(folder)


@lru_cache(maxsize=1)
def _access() -> Callable[[bytes, int], int] | None:
    """Return the system's own `access`: 0, or else an error number is kept; None without one.

    `os.access` does not tell a file that is not there from one that nobody may look for.
    """
    try:
        function = ctypes.CDLL(None, use_errno=True).access
    except (OSError, TypeError, AttributeError):
        return None
    function.argtypes, function.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_int
    found: Callable[[bytes, int], int] = function
    return found


def _sweep(folder: Path, *, before_s: float) -> None:
    """Remove the temporary files of who was killed long ago, by the clock of the file system."""
    with suppress(OSError), os.scandir(folder) as entries:  # they do no harm but take room
        for entry in entries:
            with suppress(OSError):
                if entry.stat().st_mtime < before_s:
                    os.unlink(entry)  # noqa: PTH108 - as scandir gives it


def _opened_to_hold(path: Path) -> int | None:
    """Open a file to lock it, None if there is none."""
    try:
        try:
            # Network file systems lock for one alone only what may be written.
            return os.open(path, os.O_RDWR)
        except PermissionError:
            return os.open(path, os.O_RDONLY)
    except _ABSENT:
        return None


def _mapped(file: int) -> mmap.mmap:
    """Map a file, in pages of 2 MiB where the system has such pages for files.

    A search reads vectors and rows that lie far apart, each on a page that the processor has to
    find first. Who gets an object reads all of it to check it, so that large pages bring nothing
    into memory that was not wanted.
    """
    mapped = mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    if _HUGE_PAGES is not None:
        with suppress(OSError):  # a system built without them: its pages are small ones
            mapped.madvise(_HUGE_PAGES)
    return mapped


def _read(file: int, start: int, stop: int) -> bytes:
    parts = []
    while start < stop:
        part = os.pread(file, stop - start, start)
        if not part:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _children(folder: Path) -> list[tuple[str, bool]]:
    """Return (name, is a folder) in key order: a folder's name counts with its "/"."""
    try:
        with os.scandir(folder) as entries:
            found = [
                (entry.name + "/", True) if entry.is_dir() else (entry.name, False)
                for entry in entries
                if not entry.name.startswith(".")
            ]
    except _ABSENT:
        return []
    return sorted(found)


def _walk(folder: Path, below: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
    for name, is_folder in _children(folder):
        key = below + name
        if is_folder:
            related = key.startswith(prefix) or prefix.startswith(key)
            if related and (key > start_after or start_after.startswith(key)):
                yield from _walk(folder / name[:-1], key, prefix, start_after)
        elif key.startswith(prefix) and key > start_after:
            with suppress(FileNotFoundError):
                status = (folder / name).stat()
                yield ObjectInfo(key, status.st_size, status.st_mtime_ns // 1_000_000)


def _until_parent_stays(path: Path, name_it: Callable[[], object]) -> None:
    """Give a file its name, making its folder anew if a deleter tidies it away meanwhile."""
    for attempt in range(_ATTEMPTS_MAX):
        try:
            _make_folder(path.parent)
            name_it()
        except FileNotFoundError:
            if attempt + 1 == _ATTEMPTS_MAX:
                raise
        else:
            try:
                _sync(path.parent)
            except FileNotFoundError:
                pass  # It was deleted already, folder and all.
            except OSError as error:
                raise UnavailableError(
                    f"{path}: the file is there, and the system does not say that its name is on "
                    f"the disk ({error.strerror or error}). Check the disk, then repeat."
                ) from error
            return


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, and bring the name of each to the disk."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    with suppress(FileNotFoundError):
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Turn the operating system's errors into ours, with the object's key."""
    try:
        yield
    except OSError as error:
        raise _translated(key, error) from error


def _translated(key: str, error: OSError) -> SquashError:
    """Return our error for one of the operating system's."""
    if isinstance(error, PermissionError):
        return PermissionDeniedError(
            f"{error.filename or key}: the operating system does not allow this. Change the "
            "folder's permissions, or run as a user who may.",
            object_key=key,
        )
    if error.errno == errno.EROFS:
        return PermissionDeniedError(
            f"{error.filename or key}: the file system is mounted read-only. Mount it so that it "
            "can be written, or copy the store to another.",
            object_key=key,
        )
    if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
        return InvalidArgumentError(
            f"object {key} cannot lie beside another of which it is a folder, or which is a "
            "folder of it: choose another key",
            object_key=key,
        )
    if error.errno == errno.ENAMETOOLONG:
        return InvalidArgumentError(
            f"{key[:64]!r}… has a part too long for this file system, or is so itself: choose "
            "shorter names",
            object_key=key,
        )
    return UnavailableError(
        f"object {key}: the file system answered {error.strerror or error}. Check the disk "
        "and its free space, then repeat.",
        object_key=key,
        unchanged=error.errno in _FULL_NUMBERS,
    )
