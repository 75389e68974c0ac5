"""What a coordinator asks of an allocator and what it gets back: values, and their bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

import numpy as np

from squash.arrays import F64, I64, AnyArray
from squash.attributes import FilterNode, filter_from_json, filter_to_json
from squash.container import Container
from squash.errors import DataError
from squash.index.entries import Entry, entry_from_text, entry_to_text
from squash.limits import QUERIES_PER_CALL_MAX, TASK_DOCUMENTS_BYTES_MAX, TOP_K_MAX
from squash.search.delivering import Delivered, Wanted, deliver, found_delivered
from squash.search.found import Found, Query, nearest
from squash.search.index_view import IndexView
from squash.search.tasks import Delivery
from squash.search.trace import Trace
from squash.search.wire import (
    SPENT_WRITTEN_MAX,
    Reader,
    begins_of,
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
from squash.values import dataclass

REQUEST: Final = "squash-allocate"
REQUEST_ANSWER: Final = "squash-allocate-answer"

_NUMBER_MAX: Final = 1 << 62
_ROW_BYTES: Final = 4 + 4 + 8
# Written, a trace's numbers and names but for its levels, and each of those.
_TRACE_BYTES: Final = 512
_LEVEL_BYTES: Final = 72
_LEVELS: Final = 8
_LEVELS_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Queries on one snapshot of an index.

    Parameters
    ----------
    entry:
        The index.
    snapshot:
        The commit after which to read it.
    queries:
        What is asked; one filter that several have should be one object.
    documents_bytes_max:
        How many bytes of keys, metadata and vectors the answer may hold.

    """

    entry: Entry
    snapshot: int
    queries: tuple[Query, ...]
    documents_bytes_max: int = TASK_DOCUMENTS_BYTES_MAX

    def of_queries(self, places: Sequence[int]) -> Request:
        """Return the request of some of its queries."""
        return replace(self, queries=tuple(self.queries[place] for place in places))


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest rows of all partitions for one query, ascending by distance and key.

    Rows are int64 [m] and the snapshot's numbers of their partitions, `distances` float64 [m].
    """

    partition: I64
    row: I64
    distances: F64
    delivery: Delivery
    trace: Trace


@dataclass(frozen=True, slots=True, eq=False)
class RequestAnswer:
    """The answer to a request: of each query, in its order; `spent` is as in `TaskAnswer`."""

    snapshot: int
    queries: tuple[Nearest, ...]
    spent: Mapping[str, float] = field(default_factory=dict)


def answer_request(
    request: Request, view: IndexView, gathered: Sequence[tuple[Found, Trace]]
) -> RequestAnswer:
    """Make the answer of what was gathered for a request; read what is to be delivered yet.

    Parameters
    ----------
    request:
        What was asked.
    view:
        The snapshot.
    gathered:
        What `gather` gave for each query.

    """
    best = [
        nearest([found], query.k)
        for query, (found, _) in zip(request.queries, gathered, strict=True)
    ]
    wanted = [
        Wanted(
            found.sources,
            np.arange(len(found.rows)),
            found.owner,
            found.rows,
            query.include_metadata,
            query.include_vector,
        )
        for query, found in zip(request.queries, best, strict=True)
    ]
    deliveries = deliver(wanted, dimension=view.dimension, bytes_max=request.documents_bytes_max)
    return RequestAnswer(
        view.snapshot,
        tuple(
            Nearest(
                partition=_numbers(view, found),
                row=np.array(found.rows, dtype=np.int64),
                distances=np.array(found.distances, dtype=np.float64),
                delivery=delivery,
                trace=trace,
            )
            for found, delivery, (_, trace) in zip(best, deliveries, gathered, strict=True)
        ),
    )


def _numbers(view: IndexView, found: Found) -> I64:
    """Return the numbers of the partitions that rows found are of."""
    numbers = {id(partition): number for number, partition in enumerate(view.partitions)}
    behind = [
        numbers[id(source.behind if isinstance(source, Delivered) else source)]
        for source in found.sources
    ]
    return np.array([behind[owner] for owner in found.owner], dtype=np.int64)


def found_answered(view: IndexView, answer: RequestAnswer) -> list[tuple[Found, Trace]]:
    """Return of each query what an allocator found, with what it delivered at hand.

    Raises
    ------
    DataError
        If the answer is of another snapshot, or names rows that there are not.

    """
    if answer.snapshot != view.snapshot:
        raise DataError(f"snapshot {answer.snapshot} was searched, not {view.snapshot}")
    counts = np.array([one.count for one in view.partitions], dtype=np.int64)
    for one in answer.queries:
        if np.any(one.partition >= len(counts)) or np.any(one.row >= counts[one.partition]):
            raise DataError("an allocator answered with rows that there are not")
    return [
        (
            found_delivered(
                view.partitions,
                (one.partition, one.row, one.distances),
                [(one.partition, one.row, one.delivery)],
            ),
            one.trace,
        )
        for one in answer.queries
    ]


# Requests as bytes


def write_request(request: Request) -> bytes:
    """Write a request; what queries have in common is written once."""
    nodes, asked, of_query = _shared(request)
    arrays: dict[str, AnyArray] = {
        "queries": np.array(of_query, dtype="<i4").reshape(-1, 2),
        "vectors": np.array([query.vector for query in request.queries], dtype="<f4").reshape(
            len(request.queries), request.entry.config.dimension
        ),
    }
    return write_message(REQUEST, _request_header(request, nodes, asked), arrays)


def request_bytes_max(request: Request) -> int:
    """Return how many bytes a request has at most, written."""
    nodes, asked, _ = _shared(request)
    count = len(request.queries)
    arrays = [8 * count, 4 * request.entry.config.dimension * count]
    return message_bytes_max(_request_header(request, nodes, asked), arrays)


def request_answer_bytes_max(request: Request, *, partitions: int) -> int:
    """Return how many bytes the answer to a request has at most, of so many partitions."""
    queries = request.queries
    rows = sum(query.k for query in queries)
    lists = 8 * (len(queries) + 1)
    levels = sum(_LEVELS + partitions * query.exact for query in queries)
    traces = _TRACE_BYTES * len(queries) + _LEVEL_BYTES * levels
    arrays = [lists, _ROW_BYTES * rows, 0, 0, lists, traces]
    arrays += delivery_bytes_max(len(queries), rows, request.documents_bytes_max)
    return message_bytes_max({"snapshot": _NUMBER_MAX, "spent": ""}, arrays) + SPENT_WRITTEN_MAX


_Asked = tuple[int, float, bool, bool, bool, bool]


def _shared(
    request: Request,
) -> tuple[list[FilterNode], list[_Asked], list[tuple[int, int]]]:
    """Return filters and what else is asked, each once, and of each query which; -1 is none."""
    nodes: dict[int, tuple[int, FilterNode]] = {}
    asked: dict[_Asked, int] = {}
    of_query = []
    for query in request.queries:
        key = (query.k, query.recall_target, query.exact, query.include_metadata,
               query.include_vector, query.explain)  # fmt: skip
        which = asked.setdefault(key, len(asked))
        filtered = -1
        if query.node is not None:
            filtered = nodes.setdefault(id(query.node), (len(nodes), query.node))[0]
        of_query.append((which, filtered))
    return [node for _, node in nodes.values()], list(asked), of_query


def _request_header(
    request: Request, nodes: Sequence[FilterNode], asked: Sequence[_Asked]
) -> dict[str, Any]:
    return {
        "index": request.entry.config.name,
        "entry": entry_to_text(request.entry),
        "snapshot": request.snapshot,
        "filters": [filter_to_json(node) for node in nodes],
        "asked": [list(one) for one in asked],
        "documents_bytes_max": request.documents_bytes_max,
    }


def read_request(data: bytes) -> Request:
    """Read a request.

    Raises
    ------
    DataError
        If it is none.

    """
    with reading(REQUEST):
        return _read_request(open_message(data, REQUEST))


def _read_request(container: Container) -> Request:
    header, reader = container.header, Reader(container)
    entry = entry_from_text(header["entry"], header["index"])
    nodes = [filter_from_json(node) for node in header["filters"]]
    asked = [_asked(*one) for one in header["asked"]]
    of_query = reader.array("queries", "<i4", None, 2).tolist()
    if len(of_query) > QUERIES_PER_CALL_MAX:
        raise ValueError(f"{len(of_query)} queries in one request")
    vectors = reader.finite("vectors", "<f4", len(of_query), entry.config.dimension)
    queries = []
    for place, (which, filtered) in enumerate(of_query):
        chosen(which, least=0, most=len(asked) - 1)
        chosen(filtered, least=-1, most=len(nodes) - 1)
        node = None if filtered < 0 else nodes[filtered]
        queries.append(asked[which].of(vectors[place], node))
    return Request(
        entry=entry,
        snapshot=chosen(header["snapshot"], least=0, most=_NUMBER_MAX),
        queries=tuple(queries),
        documents_bytes_max=chosen(header["documents_bytes_max"], least=0, most=_NUMBER_MAX),
    )


def _asked(*values: Any) -> Query:
    k, recall, exact, metadata, vector, explain = values
    recall_target = real(recall)
    if not 0.0 < recall_target <= 1.0:
        raise ValueError(f"recall_target {recall_target}")
    return Query(
        vector=np.empty(0, dtype=np.float32),
        k=chosen(k, least=1, most=TOP_K_MAX),
        recall_target=recall_target,
        exact=flag(exact),
        include_metadata=flag(metadata),
        include_vector=flag(vector),
        explain=flag(explain),
    )


# Answers as bytes


def write_request_answer(answer: RequestAnswer, dimension: int) -> bytes:
    """Write the answer to a request; `dimension` is the vectors' d."""
    queries = answer.queries
    traces = [_trace_to_json(one.trace) for one in queries]
    arrays: dict[str, AnyArray] = {
        "rows_begins": begins_of([one.row for one in queries]),
        "partition": joined([one.partition for one in queries], "<u4"),
        "row": joined([one.row for one in queries], "<u4"),
        "distances": joined([one.distances for one in queries], "<f8"),
        "traces_begins": begins_of(traces),
        "traces": np.frombuffer(b"".join(traces), dtype=np.uint8),
        **write_deliveries([one.delivery for one in queries], dimension),
    }
    header = {"snapshot": answer.snapshot, "spent": write_spent(answer.spent)}
    return write_message(REQUEST_ANSWER, header, arrays)


