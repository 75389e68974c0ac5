"""Level 1: which rows pass a filter, surely or possibly, and how many of them each cluster has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from squash.arrays import I64, Mask
from squash.attributes import FilterNode
from squash.search.view import IndexView, PartitionView, Rows

# When more than this share of the possible rows is not sure, the cells say too little to choose
# clusters by: the exact columns are asked at once.
_UNSURE_SHARE_MAX = 0.2


@dataclass(slots=True)
class Admission:
    """The rows of one partition that may be returned; None stands for all of them."""

    sure: Mask | None
    possible: Mask | None
    sure_counts: I64
    possible_counts: I64
    """int64 [c], by cluster."""


def exactly(rows: Rows, node: FilterNode | None) -> I64 | None:
    """Return the live rows that pass, ascending; None for all."""
    if node is None:
        return None if rows.alive is None else np.flatnonzero(rows.alive)
    passing = rows.columns().evaluate(node)
    if rows.alive is not None:
        passing = passing & rows.alive
    return np.flatnonzero(passing)


def admit(view: IndexView, node: FilterNode | None) -> list[Admission]:
    """Evaluate a filter on the cells of every partition."""
    admissions = [_admit_partition(partition, node) for partition in view.partitions]
    sure = sum(int(a.sure_counts.sum()) for a in admissions)
    possible = sum(int(a.possible_counts.sum()) for a in admissions)
    if node is not None and possible - sure > _UNSURE_SHARE_MAX * possible:
        for partition, admission in zip(view.partitions, admissions, strict=True):
            resolve(partition, admission, node, clusters=None)
    return admissions


def resolve(
    partition: PartitionView,
    admission: Admission,
    node: FilterNode | None,
    *,
    clusters: I64 | None,
) -> int:
    """Check the unsure rows of some clusters (None: all) exactly; they become sure, or go.

    Returns
    -------
    How many rows were checked.

    """
    if admission.sure is None or admission.possible is None or node is None:
        return 0
    unsure = admission.possible & ~admission.sure
    if clusters is not None:
        inside = partition.partition().codes.rows_of(clusters)
        rows = np.sort(inside[unsure[inside]])
    else:
        rows = np.flatnonzero(unsure)
    if not len(rows):
        return 0
    passing = partition.columns().evaluate(node, rows)
    admission.sure[rows[passing]] = True
    admission.possible[rows[~passing]] = False
    if clusters is None:
        begins = partition.cluster_begins
        admission.sure_counts = _counts(admission.sure, begins)
        admission.possible_counts = admission.sure_counts
    return len(rows)


def _admit_partition(partition: PartitionView, node: FilterNode | None) -> Admission:
    alive = partition.alive
    begins = partition.cluster_begins
    if node is None:
        counts = np.diff(begins) if alive is None else _counts(alive, begins)
        return Admission(alive, alive, counts, counts)
    sure, possible = partition.cells().evaluate(node, partition.trained.cells)
    if alive is not None:
        sure, possible = sure & alive, possible & alive
    return Admission(sure, possible, _counts(sure, begins), _counts(possible, begins))


def _counts(mask: Mask, begins: I64) -> I64:
    return np.diff(np.searchsorted(np.flatnonzero(mask), begins)).astype(np.int64)
