"""The grammar of the commands that read or write files of records."""

from __future__ import annotations

import argparse
from pathlib import Path

from squash import limits
from squash.cli.building_arguments import build_arguments_of
from squash.cli.service_index import SERVICE_OPTIONS, file_or_index, source
from squash.cli.shared_arguments import add_as_of, add_filter, add_if_snapshot, add_index
from squash.cli.values import count, count_or_none


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
        "files",
        metavar="SOURCE",
        nargs="+",
        type=source,
        help="a .npy, .parquet, .jsonl or .ndjson file; or s3vectors://BUCKET/INDEX, or the ARN of "
        "such an index; with --workers, .npy and .parquet files and folders of them, which may "
        "also be s3://BUCKET/KEY or s3://BUCKET/PREFIX/",
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
    build = parser.add_argument_group("the whole index from many files at once")
    build.add_argument(
        "--workers",
        type=count(limits.BUILD_WORKERS_MAX),
        metavar="N",
        help="build it from all files by so many processes, and publish it by one commit",
    )
    build_arguments_of(build)
    _add_service(parser, "the index that is imported into")


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash export`."""
    add_index(parser)
    parser.add_argument(
        "file",
        metavar="TARGET",
        type=file_or_index,
        help="a file, which ends in .parquet, .jsonl or .ndjson; or s3vectors://BUCKET/INDEX, or "
        "the ARN of such an index",
    )
    add_filter(parser, "only the records that pass")
    add_as_of(parser)
    parser.add_argument(
        "--no-vectors", action="store_true", help="keys and metadata alone; cannot be imported"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")
    _add_service(parser, "the index that is exported into")


def _add_service(parser: argparse.ArgumentParser, target: str) -> None:
    group = parser.add_argument_group("with an index of Amazon S3 Vectors")
    group.add_argument("--create", action="store_true", help=f"make {target} if it is not there")
    group.add_argument("--service-url", metavar="URL", help="of what speaks its API, if not AWS")
    group.add_argument("--service-region", metavar="REGION", help="of the index (default: AWS's)")
    group.add_argument("--service-profile", metavar="NAME", help="of the AWS configuration")
    group.add_argument(
        "--parallel",
        type=count(limits.MOVE_SEGMENTS_MAX),
        default=SERVICE_OPTIONS["parallel"],
        metavar="N",
        help="requests at once (default 4)",
    )
    group.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="keeps how far it is, for a run that goes on (default: a name made of both, here)",
    )
    group.add_argument("--restart", action="store_true", help="do not go on: begin anew")
    group.add_argument(
        "--bad-rows",
        type=count_or_none(limits.MOVE_BAD_ROWS_MAX),
        default=SERVICE_OPTIONS["bad_rows"],
        metavar="N",
        help="go on without so many records that the target does not take (default 0)",
    )
    group.add_argument(
        "--sample",
        type=count_or_none(limits.MOVE_SAMPLE_MAX),
        default=SERVICE_OPTIONS["sample"],
        metavar="N",
        help="records that are compared whole at the end, beside all keys (default 100)",
    )
    check = group.add_mutually_exclusive_group()
    check.add_argument("--no-check", action="store_true", help="compare nothing at the end")
    check.add_argument("--check-only", action="store_true", help="move nothing, only compare")


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="which encoder made the file's vectors; asked for where the index has one",
    )
