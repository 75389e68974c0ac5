"""What happened on the way of a query, for `explain` and `usage`."""

from __future__ import annotations

from dataclasses import dataclass, field

from squash.model import Level
from squash.search.spending import Spent


@dataclass(slots=True)
class Trace:
    """Filled in by the levels as they run."""

    plan: str = "exact"
    levels: list[Level] = field(default_factory=list)
    costs_us: dict[str, float] = field(default_factory=dict)
    """What the plans were expected to cost, the one taken and those not taken."""
    partitions_visited: int = 0
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

    def level(self, name: str, candidates: int, survivors: int) -> None:
        """Note that of so many candidates so many survived a level."""
        self.levels.append(Level(name, candidates, survivors))
