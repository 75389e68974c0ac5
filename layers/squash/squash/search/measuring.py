"""Exact distances of a task's rows: of ranked ones, and of all that is admitted.

A row may stay unmeasured where at least k rows before it, by (estimate, global row), are nearer
than its lower bound: the merge keeps a row only together with all that stand before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, distinct
from squash.index.prefetch import prefetch_heads, prefetch_vectors
from squash.kernels import Ranked
from squash.limits import LOT_BYTES_MAX
from squash.search.found import found_of, nearest
from squash.search.levels import as_code_distance, prefetch_finalists
from squash.search.slot import Held
from squash.search.task_work import Result, Work
from squash.search.tasks import Mode, Task, TaskQuery
from squash.segment.exact import nearest as nearest_rows


class _Vectors:
    """Vectors of rows by part: all, where they are at hand whole, or those that are wanted."""

    def __init__(self, work: Work, wanted: Mapping[int, Sequence[I64 | None]]) -> None:
        self._rows = {part: _joined_rows(lists) for part, lists in wanted.items()}
        by_page = [
            (work.readers[part], rows)
            for part, rows in self._rows.items()
            if rows is not None and not work.readers[part].holds_vectors()
        ]
        if len(by_page) > 1:
            prefetch_heads([reader for reader, _ in by_page])
            prefetch_vectors(by_page)
        self._vectors: dict[int, F32] = {}
        for part, rows in self._rows.items():
            reader = work.readers[part]
            if rows is None or reader.holds_vectors():
                self._rows[part] = None
                self._vectors[part] = reader.all_vectors()
            else:
                self._vectors[part] = reader.vectors(rows)

    def of(self, part: int, rows: I64 | None) -> tuple[F32, I64 | None]:
        """Return vectors, and the rows' places among them; None for all of them."""
        read = self._rows[part]
        places = rows if read is None or rows is None else np.searchsorted(read, rows)
        return self._vectors[part], places


def _joined_rows(lists: Sequence[I64 | None]) -> I64 | None:
    """Return the distinct rows of some lists; None if one is of all rows."""
    some = [rows for rows in lists if rows is not None]
    return distinct(np.concatenate(some)) if len(some) == len(lists) else None


def measured_at_hand(work: Work, held: Held, ranked: Mapping[int, Ranked]) -> dict[int, F64]:
    """Measure ranked rows in one call of the kernels, of each query whose vectors are all at hand.

    Returns
    -------
    float64 [m] of each such query, by its place; NaN of rows that need not be measured.

    """
    task = work.task
    parts = distinct(np.concatenate([one.partition for one in ranked.values()])).tolist()
    held, whole = work.slot.load_vectors(task, held, parts)
    distances: dict[int, F64] = {}
    for place, one in ranked.items():
        if whole[one.partition].all():
            query = task.queries[place]
            distances[place], _ = kernels.refine(
                task.metric.value,
                query.vector,
                held.table,
                held.numbers[one.partition],
                one.row,
                lower_bounds=one.lower_bounds,
                k=query.asked.k,
            )
    return distances


def refined(
    work: Work, ranked: Mapping[int, Ranked], at_hand: Mapping[int, F64]
) -> dict[int, Result]:
    """Measure the ranked rows that were not at hand; return what is found for all queries."""
    task = work.task
    by_pages = {place: one for place, one in ranked.items() if place not in at_hand}
    distances = {**at_hand, **_refined_by_pages(work, by_pages)}
    results = {}
    for place, one in ranked.items():
        found = distances[place]
        read = len(found) - int(np.count_nonzero(np.isnan(found)))
        query = task.queries[place]
        results[place] = Result(query, one, one.partition, one.row, found, read, read)
    return results


