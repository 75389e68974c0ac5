"""Commits: the durable changes of an index, numbered without a gap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, assert_never

import numpy as np

from squash.arrays import U8, AnyArray
from squash.container import Buffer, Container
from squash.errors import DataError
from squash.index.references import (
    MALFORMED,
    object_from_json,
    object_to_json,
    segment_from_json,
    segment_to_json,
)
from squash.index.sealed import open_sealed, seal
from squash.model import ObjectRef, RowBatch, SegmentRef

KIND: Final = "commit"
VERSION: Final = 1
VECTOR_FIELD: Final = "vector"
_MATRIX: Final = 2


@dataclass(frozen=True, slots=True)
class PutRows:
    """Rows put, held by the commit itself."""

    rows: RowBatch


@dataclass(frozen=True, slots=True)
class PutSegments:
    """Rows put, held by segments whose `as_of` is this commit's sequence."""

    segments: tuple[SegmentRef, ...]


@dataclass(frozen=True, slots=True)
class DeleteKeys:
    """Keys deleted, whether there were such records or not."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Replace:
    """Segments and fresh commits folded into others; no record changes.

    `outputs` hold what lived in `inputs` (segment ids) and `fresh` (sequences) after the commit
    `base`; what later commits do to keys applies to them too. `trained` is None to leave what is.
    A new one that lists partitions which are no outputs was made of the trained object
    `trained_base`, a key, and is right for no other; None if it lists outputs alone.
    """

    inputs: tuple[str, ...]
    fresh: tuple[int, ...]
    outputs: tuple[SegmentRef, ...]
    trained: ObjectRef | None
    base: int
    trained_base: str | None = None

    @property
    def claims(self) -> bool:
        """Whether it replaces nothing: it says that a fold of all up to `base` has begun."""
        return not (self.inputs or self.fresh or self.outputs or self.trained)


Operation: TypeAlias = PutRows | PutSegments | DeleteKeys | Replace


@dataclass(frozen=True, slots=True)
class Commit:
    """One durable change."""

    sequence: int
    commit_id: str
    """Made by the writer; how it knows its own commit again."""
    time_ms: int
    operation: Operation
    stored_bytes: int = field(default=0, compare=False)
    """The length of the stored object this was read from."""

    def to_bytes(self) -> bytes:
        """Return the object's bytes; the same commit gives the same bytes."""
        operation, arrays = _encode(self.operation)
        header = {
            "sequence": self.sequence,
            "commit_id": self.commit_id,
            "time_ms": self.time_ms,
            "operation": operation,
        }
        return seal(KIND, VERSION, header=header, arrays=arrays)

    @classmethod
    def from_bytes(cls, data: Buffer, *, sequence: int, where: str) -> Commit:
        """Read the object that lies at `sequence`.

        Raises
        ------
        ChecksumError, DataError
            If any bit differs from what was written, or it belongs elsewhere.
        UnsupportedFormatError
            If a newer release wrote it.

        """
        container = open_sealed(data, kind=KIND, versions=(VERSION,), where=where)
        header = container.header
        try:
            commit = cls(
                sequence=int(header["sequence"]),
                commit_id=str(header["commit_id"]),
                time_ms=int(header["time_ms"]),
                operation=_decode(header["operation"], container),
                stored_bytes=len(data),
            )
        except MALFORMED as error:
            raise DataError(f"{where} is no commit ({error!r})", object_key=where) from error
        if commit.sequence != sequence:
            raise DataError(
                f"{where} holds commit {commit.sequence}: it was moved there. Restore the log "
                "from a copy.",
                object_key=where,
            )
        return commit


def log_key(sequence: int) -> str:
    """Return where a commit lies, relative to the index's data."""
    return f"log/{sequence:020}"


def _encode(operation: Operation) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    match operation:
        case PutRows(rows):
            arrays: dict[str, AnyArray] = {
                "keys": _json_array(list(rows.keys)),
                "metadata": _json_array([dict(one) for one in rows.metadata]),
                VECTOR_FIELD: np.ascontiguousarray(rows.vectors, dtype=np.float32),
            }
            return {"type": "put_rows", "rows": len(rows)}, arrays
        case PutSegments(segments):
            return {"type": "put_segments", "segments": [segment_to_json(s) for s in segments]}, {}
        case DeleteKeys(keys):
            return {"type": "delete_keys"}, {"keys": _json_array(list(keys))}
        case Replace():
            header = {
                "type": "replace",
                "inputs": list(operation.inputs),
                "fresh": list(operation.fresh),
                "outputs": [segment_to_json(s) for s in operation.outputs],
                "trained": object_to_json(operation.trained) if operation.trained else None,
                "base": operation.base,
            }
            if operation.trained_base is not None:
                header["trained_base"] = operation.trained_base
            return header, {}
        case _:
            assert_never(operation)


def _decode(value: Any, container: Container) -> Operation:
    match value["type"]:
        case "put_rows":
            rows = RowBatch(
                keys=_strings(container.array("keys")),
                vectors=container.array(VECTOR_FIELD),
                metadata=json.loads(container.array("metadata").tobytes()),
            )
            if rows.vectors.ndim != _MATRIX or rows.vectors.dtype != np.float32:
                raise ValueError("vectors are no float32 matrix")
            if not isinstance(rows.metadata, list) or not all(
                isinstance(one, dict) for one in rows.metadata
            ):
                raise TypeError("metadata is a list of objects")
            if not len(rows.keys) == len(rows.vectors) == len(rows.metadata) == value["rows"]:
                raise ValueError("keys, vectors and metadata are of unequal number")
            return PutRows(rows)
        case "put_segments":
            return PutSegments(tuple(segment_from_json(s) for s in value["segments"]))
        case "delete_keys":
            return DeleteKeys(_strings(container.array("keys")))
        case "replace":
            return Replace(
                inputs=tuple(value["inputs"]),
                fresh=tuple(value["fresh"]),
                outputs=tuple(segment_from_json(s) for s in value["outputs"]),
                trained=object_from_json(value["trained"]) if value["trained"] else None,
                base=int(value["base"]),
                trained_base=_optional_string(value.get("trained_base")),
            )
        case other:
            raise ValueError(f"operation {other!r} is not known")


def _json_array(value: list[Any]) -> U8:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _strings(array: AnyArray) -> list[str]:
    found = json.loads(array.tobytes())
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError("keys are a list of strings")
    return found


def _optional_string(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no key")
    return value
