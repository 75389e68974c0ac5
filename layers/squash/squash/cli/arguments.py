"""The grammar of the command line; nothing is opened or loaded here."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from squash import limits
from squash.cli.problems import UsageError
from squash.cli.servers import local_arguments, serve_arguments
from squash.cli.values import (
    INCLUDABLE,
    attribute,
    count,
    filter_object,
    include_list,
    lifetime_ms,
    moment,
    share,
    snapshot,
    words,
)
from squash.model import AttributeType, Metric

STORE_VARIABLE: Final = "SQUASH_STORE"
STORE_DEFAULT: Final = "./.squash"


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit on, so that `main` words it like other errors."""

    def error(self, message: str) -> NoReturn:
        """Raise the error with the command's usage beneath it."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


@dataclass(frozen=True, slots=True)
class Verb:
    """One subcommand: what its help says, an example to copy, and its own arguments."""

    name: str
    summary: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    details: str = ""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="squash",
        description="Vector search with exact filters: indexes in a folder or in S3.",
        epilog="`squash COMMAND --help` has an example of each command.",
    )
    _add_global(parser, suppress=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for verb in VERBS:
        command = commands.add_parser(
            verb.name,
            help=verb.summary,
            description=f"{verb.summary[0].upper()}{verb.summary[1:]}. {verb.details}".strip(),
            epilog=f"example:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(command)
        _add_global(command, suppress=True)
    return parser


def _add_global(parser: argparse.ArgumentParser, *, suppress: bool) -> None:
    """Add what every command takes, so that it may stand before or after the command."""
    # A suppressed default leaves alone what was given before the command.
    default: Any = argparse.SUPPRESS if suppress else None
    group = parser.add_argument_group("for every command")
    group.add_argument(
        "--store",
        metavar="LOCATION",
        default=default,
        help=f"a folder, file:///folder or s3://bucket/prefix (else the environment's "
        f"{STORE_VARIABLE}, else {STORE_DEFAULT})",
    )
    group.add_argument(
        "--endpoint-url", metavar="URL", default=default, help="of an S3 that is not Amazon's"
    )
    group.add_argument("--region", default=default, help="of the bucket")
    group.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if suppress else False,
        help="for machines: JSON on standard output, errors as JSON on standard error",
    )


def _index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", metavar="INDEX", help="the index's name")


def _filter(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--filter", type=filter_object, metavar="JSON", help=help_)


def _include(parser: argparse.ArgumentParser, *, default: tuple[str, ...]) -> None:
    parser.add_argument(
        "--include",
        type=include_list,
        default=default,
        metavar="WHAT",
        help=f"beside the key: metadata, vector, both with a comma, or none "
        f"(default {','.join(default)})",
    )


def _create(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("--dimension", type=int, required=True, help="of its vectors")
    parser.add_argument(
        "--metric", choices=[str(metric) for metric in Metric], default=str(Metric.COSINE)
    )
    parser.add_argument(
        "--attribute",
        type=attribute,
        action="append",
        default=[],
        metavar="NAME=TYPE",
        help="declare a metadata key's type (else it is inferred): "
        + ", ".join(str(kind) for kind in AttributeType),
    )
    parser.add_argument(
        "--non-filterable",
        action="append",
        default=[],
        metavar="NAME",
        help="a metadata key that is only stored and returned, such as a long text",
    )
    parser.add_argument(
        "--expires",
        metavar="NAME",
        help="the metadata key that says when a record is gone, in seconds since 1970 UTC",
    )
    parser.add_argument("--codec", choices=["residual", "osq"], default="residual")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn in training")


def _put(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("file", metavar="FILE", help="JSON lines, or - for standard input")
    parser.add_argument(
        "--if-absent", action="store_true", help="only if there is a record of none of the keys"
    )
    _if_snapshot(parser)


def _patch(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("file", metavar="FILE", help="JSON lines, or - for standard input")
    _if_snapshot(parser)


def _optimize(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument(
        "--full", action="store_true", help="build and train all anew, whatever is there"
    )


def _snapshots(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("--limit", type=count(limits.LIST_PAGE_MAX), default=100, metavar="N")
    parser.add_argument("--before", type=snapshot, metavar="N", help="go on where a page ended")


def _if_snapshot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--if-snapshot",
        type=snapshot,
        metavar="N",
        help="only if no record changed after the snapshot of this number",
    )


def _import(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="a .npy, .parquet, .jsonl or .ndjson file"
    )
    parser.add_argument(
        "--no-optimize", action="store_true", help="leave the new rows to a later `optimize`"
    )
    npy = parser.add_argument_group("beside a .npy file")
    npy.add_argument(
        "--keys", type=Path, metavar="FILE", help="one key a line (else row numbers are the keys)"
    )
    npy.add_argument(
        "--metadata", type=Path, metavar="FILE", help="one JSON object a line, {} for none"
    )
    parquet = parser.add_argument_group("in a .parquet file")
    parquet.add_argument("--vector-column", metavar="NAME", help="a list column (default: vector)")
    parquet.add_argument(
        "--key-column",
        metavar="NAME",
        help="strings or integers (default: key if there is such a column, else row numbers)",
    )


def _as_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--as-of",
        type=moment,
        metavar="WHEN",
        help="read an older snapshot: its number, or a time such as 2026-01-31T12:00:00Z",
    )


def _export(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="ends in .parquet, .jsonl or .ndjson"
    )
    _filter(parser, "only the records that pass")
    _as_of(parser)
    parser.add_argument(
        "--no-vectors", action="store_true", help="keys and metadata alone; cannot be imported"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")


def _query(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "vector",
        nargs="?",
        metavar="VECTOR",
        help="[0.1, ...] as JSON, or @file.npy with one vector, or with one a row",
    )
    what.add_argument(
        "--like", metavar="KEY", help="the vector of a stored record, which is left out"
    )
    _filter(parser, 'such as {"year": {"$gte": 2020}}')
    parser.add_argument("--top-k", type=count(limits.TOP_K_MAX), default=10, metavar="K")
    parser.add_argument("--recall-target", type=share, default=0.95, metavar="SHARE")
    parser.add_argument("--exact", action="store_true", help="the true answer, by brute force")
    parser.add_argument(
        "--explain", action="store_true", help="show how it was answered, level by level"
    )
    _include(parser, default=("metadata",))
    _as_of(parser)


def _get(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("keys", metavar="KEY", nargs="+")
    _include(parser, default=INCLUDABLE)
    _as_of(parser)


def _delete(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("keys", metavar="KEY", nargs="*")
    _filter(parser, "delete every record that passes")
    _if_snapshot(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", metavar="INDEX", nargs="?", help="list this index's records")
    parser.add_argument("--cursor", help="go on where a page ended")
    parser.add_argument("--limit", type=count(limits.LIST_PAGE_MAX), default=100, metavar="N")
    _include(parser, default=("metadata",))
    _as_of(parser)


def _gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", metavar="INDEX", nargs="?", help="of this index alone")
    parser.add_argument(
        "--retention",
        type=lifetime_ms,
        default=limits.GC_RETENTION_S_DEFAULT * 1000,
        metavar="TIME",
        help="for which every state stays readable, such as 90m, 12h or 7d (default 1d)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _repair(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument(
        "--drop-lost", action="store_true", help="go on without the rows that cannot be read back"
    )


def _drop(parser: argparse.ArgumentParser) -> None:
    _index(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key; its token is shown this once")
    create.add_argument(
        "--scopes",
        type=words,
        required=True,
        metavar="SCOPES",
        help="what it allows: of read, write and admin, with commas",
    )
    create.add_argument(
        "--indexes",
        type=words,
        default=["*"],
        metavar="NAMES",
        help="which indexes, with commas: names, or beginnings of names followed by * "
        "(default *: every index)",
    )
    create.add_argument(
        "--row-filter",
        type=filter_object,
        metavar="JSON",
        help="a filter and-ed into everything the key reads; for keys that only read",
    )
    create.add_argument(
        "--expires",
        type=lifetime_ms,
        metavar="TIME",
        help="after which it no longer works, such as 90m, 12h or 30d (else never)",
    )
    create.add_argument("--description", default="", metavar="TEXT", help="for people")
    actions.add_parser("list", help="list the keys; their tokens are not stored")
    revoke = actions.add_parser("revoke", help="let a key no longer work; within a minute")
    revoke.add_argument("key", metavar="ID", help="the part of the token between the _")
    for action in (create, revoke, actions.choices["list"]):
        _add_global(action, suppress=True)


VERBS: Final = (
    Verb(
        "create",
        "make an empty index",
        "squash create papers --dimension 384 --metric cosine --attribute year=number",
        _create,
    ),
    Verb(
        "put",
        "put records from JSON lines, all in one commit",
        "squash put papers records.jsonl",
        _put,
        details='A line is {"key": "a", "vector": [0.1, ...], "metadata": {"year": 2020}}; '
        "a key that is there already is replaced.",
    ),
    Verb(
        "patch",
        "change the metadata of records, and keep their vectors",
        "squash patch papers changes.jsonl",
        _patch,
        details='A line is {"key": "a", "metadata": {"year": 2021, "draft": null}}: what is null '
        "is removed, what is not named stays. All in one commit.",
    ),
    Verb(
        "import",
        "put the records of a large file, batch by batch",
        "squash import papers vectors.npy --keys keys.txt --metadata metadata.jsonl",
        _import,
        details="Each batch is durable once it is in; afterwards the index is optimized.",
    ),
    Verb(
        "export",
        "write the records of one snapshot to a file",
        "squash export papers papers.parquet",
        _export,
        details="What import reads back gives the same keys, vectors and metadata, bit for bit.",
    ),
    Verb(
        "query",
        "find the nearest records, of those that pass a filter",
        """squash query papers --like paper-17 --filter '{"year": {"$gte": 2020}}' --top-k 5""",
        _query,
    ),
    Verb("get", "show records by their keys", "squash get papers paper-17 paper-18", _get),
    Verb(
        "delete",
        "delete records by their keys, or by a filter",
        "squash delete papers paper-17 paper-18",
        _delete,
    ),
    Verb(
        "list",
        "list the indexes, or the records of one",
        "squash list papers --limit 20",
        _list,
    ),
    Verb(
        "snapshots",
        "list what the last commits did",
        "squash snapshots papers --limit 20",
        _snapshots,
        details="Each made a snapshot, which --as-of of other commands reads.",
    ),
    Verb("stats", "describe an index in numbers", "squash stats papers", _index),
    Verb(
        "optimize",
        "fold what is new into trained segments",
        "squash optimize papers",
        _optimize,
    ),
    Verb(
        "gc",
        "remove what no state within the retention needs",
        "squash gc papers --retention 7d",
        _gc,
        details="Without an index, of all indexes, and what is left of dropped ones.",
    ),
    Verb(
        "verify",
        "read everything stored and check it",
        "squash verify papers",
        _index,
        details="Exit status 1 if anything is damaged.",
    ),
    Verb(
        "repair",
        "mend what is damaged, as far as the rest allows",
        "squash repair papers --dry-run",
        _repair,
        details="Exit status 1 if anything is damaged still.",
    ),
    Verb("drop", "delete an index and all its records", "squash drop papers --yes", _drop),
    Verb(
        "local",
        "run the functions of template.yaml on this machine",
        "squash local --build .aws-sam/local --parameter Affinity=pool",
        local_arguments,
        details="A development tool: it listens on loopback only, and checks no signature.",
    ),
    Verb(
        "keys",
        "make, list and revoke API keys of the HTTP interface",
        "squash keys create --scopes read,write --indexes 'papers*' --expires 30d",
        _keys,
    ),
    Verb(
        "serve",
        "answer HTTP on this machine, for development",
        "squash serve --port 8080 --auth none",
        serve_arguments,
        details="On the loopback interface alone, in one process; stop it with Ctrl-C.",
    ),
)
