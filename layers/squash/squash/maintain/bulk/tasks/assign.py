"""Giving each row its cluster, and writing rows side by side by partition: runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from squash.errors import BuildStoppedError
from squash.limits import BUILD_BAD_ROWS_LISTED_MAX
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import EXAMPLES, BuildContext, TaskReport
from squash.maintain.bulk.model import GroupPlacer, read_model
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.plan import Plan
from squash.maintain.bulk.records import read_attempt, read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import BadRow
from squash.maintain.bulk.runs import Run, Runs
from squash.reports import Progress

BAD: Final = "bad"
"""The folder of the lists of rows that are left out."""
_EXAMPLES_MAX: Final = 5  # of those rows, in a report


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do one batch; what it leaves is the same however often, and wherever, it runs.

    Raises
    ------
    BuildStoppedError
        If this batch alone has more bad rows than may be left out; they are listed by then.
    ConflictError, NotFoundError
        If a file is another than when the build was planned, or there no more.
    ChecksumError, DataError
        If what earlier tasks left is damaged.

    """
    plan = read_plan(context.store, request.build)
    work = _Assigning(context, request, plan, batch)
    for piece in range(*plan.assign_batches[batch : batch + 2]):
        work.write_run(piece)
    return work.close()


class _Assigning:
    """Writes the runs of a batch, one piece in memory at a time."""

    def __init__(
        self, context: BuildContext, request: BuildRequest, plan: Plan, batch: int
    ) -> None:
        build = request.build
        self._context = context
        self._plan = plan
        self._model = read_model(context.store, build, dimension=context.config.dimension)
        self._placer = GroupPlacer(self._model, context.config.metric)
        self._pieces = Pieces(context, request, plan)
        self._runs = Runs(context.store, build, plan, batch)
        limit = read_attempt(context.store, build).limits.bad_rows_max
        self._bad = _BadRows(context, keys.part_key(build, BAD, batch), limit)
        mine = plan.pieces[slice(*plan.assign_batches[batch : batch + 2])]
        self._total = sum(piece.rows for piece in mine)
        self._passed = 0

    def write_run(self, piece: int) -> None:
        """Give the good rows of the batch's next piece their places, and store them."""
        run = Run(
            self._plan.pieces[piece].rows,
            dimension=self._context.config.dimension,
            groups=self._model.groups,
            keyed=self._plan.keyed,
        )
        for chunk in self._pieces.chunks(piece):
            self._bad.add(chunk.bad)
            if len(chunk.rows):
                places = self._placer.place(chunk.rows.vectors)
                run.add(
                    chunk.rows,
                    numbers=chunk.numbers,
                    clusters=places.cluster,
                    groups=places.group,
                )
            self._passed += chunk.passed
            self._context.report(Progress("assign", self._passed, self._total, "rows"))
        self._runs.write(piece, run)

    def close(self) -> TaskReport:
        """Store what is of the whole batch."""
        self._runs.close()
        self._bad.write()
        examples = self._bad.examples()
        return TaskReport(self._passed, self._bad.count, detail={EXAMPLES: examples})


class _BadRows:
    """Counts the rows that are left out, and lists them, the first hundred thousand."""

    def __init__(self, context: BuildContext, key: str, limit: int) -> None:
        self._store = context.store
        self._key = key
        self._limit = limit
        self._listed: list[BadRow] = []
        self.count = 0

    def add(self, rows: Sequence[BadRow]) -> None:
        """Take some rows.

        Raises
        ------
        BuildStoppedError
            If they are more than may be left out; they are listed by then.

        """
        self.count += len(rows)
        self._listed += rows[: BUILD_BAD_ROWS_LISTED_MAX - len(self._listed)]
        if self.count > self._limit:
            self.write()
            first = self._listed[0]
            raise BuildStoppedError(
                f"{self.count:,} of the rows cannot be kept, and {self._limit} may be left out; "
                f"the first is row {first.row} of {first.input}: {first.problem}. They are listed "
                f"in {self._key}: correct the files and start anew, or resume with a higher "
                "limit of bad rows"
            )

    def examples(self) -> list[dict[str, Any]]:
        """Return the first rows, for a report."""
        return [asdict(row) for row in self._listed[:_EXAMPLES_MAX]]

    def write(self) -> None:
        """Store the list, if there is anything to list."""
        if self._listed:
            lines = (json.dumps(asdict(row), ensure_ascii=False) for row in self._listed)
            self._store.put(self._key, "".join(f"{line}\n" for line in lines).encode())
