"""OSQ, the codec of the SQUASH paper (arXiv 2502.01528).

Dimensions are decorrelated (KLT), bits go where the variance is, each dimension is cut by
Lloyd–Max into cells, and the codes are packed into shared bytes. The low-bit code is the sign of
every dimension, ranked by Hamming distance. Lower bounds come from the cells' edges.

Two improvements are options (ALGORITHMS 3.8): `factors` stores |r| and <r,x>/|r| of each row, which
gives an unbiased estimate and the bound of Cauchy–Schwarz; `residuals` codes the difference to the
cluster's centre. (This is not Lucene's method of the same initials.)

What is stored of a row r (projected, and for residuals less its centre):

====== ===== ===============================================================================
array  dtype what it is
====== ===== ===============================================================================
low    u8    signs, bit i of byte j being dimension 8·j + i
full   u8    cell numbers, widths by variance, packed (`kernels.packing`)
norm   f32   |r|                       (with factors)
factor f32   <r,x>/|r|, x the cells' centroids  (with factors)
====== ===== ===============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, I64, U8, AnyArray
from squash.kernels import hamming, pack_rows, pack_signs, packed_bytes, unpack_rows
from squash.quantize.protocol import (
    ArraySpec,
    Codes,
    Prepared,
    Space,
    as_distances,
    float_slack,
    prepare,
    upper_product,
)

NAME: Final = "osq"
VERSION: Final = 1
_WIDTH_MAX: Final = 8
_LLOYD_STEPS: Final = 40
_LLOYD_CHANGE_MIN: Final = 0.005
_TRAINING_ROWS_MAX: Final = 65_536
_ROUNDING: Final = 2.0**-20


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of all dimensions.

    Parameters
    ----------
    widths:
        uint8 [d], bits of each dimension.
    edges:
        float32 [d, 257], ascending; cell i of dimension j is [edges[j, i], edges[j, i + 1]), the
        outer ones open to infinity, unused ones infinite.
    centroids:
        float32 [d, 256].

    """

    widths: U8
    edges: F32
    centroids: F32


