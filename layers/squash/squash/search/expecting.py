"""What is expected of a filter before it is searched: its program, shares of rows, and a plan."""

from __future__ import annotations

from functools import partial
from typing import Final, TypeAlias

from squash import kernels
from squash.attributes import FilterNode, asked_of, compile_filter, intervals_of, is_lasting
from squash.attributes.nodes import And
from squash.kernels import (
    ClusterTable,
    Expected,
    FilterProgram,
    MatchPlan,
    MatchPlanner,
    Range,
    Ranges,
)
from squash.limits import FILTER_NODES_KEPT, FILTER_SAMPLE_CLUSTERS
from squash.search.clusters import Clusters
from squash.search.jobs import Job

# A bound comparison takes some 500 bytes.
_KEPT_COMPARISONS_MAX: Final = 16
_RANGES_KEPT_MAX: Final = 64


_Asked: TypeAlias = tuple[FilterNode, MatchPlanner, Expected]
"""A filter that was asked, and what was expected of it by a planner."""


def expect(
    clusters: Clusters, table: ClusterTable, planner: MatchPlanner, node: FilterNode, alive: float
) -> Expected:
    """Compile a filter, estimate, and plan; the last lasting ones are kept with their table.

    A node is kept beside, so that no other has its id.

    Parameters
    ----------
    clusters, table:
        What is searched.
    planner:
        Plans it.
    node:
        The filter, as far as it is asked of cells.
    alive:
        The share of all rows that live.

    """
    # As `is_lasting` has it, without a call for what is new.
    lasting = node.again if type(node) is And else is_lasting(node)
    known: _Asked | None = table.asked.get(id(node)) if lasting else None
    if known is not None:
        _, by, found = known
        if by is planner:
            return found
        program, share, still_open, *_ = found
        return planner.expect(program, share, still_open, numbers=_has_numbers(program))
    intervals = node.intervals if type(node) is And else None
    if intervals is None:
        intervals = intervals_of(node)
    alike: Ranges | None = None
    if intervals is not None:
        names, ends = intervals
        alike = table.ranges.get(names) or _ranges(clusters, table, names, alive)
    if alike is not None:
        found = kernels.expect(table, alike, ends, planner)
    else:
        found = _expect(clusters, table, planner, node, alive)
    if lasting and found.program.comparisons <= _KEPT_COMPARISONS_MAX:
        if len(table.asked) >= FILTER_NODES_KEPT:
            table.asked.clear()
        table.asked[id(node)] = (node, planner, found)
    return found


def planner_of(job: Job) -> MatchPlanner:
    """Return what plans a query's filter."""
    query = job.query
    return job.clusters.planner(job.costs, job.keep, query.recall_target, query.k)


def plan(
    planner: MatchPlanner, program: FilterProgram, share: float, still_open: float
) -> MatchPlan:
    """Plan a filter, of whose rows about a share passes, and another stays open."""
    numbers = _has_numbers(program)
    return planner.plan(share, still_open, comparisons=program.comparisons, numbers=numbers)


def _has_numbers(program: FilterProgram) -> bool:
    """Tell whether a program's first comparison is one with numbers."""
    if program.ends is not None:
        return True
    first = program.asked[0]
    return isinstance(first, Range) or first.intervals is not None


def _expect(
    clusters: Clusters, table: ClusterTable, planner: MatchPlanner, node: FilterNode, alive: float
) -> Expected:
    """Do the same for filters of any kind."""
    clusters.load_columns(table, asked_of(node))
    program = compile_filter(
        node, clusters.trained.cells, holds_lists=partial(clusters.holds_lists, table)
    )
    if program.comparisons == 1 and len(program.operations) == 1:
        (asked,) = program.asked
        share, still_open = clusters.shares(asked.attribute).of(asked)
        share, still_open = share * alive, still_open * alive
    else:
        seen, sure, possible = kernels.filter_sample(table, program, _every(table))
        share, still_open = possible / max(seen, 1), (possible - sure) / max(seen, 1)
    return planner.expect(program, share, still_open, numbers=_has_numbers(program))


def _ranges(
    clusters: Clusters, table: ClusterTable, names: tuple[str, ...], alive: float
) -> Ranges | None:
    """Return what filters of intervals of some attributes have in common; None of those with lists.

    Their cells and values are in the table then.
    """
    clusters.load_columns(table, dict.fromkeys(names, True))
    cells = tuple(clusters.trained.cells.of(name) for name in names)
    if any(one.owners for one in cells) or any(clusters.holds_lists(table, name) for name in names):
        return None
    shares = clusters.shares(names[0])
    made = Ranges(
        names,
        cells,
        every=_every(table),
        numbers=shares.numbers,
        step=shares.step,
        rows=clusters.row_count,
        alive=alive,
    )
    if len(table.ranges) >= _RANGES_KEPT_MAX:
        table.ranges.clear()
    table.ranges[names] = made
    return made


def _every(table: ClusterTable) -> int:
    """Return of how many clusters one is in a sample."""
    return max(len(table.rows) // FILTER_SAMPLE_CLUSTERS, 1)
