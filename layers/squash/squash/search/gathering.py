"""What processors answered, put together: what one process would have found, to the bit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from squash.arrays import F32, F64, I64
from squash.errors import DataError, PartialAnswerError
from squash.kernels import Ranked
from squash.search.allocating import Allocation, Planned
from squash.search.delivering import found_delivered
from squash.search.found import Found, found_of
from squash.search.index_view import IndexView
from squash.search.levels import is_certified, trace_ranked
from squash.search.tasks import Kept, Mode, TaskAnswer
from squash.search.trace import Trace
from squash.values import dataclass

_NAMED_MAX = 3


def gather(
    allocation: Allocation, answers: Iterable[TaskAnswer], *, allow_partial: bool = False
) -> list[tuple[Found, Trace]]:
    """Put the answers of all tasks of an allocation together, in whatever order they came.

    Parameters
    ----------
    allocation:
        What was to be done.
    answers:
        One of every task.
    allow_partial:
        Whether answers may be missing.

    Returns
    -------
    For each query what `search_partitions` would find (or, of exact ones, what a scan of all
    partitions would), and what happened on the way. Its sources have at hand what was delivered,
    and read everything else from the allocation's snapshot.

    Raises
    ------
    PartialAnswerError
        If partitions are missing that were to be searched, and may not.
    DataError
        If an answer does not fit what was asked.

    """
    found: list[list[Kept]] = [[] for _ in allocation.queries]
    counts = np.array([one.count for one in allocation.view.partitions], dtype=np.int64)
    snapshot = _Snapshot(allocation.view, counts, np.cumsum(counts) - counts)
    for answer in answers:
        for kept in answer.queries:
            if not 0 <= kept.number < len(found):
                raise _misfit(f"a query {kept.number} of {len(found)}")
            found[kept.number].append(kept)
    return [
        _gathered(snapshot, planned, parts, allow_partial=allow_partial)
        for planned, parts in zip(allocation.queries, found, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    """A snapshot, and of its partitions int64 [p] how many rows each has, and its first."""

    view: IndexView
    counts: I64
    base: I64


def _gathered(
    snapshot: _Snapshot, planned: Planned, parts: Sequence[Kept], *, allow_partial: bool
) -> tuple[Found, Trace]:
    view = snapshot.view
    trace = replace(planned.trace, noted=list(planned.trace.noted))
    missing = _missing(snapshot, planned, parts)
    if missing and not allow_partial:
        names = ", ".join(view.partitions[number].reader.ref.id for number in missing[:_NAMED_MAX])
        raise PartialAnswerError(
            f"{len(missing)} partitions were not searched, {names} among them: repeat the query, "
            "or ask with allow_partial for what there is",
            missing=tuple(view.partitions[number].reader.ref.id for number in missing),
        )
    if planned.mode == Mode.MEASURE or not parts:
        rows = _joined(parts)
    else:
        rows = _best(snapshot, planned, parts, trace)
    if missing:
        trace.certified = False
        trace.missing = tuple(view.partitions[number].reader.ref.id for number in missing)
    if not any(len(kept.delivery.places) for kept in parts):
        return found_of(view.partitions, rows.partition, rows.row, rows.distances), trace
    found = found_delivered(
        view.partitions,
        (rows.partition, rows.row, rows.distances),
        [(kept.partition, kept.row, kept.delivery) for kept in parts],
    )
    return found, trace


def _missing(snapshot: _Snapshot, planned: Planned, parts: Sequence[Kept]) -> list[int]:
    """Check that answers are of what was asked; return the partitions that none is of."""
    wanted = {one.part for one in planned.admitted}
    for kept in parts:
        searched = set(kept.searched.tolist())
        if kept.mode != planned.mode or not searched <= wanted:
            raise _misfit("what was not asked, or was answered already")
        wanted -= searched
        if not set(kept.partition.tolist()) <= searched:
            raise _misfit("rows of partitions that were not searched")
        if ((kept.row < 0) | (kept.row >= snapshot.counts[kept.partition])).any():
            raise _misfit("rows that there are not")
    return sorted(wanted)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    partition: I64
    row: I64
    distances: F64


def _joined(parts: Sequence[Kept]) -> _Rows:
    none = np.empty(0, dtype=np.int64)
    return _Rows(
        np.concatenate([none, *(kept.partition for kept in parts)]),
        np.concatenate([none, *(kept.row for kept in parts)]),
        np.concatenate([np.empty(0), *(kept.distances for kept in parts)]),
    )


def _best(snapshot: _Snapshot, planned: Planned, parts: Sequence[Kept], trace: Trace) -> _Rows:
    """Keep the best of all ranked rows, by (estimate, global row), and of these the measured."""
    every = _joined(parts)
    estimates = np.concatenate([kept.estimates for kept in parts if kept.estimates is not None])
    if len(estimates) != len(every.row):
        raise _misfit("rows without estimates")
    order = np.lexsort((snapshot.base[every.partition] + every.row, estimates))
    keep = planned.asked.keep
    best, left = order[:keep], order[keep:]
    distances = every.distances[best]
    bounds = _bounds(parts, planned, len(every.row))
    counts = [kept.counts for kept in parts]
    ranked = Ranked(
        partition=every.partition[best],
        row=every.row[best],
        estimates=estimates[best],
        lower_bounds=bounds[best],
        admitted=sum(one.admitted for one in counts),
        low_scanned=sum(one.low_scanned for one in counts),
        ranked=sum(one.ranked for one in counts),
        pruned=sum(one.pruned for one in counts),
        least_left=min(
            float(bounds[left].min(initial=np.inf)), *(one.least_left for one in counts)
        ),
    )
    trace_ranked(trace, ranked, scannable=planned.mode == Mode.SCAN)
    read = sum(one.read for one in counts)
    trace.vectors_read += read
    trace.level("refine", len(best), read)
    if planned.asked.explain:
        trace.certified = is_certified(snapshot.view.metric, planned.asked.k, ranked, distances)
    measured = ~np.isnan(distances)
    return _Rows(ranked.partition[measured], ranked.row[measured], distances[measured])


def _bounds(parts: Sequence[Kept], planned: Planned, count: int) -> F32:
    """Return the lower bounds of all rows; where there are none, those that certify nothing."""
    bounds = [kept.lower_bounds for kept in parts if kept.lower_bounds is not None]
    if not planned.asked.explain or sum(map(len, bounds)) != count:
        return np.full(count, -np.inf, dtype=np.float32)
    return np.concatenate(bounds)


def _misfit(what: str) -> DataError:
    return DataError(
        f"a processor answered with {what}: all functions must be deployed from one release"
    )
