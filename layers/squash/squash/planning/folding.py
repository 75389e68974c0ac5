"""When a fold keeps what was trained, which partitions it writes anew, and which it joins.

A fold that writes a partition anew pays for all of its rows. So what is pending for a partition
may wait in a flat segment, which every query scans, until there is enough of it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from squash.arrays import F32, I64, Mask, distinct
from squash.limits import (
    EXACT_ROWS_MAX,
    FOLD_REBUILD_ROWS_MAX,
    FOLD_ROWS_MIN,
    FOLD_ROWS_ROOT,
)
from squash.values import dataclass

GREW_MAX: Final = 2.0
"""By so much more or fewer rows than were trained on, the number of clusters fits no more."""
ENERGY_GREW_MAX: Final = 1.1
"""When rows lie so much farther from their centres, the codec was made for others."""
DEAD_SHARE_MAX: Final = 0.1
"""Of a partition's rows; a query looks at dead ones too."""
PENDING_SHARE_MAX: Final = 0.12
"""Of a partition's rows: with more it is written anew by any fold."""
SMALL_SHARE: Final = 0.4
"""Of the rows a partition aims at: below, it is joined to its neighbour."""
# Beyond these, a calibration is measured anew and not scaled.
_REWRITTEN_SHARE_MIN: Final = 0.5
_CHANGED_SHARE_MAX: Final = 0.25


@dataclass(frozen=True, slots=True)
class FoldFacts:
    """What decides whether a fold can keep what was trained."""

    rows: int
    """All that live, pending ones among them."""
    exact_rows_max: int
    trained: bool
    """Whether there are partitions with a routing table, all of them live."""
    codec_fits: bool = True
    """Whether the codec is the one that training would give now."""
    rows_trained: int = 0
    energy_ratio: float | None = None
    """The rows' mean squared distance to their centres over that of training; None: not known."""
    thrifty: bool = False
    """Whether the fold is one of many that nobody waits for, and must be done in some minutes."""


def why_rebuild(facts: FoldFacts) -> str | None:
    """Say why a fold must build and train the whole anew; None if it need not."""
    if facts.rows <= facts.exact_rows_max:
        return "few enough rows to search exactly, without partitions"
    if not facts.trained:
        return "nothing is trained yet"
    if not facts.codec_fits:
        return "the codec is another one now"
    if facts.thrifty and facts.rows > FOLD_REBUILD_ROWS_MAX:
        return None  # Partitions serve as well for long; that a fold never ends would not.
    if facts.rows > GREW_MAX * facts.rows_trained or facts.rows * GREW_MAX < facts.rows_trained:
        return f"{facts.rows} rows where {facts.rows_trained} were trained on"
    if facts.energy_ratio is not None and facts.energy_ratio > ENERGY_GREW_MAX:
        return f"rows lie {facts.energy_ratio:.2f} times as far from their centres, squared"
    return None


def pending_rows_max(rows: int) -> int:
    """Return how many rows may wait outside of partitions of so many rows.

    Each row that waits costs every query about `a`, and a fold costs about `b` for each of the n
    rows of the partitions. Where u queries come for each row that is put, folding whenever F rows
    wait costs n b / F + u a F / 2 for each of these: least at F = sqrt(2 n b / (u a)). With b of
    some 25 us, a of some 0.1 us (128 dimensions) and 32 queries for each put, that is 4 sqrt(n).
    So many queries are assumed since somebody waits for each, and nobody for a fold: for a million
    rows each row that is put costs 250 others written, 6 ms of a core, and a twentieth of what S3
    takes for a put of its own. Four times as many queries, or a quarter of them, would be served
    at the least cost by half of F or twice; at what it is, their cost is a quarter above the least.

    Without partitions a fold of few rows would only make another flat segment.
    """
    if not rows:
        return EXACT_ROWS_MAX
    return max(FOLD_ROWS_MIN, int(FOLD_ROWS_ROOT * float(np.sqrt(rows))))


