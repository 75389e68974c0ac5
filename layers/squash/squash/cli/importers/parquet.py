"""Parquet files: one list column of vectors, one of keys, the others are metadata.

In the place of the vectors an encoder may be given a column of texts, or of images' bytes. In a
file that `squash export` wrote, as the file itself tells, the metadata is one column of JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from squash import limits
from squash.arrays import F32
from squash.cli.importers.inputs import GatheredInputs, checked_image, checked_text
from squash.cli.importers.rows import as_float32, batch_rows, check_dimension, repeated_key
from squash.errors import InvalidArgumentError
from squash.maintain.bulk.files.columns import (
    METADATA_COLUMN,
    export_maker,
    is_binary,
    is_list,
    is_text,
    key_value,
    plain,
    python_values,
    told_by_export,
)
from squash.maintain.bulk.files.objects import parse_object
from squash.model import InputBatch, Modality, RowBatch
from squash.reports import Progress
from squash.values import dataclass

_VECTOR: Final = "vector"
_INPUTS_READ_AT_ONCE: Final = 16  # if each is as long as may be, they fill a batch


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what, as far as it was told; at most one of the first three.

    Parameters
    ----------
    vector, text, image:
        What records are of; `vector` if nothing is told. In a file of `squash export`, `text` may
        be a key of its metadata.
    key:
        `key` where there is such a column, and else row numbers are the keys.

    """

    vector: str | None = None
    text: str | None = None
    image: str | None = None
    key: str | None = None


