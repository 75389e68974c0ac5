"""`squash export` into an index of Amazon S3 Vectors, or of what speaks its API."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from squash.cli.moving.checking import check
from squash.cli.moving.ledger import BadRows, Meter
from squash.cli.moving.putting import BatchPutter, Outgoing, put_in_order
from squash.cli.moving.service import ServiceTable, open_client
from squash.cli.moving.sides import (
    check_alike,
    refuse_dot,
    service_side,
    source_words,
    squash_side,
    target_words,
)
from squash.cli.moving.state import MoveState, StateFile
from squash.cli.moving.telling import going_on, state_path, stopped, tell
from squash.cli.output import Output
from squash.cli.problems import UsageError
from squash.clock import SystemClock, SystemIds
from squash.errors import NotFoundError, SquashError
from squash.limits import SERVICE_PUT_MAX
from squash.model import Filter, RowBatch

if TYPE_CHECKING:
    from squash.database import Database, Index

_SNAPSHOTS_LOOKED_AT: Final = 1_000


def export_index(arguments: Namespace, database: Database, output: Output) -> int:
    """Copy a snapshot of an index of ours into one of the service, and check both."""
    if arguments.no_vectors:
        raise UsageError("--no-vectors is for files: S3 Vectors keeps no record without a vector")
    index = database.index(arguments.index)
    client = open_client(
        arguments.file,
        endpoint_url=arguments.service_url,
        region=arguments.service_region,
        profile=arguments.service_profile,
    )
    table = ServiceTable(client, arguments.file)
    _make_target(table, index, arguments)
    config = table.config()
    difference = check_alike(index.config, config, name=table.name)
    if difference is not None:
        output.note(difference)
    file = StateFile(state_path(arguments, "export", arguments.file))
    if arguments.restart:
        file.remove()
    source = target_words(index.config, arguments.store) | {
        "filter": arguments.filter,
        "as_of": None if arguments.as_of is None else str(arguments.as_of),
    }
    state = file.load(source, source_words(table, config))
    if arguments.check_only:
        state.snapshot = _snapshot(index, arguments)
    else:
        going_on(state, file, output)
        state.snapshot = state.snapshot or _snapshot(index, arguments)
        _Export(table, index, state, file, arguments.filter).run(arguments, output)
    found = None
    if arguments.check_only or not arguments.no_check:
        found = check(
            squash_side(index, as_of=state.snapshot, filter_=arguments.filter),
            service_side(table, segments=arguments.parallel),
            left_out={row.key for row in state.bad_rows},
            sample=arguments.sample,
            salt=SystemIds().new_id(),
        )
    if not arguments.check_only:
        file.remove()
    return tell(
        output,
        source=index.config.name,
        target=table.name,
        state=None if arguments.check_only else state,
        found=found,
        later=_written_since(index, state.snapshot),
    )


def _make_target(table: ServiceTable, index: Index, arguments: Namespace) -> None:
    refuse_dot(index.config, name=table.name)
    if not arguments.create or arguments.check_only:
        return
    try:
        table.config()
    except NotFoundError:
        table.create(
            dimension=index.config.dimension,
            metric=str(index.config.metric),
            non_filterable=index.config.non_filterable,
        )


def _snapshot(index: Index, arguments: Namespace) -> int:
    return index.export_batches(as_of=arguments.as_of, include=[]).snapshot


def _written_since(index: Index, snapshot: int) -> int:
    """Count the commits after a snapshot that changed records."""
    return sum(
        one.operation != "fold" and one.snapshot > snapshot
        for one in index.snapshots(limit=_SNAPSHOTS_LOOKED_AT)
    )


class _Export:
    """The copy itself: batches of one snapshot, put several at once, counted in their order."""

    def __init__(
        self,
        table: ServiceTable,
        index: Index,
        state: MoveState,
        file: StateFile,
        filter_: Filter | None,
    ) -> None:
        self._putter = BatchPutter(table)
        self._index = index
        self._state = state
        self._file = file
        self._filter = filter_

    def run(self, arguments: Namespace, output: Output) -> None:
        """Move all that is not moved yet."""
        state = self._state
        if state.moved:
            return
        bad = BadRows(state.bad_rows, arguments.bad_rows, output.note)
        total = 0 if self._filter is not None else self._index.stats().rows
        try:
            with output.progress() as report:
                meter = Meter(report, SystemClock(), done=state.rows, total=total)
                outgoing = self._outgoing()
                for done in put_in_order(outgoing, self._putter, threads=arguments.parallel):
                    bad.add(done.bad)
                    state.rows, state.digest = (
                        done.outgoing.rows_after,
                        done.outgoing.digest_after,
                    )
                    self._file.save(state)
                    meter.moved(state.rows)
                state.moved = True
                self._file.save(state)
        except (SquashError, OSError, KeyboardInterrupt) as error:
            stopped(error, state, self._file)
            raise

    def _outgoing(self) -> Iterator[Outgoing]:
        """Yield what is to be put, after what was put before."""
        parts, counted = self._parts(), _Counted()
        while counted.rows < self._state.rows:
            part = next(parts, None)
            if part is None:
                break
            counted.add(part)
        if self._state.rows and (counted.rows, counted.digest) != (
            self._state.rows,
            self._state.digest,
        ):
            # It is read in another order than before: all of it is put, much of it again.
            parts, counted = self._parts(), _Counted()
        for part in parts:
            counted.add(part)
            yield Outgoing(part, counted.rows, counted.digest)

    def _parts(self) -> Iterator[RowBatch]:
        """Yield the snapshot's records, as many as are put together at most."""
        batches = self._index.export_batches(as_of=self._state.snapshot, filter=self._filter)
        for batch in batches:
            for start in range(0, len(batch), SERVICE_PUT_MAX):
                part = slice(start, start + SERVICE_PUT_MAX)
                yield RowBatch(batch.keys[part], batch.vectors[part], batch.metadata[part])


class _Counted:
    """How many records were read, and a digest of their keys in their order."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        """Of all keys so far."""
        return self._hash.hexdigest()

    def add(self, part: RowBatch) -> None:
        """Count records."""
        self.rows += len(part)
        for key in part.keys:
            self._hash.update(key.encode() + b"\0")
