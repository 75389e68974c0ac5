"""Rows of a piece, divided into those that the index takes and those that it cannot keep."""

from __future__ import annotations

from dataclasses import dataclass

from squash.arrays import I64
from squash.model import RowBatch


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is left out, and why."""

    input: str
    """The URL of its file."""
    row: int
    """Of that file, from 0."""
    key: str | None
    """None where the row has none, or none that can be told."""
    problem: str


@dataclass(frozen=True, slots=True)
class GoodAndBad:
    """Some rows of a piece, in their order: those that are kept, and those that are not."""

    rows: RowBatch
    numbers: I64
    """int64 [n], ascending: each kept row's number through all files."""
    bad: tuple[BadRow, ...] = ()

    @property
    def passed(self) -> int:
        """How many rows these are, with those that are not kept."""
        return len(self.rows) + len(self.bad)