class ParquetRows:
    """The rows of a Parquet file, a part of a row group at a time."""

    def __init__(self, path: Path, *, dimension: int, columns: Columns) -> None:
        self._path = path
        self._dimension = dimension
        self._used = 0
        self._positions: dict[str, int] = {}
        try:
            self._file = parquet.ParquetFile(path, memory_map=True)
        except pa.ArrowInvalid as error:
            raise InvalidArgumentError(f"{path.name}: not a Parquet file: {error}") from error
        self._rows = self._file.metadata.num_rows
        schema = self._file.schema_arrow
        self._modality = _modality(columns)
        self._vector_column = columns.vector or _VECTOR
        self._input_column = columns.text or columns.image
        self._key_column = columns.key or ("key" if "key" in schema.names else None)
        told = self._told(schema)
        # Texts are encoded anew, whoever encoded them before.
        self.made_by = export_maker(told, place=self._path.name) if self._modality is None else None
        self._exported = told is not None and is_text(schema, METADATA_COLUMN)
        self._check_names(schema)
        self._check_kind(schema)
        left_out = {self._vector_column, self._input_column, self._key_column}
        if self._modality is not None and not is_list(schema, self._vector_column):
            left_out.discard(self._vector_column)
        self._metadata_columns = [name for name in schema.names if name not in left_out]

    def _told(self, schema: Any) -> dict[str, Any] | None:
        """Return what a file of `squash export` tells of itself; None if it is another."""
        told = told_by_export(schema, place=self._path.name)
        columns = {_VECTOR, self._vector_column}
        if told is not None and self._modality is None and columns.isdisjoint(schema.names):
            raise InvalidArgumentError(
                f"{self._path.name}: exported without vectors; only with them can it be imported, "
                "or, into an index with an encoder, by --text-column and the key of its texts"
            )
        return told

    def _check_names(self, schema: Any) -> None:
        if len(set(schema.names)) < len(schema.names):
            raise InvalidArgumentError(
                f"{self._path.name}: two of its columns have the same name "
                f"({', '.join(schema.names)}): rename one"
            )
        if self._key_column is not None and self._key_column not in schema.names:
            raise self._absent(schema, self._key_column, "keys with --key-column")

    def _check_kind(self, schema: Any) -> None:
        """Check the type of what the records are of."""
        name = self._input_column
        match self._modality:
            case None:
                self._check_vectors(schema)
            case Modality.TEXT:
                if name not in schema.names:
                    # Of an export the texts are in the metadata, one JSON object a row.
                    if not self._exported:
                        raise self._absent(schema, name, "texts with --text-column")
                elif not is_text(schema, name):
                    raise InvalidArgumentError(
                        f"{self._path.name}: the column {name!r} holds {schema.field(name).type}, "
                        "where texts are strings: convert it, or name another with --text-column"
                    )
            case Modality.IMAGE:
                if name not in schema.names:
                    raise self._absent(schema, name, "images with --image-column")
                if not is_binary(schema.field(name).type):
                    raise InvalidArgumentError(
                        f"{self._path.name}: the column {name!r} holds {schema.field(name).type}, "
                        "where images are the bytes of their files: name another with "
                        "--image-column"
                    )

    def _absent(self, schema: Any, name: str | None, what: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"{self._path.name}: it has no column {name!r} ({', '.join(schema.names)}): "
            f"name the {what}"
        )

    def _check_vectors(self, schema: Any) -> None:
        lists = [name for name in schema.names if is_list(schema, name)]
        if self._vector_column not in lists:
            raise InvalidArgumentError(
                f"{self._path.name}: {self._vector_column!r} is not one of its list columns "
                f"({', '.join(lists) or 'it has none'}): name the vectors with --vector-column, "
                "or, for an index with an encoder, the texts with --text-column"
            )
        kind = schema.field(self._vector_column).type
        if pa.types.is_fixed_size_list(kind):
            check_dimension(kind.list_size, expected=self._dimension, place=self._path.name)

    def batches(self) -> Iterator[RowBatch | InputBatch]:
        """Yield the rows; see `RowSource`."""
        try:
            if self._modality is None:
                yield from self._row_batches()
            else:
                yield from self._input_batches(self._modality)
        except pa.ArrowException as error:
            raise InvalidArgumentError(
                f"{self._path.name} after row {self._used:,}: it cannot be read: {error}"
            ) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # What pyarrow calls an OSError without a number is a page that does not decode.
            raise InvalidArgumentError(
                f"{self._path.name} after row {self._used:,}: it is damaged: {error}"
            ) from error

    def _row_batches(self) -> Iterator[RowBatch]:
        start = 0
        for table in self._file.iter_batches(batch_size=self._batch_rows()):
            batch = self._batch(table, start=start)
            start += len(batch)
            self._used = start
            yield batch

    def _batch_rows(self) -> int:
        """How many rows a batch holds: bounded by what is beside their vectors, too."""
        rows, vectors = batch_rows(self._dimension), f"{self._vector_column}."
        for group in map(self._file.metadata.row_group, range(self._file.num_row_groups)):
            size = sum(
                column.total_uncompressed_size
                for column in map(group.column, range(group.num_columns))
                if not column.path_in_schema.startswith(vectors)
            )
            fitting = limits.IMPORT_BATCH_BYTES_MAX * group.num_rows // max(1, size)
            rows = min(rows, max(1, fitting))
        return rows

    def _input_batches(self, modality: Modality) -> Iterator[InputBatch]:
        """Yield records for an encoder; few are read at a time, since each may be long."""
        gathered, positions, row = GatheredInputs(modality), dict[str, int](), 0
        for table in self._file.iter_batches(batch_size=_INPUTS_READ_AT_ONCE):
            keys = self._keys(table, start=row)
            metadata = self._metadata(table, start=row)
            items = self._items(table, metadata, modality, start=row)
            for key, item, values in zip(keys, items, metadata, strict=True):
                if key in positions:
                    raise self._repeated(key, row, positions[key])
                gathered.add(key, item, values)
                positions[key] = row
                row += 1
                if gathered.full:
                    self._used, self._positions = row, positions
                    yield gathered.batch()
                    gathered, positions = GatheredInputs(modality), {}
        self._used, self._positions = row, positions
        if len(gathered):
            yield gathered.batch()

    def _items(
        self, table: Any, metadata: list[dict[str, Any]], modality: Modality, *, start: int
    ) -> list[Any]:
        """Return the checked texts or images of some rows; of an export they leave `metadata`."""
        name = str(self._input_column)
        if name in table.schema.names:
            values = table.column(name).to_pylist()
        else:
            values = [one.pop(name, None) for one in metadata]
        items: list[Any] = []
        for row, value in enumerate(values, start):
            place = f"{self._path.name} row {row:,}"
            if value is None:
                raise InvalidArgumentError(
                    f"{place}: it has no {modality} in {name!r}; leave such rows out"
                )
            if modality is Modality.TEXT:
                items.append(checked_text(value, place=place))
            else:
                items.append(checked_image(value, place=place))
        return items

    def _repeated(self, key: str, row: int, before: int) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"{self._path.name} row {row:,}: the key {key!r} stands in row {before:,} already; "
            "keep one of the two"
        )

    def _batch(self, table: Any, *, start: int) -> RowBatch:
        place = f"{self._path.name} rows {start:,} to {start + table.num_rows - 1:,}"
        keys = self._keys(table, start=start)
        repeated = repeated_key(keys)
        if repeated is not None:
            key = keys[repeated]
            raise self._repeated(key, start + repeated, start + keys.index(key))
        self._positions = {key: start + n for n, key in enumerate(keys)}
        column = table.column(self._vector_column)
        return RowBatch(
            keys=keys,
            vectors=self._vectors(column, place=place, start=start),
            metadata=self._metadata(table, start=start),
        )

    def _keys(self, table: Any, *, start: int) -> list[str]:
        if self._key_column is None:
            return [str(row) for row in range(start, start + table.num_rows)]
        keys: list[Any] = table.column(self._key_column).to_pylist()
        for position, value in enumerate(keys):
            key = keys[position] = key_value(value)
            if not isinstance(key, str):
                raise InvalidArgumentError(
                    f"{self._path.name} row {start + position:,}: the key in column "
                    f"{self._key_column!r} is {key!r}, where keys are strings or integers"
                )
        return keys

    def _vectors(self, column: Any, *, place: str, start: int) -> F32:
        if column.null_count:
            row = start + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise InvalidArgumentError(
                f"{self._path.name} row {row:,}: it has no vector; leave such rows out"
            )
        if not pa.types.is_fixed_size_list(column.type):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            wrong = np.flatnonzero(lengths != self._dimension)
            if len(wrong):
                check_dimension(
                    int(lengths[wrong[0]]),
                    expected=self._dimension,
                    place=f"{self._path.name} row {start + int(wrong[0]):,}",
                )
        values = column.flatten()
        if values.null_count:
            position = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise InvalidArgumentError(
                f"{self._path.name} row {start + position // self._dimension:,}: "
                "its vector holds a null; leave such rows out"
            )
        flat = values.to_numpy(zero_copy_only=False)
        return as_float32(flat.reshape(-1, self._dimension), place=place)

    def _metadata(self, table: Any, *, start: int) -> list[dict[str, Any]]:
        if self._exported:
            return [
                parse_object(text or "null", place=f"{self._path.name} row {start + n:,}")
                for n, text in enumerate(table.column(METADATA_COLUMN).to_pylist())
            ]
        rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
        for name in self._metadata_columns:
            for position, value in enumerate(python_values(table.column(name))):
                if value is None:
                    continue
                try:
                    rows[position][name] = plain(value)
                except TypeError as error:
                    raise InvalidArgumentError(
                        f"{self._path.name} row {start + position:,}: column {name!r} holds "
                        f"{error}, which is not JSON: convert the column or leave it out"
                    ) from error
        return rows

    def progress(self) -> Progress:
        """Tell how many rows are used."""
        unit = "rows" if self._modality is None else f"{self._modality}s"
        return Progress(stage="import", done=self._used, total=self._rows, unit=unit)

    def place(self, key: str) -> str | None:
        """Name the row of a key of the latest batch."""
        row = self._positions.get(key)
        return None if row is None else f"{self._path.name} row {row:,}"


def _modality(columns: Columns) -> Modality | None:
    """Return what is to be encoded; None where records have vectors."""
    if columns.text is not None:
        return Modality.TEXT
    return Modality.IMAGE if columns.image is not None else None
