"""The arguments that several commands take."""

from __future__ import annotations

import argparse
from typing import Any, Final

from squash.cli.values import filter_object, include_list, moment, named_value, snapshot

STORE_VARIABLE: Final = "SQUASH_STORE"
STORE_DEFAULT: Final = "./.squash"


def add_global(parser: argparse.ArgumentParser, *, suppress: bool) -> None:
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
    group.add_argument("--region", default=default, help="of the bucket, and of a signing key")
    group.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if suppress else False,
        help="for machines: JSON on standard output, errors as JSON on standard error",
    )


def add_index(parser: argparse.ArgumentParser) -> None:
    """Add the name of the index."""
    parser.add_argument("index", metavar="INDEX", help="the index's name")


def add_tag(parser: argparse.ArgumentParser) -> None:
    """Add the tags of a vector bucket, or of an index in one."""
    parser.add_argument(
        "--tag",
        type=named_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a tag of a vector bucket, or of an index in one",
    )


def add_filter(parser: argparse.ArgumentParser, help_: str) -> None:
    """Add a filter, and what it is for."""
    parser.add_argument("--filter", type=filter_object, metavar="JSON", help=help_)


def add_include(parser: argparse.ArgumentParser, *, default: tuple[str, ...]) -> None:
    """Add what is shown of a record beside its key."""
    parser.add_argument(
        "--include",
        type=include_list,
        default=default,
        metavar="WHAT",
        help=f"beside the key: metadata, vector, both with a comma, or none "
        f"(default {','.join(default)})",
    )


def add_as_of(parser: argparse.ArgumentParser) -> None:
    """Add which snapshot is read."""
    parser.add_argument(
        "--as-of",
        type=moment,
        metavar="WHEN",
        help="read an older snapshot: its number, or a time such as 2026-01-31T12:00:00Z",
    )


def add_if_snapshot(parser: argparse.ArgumentParser) -> None:
    """Add on what snapshot a write depends."""
    parser.add_argument(
        "--if-snapshot",
        type=snapshot,
        metavar="N",
        help="only if no record changed after the snapshot of this number",
    )
