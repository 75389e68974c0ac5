"""NumPy arrays, memory-mapped; keys and metadata come from text files beside them."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np

from squash import limits
from squash.arrays import AnyArray
from squash.cli.importers.jsonl import numbered_lines
from squash.cli.importers.rows import (
    as_float32,
    batch_rows,
    check_dimension,
    count_lines,
    metadata_bytes,
    repeated_key,
)
from squash.cli.output import counted
from squash.errors import InvalidArgumentError
from squash.maintain.bulk.files.objects import parse_object
from squash.model import Metadata, RowBatch
from squash.reports import Progress


class NpyRows:
    """The rows of a two-dimensional `.npy` array; without a file of keys, row numbers are keys."""

    made_by: str | None = None

    def __init__(
        self, path: Path, *, dimension: int, keys: Path | None, metadata: Path | None
    ) -> None:
        self._path = path
        self._dimension = dimension
        self._keys = keys
        self._metadata = metadata
        self._used = 0
        self._positions: dict[str, int] = {}
        self._array = open_array(path)
        if self._array.ndim != 2:  # noqa: PLR2004 - rows and dimensions
            raise InvalidArgumentError(
                f"{path.name}: an array of shape {self._array.shape}, "
                "where import takes one of two dimensions, a row a record"
            )
        check_dimension(self._array.shape[1], expected=dimension, place=path.name)
        # A file too short would otherwise show only after most rows are in.
        for companion in (keys, metadata):
            if companion is not None:
                _check_lines(companion, rows=len(self._array), array=path)

    def batches(self) -> Iterator[RowBatch]:
        """Yield the rows; see `RowSource`."""
        rows = batch_rows(self._dimension)
        with ExitStack() as stack:
            keys = self._key_lines(stack)
            metadata = self._metadata_lines(stack)
            start = 0
            while start < len(self._array):
                batch_metadata = _bounded(islice(metadata, min(rows, len(self._array) - start)))
                stop = start + len(batch_metadata)
                place = f"{self._path.name} rows {start:,} to {stop - 1:,}"
                batch_keys = list(islice(keys, stop - start))
                self._check_repeats(batch_keys, start=start)
                self._positions = {key: start + n for n, key in enumerate(batch_keys)}
                self._used = stop
                yield RowBatch(
                    keys=batch_keys,
                    vectors=as_float32(self._array[start:stop], place=place),
                    metadata=batch_metadata,
                )
                start = stop

    def _key_lines(self, stack: ExitStack) -> Iterator[str]:
        if self._keys is None:
            return (str(row) for row in range(len(self._array)))
        name = self._keys.name
        file = stack.enter_context(self._keys.open("rb"))
        return (
            # What some editors begin a text with is none of the first key.
            _key(
                line.removeprefix(codecs.BOM_UTF8) if number == 1 else line,
                place=f"{name} line {number:,}",
            )
            for number, line in numbered_lines(file, name=name)
        )

    def _metadata_lines(self, stack: ExitStack) -> Iterator[Metadata]:
        if self._metadata is None:
            return ({} for _ in range(len(self._array)))
        name = self._metadata.name
        file = stack.enter_context(self._metadata.open("rb"))
        return (
            parse_object(line, place=f"{name} line {number:,}")
            for number, line in numbered_lines(file, name=name)
        )

    def _check_repeats(self, keys: list[str], *, start: int) -> None:
        position = repeated_key(keys)
        if position is not None and self._keys is not None:
            raise InvalidArgumentError(
                f"{self._keys.name} line {start + position + 1:,}: the key {keys[position]!r} "
                f"stands in line {start + keys.index(keys[position]) + 1:,} already; "
                "keep one of the two"
            )

    def progress(self) -> Progress:
        """Tell how many rows are used."""
        return Progress(stage="import", done=self._used, total=len(self._array), unit="rows")

    def place(self, key: str) -> str | None:
        """Name the row of a key of the latest batch."""
        row = self._positions.get(key)
        return None if row is None else f"{self._path.name} row {row:,}"


def open_array(path: Path) -> AnyArray:
    """Map a `.npy` file into memory; nothing of it is read yet.

    Raises
    ------
    InvalidArgumentError
        If it is not such a file, is cut short, goes on after its array, or holds Python objects.

    """
    try:
        # Not np.load, which opens archives too, and takes what it does not know for a pickle.
        array = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise InvalidArgumentError(
            f"{path.name}: not an array that numpy.save wrote, or cut short: {error}"
        ) from error
    # Of arrays that were saved one after another into one file only the first would be read.
    after = path.stat().st_size - array.offset - array.nbytes
    if after > 0:
        raise InvalidArgumentError(
            f"{path.name}: it has {after:,} bytes after its array: save each array in a file of "
            "its own"
        )
    return array


def _bounded(metadata: Iterator[Metadata]) -> list[Metadata]:
    """Return the first of them: as many as go into one batch, and at least one."""
    taken: list[Metadata] = []
    size = 0
    for one in metadata:
        taken.append(one)
        size += metadata_bytes(one)
        if size >= limits.IMPORT_BATCH_BYTES_MAX:
            break
    return taken


def _key(line: bytes, *, place: str) -> str:
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{place}: this key is not UTF-8: {error}") from error


def _check_lines(companion: Path, *, rows: int, array: Path) -> None:
    if companion.is_fifo():
        raise InvalidArgumentError(
            f"{companion} is a pipe, and its lines are counted before they are read: write them to "
            "a file first"
        )
    lines = count_lines(companion)
    if lines != rows:
        raise InvalidArgumentError(
            f"{companion.name} has {counted(lines, 'line')}, but {array.name} has "
            f"{counted(rows, 'row')}: "
            "it needs one line a row"
        )
