"""The verbs: each takes the parsed arguments, an open database and the output; gives the status."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from squash import limits
from squash.api import strict_json
from squash.api.documents import (
    answer_document,
    config_document,
    record_document,
    snapshot_document,
    stats_document,
    write_document,
)
from squash.arrays import F32
from squash.cli.access import keys, serve
from squash.cli.exporting import export
from squash.cli.importers import ImportOptions, RowSource, open_rows
from squash.cli.importers.npy import open_array
from squash.cli.importers.rows import as_float32, check_dimension
from squash.cli.keeping import gc, repair, verify
from squash.cli.output import Output, Report, Table, counted, summary
from squash.cli.problems import UsageError
from squash.cli.writing import patch, put
from squash.errors import InvalidArgumentError, NotFoundError, SquashError
from squash.model import Answer, AsOf, Explanation, Level, Record, RowBatch

if TYPE_CHECKING:
    # The commands are handed an open database: which one is the caller's affair.
    from squash.database import Database, Index

SUCCEEDED: Final = 0
FAILED: Final = 1

Command: TypeAlias = "Callable[[Namespace, Database, Output], int]"


def create(arguments: Namespace, database: Database, output: Output) -> int:
    """Make an empty index."""
    index = database.create_index(
        arguments.index,
        dimension=arguments.dimension,
        metric=arguments.metric,
        attributes=dict(arguments.attribute),
        non_filterable=arguments.non_filterable,
        expires=arguments.expires,
        codec=arguments.codec,
        seed=arguments.seed,
    )
    config = index.config
    output.result(
        config_document(config),
        f"Made the index {config.name}: dimension {config.dimension}, metric {config.metric}.",
    )
    return SUCCEEDED


def import_file(arguments: Namespace, database: Database, output: Output) -> int:
    """Put the records of a large file batch by batch, then fold them into segments."""
    index = database.index(arguments.index)
    options = ImportOptions(
        keys=arguments.keys,
        metadata=arguments.metadata,
        vector_column=arguments.vector_column,
        key_column=arguments.key_column,
    )
    source = open_rows(arguments.file, dimension=index.config.dimension, options=options)
    imported = ImportedRows(source)
    with output.progress() as report:
        try:
            result = index.import_batches(imported.batches(report))
        except (SquashError, OSError, KeyboardInterrupt) as error:
            place = source.place(getattr(error, "key", None) or "")
            if place is not None:
                error.add_note(f"It stands in {place}.")
            error.add_note(imported.account())
            raise
        if not arguments.no_optimize:
            snapshot = index.optimize(progress=report).snapshot
        else:
            snapshot = result.snapshot
    output.result(
        {"snapshot": snapshot, "rows": result.rows},
        f"Imported {counted(result.rows, 'record')}; the snapshot is {snapshot:,}.",
    )
    return SUCCEEDED


class ImportedRows:
    """Counts the rows that are durable while an import runs.

    The index asks for the next batch only when the last one is committed, so what was yielded
    before the latest request is durable.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self._rows_durable = 0

    def batches(self, report: Report) -> Iterator[RowBatch]:
        """Yield the source's batches, and report each that is durable."""
        for batch in self._source.batches():
            progress = self._source.progress()
            yield batch
            self._rows_durable += len(batch)
            report(progress)

    def account(self) -> str:
        """Say what became of an import that stopped."""
        if not self._rows_durable:
            return "Nothing was imported."
        return (
            f"Before that, {counted(self._rows_durable, 'row')} became durable, though not "
            "optimized; importing the whole file again replaces them."
        )


def query(arguments: Namespace, database: Database, output: Output) -> int:
    """Find the nearest records of one vector, or of each row of a file."""
    index = database.index(arguments.index)
    vectors = _query_vectors(arguments, index)
    options = {
        "recall_target": arguments.recall_target,
        "exact": arguments.exact,
        "as_of": arguments.as_of,
        "include": arguments.include,
        "explain": arguments.explain,
    }
    if len(vectors) > 1:
        answers = index.query_many(
            vectors, top_k=arguments.top_k, filters=arguments.filter, **options
        )
        documents = [answer_document(answer) for answer in answers]
        shown: list[Table | str] = []
        for number, answer in enumerate(answers):
            shown += _answer_shown(answer, title=f"row {number:,}")
        output.result({"answers": documents}, *shown)
        return SUCCEEDED
    # One more is asked for, since the record itself is left out.
    top_k = arguments.top_k + (arguments.like is not None)
    answer = index.query(
        vectors[0], top_k=min(top_k, limits.TOP_K_MAX), filter=arguments.filter, **options
    )
    answer = _without(answer, arguments.like, top_k=arguments.top_k)
    output.result(answer_document(answer), *_answer_shown(answer))
    return SUCCEEDED


