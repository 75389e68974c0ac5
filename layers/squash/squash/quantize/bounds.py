"""From codes to distances: the rescaled estimate and the exact bound.

With r a row's residual to its center c, u its code, and q~ the query's residual (q' - c in space
`l2`, q' in `dot`), all that is unknown of a distance is <q~, r>:

    l2:   |q - x|^2 = |q~|^2 + |r|^2 - 2 <q~, r>
    dot:  -<q, x>   = -<q, mean> - <q', c> - <q', r>

Let theta be the angle between r and u, and phi the one between q~ and u. On the sphere the angle
between q~ and r is at least |phi - theta|, so

    <q~, r> <= |q~| |r| cos(phi - theta)

which is the Cauchy-Schwarz bound alpha <q~, u> + |w| |q~_perp| in other letters (w the part of r
orthogonal to u). Written so, a cosine that is known only to lie in an interval, because it was
stored in 16 bits, needs no cross term: the bound takes the angle of the interval that is nearest.

Slack, taken off every lower bound, with e = 2^-21:

    l2:   e (|r| + |q~|) (|r| + |q~| + |c|)
    dot:  e (|q'| (|r| + |c|) + |<q, mean>|)

It covers the rounding of projected rows and centers to float32 (2^-24 |x'| each), a rotation whose
float32 entries are orthogonal to 2^-23, norms in float32, the kernels' stated 2^-22 |q~| |u|
and the rounding of the answer. The formulas stand in `squash.kernels.bounding`.
"""

from __future__ import annotations

import numpy as np

from squash.arrays import F32, F64, I64
from squash.kernels import safe_bounds
from squash.quantize.protocol import Prepared, Space
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """A query as seen from the centers of some rows."""

    space: Space
    clusters: I64
    """int64 [t], the clusters that occur."""
    row_places: I64
    """int64 [m], each row's place in `clusters`."""
    queries: F32
    """float32 [1 or t, D], the query's residuals."""
    row_queries: I64
    """int64 [m], each row's place in `queries`."""
    query_norms: F64
    """float64 [m], |q~|."""
    center_norms: F64
    """float64 [m], |c|."""
    center_distances: F64
    """float64 [m], the distance of the query to the row's center."""
    offset: float

    def finish(self, norms: F64, products: F64, limits: F64) -> tuple[F32, F32]:
        """Return estimates and lower bounds, float32 [m] each.

        Parameters
        ----------
        norms:
            float64 [m], |r|.
        products, limits:
            float64 [m], the estimate and the upper bound of <q~, r>.

        """
        if self.space == "l2":
            near = self.center_distances + norms * norms
            return self.finish_distances(norms, near - 2 * products, near - 2 * limits)
        return self.finish_distances(
            norms, self.center_distances - products, self.center_distances - limits
        )

    def finish_distances(self, norms: F64, estimates: F64, bounds: F64) -> tuple[F32, F32]:
        """Take the slack off bounds of the distance, float64 [m], and round both to float32."""
        safe = safe_bounds(
            self.space,
            bounds,
            norms=norms,
            query_norms=self.query_norms,
            center_norms=self.center_norms,
            offset=self.offset,
        )
        return estimates.astype(np.float32), safe.astype(np.float32)


def frame_of(prepared: Prepared, *, centers: F32, row_clusters: I64) -> Frame:
    """See a query from the centers float32 [c, D] of rows, int64 [m]."""
    clusters, places = np.unique(row_clusters, return_inverse=True)  # noqa: TID251 - with places
    used = centers[clusters]
    wide = used.astype(np.float64)
    if prepared.space == "l2":
        queries = prepared.projected - wide
        row_queries = places
    else:
        queries = prepared.projected[None]
        row_queries = np.zeros(len(places), dtype=np.int64)
    return Frame(
        space=prepared.space,
        clusters=clusters,
        row_places=places,
        queries=queries.astype(np.float32),
        row_queries=row_queries,
        query_norms=norms_of(queries)[row_queries],
        center_norms=norms_of(wide)[places],
        center_distances=prepared.distances_to(used)[places],
        offset=prepared.offset,
    )


def norms_of(rows: F64) -> F64:
    """Return float64 [n], the L2 norms of float64 [n, D]."""
    norms: F64 = np.sqrt(np.vecdot(rows, rows))
    return norms
