"""`squash export`: one snapshot into a file."""

from __future__ import annotations

import fcntl
import os
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from squash.cli.exporters import ExportSource, RowSink, open_sink
from squash.cli.output import Output, counted
from squash.cli.service_index import ServiceIndex, refuse_service_options
from squash.cli.statuses import SUCCEEDED
from squash.clock import SystemIds
from squash.errors import InvalidArgumentError

if TYPE_CHECKING:
    from squash.database import Database
    from squash.runtime.exporting import RowExport

_ID_DIGITS: Final = 12


def export(arguments: Namespace, database: Database, output: Output) -> int:
    """Write the records of one snapshot to a file, which appears when it is whole."""
    if isinstance(arguments.file, ServiceIndex):
        # Only now: it loads botocore.
        from squash.cli.moving.exporting import export_index  # noqa: PLC0415

        return export_index(arguments, database, output)
    refuse_service_options(arguments)
    index = database.index(arguments.index)
    path: Path = arguments.file
    _check_absent(path, force=arguments.force)
    vectors = not arguments.no_vectors
    with output.progress() as report:
        batches = index.export_batches(
            as_of=arguments.as_of,
            filter=arguments.filter,
            include=["metadata", "vector"] if vectors else ["metadata"],
            progress=report,
        )
        source = ExportSource(index.config, batches.snapshot, vectors)
        with _appearing(path, force=arguments.force) as file:
            rows = _copy(batches, open_sink(path, file, source))
    written = path.stat().st_size
    output.result(
        {"file": str(path), "rows": rows, "bytes": written, "snapshot": batches.snapshot},
        f"Exported {counted(rows, 'record')} of the snapshot {batches.snapshot:,} to {path}, "
        f"{written:,} bytes.",
    )
    return SUCCEEDED


def _copy(batches: RowExport, sink: RowSink) -> int:
    rows = 0
    try:
        for batch in batches:
            sink.write(batch)
            rows += len(batch)
        sink.finish()
    except BaseException:
        sink.abandon()
        raise
    return rows


def _check_absent(path: Path, *, force: bool) -> None:
    if path.is_dir():
        raise InvalidArgumentError(f"{path} is a folder: name a file in it")
    if not path.parent.is_dir():
        # Else the error would be about the temporary name, which nobody gave.
        raise InvalidArgumentError(
            f"{path.parent}: No such file or directory; make the folder first"
        )
    if path.exists() and not force:
        raise InvalidArgumentError(f"{path} is there already: say --force to replace it")


@contextmanager
def _appearing(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Give a file to write, which gets its name at the end, whole; or never."""
    _sweep(path)
    # Not by the process's number: in a container all have the same, as had one that was killed.
    new = path.with_name(f".{path.name}.{SystemIds().new_id()[:_ID_DIGITS]}")
    partial = new.with_name(f"{new.name}.partial")
    with new.open("xb") as file:
        with suppress(OSError):
            # It gets its name when it is held: whoever finds it free finds it left.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(partial)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            _check_absent(path, force=force)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _sweep(path: Path) -> None:
    """Remove what exports to this file left that were killed; what cannot be removed stays."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{_ID_DIGITS}}}\.partial")
    found: list[Path] = []
    with suppress(OSError):  # a folder that may be written to, and not be listed
        found = [one for one in path.parent.iterdir() if left.fullmatch(one.name)]
    for one in found:
        with suppress(OSError), one.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            one.unlink()
