"""Which of the two HTTP interfaces a request is for: ours, or that of Amazon S3 Vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from squash.api.routes import ELSEWHERE, routes_of
from squash.api.s3vectors.operations import is_ours, operation_of

if TYPE_CHECKING:
    from squash.api.services import Services

Handler: TypeAlias = Callable[[dict[str, Any], Any], dict[str, Any]]


class BothFaces:
    """The handler of a function that has both interfaces. Threads may share it.

    Parameters
    ----------
    function:
        Its name.
    native:
        Answers what is for ours.
    services, parts:
        Of which the other is made when the first request for it comes.

    """

    def __init__(
        self, function: str, native: Handler, services: Services, parts: Mapping[str, Any]
    ) -> None:
        self._function = function
        self._native = native
        self.services = services
        self._parts = parts
        self._lock = threading.Lock()
        self._other: Handler | None = None

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Answer an event by the interface that its path belongs to."""
        # What is no object has no path; our interface says what events it takes.
        path = str(event.get("rawPath")) if isinstance(event, dict) else ""
        handler = self._s3vectors() if is_ours(path) else self._native
        return handler(event, context)

    def _s3vectors(self) -> Handler:
        with self._lock:
            if self._other is None:
                # Who never speaks that API waits for none of it.
                from squash.api.s3vectors.serving import make_face  # noqa: PLC0415

                self._other = make_face(self._function, self.services, **self._parts)
            return self._other


def function_of(method: str, path: str) -> str:
    """Return the function that serves a request."""
    if is_ours(path):
        operation = operation_of(method, path)
        return operation.function if operation else ELSEWHERE
    routes, _ = routes_of(path)
    return routes[0].function if routes else ELSEWHERE
