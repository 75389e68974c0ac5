"""How a partition's chosen clusters are scanned, and how many rows pass from level to level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

# KERNELS section 2, of native kernels: a masked low-bit scan costs less than gathering the full
# codes of the admitted rows once more than this share of the clusters' rows is admitted. Not
# measured anew for the NumPy twins.
LOW_SCAN_SHARE_MIN: Final = 0.05
# Below this many admitted rows a scan of low-bit codes has nothing to save.
LOW_SCAN_ROWS_MIN: Final = 2_000


@dataclass(frozen=True, slots=True)
class Keep:
    """How many rows survive the low-bit codes, and how many are refined."""

    low: int
    refined: int


def keep_for(k: int, recall_target: float) -> Keep:
    """Return how many rows to keep for k answers.

    KERNELS section 3: on residual codes the true ten lie among the first 30 rows by the full
    code, and, at the 95th percentile, among the first 100 by the low-bit code.
    """
    strict = -math.log10(max(1.0 - recall_target, 1e-4))  # 1.3 at 0.95, 2 at 0.99
    return Keep(low=math.ceil(150 * strict) + 15 * k, refined=math.ceil(4 * strict) + 2 * k)


def scan_mode(*, rows: int, admitted: int, low_keep: int) -> Literal["low", "full"]:
    """Choose between scanning all low-bit codes with a mask and the admitted rows' full codes."""
    if admitted <= max(LOW_SCAN_ROWS_MIN, 2 * low_keep):
        return "full"
    return "low" if admitted >= LOW_SCAN_SHARE_MIN * rows else "full"