def _query_vectors(arguments: Namespace, index: Index) -> F32:
    """Return the query vectors, float32 [q, d]."""
    dimension = index.config.dimension
    if arguments.like is not None:
        records = index.get(keys=[arguments.like], include=["vector"], as_of=arguments.as_of)
        if not records or records[0].vector is None:
            raise NotFoundError(
                f"the index {arguments.index} has no record {arguments.like!r}: "
                "see `squash list` for its keys",
                index=arguments.index,
                key=arguments.like,
            )
        return records[0].vector[np.newaxis]
    if arguments.vector.startswith("@"):
        path = Path(arguments.vector[1:])
        values = np.atleast_2d(open_array(path))
        if values.ndim != 2 or not len(values):  # noqa: PLR2004 - rows and dimensions
            raise InvalidArgumentError(
                f"{path.name}: an array of shape {values.shape}, where a query is one vector, "
                "or one a row"
            )
        check_dimension(values.shape[1], expected=dimension, place=path.name)
        return as_float32(values, place=path.name)
    try:
        value = strict_json.loads(arguments.vector)
    except ValueError as error:
        raise UsageError(f"the query vector is not JSON: {error}") from error
    if not isinstance(value, list) or not value or not set(map(type, value)) <= {int, float}:
        raise UsageError("the query vector is to be a JSON list of numbers, or @file.npy")
    check_dimension(len(value), expected=dimension, place="the query vector")
    return as_float32(np.array([value], dtype=np.float64), place="the query vector")


def _without(answer: Answer, key: str | None, *, top_k: int) -> Answer:
    """Leave one key out of an answer, and keep at most `top_k` matches."""
    matches = tuple(match for match in answer.matches if match.key != key)[:top_k]
    return replace(answer, matches=matches)


def _answer_shown(answer: Answer, *, title: str = "") -> list[Table | str]:
    rows = [
        (
            match.key,
            float(match.distance),
            summary(_shown_of(match.metadata, match.vector)),
        )
        for match in answer.matches
    ]
    parts: list[Table | str] = [Table(("key", "distance", "metadata"), rows, title=title)]
    if answer.explain is not None:
        explain = answer.explain
        parts.append(_levels(explain.levels))
        parts.append(
            f"plan: {explain.plan}; partitions {explain.partitions_visited:,} of "
            f"{explain.partitions_total:,}, clusters {explain.clusters_visited:,} of "
            f"{explain.clusters_total:,}; selectivity {explain.selectivity_actual:.4g} "
            f"(predicted {explain.selectivity_predicted:.4g}); "
            f"{'certified' if explain.certified else 'not certified'} within these clusters"
        )
        if explain.costs_us:
            parts.append(_expected(explain))
    return parts


def _expected(explain: Explanation) -> str:
    """Say what the plans were expected to cost; the one taken begins with the same word."""
    taken = explain.plan.partition(" ")[0].rstrip(",")
    plans = (
        f"{name} {cost_us:,.0f} µs{' (taken)' if name.startswith(taken) else ''}"
        for name, cost_us in explain.costs_us.items()
    )
    return f"expected: {', '.join(plans)}"


def _levels(levels: tuple[Level, ...]) -> Table:
    rows = [(level.name, level.candidates, level.survivors) for level in levels]
    return Table(("level", "candidates", "survivors"), rows)


def _shown_of(metadata: Mapping[str, object] | None, vector: F32 | None) -> dict[str, object]:
    shown: dict[str, object] = dict(metadata or {})
    if vector is not None:
        shown["(vector)"] = vector.tolist()
    return shown


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
    rows = [(record.key, summary(_shown_of(record.metadata, record.vector))) for record in records]
    return Table(("key", "metadata"), rows)


def delete(arguments: Namespace, database: Database, output: Output) -> int:
    """Delete records by their keys, or by a filter."""
    if bool(arguments.keys) == (arguments.filter is not None):
        raise UsageError("say which records to delete: either their keys, or --filter")
    index = database.index(arguments.index)
    if arguments.keys:
        result = index.delete(keys=arguments.keys, if_snapshot=arguments.if_snapshot)
    else:
        result = index.delete(filter=arguments.filter, if_snapshot=arguments.if_snapshot)
    output.result(
        write_document(result),
        f"Deleted {counted(result.rows, 'record')}; the snapshot is {result.snapshot:,}.",
    )
    return SUCCEEDED


def list_any(arguments: Namespace, database: Database, output: Output) -> int:
    """List the indexes, or one page of the records of one."""
    if arguments.index is None:
        configs = sorted(database.list_indexes(), key=lambda config: config.name)
        rows = [(config.name, config.dimension, str(config.metric)) for config in configs]
        output.result(
            {"indexes": [config_document(config) for config in configs]},
            Table(("index", "dimension", "metric"), rows) if rows else "There is no index yet.",
        )
        return SUCCEEDED
    page = database.index(arguments.index).list(
        cursor=arguments.cursor,
        limit=arguments.limit,
        include=arguments.include,
        as_of=arguments.as_of,
    )
    shown: list[Table | str] = [_records_table(list(page.records))]
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


def stats(arguments: Namespace, database: Database, output: Output) -> int:
    """Describe an index in numbers."""
    document = stats_document(database.index(arguments.index).stats())
    attributes = document["attributes"]
    rows = [(name.replace("_", " "), value) for name, value in document.items()]
    rows[-1] = ("attributes", ", ".join(f"{name}: {kind}" for name, kind in attributes.items()))
    output.result(document, Table(("", document["name"]), rows[1:]))
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
    "export": export,
    "query": query,
    "get": get,
    "delete": delete,
    "list": list_any,
    "snapshots": snapshots,
    "stats": stats,
    "optimize": optimize,
    "gc": gc,
    "verify": verify,
    "repair": repair,
    "drop": drop,
    "keys": keys,
    "serve": serve,
}
