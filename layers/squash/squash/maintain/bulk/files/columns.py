"""What Parquet's columns hold, in Python's and JSON's kinds. Imports pyarrow, which is an extra."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any, Final

import pyarrow as pa

from squash.errors import InvalidArgumentError
from squash.limits import INTEGER_MAGNITUDE_MAX
from squash.maintain.bulk.files.objects import parse_object
from squash.maintain.bulk.files.parquet_marks import EXPORT_ENCODER, EXPORT_KEY, EXPORT_VERSION

METADATA_COLUMN: Final = "metadata"
"""In a file of `squash export`: a JSON object a row."""
_MICROSECONDS: Final = "us"


class Unreadable:
    """Stands for a value that has no form in Python, such as a string that is not UTF-8."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def is_list(schema: Any, name: str | None) -> bool:
    """Tell if a column holds lists."""
    types = pa.types
    if name not in schema.names:
        return False
    kind = schema.field(name).type
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind))


def is_numbers(kind: Any) -> bool:
    """Tell if values of a type are numbers that a vector can be made of."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(schema: Any, name: str | None) -> bool:
    """Tell if a column holds strings."""
    types = pa.types
    if name not in schema.names:
        return False
    kind = schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_binary(kind: Any) -> bool:
    """Tell if values of a type are bytes."""
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def is_plain(kind: Any) -> bool:
    """Tell if values of a type are JSON's as they are."""
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
    )


def python_values(column: Any) -> list[Any]:
    """Return a column's values; `Unreadable` where one has no form in Python."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's datetime ends at microseconds.
        column = column.cast(pa.timestamp(_MICROSECONDS, tz=kind.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_python_value(value) for value in column]
    return values


def _python_value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return Unreadable(str(error))


def plain(value: Any) -> Any:
    """Convert a Parquet value to JSON's kinds: times to ISO strings, nulls dropped.

    Raises
    ------
    TypeError
        If it has no JSON form; the message is the name of its type, or why.

    """
    match value:
        case str() | bool() | int() | float():
            return value
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case decimal.Decimal() if abs(value) > INTEGER_MAGNITUDE_MAX:
            return int(value)  # Refused where it is kept, as every number that is not exact.
        case decimal.Decimal():
            return float(value)
        case list():
            return [plain(element) for element in value if element is not None]
        case dict():
            return {name: plain(element) for name, element in value.items() if element is not None}
        case Unreadable():
            raise TypeError(value.problem)
        case _:
            raise TypeError(type(value).__name__)


def key_value(value: Any) -> Any:
    """Return a key as a record has it: integers as their decimals, all else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def told_by_export(schema: Any, *, place: str) -> dict[str, Any] | None:
    """Return what a file of `squash export` tells of itself; None if it is another.

    Raises
    ------
    InvalidArgumentError
        If it is of another version.

    """
    data = (schema.metadata or {}).get(EXPORT_KEY)
    if data is None:
        return None
    told = parse_object(data, place=f"{place} metadata")
    if told.get("version") != EXPORT_VERSION:
        raise InvalidArgumentError(
            f"{place}: an export of version {told.get('version')!r}, and this "
            f"release reads version {EXPORT_VERSION}: take a newer one"
        )
    return told


def export_maker(told: dict[str, Any] | None, *, place: str) -> str | None:
    """Return which encoder made the vectors, as ``name@digest``, if the file tells.

    Raises
    ------
    InvalidArgumentError
        If what it tells is none.

    """
    made_by = (told or {}).get(EXPORT_ENCODER)
    if made_by is not None and not (isinstance(made_by, str) and "@" in made_by):
        raise InvalidArgumentError(
            f"{place} metadata: {EXPORT_ENCODER!r} is {made_by!r:.80}, where it is "
            "to be name@digest: export it again"
        )
    return made_by
