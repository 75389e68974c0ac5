"""How the command line names an index of Amazon S3 Vectors, or of what speaks its API."""

from __future__ import annotations

import argparse
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from squash.cli.problems import UsageError
from squash.limits import BUCKET_NAME_PATTERN
from squash.values import dataclass

SCHEME: Final = "s3vectors://"
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NAME: Final = re.compile(rf"(?P<bucket>{BUCKET_NAME_PATTERN})/(?P<index>{BUCKET_NAME_PATTERN})")
_ARN: Final = re.compile(
    r"arn:aws[-a-z0-9]*:s3vectors:(?P<region>[a-z0-9-]+):\d{12}:"
    rf"bucket/(?P<bucket>{BUCKET_NAME_PATTERN})/index/(?P<index>{BUCKET_NAME_PATTERN})"
)


# The options of a copy, and what each is when nobody gives it.
SERVICE_OPTIONS: Final[Mapping[str, Any]] = {
    "create": False,
    "service_url": None,
    "service_region": None,
    "service_profile": None,
    "parallel": 4,
    "state": None,
    "restart": False,
    "bad_rows": 0,
    "sample": 100,
    "no_check": False,
    "check_only": False,
}


@dataclass(frozen=True, slots=True)
class ServiceIndex:
    """An index by its vector bucket's name and its own; the region only where an ARN said it."""

    bucket: str
    index: str
    region: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.index}"


def source(text: str) -> str | Path | ServiceIndex:
    """Parse what `file_or_index` does, or the URL of files to build from."""
    if text.startswith(("s3://", "file://")):
        return text
    return file_or_index(text)


def file_or_index(text: str) -> Path | ServiceIndex:
    """Parse a file's path, ``s3vectors://bucket/index``, or the ARN of an index."""
    if text.startswith(SCHEME):
        found = _NAME.fullmatch(text.removeprefix(SCHEME))
    elif text.startswith("arn:"):
        found = _ARN.fullmatch(text)
    elif _URL.match(text):
        # Else it would be a path, and what was meant for a bucket be written into folders here.
        raise argparse.ArgumentTypeError(
            f"{text!r} is a URL: name a file of this machine, or {SCHEME}BUCKET/INDEX"
        )
    else:
        return Path(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no index of S3 Vectors: write {SCHEME}BUCKET/INDEX, or its ARN"
        )
    return ServiceIndex(found["bucket"], found["index"], found.groupdict().get("region"))


def refuse_service_options(arguments: Namespace) -> None:
    """Refuse what is said of a copy where files are read or written: --check-only moves nothing.

    Raises
    ------
    UsageError
        If one of the options was given.

    """
    for name, default in SERVICE_OPTIONS.items():
        if getattr(arguments, name) != default:
            option = name.replace("_", "-")
            raise UsageError(
                f"--{option} goes with an index of Amazon S3 Vectors, {SCHEME}BUCKET/INDEX, "
                "and not with files"
            )
