"""Vectors on their way in: converted at once, and what is wrong with one told by its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from squash.api.s3vectors.problems import ServiceError, invalid
from squash.arrays import AnyArray
from squash.attributes import check_metadata
from squash.errors import SquashError, TooLargeError
from squash.index.checking import check_rows
from squash.limits import (
    KEY_BYTES_MAX,
    METADATA_BYTES_MAX,
    METADATA_FILTERABLE_BYTES_MAX,
    METADATA_KEYS_MAX,
    VECTOR_VALUE_MAGNITUDE_MAX,
)
from squash.model import IndexConfig
from squash.values import dataclass

_NUMBERS: Final = {int, float}
# What botocore writes for a float that JSON has no number for.
_NOT_FINITE: Final = {"NaN", "Infinity", "-Infinity"}


@dataclass(frozen=True, slots=True)
class Records:
    """What a request puts, each key once: of one given twice the last counts.

    `vectors` is float64 [n, d], which may hold what no index takes, as may the rest: that is the
    library's to refuse.
    """

    keys: Sequence[str]
    vectors: AnyArray
    metadata: Sequence[Any]


def read_records(given: Sequence[Mapping[str, Any]], config: IndexConfig) -> Records:
    """Read the vectors of a request.

    Parameters
    ----------
    given:
        Objects with `key`, `data.float32` and perhaps `metadata`.
    config:
        The index's.

    Raises
    ------
    ServiceError
        A ValidationException that names the key of the first record that is wrong.

    """
    keys = [one["key"] for one in given]
    lists = [one["data"]["float32"] for one in given]
    for key, values in zip(keys, lists, strict=True):
        _check_numbers(values, config.dimension, of_record(key))
    metadata = [one.get("metadata") for one in given]
    last = {key: place for place, key in enumerate(keys)}
    places = list(last.values())
    for place in sorted(set(range(len(keys))) - set(places)):
        # It is replaced in the same request, and still has to be right.
        _check_alone(keys[place], lists[place], metadata[place], config)
    vectors = _array([lists[place] for place in places], [keys[place] for place in places])
    return Records(list(last), vectors, [metadata[place] for place in places])


def read_query(values: Any, config: IndexConfig) -> AnyArray:
    """Read a query's vector, float64 [d].

    Raises
    ------
    ServiceError
        A ValidationException.

    """
    _check_numbers(values, config.dimension, _QUERY)
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise invalid(_QUERY + _TOO_LARGE) from error


def refused_record(error: SquashError, records: Records) -> ServiceError:
    """Say what the library refused of a record, in the service's words where it has some."""
    key = str(error.key)
    place = records.keys.index(key)
    field = error.field or ""
    if field.startswith("vectors"):
        said = _vector_problem(records.vectors[place])
    elif field.startswith("metadata"):
        said = _metadata_problem(error, key, records.metadata[place])
    else:
        said = f"key must be valid Unicode of at most {KEY_BYTES_MAX} bytes in UTF-8"
    return invalid(of_record(key) + said)


def refused_query(vector: AnyArray) -> ServiceError:
    """Say what the library refused of a query's vector."""
    return invalid(_QUERY + _vector_problem(vector))


def of_record(key: str) -> str:
    """Return how an error about a record begins."""
    return f"Invalid record for key '{key}': "


_QUERY: Final = "Invalid query vector: "
_TOO_LARGE: Final = f"vector values must be at most {VECTOR_VALUE_MAGNITUDE_MAX:g} in magnitude"


def _check_numbers(values: Any, dimension: int, whose: str) -> None:
    if not isinstance(values, list):
        raise invalid(f"{whose}vector must be a list of numbers")
    if len(values) != dimension:
        raise invalid(f"{whose}vector must have length {dimension}, but has length {len(values)}")
    if set(map(type, values)) <= _NUMBERS:
        return
    place = next(place for place, value in enumerate(values) if type(value) not in _NUMBERS)
    if isinstance(values[place], str) and values[place] in _NOT_FINITE:
        raise invalid(whose + _not_finite(values[place], place))
    raise invalid(f"{whose}vector must have numbers only, but has none at position {place}")


def _array(lists: list[list[float]], keys: Sequence[str]) -> AnyArray:
    try:
        return np.array(lists, dtype=np.float64)
    except OverflowError as error:
        # An integer of hundreds of digits.
        for key, values in zip(keys, lists, strict=True):
            if any(abs(value) > VECTOR_VALUE_MAGNITUDE_MAX for value in values):
                raise invalid(of_record(key) + _TOO_LARGE) from error
        raise


def _check_alone(key: str, values: list[float], metadata: Any, config: IndexConfig) -> None:
    alone = Records([key], _array([values], [key]), [metadata])
    try:
        check_rows(alone.keys, alone.vectors, alone.metadata, config, check_metadata=check_metadata)
    except SquashError as error:
        raise refused_record(error, alone) from error


def _vector_problem(vector: AnyArray) -> str:
    wrong = ~np.isfinite(vector)
    if wrong.any():
        place = int(np.argmax(wrong))
        return _not_finite(str(vector[place]), place)
    if (np.abs(vector) > VECTOR_VALUE_MAGNITUDE_MAX).any():
        return _TOO_LARGE
    said = "cosine distance does not support vectors with zero norm"
    return f"{said}, which {np.linalg.norm(vector):.2g} counts as" if vector.any() else said


def _not_finite(value: str, place: int) -> str:
    return f"vector must have finite values only, but has {value} at position {place}"


def _metadata_problem(error: SquashError, key: str, metadata: Any) -> str:
    if not isinstance(metadata, dict):
        return "Metadata must be an object"
    if len(metadata) > METADATA_KEYS_MAX:
        return f"Metadata object must have at most {METADATA_KEYS_MAX} keys"
    said = str(error).removeprefix(f"record {key!r}: ")
    if isinstance(error, TooLargeError) and error.field == "metadata":
        if "of filterable metadata" in said:
            return f"Filterable metadata must have at most {METADATA_FILTERABLE_BYTES_MAX} bytes"
        return f"Metadata must have at most {METADATA_BYTES_MAX} bytes"
    return said
