"""What failed, in the words of an HTTP problem (RFC 9457): type, title, detail, field."""

from __future__ import annotations

from typing import Any, Final

from squash import errors

TITLES: Final[dict[type[errors.SquashError], str]] = {
    errors.InvalidArgumentError: "Invalid argument",
    errors.FilterError: "Invalid filter",
    errors.UnauthenticatedError: "Unauthenticated",
    errors.PermissionDeniedError: "Permission denied",
    errors.NotFoundError: "Not found",
    errors.ConflictError: "Conflict",
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


class UsageError(Exception):
    """The command itself is not well formed: the caller sees exit status 2."""


def problem(error: BaseException) -> dict[str, Any]:
    """Describe an error as a problem; members that say nothing are left out.

    The notes of an error (`add_note`) say what became of the work before it, and follow the
    detail.
    """
    if isinstance(error, UsageError):
        title, place = "Usage", None
    elif isinstance(error, errors.SquashError):
        title, place = _title(type(error)), error.field
    else:
        title, place = "Failed", None
    members: dict[str, Any] = {
        "type": "urn:squash:" + title.lower().replace(" ", "-"),
        "title": title,
        "detail": " ".join([detail(error), *getattr(error, "__notes__", [])]),
        "field": place,
    }
    for name in ("index", "key", "retry_after_ms", "commit_id"):
        members[name] = getattr(error, name, None)
    return {name: value for name, value in members.items() if value is not None}


def detail(error: BaseException) -> str:
    """Return the message; for the system's errors, which file they are about comes first."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _title(kind: type[errors.SquashError]) -> str:
    """Take the nearest class that has a title: a subclass unknown here is still described."""
    for base in kind.__mro__:
        if base in TITLES:
            return TITLES[base]
    return "Failed"
