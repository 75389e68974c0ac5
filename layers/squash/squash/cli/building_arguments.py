"""The grammar of `squash build`, and what `squash import --workers` shares with it."""

from __future__ import annotations

import argparse
from pathlib import Path

from squash import limits
from squash.cli.shared_arguments import add_global, add_index
from squash.cli.values import build_id, count, count_or_none, dollars


def build_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash build`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _start(actions.add_parser("start", help="have a state machine build an index from files in S3"))
    status = actions.add_parser("status", help="show how far a build is (default: the newest)")
    add_index(status)
    status.add_argument("build", metavar="BUILD", nargs="?", help="its id")
    status.add_argument("--watch", action="store_true", help="until it ends")
    add_index(actions.add_parser("list", help="list the builds of an index, the newest first"))
    cancel = actions.add_parser("cancel", help="stop a build; it can be resumed")
    add_index(cancel)
    cancel.add_argument("build", metavar="BUILD", help="its id")
    _resume(actions.add_parser("resume", help="go on with a build that was cut off or stopped"))
    for action in actions.choices.values():
        add_global(action, suppress=True)


def _start(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="s3://BUCKET/KEY of a .npy or .parquet file, or s3://BUCKET/PREFIX/ of many",
    )
    _add_machine(parser)
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="which encoder made the vectors; asked for where the index has one",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--vector-column", metavar="NAME", help="a list column (default: vector)")
    what.add_argument("--text-column", metavar="NAME", help="strings, for the index's encoder")
    parser.add_argument(
        "--key-column", metavar="NAME", help="strings or integers (default: key, or row numbers)"
    )
    _add_replace(parser)
    _add_limits(parser)
    parser.add_argument("--build", type=build_id, metavar="ID", help=_ID)


def _resume(parser: argparse.ArgumentParser) -> None:
    add_index(parser)
    parser.add_argument("build", metavar="BUILD", help="its id")
    who = parser.add_mutually_exclusive_group()
    who.add_argument(
        "--workers",
        type=count(limits.BUILD_WORKERS_MAX),
        metavar="N",
        help="by so many processes of this machine, wherever it ran before",
    )
    _add_machine(who)
    _add_limits(parser)
    _add_scratch(parser)


_ID = "32 hexadecimal digits: who repeats the command with them goes on with the same build"


def build_arguments_of(group: argparse._ArgumentGroup) -> None:
    """Add what `squash import` takes with --workers."""
    _add_replace(group)
    group.add_argument(
        "--bad-rows-max",
        type=count_or_none(limits.INTEGER_MAGNITUDE_MAX),
        metavar="N",
        help="leave out so many rows that cannot be kept, and list them (default 0)",
    )
    _add_scratch(group)
    group.add_argument("--build", type=build_id, metavar="ID", help=_ID)


def _add_replace(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--replace", action="store_true", help="let the index's records give way, at the end"
    )


def _add_machine(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--state-machine",
        metavar="ARN",
        help="which runs the tasks: the stack's output BuildMachine (else the environment's "
        "SQUASH_STATE_MACHINE)",
    )


def _add_limits(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--bad-rows-max",
        type=count_or_none(limits.INTEGER_MAGNITUDE_MAX),
        metavar="N",
        help="leave out so many rows that cannot be kept, and list them",
    )
    parser.add_argument(
        "--dollars-max", type=dollars, metavar="USD", help="stop once so much was spent"
    )


def _add_scratch(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--scratch",
        type=Path,
        metavar="FOLDER",
        help="with room for some hundred MB a worker (default: the system's temporary one)",
    )
