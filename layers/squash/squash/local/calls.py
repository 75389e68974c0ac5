"""What passes between the faces and the containers: a call, and what became of it."""

from __future__ import annotations

import json
from enum import StrEnum

from squash.values import dataclass


class Refusal(StrEnum):
    """Why Lambda did not run a call: the names of its API's exceptions."""

    NOT_FOUND = "ResourceNotFoundException"
    TOO_LARGE = "RequestTooLargeException"
    THROTTLED = "TooManyRequestsException"
    INVALID = "InvalidParameterValueException"
    BAD_CONTENT = "InvalidRequestContentException"
    FAILED = "ServiceException"


REFUSAL_STATUS = {
    Refusal.NOT_FOUND: 404,
    Refusal.TOO_LARGE: 413,
    Refusal.THROTTLED: 429,
    Refusal.INVALID: 400,
    Refusal.BAD_CONTENT: 400,
    Refusal.FAILED: 500,
}


class RefusedError(Exception):
    """Lambda did not run a call."""

    def __init__(self, refusal: Refusal, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal
        self.message = message
        self.reason = reason


class AnswerDroppedError(Exception):
    """A fault that was asked for: the function ran, and its answer is not to arrive."""


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation of a function."""

    request_id: str
    payload: bytes
    tenant: str | None = None
    client_context: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a container answered.

    Attributes
    ----------
    payload:
        The function's answer, or its error as JSON.
    error_type:
        None, or what kind of error the payload is.
    log:
        What was printed during the call, between Lambda's own lines.
    duration_ms, init_ms:
        How long the call ran; and, of a container's first call, how long it had started before.

    """

    payload: bytes
    error_type: str | None
    log: bytes
    duration_ms: float
    init_ms: float | None


def error_payload(error_type: str, message: str) -> bytes:
    """Return an error as Lambda words one that is its own."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()
