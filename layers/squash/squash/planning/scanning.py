"""How many rows pass from level to level."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from squash.limits import TOP_K_MAX
from squash.values import dataclass


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
    """Return how many rows to keep for k answers.

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


KEEP_MAX: Final = keep_for(TOP_K_MAX, 1.0).refined
"""How many rows are kept at most."""
