"""What a node of the tree does with queries: plan its own, read what others found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from squash.errors import InternalError, TooLargeError
from squash.limits import (
    ANSWER_BODY_BYTES_MAX,
    REQUEST_BODY_BYTES_MAX,
    TASK_DOCUMENTS_BYTES_MAX,
)
from squash.planning import CostModel
from squash.planning.payloads import Part
from squash.planning.slots import replica_of
from squash.search.allocating import Allocation, allocate, tasks_of
from squash.search.calls import Call
from squash.search.found import Found, Query
from squash.search.gathering import gather
from squash.search.homes import homes_of
from squash.search.index_view import IndexView
from squash.search.messages import read_task_answer, split_task, write_task
from squash.search.requests import (
    Request,
    found_answered,
    read_request_answer,
    request_answer_bytes_max,
    request_bytes_max,
    write_request,
)
from squash.search.tasks import Task
from squash.search.trace import Trace
from squash.search.wire import received

Result: TypeAlias = tuple[Found, Trace]
_NAMED_MAX: Final = 3


class QueryWork:
    """`Work` of queries on one snapshot.

    Parameters
    ----------
    view:
        The snapshot; it says where its index lies.
    slots:
        Among which its partitions are divided.
    costs:
        What the steps of a search cost, by which plans are chosen.
    allow_partial:
        Whether answers may be missing.

    """

    def __init__(
        self, view: IndexView, slots: tuple[str, ...], costs: CostModel, *, allow_partial: bool
    ) -> None:
        if view.entry is None:
            raise InternalError("a snapshot is to be searched elsewhere, and does not say of what")
        self._view = view
        self._entry = view.entry
        self._slots = slots
        self._costs = costs
        self._allow_partial = allow_partial

    def parts(self, queries: Sequence[Query]) -> tuple[list[Part], Part]:
        """Return what each query takes at most when it is sent to a child, and what all share."""
        whole = self._request(queries)
        partitions = len(self._view.partitions)
        nothing = whole.of_queries([])
        # All filters of the queries stand in every part's bound: they are written once each, and
        # which part has which of them is not known before the queries are parted.
        vector_bytes = 4 * self._view.dimension + 8
        shared = Part(
            request_bytes_max(whole) - vector_bytes * len(queries),
            request_answer_bytes_max(nothing, partitions=partitions),
        )
        parts = [
            Part(
                vector_bytes,
                request_answer_bytes_max(whole.of_queries([place]), partitions=partitions)
                - shared.answer_bytes,
            )
            for place in range(len(queries))
        ]
        return parts, shared

    def pack(self, queries: Sequence[Query]) -> bytes:
        """Return the request that tells a child its queries."""
        return write_request(self._request(queries))

    def unpack(self, body: bytes, queries: Sequence[Query]) -> list[Result]:
        """Read what a child found for these queries."""
        del queries
        return found_answered(self._view, received(read_request_answer, body))

    def begin(self, queries: Sequence[Query]) -> BegunQueries:
        """Plan queries, and divide them among the slots."""
        allocation = allocate(self._view, queries, costs=self._costs)
        homes = homes_of(self._view, self._slots)
        tasks = tasks_of(allocation, homes, prefix=self._entry.prefix)
        calls = [
            self._call(slot, task)
            for slot, whole in tasks.items()
            for task in split_task(
                whole, task_bytes=REQUEST_BODY_BYTES_MAX, answer_bytes=ANSWER_BODY_BYTES_MAX
            )
        ]
        return BegunQueries(allocation, calls, allow_partial=self._allow_partial)

    def lost(self, query: Query, what: str) -> Result:
        """Return the result of a query whose child did not answer."""
        del query
        return Found((), [], [], []), Trace(certified=False, missing=(what,))

    def _request(self, queries: Sequence[Query]) -> Request:
        return Request(self._entry, self._view.snapshot, tuple(queries), TASK_DOCUMENTS_BYTES_MAX)

    def _call(self, slot: str, task: Task) -> Call:
        body = write_task(task)
        if len(body) > REQUEST_BODY_BYTES_MAX:
            raise TooLargeError(
                f"what one query asks of one partition takes {len(body)} bytes to send, and a call "
                f"holds {REQUEST_BODY_BYTES_MAX}: make the filter admit fewer rows, or more"
            )
        names = [part.segment.id for part in task.parts]
        some = ", ".join(names[:_NAMED_MAX]) + (" and others" if names[_NAMED_MAX:] else "")
        return Call("processor", body, f"{slot} with {some}", slot, replica_of(slot))


class BegunQueries:
    """`Begun` queries: planned, with the calls that their tasks are."""

    def __init__(
        self, allocation: Allocation, calls: Sequence[Call], *, allow_partial: bool
    ) -> None:
        self.calls = calls
        self._allocation = allocation
        self._allow_partial = allow_partial

    def finish(self, answers: Sequence[bytes | None]) -> list[Result]:
        """Put the answers together; what is missing is named by the partitions' ids."""
        return gather(
            self._allocation,
            [received(read_task_answer, answer) for answer in answers if answer is not None],
            allow_partial=self._allow_partial,
        )
