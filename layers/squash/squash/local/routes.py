"""Which route of the HTTP API takes a request: the most specific one, as API Gateway chooses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from squash.local.template import Route
from squash.values import dataclass

_PARAMETER: Final = re.compile(r"\{([^}+]+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Match:
    """A route, and the parameters that its path names."""

    route: Route
    parameters: Mapping[str, str]


class Routes:
    """The routes of an API."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = sorted(
            ((_pattern(route.path), route) for route in routes), key=lambda pair: _rank(pair[1])
        )

    def find(self, method: str, path: str) -> Match | None:
        """Find the route of a decoded path."""
        for pattern, route in self._routes:
            if route.path == "$default":
                return Match(route, {})
            if route.method in {"ANY", method} and (match := pattern.fullmatch(path)):
                names = [name for name, _ in _PARAMETER.findall(route.path)]
                return Match(route, dict(zip(names, match.groups(), strict=True)))
        return None


def _pattern(path: str) -> re.Pattern[str]:
    text, end = "", 0
    for match in _PARAMETER.finditer(path):
        text += re.escape(path[end : match.start()]) + ("(.+)" if match[2] else "([^/]+)")
        end = match.end()
    return re.compile(text + re.escape(path[end:]))


def _rank(route: Route) -> tuple[bool, list[int], bool]:
    """Order routes: literal parts before parameters before greedy ones, methods before ANY."""
    parts = route.path.split("/")
    kinds = [2 if "+}" in part else 1 if part.startswith("{") else 0 for part in parts]
    return route.path == "$default", kinds, route.method == "ANY"
