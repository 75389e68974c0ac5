"""The grammar of the commands that run until they are stopped: `local` and `serve`."""

from __future__ import annotations

import argparse
from pathlib import Path

from squash.cli.values import count, named_value, port, seconds


def local_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash local`."""
    what = parser.add_argument_group("what is run")
    what.add_argument("--template", type=Path, default=Path("template.yaml"), metavar="FILE")
    what.add_argument(
        "--build",
        type=Path,
        default=Path(".aws-sam/local"),
        metavar="DIR",
        help="what was built of the template, a folder a function (default .aws-sam/local)",
    )
    what.add_argument(
        "--parameter",
        type=named_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for a parameter of the template, else its default",
    )
    what.add_argument(
        "--environment",
        type=named_value,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable for every function, over the template's",
    )
    what.add_argument(
        "--data",
        type=Path,
        default=Path(".squash-local"),
        metavar="DIR",
        help="for S3's objects and for what runs (default .squash-local)",
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--api-port", type=port, default=3000, metavar="PORT", help="of the HTTP API"
    )
    where.add_argument(
        "--lambda-port", type=port, default=3001, metavar="PORT", help="of Lambda (default 3001)"
    )
    where.add_argument(
        "--url-port",
        type=port,
        default=3002,
        metavar="PORT",
        help="of a function's own URL, the next one's one more (default 3002)",
    )
    where.add_argument("--s3", metavar="URL", help="an S3 that runs already, else one is started")
    how = parser.add_argument_group("how")
    how.add_argument("--s3-memory", action="store_true", help="start an S3 that keeps nothing")
    how.add_argument(
        "--s3-proxy", action="store_true", help="count S3's requests, and let them fail on demand"
    )
    how.add_argument(
        "--faults", type=Path, metavar="FILE", help="what is to go wrong (docs/local.md)"
    )
    how.add_argument(
        "--no-fork-server",
        action="store_true",
        help="start each container from nothing, as a cold start is",
    )
    how.add_argument("--concurrency", type=count(1000), default=1000, metavar="N", help="of calls")
    how.add_argument(
        "--containers", type=count(2500), default=64, metavar="N", help="kept, the idle ones too"
    )
    how.add_argument(
        "--idle-seconds", type=seconds, default=600.0, metavar="S", help="that a container is kept"
    )
    how.add_argument("--schedules", action="store_true", help="run the template's schedules too")
    how.add_argument("--logs", action="store_true", help="show what functions print")


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `squash serve`."""
    parser.add_argument("--port", type=port, default=8080, metavar="N", help="0 for any free one")
    parser.add_argument(
        "--auth",
        choices=["keys", "none"],
        default="keys",
        help="who may ask: who has a key (`squash keys create`), or everybody on this machine",
    )
