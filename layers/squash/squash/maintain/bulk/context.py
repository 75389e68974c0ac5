"""What the tasks of a build work with, and what each reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from squash.arrays import F32
from squash.clock import Clock, IdSource
from squash.model import IndexConfig
from squash.reports import Progress
from squash.storage import CountingStore
from squash.storage.inputs import InputStore
from squash.values import dataclass

OpenInputs: TypeAlias = Callable[[str], InputStore]
"""From a location, as a request names it, to the store that reads it."""
EncodeTexts: TypeAlias = Callable[[Sequence[str]], F32]
"""Makes vectors, float32 [n, d], of texts, with the index's own encoder."""
EXAMPLES: Final = "examples"
"""In a report: some of the rows that were bad, or replaced."""
SNAPSHOT: Final = "snapshot"
"""In a report: the snapshot that the build became."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The components of a task.

    Parameters
    ----------
    store:
        The store below the index's own prefix; it counts.
    config:
        The index's.
    open_inputs:
        Opens where input files are.
    clock, ids:
        Time and names.
    scratch:
        A local folder with room for what one task brings together.
    encode:
        Makes vectors of texts; None where nobody does.
    remaining_ms:
        How much time is left to the task.
    report:
        Told of the task's steps.
    memory_mb:
        The memory of the function that runs this; 0 on a laptop, where time costs nothing.

    """

    store: CountingStore
    config: IndexConfig
    open_inputs: OpenInputs
    clock: Clock
    ids: IdSource
    scratch: Path
    encode: EncodeTexts | None = None
    remaining_ms: Callable[[], int] = lambda: 1 << 40
    report: Callable[[Progress], None] = lambda step: None  # noqa: ARG005 - nobody listens
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What a task did and what it took; stored under `done_key`, and a task that has one is done.

    Parameters
    ----------
    rows:
        How many rows it passed.
    bad:
        How many of them cannot be kept; they are listed in ``bad/<batch>``, as JSON lines.
    replaced:
        How many of them a later row of the same key replaced.
    begun_ms, ended_ms:
        By the clock of who ran it.
    cpu_ms:
        The processor's time.
    memory_mb:
        The function's memory; 0 on a laptop.
    peak_mb:
        The most memory that the process ever had.
    requests:
        Of the store and of input files, by kind: get, range, put, list, delete.
    bytes_in, bytes_out:
        Read and written.
    detail:
        What later stages or people want to know; JSON values.

    """

    rows: int = 0
    bad: int = 0
    replaced: int = 0
    begun_ms: int = 0
    ended_ms: int = 0
    cpu_ms: int = 0
    memory_mb: int = 0
    peak_mb: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave."""
        return cls(**value)
