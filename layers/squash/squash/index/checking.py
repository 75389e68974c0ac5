"""Rows and vectors from outside, checked before anything is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from squash.arrays import F32, AnyArray, is_iterable
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import (
    KEY_BYTES_MAX,
    KEYS_PER_CALL_MAX,
    METADATA_BYTES_MAX,
    VECTOR_SQUARE_SURE_MAX,
    VECTOR_SQUARE_SURE_MIN,
    VECTOR_VALUE_MAGNITUDE_MAX,
)
from squash.model import IndexConfig, Metric, RowBatch

CheckMetadata: TypeAlias = Callable[..., dict[str, Any]]
"""check_metadata(metadata, *, key, non_filterable, declared) -> dict"""

_NORM_MIN: Final = 1e-15
_MATRIX: Final = 2
_CHARACTER_BYTES_MAX: Final = 4  # of UTF-8
KEY_CHARACTERS_SHOWN_MAX: Final = 64  # of what a message quotes


def check_rows(
    keys: Sequence[str],
    vectors: Any,
    metadata: Sequence[Mapping[str, Any] | None] | None,
    config: IndexConfig,
    *,
    check_metadata: CheckMetadata,
) -> RowBatch:
    """Check rows that are to be put.

    Parameters
    ----------
    keys:
        n different strings of 1 to 1,024 bytes of UTF-8.
    vectors:
        Numbers [n, d].
    metadata:
        n JSON objects, or None for none.
    config:
        The index's.
    check_metadata:
        Checks one record's metadata and returns it as it is to be stored.

    Returns
    -------
    The rows, vectors as float32 [n, d] of their own.

    Raises
    ------
    InvalidArgumentError
        With the key and the field of the first thing wrong.
    TooLargeError
        If there are more than `KEYS_PER_CALL_MAX` keys.

    """
    names = _check_names(keys)
    array = _as_numbers(vectors, field="vectors")
    if not names and not array.size:
        array = np.empty((0, config.dimension), dtype=np.float32)
    if array.ndim != _MATRIX or array.shape[1] != config.dimension:
        raise InvalidArgumentError(
            f"vectors has the shape {list(array.shape)}; index {config.name!r} takes "
            f"[rows, {config.dimension}]",
            index=config.name,
            field="vectors",
        )
    checked = _check_notes(
        names, metadata, config, (len(array), "vectors"), check_metadata=check_metadata
    )
    return RowBatch(names, _as_vectors(array, config, names=names), checked)


def check_records(
    keys: Sequence[str],
    metadata: Sequence[Mapping[str, Any] | None] | None,
    config: IndexConfig,
    *,
    items: tuple[int, str],
    check_metadata: CheckMetadata,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Check all of records that are to be put but their vectors, which are still to be made.

    Parameters
    ----------
    keys, metadata, config, check_metadata:
        As in `check_rows`.
    items:
        How many there are of what vectors will be made of, and its name: "texts".

    Returns
    -------
    The keys, and the metadata as it is to be stored.

    Raises
    ------
    InvalidArgumentError, TooLargeError
        As `check_rows`.

    """
    names = _check_names(keys)
    return names, _check_notes(names, metadata, config, items, check_metadata=check_metadata)


def rows_with_vectors(
    names: list[str], vectors: F32, metadata: list[dict[str, Any]], config: IndexConfig
) -> RowBatch:
    """Return rows of what `check_records` passed and the vectors that were made, float32 [n, d].

    Raises
    ------
    InvalidArgumentError
        If the index cannot keep a vector.

    """
    return RowBatch(names, _as_vectors(vectors, config, names=names), metadata)


def _check_names(keys: Sequence[str]) -> list[str]:
    names = check_keys(keys)
    _check_distinct(names)
    return names


def _check_notes(
    names: list[str],
    metadata: Sequence[Mapping[str, Any] | None] | None,
    config: IndexConfig,
    items: tuple[int, str],
    *,
    check_metadata: CheckMetadata,
) -> list[dict[str, Any]]:
    if metadata is not None and not is_iterable(metadata):
        raise _single_metadata()
    notes = [None] * len(names) if metadata is None else list(metadata)
    count, what = items
    if not len(names) == count == len(notes):
        raise InvalidArgumentError(
            f"there are {len(names)} keys, {count} {what} and {len(notes)} metadata objects: "
            "give as many of each",
            index=config.name,
            field=what if count != len(names) else "metadata",
        )
    return [
        check_metadata(
            {} if one is None else one,
            key=name,
            non_filterable=config.non_filterable,
            declared=config.attributes,
        )
        for name, one in zip(names, notes, strict=True)
    ]


