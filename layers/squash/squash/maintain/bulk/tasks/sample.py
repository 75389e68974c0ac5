"""Drawing rows to train on."""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, I64, U64
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.records import read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import GoodAndBad
from squash.maintain.bulk.samples import Sample, draw, write_sample
from squash.model import Metadata
from squash.reports import Progress
from squash.segment import hash_keys


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do one batch; what it leaves is the same however often, and wherever, it runs.

    Bad rows are passed over: `assign` lists them.

    Raises
    ------
    ConflictError, NotFoundError
        If a file is another than when the build was planned, or there no more.
    InvalidArgumentError
        If a file is damaged.

    """
    plan = read_plan(context.store, request.build)
    drawn = draw(plan, context.config.seed)
    mine = sorted(plan.sample_batches[batch])
    share = _Share(
        sum(len(drawn.rows[piece]) for piece in mine), context.config.dimension, keyed=plan.keyed
    )
    pieces = Pieces(context, request, plan)
    passed, total = 0, sum(plan.pieces[piece].rows for piece in mine)
    for piece in mine:
        if not len(drawn.rows[piece]):
            continue
        for chunk in pieces.chunks(piece):
            share.add(chunk, drawn.rows[piece], drawn.cells[piece])
            passed += chunk.passed
            context.report(Progress("sample", passed, total, "rows"))
    write_sample(context.store, request.build, batch, share.sample())
    return TaskReport(rows=passed, detail={"sampled": share.rows})


class _Share:
    """Gathers the rows that one task draws."""

    def __init__(self, rows_max: int, dimension: int, *, keyed: bool) -> None:
        self._vectors: F32 = np.empty((rows_max, dimension), dtype="<f4")
        self._numbers: I64 = np.empty(rows_max, dtype=np.int64)
        self._hashes: list[U64] = [np.empty((0, 2), np.uint64)]
        self._cells: list[tuple[int, Metadata]] = []
        self._keyed = keyed
        self.rows = 0

    def add(self, chunk: GoodAndBad, drawn: I64, cells: I64) -> None:
        """Take those of a chunk's good rows that were drawn."""
        mine = np.flatnonzero(np.isin(chunk.numbers, drawn, assume_unique=True))
        if not len(mine):
            return
        here = slice(self.rows, self.rows + len(mine))
        self._vectors[here] = chunk.rows.vectors[mine]
        self._numbers[here] = chunk.numbers[mine]
        self.rows += len(mine)
        if self._keyed:
            self._hashes.append(hash_keys([chunk.rows.keys[row] for row in mine.tolist()]))
        for row in np.flatnonzero(np.isin(chunk.numbers, cells, assume_unique=True)).tolist():
            self._cells.append((int(chunk.numbers[row]), chunk.rows.metadata[row]))

    def sample(self) -> Sample:
        """Return what was gathered."""
        return Sample(
            self._numbers[: self.rows],
            self._vectors[: self.rows],
            np.concatenate(self._hashes),
            np.array([number for number, _ in self._cells], dtype=np.int64),
            [metadata for _, metadata in self._cells],
        )
