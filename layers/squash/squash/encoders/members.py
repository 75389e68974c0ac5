"""Checks of the members of `encoder.json`: each gives the value back, or says what is wrong.

A check takes a value and its place, such as ``text.tokens_max``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from squash.errors import InvalidArgumentError
from squash.limits import DIMENSION_MAX

DESCRIBED_IN: Final = "encoder.json"
_WORDS_BYTES_MAX: Final = 1_024
_NUMBER_MAX: Final = 1e6  # of means and deviations: those of values in [0, 1] are far below
_CUTS_MAX: Final = 16


class Members:
    """The members of an object, each checked by what is given for it; the message has its place."""

    def __init__(self, content: Mapping[str, Any], place: str) -> None:
        self._content = content
        self._place = place

    def read(self, **checks: Any) -> dict[str, Any]:
        """Return all members, each by its check; none may be missing, and none be unknown."""
        unknown = sorted(self._content.keys() - checks.keys())
        if unknown:
            raise wrong(self._path(f"{unknown[0]:.40}"), "is no member that this release knows")
        missing = sorted(checks.keys() - self._content.keys())
        if missing:
            raise wrong(self._path(missing[0]), "is missing")
        return {
            name: check(self._content[name], self._path(name)) for name, check in checks.items()
        }

    def _path(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name


def wrong(field: str, what: str) -> InvalidArgumentError:
    """Return the error of a member that is wrong."""
    return InvalidArgumentError(f"{DESCRIBED_IN}: {field} {what}", field=field)


def whole(low: int, high: int) -> Any:
    """Return the check of a whole number."""

    def check(value: Any, field: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise wrong(field, f"is a whole number from {low} to {high}, not {value!r:.40}")
        return value

    return check


def flag(value: Any, field: str) -> bool:
    """Check a member that is true or false."""
    if not isinstance(value, bool):
        raise wrong(field, f"is true or false, not {value!r:.40}")
    return value


def words(value: Any, field: str, bytes_max: int = _WORDS_BYTES_MAX) -> str:
    """Check a text of bounded length."""
    if not isinstance(value, str):
        raise wrong(field, f"is a string, not {value!r:.40}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise wrong(field, "is no Unicode text: it has half of a surrogate pair") from error
    if size > bytes_max:
        raise wrong(field, f"is a string of at most {bytes_max} bytes")
    return value


def one_of(kind: type[StrEnum]) -> Any:
    """Return the check of a word that is one of some."""

    def check(value: Any, field: str) -> StrEnum:
        if value not in list(kind):
            raise wrong(field, f"is one of {', '.join(kind)}, not {value!r:.40}")
        return kind(value)

    return check


def optional(check: Any) -> Any:
    """Return a check that lets null pass too."""
    return lambda value, field: None if value is None else check(value, field)


def object_of(value: Any, field: str) -> Mapping[str, Any]:
    """Check an object, and nothing of its members."""
    if not isinstance(value, dict):
        raise wrong(field, "is an object")
    return value


def list_of(value: Any, field: str, length_max: int) -> Sequence[Any]:
    """Check a list of bounded length, and nothing of its elements."""
    if not isinstance(value, list) or len(value) > length_max:
        raise wrong(field, f"is a list of at most {length_max}")
    return value


def dimensions(value: Any, field: str) -> tuple[int, ...]:
    """Check a list of dimensions."""
    check = whole(1, DIMENSION_MAX)
    return tuple(check(one, field) for one in list_of(value, field, _CUTS_MAX))


def numbers(value: Any, field: str) -> tuple[float, ...]:
    """Check three numbers, one a channel, or none."""
    found = list_of(value, field, 3)
    if len(found) not in {0, 3} or not all(map(_is_small, found)):
        raise wrong(field, f"has three numbers of at most {_NUMBER_MAX:.0f}, or none")
    return tuple(float(one) for one in found)


def _is_small(value: Any) -> bool:
    return type(value) in {int, float} and abs(value) <= _NUMBER_MAX


def divisors(value: Any, field: str) -> tuple[float, ...]:
    """Check three numbers to divide by, one a channel, or none."""
    found = numbers(value, field)
    if any(one < 1 / _NUMBER_MAX for one in found):
        raise wrong(field, f"has numbers of at least {1 / _NUMBER_MAX}")
    return found
