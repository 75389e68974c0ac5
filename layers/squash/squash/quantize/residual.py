"""The default codec: residuals to the cluster's centre, rotated, on a uniform grid.

It is of the family of RaBitQ (arXiv 2405.12497) and its extension to more bits (2409.09913): the
grid point of largest cosine to the residual, with one factor that makes the estimated inner
product unbiased. The sign bits of the grid point are stored once more, as the low-bit code.

What is stored of a row r = P(x - mean) - c:

=========== ======= ========= ===================================================================
array       dtype   symbol    what it is
=========== ======= ========= ===================================================================
low         u8      s         signs of r, in blocks of 32 rows (`kernels.low`)
full        u8      u         grid point, half-integers stored as u + (2^B - 1)/2; at 4 bits two
                              to a byte (`kernels.full`), else packed (`kernels.packing`)
norm        f32     |r|
full_factor f16     <r,u>/|r|
low_factor  f16     <r,s>/|r|
low_shift   f16     <Pc,s>/<r,s>, with which one query table serves all clusters
=========== ======= ========= ===================================================================

The factors have no unit, so that float16 holds them at any scale of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from squash.arrays import F32, F64, I64, U8, AnyArray
from squash.kernels import (
    full_products,
    low_products,
    low_table,
    pack_low,
    pack_nibbles,
    pack_rows,
    unpack_nibbles,
    unpack_rows,
)
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

NAME: Final = "residual"
VERSION: Final = 1
BITS: Final = 4
_NIBBLE_BITS: Final = 4
_CHUNK_ROWS: Final = 4_096
_FLOAT16_MAX: Final = 60_000.0
_FLOAT16_STEP: Final = 2.0**-10  # a rounded float16 is within half of this, relative
_SCALES: Final = 14
_FINE_SCALES: Final = 5


class ResidualCodec:
    """See the module.

    Parameters
    ----------
    mean:
        float32 [d], taken from every vector first.
    rotation:
        float32 [d, d], orthogonal.
    space:
        What distances are.
    bits:
        B, bits a dimension of the full code, 1 to 8.

    """

    name = NAME
    version = VERSION
    specs = (
        ArraySpec("low", "block"),
        ArraySpec("full", "row"),
        ArraySpec("norm", "row"),
        ArraySpec("full_factor", "row"),
        ArraySpec("low_factor", "row"),
        ArraySpec("low_shift", "row"),
    )
    low_keep_share = 0.0

    def __init__(self, mean: F32, rotation: F32, space: Space, bits: int = BITS) -> None:
        self.dimension = len(mean)
        self.space: Space = space
        self.bits = bits
        self._mean = mean
        self._rotation = rotation
        self._widths = np.full(len(mean), bits, dtype=np.uint8)
        self._middle = np.float32((2**bits - 1) / 2)

    @classmethod
    def train(cls, sample: F32, *, space: Space, seed: int, bits: int = BITS) -> ResidualCodec:
        """Take the sample's mean and a random rotation drawn from the seed."""
        dimension = sample.shape[1]
        generator = np.random.Generator(np.random.Philox(seed))
        gaussian = generator.standard_normal((dimension, dimension))
        rotation, triangle = np.linalg.qr(gaussian)
        # With the signs of R's diagonal fixed, Q is uniform over rotations and reflections.
        rotation *= np.where(np.diag(triangle) < 0, -1.0, 1.0)
        mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(mean, rotation.astype(np.float32), space, bits)

    def code_bytes_per_row(self) -> float:
        """Return the bytes a row's low-bit code, full code and factors take."""
        low = -(-self.dimension // 4) / 2
        return low + -(-self.dimension * self.bits // 8) + 4 + 2 + 2 + 2

    def project(self, vectors: F32) -> F32:
        """Turn float32 [n, d] into float32 [n, d], keeping distances."""
        return np.asarray((vectors - self._mean) @ self._rotation.T)

    def encode(self, projected: F32, *, centers: F32, cluster_begins: I64) -> Codes:
        """Encode rows; see `Codec.encode`."""
        rows = len(projected)
        cluster = np.repeat(np.arange(len(centers)), np.diff(cluster_begins))
        full = np.empty((rows, -(-self.dimension * self.bits // 8)), dtype=np.uint8)
        positive = np.empty((rows, self.dimension), dtype=np.bool_)
        factors = np.empty((4, rows), dtype=np.float64)
        for start in range(0, rows, _CHUNK_ROWS):
            part = slice(start, min(start + _CHUNK_ROWS, rows))
            center = centers[cluster[part]]
            residual = projected[part] - center
            codes = self._grid_points(residual)
            full[part] = self._pack(codes)
            positive[part] = codes > self._middle
            factors[:, part] = self._factors(residual, codes, center)
        return {
            "low": pack_low(positive, cluster_begins),
            "full": full,
            "norm": factors[0].astype(np.float32),
            "full_factor": factors[1].astype(np.float16),
            "low_factor": factors[2].astype(np.float16),
            "low_shift": np.clip(factors[3], -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16),
        }

    def prepare(self, query: F32) -> Prepared:
        """Project a query, float32 [d], and make its table."""
        shift = self._mean if self.space == "l2" else np.zeros_like(self._mean)
        projected = np.asarray((query - shift) @ self._rotation.T, dtype=np.float32)
        table = low_table(projected)
        return prepare(self.space, query=query, projected=projected, mean=self._mean, table=table)

    def low_scan(
        self,
        codes: Codes,
        *,
        clusters: I64,
        cluster_begins: I64,
        centers: F32,
        prepared: Prepared,
    ) -> tuple[I64, F32]:
        """Rank rows on their signs, by the estimate of RaBitQ at one bit; see `Codec.low_scan`."""
        lengths = cluster_begins[clusters + 1] - cluster_begins[clusters]
        starts = cluster_begins[clusters] - np.concatenate(([0], np.cumsum(lengths)[:-1]))
        rows = np.repeat(starts, lengths) + np.arange(int(lengths.sum()))
        products = low_products(
            codes["low"], prepared.table, clusters=clusters, cluster_begins=cluster_begins
        )
        base = np.repeat(prepared.distances_to(centers[clusters]), lengths)
        norm = codes["norm"][rows]
        factor = codes["low_factor"][rows].astype(np.float32)
        # r ≈ f·s along the query, with f = |r|/factor; a row without residual has factor 0.
        scaled = np.divide(norm, factor, out=np.zeros_like(norm), where=factor > 0) * products
        if self.space == "dot":
            return rows, base - scaled
        shift = 1.0 + 2.0 * codes["low_shift"][rows].astype(np.float32)
        return rows, base + norm * norm * shift - 2.0 * scaled

    def full_scan(
        self, codes: Codes, *, rows: I64, row_clusters: I64, centers: F32, prepared: Prepared
    ) -> tuple[F32, F32]:
        """Estimate and bound distances on the grid points; see `Codec.full_scan`."""
        units = self._unpack(codes["full"][rows]).astype(np.float32) - self._middle
        used, member = np.unique(row_clusters, return_inverse=True)
        center = centers[used]
        apart = np.broadcast_to(prepared.query, center.shape)
        if self.space == "l2":
            apart = prepared.query - center
        products = full_products(units, apart[member]).astype(np.float64)
        code_norms = np.sqrt(np.einsum("ij,ij->i", units, units).astype(np.float64))
        norms = codes["norm"][rows].astype(np.float64)
        factor = codes["full_factor"][rows].astype(np.float64)
        base = prepared.distances_to(center).astype(np.float64)[member]
        scaled = np.divide(norms, factor, out=np.zeros_like(norms), where=factor > 0) * products
        estimate = as_distances(prepared, base=base, norms=norms, products=scaled)
        cosine = factor / code_norms
        upper = upper_product(
            norms=norms,
            products=products,
            code_norms=code_norms,
            cosine_low=cosine * (1.0 - _FLOAT16_STEP),
            cosine_high=cosine * (1.0 + _FLOAT16_STEP),
            query=np.sqrt(np.einsum("ij,ij->i", apart, apart, dtype=np.float64))[member],
            dimension=self.dimension,
        )
        center_norms = np.sqrt(np.einsum("ij,ij->i", center, center, dtype=np.float64))[member]
        slack = float_slack(
            prepared, norms=norms, center_norms=center_norms, dimension=self.dimension
        )
        bound = as_distances(prepared, base=base, norms=norms, products=upper, slack=slack)
        return estimate, bound

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, AnyArray]]:
        """Return header and arrays."""
        header = {"name": NAME, "version": VERSION, "space": self.space, "bits": self.bits}
        return header, {"mean": self._mean, "rotation": self._rotation}

    @classmethod
    def from_arrays(
        cls, header: Mapping[str, Any], array: Callable[[str], AnyArray]
    ) -> ResidualCodec:
        """Read back what `to_arrays` gave."""
        return cls(array("mean"), array("rotation"), header["space"], header["bits"])

    def _grid_points(self, residual: F32) -> U8:
        """Find the grid point of largest cosine: the best of some scales, tried for every row.

        The exact search of the paper walks all scales at which one coordinate steps; some twenty
        scales reach it within 10^-4 of its cosine.
        """
        levels = 2 ** (self.bits - 1)
        absolute = np.abs(residual)
        largest = absolute.max(axis=1, initial=0.0)
        size: F32 = (absolute / np.where(largest > 0, largest, 1.0)[:, None]).astype(np.float32)
        best = np.zeros(len(size), dtype=np.float32)
        scale = np.full(len(size), float(levels), dtype=np.float32)
        if self.bits > 1:
            for trial in np.geomspace(0.45 * levels, 2.6 * levels, _SCALES):
                _keep_better(size, np.full_like(scale, trial), levels, (best, scale))
            step = (2.6 / 0.45) ** (1.0 / (_SCALES - 1))
            middle = scale.copy()
            for finer in np.geomspace(1.0 / step, step, _FINE_SCALES + 2)[1:-1]:
                _keep_better(size, middle * np.float32(finer), levels, (best, scale))
        magnitude = np.minimum(size * scale[:, None], levels - 1).astype(np.uint8)
        codes = np.where(residual > 0, levels + magnitude, levels - 1 - magnitude)
        return np.asarray(codes, dtype=np.uint8)

    def _factors(self, residual: F32, codes: U8, center: F32) -> F64:
        wide = residual.astype(np.float64)
        norm = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        some = norm > 0
        safe = np.where(some, norm, 1.0)
        units = codes.astype(np.float64) - float(self._middle)
        signs = np.where(codes > self._middle, 1.0, -1.0)
        full = np.einsum("ij,ij->i", wide, units) / safe
        low = np.einsum("ij,ij->i", wide, signs) / safe
        with np.errstate(over="ignore"):
            shift = np.divide(
                np.einsum("ij,ij->i", center.astype(np.float64), signs),
                low * safe,
                out=np.zeros_like(low),
                where=some,
            )
        return np.stack((norm, np.where(some, full, 0.0), np.where(some, low, 0.0), shift))

    def _pack(self, codes: U8) -> U8:
        return pack_nibbles(codes) if self.bits == _NIBBLE_BITS else pack_rows(codes, self._widths)

    def _unpack(self, packed: U8) -> U8:
        if self.bits == _NIBBLE_BITS:
            return unpack_nibbles(packed, self.dimension)
        return unpack_rows(packed, self._widths)


def _keep_better(size: F32, trial: F32, levels: int, kept: tuple[F32, F32]) -> None:
    best, scale = kept
    grid = np.minimum(np.floor(size * trial[:, None]), levels - 1) + np.float32(0.5)
    squares = np.einsum("ij,ij->i", grid, grid)
    cosine = np.einsum("ij,ij->i", grid, size) / np.sqrt(squares)
    better = cosine > best
    best[better] = cosine[better]
    scale[better] = trial[better]
