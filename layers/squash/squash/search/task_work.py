"""A task that is carried out: what there is of its index, and what is found for its queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from squash.arrays import F64, I64, Mask
from squash.index.reader import SegmentReader
from squash.kernels import Ranked
from squash.quantize import Codec
from squash.search.slot import Held
from squash.search.tasks import Task, TaskQuery
from squash.values import dataclass


class Slots(Protocol):
    """What a process has of an index's partitions: see `Slot`."""

    def readers(self, task: Task) -> list[SegmentReader]:
        """Return the readers of all parts' segments."""
        ...

    def trained_codec(self, task: Task) -> Codec:
        """Return the codec that a task names."""
        ...

    def hold(self, task: Task, parts: Sequence[int]) -> Held:
        """Return a table that has some of a task's parts, at least."""
        ...

    def holds_codes(self, task: Task, held: Held, parts: Sequence[int]) -> bool:
        """Tell whether a table has the codes of all clusters of some parts."""
        ...

    def load_codes(self, task: Task, held: Held, wanted: Mapping[int, I64]) -> Held:
        """Load the codes of some clusters by part; return a table that has them."""
        ...

    def load_vectors(self, task: Task, held: Held, parts: Sequence[int]) -> tuple[Held, Mask]:
        """Put in the vectors of parts that are at hand whole; tell of which parts they are."""
        ...

    def let_go(self) -> None:
        """Hold no longer what the retained data let go of."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A task, and the readers of its parts' segments."""

    task: Task
    slot: Slots
    readers: Sequence[SegmentReader]
    numbers: I64
    """int64 [p], the parts' numbers in the snapshot."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What was found for a query, by part of the task."""

    query: TaskQuery
    ranked: Ranked | None
    """In the modes SCAN and RANK, with the parts for partitions."""
    part: I64
    row: I64
    distances: F64
    measured: int
    """How many distances are numbers: rows in the modes SCAN and RANK whose vectors were read."""
    read: int
