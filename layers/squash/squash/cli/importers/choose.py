"""From a file's ending to its importer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from squash.cli.importers.jsonl import JsonLinesRows
from squash.cli.importers.npy import NpyRows
from squash.cli.importers.rows import RowSource
from squash.cli.problems import UsageError
from squash.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `squash import` was told beside the file; each option belongs to one format."""

    keys: Path | None = None
    metadata: Path | None = None
    vector_column: str | None = None
    key_column: str | None = None


def open_rows(path: Path, *, dimension: int, options: ImportOptions) -> RowSource:
    """Return the importer for a file, by its ending.

    Raises
    ------
    UsageError
        If no importer knows the ending, or an option belongs to another format.
    InvalidArgumentError
        If what the file's beginning tells does not fit the index.

    """
    kind = path.suffix.lower()
    for_npy = options.keys is not None or options.metadata is not None
    for_parquet = options.vector_column is not None or options.key_column is not None
    if for_npy and kind != ".npy":
        raise UsageError(f"--keys and --metadata go with a .npy file, and this is {path.name}")
    if for_parquet and kind != ".parquet":
        raise UsageError(
            f"--vector-column and --key-column go with a .parquet file, and this is {path.name}"
        )
    match kind:
        case ".npy":
            return NpyRows(path, dimension=dimension, keys=options.keys, metadata=options.metadata)
        case ".parquet":
            try:
                # Only now: pyarrow is an extra, and takes its time to import.
                from squash.cli.importers.parquet import ParquetRows  # noqa: PLC0415
            except ImportError as error:
                raise InvalidArgumentError(
                    f"{path.name}: importing .parquet needs pyarrow, which is an extra: "
                    "pip install 'squash-search[parquet]'"
                ) from error
            return ParquetRows(
                path,
                dimension=dimension,
                vector_column=options.vector_column,
                key_column=options.key_column,
            )
        case ".jsonl" | ".ndjson":
            return JsonLinesRows(path, dimension=dimension)
        case _:
            raise UsageError(
                f"{path.name}: what it holds cannot be told from its ending; "
                "import takes .npy, .parquet, .jsonl and .ndjson"
            )
