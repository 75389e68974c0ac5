"""Brute force as the judge: what the true neighbours are, and how many of them were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

KS: Final = (10, 100)
_TIE: Final = 1e-6
_BLOCK_QUERIES: Final = 64


@dataclass(frozen=True, slots=True)
class Range:
    """A condition `low <= attribute < high`."""

    attribute: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter in every form that somebody asks for it, and the rows that pass it.

    `bits` holds a bit a row, the lowest bit of a byte first.
    """

    title: str
    filter: Mapping[str, Any]
    ranges: tuple[Range, ...]
    bits: U8
    admitted: int

    def mask(self, rows: int) -> NDArray[np.bool_]:
        """Return bool [n]."""
        return np.unpackbits(self.bits, count=rows, bitorder="little").view(np.bool_)

    def rows(self, rows: int) -> I64:
        """Return the rows that pass, ascending."""
        return np.flatnonzero(self.mask(rows))

    def passes(self, rows: I64) -> bool:
        """Tell whether all of some rows pass."""
        return bool(((self.bits[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1).all())


def selection(
    title: str, condition: Mapping[str, Any], ranges: Sequence[Range], mask: NDArray[np.bool_]
) -> Selection:
    """Return a filter with the rows that a mask says it admits."""
    bits = np.packbits(mask, bitorder="little")
    return Selection(title, condition, tuple(ranges), bits, int(mask.sum()))


@dataclass(frozen=True, slots=True)
class Points:
    """Rows as everybody but Squash gets them: float32 [n, d], of length one under cosine."""

    vectors: F32
    squares: F32

    @classmethod
    def of(cls, vectors: F32, metric: str) -> Points:
        """Copy vectors into memory and scale them where the metric asks for it."""
        rows = scaled(vectors, metric)
        return cls(rows, np.einsum("nd,nd->n", rows, rows))

    def precise(self, vector: F32, rows: I64) -> F64:
        """Return float64 [m], the squared distances of a few rows, by differences."""
        gaps = self.vectors[rows].astype(np.float64) - vector
        return np.asarray(np.einsum("nd,nd->n", gaps, gaps))


@dataclass(frozen=True, slots=True)
class Question:
    """A query as Squash and as the others get it, and which rows may answer (None: all)."""

    raw: F32
    vector: F32
    selection: Selection | None


def scaled(vectors: F32, metric: str) -> F32:
    """Return a copy in memory; under cosine of length one."""
    rows = np.array(vectors, dtype=np.float32)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows


def brute_force(points: Points, vector: F32, rows: I64 | None, k: int) -> I64:
    """Return the rows of the k smallest distances among `rows`, nearest first."""
    if rows is None:
        distances = points.squares - 2 * (points.vectors @ vector)
    else:
        distances = points.squares[rows] - 2 * (points.vectors[rows] @ vector)
    best = _smallest(distances, k)
    return best if rows is None else rows[best]


def _smallest(distances: F32, k: int) -> I64:
    k = min(k, len(distances))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    best = np.argpartition(distances, k - 1)[:k]
    return best[np.argsort(distances[best], kind="stable")]


def worst_distances(points: Points, questions: Sequence[Question]) -> F64:
    """Return float64 [q, 2], the squared distance within which 10 and 100 answers must lie.

    Float32 decides which rows are candidates, float64 which distance is the last.
    """
    worst = np.empty((len(questions), len(KS)))
    for start in range(0, len(questions), _BLOCK_QUERIES):
        block = questions[start : start + _BLOCK_QUERIES]
        scores = np.stack([question.vector for question in block]) @ points.vectors.T
        for place, (question, score) in enumerate(zip(block, scores, strict=True)):
            known = None if question.selection is None else question.selection.rows(len(score))
            distances = points.squares - 2 * score
            candidates = _smallest(distances if known is None else distances[known], 2 * max(KS))
            candidates = candidates if known is None else known[candidates]
            ordered = np.sort(points.precise(question.vector, candidates))
            worst[start + place] = [ordered[min(k, len(ordered)) - 1] for k in KS]
    return worst


def recall(points: Points, question: Question, found: I64, *, k: int, worst: float) -> float:
    """Return the share of k true neighbours found; any row as near as the k-th is one.

    A row that the filter forbids, or that stands twice in an answer, fails the whole run.
    """
    wanted = k
    if question.selection is not None:
        wanted = min(k, question.selection.admitted)
        if not question.selection.passes(found):
            raise RuntimeError(f"an answer to {question.selection.title} does not pass the filter")
    if len(np.unique(found)) < len(found):
        raise RuntimeError("an answer holds a row twice")
    near = points.precise(question.vector, found) <= worst * (1 + _TIE) + 1e-9
    return min(int(near.sum()), wanted) / wanted
