"""What failed, in the words of an HTTP problem (RFC 9457): type, title, detail, field."""

from __future__ import annotations

from typing import Any

from squash import errors
from squash.api.problems import title_of, type_of


class UsageError(Exception):
    """The command itself is not well formed: the caller sees exit status 2."""


class ReleaseAsked(Exception):  # noqa: N818 - nothing is wrong
    """Nothing but the release was asked for: which that is."""


def problem(error: BaseException) -> dict[str, Any]:
    """Describe an error as a problem; members that say nothing are left out.

    The notes of an error (`add_note`) say what became of the work before it, and follow the
    detail.
    """
    if isinstance(error, UsageError):
        title, place = "Usage", None
    elif isinstance(error, errors.SquashError):
        title, place = title_of(type(error)), error.field
    else:
        title, place = "Failed", None
    members: dict[str, Any] = {
        "type": type_of(title),
        "title": title,
        "detail": _sentences([detail(error), *getattr(error, "__notes__", [])]),
        "field": place,
    }
    for name in ("index", "key", "retry_after_ms", "commit_id"):
        members[name] = getattr(error, name, None)
    return {name: value for name, value in members.items() if value is not None}


def _sentences(parts: list[str]) -> str:
    """Join what is said; what others follow ends as a sentence does."""
    ended = [part if part.endswith((".", "!", "?")) else f"{part}." for part in parts[:-1]]
    return " ".join([*ended, parts[-1]])


def detail(error: BaseException) -> str:
    """Return the message; for the system's errors, which file they are about comes first."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
