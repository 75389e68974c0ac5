"""Faiss, asked the same: indexes whose effort is tuned on other queries until recall is met."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import faiss
import numpy as np

from judging import I64, K, Points, Question, Selection, recall

HNSW_LINKS: Final = 32
HNSW_TITLE: Final = f"faiss HNSW{HNSW_LINKS}"
EFFORT_MAX: Final = 4_096


@dataclass(slots=True)
class Peer:
    """An index and its effort: nprobe or efSearch. Selectors are made once, outside the timing."""

    title: str
    index: Any
    efforts: Sequence[int]
    parameters: Callable[[int, Any], Any]
    build_cpu_s: float
    selectors: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def asker(self, effort: int, selection: Selection) -> Callable[[Question], I64]:
        """Return what answers the questions that share a selection."""
        parameters = self.parameters(effort, self._selector(selection))

        def ask(question: Question) -> I64:
            found = self.index.search(question.vector[None, :], K, params=parameters)[1][0]
            return np.asarray(found[found >= 0])

        return ask

    def tuned(
        self, points: Points, questions: Sequence[Question], tenths: Any, target: float
    ) -> int:
        """Return the least effort that meets a recall, or the greatest there is."""
        low, high = 0, len(self.efforts) - 1
        while low < high:
            middle = (low + high) // 2
            ask = self.asker(self.efforts[middle], questions[0].selection)
            got = [
                recall(points, question, ask(question), float(tenth))
                for question, tenth in zip(questions, tenths, strict=True)
            ]
            low, high = (low, middle) if np.mean(got) >= target else (middle + 1, high)
        return self.efforts[low]

    def _selector(self, selection: Selection) -> Any:
        if selection.mask is None:
            return None
        if selection.title not in self.selectors:
            bits = np.packbits(selection.mask, bitorder="little")
            # The selector borrows the array: both are kept.
            self.selectors[selection.title] = faiss.IDSelectorBitmap(bits), bits
        return self.selectors[selection.title][0]


def ivf_flat(points: Points) -> Peer:
    """Build IVF-Flat with about sqrt(n) lists."""
    lists = round(len(points.vectors) ** 0.5)
    start = time.process_time()
    dimension = points.vectors.shape[1]
    quantizer = faiss.IndexFlatL2(dimension)
    index = faiss.IndexIVFFlat(quantizer, dimension, lists)
    # The index only refers to its quantizer.
    index.own_fields = True
    quantizer.this.disown()
    index.train(points.vectors)
    index.add(points.vectors)
    return Peer(
        f"faiss IVF{lists},Flat",
        index,
        _ladder(1, lists),
        lambda effort, sel: faiss.SearchParametersIVF(nprobe=effort, sel=sel),
        time.process_time() - start,
    )


def hnsw(points: Points) -> Peer:
    """Build HNSW with 32 links."""
    start = time.process_time()
    index = faiss.IndexHNSWFlat(points.vectors.shape[1], HNSW_LINKS)
    index.add(points.vectors)
    return Peer(
        HNSW_TITLE,
        index,
        _ladder(K, EFFORT_MAX),
        lambda effort, sel: faiss.SearchParametersHNSW(efSearch=effort, sel=sel),
        time.process_time() - start,
    )


def _ladder(first: int, last: int) -> list[int]:
    """Return efforts from first to last, each about a sixth more than the one before."""
    steps = [first]
    while steps[-1] < last:
        steps.append(min(last, max(steps[-1] + 1, round(steps[-1] * 1.17))))
    return steps