def read_request_answer(data: bytes) -> RequestAnswer:
    """Read the answer to a request.

    Raises
    ------
    DataError
        If it is none.

    """
    with reading(REQUEST_ANSWER):
        container = open_message(data, REQUEST_ANSWER)
        header, reader = container.header, Reader(container)
        count = len(reader.array("rows_begins", "<i8", None)) - 1
        rows = reader.array("row", "<u4", None).astype(np.int64)
        partition = reader.array("partition", "<u4", len(rows)).astype(np.int64)
        distances = reader.array("distances", "<f8", len(rows))
        lists = reader.lists("rows", count, rows)
        deliveries = read_deliveries(reader, [len(one) for one in lists])
        traces = reader.lists("traces", count, reader.array("traces", "|u1", None))
        begins = reader.begins("rows_begins", count, len(rows))
        found = []
        for place, (own, delivery, trace) in enumerate(zip(lists, deliveries, traces, strict=True)):
            mine = slice(begins[place], begins[place + 1])
            read = _trace_from_json(trace.tobytes())
            found.append(Nearest(partition[mine], own, distances[mine], delivery, read))
        return RequestAnswer(
            chosen(header["snapshot"], least=0, most=_NUMBER_MAX),
            tuple(found),
            read_spent(header["spent"]),
        )


