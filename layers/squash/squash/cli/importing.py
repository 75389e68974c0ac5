"""`squash import`: a large file, batch by batch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from squash.api.documents import write_document
from squash.cli.building import import_files
from squash.cli.encoding_words import VectorMaker, blamed_key, encoding_shown
from squash.cli.importers import ImportOptions, RowSource, open_rows
from squash.cli.output import Output, Report, counted
from squash.cli.problems import UsageError
from squash.cli.service_index import ServiceIndex, refuse_service_options
from squash.cli.statuses import SUCCEEDED
from squash.errors import SquashError
from squash.model import IndexConfig, InputBatch, RowBatch
from squash.reports import Progress

if TYPE_CHECKING:
    from squash.database import Database


def import_file(arguments: Namespace, database: Database, output: Output) -> int:
    """Put the records of a large file batch by batch, then fold them into segments.

    With --workers, build the whole index from files instead.
    """
    if arguments.workers is not None:
        return import_files(arguments, database, output)
    _refuse_build_options(arguments)
    (arguments.file,) = arguments.files
    if isinstance(arguments.file, ServiceIndex):
        _refuse_file_options(arguments)
        # Only now: it loads botocore.
        from squash.cli.moving.importing import import_index  # noqa: PLC0415

        return import_index(arguments, database, output)
    refuse_service_options(arguments)
    return _import_rows(arguments, database, output)


def _refuse_build_options(arguments: Namespace) -> None:
    for wanted, name in (
        (arguments.replace, "--replace"),
        (arguments.bad_rows_max is not None, "--bad-rows-max"),
        (arguments.scratch is not None, "--scratch"),
        (arguments.build is not None, "--build"),
    ):
        if wanted:
            raise UsageError(f"{name} goes with --workers, which builds the whole index")
    if len(arguments.files) > 1:
        raise UsageError(
            "several files are imported together only with --workers; without it, import them one "
            "by one"
        )
    for file in arguments.files:
        if isinstance(file, str):
            raise UsageError(
                f"{file} is a URL: only a build reads those; add --workers, or give a file of "
                "this machine"
            )


def _import_rows(arguments: Namespace, database: Database, output: Output) -> int:
    index = database.index(arguments.index)
    options = ImportOptions(
        keys=arguments.keys,
        metadata=arguments.metadata,
        vector_column=arguments.vector_column,
        text_column=arguments.text_column,
        image_column=arguments.image_column,
        key_column=arguments.key_column,
    )
    source = open_rows(arguments.file, dimension=index.config.dimension, options=options)
    maker = _maker(arguments, index.config, source)
    imported = ImportedRows(source, maker)
    with output.progress() as report:
        try:
            result = index.import_batches(
                imported.batches(report),
                encoder=maker.encoder,
                progress=lambda step: imported.encoding(step, report),
            )
        except (SquashError, OSError, KeyboardInterrupt) as error:
            imported.explain(error)
            raise
        snapshot, held = result.snapshot, result.rows
        if not arguments.no_optimize:
            try:
                folded = index.optimize(progress=report)
                snapshot, held = folded.snapshot, folded.rows
            except (SquashError, OSError, KeyboardInterrupt) as error:
                error.add_note(
                    f"Before that, {counted(result.rows, 'row')} became durable, which is all; "
                    f"`squash optimize {arguments.index}` does the rest."
                )
                raise
    output.result(
        write_document(replace(result, snapshot=snapshot)),
        f"Imported {counted(result.rows, 'record')}; the snapshot is {snapshot:,}."
        + _fewer(result.rows, held),
        *encoding_shown(result.encoding),
    )
    return SUCCEEDED


def _fewer(imported: int, held: int) -> str:
    """Say how many records there are where rows of far apart batches had the same key."""
    return f" The index has {counted(held, 'record')} then." if held < imported else ""


def _maker(arguments: Namespace, config: IndexConfig, source: RowSource) -> VectorMaker:
    """Return what knows which encoder made the vectors; that one is there is known at once."""
    maker = VectorMaker(config, arguments.file.name, arguments.encoder, source.made_by)
    if arguments.text_column is not None or arguments.image_column is not None:
        maker.check(of_inputs=True)
    return maker


def _refuse_file_options(arguments: Namespace) -> None:
    for name in ("keys", "metadata", "vector_column", "text_column", "image_column", "key_column"):
        if getattr(arguments, name) is not None:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} goes with a file, and {arguments.file} is an index")


class ImportedRows:
    """Counts the rows that are durable while an import runs.

    The index asks for the next batch only when the last one is committed, so what was yielded
    before the latest request is durable.
    """

    def __init__(self, source: RowSource, maker: VectorMaker) -> None:
        self._source = source
        self._maker = maker
        self._rows_durable = 0
        self._keys: Sequence[str] = ()

    def batches(self, report: Report) -> Iterator[RowBatch | InputBatch]:
        """Yield the source's batches, and report each that is durable."""
        for batch in self._source.batches():
            self._maker.check(of_inputs=isinstance(batch, InputBatch))
            progress = self._source.progress()
            self._keys = batch.keys
            yield batch
            self._rows_durable += len(batch)
            report(progress)

    def encoding(self, step: Progress, report: Report) -> None:
        """Report how many texts or images are encoded, of all that the file has."""
        if step.stage == "encode":
            source = self._source.progress()
            report(Progress("encode", step.done, source.total, source.unit))

    def explain(self, error: BaseException) -> None:
        """Note in an error what it is about, and what became of the import that it stopped."""
        if isinstance(error, SquashError):
            key = blamed_key(error, self._keys)
            place = self._source.place(key) if key is not None else None
            if place is not None:
                error.add_note(f"It stands in {place}.")
                error.field = None  # it counts from where the batch begins, which nobody is told
        if not self._rows_durable:
            error.add_note("Nothing was imported.")
            return
        error.add_note(
            f"Before that, {counted(self._rows_durable, 'row')} became durable, though not "
            "optimized; importing the whole file again replaces them."
        )