def _refined_by_pages(work: Work, ranked: Mapping[int, Ranked]) -> dict[int, F64]:
    """Measure ranked rows in two steps, as `kernels.refine` does, for all queries together."""
    task = work.task
    if len(ranked) == 1:
        # Of many queries the rounds are shared, and what is foretold of each would be much.
        (place,) = ranked
        query = task.queries[place]
        prefetch_finalists(
            work.readers, ranked[place], k=query.asked.k, documents=query.deliver > 0
        )
    distances = {place: np.full(len(one.row), np.nan) for place, one in ranked.items()}
    steps = {place: np.arange(_first_step(task, place, one)) for place, one in ranked.items()}
    for _ in range(2):
        wanted: dict[int, list[tuple[int, I64]]] = {}
        for place, reading in steps.items():
            part = ranked[place].partition[reading]
            for number in sorted(set(part.tolist())):
                wanted.setdefault(number, []).append((place, reading[part == number]))
        rows: dict[int, list[I64 | None]] = {
            number: [ranked[at].row[mine] for at, mine in every] for number, every in wanted.items()
        }
        for group in _read_together(work, rows):
            vectors = _Vectors(work, {number: rows[number] for number in group})
            for number in group:
                for place, mine in wanted[number]:
                    found, places = vectors.of(number, ranked[place].row[mine])
                    distances[place][mine] = kernels.exact_distances(
                        task.metric.value, task.queries[place].vector, found, places
                    )
        following = {}
        for place in steps:
            rest = _second_step(task, task.queries[place], ranked[place], distances[place])
            if len(rest):
                following[place] = rest
        steps = following
    return distances


def _read_together(work: Work, wanted: Mapping[int, Sequence[I64 | None]]) -> Iterator[list[int]]:
    """Yield parts in groups, of which each one's vectors of these rows can be held in memory."""
    group: list[int] = []
    size = 0
    for part in sorted(wanted):
        more = work.readers[part].vectors_bytes(_joined_rows(wanted[part]))
        if group and size + more > LOT_BYTES_MAX:
            work.slot.let_go()
            yield group
            group, size = [], 0
        group.append(part)
        size += more
    if group:
        work.slot.let_go()
        yield group


def _first_step(task: Task, place: int, ranked: Ranked) -> int:
    k = task.queries[place].asked.k
    return min(len(ranked.row), k + k // 2)


def _second_step(task: Task, query: TaskQuery, ranked: Ranked, distances: F64) -> I64:
    """Return what is not measured yet and may be nearer than the k-th of what is."""
    unread = np.flatnonzero(np.isnan(distances))
    k = query.asked.k
    if not len(unread):
        return unread
    worst = float(np.partition(distances[: unread[0]], k - 1)[k - 1])
    return unread[ranked.lower_bounds[unread] <= as_code_distance(task.metric, worst)]


def measured(work: Work) -> dict[int, Result]:
    """Measure all that is admitted, for the queries that ask for it."""
    task = work.task
    asked = {
        place: [task.admitted[at] for at in query.admitted]
        for place, query in enumerate(task.queries)
        if query.mode == Mode.MEASURE
    }
    wanted: dict[int, list[tuple[int, I64 | None]]] = {}
    for place, every in asked.items():
        for one in every:
            wanted.setdefault(one.part, []).append((place, one.rows))
    rows = {part: [some for _, some in lists] for part, lists in wanted.items()}
    found: dict[int, list[_Near]] = {place: [] for place in asked}
    for group in _read_together(work, rows):
        vectors = _Vectors(work, {part: rows[part] for part in group})
        for part in group:
            for place, some in wanted[part]:
                found[place].append(
                    _nearest_of_part(work, task.queries[place], part, some, vectors)
                )
    return {
        place: _nearest_admitted(work, task.queries[place], near) for place, near in found.items()
    }


class _Near(NamedTuple):
    """The nearest rows of a part: `part` and `rows` int64 [m], and how many were measured."""

    part: I64
    rows: I64
    distances: F64
    read: int


def _nearest_of_part(
    work: Work, query: TaskQuery, part: int, admitted: I64 | None, vectors: _Vectors
) -> _Near:
    """Find the k nearest of the rows of one part that are admitted, and what ties with them."""
    near, places = vectors.of(part, admitted)
    rows, distances = nearest_rows(
        work.task.metric, query.vector, near, rows=places, k=query.asked.k
    )
    read = len(near) if places is None else len(places)
    if admitted is not None and places is not None and places is not admitted:
        rows = admitted[np.searchsorted(places, rows)]
    return _Near(np.full(len(rows), part), rows, distances, read)


def _nearest_admitted(work: Work, query: TaskQuery, found: Sequence[_Near]) -> Result:
    """Find the k nearest of all rows admitted, ties by key."""
    owners, rows, distances, read = zip(*found, strict=True)
    joined = found_of(
        work.readers, np.concatenate(owners), np.concatenate(rows), np.concatenate(distances)
    )
    best = nearest([joined], query.asked.k)
    return Result(
        query,
        None,
        np.array(best.owner, dtype=np.int64),
        np.array(best.rows, dtype=np.int64),
        np.array(best.distances, dtype=np.float64),
        len(best.rows),
        sum(read),
    )
