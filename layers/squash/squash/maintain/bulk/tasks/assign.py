"""Giving each row its cluster, and writing rows side by side by partition: runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from squash.errors import BuildStoppedError
from squash.limits import BUILD_BAD_ROWS_LISTED_MAX
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.model import GroupPlacer, read_model
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.records import read_attempt, read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.rows import BadRow
from squash.maintain.bulk.runs import Run, Runs
from squash.model import Progress

BAD: Final = "bad"
"""The folder of the lists of rows that are left out."""
EXAMPLES: Final = "examples"
"""In a report: the first of those rows."""
_EXAMPLES_MAX: Final = 5


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
    store, build, dimension = context.store, request.build, context.config.dimension
    plan = read_plan(store, build)
    model = read_model(store, build, dimension=dimension)
    placer = GroupPlacer(model, context.config.metric)
    pieces = Pieces(context, request, plan)
    bad = _BadRows(read_attempt(store, build).limits.bad_rows_max)
    mine = range(plan.assign_batches[batch], plan.assign_batches[batch + 1])
    total = sum(plan.pieces[piece].rows for piece in mine)
    passed = 0
    runs = Runs(store, build, plan, batch)
    for piece in mine:
        rows = plan.pieces[piece].rows
        found = Run(rows, dimension=dimension, groups=model.groups, keyed=plan.keyed)
        for chunk in pieces.chunks(piece):
            bad.add(chunk.bad)
            if len(chunk.rows):
                places = placer.place(chunk.rows.vectors)
                found.add(
                    chunk.rows,
                    numbers=chunk.numbers,
                    clusters=places.cluster,
                    groups=places.group,
                )
            passed += chunk.passed
            context.report(Progress("assign", passed, total, "rows"))
            if bad.too_many:
                bad.write(context, build, batch)
                raise bad.stopped(build, batch)
        runs.write(piece, found)
    runs.close()
    bad.write(context, build, batch)
    return TaskReport(rows=passed, bad=bad.count, detail={EXAMPLES: bad.examples()})


class _BadRows:
    """Counts the rows that are left out, and lists them, the first hundred thousand."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._listed: list[BadRow] = []
        self.count = 0

    @property
    def too_many(self) -> bool:
        return self.count > self._limit

    def add(self, rows: Sequence[BadRow]) -> None:
        self.count += len(rows)
        self._listed += rows[: BUILD_BAD_ROWS_LISTED_MAX - len(self._listed)]

    def examples(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self._listed[:_EXAMPLES_MAX]]

    def write(self, context: BuildContext, build: str, batch: int) -> None:
        """Store the list, if there is anything to list."""
        if self._listed:
            lines = (json.dumps(asdict(row), ensure_ascii=False) for row in self._listed)
            data = "".join(f"{line}\n" for line in lines).encode()
            context.store.put(keys.part_key(build, BAD, batch), data)

    def stopped(self, build: str, batch: int) -> BuildStoppedError:
        first = self._listed[0]
        return BuildStoppedError(
            f"{self.count} rows cannot be kept, and {self._limit} may be left out; the first is "
            f"row {first.row} of {first.input}: {first.problem}. They are listed in "
            f"{keys.part_key(build, BAD, batch)}: correct the files and start anew, or resume with "
            "a higher limit of bad rows"
        )
