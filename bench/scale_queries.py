"""What queries wait for and cost, by Monte Carlo over what each of their steps takes.

A query calls the coordinator, which asks S3 for news, plans, and calls the processors of the slots
that hold the clusters it needs; the slowest of them is waited for. Each call finds a container that
has loaded nothing with the probability that is called the cold share. Steps are independent, and
their times lognormal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scale_build import SEGMENT_BYTES
from scale_inputs import Asking, Fit
from scale_platform import MB_PER_VCPU, Platform, Spread
from squash.limits import (
    CLUSTER_ROWS_TARGET,
    LAMBDA_MEMORY_MB_MAX,
    PARTITION_ROWS_TARGET,
    ROW_PAGE_ROWS,
    SLOTS_MAX,
)
from squash.planning import DEFAULT_COSTS, Matches, keep_for
from squash.planning.prices import (
    HTTP_REQUEST_USD,
    invocation_cost_usd,
    logging_cost_usd,
    request_cost_usd,
)
from squash.planning.shape import DEFAULT_SHAPE_COSTS, work_of

F64 = NDArray[np.float64]

K: Final = 10
TARGET: Final = 0.95
DRAWS: Final = 20_000
SEED: Final = 23
RETAINED_SHARE: Final = 0.5
TMP_SHARE: Final = 0.75
PROCESSOR_TMP_MB: Final = 512.0
SLOTS: Final = 8
LOG_BYTES: Final = 1_200.0
CPU_SPREAD: Final = 0.25
"""Sigma of the lognormal that CPU times are multiplied by: p99 over p50 is 1.8."""
COORDINATOR_ROUNDS: Final = 3  # entry; snapshots listed; the newest, log and trained object
COORDINATOR_REQUESTS: Final = 5
PROCESSOR_ROUNDS: Final = 3  # heads, codes, vectors and documents
PROCESSOR_REQUESTS: Final = 8
PROCESSOR_MB: Final = 4.0


@dataclass(frozen=True, slots=True)
class Served:
    """An index and the functions that answer for it."""

    rows: int
    dimension: int
    slots: int
    coordinator_mb: float
    processor_mb: float = MB_PER_VCPU

    @property
    def held_bytes(self) -> float:
        """What all processors together keep."""
        each = RETAINED_SHARE * self.processor_mb + TMP_SHARE * PROCESSOR_TMP_MB
        return self.slots * each * 1e6


@dataclass(frozen=True, slots=True)
class Waits:
    """Quantiles in milliseconds, means of the rest."""

    p50: float
    p95: float
    p99: float
    rounds: float
    requests: float
    calls: float
    usd: float
    """A million queries, one a call."""


def default(rows: int, dimension: int) -> Served:
    """Return what is deployed by default."""
    return Served(rows, dimension, SLOTS, MB_PER_VCPU)


def slots_needed(rows: int, dimension: int, fit: Fit) -> int:
    """Return how many slots hold an index."""
    usual = default(rows, dimension)
    searched = searched_bytes(rows, dimension, fit)
    return max(math.ceil(usual.slots * searched / usual.held_bytes), usual.slots)


def sized(rows: int, dimension: int, fit: Fit) -> Served:
    """Return as many slots as hold the index, or there may be, and a coordinator that holds it.

    The coordinator's memory is not held to what Lambda allows: `possible` tells whether it is.
    """
    memory = max(coordinator_bytes(rows, dimension) / RETAINED_SHARE / 1e6, MB_PER_VCPU)
    slots = min(slots_needed(rows, dimension, fit), SLOTS_MAX)
    return Served(rows, dimension, slots, math.ceil(memory / 64) * 64)


def possible(one: Served) -> bool:
    """Tell whether there may be such functions."""
    return one.slots <= SLOTS_MAX and one.coordinator_mb <= LAMBDA_MEMORY_MB_MAX


def searched_bytes(rows: int, dimension: int, fit: Fit) -> float:
    """Return the bytes that processors read: all but documents, about."""
    return fit.stored_bytes(rows, dimension)


def partitions(rows: int) -> int:
    """Return how many there are."""
    from scale_cut import FULL_SHARE

    return max(math.ceil(rows / (FULL_SHARE * PARTITION_ROWS_TARGET)), 1)


def coordinator_bytes(rows: int, dimension: int) -> float:
    """Return what a coordinator must hold: centers, and the snapshot as objects of Python."""
    centers = rows / CLUSTER_ROWS_TARGET * (4.0 * dimension + 8.0)
    return centers + 4.0 * snapshot_bytes(rows)


def snapshot_bytes(rows: int) -> float:
    """Return the bytes of a snapshot: it names every segment's objects."""
    return partitions(rows) * SEGMENT_BYTES


def clusters_needed(asking: Asking, rows: int) -> float:
    """Return how many clusters a query takes."""
    clusters = max(rows / CLUSTER_ROWS_TARGET, 1.0)
    return min(asking.needed * (clusters / 1_000) ** asking.growth, clusters)


