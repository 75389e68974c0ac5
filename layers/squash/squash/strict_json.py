"""JSON that cannot be misread: no name twice in one object, no NaN, no infinity."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


class JsonError(ValueError):
    """Text that is not JSON as we take it; `place` is the path of what is wrong, if known."""

    def __init__(self, message: str, *, place: str | None = None) -> None:
        super().__init__(message)
        self.place = place


class _Wrong(dict[str, Any]):
    """Stands in the parsed value where something is wrong, so that its path can be told."""

    def __init__(self, problem: str, name: str = "") -> None:
        super().__init__()
        self.problem = problem
        self.name = name


def loads(text: str | bytes) -> Any:
    """Parse JSON text.

    Raises
    ------
    JsonError
        If the text is not JSON or UTF-8, names a member twice, or holds NaN or Infinity.

    """
    wrong: list[_Wrong] = []
    # One for all of a kind: whole vectors may be of nothing else.
    constants: dict[str, _Wrong] = {}

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        # In one pass: a body has room for a million names.
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        wrong.append(_Wrong(f"it names {twice!r} twice in one object", twice))
        return wrong[-1]

    def constant(name: str) -> dict[str, Any]:
        if name not in constants:
            constants[name] = _Wrong(f"it holds {name}, which is not JSON")
            wrong.append(constants[name])
        return constants[name]

    try:
        if isinstance(text, bytes):
            # The parser would guess, and take UTF-16 as well; a mark at the beginning is let pass.
            text = text.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=members, parse_constant=constant)
        if not wrong:
            return value
        # Of several the outermost is found: what is inside of another is in the value no more.
        place, first = _find(value, "")
    except RecursionError as error:
        raise JsonError("it is nested too deeply") from error
    except (JsonError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JsonError(str(error)) from error
    except ValueError as error:
        # Of an integer, whose digits Python limits; its advice is for who programs.
        raise JsonError("it has an integer of thousands of digits") from error
    raise JsonError(first.problem, place=_member(place, first.name) if first.name else place)


def _find(value: Any, place: str) -> tuple[str, _Wrong]:
    found = _seek(value, place)
    if found is None:  # cannot be: one is in it, unless inside of another, which is
        raise JsonError("it names a member twice, or holds NaN")
    return found


def _seek(value: Any, place: str) -> tuple[str, _Wrong] | None:
    if isinstance(value, _Wrong):
        return place, value
    inner: Any = ()
    if isinstance(value, dict):
        inner = ((_member(place, name), part) for name, part in value.items())
    elif isinstance(value, list):
        inner = ((f"{place}[{i}]", part) for i, part in enumerate(value))
    return next((found for at, part in inner if (found := _seek(part, at))), None)


def _member(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
