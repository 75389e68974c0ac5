"""What every exporter takes, and what it may say in its file of where the rows come from."""

from __future__ import annotations

from typing import Protocol

from squash.model import IndexConfig, RowBatch
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class ExportSource:
    """Which rows a file holds."""

    config: IndexConfig
    snapshot: int
    vectors: bool
    """Whether their vectors are among what is exported."""


class RowSink(Protocol):
    """A file that rows are written to, from its beginning to its end."""

    def write(self, batch: RowBatch) -> None:
        """Write the rows of a batch; without its vectors where the source has none."""
        ...

    def finish(self) -> None:
        """Write what stands at the file's end; the file itself stays open."""
        ...

    def abandon(self) -> None:
        """Write no more: what was written is going to be removed."""
        ...
