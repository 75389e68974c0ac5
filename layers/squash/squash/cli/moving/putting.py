"""Putting records into an index of the service: batches of bounded size, several at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

from squash.cli.moving.records import BadRow, WireRecord, wire_records
from squash.cli.moving.service import RefusedError, ServiceTooLargeError
from squash.limits import SERVICE_BODY_BYTES_MAX, SERVICE_PUT_MAX
from squash.model import RowBatch
from squash.values import dataclass

_BETWEEN_BYTES: Final = 2  # a comma and a blank


class Putter(Protocol):
    """What puts records; see `ServiceTable.put`."""

    def put(self, texts: Sequence[str]) -> None:
        """Put records, all or none of them, each as it stands in the body."""
        ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Records to be put together, and where the copy is when they are."""

    rows: RowBatch
    rows_after: int
    digest_after: str


@dataclass(frozen=True, slots=True)
class Done:
    """Records that are durable, with those before them, but for those that are refused."""

    outgoing: Outgoing
    bad: Sequence[BadRow]


class BatchPutter:
    """Puts records, in smaller parts where they are too many bytes. Threads may share it.

    Parameters
    ----------
    target:
        Where.

    """

    def __init__(self, target: Putter) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._bytes_max = SERVICE_BODY_BYTES_MAX

    def put(self, rows: RowBatch) -> list[BadRow]:
        """Put records, and return those that the service refuses."""
        records = wire_records(rows)
        bad: list[BadRow] = []
        for part in self._parts(records):
            bad += self._put_part(part)
        return bad

    def _parts(self, records: Sequence[WireRecord]) -> Iterator[Sequence[WireRecord]]:
        """Divide records by count and bytes; asked anew for each part, since the limit shrinks."""
        at = 0
        while at < len(records):
            end, size = at, 0
            while end < len(records) and end - at < SERVICE_PUT_MAX:
                size += len(records[end].text) + _BETWEEN_BYTES
                if end > at and size > self._bytes_max:
                    break
                end += 1
            yield records[at:end]
            at = end

    def _put_part(self, part: Sequence[WireRecord]) -> list[BadRow]:
        try:
            self._target.put([record.text for record in part])
        except ServiceTooLargeError as error:
            if len(part) == 1:
                return [BadRow(part[0].key, f"record {part[0].key!r}: {error}")]
            with self._lock:
                # What is taken is less than this was, for what follows as well.
                size = sum(len(record.text) + _BETWEEN_BYTES for record in part)
                self._bytes_max = min(self._bytes_max, max(1, size // 2))
        except RefusedError as error:
            # Nothing of it was put, and which record it is for is found by trying, not by words.
            if len(part) == 1:
                return [BadRow(part[0].key, f"record {part[0].key!r}: {error}")]
        else:
            return []
        middle = len(part) // 2
        return [*self._put_part(part[:middle]), *self._put_part(part[middle:])]


def put_in_order(
    batches: Iterable[Outgoing], putter: BatchPutter, *, threads: int
) -> Iterator[Done]:
    """Put batches, several at once, and yield each when it and all before it are durable.

    Memory holds two batches a thread, and one as it is sent.

    Raises
    ------
    SquashError
        The first that cannot be put; what was yielded is durable.

    """
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="put")
    waiting: deque[tuple[Outgoing, Future[list[BadRow]]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, pool.submit(putter.put, batch.rows)))
            if len(waiting) >= 2 * threads:
                first, future = waiting.popleft()
                yield Done(first, future.result())
        while waiting:
            first, future = waiting.popleft()
            yield Done(first, future.result())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
