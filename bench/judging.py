"""Brute force as the judge: what the true neighbours are, and how many of them were found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

K: Final = 10
_WARM_UP: Final = 5
_TIE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter and the rows that it admits: int64 ascending, and bool [n]; None where all are."""

    title: str
    filter: Mapping[str, Any] | None
    rows: I64 | None
    mask: NDArray[np.bool_] | None


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

    def squared_distances(self, vector: F32, rows: I64 | None) -> F32:
        """Return float32 [m], but for |vector|², which moves no rank."""
        if rows is None:
            return np.asarray(self.squares - 2 * (self.vectors @ vector))
        return np.asarray(self.squares[rows] - 2 * (self.vectors[rows] @ vector))

    def precise(self, vector: F32, rows: I64) -> F64:
        """Return float64 [m], the squared distances of a few rows, by differences."""
        gaps = self.vectors[rows].astype(np.float64) - vector
        return np.asarray(np.einsum("nd,nd->n", gaps, gaps))


@dataclass(frozen=True, slots=True)
class Question:
    """A query as Squash and as the others get it, and which rows may answer."""

    raw: F32
    vector: F32
    selection: Selection


@dataclass(frozen=True, slots=True)
class Outcome:
    """Mean recall@10 and the median CPU time of a query."""

    recall: float
    cpu_ms: float


def scaled(vectors: F32, metric: str) -> F32:
    """Return a copy in memory; under cosine of length one."""
    rows = np.array(vectors, dtype=np.float32)
    if metric == "cosine":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def brute_force(points: Points, vector: F32, rows: I64 | None, k: int = K) -> I64:
    """Return the rows of the k smallest distances among `rows`, nearest first."""
    distances = points.squared_distances(vector, rows)
    k = min(k, len(distances))
    best = np.argpartition(distances, k - 1)[:k]
    best = best[np.argsort(distances[best], kind="stable")]
    return best if rows is None else rows[best]


def tenth_distances(points: Points, questions: Sequence[Question]) -> F64:
    """Return float64 [q], the distance within which a question's answers must lie.

    Float32 decides which rows are candidates, float64 which distance is the tenth.
    """
    worst = []
    for question in questions:
        rows = brute_force(points, question.vector, question.selection.rows, 4 * K)
        worst.append(np.sort(points.precise(question.vector, rows))[:K][-1])
    return np.array(worst)


def recall(points: Points, question: Question, found: I64, tenth: float) -> float:
    """Return the share of true neighbours found; any row as near as the tenth is one.

    A row that the filter forbids fails the whole run.
    """
    mask = question.selection.mask
    if mask is not None and not mask[found].all():
        raise RuntimeError(f"an answer to {question.selection.title} does not pass the filter")
    wanted = K if question.selection.rows is None else min(K, len(question.selection.rows))
    near = points.precise(question.vector, np.unique(found)) <= tenth * (1 + _TIE) + 1e-9
    return min(int(near.sum()), wanted) / wanted


def measure(
    points: Points,
    questions: Sequence[Question],
    tenths: F64,
    ask: Callable[[Question], I64],
) -> Outcome:
    """Ask every question, and take the CPU time of each; some before go unmeasured."""
    for question in questions[:_WARM_UP]:
        ask(question)
    recalls, cpu_ms = [], []
    for question, tenth in zip(questions, tenths, strict=True):
        start = time.process_time_ns()
        found = ask(question)
        cpu_ms.append((time.process_time_ns() - start) / 1e6)
        recalls.append(recall(points, question, found, float(tenth)))
    return Outcome(float(np.mean(recalls)), float(np.median(cpu_ms)))
