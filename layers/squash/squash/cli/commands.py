"""The verbs: each takes the parsed arguments, an open database and the output; gives the status."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from squash.api.documents import (
    config_document,
    record_document,
    snapshot_document,
    stats_document,
    write_document,
)
from squash.cli.access import keys, serve
from squash.cli.buckets import buckets
from squash.cli.building import build
from squash.cli.encoders import encoder
from squash.cli.encoding_words import pin_label
from squash.cli.exporting import export
from squash.cli.importing import import_file
from squash.cli.keeping import gc, repair, verify
from squash.cli.output import Output, Table, counted, summary
from squash.cli.problems import UsageError, problem
from squash.cli.querying import query, shown_of
from squash.cli.statuses import FAILED, SUCCEEDED
from squash.cli.values import by_name
from squash.cli.writing import patch, put
from squash.errors import DataError, NotFoundError
from squash.model import TEXT_KEY_DEFAULT, AsOf, EncoderPin, Metric, Record

if TYPE_CHECKING:
    # The commands are handed an open database: which one is the caller's affair.
    from squash.database import Database

_PAGE_DEFAULT: Final = 100

Command: TypeAlias = "Callable[[Namespace, Database, Output], int]"


def create(arguments: Namespace, database: Database, output: Output) -> int:
    """Make an empty index."""
    config = database.create_index(
        arguments.index,
        attributes=by_name(arguments.attribute, "--attribute"),
        non_filterable=arguments.non_filterable,
        expires=arguments.expires,
        codec=arguments.codec,
        seed=arguments.seed,
        **_measured_by(arguments),
        **_tagged(arguments),
    ).config
    output.result(
        config_document(config),
        f"Made the index {config.name}: dimension {config.dimension}, metric {config.metric}"
        f"{_by(config.encoder)}.",
    )
    return SUCCEEDED


def _tagged(arguments: Namespace) -> dict[str, Any]:
    return {"tags": by_name(arguments.tag, "--tag")} if arguments.tag else {}


def _measured_by(arguments: Namespace) -> dict[str, Any]:
    """Return which vectors an index takes: those of an encoder, or of a dimension."""
    told = {"dimension": arguments.dimension, "metric": arguments.metric}
    if arguments.encoder is not None:
        # What is not told is the encoder's.
        told = {name: value for name, value in told.items() if value is not None}
        text_key = None if arguments.no_text else arguments.text_key or TEXT_KEY_DEFAULT
        return told | {"encoder": arguments.encoder, "text_key": text_key}
    if arguments.text_key is not None or arguments.no_text:
        raise UsageError("--text-key and --no-text go with --encoder")
    if arguments.dimension is None:
        raise UsageError("say what is put into the index: --encoder NAME, or --dimension N")
    return told | {"metric": arguments.metric or str(Metric.COSINE)}


def _by(pin: EncoderPin | None) -> str:
    return "" if pin is None else f", encoder {pin_label(pin)}"


def get(arguments: Namespace, database: Database, output: Output) -> int:
    """Show records by their keys; a key that is not there is a failure, said last."""
    index = database.index(arguments.index)
    records = index.get(keys=arguments.keys, include=arguments.include, as_of=arguments.as_of)
    output.result(
        {"records": [record_document(record) for record in records]}, _records_table(records)
    )
    missing = sorted(set(arguments.keys) - {record.key for record in records})
    if missing:
        raise NotFoundError(
            f"the index {arguments.index} has no record {', '.join(map(repr, missing))}",
            index=arguments.index,
            key=missing[0],
        )
    return SUCCEEDED


def _records_table(records: list[Record]) -> Table:
    rows = [(record.key, summary(shown_of(record.metadata, record.vector))) for record in records]
    return Table(("key", "metadata"), rows)


def delete(arguments: Namespace, database: Database, output: Output) -> int:
    """Delete records by their keys, or by a filter."""
    if bool(arguments.keys) == (arguments.filter is not None):
        raise UsageError("say which records to delete: either their keys, or --filter")
    index = database.index(arguments.index)
    if arguments.keys:
        result = index.delete(keys=arguments.keys, if_snapshot=arguments.if_snapshot)
        # Nobody looked which of them there were.
        deleted = f"what there was of {counted(result.rows, 'key')}"
    else:
        result = index.delete(filter=arguments.filter, if_snapshot=arguments.if_snapshot)
        deleted = counted(result.rows, "record")
    output.result(
        write_document(result),
        f"Deleted {deleted}; the snapshot is {result.snapshot:,}.",
    )
    return SUCCEEDED


def list_any(arguments: Namespace, database: Database, output: Output) -> int:
    """List the indexes, or one page of the records of one."""
    if arguments.index is None:
        for given, name in (
            (arguments.cursor, "--cursor"),
            (arguments.limit, "--limit"),
            (arguments.as_of, "--as-of"),
        ):
            if given is not None:
                raise UsageError(f"{name} goes with an index, whose records are listed")
        failed: dict[str, DataError] = {}
        found = database.list_indexes(unreadable=failed)
        configs = sorted(found, key=lambda config: config.name)
        rows = [
            (config.name, config.dimension, str(config.metric), pin_label(config.encoder))
            for config in configs
        ]
        hidden = [{"name": name, **problem(error)} for name, error in failed.items()]
        document = {"indexes": [config_document(config) for config in configs]}
        shown: list[Table | str] = []
        if rows:
            shown.append(Table(("index", "dimension", "metric", "encoder"), rows))
        shown += [f"{name} cannot be read: {error}" for name, error in failed.items()]
        output.result(
            document | ({"unreadable": hidden} if hidden else {}),
            *(shown or ["There is no index yet."]),
        )
        return FAILED if failed else SUCCEEDED
    page = database.index(arguments.index).list(
        cursor=arguments.cursor,
        limit=arguments.limit or _PAGE_DEFAULT,
        include=arguments.include,
        as_of=arguments.as_of,
    )
    shown = [_records_table(list(page.records))]
    if page.cursor is not None:
        more = "" if arguments.as_of is None else f" --as-of {_moment(arguments.as_of)}"
        shown.append(f"There are more: squash list {arguments.index} --cursor {page.cursor}{more}")
    output.result(
        {"records": [record_document(record) for record in page.records], "cursor": page.cursor},
        *shown,
    )
    return SUCCEEDED


def _moment(as_of: AsOf) -> str:
    return str(as_of) if isinstance(as_of, int) else as_of.isoformat()


def snapshots(arguments: Namespace, database: Database, output: Output) -> int:
    """List what the last commits did, the newest first."""
    index = database.index(arguments.index)
    found = index.snapshots(limit=arguments.limit, before=arguments.before)
    rows = [
        (
            one.snapshot,
            datetime.fromtimestamp(one.time_ms / 1000, UTC).isoformat(timespec="milliseconds"),
            one.operation,
            one.rows,
        )
        for one in found
    ]
    shown: list[Table | str] = [Table(("snapshot", "time", "operation", "rows"), rows)]
    if len(found) == arguments.limit and found[-1].snapshot > 1:
        before = found[-1].snapshot
        shown.append(f"There may be more: squash snapshots {arguments.index} --before {before}")
    output.result({"snapshots": [snapshot_document(one) for one in found]}, *shown)
    return SUCCEEDED


def restore(arguments: Namespace, database: Database, output: Output) -> int:
    """Make the records again what they were after a snapshot."""
    index = database.index(arguments.index)
    result = index.restore(arguments.as_of, if_snapshot=arguments.if_snapshot)
    done = f"Restored {counted(result.rows, 'record')}"
    if not result.rows:
        # Either all there was is gone, or nothing was to be done.
        left = index.list(limit=1, include=(), as_of=result.snapshot).records
        done = "No record has changed since" if left else "There was no record, and is none now"
    output.result(write_document(result), f"{done}; the snapshot is {result.snapshot:,}.")
    return SUCCEEDED


def stats(arguments: Namespace, database: Database, output: Output) -> int:
    """Describe an index in numbers."""
    index = database.index(arguments.index)
    document = stats_document(index.stats())
    told = dict(document)
    name, attributes = told.pop("name"), told.pop("attributes")
    rows = [(title.replace("_", " "), value) for title, value in told.items()]
    rows.append(("attributes", ", ".join(f"{key}: {kind}" for key, kind in attributes.items())))
    pin = index.config.encoder
    if pin is not None:
        rows.append(("encoder", pin_label(pin)))
        rows.append(("texts kept in", pin.text_key or "nothing"))
    output.result(
        document | {"encoder": None if pin is None else asdict(pin)}, Table(("", name), rows)
    )
    return SUCCEEDED


def optimize(arguments: Namespace, database: Database, output: Output) -> int:
    """Fold what is new into trained segments."""
    index = database.index(arguments.index)
    with output.progress() as report:
        result = index.optimize(progress=report, full=arguments.full)
    output.result(
        write_document(result),
        f"Optimized {counted(result.rows, 'row')}; the snapshot is {result.snapshot:,}.",
    )
    return SUCCEEDED


def drop(arguments: Namespace, database: Database, output: Output) -> int:
    """Delete an index and all its records, after asking."""
    index = database.index(arguments.index)
    if not arguments.yes:
        if arguments.json or not sys.stdin.isatty():
            raise UsageError(f"dropping {arguments.index} cannot be undone: say --yes")
        rows = index.stats().rows
        sys.stderr.write(f"Delete {arguments.index} and its {counted(rows, 'record')}? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise UsageError("nothing was dropped")
    database.drop_index(arguments.index)
    output.result({"dropped": arguments.index}, f"Dropped {arguments.index}.")
    return SUCCEEDED


COMMANDS: Final[Mapping[str, Command]] = {
    "create": create,
    "put": put,
    "patch": patch,
    "import": import_file,
    "build": build,
    "export": export,
    "query": query,
    "get": get,
    "delete": delete,
    "list": list_any,
    "snapshots": snapshots,
    "restore": restore,
    "stats": stats,
    "optimize": optimize,
    "gc": gc,
    "verify": verify,
    "repair": repair,
    "drop": drop,
    "buckets": buckets,
    "keys": keys,
    "encoder": encoder,
    "serve": serve,
}