def check_patches(
    keys: Sequence[str], patches: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[Mapping[str, Any]]]:
    """Check which records are to be patched by what; what comes of it is checked as when put.

    Parameters
    ----------
    keys:
        n different keys.
    patches:
        n JSON objects.

    Raises
    ------
    InvalidArgumentError
        With the first thing wrong.
    TooLargeError
        If there are more than `KEYS_PER_CALL_MAX` keys.

    """
    names = _check_names(keys)
    if isinstance(patches, Mapping | str | bytes) or not is_iterable(patches):
        raise _single_metadata()
    listed = list(patches)
    if len(listed) != len(names):
        raise InvalidArgumentError(
            f"there are {len(names)} keys and {len(listed)} metadata objects: give as many of each",
            field="metadata",
        )
    for i, (name, patch) in enumerate(zip(names, listed, strict=True)):
        if not isinstance(patch, Mapping):
            raise InvalidArgumentError(
                f"metadata[{i}] is no JSON object but {type(patch).__name__}: give what changes, "
                "with null for what is to be removed",
                key=name,
                field=f"metadata[{i}]",
            )
    return names, listed


def text_differs(metadata: Mapping[str, Any], text: str, *, text_key: str) -> str | None:
    """Return why a record's text cannot be kept in its metadata, if another stands there."""
    if text_key not in metadata or metadata[text_key] == text:
        return None
    return (
        f"has {text_key!r} already, where the record's text is kept, and it is another: leave it "
        "out, or create the index with another text_key"
    )


def text_too_long(text: str, *, text_key: str) -> str | None:
    """Return why a text cannot be kept in its record's metadata, if it is too long for that."""
    # As metadata are measured: quotes and line ends take more than they are.
    kept = json.dumps({text_key: text}, ensure_ascii=False, separators=(",", ":")).encode()
    if len(kept) <= METADATA_BYTES_MAX:
        return None
    return (
        f"has {len(text.encode())} bytes, and is kept with the record, as JSON of {len(kept)}, of "
        f"whose metadata at most {METADATA_BYTES_MAX} are: put it as several records, or create "
        "the index with text_key=None, which keeps none"
    )


def check_vector(vector: Any, config: IndexConfig, *, place: int | None = None) -> F32:
    """Check a query's vector; `place` is which of several it is, if it is one of them.

    Returns
    -------
    float32 [d], of its own.

    Raises
    ------
    InvalidArgumentError
        With what is wrong.

    """
    field = "vector" if place is None else f"vectors[{place}]"
    plain = type(vector) is np.ndarray and vector.dtype.char in "fd"
    array = vector if plain else _as_numbers(vector, field=field)
    if array.shape != (config.dimension,):
        raise InvalidArgumentError(
            f"{field} has the shape {list(array.shape)}; index {config.name!r} takes "
            f"[{config.dimension}]",
            index=config.name,
            field=field,
        )
    # One product, which NaN, infinities and too large values spoil, speaks for nearly every vector;
    # what it leaves open is checked value by value.
    if array.dtype.char in "fd":
        # It is `array.dot(array)`, which would warn of an infinite product.
        square = float(np.vdot(array, array))
        if VECTOR_SQUARE_SURE_MIN <= square <= VECTOR_SQUARE_SURE_MAX:
            return array.astype(np.float32, order="C", copy=True)
    vectors, problems = sound_vectors(array[np.newaxis], config)
    if problems:
        raise InvalidArgumentError(f"{field} {problems[0]}", index=config.name, field=field)
    found: F32 = vectors[0]
    return found


def check_vectors(vectors: Sequence[Any] | AnyArray, config: IndexConfig) -> list[F32]:
    """Check the vectors of several queries, each as `check_vector` does; an array's all at once."""
    if (
        type(vectors) is np.ndarray
        and vectors.dtype.char in "fd"
        and vectors.shape[1:] == (config.dimension,)
    ):
        # Products as there: what one row leaves open, its own check settles.
        squares = np.einsum("ij,ij->i", vectors, vectors)
        if np.all((squares >= VECTOR_SQUARE_SURE_MIN) & (squares <= VECTOR_SQUARE_SURE_MAX)):
            return list(vectors.astype(np.float32, order="C", copy=True))
    several = len(vectors) > 1
    return [
        check_vector(vector, config, place=place if several else None)
        for place, vector in enumerate(vectors)
    ]


def check_keys(keys: Sequence[str]) -> list[str]:
    """Check keys, which may repeat.

    Raises
    ------
    InvalidArgumentError
        With the first that is no key.
    TooLargeError
        If there are more than `KEYS_PER_CALL_MAX`.

    """
    if isinstance(keys, str | bytes):
        raise InvalidArgumentError("keys is a single string: give a list", field="keys")
    if not is_iterable(keys):
        raise InvalidArgumentError(f"keys is {keys!r:.80}: give a list of strings", field="keys")
    names = list(keys)
    if len(names) > KEYS_PER_CALL_MAX:
        raise TooLargeError(
            f"{len(names)} keys in one call; at most {KEYS_PER_CALL_MAX} are taken: make several "
            "calls",
            field="keys",
        )
    for i, problem in key_problems(names).items():
        key: object = names[i]
        shown = key[:KEY_CHARACTERS_SHOWN_MAX] if isinstance(key, str) else key
        raise InvalidArgumentError(
            f"keys[{i}] is {shown!r:.80}, which {problem}",
            key=key if isinstance(key, str) else None,
            field=f"keys[{i}]",
        )
    return names


