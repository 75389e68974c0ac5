"""Files to build from, wherever they are: listed, and read by ranges, never written."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote

from squash.container import Buffer
from squash.errors import ConflictError, InvalidArgumentError, NotFoundError
from squash.storage.wrappers import StoreCounts
from squash.values import dataclass

_KINDS: Final = (
    'use "s3://bucket/key", "s3://bucket/prefix/" or "file:///path": what ends with "/" is all '
    "files below it"
)
_FILES_PER_REQUEST: Final = 1000
_NOT_DATA: Final = (".", "_")


@dataclass(frozen=True, slots=True)
class InputInfo:
    """A file as it is now."""

    url: str
    etag: str
    bytes: int


class InputStore(Protocol):
    """Where input files are. Safe to use from many threads.

    Every method may raise `UnavailableError`, `ThrottledError`, `PermissionDeniedError`,
    `NotFoundError` and `InvalidArgumentError`, with the file's URL in the message.
    """

    def files(self, url: str) -> Iterator[InputInfo]:
        """Yield the file at `url`, or, where it ends with "/", all files below it, by their names.

        Of those below, what has a part of its name that begins with "." or "_" is passed over:
        other programs mark so what is no data, as ``_SUCCESS``.

        Raises
        ------
        NotFoundError
            If there is none.

        """
        ...

    def read(self, info: InputInfo, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes [start, stop) of each range, of this very file.

        Raises
        ------
        ConflictError
            If it is another by now: its ETag differs.
        NotFoundError
            If it is there no more.

        """
        ...


class CountingInputs:
    """Counts what is asked of an `InputStore`, in the words of `CountingStore`.

    A file by its own name is a "get", a listing a "list" for every thousand files, and each range
    a "range", as they are with S3.
    """

    def __init__(self, inputs: InputStore) -> None:
        self._inputs = inputs
        self._lock = threading.Lock()
        self._kinds: Counter[str] = Counter()
        self._bytes_in = 0

    def counts(self) -> StoreCounts:
        """Return what was asked until now."""
        with self._lock:
            total = self._kinds.total()
            return StoreCounts(total, total, self._bytes_in, 0, dict(self._kinds))

    def files(self, url: str) -> Iterator[InputInfo]:
        """Count and pass on."""
        kind = "list" if url.endswith("/") else "get"
        self._count(kind)
        for i, info in enumerate(self._inputs.files(url)):
            if i and i % _FILES_PER_REQUEST == 0:
                self._count(kind)
            yield info

    def read(self, info: InputInfo, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Count and pass on."""
        self._count("range", len(ranges))
        found = self._inputs.read(info, ranges)
        with self._lock:
            self._bytes_in += sum(map(len, found))
        return found

    def _count(self, kind: str, requests: int = 1) -> None:
        with self._lock:
            self._kinds[kind] += requests


def open_inputs(
    url: str, *, endpoint_url: str | None = None, region: str | None = None
) -> InputStore:
    """Open the store that a file or folder to build from is in; nothing is read yet.

    Parameters
    ----------
    url:
        ``s3://bucket/…``, ``file:///…``, or ``memory://name/…``: an object of the store of that
        name, for tests.
    endpoint_url, region:
        For ``s3://``: another S3 than AWS's, and the region that the bucket must be in.

    Raises
    ------
    InvalidArgumentError
        If the URL is of no such kind.

    """
    scheme, separator, rest = url.partition("://")
    match scheme if separator and "\0" not in url else "":
        case "file":
            from squash.storage.inputs_folder import FolderInputs  # noqa: PLC0415

            return FolderInputs()
        case "memory":
            from squash.storage.inputs_memory import MemoryInputs  # noqa: PLC0415

            return MemoryInputs(rest.partition("/")[0])
        case "s3":
            bucket = rest.partition("/")[0]
            if not bucket:
                raise no_input(url)
            # Loading botocore takes a fifth of a second, which who stays local need not spend.
            from squash.storage.inputs_s3 import S3Inputs  # noqa: PLC0415

            return S3Inputs(bucket, endpoint_url=endpoint_url, region=region)
        case _:
            raise no_input(url)


def touches_store(url: str, location: str) -> bool:
    """Tell if a URL names what is in a store, or a folder whose files are partly a store's.

    Parameters
    ----------
    url:
        Of a file or folder to build from.
    location:
        The store's, as `open_store` takes it.

    """
    if "\0" in url or "://" not in url:
        return False  # nor is it anywhere else
    named, store = _steps(url), _steps(location)
    if named[: len(store)] == store:
        return True
    inside = "/".join(store[len(named) :])
    return url.endswith("/") and store[: len(named)] == named and is_data(inside)


def is_data(name: str) -> bool:
    """Tell if a file below a folder is data, by its name from there: see `InputStore.files`."""
    return bool(name) and not any(part.startswith(_NOT_DATA) for part in name.split("/"))


def _steps(location: str) -> tuple[str, ...]:
    """Return a location's scheme and the names on the way to it, of a folder without its links."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        return ("file", *Path(location).expanduser().resolve().parts)
    if scheme == "file":
        return ("file", *Path(unquote(rest.removeprefix("localhost"))).resolve().parts)
    return (scheme, *rest.rstrip("/").split("/"))


def no_input(url: str) -> InvalidArgumentError:
    """Make the error for what names no file or folder to build from."""
    return InvalidArgumentError(f"{url!r:.200} names no files to build from: {_KINDS}")


def no_files(url: str) -> NotFoundError:
    """Make the error for a file that is not there, or a folder without any."""
    found = "are no files below" if url.endswith("/") else "is no file"
    return NotFoundError(
        f'there {found} {url}: correct the location; what is a folder ends with "/"',
        object_key=url,
    )


def vanished(url: str) -> NotFoundError:
    """Make the error for a file that was there when the build was planned."""
    return NotFoundError(
        f"{url} was there when the build was planned, and is no more: put it back as it was and "
        "resume the build, or start another",
        object_key=url,
    )


def changed(url: str) -> ConflictError:
    """Make the error for a file that is another than when the build was planned."""
    return ConflictError(
        f"{url} has changed since the build was planned: put it back as it was and resume the "
        "build, or start another",
        object_key=url,
    )
