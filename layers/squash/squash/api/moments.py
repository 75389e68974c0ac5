"""`as_of`: a snapshot's number, or a time."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from squash.model import AsOf

# RFC 3339, of which `fromisoformat` takes more than there is: weeks, and times without a zone.
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_MICROSECOND_DIGITS: Final = 6


def parse(value: Any) -> AsOf:
    """Read what a request gives as `as_of`.

    Raises
    ------
    ValueError
        If it is neither a whole number from 0 nor a time of RFC 3339; the message says what to
        give.

    """
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, str):
        found = _TIME.fullmatch(value)
        if found is not None:
            fraction = (found[1] or "")[: 1 + _MICROSECOND_DIGITS]
            try:
                return datetime.fromisoformat(f"{value[:19]}{fraction}{found[2].upper()}")
            except ValueError as error:
                raise ValueError(f"{value!r} is no time that there is ({error})") from error
    raise ValueError(
        f"{value!r} is neither a snapshot's number nor a time with its zone, such as "
        "2026-01-31T12:00:00Z"
    )