def key_problems(keys: Sequence[Any]) -> dict[int, str]:
    """Return what is wrong with keys, by their places; empty if all are fine."""
    if _surely_keys(keys):
        return {}
    found = ((i, _key_problem(key)) for i, key in enumerate(keys))
    return {i: problem for i, problem in found if problem}


def _surely_keys(keys: Sequence[Any]) -> bool:
    """Tell of most keys that they are fine, without looking at each in turn."""
    if not set(map(type, keys)) <= {str}:
        return False
    lengths = list(map(len, keys))
    if not lengths or min(lengths) < 1 or max(lengths) > KEY_BYTES_MAX // _CHARACTER_BYTES_MAX:
        return not lengths
    return all(map(str.isascii, keys)) or is_unicode("".join(keys))


def is_unicode(text: str) -> bool:
    """Tell whether a text is UTF-8's: no half of a surrogate pair stands in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return f"is no string but {type(key).__name__}: convert it"
    if not key:
        return f"is empty: keys have 1 to {KEY_BYTES_MAX} bytes"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "has half a surrogate pair: give valid Unicode"
    if length > KEY_BYTES_MAX:
        return f"has {length} bytes of UTF-8: keys have 1 to {KEY_BYTES_MAX}"
    return None


def _check_distinct(names: list[str]) -> None:
    if len(set(names)) == len(names):
        return
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in first:
            raise InvalidArgumentError(
                f"keys[{first[name]}] and keys[{i}] are both {name[:KEY_CHARACTERS_SHOWN_MAX]!r}: "
                "give each key once in a call",
                key=name,
                field=f"keys[{i}]",
            )
        first[name] = i


def _single_metadata() -> InvalidArgumentError:
    return InvalidArgumentError(
        "metadata is a single value: give a list with one object for each key", field="metadata"
    )


def _as_numbers(values: Any, *, field: str) -> AnyArray:
    """Return integers or floats of whatever width."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        # Tensors that are trained, or lie on another device, say so by one of these.
        raise InvalidArgumentError(
            f"{field} cannot be made an array ({error}): give an array, or rows of equal length",
            field=field,
        ) from error
    # Not asked of what is no array: others have something else of that name.
    plain = type(values) is np.ndarray or not isinstance(values, np.ndarray)
    if not plain and np.any(getattr(values, "mask", False)):
        raise InvalidArgumentError(
            f"{field} has masked values, and a vector has a value everywhere: fill them, or leave "
            "these rows out",
            field=field,
        )
    if array.dtype.kind not in "fiu":
        raise InvalidArgumentError(
            f"{field} has the element type {array.dtype}: give floats or integers, best float32",
            field=field,
        )
    return array


def _as_vectors(array: AnyArray, config: IndexConfig, *, names: list[str]) -> F32:
    """Convert [n, d] to float32, each row checked."""
    vectors, problems = sound_vectors(array, config)
    for row, problem in problems.items():
        raise InvalidArgumentError(
            f"the vector of record {names[row][:KEY_CHARACTERS_SHOWN_MAX]!r} {problem}",
            index=config.name,
            key=names[row],
            field=f"vectors[{row}]",
        )
    return vectors


def sound_vectors(array: AnyArray, config: IndexConfig) -> tuple[F32, dict[int, str]]:
    """Convert [n, d] numbers to float32, and find the rows that the index cannot keep.

    Parameters
    ----------
    array:
        Integers or floats of whatever width, of the index's dimension.
    config:
        The index's.

    Returns
    -------
    vectors:
        float32 [n, d] of their own; zeros where a value is not finite or too large.
    problems:
        What is wrong with a row, by its number: first those with such a value, then those that
        have no direction.

    """
    # Half floats cannot be compared with limits beyond their own largest value.
    array = array.astype(np.float32) if array.dtype == np.float16 else array
    # One pass finds too large values, infinities and NaN alike: a comparison with NaN is false.
    good = np.all(
        (array <= VECTOR_VALUE_MAGNITUDE_MAX) & (array >= -VECTOR_VALUE_MAGNITUDE_MAX), axis=1
    )
    problems: dict[int, str] = {}
    if not good.all():
        for row in np.flatnonzero(~good).tolist():
            problems[row] = _value_problem(array[row])
        array = np.where(good[:, np.newaxis], array, array.dtype.type(0))
    vectors: F32 = array.astype(np.float32, order="C", copy=True)
    if config.metric is Metric.COSINE:
        squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        for row in np.flatnonzero(good & (squares < _NORM_MIN**2)).tolist():
            length = float(np.sqrt(squares[row]))
            less = f"{length:.2g}; below {_NORM_MIN:g} that counts as length zero, which"
            said = less if length else "zero, which"
            problems[row] = (
                f"has the length {said} has no direction: cosine cannot compare it. Give "
                "another vector, or create the index with another metric"
            )
    return vectors, problems


def _value_problem(values: AnyArray) -> str:
    bad = ~((values <= VECTOR_VALUE_MAGNITUDE_MAX) & (values >= -VECTOR_VALUE_MAGNITUDE_MAX))
    at = int(np.argmax(bad))
    return (
        f"has {values[at]} at position {at}: values are finite and at most "
        f"{VECTOR_VALUE_MAGNITUDE_MAX:g} in magnitude"
    )
