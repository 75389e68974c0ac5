"""The peers, by short names: built once, kept on disk, opened for a contest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import paper
import peers_faiss
import peers_graphs
import peers_stores
from contest import Contestant, Cost, Effort, Ladder
from judging import I64, Points, Question, brute_force
from storing import Maker, build

NAMES: Final = ("pq", "rabitq", "sq8", "hnsw", "hnswlib", "zvec", "lancedb", "paper", "brute")


class BruteForce(Contestant):
    """NumPy over the rows that pass, which it is told."""

    title = "NumPy brute force"

    def __init__(self, points: Points) -> None:
        self._points = points
        self.cost = Cost(0.0, 0.0, 4.0 * points.vectors.shape[1])

    def ladders(self, k: int) -> Sequence[Ladder]:  # noqa: ARG002 - there is only one
        return [[(0,)]]

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:  # noqa: ARG002
        known = question.selection
        rows = None if known is None else known.rows(len(self._points.vectors))
        return partial(brute_force, self._points, question.vector, rows, k)

    def found(self, result: Any) -> I64:
        return result

    def described(self, effort: Effort) -> str:  # noqa: ARG002
        return "all rows"


def makers(rows: int, dimension: int) -> dict[str, Maker]:
    """Return those whose indexes are kept on disk."""
    return {
        **peers_faiss.makers(rows, dimension),
        "hnswlib": peers_graphs.MAKER,
        **peers_stores.MAKERS,
        "paper": paper.MAKER,
    }


def opened(
    points: Points, names: Sequence[str], *, data: str, limit: int | None, folder: Path
) -> list[Contestant]:
    """Build what is not yet in the folder, and open the peers of these names."""
    known = makers(*points.vectors.shape)
    absent = peers_stores.missing(points.vectors.shape[1])
    found: list[Contestant] = []
    for name in names:
        if name in known and name not in absent:
            maker = known[name]
            found.append(maker.open(points, build(maker, data, limit, folder / maker.name)))
        elif name == "brute":
            found.append(BruteForce(points))
    return found
