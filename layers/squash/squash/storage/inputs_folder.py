"""Files to build from on a local disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from squash.container import Buffer
from squash.errors import InvalidArgumentError, PermissionDeniedError, UnavailableError
from squash.storage.inputs import InputInfo, changed, is_data, no_files, no_input, vanished

_ABSENT: Final = (FileNotFoundError, NotADirectoryError)


class FolderInputs:
    """Files as ``file:///path``; a file is another when its size, time or inode is.

    Symbolic links are followed, but not those to folders inside of a folder.
    """

    def files(self, url: str) -> Iterator[InputInfo]:
        """Yield what `url` names; see `InputStore`."""
        path = _path(url)
        with _named(url):
            if not url.endswith("/"):
                try:
                    status = path.stat()
                except _ABSENT:
                    raise no_files(url) from None
                if stat.S_ISDIR(status.st_mode):
                    raise InvalidArgumentError(
                        f'{url} is a folder: write it with a "/" at its end, and all files below '
                        "it are taken"
                    )
                yield InputInfo(url, _etag(status), status.st_size)
                return
            names = _names(path)
        for name in names:
            one = url + quote(os.fsencode(name))  # which need not be UTF-8
            with _named(one):
                status = (path / name).stat()
            yield InputInfo(one, _etag(status), status.st_size)
        if not names:
            raise no_files(url)

    def read(self, info: InputInfo, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return parts of a file; see `InputStore`."""
        with _named(info.url):
            try:
                file = os.open(_path(info.url), os.O_RDONLY | os.O_CLOEXEC)
            except _ABSENT:
                raise vanished(info.url) from None
            try:
                found: list[Buffer] = [_read(file, start, stop) for start, stop in ranges]
                # After reading: what was written meanwhile shows as well.
                if _etag(os.fstat(file)) != info.etag:
                    raise changed(info.url)
                if any(
                    len(data) < stop - start
                    for data, (start, stop) in zip(found, ranges, strict=True)
                ):
                    raise changed(info.url)
            finally:
                os.close(file)
        return found


def _names(folder: Path) -> list[str]:
    """Return the files below a folder, by the bytes of their names from there."""
    names = []
    for at, _, files in os.walk(folder, onerror=_raise):
        above = Path(at).relative_to(folder)
        names += [(above / name).as_posix() for name in files]
    return sorted(filter(is_data, names), key=os.fsencode)


def _raise(error: OSError) -> None:
    if not isinstance(error, _ABSENT):
        raise error


def _read(file: int, start: int, stop: int) -> bytes:
    parts = []
    while start < stop and (data := os.pread(file, stop - start, start)):
        parts.append(data)
        start += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _path(url: str) -> Path:
    scheme, _, rest = url.partition("://")
    if scheme != "file" or urlsplit(url).netloc not in {"", "localhost"}:
        raise no_input(url)
    path = os.fsdecode(unquote_to_bytes(rest.removeprefix("localhost")))
    if not path.startswith("/"):
        raise no_input(url)
    return Path(path)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Tell failures of the disk in our words."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDeniedError(
            f"{url} may not be read ({error.strerror}): allow it to who runs the build",
            object_key=url,
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"{url} cannot be read ({error}): look at the disk, and resume the build",
            object_key=url,
        ) from error
