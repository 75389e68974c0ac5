"""What every importer gives, and the checks they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from squash import limits
from squash.arrays import F32, AnyArray
from squash.errors import InvalidArgumentError
from squash.model import InputBatch, RowBatch
from squash.reports import Progress

_NUMBER_BYTES: Final = 8


class RowSource(Protocol):
    """A file's rows, read once from its beginning."""

    @property
    def made_by(self) -> str | None:
        """The encoder that made the file's vectors, as ``name@digest``, where the file says so."""
        ...

    def batches(self) -> Iterator[RowBatch | InputBatch]:
        """Yield the rows in the file's order: all with vectors, or all for an encoder.

        Raises
        ------
        InvalidArgumentError
            At the first row that cannot be taken; it names the file and the line or row.

        """
        ...

    def progress(self) -> Progress:
        """Tell how much of the file the batches yielded so far have used."""
        ...

    def place(self, key: str) -> str | None:
        """Name where a key of the latest batch stands, as a person would look for it."""
        ...


def batch_rows(dimension: int) -> int:
    """How many rows a batch holds at most: bounded in rows and in bytes of vectors.

    Of metadata a batch holds no more than `IMPORT_BATCH_BYTES_MAX` beside it.
    """
    row_bytes = dimension * np.dtype(np.float32).itemsize
    return max(1, min(limits.IMPORT_BATCH_ROWS_MAX, limits.IMPORT_BATCH_BYTES_MAX // row_bytes))


def metadata_bytes(value: Any) -> int:
    """How long metadata is, about: enough to bound a batch by it, and quick."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(len(name) + metadata_bytes(one) for name, one in value.items())
        case list():
            return sum(map(metadata_bytes, value)) + len(value)
        case _:
            return _NUMBER_BYTES


def as_float32(values: AnyArray, *, place: str) -> F32:
    """Convert the numbers of a batch to float32 [n, d]; NaN and infinity are the index's to refuse.

    Raises
    ------
    InvalidArgumentError
        If the values are not real numbers, or become infinite in float32.

    """
    if values.dtype.kind not in "iuf":
        raise InvalidArgumentError(
            f"{place} holds {values.dtype} values: vectors are real numbers, best float32"
        )
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(values, dtype=np.float32)
    if values.dtype.itemsize > narrow.itemsize and np.isinf(narrow).any() > np.isinf(values).any():
        raise InvalidArgumentError(
            f"{place} holds numbers beyond float32's range: scale the vectors down"
        )
    return narrow


def check_dimension(found: int, *, expected: int, place: str) -> None:
    """Refuse vectors of another dimension than the index's."""
    if found != expected:
        raise InvalidArgumentError(
            f"{place}: vectors of dimension {found}, but the index has dimension {expected}"
        )


def repeated_key(keys: Sequence[str]) -> int | None:
    """Return the position of the first key that stands in `keys` before, if there is one."""
    if len(set(keys)) == len(keys):
        return None
    seen: set[str] = set()
    for position, key in enumerate(keys):
        if key in seen:
            return position
        seen.add(key)
    return None


def count_lines(path: Path) -> int:
    """Count the lines of a text file, a last one without a line end included."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(limits.MIB):
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n")
