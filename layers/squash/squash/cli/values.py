"""The values of the command line's arguments, parsed from text."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from squash import limits, strict_json
from squash.api import moments
from squash.cli.problems import UsageError
from squash.model import INCLUDABLE, AsOf, AttributeType

_UNITS_MS: Final = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PORT_MAX: Final = 65_535
_BUILD_ID: Final = re.compile(limits.ID_PATTERN)


def json_value(text: str) -> Any:
    """Parse an argument that is JSON."""
    try:
        return strict_json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}: {text}") from error


def filter_object(text: str) -> dict[str, Any]:
    """Parse a filter; what it means is the library's to judge."""
    value = json_value(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"a filter is a JSON object, {{...}}: {text}")
    return value


def include_list(text: str) -> tuple[str, ...]:
    """Parse `metadata,vector` or `none`."""
    if text == "none":
        return ()
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in INCLUDABLE]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is not among {', '.join(INCLUDABLE)} and none"
        )
    return names


def words(text: str) -> list[str]:
    """Parse words with commas between them; what they mean is the library's to judge."""
    return [word.strip() for word in text.split(",")]


def lifetime_ms(text: str) -> int:
    """Parse the time that something lives which else lives for ever, such as `90m` or `30d`."""
    return _time_ms(text, "leave it out for ever")


def retention_ms(text: str) -> int:
    """Parse the time that states are kept; without one it is a day."""
    return _time_ms(text, "ask for less, or collect nothing")


def _time_ms(text: str, otherwise: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS_MS or not (number.isascii() and number.isdecimal()) or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 90m, 12h or 30d")
    if int(number) * _UNITS_MS[unit] > limits.KEY_LIFETIME_DAYS_MAX * _UNITS_MS["d"]:
        raise argparse.ArgumentTypeError(
            f"{text!r} is longer than {limits.KEY_LIFETIME_DAYS_MAX} days: {otherwise}"
        )
    return int(number) * _UNITS_MS[unit]


def home_expanded(text: str) -> Path:
    """Return a path, with a home folder in the place of `~` or `~user`.

    Raises
    ------
    UsageError
        If nobody of that name has one.

    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{text}: the home folder that ~ stands for is not known; write the whole path, or "
            "./~ for a name that begins so"
        ) from error


def port(text: str) -> int:
    """Parse a port's number; 0 takes one that is free."""
    if not (text.isascii() and text.isdecimal()) or int(text[:6]) > _PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to {_PORT_MAX}")
    return int(text)


def attribute(text: str) -> tuple[str, str]:
    """Parse `name=type`."""
    name, separator, kind = text.rpartition("=")
    if not separator or not name or kind not in list(AttributeType):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=TYPE, with a type of "
            + ", ".join(str(kind) for kind in AttributeType)
        )
    return name, kind


def named_value(text: str) -> tuple[str, str]:
    """Parse `name=value`."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def by_name(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, str]:
    """Return what an option said of each name.

    Raises
    ------
    UsageError
        If it said something of one twice.

    """
    named: dict[str, str] = {}
    for name, value in pairs:
        if name in named:
            raise UsageError(f"{option} names {name!r} twice: {named[name]} and {value}")
        named[name] = value
    return named


def count(largest: int) -> Callable[[str], int]:
    """Return a parser of numbers from 1 to `largest`."""
    return _whole(1, largest)


def count_or_none(largest: int) -> Callable[[str], int]:
    """Return a parser of numbers from 0 to `largest`."""
    return _whole(0, largest)


def _whole(least: int, largest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text) <= largest:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number from {least} to {largest:,}"
            )
        return int(text)

    return parse


def dimensions(text: str) -> tuple[int, ...]:
    """Parse numbers of dimensions with commas between."""
    parse = count(limits.DIMENSION_MAX)
    return tuple(parse(word.strip()) for word in text.split(","))


def share(text: str) -> float:
    """Parse a number above 0 and up to 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return value


def seconds(text: str) -> float:
    """Parse a time in seconds, from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0")
    return value


def dollars(text: str) -> float:
    """Parse an amount above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount above 0")
    return value


def build_id(text: str) -> str:
    """Parse a build's id."""
    if not _BUILD_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 32 of 0-9 and a-f")
    return text


def snapshot(text: str) -> int:
    """Parse a snapshot's number."""
    if not (text.isascii() and text.isdecimal()) or int(text[:20]) > limits.INTEGER_MAGNITUDE_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a snapshot's number")
    return int(text)


def moment(text: str) -> AsOf:
    """Parse a snapshot's number, or a time with its zone."""
    try:
        return moments.parse(snapshot(text) if text.isascii() and text.isdecimal() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
