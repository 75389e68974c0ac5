"""The grammar of the command line; nothing is opened or loaded here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from squash import limits
from squash.cli.action_arguments import buckets_arguments, encoder_arguments, keys_arguments
from squash.cli.building_arguments import build_arguments
from squash.cli.problems import ReleaseAsked, UsageError
from squash.cli.record_arguments import (
    export_arguments,
    import_arguments,
    patch_arguments,
    put_arguments,
)
from squash.cli.servers import local_arguments, serve_arguments
from squash.cli.shared_arguments import (
    STORE_DEFAULT,
    STORE_VARIABLE,
    add_as_of,
    add_filter,
    add_global,
    add_if_snapshot,
    add_include,
    add_index,
    add_tag,
)
from squash.cli.values import (
    attribute,
    count,
    moment,
    retention_ms,
    share,
    snapshot,
)
from squash.model import INCLUDABLE, AttributeType, Metric
from squash.values import dataclass

DISTRIBUTION: Final = "squash-search"
"""What the package is called where it is installed from."""

__all__ = ["STORE_DEFAULT", "STORE_VARIABLE", "VERBS", "build_parser"]


class Parser(argparse.ArgumentParser):
    """Raises what argparse would print and exit on, so that `main` words it like other errors."""

    def error(self, message: str) -> NoReturn:
        """Raise the error with the command's usage beneath it."""
        raise UsageError(f"{message}; see `{self.prog} --help`")

    def _match_arguments_partial(
        self, actions: Sequence[argparse.Action], arg_strings_pattern: str
    ) -> list[int]:
        # As Python 3.13's own: earlier ones give an argument that may be missing, such as the
        # vector of a query, nothing as soon as an option comes, and then refuse it behind that.
        counts = super()._match_arguments_partial(actions, arg_strings_pattern)
        if arg_strings_pattern[sum(counts) :].startswith("O"):
            while counts and not counts[-1]:
                counts.pop()
        return counts


