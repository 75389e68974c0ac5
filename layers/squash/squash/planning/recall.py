"""What held-out queries need to meet a recall target, and what lies between the targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from squash.arrays import F64

TARGETS: Final = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Those an index is calibrated for, ascending."""

_LEAST_MISSED = 1e-6


def with_margin(target: float, samples: int) -> float:
    """Aim above the target by the sampling error of a mean of `samples` hits, and a little."""
    error = np.sqrt(target * (1.0 - target) / max(samples, 1))
    return min(target + 1.5 * float(error) + 0.1 * (1.0 - target), 1.0)


def least_for(per_query: Sequence[F64], targets: Sequence[float] | F64) -> F64:
    """Return the smallest counts with which the mean recall reaches each target.

    Parameters
    ----------
    per_query:
        For each query, float64 [m], what reaches each of its true rows; not empty.
    targets:
        Ascending or not.

    """
    counts = np.concatenate(per_query)
    weights = np.concatenate([np.full(len(r), 1.0 / len(r)) for r in per_query]) / len(per_query)
    order = np.argsort(counts, kind="stable")
    covered = np.cumsum(weights[order])
    positions = np.searchsorted(covered, np.array(targets) - 1e-9)
    return np.asarray(counts[order[np.minimum(positions, len(order) - 1)]])


def between_targets(table: F64, recall_target: float) -> F64:
    """Return float64 [m], what a table float64 [targets, m] has for a target between TARGETS.

    It is linear in the logarithm of the share that may be missed; beyond the targets it is that of
    the first or the last.
    """
    missed = -np.log10(np.maximum(1.0 - np.array([*TARGETS, recall_target]), _LEAST_MISSED))
    target = min(max(missed[-1], missed[0]), missed[-2])
    return np.array([np.interp(target, missed[:-1], column) for column in table.T])
