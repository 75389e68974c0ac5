"""Parquet files: `key`, `vector` and `metadata`, the last as JSON text, which is exact.

A column for each name of the metadata could not be: one name may hold a number here and a list of
strings there, and 1 is not 1.0. Tools that read Parquet read JSON, too; the file's own metadata
says what it is (`EXPORT_KEY`), and by that an importer knows that the text is to be parsed.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO, Final

import pyarrow as pa
from pyarrow import parquet

from squash.cli.exporters.sinks import ExportSource
from squash.limits import EXPORT_GROUP_BYTES_MAX, EXPORT_GROUP_ROWS_MAX
from squash.maintain.bulk.files.parquet_marks import EXPORT_ENCODER, EXPORT_KEY, EXPORT_VERSION
from squash.model import RowBatch

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
# Vectors are not pressed: float32 of an encoder hardly shrink. A dictionary is of no use where
# every value is another, and need not tell 0.0 from -0.0.
_COMPRESSION: Final = {"key": "zstd", "metadata": "zstd", "vector.list.element": "none"}


class ParquetSink:
    """Rows in groups of bounded size."""

    def __init__(self, file: BinaryIO, source: ExportSource) -> None:
        self._dimension = source.config.dimension
        self._vectors = source.vectors
        self._schema = _schema(source)
        self._writer = parquet.ParquetWriter(
            file,
            self._schema,
            compression={
                column: kind
                for column, kind in _COMPRESSION.items()
                if source.vectors or not column.startswith("vector")
            },
            use_dictionary=False,
        )
        self._parts: list[Any] = []
        self._rows = 0
        self._bytes = 0

    def write(self, batch: RowBatch) -> None:
        """Keep the rows of a batch, and write those kept if they are enough for a group."""
        columns = [
            pa.array(list(batch.keys), pa.string()),
            pa.array([_ENCODER.encode(dict(one)) for one in batch.metadata], pa.string()),
        ]
        if self._vectors:
            flat = pa.array(batch.vectors.reshape(-1))
            columns.insert(1, pa.FixedSizeListArray.from_arrays(flat, self._dimension))
        part = pa.record_batch(columns, schema=self._schema)
        if self._bytes + part.nbytes > EXPORT_GROUP_BYTES_MAX:
            self._flush()
        self._parts.append(part)
        self._rows += part.num_rows
        self._bytes += part.nbytes
        if self._rows >= EXPORT_GROUP_ROWS_MAX:
            self._flush()

    def finish(self) -> None:
        """Write what is kept, and the file's end."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Write no more."""
        # Else the writer writes the file's end when it is collected, to a file that is closed.
        self._writer.is_open = False

    def _flush(self) -> None:
        if self._parts:
            table = pa.Table.from_batches(self._parts, self._schema)
            self._writer.write_table(table, row_group_size=self._rows)
        self._parts, self._rows, self._bytes = [], 0, 0


def _schema(source: ExportSource) -> Any:
    """Return the columns, and in their metadata what the rows are."""
    fields = [pa.field("key", pa.string(), nullable=False)]
    if source.vectors:
        fields.append(
            pa.field("vector", pa.list_(pa.float32(), source.config.dimension), nullable=False)
        )
    fields.append(pa.field("metadata", pa.string(), nullable=False))
    told: dict[str, object] = {
        "version": EXPORT_VERSION,
        "index": source.config.name,
        "dimension": source.config.dimension,
        "metric": str(source.config.metric),
        "attributes": {name: str(kind) for name, kind in source.config.attributes.items()},
        "non_filterable": list(source.config.non_filterable),
        "snapshot": source.snapshot,
    }
    pin = source.config.encoder
    if pin is not None:
        told[EXPORT_ENCODER] = f"{pin.name}@{pin.digest}"
    return pa.schema(fields, metadata={EXPORT_KEY: json.dumps(told, ensure_ascii=False)})
