"""JSON lines: `{"key": ..., "vector": [...], "metadata": {...}}`, one record a line.

In the place of the vector an encoder may be given a `text`, an `image` or an `image_file`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from squash import limits
from squash.cli.importers.inputs import (
    GatheredInputs,
    checked_text,
    image_file_of,
    image_of,
)
from squash.cli.importers.rows import batch_rows, count_lines, metadata_bytes
from squash.errors import InvalidArgumentError
from squash.maintain.bulk.files.objects import parse_object
from squash.model import InputBatch, Metadata, Modality, RowBatch
from squash.reports import Progress
from squash.values import dataclass

_KINDS: Final = ("vector", "text", "image", "image_file")
"""What a record may be of; a file is of one."""
MEMBERS: Final = frozenset({"key", "metadata", *_KINDS})
_PATCH_MEMBERS: Final = frozenset({"key", "metadata"})


@dataclass(frozen=True, slots=True)
class FileKind:
    """What the records of a file are of, by the first of them."""

    name: str
    line: int


class JsonLinesRows:
    """The records of a file of JSON lines; empty lines are passed over."""

    made_by: str | None = None

    def __init__(self, path: Path, *, dimension: int) -> None:
        self._path = path
        self._dimension = dimension
        self._bytes = path.stat().st_size
        self._progress = Progress("import", 0, self._bytes, "bytes")
        self._lines: dict[str, int] = {}

    def batches(self) -> Iterator[RowBatch | InputBatch]:
        """Yield the records; see `RowSource`."""
        with self._path.open("rb") as file:
            yield from self._read(file)

    def _read(self, file: BinaryIO) -> Iterator[RowBatch | InputBatch]:
        # Bytes are counted, since a pipe has no place to tell; nor can its lines be read twice.
        rows, number, lines, used = self._fresh(None), 0, 0, 0
        for number, line in numbered_lines(file, name=self._path.name):
            used += len(line)
            if line.isspace():
                continue
            rows.add(number, line)
            if not lines and rows.of_inputs and self._path.is_file():
                # Encoding takes far longer than counting.
                lines = count_lines(self._path)
            if rows.full:
                self._used(rows, used, number, lines)
                yield rows.batch()
                rows = self._fresh(rows.kind)
        self._used(rows, used, number, lines)
        if len(rows):
            yield rows.batch()

    def _fresh(self, kind: FileKind | None) -> RecordLines:
        return RecordLines(
            self._path.name, dimension=self._dimension, folder=self._path.parent, kind=kind
        )

    def _used(self, rows: RecordLines, used: int, number: int, lines: int) -> None:
        self._lines = rows.lines
        if rows.of_inputs:
            self._progress = Progress("import", number, lines, "lines")
        else:
            self._progress = Progress("import", used, self._bytes, "bytes")

    def progress(self) -> Progress:
        """Tell how many bytes of the file are used; for an encoder, how many lines."""
        return self._progress

    def place(self, key: str) -> str | None:
        """Name the line of a key of the latest batch."""
        line = self._lines.get(key)
        return None if line is None else f"{self._path.name} line {line:,}"


class RecordLines:
    """Checked records on their way into one batch, and the line each came from.

    Parameters
    ----------
    name:
        What the file is called in messages.
    dimension:
        Of the index.
    folder:
        What an `image_file` is relative to.
    kind:
        What the records before were of, if there were any.

    """

    def __init__(
        self, name: str, *, dimension: int, folder: Path, kind: FileKind | None = None
    ) -> None:
        self.lines: dict[str, int] = {}
        self.kind = kind
        self._name = name
        self._dimension = dimension
        self._folder = folder
        self._vectors: list[list[float]] = []
        self._metadata: list[Metadata] = []
        self._metadata_bytes = 0
        self._inputs: GatheredInputs | None = None

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def of_inputs(self) -> bool:
        """Whether the records are for an encoder."""
        return self.kind is not None and self.kind.name != "vector"

    @property
    def input_bytes(self) -> int:
        """How long what is to be encoded is, together."""
        return 0 if self._inputs is None else self._inputs.bytes

    @property
    def full(self) -> bool:
        """Whether they are as many as go into one batch of an import."""
        if self._inputs is not None:
            return self._inputs.full
        return (
            len(self) >= batch_rows(self._dimension)
            or self._metadata_bytes >= limits.IMPORT_BATCH_BYTES_MAX
        )

    def add(self, number: int, line: bytes) -> None:
        """Check one line and keep its record."""
        place = f"{self._name} line {number:,}"
        key, record = _keyed(line, MEMBERS, self.lines, place=place)
        name = self._kind_of(record, number, place=place)
        metadata = _metadata(record.get("metadata"), place=place)
        if name == "vector":
            self._vectors.append(self._vector(record["vector"], place=place))
            self._metadata.append(metadata)
            self._metadata_bytes += metadata_bytes(metadata)
        else:
            if self._inputs is None:
                self._inputs = GatheredInputs(Modality.TEXT if name == "text" else Modality.IMAGE)
            self._inputs.add(key, self._item(name, record[name], place=place), metadata)
        self.lines[key] = number

    def _kind_of(self, record: dict[str, Any], number: int, *, place: str) -> str:
        """Return what the record is of: the same as every record before it."""
        found = [name for name in _KINDS if name in record]
        if not found:
            raise InvalidArgumentError(
                f'{place}: the record needs a "vector" that is a list of numbers; or, for an '
                'index with an encoder, a "text" or an "image"'
            )
        if len(found) > 1:
            raise InvalidArgumentError(
                f"{place}: the record has {found[0]!r} and {found[1]!r}: keep one of them"
            )
        if self.kind is None:
            self.kind = FileKind(found[0], number)
        elif self.kind.name != found[0]:
            raise InvalidArgumentError(
                f"{place}: the record has {found[0]!r}, but that of line {self.kind.line:,} has "
                f"{self.kind.name!r}: make a file of each"
            )
        return found[0]

    def _item(self, name: str, value: Any, *, place: str) -> str | bytes:
        match name:
            case "text":
                return checked_text(value, place=place)
            case "image":
                return image_of(value, place=place)
            case _:
                return image_file_of(value, folder=self._folder, place=place)

    def _vector(self, value: Any, *, place: str) -> list[float]:
        if not isinstance(value, list) or not set(map(type, value)) <= {int, float}:
            raise InvalidArgumentError(
                f'{place}: the record needs a "vector" that is a list of numbers'
            )
        if len(value) != self._dimension:
            raise InvalidArgumentError(
                f"{place}: the vector has {len(value)} numbers, "
                f"but the index has dimension {self._dimension}"
            )
        if any(abs(number) > limits.VECTOR_VALUE_MAGNITUDE_MAX for number in value):
            raise InvalidArgumentError(
                f"{place}: the vector holds a number beyond "
                f"{limits.VECTOR_VALUE_MAGNITUDE_MAX:g}: scale the vectors down"
            )
        return value

    def batch(self) -> RowBatch | InputBatch:
        """Return what was added."""
        if self._inputs is not None:
            return self._inputs.batch()
        vectors = np.array(self._vectors, dtype=np.float32).reshape(len(self), self._dimension)
        return RowBatch(keys=list(self.lines), vectors=vectors, metadata=self._metadata)


class PatchLines:
    """Checked changes of metadata on their way into one commit, and the line each came from."""

    input_bytes: Final = 0

    def __init__(self, name: str) -> None:
        self.lines: dict[str, int] = {}
        self.metadata: list[Metadata] = []
        self._name = name

    def add(self, number: int, line: bytes) -> None:
        """Check one line and keep its change."""
        place = f"{self._name} line {number:,}"
        key, record = _keyed(line, _PATCH_MEMBERS, self.lines, place=place)
        if "metadata" not in record:
            raise InvalidArgumentError(
                f'{place}: a change needs "metadata", an object with what is to change'
            )
        self.metadata.append(_object(record["metadata"], place=place))
        self.lines[key] = number


def _keyed(
    line: bytes, members: frozenset[str], lines: dict[str, int], *, place: str
) -> tuple[str, dict[str, Any]]:
    """Return the key of a line, which none of `lines` has, and its members."""
    record = parse_object(line, place=place)
    unknown = sorted(record.keys() - members)
    if unknown:
        raise InvalidArgumentError(
            f"{place}: it may have {', '.join(sorted(members))}, but no {unknown[0]!r}; "
            "what is to be filtered or returned belongs into metadata"
        )
    key = record.get("key")
    if not isinstance(key, str):
        raise InvalidArgumentError(f'{place}: the record needs a "key" that is a string')
    if key in lines:
        raise InvalidArgumentError(
            f"{place}: the key {key!r} stands in line {lines[key]:,} already; keep one of the two"
        )
    return key, record


def _metadata(value: Any, *, place: str) -> Metadata:
    return {} if value is None else _object(value, place=place)


def _object(value: Any, *, place: str) -> Metadata:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f'{place}: "metadata" is to be an object, {{...}}')
    return value


def numbered_lines(file: BinaryIO, *, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines with their numbers from 1, none longer than the limit.

    Raises
    ------
    InvalidArgumentError
        If a line is longer than the limit.

    """
    number = 0
    while line := file.readline(limits.IMPORT_LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > limits.IMPORT_LINE_BYTES_MAX:
            raise InvalidArgumentError(
                f"{name} line {number:,}: longer than {limits.IMPORT_LINE_BYTES_MAX:,} bytes; "
                "is it one record a line?"
            )
        yield number, line
