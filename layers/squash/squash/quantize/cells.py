"""Cells of dimensions (the paper's section 2.2): bits by variance, cells by Lloyd and Max."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from squash.arrays import F32, F64, I64, U8, AnyArray
from squash.kernels import cell_begins
from squash.values import dataclass

WIDTH_BITS_MAX: Final = 8
_ITERATIONS_MAX: Final = 250
# Lloyd's iteration stops once the squared error falls by less than this share.
_GAIN_LEAST: Final = 0.005


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of all dimensions, one dimension after another.

    Cell k of dimension j stands at `begins[j] + k` and holds `lower <= value < upper`; the first
    cell has no lower edge (-inf) and the last no upper edge (inf), so every value has a cell.
    """

    widths: U8
    """uint8 [D]; dimension j has `2 ** widths[j]` cells."""
    lower: F32
    """float32 [cells]."""
    centroids: F32
    """float32 [cells], the mean of the sample's values in each cell."""

    @property
    def begins(self) -> I64:
        """int64 [D + 1]."""
        return cell_begins(self.widths)

    @property
    def upper(self) -> F32:
        """float32 [cells]: the next cell's lower edge."""
        edges = np.append(self.lower[1:], np.float32(np.inf)).astype(np.float32)
        edges[self.begins[1:] - 1] = np.inf
        return edges

    def dimensions(self) -> I64:
        """Return int64 [cells], the dimension that each cell belongs to."""
        counts = np.diff(self.begins)
        return np.repeat(np.arange(len(self.widths), dtype=np.int64), counts)

    def codes(self, rows: F32) -> U8:
        """Return uint8 [n, D], the cell of each value of rows float32 [n, D]."""
        begins = self.begins.tolist()
        codes = np.zeros(rows.shape, dtype=np.uint8)
        for j, (begin, end) in enumerate(pairwise(begins)):
            if end - begin > 1:
                edges = self.lower[begin + 1 : end]
                codes[:, j] = np.searchsorted(edges, rows[:, j], side="right")
        return codes

    def values(self, codes: U8) -> F32:
        """Return float32 [n, D], the centroids of the cells uint8 [n, D]."""
        values: F32 = self.centroids[self.begins[:-1] + codes]
        return values


def train_cells(sample: F32, *, bits_total: int) -> Cells:
    """Fit cells to a projected sample float32 [s, D], `bits_total` bits over all dimensions."""
    wide = sample.astype(np.float64)
    widths = bits_by_variance(_variances(wide), bits_total)
    lower: list[F32] = []
    centroids: list[F32] = []
    for j, width in enumerate(widths.tolist()):
        edges, means = lloyd_max(wide[:, j], 1 << width)
        lower.append(np.concatenate([[-np.inf], edges]).astype(np.float32))
        centroids.append(means.astype(np.float32))
    return Cells(
        widths,
        np.concatenate([np.empty(0, dtype=np.float32), *lower]),
        np.concatenate([np.empty(0, dtype=np.float32), *centroids]),
    )


def bits_by_variance(variances: F64, bits_total: int) -> U8:
    """Give bits out one by one to the dimension with the most variance left (the paper's greedy).

    A bit halves a cell, so it leaves a quarter of the variance. No dimension gets more than 8.

    Returns
    -------
    uint8 [D].

    """
    left = variances.astype(np.float64).copy()
    widths = np.zeros(len(left), dtype=np.uint8)
    for _ in range(min(bits_total, WIDTH_BITS_MAX * len(left))):
        j = int(np.argmax(left))
        widths[j] += 1
        left[j] = left[j] / 4 if widths[j] < WIDTH_BITS_MAX else -1.0
    return widths


def lloyd_max(values: F64, cells: int) -> tuple[F64, F64]:
    """Fit cells of least squared error, starting from cells of equal counts.

    Parameters
    ----------
    values:
        float64 [s].
    cells:
        How many.

    Returns
    -------
    float64 [cells - 1], the edges between cells, ascending; float64 [cells], the centroids.

    """
    if len(values) == 0:
        return np.zeros(cells - 1), np.zeros(cells)
    ascending = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ascending)])
    places = np.linspace(0, len(ascending), cells + 1)[1:-1].astype(np.int64)
    edges = ascending[places]
    centroids = ascending[(np.arange(cells) * 2 + 1) * len(ascending) // (2 * cells)]
    error = np.inf
    for _ in range(_ITERATIONS_MAX):
        cuts = np.concatenate([[0], np.searchsorted(ascending, edges), [len(ascending)]])
        counts = np.diff(cuts)
        # An empty cell keeps its centroid, between those of its neighbours.
        means = np.diff(sums[cuts]) / np.maximum(counts, 1)
        centroids = np.maximum.accumulate(np.where(counts > 0, means, centroids))
        last, error = error, _error(ascending, centroids, counts)
        if not error < last * (1 - _GAIN_LEAST):
            break
        edges = (centroids[:-1] + centroids[1:]) / 2
    return edges, centroids


def _error(ascending: F64, centroids: F64, counts: AnyArray) -> float:
    gaps = ascending - np.repeat(centroids, counts)
    return float(gaps @ gaps)


def _variances(rows: F64) -> F64:
    if len(rows) == 0:
        return np.zeros(rows.shape[1], dtype=np.float64)
    # About 0, not about the sample's mean: residuals are coded as they are.
    variances: F64 = np.square(rows).mean(axis=0)
    return variances
