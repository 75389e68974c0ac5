"""One query on its way through the levels, and what is known of its filter."""

from __future__ import annotations

from typing import NamedTuple

from squash.arrays import I64
from squash.kernels import ClusterTable, FilterProgram
from squash.model import Metric
from squash.planning import CostModel, Keep
from squash.search.clusters import Bitmaps, Clusters
from squash.search.found import Query
from squash.search.trace import Trace
from squash.values import dataclass


@dataclass(slots=True)
class Job:
    """One query on its way through the levels."""

    metric: Metric
    costs: CostModel
    clusters: Clusters
    table: ClusterTable
    query: Query
    keep: Keep
    bitmaps: Bitmaps
    trace: Trace

    @property
    def dimension(self) -> int:
        """The projected vectors' dimension."""
        return self.table.dimension


class Admission(NamedTuple):
    """What is known of a filter before the walk."""

    program: FilterProgram | None
    overall: float
    """The share of all rows that may pass."""
    counts: tuple[I64, I64] | None
    """Sure and possible rows of every cluster, if all were filtered."""
    scan_all: bool
    """Whether all that passes is measured; without `counts`, as far as that proves to be little."""
    filter_ns: float = 0.0
    """What it is expected to take to filter in the search; 0 where it is not."""
    listed_most: int = -1
    """How many rows of lists may be asked to filter all clusters there; below 0 where none pay."""
