"""Libraries that only an open encoder needs, and that are extras."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from squash.errors import InvalidArgumentError


def load(name: str, *, extra: str) -> Any:
    """Import a module that is an extra.

    Raises
    ------
    InvalidArgumentError
        If it is not installed; the message says how it is.

    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidArgumentError(
            f"{error.name or name} is not installed, which encoders need: "
            f"pip install 'squash-search[{extra}]'"
        ) from error
