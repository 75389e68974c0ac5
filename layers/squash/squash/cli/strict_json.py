"""JSON that cannot be misread: no name twice in one object, no NaN, no infinity."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """Parse JSON text.

    Raises
    ------
    ValueError
        If the text is not JSON or UTF-8, names a member twice, or holds NaN or Infinity.

    """
    try:
        return json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice!r} twice in one object")
    return members


def _no_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is not JSON")
