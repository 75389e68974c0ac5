"""The grammar of the commands that read or write files of records."""

from __future__ import annotations

import argparse
from pathlib import Path

from squash.cli.shared_arguments import add_as_of, add_filter, add_if_snapshot, add_index


def put_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash put`."""
    add_index(parser)
    parser.add_argument("file", metavar="FILE", help="JSON lines, or - for standard input")
    parser.add_argument(
        "--if-absent", action="store_true", help="only if there is a record of none of the keys"
    )
    _add_encoder(parser)
    add_if_snapshot(parser)


def patch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash patch`."""
    add_index(parser)
    parser.add_argument("file", metavar="FILE", help="JSON lines, or - for standard input")
    add_if_snapshot(parser)


def import_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash import`."""
    add_index(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="a .npy, .parquet, .jsonl or .ndjson file"
    )
    parser.add_argument(
        "--no-optimize", action="store_true", help="leave the new rows to a later `optimize`"
    )
    _add_encoder(parser)
    npy = parser.add_argument_group("beside a .npy file")
    npy.add_argument(
        "--keys", type=Path, metavar="FILE", help="one key a line (else row numbers are the keys)"
    )
    npy.add_argument(
        "--metadata", type=Path, metavar="FILE", help="one JSON object a line, {} for none"
    )
    parquet = parser.add_argument_group("in a .parquet file")
    what = parquet.add_mutually_exclusive_group()
    what.add_argument("--vector-column", metavar="NAME", help="a list column (default: vector)")
    what.add_argument("--text-column", metavar="NAME", help="strings, for the index's encoder")
    what.add_argument("--image-column", metavar="NAME", help="bytes of image files, likewise")
    parquet.add_argument(
        "--key-column",
        metavar="NAME",
        help="strings or integers (default: key if there is such a column, else row numbers)",
    )


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash export`."""
    add_index(parser)
    parser.add_argument(
        "file", metavar="FILE", type=Path, help="ends in .parquet, .jsonl or .ndjson"
    )
    add_filter(parser, "only the records that pass")
    add_as_of(parser)
    parser.add_argument(
        "--no-vectors", action="store_true", help="keys and metadata alone; cannot be imported"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="which encoder made the file's vectors; asked for where the index has one",
    )
