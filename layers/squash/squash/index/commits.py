"""Commits: the durable changes of an index, numbered without a gap."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias, assert_never

import numpy as np

from squash.arrays import U8, AnyArray
from squash.container import Buffer, Container
from squash.errors import DataError, UnsupportedFormatError
from squash.index.references import (
    MALFORMED,
    object_from_json,
    object_to_json,
    segment_from_json,
    segment_to_json,
)
from squash.index.sealed import open_sealed, seal
from squash.model import ObjectRef, RowBatch, SegmentRef
from squash.values import dataclass

KIND: Final = "commit"
VERSION: Final = 1
VERSION_CONTENT: Final = 2
"""Of commits that releases which know version 1 alone would take for what they are not."""
VERSION_DROPPED: Final = 3
"""Of the last commit of an index that was dropped, which earlier releases must refuse."""
_VERSIONS: Final = (VERSION, VERSION_CONTENT, VERSION_DROPPED)
VECTOR_FIELD: Final = "vector"
_MATRIX: Final = 2

Content: TypeAlias = Literal["build", "restore"]
_CONTENTS: Final = frozenset({"build", "restore"})


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
    """Segments and fresh commits folded into others; no record changes, but for `content`.

    `outputs` hold what lived in `inputs` (segment ids) and `fresh` (sequences) after the commit
    `base`; what later commits do to keys applies to them too. `trained` is None to leave what is.
    A new one that lists partitions which are no outputs was made of the trained object
    `trained_base`, a key, and is right for no other; None if it lists outputs alone.

    With `content` the outputs are other records, and `trained` is what they share, or None:

    - "build": they take the place of what the index held after `base`. What was written since
      stays, and wins over them; what was brought into other segments since is among `inputs`.
    - "restore": they are what the index held after the commit `restored`, with `deleted` the rows
      that were dead then; `base` is the commit before, and all that was there is replaced. One that
      `begins` changes nothing: it names what a later one will, so that nobody removes it.
    """

    inputs: tuple[str, ...]
    fresh: tuple[int, ...]
    outputs: tuple[SegmentRef, ...]
    trained: ObjectRef | None
    base: int
    trained_base: str | None = None
    content: Content | None = None
    begins: bool = False
    restored: int | None = None
    build: str | None = None
    """The id of the build that publishes or claims."""
    lasts_ms: int | None = None
    """For how long a build claims; 0 ends its claim."""

    @property
    def claims(self) -> bool:
        """Whether it replaces nothing: it says that a fold of all up to `base` has begun.

        With `build`, that a build will replace all that was there after `base`.
        """
        replaces = self.inputs or self.fresh or self.outputs or self.trained
        return self.content is None and not replaces

    @property
    def changes(self) -> bool:
        """Whether records are other ones after it."""
        return self.content is not None and not self.begins

    @property
    def version(self) -> int:
        """The version of the format that a commit of it is written in."""
        later = self.content is not None or self.build is not None
        return VERSION_CONTENT if later else VERSION


@dataclass(frozen=True, slots=True)
class Dropped:
    """The end of the log: the index was dropped, and nothing may follow."""


Operation: TypeAlias = PutRows | PutSegments | DeleteKeys | Replace | Dropped


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
        return seal(KIND, _version(self.operation), header=header, arrays=arrays)

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
        container = open_sealed(data, kind=KIND, versions=_VERSIONS, where=where)
        header = container.header
        try:
            commit = cls(
                sequence=int(header["sequence"]),
                commit_id=str(header["commit_id"]),
                time_ms=int(header["time_ms"]),
                operation=_decode(header["operation"], container, where),
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


def _version(operation: Operation) -> int:
    match operation:
        case Replace():
            return operation.version
        case Dropped():
            return VERSION_DROPPED
        case _:
            return VERSION


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
            later = {
                "trained_base": operation.trained_base,
                "content": operation.content,
                "begins": operation.begins or None,
                "restored": operation.restored,
                "build": operation.build,
                "lasts_ms": operation.lasts_ms,
            }
            header |= {name: value for name, value in later.items() if value is not None}
            return header, {}
        case Dropped():
            return {"type": "dropped"}, {}
        case _:
            assert_never(operation)


def _decode(value: Any, container: Container, where: str) -> Operation:
    if (value["type"] == "dropped") != (container.header["version"] == VERSION_DROPPED):
        raise ValueError("version 3 is of what was dropped, and of nothing else")
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
                **_later(value, container.header["version"]),
            )
        case "dropped":
            return Dropped()
        case other:
            # Its checksum holds, so that it was written so.
            raise UnsupportedFormatError(
                f"{where} is a commit of the type {other!r:.80}, which this release does not know. "
                "Install a newer release of squash-search.",
                object_key=where,
            )


def _later(value: Any, version: int) -> dict[str, Any]:
    """Read what version 2 added to a replacement."""
    if version < VERSION_CONTENT:
        return {}
    content = value.get("content")
    if content is not None and content not in _CONTENTS:
        raise ValueError(f"content {content!r:.80} is not known")
    restored, lasts_ms = value.get("restored"), value.get("lasts_ms")
    return {
        "content": content,
        "begins": bool(value.get("begins", False)),
        "restored": None if restored is None else int(restored),
        "build": _optional_string(value.get("build")),
        "lasts_ms": None if lasts_ms is None else int(lasts_ms),
    }


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
