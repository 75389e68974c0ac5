"""Reading an index of the service: the segments of its listing, by as many threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from squash.cli.moving.service import RefusedError, ServicePage, ServiceTooLargeError
from squash.cli.moving.state import SegmentState
from squash.limits import SERVICE_LIST_PAGE_MAX
from squash.values import dataclass

_BEGINNINGS_MAX: Final = 4
"""How often a segment is begun again in one run: tokens live for minutes, pages take seconds."""
_WAIT_S: Final = 0.1
_JOIN_S: Final = 1.0  # a thread that waits for the service is left: it can change nothing


class Lister(Protocol):
    """What gives a page of a segment; see `ServiceTable.page`."""

    def page(
        self, token: str | None, *, segment: tuple[int, int], records: bool, results: int
    ) -> ServicePage:
        """List a page of one segment."""
        ...


@dataclass(frozen=True, slots=True)
class SegmentPage:
    """A page of one segment; `token` goes on after it, None if it is the last.

    `first` is set on the first page of a segment, also where it was begun again.
    """

    segment: int
    vectors: Sequence[Any]
    token: str | None
    first: bool


def read_segments(
    lister: Lister, segments: Sequence[SegmentState], *, records: bool
) -> Iterator[SegmentPage]:
    """Yield the pages of all segments that are not done, each segment's in their order.

    Where the service takes a token no more, the segment is begun again. Memory holds two pages a
    segment.

    Parameters
    ----------
    lister:
        Threads share it.
    segments:
        How far each is read already; not changed here.
    records:
        With vectors and metadata, else the keys alone.

    Raises
    ------
    SquashError
        The first that a segment ends with.

    """
    said = _Said(len(segments))
    waiting = [number for number, segment in enumerate(segments) if not segment.done]
    threads = [
        threading.Thread(target=_run, args=(lister, number, segments, records, said), daemon=True)
        for number in waiting
    ]
    for thread in threads:
        thread.start()
    try:
        yield from said.pages(len(threads))
    finally:
        said.stopped.set()
        for thread in threads:
            thread.join(_JOIN_S)


class _Said:
    """What the threads say: pages, an error, or None at a segment's end."""

    def __init__(self, most: int) -> None:
        self.stopped = threading.Event()
        self._queue: queue.Queue[SegmentPage | BaseException | None] = queue.Queue(most)

    def tell(self, what: SegmentPage | BaseException | None) -> bool:
        """Wait until there is room; return if anybody is still interested."""
        while not self.stopped.is_set():
            try:
                self._queue.put(what, timeout=_WAIT_S)
            except queue.Full:
                continue
            return True
        return False

    def pages(self, running: int) -> Iterator[SegmentPage]:
        """Yield what is said until so many threads have ended; raise the first error."""
        while running:
            what = self._queue.get()
            if what is None:
                running -= 1
            elif isinstance(what, BaseException):
                raise what
            else:
                yield what


def _run(
    lister: Lister, number: int, segments: Sequence[SegmentState], records: bool, said: _Said
) -> None:
    try:
        _read(lister, number, segments, records, said)
    except BaseException as error:  # noqa: BLE001 - raised where the pages are used
        said.tell(error)
    else:
        said.tell(None)


def _read(
    lister: Lister,
    number: int,
    segments: Sequence[SegmentState],
    records: bool,
    said: _Said,
) -> None:
    token = segments[number].token
    results, beginnings, first = SERVICE_LIST_PAGE_MAX, 1, token is None
    while True:
        try:
            page = lister.page(
                token, segment=(number, len(segments)), records=records, results=results
            )
        except RefusedError:
            # A token that is too old is refused like every other fault of a request.
            if token is None or beginnings == _BEGINNINGS_MAX:
                raise
            token, first = None, True
            beginnings += 1
            continue
        except ServiceTooLargeError:
            if results == 1:
                raise
            results //= 2
            continue
        going_on = said.tell(SegmentPage(number, page.vectors, page.token, first))
        if page.token is None or not going_on:
            return
        token, first = page.token, False
