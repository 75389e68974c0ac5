"""The method of the paper (arXiv 2502.01528) in NumPy, in one process: the reference.

Partitions by k-means. In each of them: the Karhunen-Loeve transform (section 2.2 of the paper),
more bits for dimensions of more variance, cells by Lloyd's method, all bits of a row end to end in
8-bit segments. A query filters all rows by the cells of their attributes, visits the partitions
whose centroid is at most `distance_ratio` times as far as the nearest one's, keeps the
`keep_percent` of the passing rows whose signs differ from the query's in the fewest dimensions,
ranks these by lower bounds of their distances, and compares the best `refine_factor` x k in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from contest import Contestant, Effort, Ladder
from judging import F32, I64, U8, Points, Question, Range
from storing import Built, Maker
from workload import uniforms

PARTITION_ROWS: Final = 100_000
BITS_PER_DIMENSION: Final = 4
BITS_MAX: Final = 8
ATTRIBUTE_CELLS: Final = 256
REFINE_FACTOR: Final = 4
_LLOYD_ROUNDS: Final = 8
_LLOYD_ROWS: Final = 20_000
_RATIOS: Final = tuple(np.round(np.arange(1.0, 2.01, 0.1), 2).tolist())
_KEEP_PERCENTS: Final = (10, 30, 100)
_SEED: Final = 5
_COLUMNS: Final = ("mean", "basis", "widths", "edges", "signs", "segments")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition's transform and codes.

    `mean` [d] and `basis` [d, d] transform; `widths` [d] are bits; `edges` [d, 257] bound the
    cells, infinite at the ends; `signs` [n, d / 8] and `segments` [n, w] are packed.
    """

    mean: F32
    basis: F32
    widths: I64
    edges: F32
    signs: U8
    segments: U8


def allotted(variances: NDArray[np.float64], total: int) -> I64:
    """Give bits one at a time to the dimension with the most variance left."""
    left, widths = variances.copy(), np.zeros(len(variances), dtype=np.int64)
    for _ in range(total):
        best = int(np.argmax(np.where(widths < BITS_MAX, left, -1.0)))
        widths[best] += 1
        left[best] /= 4
    return widths


def cell_edges(values: F32, width: int) -> F32:
    """Return the inner edges of 2^width cells by Lloyd's method, from quantiles on."""
    cells = 2**width
    ordered = np.sort(values).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    edges = np.quantile(ordered, np.arange(1, cells) / cells)
    for _ in range(_LLOYD_ROUNDS):
        places = np.concatenate([[0], np.searchsorted(ordered, edges), [len(ordered)]])
        counts = np.diff(places)
        means = np.diff(sums[places]) / np.maximum(counts, 1)
        means = np.where(counts > 0, means, np.concatenate([edges, edges[-1:]]) if cells > 1 else 0)
        edges = np.sort((means[1:] + means[:-1]) / 2)
    return edges.astype(np.float32)


