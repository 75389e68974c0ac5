"""Files to build from, wherever they are: listed, and read by ranges, never written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from squash.container import Buffer


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
