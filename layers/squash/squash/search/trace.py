"""What happened on the way of a query, for `explain` and `usage`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

import numpy as np

from squash.arrays import I64
from squash.drafts import make_level
from squash.model import Level
from squash.search.spending import Spent
from squash.values import dataclass


def walked_plan(ranked: int, low_scanned: int) -> str:
    """Return the name of a walk's plan, by how many rows were ranked, and of how many the signs."""
    if not ranked:
        return "walk, exact distances at once"
    return "walk, scan signs" if low_scanned else "walk, gather full codes"


@dataclass(slots=True)
class Trace:
    """Filled in by the levels as they run."""

    plan: str = "exact"
    noted: list[tuple[str, int, int]] = field(default_factory=list)
    """The fields of `levels`, which few look at."""
    expected: dict[str, float] | Callable[[], dict[str, float]] = field(default_factory=dict)
    """`costs_us`, or what finds them out."""
    clusters_visited: int = 0
    predicted: float = 1.0
    examined: int = 0
    passed: int = 0
    scanned: int = 0
    vectors_read: int = 0
    certified: bool = True
    missing: tuple[str, ...] = ()
    """What could not be searched, where the query allows for that."""
    spent: Spent | None = None
    """What was spent in other processes; of queries answered together, the first has it."""
    _partitions: int = 0
    _walked: tuple[I64, I64] | None = None

    @property
    def costs_us(self) -> dict[str, float]:
        """What the plans were expected to cost, the one taken and those not taken."""
        return self.expected if isinstance(self.expected, dict) else self.expected()

    @costs_us.setter
    def costs_us(self, costs: dict[str, float]) -> None:
        self.expected = costs

    @property
    def levels(self) -> tuple[Level, ...]:
        """What became of candidates, level by level."""
        return tuple([make_level(*level) for level in self.noted])

    @property
    def partitions_visited(self) -> int:
        """How many partitions were visited; counted when somebody asks."""
        if self._walked is not None:
            partition_of, clusters = self._walked
            return int(np.count_nonzero(np.bincount(partition_of[clusters])))
        return self._partitions

    @partitions_visited.setter
    def partitions_visited(self, count: int) -> None:
        self._partitions, self._walked = count, None

    def walked(self, partition_of: I64, clusters: I64) -> None:
        """Note which clusters were taken, int64 [m], and of which partition every cluster is."""
        self.clusters_visited = len(clusters)
        self._walked = (partition_of, clusters)

    def level(self, name: str, candidates: int, survivors: int) -> None:
        """Note that of so many candidates so many survived a level."""
        self.noted.append((name, candidates, survivors))

    def searched(self, counts: Sequence[int]) -> None:
        """Note a search in one call of the kernels, by the counts of `Near` from `rows_seen` on."""
        rows_seen, admitted, low_scanned, ranked, kept, read = counts
        self.plan = walked_plan(ranked, low_scanned)
        self.examined += rows_seen
        self.passed += admitted
        self.scanned += low_scanned + ranked
        self.vectors_read += read
        self.noted.append(("clusters", rows_seen, admitted))
        if ranked:
            self.noted.append(("low-bit codes", admitted, ranked))
            self.noted.append(("full codes", ranked, kept))
        self.noted.append(("refine", kept, read))

    def measured(self, rows: int, passed: int, k: int) -> None:
        """Note that of so many rows all that pass were measured."""
        self.plan = "scan all matches"
        self.examined += rows
        self.passed += passed
        self.vectors_read += passed
        self.noted.append(("exact scan", passed, min(k, passed)))

    def visited(self, partitions: int, clusters: int) -> None:
        """Note how many of both were visited."""
        self._partitions, self._walked = partitions, None
        self.clusters_visited = clusters

    def exact_partitions(self, partitions: int, clusters: int) -> None:
        """Note that all partitions are searched exactly."""
        self.visited(partitions, clusters)

    def exact_scan(self, rows: int, admitted: int) -> None:
        """Note that so many of some rows passed, and are measured one by one."""
        self.examined += rows
        self.passed += admitted
        self.scanned += admitted
        self.vectors_read += admitted
        self.level("exact scan", rows, admitted)

    def follow(self, before: Trace) -> None:
        """Take in what was searched before, elsewhere than in partitions."""
        self.noted[:0] = before.noted
        self.examined += before.examined
        self.passed += before.passed
        self.scanned += before.scanned
        self.vectors_read += before.vectors_read
