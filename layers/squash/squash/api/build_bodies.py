"""What requests about bulk builds say, read into frozen values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from squash.api import members
from squash.api.bodies import encoder_name
from squash.api.members import list_of, read_object, wrong
from squash.limits import (
    BUILD_COLUMN_BYTES_MAX,
    BUILD_INPUTS_PER_REQUEST_MAX,
    BUILD_URL_BYTES_MAX,
    ID_PATTERN,
    INTEGER_MAGNITUDE_MAX,
)
from squash.values import dataclass

_BUILD: Final = re.compile(ID_PATTERN)


@dataclass(frozen=True, slots=True)
class BuildBody:
    """A build to be begun; `build` is an id of the caller's, to ask again with."""

    inputs: Sequence[str]
    columns: Mapping[str, str | None] = field(default_factory=dict)
    encoder: str | None = None
    replace: bool = False
    bad_rows_max: int = 0
    dollars_max: float | None = None
    build: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeBody:
    """Other limits for a build that goes on; None keeps each."""

    bad_rows_max: int | None = None
    dollars_max: float | None = None


def build_body(document: Any) -> BuildBody:
    """Read the body of `POST …/builds`."""
    found = read_object(
        document,
        "",
        required={"inputs": list_of(_url, most=BUILD_INPUTS_PER_REQUEST_MAX, least=1)},
        optional={
            "columns": _columns,
            "encoder": members.or_null(encoder_name),
            "replace": members.flag,
            "bad_rows_max": _count,
            "dollars_max": members.or_null(_dollars),
            "build": _build,
        },
    )
    return BuildBody(**found)


def resume_body(document: Any) -> ResumeBody:
    """Read the body of `POST …/builds/{build}/resume`."""
    found = read_object(
        document,
        "",
        optional={
            "bad_rows_max": members.or_null(_count),
            "dollars_max": members.or_null(_dollars),
        },
    )
    return ResumeBody(**found)


def _url(value: Any, place: str) -> str:
    url = members.text(value, place)
    if not 1 <= len(url.encode()) <= BUILD_URL_BYTES_MAX:
        raise wrong(place, f"is the URL of a file or a folder: 1 to {BUILD_URL_BYTES_MAX} bytes")
    return url


def _columns(value: Any, place: str) -> dict[str, str | None]:
    one = members.or_null(_column)
    return read_object(value, place, optional={"vector": one, "text": one, "key": one})


def _column(value: Any, place: str) -> str:
    name = members.text(value, place)
    if not 1 <= len(name.encode()) <= BUILD_COLUMN_BYTES_MAX:
        raise wrong(place, f"is a column's name: 1 to {BUILD_COLUMN_BYTES_MAX} bytes")
    return name


def _dollars(value: Any, place: str) -> float:
    dollars = members.number(value, place)
    if not dollars > 0:
        raise wrong(place, "is a number of dollars above 0; null for no limit")
    return float(dollars)


def _build(value: Any, place: str) -> str:
    if not _BUILD.fullmatch(members.text(value, place)):
        raise wrong(place, "is an id of your own: 32 of 0-9 and a-f")
    return str(value)


_count: Final = members.whole(0, INTEGER_MAGNITUDE_MAX)