def waits(
    one: Served, asking: Asking, fit: Fit, platform: Platform, *, cold: float, draws: int = DRAWS
) -> Waits:
    """Return what queries wait for and cost.

    Parameters
    ----------
    one:
        The index and its functions.
    asking, fit:
        What was measured.
    platform:
        What calls and requests take.
    cold:
        The share of calls that find a container which has loaded nothing.
    draws:
        How many queries are drawn.

    """
    random = _Random(np.random.default_rng((SEED, one.rows, one.dimension)), draws)
    plan_ms, scan_ms = _work(one, asking)
    needed = clusters_needed(asking, one.rows)
    calls = max(round(min(DEFAULT_SHAPE_COSTS.slots_needed, one.slots)), 1)
    missed = _missed(one, needed, fit)
    frozen = random.chance(cold)

    # The coordinator: its start and its reading, if it is cold; news; a plan.
    own = random.cpu(asking.handler_ms + asking.request_ms + plan_ms)
    own += random.cpu(calls * (DEFAULT_SHAPE_COSTS.call_ms + DEFAULT_SHAPE_COSTS.merge_ms))
    read_mb = (
        snapshot_bytes(one.rows) + 4.0 * one.rows / CLUSTER_ROWS_TARGET * one.dimension
    ) / 1e6
    started = random.drawn(platform.start) + random.cpu(platform.import_ms)
    loads = sum(random.drawn(platform.get) for _ in range(COORDINATOR_ROUNDS))
    loads = loads + read_mb / platform.bandwidth_mb_per_s * 1e3
    parsed = snapshot_bytes(one.rows) / 1e6 * asking.load_ms_per_mb
    dealt = partitions(one.rows) * one.slots * asking.bid_us / 1e3
    loads = loads + random.cpu(parsed + dealt)
    billed = own + random.drawn(platform.get) + frozen * (started + loads)
    before = random.drawn(platform.invoke) + billed

    # The processors, side by side.
    each = (scan_ms + asking.search_ms) / calls + DEFAULT_SHAPE_COSTS.process_ms
    slowest: F64 = np.zeros(draws)
    processors: F64 = np.zeros(draws)
    cold_calls: F64 = np.zeros(draws)
    for _ in range(calls):
        chilled = random.chance(cold)
        worked = random.cpu(each + DEFAULT_SHAPE_COSTS.called_ms)
        reads = _reading(missed, calls, random, platform)
        fresh = random.drawn(platform.start) + random.cpu(platform.import_ms)
        for _ in range(PROCESSOR_ROUNDS):
            # A round ends with the slowest of its requests.
            fresh = fresh + random.slowest(platform.get, PROCESSOR_REQUESTS / PROCESSOR_ROUNDS)
        fresh = fresh + PROCESSOR_MB / platform.bandwidth_mb_per_s * 1e3
        spent = worked + np.where(chilled, fresh, reads)
        processors += spent
        cold_calls += chilled
        slowest = np.maximum(slowest, random.drawn(platform.invoke) + spent)
    total = before + slowest
    rounds = 1.0 + missed.rounds + cold * COORDINATOR_ROUNDS
    rounds += (1.0 - (1.0 - cold) ** calls) * PROCESSOR_ROUNDS
    requests = 1.0 + missed.requests * (1.0 - cold) + cold * COORDINATOR_REQUESTS
    requests += cold * calls * PROCESSOR_REQUESTS
    coordinator_gbs = float((billed + slowest).mean()) / 1e3 * one.coordinator_mb / 1024
    processor_gbs = float(processors.mean()) / 1e3 * one.processor_mb / 1024
    usd = 1e6 * invocation_cost_usd(
        1 + calls, coordinator_gbs + processor_gbs, architecture=platform.architecture
    )
    usd += request_cost_usd({"get": round(1e6 * requests)})
    usd += 1e6 * (HTTP_REQUEST_USD + logging_cost_usd(LOG_BYTES))
    p50, p95, p99 = np.percentile(total, (50, 95, 99)).tolist()
    return Waits(p50, p95, p99, rounds, requests, float(calls), usd)


@dataclass(frozen=True, slots=True)
class _Missed:
    """What warm processors read since they cannot hold it: requests, megabytes, rounds."""

    requests: float
    mb: float
    rounds: float


def _missed(one: Served, needed: float, fit: Fit) -> _Missed:
    """Return what a query reads of an index that is larger than its processors hold.

    Codes are held first, then vectors: that flatters, for the least recently used goes first.
    """
    vector = 4.0 * one.dimension
    code = max(fit.stored_bytes(1, one.dimension) - vector - 60.0, 1.0)
    held = one.held_bytes
    no_code = 1.0 - min(held / (one.rows * code), 1.0)
    no_vector = 1.0 - min(max(held - one.rows * code, 0.0) / (one.rows * vector), 1.0)
    clusters = needed * no_code
    pages = keep_for(K, TARGET).refined * no_vector
    read = clusters * CLUSTER_ROWS_TARGET * code + pages * ROW_PAGE_ROWS * vector
    return _Missed(clusters + pages, read / 1e6, min(clusters, 1.0) + min(pages, 1.0))


def _reading(missed: _Missed, calls: int, random: _Random, platform: Platform) -> F64:
    """Return milliseconds that a processor reads for."""
    found: F64 = np.zeros(random.draws)
    if missed.requests:
        each = missed.requests / calls / max(missed.rounds, 1e-9)
        for part in range(math.ceil(missed.rounds)):
            share = min(missed.rounds - part, 1.0)
            found += random.chance(share) * random.slowest(platform.get, max(each, 1.0))
        found += missed.mb / calls / platform.bandwidth_mb_per_s * 1e3
    return found


def _work(one: Served, asking: Asking) -> tuple[float, float]:
    """Return CPU milliseconds to plan a query and to scan for it, by `CostModel`."""
    clusters = max(one.rows // CLUSTER_ROWS_TARGET, 1)
    return work_of(
        DEFAULT_COSTS,
        Matches(
            rows=one.rows,
            matches=float(one.rows),
            open_rows=0.0,
            comparisons=0,
            clusters=clusters,
            clusters_needed=clusters_needed(asking, one.rows),
            dimension=one.dimension,
            refined=keep_for(K, TARGET).refined,
        ),
    )


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
