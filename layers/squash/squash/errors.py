"""Every error that Squash raises on purpose.

A message says what happened, where, and what to do. A class exists only where a caller would act
differently; `HTTP_STATUS` maps each to its status.
"""

from __future__ import annotations

from typing import Any, Final


def shown(value: object) -> str:
    """Return the beginning of a value as it is written in a program, for a message."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        # Python writes out no integers of thousands of digits.
        return "an integer of thousands of digits"


class SquashError(Exception):
    """The base of all errors raised by Squash.

    Parameters
    ----------
    message:
        What happened and what to do about it.
    index, key, field, object_key:
        Where it happened, as far as that is known: the index's name, the record's key, the path of
        the argument's field (such as ``$and[1].year``), and the stored object's key.

    """

    def __init__(
        self,
        message: str,
        *,
        index: str | None = None,
        key: str | None = None,
        field: str | None = None,
        object_key: str | None = None,
    ) -> None:
        super().__init__(message)
        self.index = index
        self.key = key
        self.field = field
        self.object_key = object_key

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the message alone, and some classes need more than that.
        return _restored, (type(self), self.args, dict(vars(self)))


def _restored(kind: type[SquashError], args: tuple[Any, ...], kept: dict[str, Any]) -> SquashError:
    error = kind.__new__(kind, *args)
    vars(error).update(kept)
    return error


class InvalidArgumentError(SquashError):
    """The request cannot be carried out as it stands: change it."""


class FilterError(InvalidArgumentError):
    """A filter is not well formed; `field` names the place."""


class UnauthenticatedError(SquashError):
    """No credential, or an unknown one."""


class PermissionDeniedError(SquashError):
    """The credential does not allow this."""


class NotFoundError(SquashError):
    """There is no such index, record or snapshot."""


class ConflictError(SquashError):
    """Somebody was first: read again, then decide."""


class BuildStoppedError(ConflictError):
    """A build was stopped by who cancelled it, or by one of its limits: it can be resumed."""


class TooLargeError(SquashError):
    """A limit was passed; the message names it, its value and the way round."""


class ThrottledError(SquashError):
    """Too much at once: wait `retry_after_ms`, then repeat.

    `limit` names the limit of the index that was reached, such as ``FRESH_ROWS_MAX``; None where a
    service below asks to slow down.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_ms: int,
        index: str | None = None,
        limit: str | None = None,
    ) -> None:
        super().__init__(message, index=index)
        self.retry_after_ms = retry_after_ms
        self.limit = limit


class UnavailableError(SquashError):
    """A service below did not answer; the call is safe to repeat.

    Parameters
    ----------
    message, index, key, field, object_key:
        As of `SquashError`.
    unchanged:
        Whether it is certain that nothing was stored, and will not be; else it may have been.

    """

    def __init__(
        self,
        message: str,
        *,
        index: str | None = None,
        key: str | None = None,
        field: str | None = None,
        object_key: str | None = None,
        unchanged: bool = False,
    ) -> None:
        super().__init__(message, index=index, key=key, field=field, object_key=object_key)
        self.unchanged = unchanged


class PartialAnswerError(UnavailableError):
    """Part of the index could not be searched; `missing` and the message name what."""

    def __init__(
        self, message: str, *, missing: tuple[str, ...] = (), index: str | None = None
    ) -> None:
        super().__init__(message, index=index)
        self.missing = missing


class CommitUnknownError(SquashError):
    """The write may or may not have happened; repeat it only with the same `commit_id`."""

    def __init__(self, message: str, *, commit_id: str, index: str | None = None) -> None:
        super().__init__(message, index=index)
        self.commit_id = commit_id


class DataError(SquashError):
    """Stored bytes are not what they must be."""


class ChecksumError(DataError):
    """A stored object's length or checksum differs from what its snapshot says."""


class UnsupportedFormatError(DataError):
    """A stored object has a format version or feature that this release does not know."""


class InternalError(SquashError):
    """A bug in Squash: please report it."""


HTTP_STATUS: Final[dict[type[SquashError], int]] = {
    InvalidArgumentError: 400,
    FilterError: 400,
    UnauthenticatedError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    BuildStoppedError: 409,
    TooLargeError: 413,
    ThrottledError: 429,
    UnavailableError: 503,
    PartialAnswerError: 503,
    CommitUnknownError: 503,
    DataError: 500,
    ChecksumError: 500,
    UnsupportedFormatError: 500,
    InternalError: 500,
}
