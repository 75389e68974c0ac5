"""Which slot has which partition: those that lie near one another are together.

A query's clusters lie in few partitions, which lie side by side: with these in one slot it calls
fewer processors, and fewer of those are cold (docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from squash.arrays import F32, F64, I64
from squash.planning.slots import by_rendezvous, slots_used
from squash.quantize.transforms import principal_spread
from squash.search.index_view import IndexView

# Of the partitions' middles: so many numbers are halved in 0.2 s or less.
_NUMBERS_MAX: Final = 1 << 18
_DIMENSIONS_MIN: Final = 24


def homes_of(view: IndexView, slots: Sequence[str]) -> tuple[str, ...]:
    """Return the slot of each of a snapshot's partitions, in their order.

    It depends on the snapshot and the slots alone, so that every node finds the same without
    asking. Should two machines round otherwise, some partition is loaded twice; no answer changes.

    Parameters
    ----------
    view:
        The snapshot; it keeps what was found last.
    slots:
        The slots' names.

    """
    clusters = view.clusters
    if clusters is None or view.entry is None:
        return ()
    key = tuple(slots)
    known = clusters.homes
    if known is not None and known[0] == key:
        return known[1]
    used = slots_used(len(view.partitions), view.searched_bytes, len(slots))
    # Which ones depends on the index, so that those of several do not all have the same.
    names = by_rendezvous(view.entry.prefix, slots)[:used]
    table = clusters.table()
    middles = _middles(table.centers, table.rows, table.partition, len(view.partitions))
    found = tuple(names[group] for group in neighbouring(middles, used).tolist())
    clusters.homes = (key, found)
    return found


def neighbouring(places: F64, groups: int) -> I64:
    """Divide places into groups of neighbours, none larger by more than one than another.

    Recursive bisection: across the direction in which they spread most, into halves as large as
    the groups that each is to have.

    Parameters
    ----------
    places:
        float64 [n, d].
    groups:
        How many, at least 1; some are empty if there are fewer places.

    Returns
    -------
    int64 [n], the group of each.

    """
    group = np.empty(len(places), dtype=np.int64)
    pending = [(np.arange(len(places)), 0, groups)]
    while pending:
        some, first, count = pending.pop()
        if count == 1 or len(some) <= 1:
            group[some] = first
            continue
        order = some[np.argsort(_along(places[some]), kind="stable")]
        left = count // 2
        cut = len(some) * left // count
        pending.append((order[:cut], first, left))
        pending.append((order[cut:], first + left, count - left))
    return group


def _middles(centers: F32, rows: I64, partition: I64, partitions: int) -> F64:
    """Return float64 [p, d], the mean of each partition's rows, of so many dimensions as pay.

    Those of a rotation that was drawn by chance say all of them about the same, those of principal
    axes come first that say most.
    """
    dimensions = min(centers.shape[1], max(_NUMBERS_MAX // partitions, _DIMENSIONS_MIN))
    weights = np.maximum(rows, 1).astype(np.float64)
    begins = np.flatnonzero(np.diff(partition, prepend=-1))
    sums = np.add.reduceat(centers[:, :dimensions] * weights[:, np.newaxis], begins)
    middles = np.zeros((partitions, dimensions))
    middles[partition[begins]] = sums / np.add.reduceat(weights, begins)[:, np.newaxis]
    return middles


def _along(places: F64) -> F64:
    """Project places on the direction in which they spread most; it points the same way each time.

    An axis and its opposite serve alike: the dimension that goes with it most is made to ascend.
    """
    along = principal_spread(places, np.ones(len(places)))
    moved = along @ (places - places.mean(axis=0))
    return along if moved[int(np.argmax(np.abs(moved)))] >= 0 else -along
