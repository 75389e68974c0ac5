"""What a measured system offers, and how its efforts are tried, chosen and timed.

A *contestant* answers a question with some *effort*, a tuple of its settings. Its efforts lie in
*ladders*, along each of which recall and cost grow. The same code tries Squash and every peer.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from judging import F64, I64, Points, Question, recall
from workload import Asked

Effort = tuple[float, ...]
Ladder = Sequence[Effort]

_WARM_UP: Final = 10
_COARSE_STRIDE: Final = 6
# Recall on the tuning questions tells that on the measured ones to about so much.
_ABOUT: Final = 0.01
# No ladder is climbed beyond this: the rest of it would change no figure.
_RECALL_ENOUGH: Final = 0.9985


@dataclass(frozen=True, slots=True)
class Cost:
    """What an index weighs and what it took to build, on one thread."""

    build_cpu_s: float
    build_anonymous_bytes: float
    bytes_per_row: float
    """All that a query may read, full vectors included."""


class Contestant(ABC):
    """Something that answers questions."""

    title: str
    cost: Cost
    batches: bool = False
    """Whether one call takes many queries."""
    batches_filtered: bool = False
    """Whether one call takes many queries with a filter each."""
    filters: bool = False
    """Whether it evaluates a filter within the clock; else it is handed the rows that pass."""
    questions_max: int | None = None
    """Fewer questions than others get, for what takes long."""
    cost_ms_max: float = 25.0
    """No ladder is climbed beyond this cost of a query."""

    @abstractmethod
    def ladders(self, k: int) -> Sequence[Ladder]:
        """Return the efforts to try for k answers, in each ladder from small to great."""

    @abstractmethod
    def call(self, question: Question, k: int, effort: Effort) -> Callable[[], Any]:
        """Return what asks one question; whatever the contestant gets for free is in it."""

    @abstractmethod
    def found(self, result: Any) -> I64:
        """Return the rows that a call found."""

    def batch(self, questions: Sequence[Question], k: int, effort: Effort) -> Callable[[], Any]:
        """Return what asks many questions at once."""
        raise NotImplementedError

    def found_many(self, result: Any) -> Sequence[I64]:
        """Return the rows that a batch call found for each question."""
        return [self.found(one) for one in result]

    def described(self, effort: Effort) -> str:
        """Return an effort in words."""
        return ", ".join(f"{value:g}" for value in effort)


@dataclass(frozen=True, slots=True)
class Point:
    """What an effort gave: recall, and the mean CPU time of a query; wall quantiles of calls."""

    effort: Effort
    recall: float
    cpu_us: float
    wall_p50_us: float = 0.0
    wall_p99_us: float = 0.0


def try_calls(one: Contestant, points: Points, asked: Asked, *, k: int, effort: Effort) -> Point:
    """Ask one by one; what a contestant gets for free is made before the clock starts.

    Answers are judged when all have been given: the judge's own work would drive what the next
    question needs out of the processor's caches.
    """
    # The last ones: what a contestant remembers of them is long past when they come.
    for question in asked.questions[-_WARM_UP:]:
        one.call(question, k, effort)()
    results, cpu_ns, wall_ns = [], [], []
    for question in asked.questions:
        ask = one.call(question, k, effort)
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        result = ask()
        cpu_ns.append(time.process_time_ns() - cpu)
        wall_ns.append(time.perf_counter_ns() - wall)
        results.append(result)
    recalls = [
        recall(points, question, one.found(result), k=k, worst=worst)
        for question, result, worst in zip(asked.questions, results, asked.limits(k), strict=True)
    ]
    middle, high = np.quantile(wall_ns, (0.5, 0.99))
    return Point(effort, float(np.mean(recalls)), np.mean(cpu_ns) / 1e3, middle / 1e3, high / 1e3)


def try_batch(one: Contestant, points: Points, asked: Asked, *, k: int, effort: Effort) -> Point:
    """Ask all at once; the time is divided by the number of questions."""
    ask = one.batch(asked.questions, k, effort)
    one.batch(asked.questions[-_WARM_UP:], k, effort)()
    cpu = time.process_time_ns()
    result = ask()
    cpu_us = (time.process_time_ns() - cpu) / 1e3 / len(asked.questions)
    found = one.found_many(result)
    recalls = [
        recall(points, question, rows, k=k, worst=worst)
        for question, rows, worst in zip(asked.questions, found, asked.limits(k), strict=True)
    ]
    return Point(effort, float(np.mean(recalls)), cpu_us)


Trial = Callable[..., Point]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a contest: whom to tune on, whom to measure, and how they are asked."""

    points: Points
    tuning: Asked
    measured: Asked
    k: int
    trial: Trial

    def limited(self, questions: int | None) -> Setting:
        """Return the same with at most so many questions."""
        if questions is None:
            return self
        return replace(
            self, tuning=self.tuning.first(questions), measured=self.measured.first(questions)
        )

    def try_tuning(self, one: Contestant, effort: Effort) -> Point:
        """Try an effort on the tuning questions."""
        return self.trial(one, self.points, self.tuning, k=self.k, effort=effort)

    def try_measured(self, one: Contestant, effort: Effort) -> Point:
        """Try an effort on the measured questions."""
        return self.trial(one, self.points, self.measured, k=self.k, effort=effort)


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no cheaper one reaches, by ascending cost and recall."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cpu_us, -point.recall)):
        if not kept or point.recall > kept[-1].recall:
            kept.append(point)
    return kept


