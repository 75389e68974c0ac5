"""Clusters by k-means on a sample, and balanced groups of neighbouring clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from squash.arrays import F32, I64
from squash.quantize.transforms import principal_spread

_CHUNK_ROWS = 8_192
# Scores of rows against all centres held at once: 2 MiB, so that they stay in cache.
_SCORES = 1 << 19
_FLAT_CLUSTERS_MAX = 4_096
# Rows of one product: always so many, a multiple of what any kernel takes at once. See `_products`.
_BLOCK_ROWS_MIN = 64
_BLOCK_ROWS_MAX = 1_024
_GROUP_BLOCK_ROWS = 128
# After so many passes against all centres, a row hardly ever moves but to one of the centres
# nearest to its own; the others are not looked at any more.
_WHOLE_PASSES = 2
_NEAR_CENTERS = 64
_GROUPS_SEARCHED = 6

Tick = Callable[[int, int], None]


def kmeans(
    sample: F32, *, clusters: int, seed: int, iterations: int = 10, tick: Tick | None = None
) -> F32:
    """Cluster a sample.

    Up to 4,096 clusters are found by Lloyd's algorithm; more of them in two levels, so that the
    work grows as n·sqrt(c) rather than n·c. From the third pass on, a row is compared with the 64
    centres nearest to its own. Clusters that run empty are moved beside the fullest.

    Parameters
    ----------
    sample:
        float32 [s, d], finite.
    clusters:
        c, at most s.
    seed:
        Decides everything that is left to chance.
    iterations:
        Passes of Lloyd's algorithm.
    tick:
        Called with (passes done, passes in all).

    Returns
    -------
    float32 [c, d]

    """
    generator = np.random.Generator(np.random.Philox(seed))
    if clusters <= _FLAT_CLUSTERS_MAX:
        return _lloyd(sample, clusters, generator, iterations, tick)
    groups = int(np.ceil(np.sqrt(clusters)))
    coarse = _lloyd(sample, groups, generator, iterations, None)
    member = Assigner(coarse).assign(sample)
    order = np.argsort(member, kind="stable")
    begins = np.searchsorted(member[order], np.arange(groups + 1))
    shares = _shares(np.diff(begins), clusters)
    parts = []
    for group in range(groups):
        rows = order[begins[group] : begins[group + 1]]
        if shares[group]:
            parts.append(_lloyd(sample[rows], int(shares[group]), generator, iterations, None))
        if tick is not None:
            tick(group + 1, groups)
    return np.concatenate(parts)


class Assigner:
    """Finds each row's nearest centre.

    Parameters
    ----------
    centers:
        float32 [c, d].

    Notes
    -----
    Beyond 4,096 centres they are grouped, and a row is compared with the centres of its six
    nearest groups alone. A row's answer does not depend on the rows that are asked for with it.

    """

    def __init__(self, centers: F32) -> None:
        self._centers = centers
        self._half_squares = 0.5 * np.einsum("ij,ij->i", centers, centers)
        self._groups: list[I64] = []
        if len(centers) > _FLAT_CLUSTERS_MAX:
            weights = np.ones(len(centers), dtype=np.int64)
            size = int(np.ceil(np.sqrt(len(centers))))
            group = group_clusters(centers, weights, rows_max=size)
            self._groups = [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]
            means = np.stack([centers[g].mean(axis=0) for g in self._groups])
            self._coarse = means.astype(np.float32)

    def assign(self, rows: F32) -> I64:
        """Return the nearest centre of each row of float32 [n, d], as int64 [n]."""
        out = np.empty(len(rows), dtype=np.int64)
        size = _CHUNK_ROWS if self._groups else _block_rows(len(self._centers))
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            nearest = self._among_groups(part) if self._groups else self._among_all(part)
            out[start : start + len(part)] = nearest
        return out

    def _among_all(self, part: F32) -> I64:
        # argmin |x - c|^2 = argmax <x, c> - |c|^2 / 2
        scores = _products(part, self._centers, block=_block_rows(len(self._centers)))
        scores -= self._half_squares
        return np.asarray(np.argmax(scores, axis=1))

    def _among_groups(self, part: F32) -> I64:
        coarse = _products(part, self._coarse, block=_GROUP_BLOCK_ROWS)
        coarse -= 0.5 * np.einsum("ij,ij->i", self._coarse, self._coarse)
        tried = min(_GROUPS_SEARCHED, len(self._groups))
        near = np.argpartition(-coarse, tried - 1, axis=1)[:, :tried]
        best = np.full(len(part), -np.inf, dtype=np.float32)
        nearest = np.zeros(len(part), dtype=np.int64)
        for group, members in enumerate(self._groups):
            rows = np.flatnonzero((near == group).any(axis=1))
            if not len(rows):
                continue
            scores = _products(part[rows], self._centers[members], block=_GROUP_BLOCK_ROWS)
            scores -= self._half_squares[members]
            column = np.argmax(scores, axis=1)
            value = scores[np.arange(len(rows)), column]
            better = value > best[rows]
            best[rows[better]] = value[better]
            nearest[rows[better]] = members[column[better]]
        return nearest


def group_clusters(centers: F32, rows: I64, *, rows_max: int) -> I64:
    """Group neighbouring clusters so that no group has more than `rows_max` rows.

    Recursive bisection: a group that is too large is cut in two halves of about equal rows, across
    the direction in which its centres spread most.

    Parameters
    ----------
    centers:
        float32 [c, d].
    rows:
        int64 [c], each cluster's rows.
    rows_max:
        The cap. A single cluster above it stays a group of its own: cut it by `split_rows`.

    Returns
    -------
    int64 [c], the group of each cluster, numbered from 0.

    """
    group = np.zeros(len(centers), dtype=np.int64)
    pending = [np.arange(len(centers))]
    done = 0
    while pending:
        members = pending.pop()
        total = int(rows[members].sum())
        if total <= rows_max or len(members) == 1:
            group[members] = done
            done += 1
            continue
        along = principal_spread(centers[members], np.maximum(rows[members], 1).astype(np.float64))
        order = members[np.argsort(along, kind="stable")]
        # Cut where the rows are halved to a whole number of final groups, so that sizes stay even.
        parts = -(-total // rows_max)
        share = (parts // 2) / parts
        cut = int(np.searchsorted(np.cumsum(rows[order]), share * total)) + 1
        cut = min(max(cut, 1), len(order) - 1)
        pending.extend((order[cut:], order[:cut]))
    return group


def split_rows(vectors: F32, *, rows_max: int) -> I64:
    """Cut one crowded cluster into parts of at most `rows_max` rows, near rows together.

    Works for any rows, even all alike. Returns int64 [n], the part of each row.
    """
    weights = np.ones(len(vectors), dtype=np.int64)
    return group_clusters(vectors, weights, rows_max=rows_max)


def _block_rows(columns: int) -> int:
    """Return the rows of one product with so many columns, so that it stays in cache."""
    fitting = _SCORES // columns // _BLOCK_ROWS_MIN * _BLOCK_ROWS_MIN
    return min(max(fitting, _BLOCK_ROWS_MIN), _BLOCK_ROWS_MAX)


def _products(rows: F32, columns: F32, *, block: int) -> F32:
    """Return float32 [n, c], the products of float32 [n, d] and [c, d].

    BLAS rounds a row's products by the shape it is asked for. So it is always asked for `block`
    rows, the last ones filled up with zeros: then a row has the same products whatever rows stand
    around it, and a build the same clusters however its rows were dealt out.
    """
    whole = -(-len(rows) // block) * block
    out = np.empty((whole, len(columns)), dtype=np.float32)
    across = columns.T
    for start in range(0, whole, block):
        part = rows[start : start + block]
        if len(part) < block:
            filled = np.zeros((block, rows.shape[1]), dtype=np.float32)
            filled[: len(part)] = part
            part = filled
        np.matmul(part, across, out=out[start : start + block])
    return out[: len(rows)]


def _lloyd(
    sample: F32, clusters: int, generator: np.random.Generator, iterations: int, tick: Tick | None
) -> F32:
    start = generator.choice(len(sample), size=clusters, replace=False)
    centers = sample[np.sort(start)].copy()
    member: I64 = np.empty(0, dtype=np.int64)
    whole = _WHOLE_PASSES if clusters > 2 * _NEAR_CENTERS else iterations
    for iteration in range(iterations):
        if iteration < whole:
            member = Assigner(centers).assign(sample)
        else:
            if iteration == whole:
                # Rows of one cluster lie side by side from here on, but for those that move.
                order = np.argsort(member, kind="stable")
                sample, member = sample[order], member[order]
            member = _assign_near(sample, member, centers)
        centers = _means(sample, member, centers, generator)
        if tick is not None:
            tick(iteration + 1, iterations)
    return centers


def _assign_near(sample: F32, member: I64, centers: F32) -> I64:
    """Return the nearest centre of each row among those nearest to the centre it has."""
    half_squares = 0.5 * np.einsum("ij,ij->i", centers, centers)
    nearest = np.empty_like(member)
    order, begins = _by_cluster(member, len(centers))
    for cluster in np.flatnonzero(np.diff(begins)).tolist():
        scores = centers @ centers[cluster]
        scores -= half_squares
        near = np.argpartition(scores, -_NEAR_CENTERS)[-_NEAR_CENTERS:]
        rows = order[begins[cluster] : begins[cluster + 1]]
        scores = sample.take(rows, axis=0) @ centers[near].T
        scores -= half_squares[near]
        nearest[rows] = near[np.argmax(scores, axis=1)]
    return nearest


def _means(sample: F32, member: I64, centers: F32, generator: np.random.Generator) -> F32:
    order, begins = _by_cluster(member, len(centers))
    counts = np.diff(begins)
    moved = centers.copy()
    for cluster in np.flatnonzero(counts).tolist():
        rows = order[begins[cluster] : begins[cluster + 1]]
        moved[cluster] = sample.take(rows, axis=0).mean(axis=0, dtype=np.float64)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        # An empty cluster takes a row of one of the fullest: that is where rows are crowded.
        crowded = np.argsort(-counts, kind="stable")[: len(empty)]
        crowded = crowded[counts[crowded] > 0]
        sources = np.resize(crowded, len(empty))
        for cluster, source in zip(empty.tolist(), sources.tolist(), strict=True):
            at = int(begins[source]) + int(generator.integers(counts[source]))
            moved[cluster] = sample[order[at]]
    return moved


def _by_cluster(member: I64, clusters: int) -> tuple[I64, I64]:
    """Return row numbers by cluster, int64 [n], and where each begins, int64 [c + 1]."""
    begins = np.zeros(clusters + 1, dtype=np.int64)
    np.cumsum(np.bincount(member, minlength=clusters), out=begins[1:])
    return np.argsort(member, kind="stable"), begins


def _shares(rows: I64, clusters: int) -> I64:
    """Share out clusters among groups by their rows: at least one where there is a row."""
    exact = rows * (clusters / max(int(rows.sum()), 1))
    shares = np.minimum(np.maximum(np.floor(exact), rows > 0), rows).astype(np.int64)
    for group in np.argsort(-(exact - shares), kind="stable"):
        if int(shares.sum()) >= clusters:
            break
        if shares[group] < rows[group]:
            shares[group] += 1
    return np.asarray(shares)
