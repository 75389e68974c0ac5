"""From a file's ending to its exporter."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from squash.cli.exporters.jsonl import JsonLinesSink
from squash.cli.exporters.sinks import ExportSource, RowSink
from squash.cli.problems import UsageError
from squash.errors import InvalidArgumentError


def open_sink(path: Path, file: BinaryIO, source: ExportSource) -> RowSink:
    """Return the exporter for a file, by its ending.

    Parameters
    ----------
    path:
        The file's name when it is done.
    file:
        What to write to.
    source:
        Which rows they are.

    Raises
    ------
    UsageError
        If no exporter knows the ending.
    InvalidArgumentError
        If what it needs is not installed.

    """
    match path.suffix.lower():
        case ".parquet":
            try:
                # Only now: pyarrow is an extra, and takes its time to import.
                from squash.cli.exporters.parquet import ParquetSink  # noqa: PLC0415
            except ImportError as error:
                raise InvalidArgumentError(
                    f"{path.name}: exporting .parquet needs pyarrow, which is an extra: "
                    "pip install 'squash-search[parquet]'; or export .jsonl"
                ) from error
            return ParquetSink(file, source)
        case ".jsonl" | ".ndjson":
            return JsonLinesSink(file, source)
        case _:
            raise UsageError(
                f"{path.name}: which format it is to have cannot be told from its ending; "
                "export takes .parquet, .jsonl and .ndjson"
            )