def explored(
    one: Contestant, setting: Setting, targets: Sequence[float]
) -> tuple[list[Point], dict[float, Point | None]]:
    """Return the frontier on the measured questions, finest about the targets, and their points.

    The tuning questions say which steps of which ladders lie on the frontier; these are tried on
    the measured ones. Then, for each target, the two cheapest ladders are bisected step by step
    for the least effort that meets it on the measured questions. The cheaper of these two is the
    target's point: the cheapest of all that were tried would be the one least disturbed.
    """
    climbs = [Climb(ladder, _climbed(one, setting, ladder)) for ladder in one.ladders(setting.k)]
    best = frontier([point for climb in climbs for _, point in climb.tried])
    tried = {point.effort: setting.try_measured(one, point.effort) for point in best}
    meeting: dict[float, Point | None] = {}
    for target in targets:
        least = [
            _bisect(one, setting, climb, target, tried=tried)
            for climb in _promising(climbs, target)
        ]
        steps_found = [point for point in least if point is not None]
        meeting[target] = cheapest(steps_found or list(tried.values()), target)
    return frontier(list(tried.values())), meeting


@dataclass(frozen=True, slots=True)
class Climb:
    """A ladder, and what some of its steps gave on the tuning questions."""

    ladder: Ladder
    tried: Sequence[tuple[int, Point]]

    def cost_of(self, target: float) -> float:
        """Return the least cost at which a recall was about met; infinite where it never was."""
        meeting = [point.cpu_us for _, point in self.tried if point.recall >= target - _ABOUT]
        return min(meeting, default=float("inf"))

    def bracket(self, target: float) -> tuple[int, int]:
        """Return a step that surely misses a recall (-1: none) and one that surely meets it."""
        low = max((p for p, point in self.tried if point.recall < target - _ABOUT), default=-1)
        high = min(
            (p for p, point in self.tried if point.recall >= target + _ABOUT),
            default=self.tried[-1][0],
        )
        return min(low, high - 1), high


def _climbed(one: Contestant, setting: Setting, ladder: Ladder) -> list[tuple[int, Point]]:
    """Try every few steps of a ladder on the tuning questions, until there is no use in it."""
    tried: list[tuple[int, Point]] = []
    places = [*range(0, len(ladder), _COARSE_STRIDE)]
    if places[-1] != len(ladder) - 1:
        places.append(len(ladder) - 1)
    for place in places:
        point = setting.try_tuning(one, ladder[place])
        tried.append((place, point))
        flat = len(tried) >= 4 and point.recall - tried[-4][1].recall < 0.001
        if point.recall >= _RECALL_ENOUGH or point.cpu_us > 1e3 * one.cost_ms_max or flat:
            break
    return tried


def _promising(climbs: Sequence[Climb], target: float) -> list[Climb]:
    """Return the two ladders that met a target most cheaply."""
    meeting = [climb for climb in climbs if climb.cost_of(target) < float("inf")]
    return sorted(meeting, key=lambda climb: climb.cost_of(target))[:2]


def _bisect(
    one: Contestant,
    setting: Setting,
    climb: Climb,
    target: float,
    *,
    tried: dict[Effort, Point],
) -> Point | None:
    """Return the least step that meets a target on the measured questions; None if none does."""
    ladder = climb.ladder

    def meets(place: int) -> bool:
        effort = ladder[place]
        if effort not in tried:
            tried[effort] = setting.try_measured(one, effort)
        return tried[effort].recall >= target

    low, high = climb.bracket(target)
    while not meets(high):
        if high == len(ladder) - 1 or tried[ladder[high]].cpu_us > 1e3 * one.cost_ms_max:
            return None
        low, high = high, min(len(ladder) - 1, high + _COARSE_STRIDE)
    while low >= 0 and meets(low):
        low, high = max(-1, low - _COARSE_STRIDE), low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return tried[ladder[high]]


def cheapest(points: Sequence[Point], target: float) -> Point | None:
    """Return the cheapest point that meets a recall; None where none does."""
    meeting = [point for point in points if point.recall >= target]
    return min(meeting, key=lambda point: point.cpu_us) if meeting else None


def cost_at(points: Sequence[Point], reached: float) -> float:
    """Return the cost at a recall, between two points of the frontier; nan beyond its ends.

    The logarithm of the cost is taken to be linear in the logarithm of what recall misses.
    """
    known = frontier(points)
    recalls: F64 = np.array([point.recall for point in known])
    if not len(recalls) or reached > recalls[-1]:
        return float("nan")
    if reached <= recalls[0]:
        # Even the least effort tried reaches more: its cost is an upper bound.
        return known[0].cpu_us
    missed = -np.log(np.maximum(1 - recalls, 1e-4))
    logs = np.log([point.cpu_us for point in known])
    return float(np.exp(np.interp(-np.log(max(1 - reached, 1e-4)), missed, logs)))


def lists_of(rows: int) -> int:
    """Return how many lists an inverted file has: a power of two about the square root of rows."""
    return int(2 ** round(np.log2(rows**0.5)))


def steps(first: float, last: float, growth: float) -> list[int]:
    """Return whole numbers from first to last, each about `growth` times the one before."""
    values = [round(first)]
    while values[-1] < last:
        values.append(min(round(last), max(values[-1] + 1, round(values[-1] * growth))))
    return values
