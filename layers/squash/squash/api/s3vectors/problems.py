"""Errors as clients of the service expect them: a status, a code, and its words.

Messages of the store's errors name buckets, objects and files: they go to the log, and the caller
reads a sentence that holds for every error of the class, as `squash.api.problems` has it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from squash import errors
from squash.api.problems import MethodNotAllowedError, NoCredentialError, nearest, shortened
from squash.api.s3vectors.operations import Operation
from squash.values import dataclass

STATUS: Final[Mapping[str, int]] = {
    "ValidationException": 400,
    "KmsDisabledException": 400,
    "KmsInvalidKeyUsageException": 400,
    "KmsInvalidStateException": 400,
    "KmsNotFoundException": 400,
    "MissingAuthenticationTokenException": 403,
    "IncompleteSignatureException": 403,
    "InvalidSignatureException": 403,
    "UnrecognizedClientException": 403,
    "AccessDeniedException": 403,
    "ServiceQuotaExceededException": 402,
    "NotFoundException": 404,
    "UnknownOperationException": 404,
    "MethodNotAllowedException": 405,
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


def no_resource() -> ServiceError:
    """Make the error for a resource with tags, a vector bucket or an index, that is not there."""
    return ServiceError("NotFoundException", "The specified resource could not be found")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is answered in place of a result."""

    status: int
    code: str
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Told:
    code: str
    message: str
    fields: Sequence[tuple[str, str]] = ()


# What is said of every error of a class, since its own words may name what is stored, and where.
_SAID: Final[Mapping[type[errors.SquashError], _Told]] = {
    errors.ThrottledError: _Told(
        "TooManyRequestsException",
        "Too many requests: wait as long as Retry-After says, then repeat, with more in each",
    ),
    errors.UnavailableError: _Told(
        "ServiceUnavailableException", "Currently unable to handle the request: repeat it"
    ),
    # Who repeats a put or a delete of this API does it once: nothing of it counts.
    errors.CommitUnknownError: _Told(
        "ServiceUnavailableException",
        "It is not known whether the write happened: repeat it, which is safe",
    ),
}
_INTERNAL: Final = _Told(
    "InternalServerException",
    "An internal error occurred: the log of whoever runs the service has more under this "
    "request's id",
)
# Of these the message is about the request, unless it names a stored object.
_ABOUT_THE_REQUEST: Final[Mapping[type[errors.SquashError], str]] = {
    errors.InvalidArgumentError: "ValidationException",
    errors.TooLargeError: "ValidationException",
    errors.PermissionDeniedError: "AccessDeniedException",
    errors.UnauthenticatedError: "UnrecognizedClientException",
    errors.ConflictError: "ConflictException",
    errors.NotFoundError: "NotFoundException",
}
_RETRY_AFTER_S: Final = 1
_RETRIED: Final = frozenset({429, 503})


def refusal_of(error: Exception, operation: Operation | None = None) -> Refusal:
    """Describe an error to the caller.

    Parameters
    ----------
    error:
        Any; of what is not Squash's own, not a word is told.
    operation:
        What was asked, if it came so far: tells what it is that was not found, and whether its
        clients know of conflicts; else they are asked to repeat.

    """
    told = _told(error, operation)
    if told.code == "ConflictException" and operation and not operation.names_conflict:
        told = _SAID[errors.UnavailableError]
    document: dict[str, Any] = {"message": shortened(told.message)}
    if told.fields:
        document["fieldList"] = [
            {"path": shortened(path), "message": shortened(said)} for path, said in told.fields
        ]
    status = STATUS[told.code]
    headers = {"x-amzn-ErrorType": told.code, **_headers(error, status)}
    return Refusal(status, told.code, document, headers)


def _told(error: Exception, operation: Operation | None) -> _Told:
    if isinstance(error, ServiceError):
        return _Told(error.code, str(error), error.fields)
    if not isinstance(error, errors.SquashError):
        return _INTERNAL
    if isinstance(error, errors.ThrottledError) and error.limit is not None:
        # A limit of the index's own, and what to do: no word of the store's.
        return _Told("TooManyRequestsException", str(error))
    if isinstance(error, NoCredentialError) and not error.given:
        return _Told("MissingAuthenticationTokenException", str(error))
    if isinstance(error, MethodNotAllowedError):
        return _Told("MethodNotAllowedException", str(error))
    code = nearest(_ABOUT_THE_REQUEST, type(error))
    if code is None:
        return nearest(_SAID, type(error)) or _INTERNAL
    if error.object_key is not None:
        # The store refused something, or is not there: that is not the caller's doing.
        return _INTERNAL
    if isinstance(error, errors.NotFoundError):
        # The library's own words suggest names that the caller may not know of.
        return _Told(code, str(_absent(operation)))
    return _Told(code, str(error))


def _absent(operation: Operation | None) -> ServiceError:
    if operation is None or operation.on == "resource":
        return no_resource()
    # An index that is to be made lacks its vector bucket.
    return no_index() if operation.on == "index" and not operation.creates else no_bucket()


def _headers(error: Exception, status: int) -> dict[str, str]:
    if isinstance(error, MethodNotAllowedError):
        return {"allow": ", ".join(error.allowed)}
    if isinstance(error, errors.ThrottledError):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_ms / 1000)))}
    return {"retry-after": str(_RETRY_AFTER_S)} if status in _RETRIED else {}


def body_of(document: Mapping[str, Any]) -> str:
    """Write a refusal's body; in ASCII, since it may quote half a character."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))
