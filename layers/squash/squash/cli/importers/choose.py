"""From a file's ending to its importer."""

from __future__ import annotations

from pathlib import Path

from squash.cli.importers.jsonl import JsonLinesRows
from squash.cli.importers.npy import NpyRows
from squash.cli.importers.rows import RowSource
from squash.cli.problems import UsageError
from squash.errors import InvalidArgumentError
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `squash import` was told beside the file; each option belongs to one format."""

    keys: Path | None = None
    metadata: Path | None = None
    vector_column: str | None = None
    text_column: str | None = None
    image_column: str | None = None
    key_column: str | None = None

    @property
    def of_parquet(self) -> tuple[str | None, ...]:
        """What goes with a `.parquet` file."""
        return (self.vector_column, self.text_column, self.image_column, self.key_column)


def open_rows(path: Path, *, dimension: int, options: ImportOptions) -> RowSource:
    """Return the importer for a file, by its ending.

    Raises
    ------
    UsageError
        If it is a folder, no importer knows the ending, or an option belongs to another format.
    InvalidArgumentError
        If what the file's beginning tells does not fit the index.

    """
    if path.is_dir():
        raise UsageError(f"{path}: the files of a folder are built from, with --workers")
    kind = path.suffix.lower()
    for_npy = options.keys is not None or options.metadata is not None
    for_parquet = any(column is not None for column in options.of_parquet)
    if for_npy and kind != ".npy":
        raise UsageError(f"--keys and --metadata go with a .npy file, and this is {path.name}")
    if for_parquet and kind != ".parquet":
        raise UsageError(
            "--vector-column, --text-column, --image-column and --key-column go with a .parquet "
            f"file, and this is {path.name}"
        )
    match kind:
        case ".npy":
            return NpyRows(path, dimension=dimension, keys=options.keys, metadata=options.metadata)
        case ".parquet":
            try:
                # Only now: pyarrow is an extra, and takes its time to import.
                from squash.cli.importers.parquet import Columns, ParquetRows  # noqa: PLC0415
            except ImportError as error:
                raise InvalidArgumentError(
                    f"{path.name}: importing .parquet needs pyarrow, which is an extra: "
                    "pip install 'squash-search[parquet]'"
                ) from error
            columns = Columns(*options.of_parquet)
            return ParquetRows(path, dimension=dimension, columns=columns)
        case ".jsonl" | ".ndjson":
            return JsonLinesRows(path, dimension=dimension)
        case _:
            raise UsageError(
                f"{path.name}: what it holds cannot be told from its ending; "
                "import takes .npy, .parquet, .jsonl and .ndjson"
            )
