"""What is asked: queries of a data set with filters that differ from query to query.

Every row has two attributes `u` and `v`, each a permutation of 0, 1/n, 2/n, .. that has nothing to
do with the vectors. Half of the filters are a range of `u`, half a range of `u` and one of `v`,
drawn so that the stated share of the rows passes in expectation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from judging import F64, KS, Points, Question, Range, Selection, scaled, selection, worst_distances

UNIFORMS: Final = ("u", "v")
SHARES: Final = (1.0, 0.1, 0.01, 0.001)
RANK_BOUNDS: Final = (1, 1_000, 10_000, 50_000, 150_000, 1_000_000)
_SEED: Final = 11


def uniforms(rows: int) -> dict[str, NDArray[np.float64]]:
    """Return the columns `u` and `v`, float64 [n]."""
    return {
        name: np.random.default_rng((_SEED, number)).permutation(rows) / rows
        for number, name in enumerate(UNIFORMS)
    }


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions with what their true answers are: float64 [q, 2] for k of 10 and of 100."""

    questions: Sequence[Question]
    worst: F64

    def first(self, count: int) -> Asked:
        """Return the first few."""
        return Asked(self.questions[:count], self.worst[:count])

    def limits(self, k: int) -> F64:
        """Return float64 [q], the squared distances of the k-th true answers."""
        return self.worst[:, KS.index(k)]


@dataclass(frozen=True, slots=True)
class Workload:
    """A data set in memory, and what to ask of it; true answers are kept in `folder`."""

    data: Dataset
    points: Points
    measured: NDArray[np.int64]
    tuning: NDArray[np.int64]
    folder: Path

    @classmethod
    def of(cls, data: Dataset, *, queries: int, tuning: int, folder: Path) -> Workload:
        """Spread the measured queries over all, and the tuning ones over the rest."""
        every = len(data.queries)
        measured = np.linspace(0, every - 1, min(queries, every // 2)).astype(np.int64)
        others = np.setdiff1d(np.arange(every), measured)
        chosen = np.linspace(0, len(others) - 1, min(tuning, len(others))).astype(np.int64)
        return cls(data, Points.of(data.vectors, data.metric), measured, others[chosen], folder)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.points.vectors)

    def independent(self, share: float, *, tuning: bool = False) -> Asked:
        """Ask with filters that have nothing to do with the vectors; all rows pass at 1."""
        numbers = self.tuning if tuning else self.measured
        if share == 1.0:
            return self._asked(numbers, [None] * len(numbers))
        columns = uniforms(self.rows)
        generator = np.random.default_rng((_SEED, int(1e6 * share), tuning))
        return self._asked(
            numbers,
            [
                _random_ranges(columns, share, generator, attributes=1 + place % 2)
                for place in range(len(numbers))
            ],
        )

    def correlated(self) -> dict[str, Asked]:
        """Ask each query by the group of its nearest row, by the middle one, by the farthest."""
        known = grouping(self.data)
        large = np.bincount(known.groups, minlength=len(known.filters)) >= min(KS)
        chosen: dict[str, list[Selection | None]] = {
            "with the query": [],
            "half-way": [],
            "against the query": [],
        }
        made: dict[int, Selection] = {}
        for vector in scaled(self.data.queries[self.measured], self.data.metric):
            nearest = np.full(len(known.filters), np.inf, dtype=np.float32)
            distances = self.points.squares - 2 * (self.points.vectors @ vector)
            np.minimum.at(nearest, known.groups, distances)
            order = np.argsort(nearest, kind="stable")
            order = order[large[order]]
            places = {
                "with the query": 0,
                "half-way": len(order) // 2,
                "against the query": len(order) - 1,
            }
            for title, place in places.items():
                group = int(order[place])
                if group not in made:
                    title_ = f"{known.attribute} {group}"
                    mask = known.groups == group
                    made[group] = selection(title_, known.filters[group], (), mask)
                chosen[title].append(made[group])
        return {title: self._asked(self.measured, some) for title, some in chosen.items()}

    def _asked(self, numbers: NDArray[np.int64], some: Sequence[Selection | None]) -> Asked:
        raw = np.array(self.data.queries[numbers], dtype=np.float32)
        vectors = scaled(raw, self.data.metric)
        questions = [Question(r, v, s) for r, v, s in zip(raw, vectors, some, strict=True)]
        return Asked(questions, self._worst(questions))

    def _worst(self, questions: Sequence[Question]) -> F64:
        """Find the true answers, or take them from the cache."""
        name = hashlib.sha256(repr(self.points.vectors.shape).encode())
        name.update(self.points.vectors[:: max(1, self.rows // 64)].tobytes())
        for question in questions:
            name.update(question.vector.tobytes())
            name.update(b"" if question.selection is None else question.selection.bits.tobytes())
        path = self.folder / f"truth-{name.hexdigest()[:24]}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(path, worst_distances(self.points, questions))
        return np.asarray(np.load(path))


def _random_ranges(
    columns: Mapping[str, NDArray[np.float64]],
    share: float,
    generator: np.random.Generator,
    *,
    attributes: int,
) -> Selection:
    """Draw ranges of one or both attributes that a share of the rows passes in expectation."""
    width = share ** (1 / attributes)
    ranges = []
    mask = np.ones(len(columns[UNIFORMS[0]]), dtype=np.bool_)
    for name in UNIFORMS[:attributes]:
        low = float(generator.uniform(0, 1 - width))
        ranges.append(Range(name, low, low + width))
        mask &= (columns[name] >= low) & (columns[name] < low + width)
    condition = {span.attribute: {"$gte": span.low, "$lt": span.high} for span in ranges}
    return selection(f"{100 * share:g} %", condition, ranges, mask)


@dataclass(frozen=True, slots=True)
class Grouping:
    """An attribute that has to do with the vectors: which group each row is in, and its filter."""

    attribute: str
    groups: NDArray[np.int64]
    filters: Sequence[dict[str, object]]


def grouping(data: Dataset) -> Grouping:
    """Return a data set's telling attribute."""
    if data.name == "glove":
        bounds = list(pairwise(RANK_BOUNDS))
        groups = np.searchsorted(RANK_BOUNDS, data.attributes["rank"], side="right") - 1
        return Grouping(
            "rank", groups, [{"rank": {"$gte": low, "$lt": high}} for low, high in bounds]
        )
    name = {"fashion": "label", "sift": "image", "text": "section"}[data.name]
    values, groups = np.unique(data.attributes[name], return_inverse=True)
    return Grouping(name, groups, [{name: value} for value in values.tolist()])