class OsqCodec:
    """See the module.

    Parameters
    ----------
    mean, basis:
        float32 [d] and [d, d]: a row is projected as (x - mean) basis.
    cells:
        The cells.
    space:
        What distances are.
    factors, residual:
        The two options.

    """

    name = NAME
    version = VERSION

    def __init__(
        self,
        mean: F32,
        basis: F32,
        cells: Cells,
        *,
        space: Space,
        factors: bool,
        residual: bool,
    ) -> None:
        self.dimension = len(mean)
        self.space: Space = space
        self.factors = factors
        self.residual = residual
        # Signs of KLT dimensions say little, of inner products less: the paper keeps 10 % of the
        # rows, which costs recall (KERNELS 3).
        self.low_keep_share = 0.3 if space == "l2" else 0.6
        self._mean = mean
        # Memory order decides in which order sums are rounded: a codec read back must score alike.
        self._basis = np.ascontiguousarray(basis)
        self._cells = cells
        extra = (ArraySpec("norm", "row"), ArraySpec("factor", "row")) if factors else ()
        self.specs = (ArraySpec("low", "row"), ArraySpec("full", "row"), *extra)

    @classmethod
    def train(
        cls, sample: F32, *, residuals: F32 | None, space: Space, factors: bool, bits: int = 4
    ) -> OsqCodec:
        """Fit basis, widths and cells; with `residuals`, to those rather than to the sample."""
        mean = sample.mean(axis=0, dtype=np.float64)
        rows = (sample - mean) if residuals is None else residuals.astype(np.float64)
        step = max(len(rows) // _TRAINING_ROWS_MAX, 1)
        rows = rows[::step]
        variances, basis = np.linalg.eigh(rows.T @ rows / len(rows))
        order = np.argsort(-variances, kind="stable")
        basis = _signed(basis[:, order])
        widths = allocate_bits(np.maximum(variances[order], 0.0), bits * len(mean))
        cells = _lloyd_max((rows @ basis).astype(np.float32), widths)
        return cls(
            mean.astype(np.float32),
            basis.astype(np.float32),
            cells,
            space=space,
            factors=factors,
            residual=residuals is not None,
        )

    def code_bytes_per_row(self) -> float:
        """Return the bytes a row's low-bit code, full code and factors take."""
        packed = packed_bytes(self._cells.widths)
        return float(-(-self.dimension // 8) + packed + (8 if self.factors else 0))

    def project(self, vectors: F32) -> F32:
        """Turn float32 [n, d] into float32 [n, d], keeping distances."""
        return np.asarray((vectors - self._mean) @ self._basis)

    def encode(self, projected: F32, *, centers: F32, cluster_begins: I64) -> Codes:
        """Encode rows; see `Codec.encode`."""
        rows = projected
        if self.residual:
            rows = projected - np.repeat(centers, np.diff(cluster_begins), axis=0)
        numbers = np.empty(rows.shape, dtype=np.uint8)
        for j, width in enumerate(self._cells.widths.tolist()):
            inner = self._cells.edges[j, 1 : 1 << width]
            numbers[:, j] = np.searchsorted(inner, rows[:, j], side="right")
        codes: dict[str, AnyArray] = {
            "low": pack_signs(rows > 0),
            "full": pack_rows(numbers, self._cells.widths),
        }
        if self.factors:
            wide = rows.astype(np.float64)
            norm = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            points = self._points(numbers).astype(np.float64)
            product = np.einsum("ij,ij->i", wide, points)
            factor = np.divide(product, norm, out=np.zeros_like(norm), where=norm > 0)
            codes |= {"norm": norm.astype(np.float32), "factor": factor.astype(np.float32)}
        return codes

    def prepare(self, query: F32) -> Prepared:
        """Project a query, float32 [d], and take its signs."""
        shift = self._mean if self.space == "l2" else np.zeros_like(self._mean)
        projected = np.asarray((query - shift) @ self._basis, dtype=np.float32)
        signs = pack_signs(projected[None, :] > 0)[0]
        return prepare(self.space, query=query, projected=projected, mean=self._mean, table=signs)

    def low_scan(
        self,
        codes: Codes,
        *,
        clusters: I64,
        cluster_begins: I64,
        centers: F32,
        prepared: Prepared,
    ) -> tuple[I64, F32]:
        """Rank rows by how many of their signs differ from the query's; see `Codec.low_scan`."""
        lengths = cluster_begins[clusters + 1] - cluster_begins[clusters]
        starts = cluster_begins[clusters] - np.concatenate(([0], np.cumsum(lengths)[:-1]))
        rows = np.repeat(starts, lengths) + np.arange(int(lengths.sum()))
        signs: U8 = prepared.table
        if self.residual and self.space == "l2":
            signs = np.repeat(pack_signs(prepared.query > centers[clusters]), lengths, axis=0)
        return rows, hamming(codes["low"][rows], signs)

    def full_scan(
        self, codes: Codes, *, rows: I64, row_clusters: I64, centers: F32, prepared: Prepared
    ) -> tuple[F32, F32]:
        """Estimate and bound distances on the cells; see `Codec.full_scan`."""
        numbers = unpack_rows(codes["full"][rows], self._cells.widths)
        points = self._points(numbers)
        center = np.zeros((1, self.dimension), np.float32)
        member = np.zeros(len(rows), np.int64)
        if self.residual:
            used, member = np.unique(row_clusters, return_inverse=True)
            center = centers[used]
        apart = np.broadcast_to(prepared.query, center.shape)
        if self.space == "l2":
            apart = prepared.query - center
        base = prepared.distances_to(center).astype(np.float64)[member]
        center_norms = np.sqrt(np.einsum("ij,ij->i", center, center, dtype=np.float64))[member]
        if not self.factors:
            return self._by_cells(
                numbers, points, apart[member], base=base, center_norms=center_norms, query=prepared
            )
        products = np.einsum("ij,ij->i", points, apart[member]).astype(np.float64)
        code_norms = np.sqrt(np.einsum("ij,ij->i", points, points, dtype=np.float64))
        norms = codes["norm"][rows].astype(np.float64)
        factor = codes["factor"][rows].astype(np.float64)
        scaled = np.divide(norms, factor, out=np.zeros_like(norms), where=factor > 0) * products
        cosine = np.divide(factor, code_norms, out=np.zeros_like(factor), where=code_norms > 0)
        upper = upper_product(
            norms=norms,
            products=products,
            code_norms=code_norms,
            cosine_low=cosine - _ROUNDING,
            cosine_high=cosine + _ROUNDING,
            query=np.sqrt(np.einsum("ij,ij->i", apart, apart, dtype=np.float64))[member],
            dimension=self.dimension,
        )
        slack = float_slack(
            prepared, norms=norms, center_norms=center_norms, dimension=self.dimension
        )
        return (
            as_distances(prepared, base=base, norms=norms, products=scaled),
            as_distances(prepared, base=base, norms=norms, products=upper, slack=slack),
        )

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return header and arrays."""
        header = {
            "name": NAME,
            "version": VERSION,
            "space": self.space,
            "factors": self.factors,
            "residual": self.residual,
        }
        return header, {
            "mean": self._mean,
            "basis": self._basis,
            "widths": self._cells.widths,
            "edges": self._cells.edges,
            "centroids": self._cells.centroids,
        }

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]) -> OsqCodec:
        """Read back what `to_arrays` gave."""
        return cls(
            array("mean"),
            array("basis"),
            Cells(array("widths"), array("edges"), array("centroids")),
            space=header["space"],
            factors=header["factors"],
            residual=header["residual"],
        )

    def _points(self, numbers: U8) -> F32:
        return np.asarray(self._cells.centroids[np.arange(self.dimension), numbers])

    def _by_cells(
        self,
        numbers: U8,
        points: F32,
        apart: F32,
        *,
        base: F64,
        center_norms: F64,
        query: Prepared,
    ) -> tuple[F32, F32]:
        """Estimate by the cells' centroids, bound by their edges."""
        columns = np.arange(self.dimension)
        low = self._cells.edges[columns, numbers].astype(np.float64)
        high = self._cells.edges[columns, numbers + np.int64(1)].astype(np.float64)
        wide = apart.astype(np.float64)
        nearest = np.clip(wide, low, high)
        # How long the row may be is not stored: take the nearest point of its cell, and the query.
        norms = np.sqrt(np.einsum("ij,ij->i", nearest, nearest, dtype=np.float64))
        slack = float_slack(query, norms=norms, center_norms=center_norms, dimension=len(columns))
        if self.space == "dot":
            products = np.einsum("ij,ij->i", points, apart, dtype=np.float64)
            with np.errstate(invalid="ignore"):
                ends = np.where(wide > 0, wide * high, wide * low)
            upper = np.where(wide == 0, 0.0, ends).sum(axis=1)
            bound = np.asarray((base - upper - slack).astype(np.float32))
            return np.asarray((base - products).astype(np.float32)), bound
        estimate = np.einsum("ij,ij->i", apart - points, apart - points)
        edge = wide - nearest
        bound64 = np.einsum("ij,ij->i", edge, edge) - slack
        return estimate, np.nextafter(bound64.astype(np.float32), np.float32(-np.inf))


def allocate_bits(variances: F64, total: int) -> U8:
    """Give out bits one by one to the dimension of largest remaining variance.

    A bit halves a cell, so it quarters the variance that is left. No dimension gets more than 8.
    """
    widths = np.zeros(len(variances), dtype=np.uint8)
    left = variances.astype(np.float64).copy()
    for _ in range(min(total, _WIDTH_MAX * len(variances))):
        j = int(np.argmax(np.where(widths < _WIDTH_MAX, left, -1.0)))
        widths[j] += 1
        left[j] /= 4.0
    return widths


def _lloyd_max(rows: F32, widths: U8) -> Cells:
    dimension = rows.shape[1]
    edges = np.full((dimension, 257), np.inf, dtype=np.float32)
    centroids = np.zeros((dimension, 256), dtype=np.float32)
    edges[:, 0] = -np.inf
    for j, width in enumerate(widths.tolist()):
        count = 1 << width
        values = np.sort(rows[:, j].astype(np.float64))
        inner, means = _cells_of(values, count)
        edges[j, 1:count] = inner.astype(np.float32)
        centroids[j, :count] = means.astype(np.float32)
    return Cells(widths, edges, centroids)


def _cells_of(values: F64, count: int) -> tuple[F64, F64]:
    """Cut sorted values into cells: from equal counts, Lloyd's steps until little changes."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    quantiles = np.linspace(0, len(values), count + 1).astype(np.int64)[1:-1]
    inner = values[np.minimum(quantiles, len(values) - 1)]
    means = np.empty(count)
    previous = np.inf
    for _ in range(_LLOYD_STEPS):
        places = np.concatenate(([0], np.searchsorted(values, inner), [len(values)]))
        sizes = np.diff(places)
        bounds = np.concatenate(([values[0]], inner, [values[-1]]))
        middles = (bounds[1:] + bounds[:-1]) / 2
        np.divide(np.diff(sums[places]), sizes, out=middles, where=sizes > 0)
        means = np.maximum.accumulate(middles)
        inner = (means[1:] + means[:-1]) / 2
        error = float(np.sum((values - means[np.searchsorted(inner, values, side="right")]) ** 2))
        if error >= previous * (1.0 - _LLOYD_CHANGE_MIN):
            break
        previous = error
    return inner, means


def _signed(basis: F64) -> F64:
    """Fix each axis's sign, which an eigenvector leaves open, so that training is repeatable."""
    largest = np.argmax(np.abs(basis), axis=0)
    signs = np.sign(basis[largest, np.arange(basis.shape[1])])
    return basis * np.where(signs == 0, 1.0, signs)
