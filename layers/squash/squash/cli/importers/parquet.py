"""Parquet files: one list column of vectors, one of keys, the others are metadata.

In a file that `squash export` wrote, as the file itself tells, the metadata is one column of JSON.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from squash.arrays import F32
from squash.cli.importers.jsonl import parse_object
from squash.cli.importers.rows import as_float32, batch_rows, check_dimension, repeated_key
from squash.cli.parquet_marks import EXPORT_KEY, EXPORT_VERSION
from squash.errors import InvalidArgumentError
from squash.model import Metadata, Progress, RowBatch

_METADATA: Final = "metadata"


class ParquetRows:
    """The rows of a Parquet file, a part of a row group at a time.

    Without `vector_column` the column is `vector`. Without `key_column` it is `key` where there is
    one, and else row numbers are the keys.
    """

    def __init__(
        self, path: Path, *, dimension: int, vector_column: str | None, key_column: str | None
    ) -> None:
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
        self._vector_column = vector_column or "vector"
        self._key_column = key_column or ("key" if "key" in schema.names else None)
        self._exported = self._is_export(schema)
        self._check_columns(schema)
        self._metadata_columns = [
            name for name in schema.names if name not in {self._vector_column, self._key_column}
        ]

    def _is_export(self, schema: Any) -> bool:
        """Tell whether it is a file of `squash export`, with metadata as JSON."""
        told = (schema.metadata or {}).get(EXPORT_KEY)
        if told is None:
            return False
        version = parse_object(told, place=f"{self._path.name} metadata").get("version")
        if version != EXPORT_VERSION:
            raise InvalidArgumentError(
                f"{self._path.name}: an export of version {version!r}, and this release reads "
                f"version {EXPORT_VERSION}: take a newer one"
            )
        if self._vector_column not in schema.names:
            raise InvalidArgumentError(
                f"{self._path.name}: exported without vectors; only with them can it be imported"
            )
        return _METADATA in schema.names and pa.types.is_string(schema.field(_METADATA).type)

    def _check_columns(self, schema: Any) -> None:
        if len(set(schema.names)) < len(schema.names):
            raise InvalidArgumentError(
                f"{self._path.name}: two of its columns have the same name "
                f"({', '.join(schema.names)}): rename one"
            )
        lists = [field.name for field in schema if _is_list(field.type)]
        if self._vector_column not in lists:
            raise InvalidArgumentError(
                f"{self._path.name}: {self._vector_column!r} is not one of its list columns "
                f"({', '.join(lists) or 'it has none'}): name the vectors with --vector-column"
            )
        if self._key_column is not None and self._key_column not in schema.names:
            raise InvalidArgumentError(
                f"{self._path.name}: it has no column {self._key_column!r} "
                f"({', '.join(schema.names)}): name the keys with --key-column"
            )
        kind = schema.field(self._vector_column).type
        if pa.types.is_fixed_size_list(kind):
            check_dimension(kind.list_size, expected=self._dimension, place=self._path.name)

    def batches(self) -> Iterator[RowBatch]:
        """Yield the rows; see `RowSource`."""
        start = 0
        try:
            for table in self._file.iter_batches(batch_size=batch_rows(self._dimension)):
                batch = self._batch(table, start=start)
                start += len(batch)
                self._used = start
                yield batch
        except pa.ArrowException as error:
            raise InvalidArgumentError(
                f"{self._path.name} after row {start:,}: it cannot be read: {error}"
            ) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # What pyarrow calls an OSError without a number is a page that does not decode.
            raise InvalidArgumentError(
                f"{self._path.name} after row {start:,}: it is damaged: {error}"
            ) from error

    def _batch(self, table: Any, *, start: int) -> RowBatch:
        place = f"{self._path.name} rows {start:,} to {start + table.num_rows - 1:,}"
        keys = self._keys(table, start=start)
        repeated = repeated_key(keys)
        if repeated is not None:
            raise InvalidArgumentError(
                f"{self._path.name} row {start + repeated:,}: the key {keys[repeated]!r} stands in "
                f"row {start + keys.index(keys[repeated]):,} already; keep one of the two"
            )
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
        for position, key in enumerate(keys):
            if isinstance(key, int) and not isinstance(key, bool):
                keys[position] = str(key)
            elif not isinstance(key, str):
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

    def _metadata(self, table: Any, *, start: int) -> list[Metadata]:
        if self._exported:
            return [
                parse_object(text or "null", place=f"{self._path.name} row {start + n:,}")
                for n, text in enumerate(table.column(_METADATA).to_pylist())
            ]
        rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
        for name in self._metadata_columns:
            for position, value in enumerate(_values(table.column(name))):
                if value is None:
                    continue
                try:
                    rows[position][name] = plain(value)
                except TypeError as error:
                    raise InvalidArgumentError(
                        f"{self._path.name} row {start + position:,}: column {name!r} holds "
                        f"{error}, which is not JSON: convert the column or leave it out"
                    ) from error
        return list(rows)

    def progress(self) -> Progress:
        """Tell how many rows are used."""
        return Progress(stage="import", done=self._used, total=self._rows, unit="rows")

    def place(self, key: str) -> str | None:
        """Name the row of a key of the latest batch."""
        row = self._positions.get(key)
        return None if row is None else f"{self._path.name} row {row:,}"


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def _values(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's datetime ends at microseconds.
        column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values


def plain(value: Any) -> Any:
    """Convert a Parquet value to JSON's kinds: times to ISO strings, nulls dropped.

    Raises
    ------
    TypeError
        If it has no JSON form; the message is the name of its type.

    """
    match value:
        case str() | bool() | int() | float():
            return value
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case decimal.Decimal():
            return float(value)
        case list():
            return [plain(element) for element in value if element is not None]
        case dict():
            return {name: plain(element) for name, element in value.items() if element is not None}
        case _:
            raise TypeError(type(value).__name__)