class _Version(argparse.Action):
    """Says which release of the package is installed, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        # No other command asks.
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            release = version(DISTRIBUTION)
        except PackageNotFoundError:
            parser.error(f"it runs from its source: {DISTRIBUTION} is not installed")
        # Whether in JSON may be said after it: `main` tells it.
        raise ReleaseAsked(release)


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
    parser.add_argument("--version", action=_Version, nargs=0, help="say which release this is")
    add_global(parser, suppress=False)
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
        add_global(command, suppress=True)
    return parser


def _create(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument(
        "--dimension", type=int, metavar="N", help="of its vectors (default: the encoder's)"
    )
    parser.add_argument(
        "--metric",
        choices=[str(metric) for metric in Metric],
        help=f"(default: the encoder's; {Metric.COSINE} without one)",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="what makes vectors of texts or images: see `squash encoder`",
    )
    text = parser.add_mutually_exclusive_group()
    text.add_argument(
        "--text-key",
        metavar="NAME",
        help="the metadata key that keeps a record's text, not filterable (default: text)",
    )
    text.add_argument("--no-text", action="store_true", help="keep vectors alone of texts")
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
    add_tag(parser)


def _optimize(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument(
        "--full", action="store_true", help="build and train all anew, whatever is there"
    )


def _snapshots(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument("--limit", type=count(limits.LIST_PAGE_MAX), default=100, metavar="N")
    parser.add_argument("--before", type=snapshot, metavar="N", help="go on where a page ended")


def _query(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
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
    what.add_argument("--text", metavar="TEXT", help="in words, for the index's encoder")
    what.add_argument("--image", metavar="FILE", type=Path, help="a picture, for its encoder")
    add_filter(parser, 'such as {"year": {"$gte": 2020}}')
    parser.add_argument("--top-k", type=count(limits.TOP_K_MAX), default=10, metavar="K")
    parser.add_argument(
        "--recall-target",
        type=share,
        metavar="SHARE",
        help="of the true nearest (default 0.95; 0.99 of an index with an encoder)",
    )
    parser.add_argument("--exact", action="store_true", help="the true answer, by brute force")
    parser.add_argument(
        "--explain", action="store_true", help="show how it was answered, level by level"
    )
    add_include(parser, default=("metadata",))
    add_as_of(parser)


def _get(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument("keys", metavar="KEY", nargs="+")
    add_include(parser, default=INCLUDABLE)
    add_as_of(parser)


def _delete(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument("keys", metavar="KEY", nargs="*")
    add_filter(parser, "delete every record that passes")
    add_if_snapshot(parser)


def _list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", metavar="INDEX", nargs="?", help="list this index's records")
    parser.add_argument("--cursor", help="go on where a page ended")
    parser.add_argument("--limit", type=count(limits.LIST_PAGE_MAX), metavar="N")
    add_include(parser, default=("metadata",))
    add_as_of(parser)


def _gc(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", metavar="INDEX", nargs="?", help="of this index alone")
    parser.add_argument(
        "--retention",
        type=retention_ms,
        default=limits.GC_RETENTION_S_DEFAULT * 1000,
        metavar="TIME",
        help="for which every state stays readable, such as 90m, 12h or 7d (default 1d)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _restore(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument(
        "--as-of",
        type=moment,
        required=True,
        metavar="WHEN",
        help="the snapshot: its number, or a time such as 2026-01-31T12:00:00Z",
    )
    add_if_snapshot(parser)


def _repair(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument(
        "--drop-lost", action="store_true", help="go on without the rows that cannot be read back"
    )


def _drop(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


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
        put_arguments,
        details='A line is {"key": "a", "vector": [0.1, ...], "metadata": {"year": 2020}}; where '
        'the index has an encoder, "text" may stand in the place of "vector". A key that is there '
        "already is replaced.",
    ),
    Verb(
        "patch",
        "change the metadata of records, and keep their vectors",
        "squash patch papers changes.jsonl",
        patch_arguments,
        details='A line is {"key": "a", "metadata": {"year": 2021, "draft": null}}: what is null '
        "is removed, what is not named stays. All in one commit.",
    ),
    Verb(
        "import",
        "put the records of a large file, batch by batch",
        "squash import papers vectors.npy --keys keys.txt --metadata metadata.jsonl",
        import_arguments,
        details="Each batch is durable once it is in; afterwards the index is optimized. SOURCE "
        "may be an index of Amazon S3 Vectors: s3vectors://BUCKET/INDEX.",
    ),
    Verb(
        "build",
        "build an index from files by a state machine; look at builds, cancel and resume them",
        "squash build start papers s3://data/papers/ --replace",
        build_arguments,
        details="`squash import --workers` builds on this machine.",
    ),
    Verb(
        "export",
        "write the records of one snapshot to a file",
        "squash export papers papers.parquet",
        export_arguments,
        details="What import reads back gives the same keys, vectors and metadata, bit for bit. "
        "TARGET may be an index of Amazon S3 Vectors: s3vectors://BUCKET/INDEX.",
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
    Verb(
        "restore",
        "make the records again what they were after a snapshot",
        "squash restore papers --as-of 41",
        _restore,
        details="In one commit; squash snapshots lists them. The content that a build replaced "
        "comes back so, too. It can itself be undone, until gc has taken the snapshot before it.",
    ),
    Verb("stats", "describe an index in numbers", "squash stats papers", add_index),
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
        add_index,
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
        "buckets",
        "make, list and delete vector buckets, in which indexes are BUCKET/INDEX",
        "squash buckets create media --tag team=search",
        buckets_arguments,
        details="They are those of the S3 Vectors API.",
    ),
    Verb(
        "keys",
        "make, list and revoke API keys of the HTTP interface",
        "squash keys create --scopes read,write --indexes 'papers*' --expires 30d",
        keys_arguments,
    ),
    Verb(
        "encoder",
        "make, add, list, check or remove encoders of text and images",
        "squash encoder add minilm",
        encoder_arguments,
        details="An index made with --encoder takes texts and answers them.",
    ),
    Verb(
        "serve",
        "answer HTTP on this machine, for development",
        "squash serve --port 8080 --auth none",
        serve_arguments,
        details="On the loopback interface alone, in one process; stop it with Ctrl-C.",
    ),
)
