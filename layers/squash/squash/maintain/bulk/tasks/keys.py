"""Finding rows that a later one of the same key replaces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import I64, U64
from squash.errors import BuildStoppedError
from squash.limits import BUILD_REPLACED_ROWS_MAX
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import EXAMPLES, BuildContext, TaskReport
from squash.maintain.bulk.plan import InputFile, Plan
from squash.maintain.bulk.records import read_plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.runs import REPLACED, read_hashes, replaced_object

_EXAMPLES_MAX: Final = 10  # of replaced rows, each with the row that replaced it, in a report


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:
    """Do one range of hashes; what it leaves is the same however often, and wherever, it runs.

    Raises
    ------
    BuildStoppedError
        If so many rows repeat earlier keys that later tasks could not know them all.
    ChecksumError, DataError
        If what `assign` left is damaged.

    """
    plan = read_plan(context.store, request.build)
    parts = list(read_hashes(context.store, request.build, plan, batch))
    table = np.concatenate(parts) if parts else np.empty((0, 3), np.uint64)
    parts.clear()
    replaced, by = replaced_rows(table)
    if len(replaced) > BUILD_REPLACED_ROWS_MAX:
        raise too_many_replaced(len(replaced))
    context.store.put(keys.part_key(request.build, REPLACED, batch), replaced_object(replaced))
    return TaskReport(
        rows=len(table), replaced=len(replaced), detail={EXAMPLES: _examples(plan, replaced, by)}
    )


def replaced_rows(table: U64) -> tuple[I64, I64]:
    """Find the rows that are not the last ones of their keys.

    Parameters
    ----------
    table:
        uint64 [n, 3]: both halves of a key's hash, and the row's number; numbers differ.

    Returns
    -------
    (int64 [m], int64 [m]): the numbers of the rows that are replaced, ascending, and for each that
    of the row that replaces it, the last one of its key.

    """
    # Hardly any two of the first halves are equal but where keys are: the rest is out at once.
    order = np.argsort(table[:, 0], kind="stable")
    first = table[order, 0]
    same = first[1:] == first[:-1]
    again = np.zeros(len(table), dtype=bool)
    again[1:] |= same
    again[:-1] |= same
    some = table[order[again]]
    some = some[np.lexsort((some[:, 2], some[:, 1], some[:, 0]))]
    goes = np.zeros(len(some), dtype=bool)
    goes[:-1] = (some[1:, :2] == some[:-1, :2]).all(axis=1)
    # The last row of each run of equal hashes is the first one from here on that stays.
    stays = np.flatnonzero(~goes)
    gone = np.flatnonzero(goes)
    numbers = some[:, 2].astype(np.int64)
    replaced, by = numbers[gone], numbers[stays[np.searchsorted(stays, gone)]]
    places = np.argsort(replaced)
    return replaced[places], by[places]


def too_many_replaced(count: int) -> BuildStoppedError:
    """Make the error for more replaced rows than the tasks of a build can know."""
    return BuildStoppedError(
        f"{count:,} rows or more have keys that later rows have too, and a build takes "
        f"{BUILD_REPLACED_ROWS_MAX:,} at most: remove the doubles from the files, then start anew"
    )


def _examples(plan: Plan, replaced: I64, by: I64) -> Sequence[dict[str, Any]]:
    some = slice(0, _EXAMPLES_MAX)
    return [
        {"input": old.url, "row": gone - old.first, "by_input": new.url, "by_row": last - new.first}
        for gone, last in zip(replaced[some].tolist(), by[some].tolist(), strict=True)
        for old, new in ((_file_of(plan, gone), _file_of(plan, last)),)
    ]


def _file_of(plan: Plan, number: int) -> InputFile:
    """Return the file that a row lies in; the last of those that begin at it, which has rows."""
    return plan.files[bisect_right(plan.files, number, key=lambda file: file.first) - 1]
