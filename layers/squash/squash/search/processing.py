"""What a processor does with a task: scan or rank codes, measure, and deliver what is nearest.

What it returns is a function of the task alone, whatever it has kept from earlier calls. Of ranked
rows it returns its own `keep` best: the best of all processors' are then the best of all rows.

A row may stay unmeasured where at least k rows before it, by (estimate, global row), are nearer
than its lower bound: the merge keeps a row only together with all that stand before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Protocol

import numpy as np

from squash import kernels
from squash.arrays import F32, F64, I64, U32, Mask, distinct
from squash.errors import DataError
from squash.index.prefetch import prefetch_heads, prefetch_vectors
from squash.index.reader import SegmentReader
from squash.kernels import PreparedQuery, Ranked
from squash.limits import JOINT_READ_BYTES_MAX
from squash.model import Metric
from squash.quantize import Codec
from squash.search.delivering import Wanted, deliver
from squash.search.found import found_of, nearest
from squash.search.levels import as_code_distance, best_of, prefetch_finalists
from squash.search.slot import Held
from squash.search.tasks import Admitted, Counts, Delivery, Kept, Mode, Task, TaskAnswer, TaskQuery
from squash.segment.exact import nearest as nearest_rows
from squash.segment.exact import unit_rows
from squash.segment.partition import Candidates
from squash.values import dataclass

_NO_DISTANCES = np.empty(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """What was found for a query, by part of the task."""

    query: TaskQuery
    ranked: Ranked | None
    """In the modes SCAN and RANK, with the parts for partitions."""
    part: I64
    row: I64
    distances: F64
    measured: int
    """How many distances are numbers: rows in the modes SCAN and RANK whose vectors were read."""
    read: int


class Slots(Protocol):
    """What a process has of an index's partitions: see `Slot`."""

    def readers(self, task: Task) -> list[SegmentReader]:
        """Return the readers of all parts' segments."""
        ...

    def trained_codec(self, task: Task) -> Codec:
        """Return the codec that a task names."""
        ...

    def hold(self, task: Task, parts: Sequence[int]) -> Held:
        """Return a table that has some of a task's parts, at least."""
        ...

    def holds_codes(self, task: Task, held: Held, parts: Sequence[int]) -> bool:
        """Tell whether a table has the codes of all clusters of some parts."""
        ...

    def load_codes(self, task: Task, held: Held, wanted: Mapping[int, I64]) -> Held:
        """Load the codes of some clusters by part; return a table that has them."""
        ...

    def load_vectors(self, task: Task, held: Held, parts: Sequence[int]) -> tuple[Held, Mask]:
        """Put in the vectors of parts that are at hand whole; tell of which parts they are."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """A task, and the readers of its parts' segments."""

    task: Task
    slot: Slots
    readers: Sequence[SegmentReader]
    numbers: I64
    """int64 [p], the parts' numbers in the snapshot."""


def process(task: Task, slot: Slots) -> TaskAnswer:
    """Carry out a task.

    Parameters
    ----------
    task:
        What is asked.
    slot:
        What this processor keeps of the task's index.

    Raises
    ------
    DataError
        If an object is damaged, or the task does not fit its segments.

    """
    numbers = np.array([part.number for part in task.parts], dtype=np.int64)
    work = _Work(task, slot, slot.readers(task), numbers)
    results = _found_by_codes(work) | _measured(work)
    ordered = [results[place] for place in range(len(task.queries))]
    wanted = [_wanted(work, one) for one in ordered]
    deliveries = deliver(wanted, dimension=task.dimension, bytes_max=task.documents_bytes_max)
    return TaskAnswer(tuple(_kept(work, *pair) for pair in zip(ordered, deliveries, strict=True)))


def _wanted(work: _Work, result: _Result) -> Wanted:
    query, asked = result.query, result.query.asked
    order = np.argsort(result.distances, kind="stable")  # NaN sorts last
    near = order[: min(query.deliver, result.measured)]
    return Wanted(
        work.readers,
        near,
        result.part[near].tolist(),
        result.row[near].tolist(),
        asked.include_metadata,
        asked.include_vector,
    )


