"""A store under test, and what lies behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from squash.storage import ObjectStore


@dataclass
class Case:
    """A store, and what lies behind it: {key: bytes}."""

    store: ObjectStore
    behind: Callable[[], dict[str, bytes]]


def files(folder: Path) -> dict[str, bytes]:
    """Every file, temporary ones included."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
