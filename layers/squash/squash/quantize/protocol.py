"""What every codec does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np

from squash.arrays import F32, F64, I64, AnyArray

Space: TypeAlias = Literal["l2", "dot"]
"""What a codec's distances are: squared L2 (cosine too, of vectors of length one), or the negated
inner product. Smaller is nearer."""

Codes: TypeAlias = Mapping[str, AnyArray]

FLOAT32_EPSILON: Final = 2.0**-23


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of the codes, and what its leading axis counts, so that ranges can be read."""

    name: str
    per: Literal["row", "block"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A query, ready to be scored.

    Parameters
    ----------
    space:
        What distances are.
    query:
        float32 [D], projected.
    offset:
        For "dot": the inner product of the query with the mean that projection takes away.
    reach:
        The sum of the query's and the mean's lengths, for the bounds' slack.
    table:
        The codec's own look-up table.

    """

    space: Space
    query: F32
    offset: float
    reach: float
    table: AnyArray

    def distances_to(self, centers: F32) -> F32:
        """Return the distance to each of float32 [c, D], as float32 [c]."""
        if self.space == "dot":
            return np.asarray(-(centers @ self.query) - np.float32(self.offset))
        apart = centers - self.query
        return np.asarray(np.einsum("ij,ij->i", apart, apart))


def prepare(space: Space, *, query: F32, projected: F32, mean: F32, table: AnyArray) -> Prepared:
    """Bring together what every codec prepares: float32 [d] query, [D] projected, [d] mean."""
    offset = float(query.astype(np.float64) @ mean.astype(np.float64)) if space == "dot" else 0.0
    lengths = [float(np.linalg.norm(v.astype(np.float64))) for v in (projected, mean)]
    return Prepared(space, projected, offset, lengths[0] + 2.0 * lengths[1], table)


class Codec(Protocol):
    """Quantises the projected rows of an index's partitions.

    Every `low_keep_share` of rows must pass the low-bit codes for their ranking to be trusted.
    """

    dimension: int
    space: Space
    low_keep_share: float

    @property
    def name(self) -> str:
        """What `load_codec` knows it by."""
        ...

    @property
    def version(self) -> int:
        """The version of its stored form."""
        ...

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The arrays of its codes."""
        ...

    def code_bytes_per_row(self) -> float:
        """Return the bytes a row's low-bit code, full code and factors take."""
        ...

    def project(self, vectors: F32) -> F32:
        """Turn float32 [n, d] into float32 [n, D], keeping distances."""
        ...

    def encode(self, projected: F32, *, centers: F32, cluster_begins: I64) -> Codes:
        """Encode rows.

        Parameters
        ----------
        projected:
            float32 [n, D], rows side by side by cluster.
        centers:
            float32 [c, D].
        cluster_begins:
            int64 [c + 1]: cluster i is rows cluster_begins[i] to cluster_begins[i + 1].

        """
        ...

    def prepare(self, query: F32) -> Prepared:
        """Project a query, float32 [d], and make its tables."""
        ...

    def low_scan(
        self,
        codes: Codes,
        *,
        clusters: I64,
        cluster_begins: I64,
        centers: F32,
        prepared: Prepared,
    ) -> tuple[I64, F32]:
        """Rank all rows of some clusters on their low-bit codes.

        Returns
        -------
        (int64 [m], float32 [m]) the rows, cluster by cluster, and a number for each that is
        smaller where the row is likely nearer; it is no distance.

        """
        ...

    def full_scan(
        self, codes: Codes, *, rows: I64, row_clusters: I64, centers: F32, prepared: Prepared
    ) -> tuple[F32, F32]:
        """Estimate and bound the distances of some rows on their full codes.

        Parameters
        ----------
        rows, row_clusters:
            int64 [m], and the cluster of each.

        Returns
        -------
        (float32 [m], float32 [m]) the estimate, and a lower bound that no true distance is below.

        """
        ...

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return a JSON header and arrays, from which `load_codec` makes the codec again."""
        ...


def upper_product(
    *,
    norms: F64,
    products: F64,
    code_norms: F64,
    cosine_low: F64,
    cosine_high: F64,
    query: F64,
    dimension: int,
) -> F64:
    """Bound <q, r> from above, exactly, by Cauchy–Schwarz on what the code leaves out.

    ALGORITHMS 3.5: with x the code of the residual r and k = cos(r, x), the query's part along x
    meets k·|r| of r, the rest at most sqrt(1 - k²)·|r|. That is |r|·|q|·cos of the difference of
    two angles; where k is known only within an interval, its largest value there is taken.

    Parameters
    ----------
    norms:
        |r|, float64 [m].
    products:
        <q, x>, float64 [m].
    code_norms:
        |x|, float64 [m].
    cosine_low, cosine_high:
        The interval that holds cos(r, x).
    query:
        |q|, float64 [m].
    dimension:
        D, which says how far the float32 sums in `products` may be off.

    """
    along = np.divide(products, code_norms, out=np.zeros_like(products), where=code_norms > 0)
    along = np.clip(along, -query, query)
    # Where the query lies along x the root turns a rounded product into a large error.
    rounding = 2.0 * (dimension + 16) * FLOAT32_EPSILON * query * query
    across = np.sqrt(np.maximum(query * query - along * along, 0.0) + rounding)
    low, high = np.clip(cosine_low, -1.0, 1.0), np.clip(cosine_high, -1.0, 1.0)
    at_low = low * along + np.sqrt(1.0 - low * low) * across
    at_high = high * along + np.sqrt(1.0 - high * high) * across
    inside = (low * query <= along) & (along <= high * query)
    return np.asarray(norms * np.where(inside, query, np.maximum(at_low, at_high)))


def as_distances(
    prepared: Prepared, *, base: F64, norms: F64, products: F64, slack: F64 | float = 0.0
) -> F32:
    """Turn inner products of query and residual into distances, less a slack, rounded down."""
    near = products if prepared.space == "dot" else 2.0 * products - norms * norms
    exact = base - near
    rounded = (exact - slack).astype(np.float32)
    if isinstance(slack, float) and slack == 0.0:
        return np.asarray(rounded)
    return np.nextafter(rounded, np.float32(-np.inf))


def float_slack(prepared: Prepared, *, norms: F64, center_norms: F64, dimension: int) -> F64:
    """Return what float32 rounding in projection and scan may amount to, in distance.

    A rotation's sums of D products err by a few eps·sqrt(D) of the lengths that go in; D + 16
    times eps holds that with room to spare at every D.
    """
    unit = (dimension + 16) * FLOAT32_EPSILON
    query = float(np.sqrt(np.einsum("j,j->", prepared.query, prepared.query, dtype=np.float64)))
    lengths = norms + center_norms + prepared.reach
    # Below float32's normal range rounding is absolute, not relative.
    least = (dimension + 16) * float(np.finfo(np.float32).tiny)
    return np.asarray(unit * lengths * (query if prepared.space == "dot" else lengths) + least)
