"""An allocator: queries of a subtree in, what was found for them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from squash.errors import NotFoundError, SquashError, UnavailableError
from squash.index.entries import Entry
from squash.planning import CostModel
from squash.search.calls import Calling
from squash.search.events import (
    Answered,
    Request,
    answer_event,
    error_event,
    open_request,
)
from squash.search.index_view import IndexView
from squash.search.node_work import QueryWork
from squash.search.processor import Meter
from squash.search.requests import answer_request, read_request, write_request_answer
from squash.search.spending import Spent
from squash.search.tree import answer_node


class Allocator:
    """Answers the queries of a node and of all below it.

    Parameters
    ----------
    calling:
        With what it calls processors, and allocators below it.
    view_at:
        Opens the snapshot of an index after a commit.
    slots:
        Among which partitions are divided; all functions must have the same.
    costs:
        What the steps of a search cost, by which plans are chosen.
    meter:
        Begins to count what a request asks of the store.

    """

    def __init__(
        self,
        calling: Calling,
        view_at: Callable[[Entry, int], IndexView],
        *,
        slots: tuple[str, ...],
        costs: CostModel,
        meter: Callable[[], Meter],
    ) -> None:
        self._calling = calling
        self._view_at = view_at
        self._slots = slots
        self._costs = costs
        self._meter = meter

    def handle(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an event; errors that Squash knows are answers, too."""
        meter, spent = self._meter(), Spent()
        try:
            body = self._answer(open_request(event, "allocate"), spent)
            spent.add(meter.spent())
            return answer_event(Answered(body, spent))
        except SquashError as error:
            return error_event(error, spent)

    def _answer(self, request: Request, spent: Spent) -> bytes:
        caller = self._calling.caller(
            request.deadline_ms,
            allow_partial=request.allow_partial,
            may_hedge=request.may_hedge,
        )
        try:
            asked = read_request(request.body)
            view = self._open(asked.entry, asked.snapshot)
            work = QueryWork(view, self._slots, self._costs, allow_partial=request.allow_partial)
            found = answer_node(caller, work, request.place, asked.queries)
            return write_request_answer(answer_request(asked, view, found), view.dimension)
        finally:
            spent.add(caller.total())

    def _open(self, entry: Entry, snapshot: int) -> IndexView:
        try:
            return self._view_at(entry, snapshot)
        except NotFoundError as error:
            raise UnavailableError(
                f"{error} The coordinator read it a moment ago: repeat the query.",
                index=entry.config.name,
            ) from error
