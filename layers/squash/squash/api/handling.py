"""From an event to an answer, whatever happens on the way: what both HTTP interfaces share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, TypeAlias

from squash.api.requests import HttpRequest, request_of
from squash.api.telemetry import Telemetry, Told
from squash.clock import Clock, IdSource
from squash.values import dataclass

LeftMs: TypeAlias = Callable[[], int]


@dataclass(slots=True)
class Seen:
    """How far a request came, for the log."""

    route: str = "none"
    caller: str = ""
    index: str = ""
    spent: Mapping[str, float] = field(default_factory=dict)


class EventHandler(ABC):
    """Answers the events of an HTTP API, and tells of each. Threads may share it.

    Parameters
    ----------
    telemetry, clock, ids:
        Is told of every request; time; names for requests that have none.

    """

    def __init__(self, *, telemetry: Telemetry, clock: Clock, ids: IdSource) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._ids = ids

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an event; whatever goes wrong is answered, too."""
        begun_ms = self._clock.now_ms()
        request_id = str(getattr(context, "aws_request_id", "") or self._ids.new_id())
        function_arn = str(getattr(context, "invoked_function_arn", "") or "")
        # Where Lambda has a say in it: for how long the function may still run.
        left_ms = getattr(context, "get_remaining_time_in_millis", None)
        seen = Seen()
        error: Exception | None = None
        try:
            request = request_of(event, fallback_id=request_id, function_arn=function_arn)
            request_id = request.id
            answer = self._answered(request, seen, left_ms)
        except Exception as caught:  # noqa: BLE001 - a caller is always answered; the log says why
            error = caught
            answer = self._refused(caught, seen, request_id)
        self._telemetry.answered(
            Told(
                request_id=request_id,
                route=seen.route,
                status=answer["statusCode"],
                duration_ms=self._clock.now_ms() - begun_ms,
                caller=seen.caller,
                index=seen.index,
                spent=seen.spent,
                error=error,
            )
        )
        return answer

    @abstractmethod
    def _answered(self, request: HttpRequest, seen: Seen, left_ms: LeftMs | None) -> dict[str, Any]:
        """Carry a request out, and write its result as the gateway takes it."""

    @abstractmethod
    def _refused(self, error: Exception, seen: Seen, request_id: str) -> dict[str, Any]:
        """Write what went wrong as the gateway takes it."""
