"""`squash encoder`: encoders made, added, listed, shown, checked and removed."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from squash.cli.encoder_making import add, check, export
from squash.cli.encoder_words import info_document, info_rows
from squash.cli.output import Output, Table, cell
from squash.cli.problems import UsageError
from squash.cli.statuses import SUCCEEDED

if TYPE_CHECKING:
    # The commands are handed an open database: which one is the caller's affair.
    from squash.database import Database


def encoder(arguments: Namespace, database: Database, output: Output) -> int:
    """Make, add, list, show, check or remove encoders."""
    return _ACTIONS[arguments.action](arguments, database, output)


def _list(arguments: Namespace, database: Database, output: Output) -> int:
    del arguments
    found = database.encoders.list()
    rows = [
        (
            info.label,
            ", ".join(info.config.modalities),
            info.config.dimension,
            str(info.config.metric),
            info.bytes,
            info.config.licence,
        )
        for info in found
    ]
    columns = ("encoder", "of", "dimension", "metric", "bytes", "licence")
    output.result(
        {"encoders": [info_document(info) for info in found]},
        Table(columns, rows)
        if rows
        else "There is no encoder yet: `squash encoder add minilm` adds one.",
    )
    return SUCCEEDED


def _show(arguments: Namespace, database: Database, output: Output) -> int:
    info = database.encoders.resolve(arguments.name)
    indexes = database.encoders.pinned_by(info.digest)
    files = [(name, file.bytes, file.sha256) for name, file in sorted(info.config.files.items())]
    # As text, since numbers to the right of so long a digest would stand far from their titles.
    rows = [(title, cell(value)) for title, value in info_rows(info)]
    output.result(
        info_document(info) | {"indexes": list(indexes)},
        Table(("", info.config.name), [*rows, ("indexes", ", ".join(indexes) or "none")]),
        Table(("file", "bytes", "SHA-256"), files),
    )
    return SUCCEEDED


def _remove(arguments: Namespace, database: Database, output: Output) -> int:
    name = arguments.name
    if not arguments.yes:
        if arguments.json or not sys.stdin.isatty():
            raise UsageError(f"removing {name} cannot be undone: say --yes")
        sys.stderr.write(f"Remove the encoder {name} and its files? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise UsageError("nothing was removed")
    database.encoders.remove(name, force=arguments.force)
    output.result({"removed": name}, f"Removed the encoder {name}.")
    return SUCCEEDED


_ACTIONS: Final[Mapping[str, Callable[[Namespace, Database, Output], int]]] = {
    "export": export,
    "add": add,
    "list": _list,
    "show": _show,
    "check": check,
    "remove": _remove,
}
