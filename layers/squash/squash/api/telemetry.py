"""What is told of every request: one line for the log, some numbers for metrics.

Neither ever holds a credential, a body or a vector; but why a request was refused may quote a key,
a name or a value of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Protocol

from squash.values import dataclass

LOGGER: Final = "squash"  # the library's own; what it warns of comes out in the same form
SERVER_ERROR: Final = 500


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one request."""

    request_id: str
    route: str
    status: int
    duration_ms: int
    caller: str = ""
    index: str = ""
    spent: Mapping[str, float] = field(default_factory=dict)
    """What it took, in few words: see `squash.api.requests.Reply`."""
    error: Exception | None = None


class Telemetry(Protocol):
    """Where it is told."""

    def answered(self, told: Told) -> None:
        """Tell of one request."""
        ...


class LogTelemetry:
    """Tells Python's logging: errors that are the service's own, with what led to them."""

    def answered(self, told: Told) -> None:
        """Log what went wrong on this side."""
        if told.status >= SERVER_ERROR:
            log_told(logging.getLogger(LOGGER), told, {})


def log_told(logger: Any, told: Told, fields: Mapping[str, Any]) -> None:
    """Write the line of one request, with more fields."""
    failed = told.status >= SERVER_ERROR
    level = logging.ERROR if failed else logging.INFO
    words = f"{told.route} {told.status}"
    if told.error is not None:
        words += f" {type(told.error).__name__}: {told.error}"
    logger.log(level, words, extra=dict(fields), exc_info=told.error if failed else None)
