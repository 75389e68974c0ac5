"""JSON objects in lines and cells of files."""

from __future__ import annotations

from typing import Any

from squash import strict_json
from squash.errors import InvalidArgumentError


def parse_object(line: bytes | str, *, place: str) -> dict[str, Any]:
    """Parse one line that is to be a JSON object.

    Raises
    ------
    InvalidArgumentError
        If it is not.

    """
    try:
        value = strict_json.loads(line)
    except ValueError as error:
        raise InvalidArgumentError(f"{place}: this is not one JSON object: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{place}: this is JSON, but not an object, {{...}}")
    return value
