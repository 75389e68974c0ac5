"""The members of JSON objects, checked by small functions; each names the place that is wrong."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import AnyArray
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import DIMENSION_MAX, IMAGE_BYTES_MAX, INTEGER_MAGNITUDE_MAX

Check: TypeAlias = Callable[[Any, str], Any]
"""check(value, place) returns the value as it is to be used, or raises InvalidArgumentError."""

_SHOWN_CHARACTERS_MAX: Final = 64
_FLOAT32_BYTES: Final = 4
_KINDS: Final[dict[type, str]] = {
    dict: "an object", list: "a list", str: "a string", bool: "true or false",
    int: "a number", float: "a number", type(None): "null",
}  # fmt: skip


def read_object(
    value: Any,
    place: str,
    *,
    required: Mapping[str, Check] | None = None,
    optional: Mapping[str, Check] | None = None,
    whole: str = "the body",
) -> dict[str, Any]:
    """Check an object's members, and that there are no others.

    Parameters
    ----------
    value:
        Parsed JSON.
    place:
        The object's path; empty for the whole.
    required, optional:
        A check for each member there must, or may, be.
    whole:
        What the object is called where it has no path.

    Returns
    -------
    The members that are there, checked.

    Raises
    ------
    InvalidArgumentError
        With the path of the first thing wrong.

    """
    if not isinstance(value, dict):
        raise InvalidArgumentError(
            f"{place or whole} is a JSON object, not {kind_of(value)}", field=place or None
        )
    checks = {**(required or {}), **(optional or {})}
    for name in value:
        if name not in checks:
            from difflib import get_close_matches  # noqa: PLC0415 - for messages alone

            near = get_close_matches(name[:_SHOWN_CHARACTERS_MAX], list(checks), n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(checks)}"
            raise InvalidArgumentError(
                f"{place or whole} has no member '{shown(name)}'; {hint}",
                field=under(place, shown(name)) or None,
            )
    for name in required or ():
        if name not in value:
            raise InvalidArgumentError(
                f"{place or whole} lacks {name!r}: give it", field=under(place, name)
            )
    return {name: checks[name](part, under(place, name)) for name, part in value.items()}


def text(value: Any, place: str) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise wrong(place, f"is a string, not {kind_of(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise wrong(place, "holds half of a surrogate pair: give valid Unicode") from error
    return value


def or_null(check: Check) -> Check:
    """Return a check that lets null pass."""
    return lambda value, place: None if value is None else check(value, place)


def flag(value: Any, place: str) -> bool:
    """Check true or false."""
    if not isinstance(value, bool):
        raise wrong(place, f"is true or false, not {kind_of(value)}")
    return value


def number(value: Any, place: str) -> float:
    """Check a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(place, f"is a number, not {kind_of(value)}")
    if abs(value) > INTEGER_MAGNITUDE_MAX:
        raise wrong(place, "is beyond 2^53: give a smaller number")
    return value


def whole(low: int, high: int) -> Check:
    """Return a check for whole numbers from `low` to `high`."""

    def check(value: Any, place: str) -> int:
        # JSON has one kind of number: 4.0 is as whole as 4.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(place, f"is a whole number, not {_number_or(value)}")
        if not low <= value <= high:
            raise wrong(place, f"is from {low} to {high}")
        return value

    return check


def one_of(*names: str) -> Check:
    """Return a check for one of some words."""

    def check(value: Any, place: str) -> str:
        if not isinstance(value, str) or value not in names:
            raise wrong(place, f"is one of {', '.join(names)}")
        return value

    return check


def list_of(
    check_one: Check, *, most: int, least: int = 0, way: str = "make several requests"
) -> Check:
    """Return a check for lists; too long a one passes a limit and is told so, and a way round."""

    def check(value: Any, place: str) -> list[Any]:
        if not isinstance(value, list):
            raise wrong(place, f"is a list, not {kind_of(value)}")
        if len(value) < least:
            raise wrong(place, f"is a list of at least {least}")
        if len(value) > most:
            raise TooLargeError(
                f"{place} has {len(value)} elements; a request takes at most {most}: {way}",
                field=place,
            )
        return [check_one(part, f"{place}[{i}]") for i, part in enumerate(value)]

    return check


def an_object(value: Any, place: str) -> dict[str, Any]:
    """Check that it is an object; what is in it is another's to judge."""
    if not isinstance(value, dict):
        raise wrong(place, f"is a JSON object, not {kind_of(value)}")
    return value


def vector(value: Any, place: str) -> AnyArray:
    """Check a vector: a list of numbers, or ``{"base64": little-endian float32}``.

    Returns
    -------
    float64 or float32 [d]; that all are finite is checked where the index is known.

    """
    if isinstance(value, dict):
        return read_object(value, place, required={"base64": _floats})["base64"]  # type: ignore[no-any-return]
    if not isinstance(value, list):
        raise wrong(place, f'is a list of numbers, or {{"base64": ...}}, not {kind_of(value)}')
    _check_length(len(value), place)
    if not set(map(type, value)) <= {int, float}:
        i = next(i for i, one in enumerate(value) if type(one) not in {int, float})
        raise wrong(f"{place}[{i}]", f"is a number, not {kind_of(value[i])}")
    try:
        return np.array(value, dtype=np.float64)
    except OverflowError as error:
        raise wrong(place, "has a number too large for a float32") from error


def image(value: Any, place: str) -> bytes:
    """Check an image: ``{"base64": the bytes of its file}``."""
    return read_object(value, place, required={"base64": _image_bytes})["base64"]  # type: ignore[no-any-return]


def _image_bytes(value: Any, place: str) -> bytes:
    data = _decoded(value, place)
    if len(data) > IMAGE_BYTES_MAX:
        raise TooLargeError(
            f"{place} holds an image of {len(data)} bytes; at most {IMAGE_BYTES_MAX} are encoded: "
            "scale it down",
            field=place,
        )
    return data


def _decoded(value: Any, place: str) -> bytes:
    try:
        return base64.b64decode(text(value, place), validate=True)
    except (binascii.Error, ValueError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise wrong(place, "is not base64 (RFC 4648, with its padding)") from error


def _floats(value: Any, place: str) -> AnyArray:
    data = _decoded(value, place)
    if len(data) % _FLOAT32_BYTES:
        raise wrong(place, f"holds {len(data)} bytes, which are no whole number of float32")
    _check_length(len(data) // _FLOAT32_BYTES, place)
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _check_length(length: int, place: str) -> None:
    if not 1 <= length <= DIMENSION_MAX:
        raise wrong(place, f"has {length} numbers; vectors have 1 to {DIMENSION_MAX}")


def wrong(place: str, what: str) -> InvalidArgumentError:
    """Make the error for something at a place."""
    return InvalidArgumentError(f"{place or 'the body'} {what}", field=place or None)


def under(place: str, name: str) -> str:
    """Return the path of a member."""
    return f"{place}.{name}" if place else name


def shown(name: str) -> str:
    """Return a name that the caller gave, no longer than needed to find it."""
    text_ = name if len(name) <= _SHOWN_CHARACTERS_MAX else name[:_SHOWN_CHARACTERS_MAX] + "..."
    return text_.encode(errors="backslashreplace").decode()


def kind_of(value: Any) -> str:
    """Say what kind of JSON value it is."""
    return _KINDS.get(type(value), "something else")


def _number_or(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else kind_of(value)
