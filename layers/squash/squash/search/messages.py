"""Tasks and their answers as bytes.

What is read back is checked: whoever carries out a task can take every number in it for one that
its segments' rows allow, but for what only the segments tell: how many clusters they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from squash.arrays import I64, AnyArray, distinct
from squash.container import Container
from squash.index.names import is_prefix
from squash.index.references import object_from_json, object_to_json
from squash.kernels import BLOCK_ROWS, low_groups
from squash.limits import DIMENSION_MAX, TOP_K_MAX
from squash.model import Metric, ObjectRef, SegmentRef
from squash.planning import KEEP_MAX
from squash.search.tasks import (
    Admitted,
    Asked,
    Counts,
    Kept,
    Mode,
    Part,
    Rotated,
    Task,
    TaskAnswer,
    TaskQuery,
)
from squash.search.wire import (
    SPENT_WRITTEN_MAX,
    Reader,
    begins_of,
    below,
    chosen,
    delivery_bytes_max,
    flag,
    joined,
    message_bytes_max,
    open_message,
    read_deliveries,
    read_spent,
    reading,
    real,
    write_deliveries,
    write_message,
    write_spent,
)

TASK: Final = "squash-task"
TASK_ANSWER: Final = "squash-task-answer"

_ROWS_MAX: Final = 1 << 30  # of a segment: kernels count a cluster's in 32 bits
_BASE_MAX: Final = 1 << 48
_BYTES_MAX: Final = 1 << 40
_NUMBER_MAX: Final = 1 << 31

# How what is admitted of a part is written.
_ALL, _ROWS, _ROW_BITS, _WORDS, _WORD_PLACES = range(5)
_SPACES: Final = {"l2": "l2", "dot": "dot"}

_ROW_BYTES: Final = 4 + 4 + 8 + 4 + 4
_COUNTS: Final = ("admitted", "low_scanned", "ranked", "pruned", "read")


def write_task(task: Task) -> bytes:
    """Write a task; what it has in common is written once."""
    return write_message(TASK, _task_header(task), _task_arrays(task))


def task_bytes_max(task: Task) -> int:
    """Return how many bytes a task has at most, written."""
    queries, count = task.queries, len(task.queries)
    scans = sum(query.rotated is not None for query in queries)
    taken = sum(len(query.clusters) for query in queries)
    lists, admitted_lists = 8 * (count + 1), 8 * (len(task.admitted) + 1)
    words = sum(_words_max(task, one) for one in task.admitted)
    clusters = sum(len(one.clusters) for one in task.admitted if one.clusters is not None)
    of_queries = 4 * sum(len(query.admitted) for query in queries)
    arrays = [12 * len(task.admitted), admitted_lists, 4 * words, admitted_lists, 4 * clusters,
              16 * count, 4 * task.dimension * count, 8 * task.projected_dimension * scans,
              16 * low_groups(task.projected_dimension) * scans, 24 * scans, lists,
              of_queries, lists, 2 * taken, 4 * taken]  # fmt: skip
    return message_bytes_max(_task_header(task), arrays)


def _words_max(task: Task, admitted: Admitted) -> int:
    if admitted.words is not None:
        return len(admitted.words)
    rows = 0 if admitted.rows is None else len(admitted.rows)
    return min(rows, -(-task.parts[admitted.part].segment.rows // BLOCK_ROWS))


def task_answer_bytes_max(task: Task) -> int:
    """Return how many bytes the answer to a task has at most, written."""
    queries = task.queries
    rows = sum(_rows_max(query) for query in queries)
    delivered = sum(query.deliver for query in queries)
    searched = sum(len(query.admitted) for query in queries)
    lists = 8 * (len(queries) + 1)
    arrays = [16 * len(queries), lists, 4 * searched, lists, _ROW_BYTES * rows, 0, 0, 0, 0,
              lists, lists, 8 * (len(_COUNTS) + 1) * len(queries), 0]  # fmt: skip
    arrays += delivery_bytes_max(len(queries), delivered, task.documents_bytes_max)
    return message_bytes_max({"spent": ""}, arrays) + SPENT_WRITTEN_MAX


def _rows_max(query: TaskQuery) -> int:
    if query.mode != Mode.MEASURE:
        return query.asked.keep
    return query.asked.k


def split_task(task: Task, *, task_bytes: int, answer_bytes: int) -> list[Task]:
    """Split a task until each has at most so many bytes, and its answer too.

    By queries, and where there is only one, by partitions. One query of one partition stays whole.
    """
    count = len(task.queries)
    fits = task_bytes_max(task) <= task_bytes and task_answer_bytes_max(task) <= answer_bytes
    if fits or (count == 1 and len(task.parts) == 1):
        return [task]
    if count > 1:
        halves = [task.of_queries(part) for part in _halves(count)]
    else:
        halves = [task.of_parts(part) for part in _halves(len(task.parts))]
    return [
        part
        for half in halves
        for part in split_task(half, task_bytes=task_bytes, answer_bytes=answer_bytes)
    ]


def _halves(count: int) -> tuple[range, range]:
    return range(count // 2), range(count // 2, count)


def _task_header(task: Task) -> dict[str, Any]:
    return {
        "prefix": task.prefix,
        "metric": task.metric.value,
        "dimension": task.dimension,
        "space": task.space,
        "projected_dimension": task.projected_dimension,
        "codec": task.codec,
        "codec_version": task.codec_version,
        "trained": None if task.trained is None else object_to_json(task.trained),
        "parts": [
            [part.number, part.row_base, part.segment.id, part.segment.rows,
             {name: object_to_json(ref) for name, ref in part.segment.objects.items()}]
            for part in task.parts
        ],
        "asked": [
            [one.k, one.keep, one.low_keep, one.reach, one.share_min, one.include_metadata,
             one.include_vector, one.explain]
            for one in _distinct(task)
        ],
        "documents_bytes_max": task.documents_bytes_max,
    }  # fmt: skip


def _distinct(task: Task) -> list[Asked]:
    return list(dict.fromkeys(query.asked for query in task.queries))


def _task_arrays(task: Task) -> dict[str, AnyArray]:
    queries = task.queries
    asked = {one: place for place, one in enumerate(_distinct(task))}
    groups = low_groups(task.projected_dimension)
    rotated = [query.rotated for query in queries if query.rotated is not None]
    written = [_written(task, one) for one in task.admitted]
    clusters = [joined([] if one.clusters is None else [one.clusters], "<u4")
                for one in task.admitted]  # fmt: skip
    return {
        "admitted_of": np.array(
            [(one.part, form, count) for one, (form, count, _) in
             zip(task.admitted, written, strict=True)], dtype="<i4",
        ).reshape(-1, 3),
        "admitted_begins": begins_of([values for _, _, values in written]),
        "admitted": joined([values for _, _, values in written], "<u4"),
        "admitted_clusters_begins": begins_of(clusters),
        "admitted_clusters": joined(clusters, "<u4"),
        "queries": np.array(
            [(query.number, asked[query.asked], query.mode, query.deliver) for query in queries],
            dtype="<i4",
        ).reshape(-1, 4),
        "vectors": np.array([query.vector for query in queries], dtype="<f4").reshape(
            len(queries), task.dimension
        ),
        "projected": np.array([one.projected for one in rotated], dtype="<f8").reshape(
            len(rotated), task.projected_dimension
        ),
        "entries": np.array([one.entries for one in rotated], dtype="|u1").reshape(
            len(rotated), groups, 16
        ),
        "scalars": np.array(
            [(one.offset, one.step, one.base) for one in rotated], dtype="<f8"
        ).reshape(-1, 3),
        "query_admitted_begins": begins_of([query.admitted for query in queries]),
        "query_admitted": np.array([at for query in queries for at in query.admitted], "<u4"),
        "taken_begins": begins_of([query.clusters for query in queries]),
        "taken_parts": joined([query.parts for query in queries], "<u2"),
        "taken": joined([query.clusters for query in queries], "<u4"),
    }  # fmt: skip


def _written(task: Task, admitted: Admitted) -> tuple[int, int, AnyArray]:
    """Return in which form what is admitted is written, of how many words, and as what."""
    if admitted.words is not None:
        bits = np.unpackbits(admitted.words.astype("<u4").view(np.uint8), bitorder="little")
        places = np.flatnonzero(bits)
        few = len(places) < len(admitted.words)
        return (
            _WORD_PLACES if few else _WORDS,
            len(admitted.words),
            places if few else admitted.words,
        )
    if admitted.rows is None:
        return _ALL, 0, np.empty(0, np.uint32)
    count = -(-task.parts[admitted.part].segment.rows // BLOCK_ROWS)
    if len(admitted.rows) < count:
        return _ROWS, 0, admitted.rows
    bits = np.zeros(count * BLOCK_ROWS, dtype=np.uint8)
    bits[admitted.rows] = 1
    return _ROW_BITS, 0, np.packbits(bits, bitorder="little").view("<u4")


def read_task(data: bytes) -> Task:
    """Read a task.

    Raises
    ------
    DataError
        If it is none, or cannot be carried out.

    """
    with reading(TASK):
        return _read_task(open_message(data, TASK))


def _read_task(container: Container) -> Task:
    header = container.header
    reader = Reader(container)
    if not is_prefix(header["prefix"]):
        raise ValueError(f"{header['prefix']!r:.80} is no index's place")
    parts = tuple(_part(*one) for one in header["parts"])
    asked = [_asked(*one) for one in header["asked"]]
    dimension = chosen(header["dimension"], least=1, most=DIMENSION_MAX)
    projected = chosen(header["projected_dimension"], least=1, most=DIMENSION_MAX)
    admitted = _read_admitted(reader, parts)
    return Task(
        prefix=header["prefix"],
        metric=Metric(header["metric"]),
        dimension=dimension,
        space=_SPACES[header["space"]],  # type: ignore[arg-type]
        projected_dimension=projected,
        codec=str(header["codec"]),
        codec_version=chosen(header["codec_version"], least=1, most=_NUMBER_MAX),
        trained=None if header["trained"] is None else object_from_json(header["trained"]),
        parts=parts,
        admitted=admitted,
        queries=_read_queries(reader, parts, admitted, asked, (dimension, projected)),
        documents_bytes_max=chosen(header["documents_bytes_max"], least=0, most=_BYTES_MAX),
    )


def _part(number: Any, base: Any, segment: Any, rows: Any, objects: Mapping[str, Any]) -> Part:
    if not isinstance(segment, str):
        raise TypeError(f"{segment!r:.80} is no segment")
    refs: dict[str, ObjectRef] = {name: object_from_json(ref) for name, ref in objects.items()}
    rows = chosen(rows, least=0, most=_ROWS_MAX)
    return Part(
        chosen(number, least=0, most=_NUMBER_MAX),
        SegmentRef(segment, "partition", rows, 0, refs),
        chosen(base, least=0, most=_BASE_MAX),
    )


def _asked(*values: Any) -> Asked:
    k, keep, low_keep, reach, share_min, metadata, vector, explain = values
    return Asked(
        k=chosen(k, least=1, most=TOP_K_MAX),
        keep=chosen(keep, least=1, most=KEEP_MAX),
        low_keep=chosen(low_keep, least=0, most=_NUMBER_MAX),
        reach=real(reach),
        share_min=real(share_min),
        include_metadata=flag(metadata),
        include_vector=flag(vector),
        explain=flag(explain),
    )


def _read_admitted(reader: Reader, parts: Sequence[Part]) -> tuple[Admitted, ...]:
    described = reader.numbers("admitted_of", "<i4", None, 3, end=_NUMBER_MAX).tolist()
    count = len(described)
    values = reader.array("admitted", "<u4", None)
    clusters = reader.array("admitted_clusters", "<u4", None).astype(np.int64)
    admitted = []
    for (part, form, words), own, mine in zip(
        described,
        reader.lists("admitted", count, values),
        reader.lists("admitted_clusters", count, clusters),
        strict=True,
    ):
        rows = parts[part].segment.rows
        if form == _ALL:
            admitted.append(Admitted(part))
        elif form in {_WORDS, _WORD_PLACES}:
            below(mine, max(rows, 1), "clusters")
            if np.any(mine[1:] <= mine[:-1]):
                raise ValueError("clusters do not ascend")
            if words > -(-rows // BLOCK_ROWS) + len(mine):
                raise ValueError(f"{words} words of {rows} rows")
            bits = own if form == _WORDS else _packed(own, words)
            if len(bits) != words:
                raise ValueError(f"{len(bits)} words, not {words}")
            admitted.append(Admitted(part, clusters=mine, words=bits))
        else:
            admitted.append(Admitted(part, rows=_rows(form, own, rows)))
    return tuple(admitted)


def _rows(form: int, values: AnyArray, count: int) -> I64:
    if form == _ROWS:
        rows = below(values.astype(np.int64), count, "rows")
        if np.any(rows[1:] <= rows[:-1]):
            raise ValueError("rows do not ascend")
        return rows
    if form != _ROW_BITS or len(values) != -(-count // BLOCK_ROWS):
        raise ValueError(f"what is admitted has form {form} and {len(values)} words")
    bits = np.unpackbits(values.astype("<u4").view(np.uint8), count=count, bitorder="little")
    return np.flatnonzero(bits)


def _packed(places: AnyArray, words: int) -> AnyArray:
    wide = below(places.astype(np.int64), words * BLOCK_ROWS, "places")
    bits = np.zeros(words, dtype=np.uint32)
    one = np.left_shift(np.uint32(1), (wide % BLOCK_ROWS).astype(np.uint32))
    np.bitwise_or.at(bits, wide // BLOCK_ROWS, one)
    return bits


def _read_queries(
    reader: Reader,
    parts: Sequence[Part],
    admitted: Sequence[Admitted],
    asked: Sequence[Asked],
    dimensions: tuple[int, int],
) -> tuple[TaskQuery, ...]:
    described = reader.numbers("queries", "<i4", None, 4, end=_NUMBER_MAX).tolist()
    count = len(described)
    scans = sum(mode == Mode.SCAN for _, _, mode, _ in described)
    vectors = reader.finite("vectors", "<f4", count, dimensions[0])
    projected = reader.finite("projected", "<f8", scans, dimensions[1])
    entries = reader.array("entries", "|u1", scans, low_groups(dimensions[1]), 16)
    scalars = reader.finite("scalars", "<f8", scans, 3).tolist()
    of_part = reader.numbers("query_admitted", "<u4", None, end=len(admitted))
    every = reader.numbers("taken", "<u4", None, end=_ROWS_MAX)
    its_part = reader.numbers("taken_parts", "<u2", len(every), end=len(parts))
    begins = reader.begins("taken_begins", count, len(every))
    queries = []
    at = 0
    for place, ((number, which, mode, deliver), mine) in enumerate(
        zip(described, reader.lists("query_admitted", count, of_part), strict=True)
    ):
        taken = slice(begins[place], begins[place + 1])
        rotated = None
        if mode == Mode.SCAN:
            rotated = Rotated(projected[at], scalars[at][0], entries[at], *scalars[at][1:])
            at += 1
        query = TaskQuery(
            number=number,
            asked=asked[which],
            mode=Mode(mode),
            vector=vectors[place],
            rotated=rotated,
            admitted=tuple(mine.tolist()),
            parts=its_part[taken],
            clusters=every[taken],
            deliver=min(deliver, TOP_K_MAX),
        )
        _check_query(query, admitted)
        queries.append(query)
    if len({query.mode for query in queries if query.mode != Mode.MEASURE}) > 1:
        raise ValueError("some queries scan codes and others rank them: they are one codec's")
    return tuple(queries)


def _check_query(query: TaskQuery, admitted: Sequence[Admitted]) -> None:
    """Refuse a query whose parts are not each admitted once, or whose clusters are not each once.

    What is measured is admitted by rows, what is scanned or ranked by clusters.
    """
    parts = [admitted[at].part for at in query.admitted]
    if len(set(parts)) != len(parts) or not parts:
        raise ValueError("a query has a part twice, or none")
    if query.mode == Mode.MEASURE:
        if len(query.clusters) or any(admitted[at].words is not None for at in query.admitted):
            raise ValueError("a query measures clusters")
        return
    if set(query.parts.tolist()) != set(parts):
        raise ValueError("a query takes clusters of other parts than it has")
    if any(admitted[at].rows is not None for at in query.admitted):
        raise ValueError("a query scans rows")
    if len(distinct(query.parts * _ROWS_MAX + query.clusters)) != len(query.clusters):
        raise ValueError("a query takes a cluster twice")


def write_task_answer(answer: TaskAnswer, dimension: int) -> bytes:
    """Write the answer to a task; `dimension` is the vectors' d."""
    queries = answer.queries
    counts = np.array(
        [[getattr(kept.counts, name) for name in _COUNTS] for kept in queries], dtype="<i8"
    )
    arrays = {
        "queries": np.array([(kept.number, kept.mode) for kept in queries], "<i8").reshape(-1, 2),
        "searched_begins": begins_of([kept.searched for kept in queries]),
        "searched": joined([kept.searched for kept in queries], "<u4"),
        "rows_begins": begins_of([kept.row for kept in queries]),
        "partition": joined([kept.partition for kept in queries], "<u4"),
        "row": joined([kept.row for kept in queries], "<u4"),
        "distances": joined([kept.distances for kept in queries], "<f8"),
        "estimates_begins": begins_of([_or_none(kept.estimates) for kept in queries]),
        "estimates": joined([_or_none(kept.estimates) for kept in queries], "<f4"),
        "lower_bounds_begins": begins_of([_or_none(kept.lower_bounds) for kept in queries]),
        "lower_bounds": joined([_or_none(kept.lower_bounds) for kept in queries], "<f4"),
        "counts": counts.reshape(-1, len(_COUNTS)),
        "least_left": np.array([kept.counts.least_left for kept in queries], dtype="<f8"),
        **write_deliveries([kept.delivery for kept in queries], dimension),
    }
    return write_message(TASK_ANSWER, {"spent": write_spent(answer.spent)}, arrays)


