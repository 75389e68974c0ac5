"""What queries wait for, by Monte Carlo over what each of their steps takes.

The steps, and what they cost, are those of `bench/cost_steps.py` and `bench/cost_model.py`: with
nothing drawn, a warm query takes what `price` says, and the call of the coordinator besides. Each
call finds a container that has loaded nothing with the probability that is called the cold share.
Steps are independent, and their times lognormal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import cost_model
from cost_steps import (
    Asked,
    Assumptions,
    Deployed,
    coordinator_start,
    processor_start,
    steps,
)
from scale_platform import Platform, Spread
from squash.limits import LAMBDA_MEMORY_MB_MAX, SLOTS_MAX
from squash.planning.shape import Shape

F64 = NDArray[np.float64]

DRAWS: Final = 20_000
SEED: Final = 23
CPU_SPREAD: Final = 0.25
"""Sigma of the lognormal that CPU times are multiplied by: p99 over p50 is 1.8."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Quantiles in milliseconds, means of the rest."""

    p50: float
    p95: float
    p99: float
    rounds: float
    requests: float
    calls: float


def sized(one: Assumptions, rows: int, dimension: int, **more: Any) -> Deployed:
    """Return as many slots as hold the index, or there may be, and a coordinator that holds it.

    The coordinator's memory is not held to what Lambda allows: `possible` tells whether it is.
    """
    found = cost_model.sized(one, rows, dimension=dimension, **more)
    return replace(found, slots=min(found.slots, SLOTS_MAX))


def possible(one: Deployed) -> bool:
    """Tell whether there may be such functions."""
    return one.slots <= SLOTS_MAX and one.coordinator_mb <= LAMBDA_MEMORY_MB_MAX


def assumed_on(one: Assumptions, platform: Platform) -> Assumptions:
    """Return assumptions with calls, rounds and starts as a platform has them."""
    return replace(
        one,
        hop_ms=platform.invoke.p50,
        round_ms=platform.get.p50,
        read_mb_per_s=platform.bandwidth_mb_per_s,
        begin_ms=platform.start.p50,
    )


def waits(
    one: Assumptions,
    deployed: Deployed,
    asked: Asked,
    platform: Platform,
    *,
    shape: Shape | None = None,
    draws: int = DRAWS,
) -> Waits:
    """Return what queries wait for, one a call.

    Parameters
    ----------
    one:
        What was measured.
    deployed, asked:
        The functions; the index, and the share of calls that are warm.
    platform:
        What calls and requests take.
    shape:
        Who answers, where that is not chosen.
    draws:
        How many queries are drawn.

    """
    one, cold = assumed_on(one, platform), 1.0 - asked.warm
    random = _Random(np.random.default_rng((SEED, asked.rows, asked.dimension)), draws)
    took = steps(one, deployed, asked, shape=shape)
    calls, missed = round(took.calls), took.missed

    slowest: F64 = np.zeros(draws)
    start = processor_start(one, deployed)
    for _ in range(calls):
        worked = random.cpu(took.process_ms)
        reads = random.reading(platform, missed.rounds, missed.requests / calls)
        reads = reads + missed.mb / calls / one.read_mb_per_s * 1e3
        reads = reads + random.cpu(missed.requests / calls * one.request_ms)
        fresh = random.drawn(platform.start) + random.cpu(start.cpu_ms)
        fresh = fresh + random.reading(platform, start.rounds, start.gets)
        fresh = fresh + start.mb / one.read_mb_per_s * 1e3
        spent = worked + np.where(random.chance(cold), fresh, reads)
        slowest = np.maximum(slowest, random.drawn(platform.invoke) + spent)
    busy = random.cpu(took.plan_ms) + slowest
    news: F64 = random.drawn(platform.get) if took.news_ms else np.zeros(draws)
    own = random.cpu(took.own_ms) + np.maximum(news, busy)
    first = coordinator_start(one, deployed, asked, alone=not calls)
    begun = random.drawn(platform.start) + random.cpu(first.cpu_ms)
    begun = begun + random.reading(platform, first.rounds, 1.0)
    begun = begun + first.mb / one.read_mb_per_s * 1e3
    total = random.drawn(platform.invoke) + own + random.chance(cold) * begun

    looks = 1.0 if took.news_ms else 0.0
    rounds = looks + missed.rounds + cold * first.rounds
    rounds += (1.0 - asked.warm**calls) * start.rounds
    requests = looks * one.warm_requests + took.asks * asked.warm
    requests += cold * (first.gets + first.lists + calls * start.gets)
    p50, p95, p99 = np.percentile(total, (50, 95, 99)).tolist()
    return Waits(p50, p95, p99, rounds, requests, float(calls))


@dataclass(frozen=True, slots=True)
class _Random:
    """Draws a value for every query."""

    generator: np.random.Generator
    draws: int

    def drawn(self, spread: Spread) -> F64:
        """Return milliseconds."""
        return np.exp(_mu(spread) + _sigma(spread) * self.generator.standard_normal(self.draws))

    def slowest(self, spread: Spread, count: float) -> F64:
        """Return milliseconds of the slowest of `count` that go side by side."""
        uniform = self.generator.random(self.draws) ** (1.0 / max(count, 1.0))
        return np.exp(_mu(spread) + _sigma(spread) * _normal_quantile(uniform))

    def reading(self, platform: Platform, rounds: float, requests: float) -> F64:
        """Return milliseconds of rounds to S3, each of which ends with its slowest request."""
        found: F64 = np.zeros(self.draws)
        for part in range(math.ceil(rounds)):
            share = min(rounds - part, 1.0)
            found += self.chance(share) * self.slowest(platform.get, requests / rounds)
        return found

    def cpu(self, ms: float) -> F64:
        """Return milliseconds about this many, spread as CPU times are."""
        return ms * np.exp(CPU_SPREAD * self.generator.standard_normal(self.draws))

    def chance(self, share: float) -> F64:
        """Return 1.0 for this share of them, else 0.0."""
        return (self.generator.random(self.draws) < share).astype(np.float64)


def _mu(spread: Spread) -> float:
    return math.log(spread.p50)


def _sigma(spread: Spread) -> float:
    return math.log(spread.p99 / spread.p50) / 2.3263


_GRID: Final = np.linspace(-6.0, 6.0, 4_801)
_CDF: Final = np.array([0.5 * (1.0 + math.erf(x / math.sqrt(2.0))) for x in _GRID])


def _normal_quantile(uniform: F64) -> F64:
    """Return the normal quantile, by a table: exact to three digits."""
    return np.asarray(np.interp(uniform, _CDF, _GRID))
