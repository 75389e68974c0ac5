"""hnswlib: HNSW whose filter is a Python callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import hnswlib
import numpy as np

from contest import Contestant, Effort, Ladder, steps
from judging import I64, Points, Question
from storing import Built, Maker

LINKS: Final = 16
BUILD_EFFORT: Final = 200
_EFFORT_MAX: Final = 4_096
_GROWTH: Final = 1.06
_FILE: Final = "index.hnswlib"
_SEED: Final = 100


class Hnswlib(Contestant):
    """A graph over float32 vectors; the filter looks into bytes made before the clock starts."""

    batches = True

    def __init__(self, points: Points, built: Built) -> None:
        rows, dimension = points.vectors.shape
        self.title = f"hnswlib M{LINKS}"
        self.cost = built.cost(built.stored_bytes / rows)
        self._rows = rows
        self._index = hnswlib.Index(space="l2", dim=dimension)
        self._index.load_index(str(built.folder / _FILE))
        self._index.set_num_threads(1)

    def ladders(self, k: int) -> Sequence[Ladder]:
        return [[(ef,) for ef in steps(k, min(_EFFORT_MAX, self._rows), _GROWTH)]]

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        self._index.set_ef(int(effort[0]))
        ask = partial(self._index.knn_query, question.vector[None, :], num_threads=1)
        if question.selection is None:
            return partial(ask, k=k)
        allowed = question.selection.mask(self._rows).tobytes()
        wanted = min(k, question.selection.admitted)
        return partial(self._fewer, partial(ask, filter=allowed.__getitem__), wanted)

    def batch(self, questions: Sequence[Question], k: int, effort: Effort) -> Callable[[], Any]:
        self._index.set_ef(int(effort[0]))
        vectors = np.stack([question.vector for question in questions])
        return partial(self._index.knn_query, vectors, k=k, num_threads=1)

    def found(self, result: Any) -> I64:
        return self.found_many(result)[0]

    def found_many(self, result: Any) -> Sequence[I64]:
        return [rows.astype(np.int64) for rows in result[0]]

    def described(self, effort: Effort) -> str:
        return f"ef {effort[0]:.0f}"

    @staticmethod
    def _fewer(ask: Callable[..., Any], k: int) -> Any:
        """Ask for k; hnswlib refuses to give fewer than it was asked for, so an answer is empty."""
        try:
            return ask(k=k)
        except RuntimeError:
            return (np.empty((1, 0), dtype=np.uint64),)


def fill(points: Points, folder: Path) -> None:
    """Build the graph on one thread."""
    index = hnswlib.Index(space="l2", dim=points.vectors.shape[1])
    index.init_index(
        max_elements=len(points.vectors), ef_construction=BUILD_EFFORT, M=LINKS, random_seed=_SEED
    )
    index.add_items(points.vectors, num_threads=1)
    index.save_index(str(folder / _FILE))


MAKER: Final = Maker(f"hnswlib-M{LINKS}", "hnswlib", fill, Hnswlib)