def _or_none(values: AnyArray | None) -> AnyArray:
    return np.empty(0, dtype=np.float32) if values is None else values


def read_task_answer(data: bytes) -> TaskAnswer:
    """Read the answer to a task.

    Raises
    ------
    DataError
        If it is none.

    """
    with reading(TASK_ANSWER):
        return _read_task_answer(open_message(data, TASK_ANSWER))


def _read_task_answer(container: Container) -> TaskAnswer:
    reader = Reader(container)
    described = reader.numbers("queries", "<i8", None, 2, end=_NUMBER_MAX).tolist()
    count = len(described)
    searched = reader.array("searched", "<u4", None).astype(np.int64)
    rows = reader.array("row", "<u4", None).astype(np.int64)
    total = len(rows)
    partition = reader.array("partition", "<u4", total).astype(np.int64)
    distances = reader.array("distances", "<f8", total)
    row_lists = reader.lists("rows", count, rows)
    begins = reader.begins("rows_begins", count, total)
    deliveries = read_deliveries(reader, [len(one) for one in row_lists])
    counts = reader.array("counts", "<i8", count, len(_COUNTS)).tolist()
    least_left = reader.array("least_left", "<f8", count).tolist()
    estimates = reader.lists("estimates", count, reader.array("estimates", "<f4", None))
    bounds = reader.lists("lower_bounds", count, reader.array("lower_bounds", "<f4", None))
    kept = []
    for place, (own, named) in enumerate(
        zip(row_lists, reader.lists("searched", count, searched), strict=True)
    ):
        mine = slice(begins[place], begins[place + 1])
        number, mode = described[place]
        kept.append(
            Kept(
                number=number,
                mode=Mode(mode),
                searched=named,
                partition=partition[mine],
                row=own,
                distances=distances[mine],
                estimates=_fitting(estimates[place], len(own)) if mode else None,
                lower_bounds=_fitting(bounds[place], len(own)) if len(bounds[place]) else None,
                counts=Counts(
                    **dict(zip(_COUNTS, counts[place], strict=True)),
                    least_left=least_left[place],
                ),
                delivery=deliveries[place],
            )
        )
    return TaskAnswer(tuple(kept), read_spent(container.header["spent"]))


def _fitting(values: AnyArray, count: int) -> AnyArray:
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers of {count} rows")
    return values
