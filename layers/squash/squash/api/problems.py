"""Errors as problems (RFC 9457): what a caller may read of them, and nothing else.

Messages of the store's errors name buckets, objects and files: they go to the log, and the caller
reads a sentence that holds for every error of the class. Messages about the request itself are
passed on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from squash import errors
from squash.limits import PROBLEM_CHARACTERS_MAX
from squash.values import dataclass

CONTENT_TYPE: Final = "application/problem+json"
_TYPE_PREFIX: Final = "urn:squash:"
_RETRY_AFTER_S: Final = 1


class MethodNotAllowedError(errors.InvalidArgumentError):
    """The path is known, the method is none of its."""

    def __init__(self, message: str, *, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = allowed


class UnsupportedMediaTypeError(errors.InvalidArgumentError):
    """The body is of a content type that is not taken."""


class NoCredentialError(errors.UnauthenticatedError):
    """The request has no credential, or none that is valid."""

    def __init__(self, message: str, *, given: bool) -> None:
        super().__init__(message)
        self.given = given


class RefusedError(errors.PermissionDeniedError):
    """The request's credential does not allow it."""


TITLES: Final[dict[type[errors.SquashError], str]] = {
    errors.InvalidArgumentError: "Invalid argument",
    errors.FilterError: "Invalid filter",
    errors.UnauthenticatedError: "Unauthenticated",
    errors.PermissionDeniedError: "Permission denied",
    errors.NotFoundError: "Not found",
    errors.ConflictError: "Conflict",
    errors.BuildStoppedError: "Build stopped",
    errors.TooLargeError: "Too large",
    errors.ThrottledError: "Throttled",
    errors.UnavailableError: "Unavailable",
    errors.PartialAnswerError: "Partial answer",
    errors.CommitUnknownError: "Commit unknown",
    errors.DataError: "Damaged data",
    errors.ChecksumError: "Checksum mismatch",
    errors.UnsupportedFormatError: "Unsupported format",
    errors.InternalError: "Internal error",
}
HTTP_TITLES: Final[dict[type[errors.SquashError], str]] = {
    MethodNotAllowedError: "Method not allowed",
    UnsupportedMediaTypeError: "Unsupported media type",
}
_STATUS: Final[dict[type[errors.SquashError], int]] = errors.HTTP_STATUS | {
    MethodNotAllowedError: 405,
    UnsupportedMediaTypeError: 415,
}

# Of these the message is about the request, unless it names a stored object.
_ABOUT_THE_REQUEST: Final = (
    errors.InvalidArgumentError,
    errors.NotFoundError,
    errors.ConflictError,
    errors.TooLargeError,
    NoCredentialError,
    RefusedError,
)
_SAID: Final[dict[type[errors.SquashError], str]] = {
    errors.ThrottledError: "too much is asked of the service at once: wait as long as Retry-After "
    "says, then repeat, with more in each call",
    errors.UnavailableError: "a service that is needed did not answer in time: wait as long as "
    "Retry-After says, then repeat the request, which is safe; a query with a timeout_ms of its "
    "own, with a longer one",
    errors.PartialAnswerError: "part of the index could not be searched in the time there was, or "
    "failed twice: repeat the query, with fewer queries at once or a longer timeout_ms, or allow a "
    "partial answer by allow_partial",
    errors.CommitUnknownError: "it is not known whether the write happened: repeat it. A put "
    "repeated with this commit_id happens once; deleting twice does no harm",
    errors.DataError: "what is stored of this index is not as it was written, and the service's "
    "owner has to mend it: its log has more under this request's id",
    errors.UnsupportedFormatError: "a newer release of Squash wrote what is stored of this index: "
    "repeat the request where the service is just being brought up to date, else its owner has to "
    "deploy that release; its log has more under this request's id",
}
_UNEXPECTED: Final = (
    "the service failed to carry the request out: repeat it later. The service's owner finds the "
    "cause in its log under this request's id"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is answered in place of a result."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def problem_of(error: Exception, *, request_id: str) -> Problem:
    """Describe an error to the caller.

    Parameters
    ----------
    error:
        Any; what is not Squash's own is an internal error, and not a word of it is told.
    request_id:
        By which the log tells more.

    """
    told = _told(error)
    if told is None:
        kind: type[errors.SquashError] = errors.InternalError
        detail, members = _UNEXPECTED, {}
    else:
        kind, detail = told
        # Only what the caller gave is given back; where a stored object is, is not.
        members = {
            name: getattr(error, name, None)
            for name in ("field", "index", "key", "commit_id", "retry_after_ms")
        }
    title, status = title_of(kind), nearest(_STATUS, kind)
    document = {
        "type": type_of(title),
        "title": title,
        "status": status,
        "detail": shortened(detail),
        **{name: _member(value) for name, value in members.items() if value not in (None, "")},
        "instance": request_id,
    }
    return Problem(status, document, _headers(error, status))


def title_of(kind: type[errors.SquashError]) -> str:
    """Return the nearest class's title: a subclass unknown here is still described."""
    return nearest(TITLES | HTTP_TITLES, kind) or "Failed"


def type_of(title: str) -> str:
    """Return the stable name of the problems of a title."""
    return _TYPE_PREFIX + title.lower().replace(" ", "-")


def shortened(text: str) -> str:
    """Return a text about a request without its middle, if it is long.

    It may quote a name of megabytes, and as an answer be more than Lambda lets through; what to do
    stands at its end.
    """
    if len(text) <= PROBLEM_CHARACTERS_MAX:
        return text
    half = PROBLEM_CHARACTERS_MAX // 2
    return f"{text[:half]}...{text[-half:]}"


def _member(value: Any) -> Any:
    return shortened(value) if isinstance(value, str) else value


def _told(error: Exception) -> tuple[type[errors.SquashError], str] | None:
    """Return the class to describe an error by, and the words; None for an internal error."""
    if not isinstance(error, errors.SquashError):
        return None
    if isinstance(error, errors.ThrottledError) and error.limit is not None:
        # A limit of the index's own, and what to do: no word of the store's.
        return type(error), str(error)
    if isinstance(error, _ABOUT_THE_REQUEST):
        # Where an object is named, the store refused something: that is not the caller's doing.
        return None if error.object_key is not None else (type(error), str(error))
    said = nearest(_SAID, type(error))
    return None if said is None else (type(error), said)


def _headers(error: Exception, status: int) -> dict[str, str]:
    if isinstance(error, MethodNotAllowedError):
        return {"allow": ", ".join(error.allowed)}
    if isinstance(error, NoCredentialError):
        invalid = ', error="invalid_token"' if error.given else ""
        return {"www-authenticate": f'Bearer realm="squash"{invalid}'}
    if isinstance(error, errors.ThrottledError):
        return {"retry-after": str(max(1, math.ceil(error.retry_after_ms / 1000)))}
    return {"retry-after": str(_RETRY_AFTER_S)} if status == 503 else {}  # noqa: PLR2004


def nearest(table: Mapping[type[errors.SquashError], Any], kind: type[Any]) -> Any:
    """Return what a table has for a class, or for the nearest that it derives from."""
    return next((table[base] for base in kind.__mro__ if base in table), None)
