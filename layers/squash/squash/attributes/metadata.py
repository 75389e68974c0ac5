"""Checking metadata on its way in."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from squash.errors import InvalidArgumentError, SquashError, TooLargeError, shown
from squash.limits import (
    ATTRIBUTE_NAME_BYTES_MAX,
    INTEGER_MAGNITUDE_MAX,
    METADATA_BYTES_MAX,
    METADATA_DEPTH_MAX,
    METADATA_FILTERABLE_BYTES_MAX,
    METADATA_KEYS_MAX,
    METADATA_LIST_ELEMENTS_MAX,
)
from squash.model import AttributeType

# The longest that JSON takes: a character written as \u001f; -1.2345678901234567e-308; the quotes
# of a name and a string, a colon and a comma.
_CHARACTER_BYTES_MAX = 6
_NUMBER_BYTES_MAX = 24
_MARKS_BYTES = 6
_PLAIN_BYTES_MAX = min(METADATA_FILTERABLE_BYTES_MAX, METADATA_BYTES_MAX)
# A float: against integers of so many bits Python compares floats slowly.
_PLAIN_NUMBER_MAX = float(INTEGER_MAGNITUDE_MAX)
_ELEMENT_TYPES = {"number": float, "string": str, "boolean": bool}


def check_metadata(
    metadata: Mapping[str, Any] | None,
    *,
    key: str,
    non_filterable: Collection[str],
    declared: Mapping[str, AttributeType],
) -> dict[str, Any]:
    """Check one record's metadata and return it as plain JSON values.

    Parameters
    ----------
    metadata:
        What the caller gave; None is empty.
    key:
        The record's key, for messages.
    non_filterable:
        Names that may hold any JSON value.
    declared:
        Names whose type was declared.

    Raises
    ------
    InvalidArgumentError
        If a value is no JSON value, no filterable one, or not of its declared type.
    TooLargeError
        If a limit is passed.

    """
    if metadata is None:
        return {}
    if type(metadata) is dict and _surely_plain(metadata, non_filterable, declared):
        return metadata.copy()
    if not isinstance(metadata, Mapping):
        raise _wrong(key, "metadata", f"must be a JSON object, not {type(metadata).__name__}")
    if len(metadata) > METADATA_KEYS_MAX:
        raise _large(key, "metadata", f"has {len(metadata)} keys; at most {METADATA_KEYS_MAX}")
    checked: dict[str, Any] = {}
    for name, value in metadata.items():
        if type(name) is not str or not is_metadata_key(name):
            _check_name(name, key)
        if name in non_filterable:
            checked[name] = _any_json(value, key, f"metadata.{name}", depth=0)
            continue
        checked[name] = value if _is_plain(value) else _filterable(value, key, f"metadata.{name}")
        if name in declared:
            _check_declared(checked[name], declared[name], key, f"metadata.{name}")
    _check_bytes(checked, non_filterable, key)
    return checked


def _surely_plain(
    metadata: dict[str, Any], non_filterable: Collection[str], declared: Collection[str]
) -> bool:
    """Tell, of what most records hold, that it passes all checks as it is: looked at once."""
    for special in (non_filterable, declared):
        if special and not metadata.keys().isdisjoint(special):
            return False
    most = _names_bytes_max(tuple(metadata))
    for value in metadata.values():
        kind = type(value)
        if kind is float or kind is int:
            # NaN is in no interval; larger floats are looked at apart.
            if not -_PLAIN_NUMBER_MAX <= value <= _PLAIN_NUMBER_MAX:
                return False
        elif kind is str:
            if not value.isascii():
                return False
            most += _CHARACTER_BYTES_MAX * len(value)
        elif kind is not bool:
            return False
    return most <= _PLAIN_BYTES_MAX


@lru_cache(maxsize=256)
def _names_bytes_max(names: tuple[Any, ...]) -> float:
    """Return what names and a number each take at most; infinite where they are not allowed."""
    named = all(is_metadata_key(name) for name in names)
    if not named or len(names) > METADATA_KEYS_MAX:
        return math.inf
    marks = _MARKS_BYTES + _NUMBER_BYTES_MAX
    return 2 + sum(_CHARACTER_BYTES_MAX * len(name) + marks for name in names)


@lru_cache(maxsize=256)
def is_metadata_key(name: object) -> bool:
    """Tell if metadata may have a key: an import has the same few in every record."""
    try:
        _check_name(name, "")
    except SquashError:
        return False
    return True


def _is_plain(value: Any) -> bool:
    """Tell if a value is one of those that `_filterable` gives back as they are."""
    kind = type(value)
    if kind is float:
        return bool(math.isfinite(value))
    if kind is int:
        return bool(-INTEGER_MAGNITUDE_MAX <= value <= INTEGER_MAGNITUDE_MAX)
    return kind is bool or (kind is str and value.isascii())


def _check_name(name: Any, key: str) -> None:
    # Of what is refused for its length, too, a message has the beginning.
    place = f"metadata.{name:.80}" if isinstance(name, str) else f"metadata.{shown(name)}"
    if not isinstance(name, str) or not name or name.startswith("$"):
        raise _wrong(key, place, "metadata keys are non-empty strings that do not start with $")
    if len(_utf8(name, key, "metadata")) > ATTRIBUTE_NAME_BYTES_MAX:
        raise _large(key, place, f"names have at most {ATTRIBUTE_NAME_BYTES_MAX} bytes")


def _filterable(value: Any, key: str, place: str) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        if len(value) > METADATA_LIST_ELEMENTS_MAX:
            raise _large(key, place, f"lists have at most {METADATA_LIST_ELEMENTS_MAX} elements")
        return [_scalar(element, key, f"{place}[{i}]") for i, element in enumerate(value)]
    return _scalar(value, key, place)


def _scalar(value: Any, key: str, place: str) -> str | float | int | bool:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value
    # Members of enumerations and other subclasses become plain values, as JSON has them.
    if isinstance(value, str):
        _utf8(value, key, place)
        return str.__str__(value)
    if isinstance(value, int):
        if abs(value) > INTEGER_MAGNITUDE_MAX:
            raise _wrong(key, place, "is beyond 2^53, where numbers are not exact: use a string")
        return int(value)
    if isinstance(value, float):
        return _finite(value, key, place)
    if value is None:
        raise _wrong(key, place, "is null; leave the key out instead")
    raise _wrong(
        key,
        place,
        f"has type {type(value).__name__}; filterable values are strings, numbers, true, false, "
        "and lists of these. Declare the key non-filterable to store anything else in it",
    )


def _any_json(value: Any, key: str, place: str, *, depth: int) -> Any:
    """Return a plain copy of any JSON value."""
    if depth > METADATA_DEPTH_MAX:
        raise _large(key, place, f"nests deeper than {METADATA_DEPTH_MAX}")
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool)):
        return value if value is None else _scalar(value, key, place)
    if isinstance(value, int):
        return int(value)  # of any size: it is stored as text and never compared
    if isinstance(value, float):
        return _finite(value, key, place)
    if isinstance(value, (list, tuple)):
        return [_any_json(v, key, f"{place}[{i}]", depth=depth + 1) for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return _any_object(value, key, place, depth=depth)
    raise _wrong(key, place, f"has type {type(value).__name__}, which JSON does not know")


def _any_object(value: Mapping[Any, Any], key: str, place: str, *, depth: int) -> dict[str, Any]:
    copied = {}
    for name, inside in value.items():
        if not isinstance(name, str):
            raise _wrong(key, place, f"has the key {shown(name)}; keys of JSON objects are strings")
        _utf8(name, key, place)
        inner_place = f"{place}.{name}"
        copied[str.__str__(name)] = _any_json(inside, key, inner_place, depth=depth + 1)
    return copied


def _finite(value: float, key: str, place: str) -> float:
    if not math.isfinite(value):
        raise _wrong(key, place, f"is {value}; numbers must be finite: leave the key out")
    return float(value)


def _check_declared(value: Any, declared: AttributeType, key: str, place: str) -> None:
    name, is_list = declared.value.removesuffix("[]"), declared.value.endswith("[]")
    elements = value if isinstance(value, list) else [value]
    wanted = _ELEMENT_TYPES[name]
    right = isinstance(value, list) == is_list and all(
        isinstance(e, wanted) or (wanted is float and type(e) is int) for e in elements
    )
    if not right:
        raise _wrong(key, place, f"must be of the declared type {declared.value}")


def _check_bytes(checked: dict[str, Any], non_filterable: Collection[str], key: str) -> None:
    if _surely_small(checked):
        return
    filterable = {name: v for name, v in checked.items() if name not in non_filterable}
    size = _json_bytes(filterable, key)
    if size > METADATA_FILTERABLE_BYTES_MAX:
        raise _large(
            key,
            "metadata",
            f"has {size} bytes of filterable metadata; at most {METADATA_FILTERABLE_BYTES_MAX}. "
            "Declare long texts non-filterable when you create the index",
        )
    if len(filterable) < len(checked):
        size = _json_bytes(checked, key)
    if size > METADATA_BYTES_MAX:
        raise _large(
            key, "metadata", f"has {size} bytes; at most {METADATA_BYTES_MAX}. Store a link instead"
        )


def _surely_small(checked: dict[str, Any]) -> bool:
    """Tell if metadata is within all limits however it is written: without writing it."""
    most = 2
    for name, value in checked.items():
        most += _CHARACTER_BYTES_MAX * len(name) + _MARKS_BYTES
        kind = type(value)
        if kind is str:
            most += _CHARACTER_BYTES_MAX * len(value)
        elif kind is float or kind is bool or (kind is int and _is_plain(value)):
            most += _NUMBER_BYTES_MAX
        else:
            return False
    return most <= min(METADATA_FILTERABLE_BYTES_MAX, METADATA_BYTES_MAX)


def _json_bytes(value: dict[str, Any], key: str) -> int:
    return len(_json_text(value, key).encode())


def _json_text(value: Any, key: str) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(key, "metadata", f"holds what is no JSON value ({error})") from error
    else:
        return text


def _utf8(text: str, key: str, place: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise _wrong(key, place, "holds half of a surrogate pair") from error


def _wrong(key: str, place: str, what: str) -> SquashError:
    return InvalidArgumentError(f"record {key!r}: {place} {what}", key=key, field=place)


def _large(key: str, place: str, what: str) -> SquashError:
    return TooLargeError(f"record {key!r}: {place} {what}", key=key, field=place)