def _kept(work: _Work, result: _Result, delivery: Delivery) -> Kept:
    task = work.task
    numbers = work.numbers
    searched = numbers[[task.admitted[at].part for at in result.query.admitted]]
    ranked = result.ranked
    counts = Counts(read=result.read)
    if ranked is not None:
        counts = Counts(
            admitted=ranked.admitted,
            low_scanned=ranked.low_scanned,
            ranked=ranked.ranked,
            pruned=ranked.pruned,
            read=result.read,
            least_left=ranked.least_left,
        )
    explained = ranked is not None and result.query.asked.explain
    return Kept(
        number=result.query.number,
        mode=result.query.mode,
        searched=searched,
        partition=numbers[result.part],
        row=result.row,
        distances=result.distances,
        estimates=None if ranked is None else ranked.estimates,
        lower_bounds=ranked.lower_bounds if ranked is not None and explained else None,
        counts=counts,
        delivery=delivery,
    )


# Codes


def _found_by_codes(work: _Work) -> dict[int, _Result]:
    """Rank and refine the rows of all queries that ask for it; by their places."""
    task, slot = work.task, work.slot
    asked = [
        (place, query) for place, query in enumerate(task.queries) if query.mode != Mode.MEASURE
    ]
    if not asked:
        return {}
    parts = sorted({task.admitted[at].part for _, query in asked for at in query.admitted})
    held = slot.hold(task, parts)
    if asked[0][1].mode == Mode.SCAN and not slot.holds_codes(task, held, parts):
        wanted = _clusters_by_part(query for _, query in asked)
        for part, clusters in wanted.items():
            # Before they are looked for: a task may name some that its segment does not have.
            held.clusters(np.full(len(clusters), part), clusters, "a query")
        held = slot.load_codes(task, held, wanted)
    place_of = np.zeros(len(held.table.blocks), dtype=np.int64)
    place_of[held.numbers[parts]] = parts
    found: dict[int, Ranked] = {}
    for admitted, group in groupby(
        sorted(asked, key=lambda one: one[1].admitted), key=lambda one: one[1].admitted
    ):
        possible = _bitmap(task, held, [task.admitted[at] for at in admitted])
        for place, query in group:
            if query.mode == Mode.RANK:
                found[place] = _rank(work, query, held, possible)
            else:
                ranked = _scan(query, held, possible)
                found[place] = replace(ranked, partition=place_of[ranked.partition])
    return _refined(work, held, found)


def _clusters_by_part(queries: Iterable[TaskQuery]) -> dict[int, I64]:
    queries = list(queries)
    parts = np.concatenate([query.parts for query in queries])
    clusters = np.concatenate([query.clusters for query in queries])
    return {part: distinct(clusters[parts == part]) for part in distinct(parts).tolist()}


def _bitmap(task: Task, held: Held, admitted: Sequence[Admitted]) -> U32 | None:
    """Return a bitmap over the table's blocks; None for all rows."""
    if all(one.words is None for one in admitted):
        return None
    alive = held.table.alive
    possible = np.zeros(len(alive), dtype=np.uint32)
    for one in admitted:
        if one.words is None or one.clusters is None:
            every = held.all_blocks(one.part)
            possible[every] = alive[every]
            continue
        where = f"what is admitted of segment {task.parts[one.part].segment.id}"
        parts = np.full(len(one.clusters), one.part)
        blocks = held.blocks(held.clusters(parts, one.clusters, where))
        if len(blocks) != len(one.words):
            raise DataError(f"{where} does not fit the rows of its clusters")
        # A bit beyond a cluster's rows would be a row of another one, or none.
        possible[blocks] = one.words & alive[blocks]
    return possible


def _scan(query: TaskQuery, held: Held, possible: U32 | None) -> Ranked:
    rotated, asked = query.rotated, query.asked
    if rotated is None:
        raise DataError("a task wants clusters scanned, and does not bring the query rotated")
    prepared = PreparedQuery(
        rotated.projected,
        rotated.offset,
        rotated.entries,
        rotated.step,
        rotated.base,
        _NO_DISTANCES,
    )
    return kernels.scan(
        held.table,
        held.clusters(query.parts, query.clusters, "a query"),
        possible,
        prepared,
        keep=asked.keep,
        reach=asked.reach,
        share_min=asked.share_min,
        bounds=asked.explain,
    )


