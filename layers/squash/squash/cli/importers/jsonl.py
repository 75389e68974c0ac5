"""JSON lines: `{"key": ..., "vector": [...], "metadata": {...}}`, one record a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from squash import limits
from squash.api import strict_json
from squash.cli.importers.rows import batch_rows
from squash.errors import InvalidArgumentError
from squash.model import Metadata, Progress, RowBatch

MEMBERS: Final = frozenset({"key", "vector", "metadata"})
_PATCH_MEMBERS: Final = frozenset({"key", "metadata"})


class JsonLinesRows:
    """The records of a file of JSON lines; empty lines are passed over."""

    def __init__(self, path: Path, *, dimension: int) -> None:
        self._path = path
        self._dimension = dimension
        self._size = path.stat().st_size
        self._used = 0
        self._lines: dict[str, int] = {}

    def batches(self) -> Iterator[RowBatch]:
        """Yield the records; see `RowSource`."""
        with self._path.open("rb") as file:
            yield from self._read(file)

    def _read(self, file: BinaryIO) -> Iterator[RowBatch]:
        rows = RecordLines(self._path.name, dimension=self._dimension)
        for number, line in numbered_lines(file, name=self._path.name):
            if line.isspace():
                continue
            rows.add(number, line)
            if len(rows) == batch_rows(self._dimension):
                self._used, self._lines = file.tell(), rows.lines
                yield rows.batch()
                rows = RecordLines(self._path.name, dimension=self._dimension)
        self._used, self._lines = self._size, rows.lines
        if len(rows):
            yield rows.batch()

    def progress(self) -> Progress:
        """Tell how many bytes of the file are used."""
        return Progress(stage="import", done=self._used, total=self._size, unit="bytes")

    def place(self, key: str) -> str | None:
        """Name the line of a key of the latest batch."""
        line = self._lines.get(key)
        return None if line is None else f"{self._path.name} line {line:,}"


class RecordLines:
    """Checked records on their way into one batch, and the line each came from."""

    def __init__(self, name: str, *, dimension: int) -> None:
        self.lines: dict[str, int] = {}
        self._name = name
        self._dimension = dimension
        self._vectors: list[list[float]] = []
        self._metadata: list[Metadata] = []

    def __len__(self) -> int:
        return len(self._vectors)

    def add(self, number: int, line: bytes) -> None:
        """Check one line and keep its record."""
        place = f"{self._name} line {number:,}"
        key, record = _keyed(line, MEMBERS, self.lines, place=place)
        self._vectors.append(self._vector(record.get("vector"), place=place))
        self._metadata.append(_metadata(record.get("metadata"), place=place))
        self.lines[key] = number

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

    def batch(self) -> RowBatch:
        """Return what was added."""
        vectors = np.array(self._vectors, dtype=np.float32).reshape(len(self), self._dimension)
        return RowBatch(keys=list(self.lines), vectors=vectors, metadata=self._metadata)


class PatchLines:
    """Checked changes of metadata on their way into one commit, and the line each came from."""

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


def parse_object(line: bytes | str, *, place: str) -> dict[str, Any]:
    """Parse one line that is to be a JSON object.

    Raises
    ------
    InvalidArgumentError
        If it is not.

    """
    try:
        value = strict_json.loads(line)
    except ValueError as error:
        raise InvalidArgumentError(f"{place}: this is not one JSON object: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{place}: this is JSON, but not an object, {{...}}")
    return value
