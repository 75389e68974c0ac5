"""How well a ranking serves somebody who knows which documents answer the question."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TOP: Final = 10
DEEP: Final = 100

Grades = Mapping[Any, int]
"""By document, how well it answers a question: from 1 upwards. Who is not there does not."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over questions."""

    ndcg: float
    """Of the first 10."""
    precision: float
    """Mean average precision, of the first 100."""
    recall: float
    """Of the first 100."""


def gain(grade: int) -> float:
    """Return what a document of a grade is worth: each grade about twice the one below."""
    return float(2**grade - 1)


def ndcg(ranked: Sequence[Hashable], grades: Grades, *, k: int = TOP) -> float:
    """Return the normalised discounted cumulative gain of the first k.

    A gain at place i, from 1, counts 1 / log2(i + 1); the sum is divided by that of the best order.
    """
    found = [gain(grades.get(document, 0)) for document in ranked[:k]]
    best = sorted((gain(grade) for grade in grades.values()), reverse=True)[:k]
    return _discounted(found) / _discounted(best)


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def average_precision(ranked: Sequence[Hashable], grades: Grades, *, k: int = DEEP) -> float:
    """Return the mean, over all that is relevant, of the precision at its place; 0 if not found."""
    found, total = 0, 0.0
    for place, document in enumerate(ranked[:k], start=1):
        if grades.get(document, 0) > 0:
            found += 1
            total += found / place
    return total / len(grades)


def recall(ranked: Sequence[Hashable], grades: Grades, *, k: int = DEEP) -> float:
    """Return the share of all that is relevant that stands among the first k."""
    return sum(document in grades for document in ranked[:k]) / len(grades)


def scores(
    tops: Sequence[Sequence[Hashable]],
    deeps: Sequence[Sequence[Hashable]],
    judgments: Sequence[Grades],
) -> Scores:
    """Return the means over questions.

    Parameters
    ----------
    tops, deeps:
        What each question's answers of 10 and of 100 hold, best first: asking for more may
        change the first of an approximate search.
    judgments:
        What is relevant to each; a question to which nothing is has no place here.

    """
    if not len(tops) == len(deeps) == len(judgments) > 0 or not all(judgments):
        raise ValueError("each question has a ranking, and something relevant to it")
    if any(len(set(ranked)) < len(ranked) for ranked in (*tops, *deeps)):
        raise ValueError("a ranking names a document twice")
    questions = len(judgments)
    pairs = list(zip(deeps, judgments, strict=True))
    return Scores(
        ndcg=sum(map(ndcg, tops, judgments)) / questions,
        precision=sum(average_precision(*pair) for pair in pairs) / questions,
        recall=sum(recall(*pair) for pair in pairs) / questions,
    )
