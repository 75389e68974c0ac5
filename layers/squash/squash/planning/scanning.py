"""How many rows pass from level to level."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from squash.arrays import F64, I64
from squash.limits import TOP_K_MAX
from squash.planning.recall import TARGETS, between_targets, least_for
from squash.values import dataclass

KEPT_FOR: Final = (1, 10, 100)
"""For how many answers it is measured how many rows must be kept."""

KEPT_TARGETS: Final = (0.9, 0.95, 0.99)
"""At which targets, ascending: each trusts signs as far as its `reach` says."""

KEPT_MEASURED_MAX: Final = 1_024
"""Among so many rows, the best by their codes, the nearest are looked for at most."""

# Of what a target lets be missed, codes may lose this share and a thousandth, which so few ranks
# hardly tell, but no more than half: walks lose the rest, and aim above the target.
_MISSED_SHARE = 0.15
_MISSED_MORE = 0.001
_MISSED_SHARE_MAX = 0.5
# What some rows need beside the k is more than what was measured, if it is so many times as much.
_MUCH_MORE = 2.0
# A whole number that went through logarithms may be more by this.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Keep:
    """How far the codes are trusted: how many rows survive them.

    Parameters
    ----------
    low:
        Of codecs whose signs are ranked: how many rows pass from them to the full codes.
    refined:
        How many rows get their exact distances.
    reach:
        Of codecs whose signs are scanned: how far the signs' inner product may be wrong, in lengths
        of the query's residual. A row is ranked no better than with an error of `reach` in its
        favour. 0.6 is about one standard deviation.

    """

    low: int
    refined: int
    reach: float


@lru_cache(maxsize=256)
def keep_for(k: int, recall_target: float) -> Keep:
    """Return how many rows to keep for k answers where nothing was measured.

    KERNELS section 3: on residual codes the true ten lie among the first 30 rows by the full
    code, and, at the 95th percentile, among the first 100 by the low-bit code.

    The signs may not only leave a row out but hold its rank back, which costs the most recall where
    `reach` is short: on 400,000 word vectors, with 0.6 * strict, 0.01 at 0.9, 0.006 at
    0.95 and nothing at 0.99. The constant gives that back.
    """
    strict = -math.log10(max(1.0 - recall_target, 1e-4))  # 1.3 at 0.95, 2 at 0.99
    return Keep(
        low=math.ceil(150 * strict) + 15 * k,
        refined=math.ceil(4 * strict) + 2 * k,
        reach=0.3 + 0.5 * min(strict, 3.0),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """How many rows must be kept for the nearest to be among them, measured on the index itself.

    `rows` is float64 [targets, answers], in the order of TARGETS and KEPT_FOR. Where rows lie much
    closer together than to the center of their cluster, their codes tell them apart badly, and
    many must be kept; elsewhere few.
    """

    rows: F64

    @classmethod
    def fit(cls, ranks: Sequence[Sequence[I64]]) -> Kept:
        """Learn from held-out queries.

        Parameters
        ----------
        ranks:
            For each of KEPT_TARGETS, for each of some queries, as which its nearest rows are ranked
            by their codes where signs are trusted as far: int64 [m] from 1, the nearest row first,
            m the last of KEPT_FOR, or how many rows there are. At least one query is there.

        """
        missed = 1.0 - np.array(TARGETS)
        hits = 1.0 - np.minimum(_MISSED_SHARE * missed + _MISSED_MORE, _MISSED_SHARE_MAX * missed)
        # A target between those measured trusts signs no farther than the one below it.
        below = np.searchsorted(KEPT_TARGETS[1:], TARGETS, side="right")
        every = [one for some in ranks for one in some]
        rows = np.empty((len(TARGETS), len(KEPT_FOR)))
        for column, k in enumerate(KEPT_FOR):
            needed = [
                least_for([one[:k].astype(np.float64) for one in some or every], hits)
                for some in (*ranks, every)
            ]
            # The nearest rows alone are few: those of all queries tell more, if they need more.
            mine = np.array(needed)[below, np.arange(len(TARGETS))]
            rows[:, column] = np.maximum(mine, needed[-1])
        return cls(np.maximum.accumulate(np.maximum(rows, KEPT_FOR), axis=0))

    @classmethod
    def unmeasured(cls) -> Kept:
        """Return what is kept where nothing was measured."""
        rows = [[keep_for(k, target).refined for k in KEPT_FOR] for target in TARGETS]
        return cls(np.array(rows, dtype=np.float64))

    def keep(self, k: int, recall_target: float) -> Keep:
        """Return how many rows to keep for k answers."""
        usual = keep_for(k, recall_target)
        # Refinement begins with half as many again as are asked for.
        refined = max(k + k // 2, k + math.ceil(self._beside(k, recall_target) - _ROUNDING))
        return Keep(usual.low, refined, usual.reach)

    def raised(self, seen: Kept) -> Kept:
        """Return what does for rows that came, too, of which some were seen.

        Where these need little more, it is by chance: what is kept would grow from fold to fold.
        """
        answers = np.array(KEPT_FOR)
        much = seen.rows - answers > _MUCH_MORE * (self.rows - answers) + answers / 2
        rows = np.where(much, np.maximum(self.rows, seen.rows), self.rows)
        return Kept(np.maximum.accumulate(rows, axis=0))

    def exceeds(self, other: Kept) -> bool:
        """Tell whether anything needs more than by another measurement."""
        return bool((self.rows > other.rows).any())

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"answers": list(KEPT_FOR), "rows": self.rows.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Kept:
        """Read back what `to_json` gave.

        Raises
        ------
        ValueError
            If it is not what `to_json` gives.

        """
        if list(value["answers"]) != list(KEPT_FOR):
            raise ValueError(f"kept is for {value['answers']} answers, not {list(KEPT_FOR)}")
        rows = np.array(value["rows"], dtype=np.float64)
        shape = (len(TARGETS), len(KEPT_FOR))
        if rows.shape != shape or not np.all((rows >= KEPT_FOR) & (rows <= KEPT_MEASURED_MAX)):
            raise ValueError(f"kept has the shape {rows.shape}, or values out of range")
        return cls(rows)

    def _beside(self, k: int, recall_target: float) -> float:
        """Return how many rows must be kept beside the k: a power law between those measured.

        Beyond them it grows with the root of k, as it does on pictures' descriptors and texts.
        """
        beside = np.log(between_targets(self.rows - KEPT_FOR + 1.0, recall_target))
        found = float(np.exp(np.interp(math.log(k), np.log(KEPT_FOR), beside)))
        return (found - 1.0) * math.sqrt(max(k / KEPT_FOR[-1], 1.0))


def _most_kept() -> int:
    worst = np.full((len(TARGETS), len(KEPT_FOR)), float(KEPT_MEASURED_MAX))
    return max(keep_for(TOP_K_MAX, 1.0).refined, Kept(worst).keep(TOP_K_MAX, 1.0).refined)


KEEP_MAX: Final = _most_kept()
"""How many rows are kept at most."""
