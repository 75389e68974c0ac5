"""One function's HTTP interface: who asks, for what, may they; then the call; then the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from squash.api.access import NOBODY, Gate
from squash.api.handling import EventHandler, LeftMs, Seen
from squash.api.members import shown
from squash.api.problems import problem_of
from squash.api.requests import HttpRequest, Reply, answer_of, problem_answer
from squash.api.routes import ELSEWHERE, Body, Route, choose, routes_of
from squash.api.services import Call, Endpoint, Services
from squash.api.telemetry import Telemetry
from squash.clock import Clock, IdSource
from squash.errors import InvalidArgumentError
from squash.index.names import check_index_name
from squash.limits import INDEX_NAME_CHARACTERS_MAX


class HttpFace(EventHandler):
    """Answers the events of an HTTP API for the routes of one function. Threads may share it.

    Parameters
    ----------
    function:
        Whose routes.
    endpoints:
        By the names of these routes.
    services:
        What endpoints work with.
    gate, telemetry, clock, ids:
        Tells who asks; is told of every request; time; names for requests that have none.

    """

    def __init__(
        self,
        function: str,
        endpoints: Mapping[str, Endpoint],
        services: Services,
        *,
        gate: Gate,
        telemetry: Telemetry,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        super().__init__(telemetry=telemetry, clock=clock, ids=ids)
        self._function = function
        self._endpoints = endpoints
        self._services = services
        self._gate = gate

    def _answered(self, request: HttpRequest, seen: Seen, left_ms: LeftMs | None) -> dict[str, Any]:
        reply = self._reply(request, seen, left_ms=left_ms)
        seen.spent = reply.spent
        return answer_of(reply, request_id=request.id)

    def _refused(self, error: Exception, seen: Seen, request_id: str) -> dict[str, Any]:
        del seen
        return problem_answer(problem_of(error, request_id=request_id), request_id=request_id)

    def _reply(self, request: HttpRequest, seen: Seen, *, left_ms: LeftMs | None) -> Reply:
        found, index = routes_of(request.path)
        routes = [route for route in found if route.function == self._function]
        if self._function == ELSEWHERE and all(one.method != request.method for one in found):
            routes = found  # here, and nowhere else, comes what the gateway has no route for
        for route in routes:
            if route.scope is None and route.method == request.method:
                seen.route = route.name
                return self._endpoints[route.name](self._services, Call(request, NOBODY))
        # No credential, no answer: not even which paths there are.
        caller = self._gate.admit(request)
        seen.caller = caller.name
        route = choose(routes, request.method)
        seen.route, seen.index = route.name, index
        if index:
            _check_index(index)
        if route.scope is not None:
            caller.check(route.scope, index)
        if request.query and not route.takes_query:
            raise InvalidArgumentError(
                "this path takes no query string: leave it out",
                field=shown(request.query.partition("=")[0]),
            )
        call = Call(request, caller, index, _document(route, request), left_ms)
        return self._endpoints[route.name](self._services, call)


def _document(route: Route, request: HttpRequest) -> Any:
    """Parse the body, if the route takes one; others pass over it."""
    if route.body is Body.NONE or (route.body is Body.OPTIONAL and not request.body):
        return None
    return request.document()


def _check_index(name: str) -> None:
    try:
        check_index_name(name)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"{shown(name)!r} cannot name an index: use 1 to {INDEX_NAME_CHARACTERS_MAX} of a-z, "
            '0-9, "-" and "_", with a letter or digit first and last',
            field="index",
        ) from error