@dataclass(frozen=True, slots=True)
class PartitionCounts:
    """Of every partition, int64 [p]: rows that live, rows that are dead, rows pending for it."""

    live: I64
    dead: I64
    pending: I64

    @property
    def after(self) -> I64:
        """The rows each would have."""
        return self.live + self.pending


def choose_partitions(counts: PartitionCounts, *, rows_max: int, thrifty: bool) -> Mask:
    """Choose the partitions that a fold writes anew.

    Parameters
    ----------
    counts:
        Of all partitions.
    rows_max:
        The cap of a partition.
    thrifty:
        Whether rows may go on waiting. If so, partitions of which a good share is pending are
        taken, and then those with the largest shares until at most half of `pending_rows_max` wait.

    Returns
    -------
    bool [p]

    Notes
    -----
    A row that is put is written once itself, and pays for a share of its partition: 1 / s rows
    where a share s was pending. With F rows that may wait among n, the least share taken is above
    F / (2 n): so less than 1 + 2 n / F rows are written for each, n / F where writes are spread
    evenly; and those that wait on are written again, less than once for each that came.

    """
    stored = np.maximum(counts.live + counts.dead, 1)
    share = counts.pending / stored
    chosen = (counts.dead > DEAD_SHARE_MAX * stored) | (stored > rows_max)
    if not thrifty:
        return np.asarray(chosen | (counts.pending > 0))
    chosen |= share > PENDING_SHARE_MAX
    waiting = int(counts.pending[~chosen].sum())
    most = pending_rows_max(int(counts.live.sum())) // 2
    for one in np.argsort(-share, kind="stable").tolist():
        if waiting <= most:
            break
        if not chosen[one]:
            chosen[one] = True
            waiting -= int(counts.pending[one])
    return np.asarray(chosen)


def join_partitions(
    counts: PartitionCounts, centers: F32, chosen: Mask, *, rows_target: int, rows_max: int
) -> list[list[int]]:
    """Say which partitions are written together: each chosen one, small ones with a neighbour.

    Parameters
    ----------
    counts:
        Of all partitions.
    centers:
        float32 [p, D], where their rows lie.
    chosen:
        bool [p].
    rows_target, rows_max:
        What a partition aims at, and its cap.

    Returns
    -------
    Groups of partitions; those with the largest pending share first.

    """
    owner = np.arange(len(chosen))
    rows = counts.after.copy()
    small = SMALL_SHARE * rows_target
    for one in np.argsort(rows, kind="stable").tolist():
        mine = int(owner[one])
        if not chosen[one] or not 0 < rows[mine] < small:
            continue
        fits = (rows[owner] > 0) & (owner != mine) & (rows[owner] + rows[mine] <= rows_max)
        near = np.flatnonzero(fits)
        if len(near):
            gaps = centers[near] - centers[one]
            other = int(owner[near[np.argmin(np.einsum("ij,ij->i", gaps, gaps))]])
            rows[other] += rows[mine]
            owner[owner == mine] = other
    groups = [np.flatnonzero(owner == one).tolist() for one in distinct(owner[chosen]).tolist()]
    stored = np.maximum(counts.live + counts.dead, 1)

    def urgency(group: list[int]) -> float:
        return -float(counts.pending[group].sum() / stored[group].sum())

    return sorted(groups, key=urgency)


def measures_recall(*, rows: int, rewritten: int, changed: int) -> bool:
    """Tell if a fold measures anew how many clusters a query needs, or scales what was measured.

    To measure is to read every vector. A fold that reads most of them anyway does; one that does
    not does when a quarter of the rows came or went since the last time: so each pays for the
    reading of four.

    Parameters
    ----------
    rows, rewritten:
        All rows, and those of partitions that are written anew.
    changed:
        How many came or went since recall was measured.

    """
    return rewritten >= _REWRITTEN_SHARE_MIN * rows or changed > _CHANGED_SHARE_MAX * rows
