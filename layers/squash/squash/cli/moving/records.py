"""Records between the service's JSON and our arrays, and what one side cannot take."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from squash.api.s3vectors.answers import short_floats
from squash.arrays import F32
from squash.attributes import check_metadata
from squash.errors import SquashError
from squash.index.checking import check_rows
from squash.model import IndexConfig, Metadata, RowBatch
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record that the target cannot take, and why."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class WireRecord:
    """A record as it stands in the body of a `PutVectors`, in ASCII."""

    key: str
    text: str


def rows_of(
    vectors: Sequence[Mapping[str, Any]], config: IndexConfig
) -> tuple[RowBatch, list[BadRow]]:
    """Read records of the service for an index.

    Returns
    -------
    Those that the index takes, and the others.

    """
    # A key that a page holds twice counts once, with what came last.
    last = {str(one["key"]): one for one in vectors}
    try:
        return _checked(list(last.values()), config), []
    except (SquashError, ValueError, TypeError, KeyError):
        pass
    good: list[Mapping[str, Any]] = []
    bad: list[BadRow] = []
    for key, one in last.items():
        try:
            _checked([one], config)
        except SquashError as error:
            bad.append(BadRow(key, str(error)))
        except (ValueError, TypeError, KeyError):
            bad.append(BadRow(key, f"record {key!r}: its vector is no list of numbers"))
        else:
            good.append(one)
    return _checked(good, config), bad


def _checked(records: Sequence[Mapping[str, Any]], config: IndexConfig) -> RowBatch:
    return check_rows(
        [str(one["key"]) for one in records],
        [vector_of(one) for one in records],
        [metadata_of(one) for one in records],
        config,
        check_metadata=check_metadata,
    )


def vector_of(record: Mapping[str, Any]) -> F32:
    """Return a record's vector, float32 [d]; what is beyond float32 becomes infinite."""
    numbers = record["data"]["float32"]
    if not set(map(type, numbers)) <= {int, float}:
        raise ValueError("a vector holds what is no number")
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)


def metadata_of(record: Mapping[str, Any]) -> Metadata:
    """Return a record's metadata, {} if it has none."""
    found = record.get("metadata")
    return {} if found is None else found


def wire_records(batch: RowBatch) -> list[WireRecord]:
    """Write rows as they stand in the body of a `PutVectors`.

    Numbers are the shortest decimals that are read back as the same float32: 13 bytes each in
    place of the 22 of a float32 as the double that it is.
    """
    records = []
    vectors = short_floats(batch.vectors).tolist()
    for key, vector, metadata in zip(batch.keys, vectors, batch.metadata, strict=True):
        text = f'{{"key": {json.dumps(key)}, "data": {{"float32": {json.dumps(vector)}}}'
        if metadata:
            text += f', "metadata": {json.dumps(dict(metadata))}'
        records.append(WireRecord(key, text + "}"))
    return records


def same_vector(left: F32, right: F32) -> bool:
    """Tell if two vectors are the same to the bit."""
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def same_metadata(left: Any, right: Any) -> bool:
    """Tell if two values are the same to a reader of JSON: 1 is 1.0, and neither is true."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(
            same_metadata(value, right[name]) for name, value in left.items()
        )
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same_metadata, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)
