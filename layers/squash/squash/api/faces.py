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


def both_faces(
    function: str, native: Handler, services: Services, parts: Mapping[str, Any]
) -> Handler:
    """Return the handler of a function that has both interfaces.

    Parameters
    ----------
    function:
        Its name.
    native:
        Answers what is for ours.
    services, parts:
        Of which the other is made when the first request for it comes.

    """
    lock = threading.Lock()
    made: list[Handler] = []

    def other() -> Handler:
        with lock:
            if not made:
                # Who never speaks that API waits for none of it.
                from squash.api.s3vectors.serving import make_face  # noqa: PLC0415

                made.append(make_face(function, services, **parts))
            return made[0]

    def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
        return (other() if is_ours(str(event.get("rawPath"))) else native)(event, context)

    return handle


def function_of(method: str, path: str) -> str:
    """Return the function that serves a request."""
    if is_ours(path):
        operation = operation_of(method, path)
        return operation.function if operation else ELSEWHERE
    routes, _ = routes_of(path)
    return routes[0].function if routes else ELSEWHERE
