"""Errors as clients of the service expect them: a status, a code, and its words.

Messages of the store's errors name buckets, objects and files: they go to the log, and the caller
reads a sentence that holds for every error of the class, as `squash.api.problems` has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from squash import errors

STATUS: Final[Mapping[str, int]] = {
    "ValidationException": 400,
    "MissingAuthenticationTokenException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
    "UnrecognizedClientException": 403,
    "AccessDeniedException": 403,
    "ServiceQuotaExceededException": 402,
    "NotFoundException": 404,
    "UnknownOperationException": 404,
    "RequestTimeoutException": 408,
    "ConflictException": 409,
    "RequestTooLargeException": 413,
    "TooManyRequestsException": 429,
    "InternalServerException": 500,
    "ServiceUnavailableException": 503,
}


class ServiceError(errors.SquashError):
    """An error of the service's own: its code, its words, and the fields that are wrong.

    `fields` are (path, message) pairs, which a ValidationException carries.
    """

    def __init__(self, code: str, message: str, *, fields: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.fields = fields


def invalid(message: str, *, fields: Sequence[tuple[str, str]] = ()) -> ServiceError:
    """Make the error for what is wrong with a request."""
    return ServiceError("ValidationException", message, fields=fields)


def no_bucket() -> ServiceError:
    """Make the error for a vector bucket that is not there."""
    return ServiceError("NotFoundException", "The specified vector bucket could not be found")


def no_index() -> ServiceError:
    """Make the error for an index that is not there."""
    return ServiceError("NotFoundException", "The specified index could not be found")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is answered in place of a result."""

    status: int
    code: str
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal_of(error: Exception) -> Refusal:
    """Describe an error to the caller."""
    code, message, fields = _told(error)
    document: dict[str, Any] = {"message": message}
    if fields:
        document["fieldList"] = [{"path": path, "message": said} for path, said in fields]
    headers = {"x-amzn-ErrorType": code}
    return Refusal(STATUS[code], code, document, headers)


def _told(error: Exception) -> tuple[str, str, Sequence[tuple[str, str]]]:
    if isinstance(error, ServiceError):
        return error.code, str(error), error.fields
    if isinstance(error, errors.ThrottledError):
        return "TooManyRequestsException", "Too many requests: wait, then repeat", ()
    if isinstance(error, (errors.UnavailableError, errors.CommitUnknownError)):
        return "ServiceUnavailableException", "Currently unable to handle the request", ()
    if isinstance(error, errors.SquashError) and error.object_key is None:
        if isinstance(error, errors.TooLargeError | errors.InvalidArgumentError):
            return "ValidationException", str(error), ()
        if isinstance(error, errors.PermissionDeniedError):
            return "AccessDeniedException", str(error), ()
        if isinstance(error, errors.UnauthenticatedError):
            return "UnrecognizedClientException", str(error), ()
    return "InternalServerException", "An internal error occurred", ()


def body_of(document: Mapping[str, Any]) -> str:
    """Write a refusal's body; in ASCII, since it may quote half a character."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))
