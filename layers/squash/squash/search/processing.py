"""What a processor does with a task: scan or rank codes, measure, and deliver what is nearest.

What it returns is a function of the task alone, whatever it has kept from earlier calls. Of ranked
rows it returns its own `keep` best: the best of all processors' are then the best of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeAlias

import numpy as np

from squash import kernels
from squash.arrays import F64, I64, U32, distinct
from squash.errors import DataError
from squash.kernels import PreparedQuery, Ranked
from squash.limits import LOT_BYTES_MAX
from squash.model import Metric
from squash.search.delivering import Wanted, deliver
from squash.search.levels import best_of
from squash.search.measuring import measured, measured_at_hand, refined
from squash.search.slot import Held
from squash.search.task_work import Result, Slots, Work
from squash.search.tasks import Admitted, Counts, Delivery, Kept, Mode, Task, TaskAnswer, TaskQuery
from squash.segment.exact import unit_rows
from squash.segment.partition import Candidates

_NO_DISTANCES = np.empty(0, dtype=np.float32)


_Asked: TypeAlias = tuple[int, TaskQuery]
"""A query of a task, and its place there."""


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
    work = Work(task, slot, slot.readers(task), numbers)
    results = _found_by_codes(work) | measured(work)
    ordered = [results[place] for place in range(len(task.queries))]
    wanted = [_wanted(work, one) for one in ordered]
    deliveries = deliver(wanted, dimension=task.dimension, bytes_max=task.documents_bytes_max)
    return TaskAnswer(tuple(_kept(work, *pair) for pair in zip(ordered, deliveries, strict=True)))


def _wanted(work: Work, result: Result) -> Wanted:
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


def _kept(work: Work, result: Result, delivery: Delivery) -> Kept:
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


def _found_by_codes(work: Work) -> dict[int, Result]:
    """Rank and refine the rows of all queries that ask for it; by their places."""
    asked = [
        (place, query)
        for place, query in enumerate(work.task.queries)
        if query.mode != Mode.MEASURE
    ]
    if not asked:
        return {}
    ranked, distances = _ranked_at_hand(work, asked)
    # No table is held here any more: what is read now may need the room.
    return refined(work, ranked, distances)


def _ranked_at_hand(work: Work, asked: list[_Asked]) -> tuple[dict[int, Ranked], dict[int, F64]]:
    """Rank the rows of queries, and measure those whose vectors are at hand; by their places."""
    task, slot = work.task, work.slot
    parts = sorted({task.admitted[at].part for _, query in asked for at in query.admitted})
    held = slot.hold(task, parts)
    at_hand = asked[0][1].mode == Mode.RANK or slot.holds_codes(task, held, parts)
    lots = [asked] if at_hand else _lots(work, held, asked)
    ranked: dict[int, Ranked] = {}
    for number, lot in enumerate(lots):
        if number:
            held = slot.hold(task, parts)  # without what the lot before had to be let go for
        if not at_hand:
            held = slot.load_codes(task, held, _clusters_by_part(query for _, query in lot))
        ranked |= _ranked(work, held, parts, lot)
    return ranked, measured_at_hand(work, held, ranked)


def _lots(work: Work, held: Held, asked: Sequence[_Asked]) -> list[list[_Asked]]:
    """Part queries into lots of which each one's codes can be held in memory."""
    table = held.table
    row_bytes = np.zeros(len(table.blocks))
    for part, reader in enumerate(work.readers):
        if (number := held.numbers[part]) >= 0:
            row_bytes[number] = reader.codes_bytes() / max(reader.ref.rows, 1)
    cluster_bytes = table.rows * row_bytes[table.partition]
    wanted = np.zeros(len(cluster_bytes), dtype=np.bool_)
    lots: list[list[_Asked]] = [[]]
    size = 0.0
    for place, query in asked:
        # Looked at before they are read: a task may name some that its segment does not have.
        mine = held.clusters(query.parts, query.clusters, "a query")
        more = float(cluster_bytes[mine[~wanted[mine]]].sum())
        if lots[-1] and size + more > LOT_BYTES_MAX:
            lots.append([])
            wanted[:] = False
            size, more = 0.0, float(cluster_bytes[mine].sum())
        wanted[mine] = True
        size += more
        lots[-1].append((place, query))
    return lots


def _ranked(
    work: Work, held: Held, parts: Sequence[int], lot: Sequence[_Asked]
) -> dict[int, Ranked]:
    """Rank the rows of some queries by their codes; by their places."""
    task = work.task
    place_of = np.zeros(len(held.table.blocks), dtype=np.int64)
    place_of[held.numbers[parts]] = parts
    found: dict[int, Ranked] = {}
    for admitted, group in groupby(
        sorted(lot, key=lambda one: one[1].admitted), key=lambda one: one[1].admitted
    ):
        possible = _bitmap(task, held, [task.admitted[at] for at in admitted])
        for place, query in group:
            if query.mode == Mode.RANK:
                found[place] = _rank(work, query, held, possible)
            else:
                ranked = _scan(query, held, possible)
                found[place] = replace(ranked, partition=place_of[ranked.partition])
    return found


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


def _rank(work: Work, query: TaskQuery, held: Held, possible: U32 | None) -> Ranked:
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