def encoded(rows: F32) -> Partition:
    """Train a partition's transform and cells, and encode its rows."""
    mean = rows.mean(axis=0)
    variances, basis = np.linalg.eigh(np.cov(rows[:: max(1, len(rows) // _LLOYD_ROWS)].T))
    basis = np.ascontiguousarray(basis[:, ::-1], dtype=np.float32)
    turned = (rows - mean) @ basis
    dimension = rows.shape[1]
    widths = allotted(np.maximum(variances[::-1], 0), BITS_PER_DIMENSION * dimension)
    edges = np.full((dimension, 2**BITS_MAX + 1), np.inf, dtype=np.float32)
    edges[:, 0] = -np.inf
    bits = []
    for place, width in enumerate(widths.tolist()):
        inner = cell_edges(turned[:: max(1, len(rows) // _LLOYD_ROWS), place], width)
        edges[place, 1 : 1 + len(inner)] = inner
        cells = np.searchsorted(inner, turned[:, place], side="right").astype(np.uint8)
        if width:
            bits.append(np.unpackbits(cells[:, None], axis=1)[:, 8 - width :])
    segments = np.packbits(np.concatenate(bits, axis=1), axis=1)
    # A code may end in the last segment; the one behind it lets two always be read.
    segments = np.pad(segments, ((0, 0), (0, 1)))
    return Partition(mean, basis, widths, edges, np.packbits(turned > 0, axis=1), segments)


def lower_bounds(partition: Partition, vector: F32, rows: I64) -> F32:
    """Return float32 [m], sums over dimensions of the squared distance to the nearest cell edge."""
    turned = (vector - partition.mean) @ partition.basis
    below, above = partition.edges[:, :-1], partition.edges[:, 1:]
    gaps = np.maximum(np.maximum(below - turned[:, None], turned[:, None] - above), 0)
    table = gaps**2
    total = np.zeros(len(rows), dtype=np.float32)
    segments = partition.segments[rows].astype(np.uint16)
    begin = 0
    for place, width in enumerate(partition.widths.tolist()):
        if width:
            segment, shift = divmod(begin, 8)
            pair = (segments[:, segment] << 8) | segments[:, segment + 1]
            cells = (pair >> (16 - shift - width)) & (2**width - 1)
            total += table[place][cells]
        begin += width
    return total


class Paper(Contestant):
    """The search; rows are stored by partition."""

    title = "the paper's method, NumPy"
    filters = True
    questions_max = 12
    cost_ms_max = 500.0

    def __init__(self, points: Points, built: Built) -> None:
        with np.load(built.folder / "paper.npz") as stored:
            known = dict(stored)
        self._order, self._begins, self._centroids = (
            known[name] for name in ("order", "begins", "centroids")
        )
        self._partitions = [
            Partition(**{name: known[f"{name}{number}"] for name in _COLUMNS})
            for number in range(len(self._centroids))
        ]
        self._vectors = points.vectors
        columns = uniforms(len(points.vectors))
        self._values = {name: values[self._order] for name, values in columns.items()}
        self._cells = {
            name: (values * ATTRIBUTE_CELLS).astype(np.uint8)
            for name, values in self._values.items()
        }
        weight = built.stored_bytes / len(points.vectors) + 4 * points.vectors.shape[1]
        self.cost = built.cost(weight)

    def ladders(self, k: int) -> Sequence[Ladder]:  # noqa: ARG002 - the same for every k
        return [[(ratio, keep) for ratio in _RATIOS] for keep in _KEEP_PERCENTS]

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        ranges = () if question.selection is None else question.selection.ranges
        ratio, keep = effort
        return partial(
            self._search, question.vector, ranges, k=k, distance_ratio=ratio, keep_percent=keep
        )

    def found(self, result: Any) -> I64:
        return result

    def described(self, effort: Effort) -> str:
        return f"T {effort[0]:g}, H {effort[1]:g} %, R {REFINE_FACTOR}"

    def _search(
        self,
        vector: F32,
        ranges: Sequence[Range],
        *,
        k: int,
        distance_ratio: float,
        keep_percent: float,
    ) -> I64:
        passing = self._passing(ranges)
        found, distances = [], []
        for number in self._visited(vector, passing, k=k, distance_ratio=distance_ratio):
            begin, end = self._begins[number : number + 2]
            rows = np.arange(end - begin) if passing is None else np.flatnonzero(passing[begin:end])
            rows = self._pruned(self._partitions[number], vector, rows, k, keep_percent)
            rows = self._order[begin + rows]
            gaps = self._vectors[rows] - vector
            found.append(rows)
            distances.append(np.einsum("nd,nd->n", gaps, gaps))
        every, squares = np.concatenate(found), np.concatenate(distances)
        return np.asarray(every[np.argsort(squares, kind="stable")[:k]])

    def _passing(self, ranges: Sequence[Range]) -> NDArray[np.bool_] | None:
        """Look up which cells may pass, then check the values of the rows in them."""
        if not ranges:
            return None
        passing = np.ones(len(self._order), dtype=np.bool_)
        cells = np.arange(ATTRIBUTE_CELLS) / ATTRIBUTE_CELLS
        for span in ranges:
            table = (cells + 1 / ATTRIBUTE_CELLS > span.low) & (cells < span.high)
            passing &= table[self._cells[span.attribute]]
        rows = np.flatnonzero(passing)
        for span in ranges:
            values = self._values[span.attribute][rows]
            passing[rows] &= (values >= span.low) & (values < span.high)
        return passing

    def _visited(
        self, vector: F32, passing: NDArray[np.bool_] | None, *, k: int, distance_ratio: float
    ) -> list[int]:
        """Return the partitions near enough, and more while they hold too few rows that pass."""
        distances = np.linalg.norm(self._centroids - vector, axis=1)
        near = distance_ratio * distances.min()
        visited, rows = [], 0
        for number in np.argsort(distances).tolist():
            if distances[number] > near and rows >= REFINE_FACTOR * k:
                break
            begin, end = self._begins[number : number + 2]
            rows += int(end - begin if passing is None else passing[begin:end].sum())
            visited.append(number)
        return visited

    @staticmethod
    def _pruned(partition: Partition, vector: F32, rows: I64, k: int, keep_percent: float) -> I64:
        """Keep rows by the Hamming distance of signs, then by lower bounds."""
        best = REFINE_FACTOR * k
        keep = max(best, int(len(rows) * keep_percent / 100))
        if keep < len(rows):
            signs = np.packbits((vector - partition.mean) @ partition.basis > 0)
            differing = np.bitwise_count(partition.signs[rows] ^ signs).sum(axis=1, dtype=np.uint16)
            rows = rows[np.argpartition(differing, keep - 1)[:keep]]
        if best < len(rows):
            bounds = lower_bounds(partition, vector, rows)
            rows = rows[np.argpartition(bounds, best - 1)[:best]]
        return rows


def fill(points: Points, folder: Path) -> None:
    """Partition, train and encode."""
    faiss.omp_set_num_threads(1)
    rows, dimension = points.vectors.shape
    count = max(1, round(rows / PARTITION_ROWS))
    means = faiss.Kmeans(dimension, count, seed=_SEED)
    means.train(points.vectors)
    home = means.index.search(points.vectors, 1)[1][:, 0]
    order = np.argsort(home, kind="stable")
    begins = np.searchsorted(home[order], np.arange(count + 1))
    columns: dict[str, NDArray[Any]] = {
        "order": order,
        "begins": begins,
        "centroids": means.centroids,
    }
    for number in range(count):
        part = encoded(points.vectors[order[begins[number] : begins[number + 1]]])
        columns |= {f"{name}{number}": getattr(part, name) for name in _COLUMNS}
    np.savez(folder / "paper.npz", **columns)


MAKER: Final = Maker("paper-numpy", "numpy", fill, Paper)
