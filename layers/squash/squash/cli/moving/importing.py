"""`squash import` from an index of Amazon S3 Vectors, or of what speaks its API."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Final

import numpy as np

from squash.cli.encoding_words import VectorMaker
from squash.cli.moving.checking import check
from squash.cli.moving.ledger import BadRows, Meter
from squash.cli.moving.reading import SegmentPage, read_segments
from squash.cli.moving.records import rows_of
from squash.cli.moving.service import ServiceConfig, ServiceTable, open_client
from squash.cli.moving.sides import (
    check_alike,
    service_side,
    source_words,
    squash_side,
    target_words,
)
from squash.cli.moving.state import MoveState, SegmentState, StateFile
from squash.cli.moving.telling import going_on, state_path, stopped, tell
from squash.cli.output import Output
from squash.clock import SystemClock, SystemIds
from squash.errors import NotFoundError, SquashError
from squash.limits import MOVE_BATCH_BYTES_MAX, MOVE_BATCH_ROWS_MAX
from squash.model import IndexConfig, RowBatch
from squash.values import dataclass

if TYPE_CHECKING:
    from squash.database import Database, Index

_VALUE_BYTES: Final = 4


def import_index(arguments: Namespace, database: Database, output: Output) -> int:
    """Copy an index of the service into one of ours, and check that both hold the same."""
    client = open_client(
        arguments.file,
        endpoint_url=arguments.service_url,
        region=arguments.service_region,
        profile=arguments.service_profile,
    )
    table = ServiceTable(client, arguments.file)
    config = table.config()
    index = _target(database, arguments, config)
    difference = check_alike(index.config, config, name=table.name)
    if difference is not None:
        output.note(difference)
    # What an encoder made is to be said, as of the vectors of a file.
    maker = VectorMaker(index.config, table.name, arguments.encoder)
    maker.check(of_inputs=False)
    file = StateFile(state_path(arguments, "import", arguments.file))
    if arguments.restart:
        file.remove()
    state = file.load(source_words(table, config), target_words(index.config, arguments.store))
    if not arguments.check_only:
        going_on(state, file, output)
        state.segments = state.segments or [SegmentState() for _ in range(arguments.parallel)]
        move = _Import(table, index, state, file)
        move.run(arguments, maker.encoder, output)
    found = None
    if arguments.check_only or not arguments.no_check:
        found = check(
            service_side(table, segments=arguments.parallel),
            squash_side(index, as_of=index.backlog().snapshot),
            left_out={row.key for row in state.bad_rows},
            sample=arguments.sample,
            salt=SystemIds().new_id(),
        )
    if not arguments.check_only:
        file.remove()
    return tell(
        output,
        source=table.name,
        target=index.config.name,
        state=None if arguments.check_only else state,
        found=found,
    )


def _target(database: Database, arguments: Namespace, config: ServiceConfig) -> Index:
    """Open the index that is copied into; make it if that is wanted and it is not there."""
    name: str = arguments.index
    try:
        return database.index(name)
    except NotFoundError:
        if not arguments.create or arguments.check_only:
            raise
    bucket, slash, _ = name.partition("/")
    if slash:
        try:
            database.vector_buckets.get(bucket)
        except NotFoundError:
            # Only now: few indexes are in a vector bucket.
            from squash.index.buckets import BucketSettings  # noqa: PLC0415

            database.vector_buckets.create(bucket, BucketSettings())
    return database.create_index(
        name,
        dimension=config.dimension,
        metric=config.metric,
        non_filterable=config.non_filterable,
    )


class _Import:
    """The copy itself: pages of the service are gathered to batches, each of them one commit."""

    def __init__(
        self, table: ServiceTable, index: Index, state: MoveState, file: StateFile
    ) -> None:
        self._table = table
        self._index = index
        self._state = state
        self._file = file

    def run(self, arguments: Namespace, encoder: str | None, output: Output) -> None:
        """Move all that is not moved yet."""
        if self._state.moved:
            return
        bad = BadRows(self._state.bad_rows, arguments.bad_rows, output.note)
        try:
            with output.progress() as report:
                meter = Meter(report, SystemClock(), done=self._state.rows_moved)
                self._index.import_batches(self._batches(bad, meter), encoder=encoder)
                self._state.moved = True
                self._file.save(self._state)
                if not arguments.no_optimize:
                    self._index.optimize(progress=report)
        except (SquashError, OSError, KeyboardInterrupt) as error:
            stopped(error, self._state, self._file)
            raise

    def _batches(self, bad: BadRows, meter: Meter) -> Iterator[RowBatch]:
        """Yield batches; whoever asks for the next says by it that the last one is durable."""
        gathered = Gathered(self._index.config)
        for page in read_segments(self._table, self._state.segments, records=True):
            rows, refused = rows_of(page.vectors, self._index.config)
            bad.add(refused)
            gathered.add(page, rows)
            if gathered.full:
                yield gathered.batch()
                self._durable(gathered, meter)
                gathered = Gathered(self._index.config)
        if len(gathered):
            yield gathered.batch()
        self._durable(gathered, meter)

    def _durable(self, gathered: Gathered, meter: Meter) -> None:
        for number, step in gathered.steps.items():
            segment = self._state.segments[number]
            segment.rows = step.rows if step.first else segment.rows + step.rows
            segment.token, segment.done = step.token, step.token is None
        self._file.save(self._state)
        meter.moved(self._state.rows_moved)


@dataclass(slots=True)
class _Step:
    """How far a batch brings a segment; `first` if it holds the segment from its beginning."""

    rows: int = 0
    token: str | None = None
    first: bool = False


@dataclass(slots=True)
class Gathered:
    """Pages of several segments on their way into one batch."""

    config: IndexConfig
    steps: dict[int, _Step] = field(default_factory=dict)
    _parts: list[RowBatch] = field(default_factory=list)
    _rows: int = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def full(self) -> bool:
        """Whether they are as many as go into one commit."""
        size = self._rows * self.config.dimension * _VALUE_BYTES
        return self._rows >= MOVE_BATCH_ROWS_MAX or size >= MOVE_BATCH_BYTES_MAX

    def add(self, page: SegmentPage, rows: RowBatch) -> None:
        """Add a page, by the records of it that can be taken."""
        step = self.steps.setdefault(page.segment, _Step())
        if page.first:
            step.rows, step.first = 0, True
        step.rows += len(rows)
        step.token = page.token
        self._parts.append(rows)
        self._rows += len(rows)

    def batch(self) -> RowBatch:
        """Return the records; of a key that came twice, what came last."""
        keys = [key for part in self._parts for key in part.keys]
        vectors = np.concatenate([part.vectors for part in self._parts])
        metadata = [one for part in self._parts for one in part.metadata]
        last: Mapping[str, int] = {key: place for place, key in enumerate(keys)}
        if len(last) == len(keys):
            return RowBatch(keys, vectors, metadata)
        places = list(last.values())
        return RowBatch(list(last), vectors[places], [metadata[place] for place in places])
