"""Faiss: IVF-PQ fast scan and IVF-RaBitQ fast scan with refinement, IVF-SQ8, IVF-Flat and HNSW."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from contest import Contestant, Effort, Ladder, lists_of, steps
from judging import I64, Points, Question
from storing import Built, Maker

HNSW_LINKS: Final = 32
_EFFORT_MAX: Final = 4_096
_GROWTH: Final = 1.06
_FILE: Final = "index.faiss"


class FaissPeer(Contestant):
    """A faiss index. A filter is an `IDSelectorBitmap` over bits that it is handed."""

    batches = True

    def __init__(self, title: str, points: Points, built: Built, index: Any) -> None:
        self.title = title
        self.cost = built.cost(built.stored_bytes / len(points.vectors))
        self._index = index

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        vector, index = question.vector[None, :], self._index
        selector = None
        if question.selection is not None:
            selector = faiss.IDSelectorBitmap(question.selection.bits)
        parameters = self.parameters(effort, selector)
        return lambda: index.search(vector, k, params=parameters)

    def batch(self, questions: Sequence[Question], k: int, effort: Effort) -> Callable[[], Any]:
        vectors, index = np.stack([question.vector for question in questions]), self._index
        parameters = self.parameters(effort, None)
        return lambda: index.search(vectors, k, params=parameters)

    def found(self, result: Any) -> I64:
        return self.found_many(result)[0]

    def found_many(self, result: Any) -> Sequence[I64]:
        return [rows[rows >= 0] for rows in result[1]]

    def parameters(self, effort: Effort, selector: Any) -> Any:
        """Return faiss's search parameters."""
        raise NotImplementedError


class Refined(FaissPeer):
    """Coarse codes in lists, of which the best are compared by full vectors."""

    def __init__(self, title: str, points: Points, built: Built, base: Any) -> None:
        dimension = points.vectors.shape[1]
        flat = faiss.IndexFlatL2(dimension)
        flat.add(points.vectors)
        super().__init__(title, points, built, faiss.IndexRefine(base, flat))
        self.cost = built.cost(built.stored_bytes / len(points.vectors) + 4 * dimension)
        # Faiss refers to both and owns neither.
        self._kept = base, flat
        self._lists = faiss.extract_index_ivf(base).nlist

    def ladders(self, k: int) -> Sequence[Ladder]:
        factors = (1, 2, 4, 8, 16, 32) if k <= 10 else (1, 2, 4, 8)
        lists = steps(1, self._lists, _GROWTH)
        return [[(nprobe, factor) for nprobe in lists] for factor in factors]

    def parameters(self, effort: Effort, selector: Any) -> Any:
        nprobe, factor = effort
        inner = self.inner_parameters(int(nprobe), selector)
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)

    def inner_parameters(self, nprobe: int, selector: Any) -> Any:
        """Return the parameters of the coarse index."""
        return faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)

    def described(self, effort: Effort) -> str:
        return f"nprobe {effort[0]:.0f}, k_factor {effort[1]:g}"


class RefinedRabitq(Refined):
    """The same over RaBitQ codes of rotated vectors: without rotation they rank far worse."""

    def inner_parameters(self, nprobe: int, selector: Any) -> Any:
        within = faiss.IVFRaBitQSearchParameters(nprobe=nprobe, sel=selector)
        return faiss.SearchParametersPreTransform(index_params=within)


class Listed(FaissPeer):
    """Codes in lists, ranked by themselves."""

    def __init__(self, title: str, points: Points, built: Built, index: Any) -> None:
        super().__init__(title, points, built, index)
        self._lists = index.nlist

    def ladders(self, k: int) -> Sequence[Ladder]:  # noqa: ARG002 - the same for every k
        return [[(nprobe,) for nprobe in steps(1, self._lists, _GROWTH)]]

    def parameters(self, effort: Effort, selector: Any) -> Any:
        return faiss.SearchParametersIVF(nprobe=int(effort[0]), sel=selector)

    def described(self, effort: Effort) -> str:
        return f"nprobe {effort[0]:.0f}"


class Graph(FaissPeer):
    """HNSW."""

    def ladders(self, k: int) -> Sequence[Ladder]:
        return [[(ef,) for ef in steps(k, _EFFORT_MAX, _GROWTH)]]

    def parameters(self, effort: Effort, selector: Any) -> Any:
        return faiss.SearchParametersHNSW(efSearch=int(effort[0]), sel=selector)

    def described(self, effort: Effort) -> str:
        return f"efSearch {effort[0]:.0f}"


def _fill(points: Points, folder: Path, *, description: str) -> None:
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(points.vectors.shape[1], description)
    index.train(points.vectors)
    index.add(points.vectors)
    faiss.write_index(index, str(folder / _FILE))


def _open(points: Points, built: Built, *, kind: type[FaissPeer], title: str) -> Contestant:
    faiss.omp_set_num_threads(1)
    return kind(title, points, built, faiss.read_index(str(built.folder / _FILE)))


def _maker(description: str, kind: type[FaissPeer], suffix: str = "") -> Maker:
    return Maker(
        description.replace(",", "-"),
        "faiss-cpu",
        partial(_fill, description=description),
        partial(_open, kind=kind, title=f"faiss {description}{suffix}"),
    )


def makers(rows: int, dimension: int) -> dict[str, Maker]:
    """Return the faiss indexes to compare with, by short names."""
    lists = f"IVF{lists_of(rows)}"
    return {
        "pq": _maker(f"{lists},PQ{dimension // 2}x4fs", Refined, ",RFlat"),
        "rabitq": _maker(f"RR{dimension},{lists},RaBitQfs", RefinedRabitq, ",RFlat"),
        "sq8": _maker(f"{lists},SQ8", Listed),
        "hnsw": _maker(f"HNSW{HNSW_LINKS}", Graph),
    }