def _rank(work: _Work, query: TaskQuery, held: Held, possible: U32 | None) -> Ranked:
    """Rank by a codec whose codes the kernels don't scan, part by part."""
    task = work.task
    codec = work.slot.trained_codec(task)
    vector = query.vector
    if task.metric is Metric.COSINE:
        vector = unit_rows(vector[None, :])[0]
    prepared = codec.prepare(vector)
    found: list[tuple[int, Candidates]] = []
    for part in distinct(query.parts).tolist():
        mine = query.clusters[query.parts == part]
        clusters = held.clusters(np.full(len(mine), part), mine, "a query")
        admitted = None
        if possible is not None:
            _, rows = kernels.gather_rows(held.table, clusters, possible)
            admitted = np.zeros(task.parts[part].segment.rows, dtype=np.bool_)
            admitted[rows] = True
        candidates = (
            work.readers[part]
            .partition(codec)
            .search(prepared, clusters=mine, admitted=admitted, low_keep=query.asked.low_keep)
        )
        found.append((part, candidates))
    base = np.array([part.row_base for part in task.parts], dtype=np.int64)
    return best_of(found, base, query.asked.keep)


# Vectors


class _Vectors:
    """Vectors of rows by part: all, where they are at hand whole, or those that are wanted."""

    def __init__(self, work: _Work, wanted: Mapping[int, Sequence[I64 | None]]) -> None:
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


def _refined(work: _Work, held: Held, ranked: Mapping[int, Ranked]) -> dict[int, _Result]:
    """Measure ranked rows: in one call of the kernels each where all vectors are at hand."""
    task = work.task
    parts = distinct(np.concatenate([one.partition for one in ranked.values()])).tolist()
    held, whole = work.slot.load_vectors(task, held, parts)
    distances: dict[int, F64] = {}
    by_pages: dict[int, Ranked] = {}
    for place, one in ranked.items():
        if not whole[one.partition].all():
            by_pages[place] = one
            continue
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
    distances |= _refined_by_pages(work, by_pages)
    results = {}
    for place, one in ranked.items():
        found = distances[place]
        read = len(found) - int(np.count_nonzero(np.isnan(found)))
        query = task.queries[place]
        results[place] = _Result(query, one, one.partition, one.row, found, read, read)
    return results


def _refined_by_pages(work: _Work, ranked: Mapping[int, Ranked]) -> dict[int, F64]:
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
        for group in _read_together(work, wanted):
            vectors = _Vectors(
                work,
                {number: [ranked[at].row[mine] for at, mine in wanted[number]] for number in group},
            )
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


def _read_together(work: _Work, wanted: Iterable[int]) -> Iterator[list[int]]:
    """Yield parts in groups, of which each can be held in memory even if it is read whole."""
    group: list[int] = []
    size = 0
    for part in sorted(wanted):
        more = work.readers[part].vectors_bytes
        if group and size + more > JOINT_READ_BYTES_MAX:
            yield group
            group, size = [], 0
        group.append(part)
        size += more
    if group:
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


def _measured(work: _Work) -> dict[int, _Result]:
    """Measure all that is admitted, for the queries that ask for it."""
    task = work.task
    asked = {
        place: [task.admitted[at] for at in query.admitted]
        for place, query in enumerate(task.queries)
        if query.mode == Mode.MEASURE
    }
    wanted: dict[int, list[I64 | None]] = {}
    for every in asked.values():
        for one in every:
            wanted.setdefault(one.part, []).append(one.rows)
    vectors = _Vectors(work, wanted)
    return {
        place: _nearest_admitted(work, task.queries[place], every, vectors)
        for place, every in asked.items()
    }


def _nearest_admitted(
    work: _Work, query: TaskQuery, admitted: Sequence[Admitted], vectors: _Vectors
) -> _Result:
    """Find the k nearest of all rows admitted, ties by key."""
    found = []
    read = 0
    for one in admitted:
        near, places = vectors.of(one.part, one.rows)
        rows, distances = nearest_rows(
            work.task.metric, query.vector, near, rows=places, k=query.asked.k
        )
        read += len(near) if places is None else len(places)
        if one.rows is not None and places is not None and places is not one.rows:
            rows = one.rows[np.searchsorted(places, rows)]
        found.append((np.full(len(rows), one.part), rows, distances))
    owners, rows, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    joined = found_of(work.readers, owners, rows, distances)
    best = nearest([joined], query.asked.k)
    return _Result(
        query,
        None,
        np.array(best.owner, dtype=np.int64),
        np.array(best.rows, dtype=np.int64),
        np.array(best.distances, dtype=np.float64),
        len(best.rows),
        read,
    )
