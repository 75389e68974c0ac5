"""Which paths there are, which function serves each, and what a caller needs to be allowed to."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from squash.api.problems import MethodNotAllowedError
from squash.errors import NotFoundError
from squash.values import dataclass

_INDEX: Final = "{index}"
_BUILD: Final = "{build}"
_PLACES: Final = frozenset({_INDEX, _BUILD})


class Scope(StrEnum):
    """What a credential allows."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Body(StrEnum):
    """Whether a route takes a body."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    `scope` is None where no credential is asked for.
    """

    name: str
    function: str
    method: str
    path: str
    scope: Scope | None
    body: Body = Body.NONE
    takes_query: bool = False


ROUTES: Final = (
    Route("query", "coordinator", "POST", "/v1/indexes/{index}/query", Scope.READ, Body.REQUIRED),
    Route("put", "documents", "POST", "/v1/indexes/{index}/vectors", Scope.WRITE, Body.REQUIRED),
    Route("list", "documents", "GET", "/v1/indexes/{index}/vectors", Scope.READ, takes_query=True),
    Route("get", "documents", "POST", "/v1/indexes/{index}/vectors/get", Scope.READ, Body.REQUIRED),
    Route(
        "delete",
        "documents",
        "POST",
        "/v1/indexes/{index}/vectors/delete",
        Scope.WRITE,
        Body.REQUIRED,
    ),
    Route(
        "patch",
        "documents",
        "POST",
        "/v1/indexes/{index}/vectors/patch",
        Scope.WRITE,
        Body.REQUIRED,
    ),
    Route("create", "indexes", "POST", "/v1/indexes", Scope.ADMIN, Body.REQUIRED),
    Route("indexes", "indexes", "GET", "/v1/indexes", Scope.READ),
    Route("describe", "indexes", "GET", "/v1/indexes/{index}", Scope.READ),
    Route("drop", "indexes", "DELETE", "/v1/indexes/{index}", Scope.ADMIN),
    Route("stats", "indexes", "GET", "/v1/indexes/{index}/stats", Scope.READ),
    Route(
        "optimize", "indexes", "POST", "/v1/indexes/{index}/optimize", Scope.ADMIN, Body.OPTIONAL
    ),
    Route("gc", "indexes", "POST", "/v1/indexes/{index}/gc", Scope.ADMIN, Body.OPTIONAL),
    Route(
        "snapshots",
        "indexes",
        "GET",
        "/v1/indexes/{index}/snapshots",
        Scope.READ,
        takes_query=True,
    ),
    Route(
        "start_build", "indexes", "POST", "/v1/indexes/{index}/builds", Scope.WRITE, Body.REQUIRED
    ),
    Route("builds", "indexes", "GET", "/v1/indexes/{index}/builds", Scope.READ),
    Route("build", "indexes", "GET", "/v1/indexes/{index}/builds/{build}", Scope.READ),
    Route(
        "cancel_build",
        "indexes",
        "POST",
        "/v1/indexes/{index}/builds/{build}/cancel",
        Scope.WRITE,
    ),
    Route(
        "resume_build",
        "indexes",
        "POST",
        "/v1/indexes/{index}/builds/{build}/resume",
        Scope.WRITE,
        Body.OPTIONAL,
    ),
    Route("health", "indexes", "GET", "/v1/health", None),
)
_BUILD_PLACE: Final = 5  # among the parts of its routes' paths
# What matches no route is answered by one of the functions too.
ELSEWHERE: Final = "indexes"


def routes_of(path: str) -> tuple[list[Route], str]:
    """Return the routes of a path, one a method, and the index's name as it stands in it."""
    parts = path.split("/")
    index = ""
    found = []
    for route in ROUTES:
        wanted = route.path.split("/")
        if len(wanted) == len(parts) and all(
            want == part or (want in _PLACES and part)
            for want, part in zip(wanted, parts, strict=True)
        ):
            found.append(route)
            index = parts[wanted.index(_INDEX)] if _INDEX in wanted else ""
    return found, index


def build_of(path: str) -> str:
    """Return what stands for a build's id in the path of a route that has one."""
    return path.split("/")[_BUILD_PLACE]


def choose(routes: Sequence[Route], method: str) -> Route:
    """Return the route of a method.

    Raises
    ------
    NotFoundError
        If there is no route at all.
    MethodNotAllowedError
        If the path is known and the method is none of its.

    """
    if not routes:
        raise NotFoundError("there is nothing at this path: see the paths of docs/http.md")
    for route in routes:
        if route.method == method:
            return route
    allowed = sorted(route.method for route in routes)
    raise MethodNotAllowedError(
        f"this path is not asked by this method: use {' or '.join(allowed)}", allowed=allowed
    )
