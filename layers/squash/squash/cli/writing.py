"""`squash put` and `squash patch`: the records of a file of JSON lines, all in one commit."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

from squash import limits
from squash.api.documents import write_document
from squash.cli.encoding_words import VectorMaker, blamed_key, encoding_shown
from squash.cli.importers.jsonl import PatchLines, RecordLines, numbered_lines
from squash.cli.output import Output, counted
from squash.cli.statuses import SUCCEEDED
from squash.errors import InvalidArgumentError, SquashError, TooLargeError
from squash.model import InputBatch, RowBatch, WriteResult

if TYPE_CHECKING:
    from squash.database import Database


class Lines(Protocol):
    """Checked lines on their way into one commit, and the number of each key's."""

    @property
    def lines(self) -> Mapping[str, int]:
        """The line that each key stands in."""
        ...

    @property
    def input_bytes(self) -> int:
        """How long what is to be encoded is, together."""
        ...

    def add(self, number: int, line: bytes) -> None:
        """Check one line and keep what it says."""
        ...


L = TypeVar("L", bound=Lines)


def put(arguments: Namespace, database: Database, output: Output) -> int:
    """Put the records of a file of JSON lines, in one commit."""
    index = database.index(arguments.index)
    name = _name(arguments.file)
    maker = VectorMaker(index.config, name, arguments.encoder)
    folder = Path(arguments.file).parent  # of standard input the one that the command runs in
    into = RecordLines(name, dimension=index.config.dimension, folder=folder)
    rows = _read(arguments.file, into, "put")
    maker.check(of_inputs=rows.of_inputs)
    batch = rows.batch()
    try:
        result = index.put(
            keys=batch.keys,
            metadata=batch.metadata,
            **_what(batch, maker),
            if_absent=arguments.if_absent,
            if_snapshot=arguments.if_snapshot,
        )
    except SquashError as error:
        _note_line(error, rows, name)
        raise
    return _written(output, result, "Put", batch.keys)


def _what(batch: RowBatch | InputBatch, maker: VectorMaker) -> dict[str, Any]:
    """Return what the records are of, by the name that the index has for it."""
    if isinstance(batch, InputBatch):
        return {f"{batch.inputs.modality}s": batch.inputs.items}
    return {"vectors": batch.vectors, "encoder": maker.encoder}


def patch(arguments: Namespace, database: Database, output: Output) -> int:
    """Change the metadata of the records that a file of JSON lines names, in one commit."""
    index = database.index(arguments.index)
    name = _name(arguments.file)
    patches = _read(arguments.file, PatchLines(name), "patched")
    try:
        result = index.patch(
            keys=list(patches.lines),
            metadata=patches.metadata,
            if_snapshot=arguments.if_snapshot,
        )
    except SquashError as error:
        _note_line(error, patches, name)
        raise
    return _written(output, result, "Patched")


def _name(file: str) -> str:
    return "standard input" if file == "-" else Path(file).name


def _read(path: str, into: L, done: str) -> L:
    name = _name(path)
    with ExitStack() as stack:
        file: BinaryIO = sys.stdin.buffer
        if path != "-":
            file = stack.enter_context(Path(path).open("rb"))
        for number, line in numbered_lines(file, name=name):
            if line.isspace():
                continue
            if len(into.lines) == limits.PUT_FILE_ROWS_MAX:
                raise TooLargeError(
                    f"{name} has more than {limits.PUT_FILE_ROWS_MAX:,} records, and they would "
                    "all be written in one commit: use `squash import`, which writes batch by "
                    "batch, or make several files"
                )
            into.add(number, line)
            if into.input_bytes > limits.PUT_FILE_BYTES_MAX:
                raise TooLargeError(
                    f"{name} holds more than {limits.PUT_FILE_BYTES_MAX // limits.MIB:,} MiB of "
                    "texts or images up to this line, and they would all be written in one "
                    "commit: use `squash import`, which writes batch by batch"
                )
    if not into.lines:
        raise InvalidArgumentError(f"{name} holds no record: nothing was {done}")
    return into


def _note_line(error: SquashError, rows: Lines, name: str) -> None:
    key = blamed_key(error, list(rows.lines))
    if key is not None and key in rows.lines:
        error.add_note(f"It stands in {name} line {rows.lines[key]:,}.")


def _written(output: Output, result: WriteResult, done: str, keys: Sequence[str] = ()) -> int:
    output.result(
        write_document(result),
        f"{done} {counted(result.rows, 'record')}; the snapshot is {result.snapshot:,}.",
        *encoding_shown(result.encoding, keys),
    )
    return SUCCEEDED
