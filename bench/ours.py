"""Squash as a contestant: its effort is the recall it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import squash
from building import BuildCost, kept
from contest import Contestant, Cost, Effort, Ladder
from judging import I64, Question
from squash.model import IndexStats, Usage

TITLE: Final = "Squash"
# The share missed goes from 0.7 down to 0.0005, an eighth less with every step.
_TARGETS: Final = tuple(1 - 0.7 * 0.88**step for step in range(57))


class Squash(Contestant):
    """An index in a folder; filters are evaluated and keys fetched within the clock."""

    title = TITLE
    filters = True
    batches = True
    batches_filtered = True

    def __init__(
        self, name: str, limit: int | None, folder: Path, *, any_source: bool = False
    ) -> None:
        self.folder, self.built = kept(name, limit, folder, any_source=any_source)
        self._index = squash.connect(str(self.folder)).index(name)
        self.stats: IndexStats = self._index.stats()
        self.cost = _cost(self.built, self.stats)

    def ladders(self, k: int) -> Sequence[Ladder]:  # noqa: ARG002 - the same for every k
        return [[(target,) for target in _TARGETS]]

    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        known = question.selection
        return partial(
            self._index.query,
            question.raw,
            top_k=k,
            filter=None if known is None else known.filter,
            recall_target=effort[0],
            include=(),
        )

    def batch(self, questions: Sequence[Question], k: int, effort: Effort) -> Callable[[], Any]:
        known = [question.selection for question in questions]
        return partial(
            self._index.query_many,
            np.stack([question.raw for question in questions]),
            top_k=k,
            filters=[None if one is None else one.filter for one in known],
            recall_target=effort[0],
            include=(),
        )

    def found(self, result: Any) -> I64:
        return np.array([int(match.key) for match in result.matches], dtype=np.int64)

    def described(self, effort: Effort) -> str:
        return f"recall_target {effort[0]:.4g}"

    def usage(self, question: Question, k: int, effort: Effort) -> Usage:
        """Ask, and return what the answer cost."""
        return self.call(question, k, effort)().usage


def _cost(built: BuildCost, stats: IndexStats) -> Cost:
    seconds = built.import_cpu_s + built.optimize_cpu_s
    return Cost(seconds, built.anonymous_bytes, stats.stored_bytes / stats.rows)