_COUNTED: Final = (
    "partitions_visited", "clusters_visited", "examined", "passed", "scanned", "vectors_read",
)  # fmt: skip


def _trace_to_json(trace: Trace) -> bytes:
    value = [
        trace.plan,
        trace.noted,
        trace.costs_us,
        [getattr(trace, name) for name in _COUNTED],
        trace.predicted,
        trace.certified,
        trace.missing,
    ]
    return json.dumps(value, separators=(",", ":")).encode()


def _trace_from_json(text: bytes) -> Trace:
    plan, levels, costs, counted, predicted, certified, missing = json.loads(text)
    if len(levels) > _LEVELS_MAX:
        raise ValueError(f"{len(levels)} levels")
    trace = Trace(
        plan=str(plan),
        noted=[
            (
                str(name),
                chosen(candidates, least=0, most=_NUMBER_MAX),
                chosen(survivors, least=0, most=_NUMBER_MAX),
            )
            for name, candidates, survivors in levels
        ],
        expected={str(name): real(cost) for name, cost in costs.items()},
        predicted=real(predicted),
        certified=flag(certified),
        missing=tuple(str(one) for one in missing),
    )
    for name, count in zip(_COUNTED, counted, strict=True):
        setattr(trace, name, chosen(count, least=0, most=_NUMBER_MAX))
    return trace
