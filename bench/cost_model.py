"""The model of what queries cost on AWS: pure arithmetic on assumptions and list prices.

`price` takes assumptions, a deployment, an index and a way of asking, and returns the parts of the
bill. Who answers is what `squash.planning.shape.choose_shape` chooses, as deployed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from squash.planning import DEFAULT_COSTS, CostModel, Matches, keep_for
from squash.planning.prices import (
    GB_SECOND_USD,
    HTTP_REQUEST_USD,
    Architecture,
    invocation_cost_usd,
    logging_cost_usd,
    request_cost_usd,
    storage_cost_usd,
)
from squash.planning.shape import (
    DEFAULT_SHAPE_COSTS,
    Load,
    Shape,
    ShapeCosts,
    choose_shape,
    estimate,
    work_of,
)

MILLION: Final = 1_000_000
K: Final = 10
TARGET: Final = 0.95
DIMENSION: Final = 768
PARTITION_ROWS: Final = 32_768
CLUSTER_ROWS: Final = 512
PAGE_ROWS: Final = 64
SLOTS: Final = 8
MB_PER_VCPU: Final = 1769.0
RETAINED_SHARE: Final = 0.5
TMP_SHARE: Final = 0.75
# The share of rows that the coordinator expects to pass, as the distributed searcher has it.
EXPECTED_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the bill follows from; `docs/benchmarks.md` says where each is from.

    Parameters
    ----------
    handler_ms:
        CPU of the coordinator's function for a query of JSON, beside the search.
    request_ms:
        CPU of a request to S3.
    search_ms:
        CPU of a search in one process beside what `CostModel` counts.
    work:
        By how much the CPU time that `CostModel` counts is multiplied.
    needed, growth:
        By share of rows that pass: clusters needed of an index of 1,000 clusters, and with which
        power of the clusters that grows.
    code_bytes, row_bytes, attribute_bytes:
        Of a row: codes; vector; attributes, by which the coordinator filters.
    stored_bytes:
        Of a row, all objects together.
    hop_ms, round_ms, read_mb_per_s:
        From a call to its first line and back; a round to S3; how fast S3 sends.
    slots_needed:
        How many processors a query needs.
    start_ms:
        CPU to import a function, all of it billed.
    cold_requests, cold_rounds, cold_mb:
        What a processor asks of S3 that has nothing yet, for a query.
    coordinator_requests, coordinator_rounds:
        The same of a coordinator, that reads the centers and, for a filter, attributes.
    warm_requests:
        To S3 that a query makes for news: for the next commit, which would tell of a drop, too.
    line_bytes, access_bytes, metrics_bytes:
        Of a call of the coordinator: its own line, the API's, and that with metrics; with the 26
        bytes that CloudWatch adds to each.

    """

    handler_ms: float
    search_ms: float
    needed: Mapping[float, float]
    growth: Mapping[float, float]
    request_ms: float = 1.0
    work: float = 1.0
    code_bytes: float = 500.0
    row_bytes: float = 3_072.0
    attribute_bytes: float = 13.0
    stored_bytes: float = 3_650.0
    hop_ms: float = DEFAULT_SHAPE_COSTS.hop_ms
    round_ms: float = DEFAULT_SHAPE_COSTS.round_ms
    read_mb_per_s: float = DEFAULT_SHAPE_COSTS.read_mb_per_s
    slots_needed: float = DEFAULT_SHAPE_COSTS.slots_needed
    start_ms: float = 400.0
    cold_requests: float = 8.0
    cold_rounds: float = 3.0
    cold_mb: float = 4.0
    coordinator_requests: float = 8.0
    coordinator_rounds: float = 4.0
    warm_requests: float = 1.0
    line_bytes: float = 305.0
    access_bytes: float = 299.0
    metrics_bytes: float = 512.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """How the functions are set up.

    Parameters
    ----------
    slots:
        Containers that partitions are spread over.
    coordinator_mb, processor_mb, tmp_mb:
        Memory settings; /tmp of a processor.
    architecture:
        Of the functions.
    eventual:
        Whether queries may be answered from what is known, without asking S3 for news.
    door:
        Where queries are asked: at the HTTP API, or at the coordinator's own URL.
    lines, metrics:
        Whether functions write a line a request (`LogLevel`), and metrics.

    """

    slots: int = SLOTS
    coordinator_mb: float = MB_PER_VCPU
    processor_mb: float = MB_PER_VCPU
    tmp_mb: float = 512.0
    architecture: Architecture = "arm64"
    eventual: bool = False
    door: Literal["api", "url"] = "api"
    lines: bool = True
    metrics: bool = False

    @property
    def retained_bytes(self) -> float:
        """What all processors together keep, in memory and in /tmp."""
        return self.slots * 1e6 * (RETAINED_SHARE * self.processor_mb + TMP_SHARE * self.tmp_mb)


@dataclass(frozen=True, slots=True)
class Asked:
    """An index, and how it is asked.

    Parameters
    ----------
    rows, share:
        Of the index; the share of them that passes the filter, 1 without one.
    warm:
        The share of calls that find a container which has loaded what they need.
    queries:
        How many in a call.

    """

    rows: int
    share: float = 1.0
    warm: float = 1.0
    queries: int = 1


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars for a million queries, by part, and how long one waits.

    Parameters
    ----------
    coordinator, store_wait, calls_wait:
        GB-seconds of the coordinator: its own work; waiting for S3 once those that it calls are
        done; and for these.
    processors:
        GB-seconds of all others.
    invocations, requests, http, logs:
        By the piece.
    cold:
        All that containers add which start anew.

    """

    shape: str
    ms: float
    invocations_each: float
    coordinator: float
    store_wait: float
    calls_wait: float
    processors: float
    invocations: float
    requests: float
    http: float
    logs: float
    cold: float

    @property
    def total(self) -> float:
        """The whole bill."""
        return sum(getattr(self, name) for name in PARTS)


PARTS: Final = (
    "coordinator", "store_wait", "calls_wait", "processors", "invocations", "requests", "http",
    "logs", "cold",
)  # fmt: skip
LABELS: Final = (
    "coordinator's work", "its waiting for S3", "its waiting for processors", "processors",
    "invocations", "S3 requests", "HTTP API", "logs", "cold starts",
)  # fmt: skip


def expected(one: Assumptions, asked: Asked, share: float) -> Matches:
    """Return what a query is expected to meet."""
    clusters = max(asked.rows // CLUSTER_ROWS, 1)
    return Matches(
        rows=asked.rows,
        matches=asked.rows * share,
        open_rows=0.0,
        comparisons=0 if share == 1.0 else 1,
        clusters=clusters,
        clusters_needed=clusters_needed(one, asked.rows, share),
        dimension=DIMENSION,
        refined=keep_for(K, TARGET).refined,
    )


def clusters_needed(one: Assumptions, rows: int, share: float) -> float:
    """Return how many clusters a query takes: a power of how many there are."""
    clusters = max(rows / CLUSTER_ROWS, 1.0)
    return min(one.needed[share] * (clusters / 1_000) ** one.growth[share], clusters)


def shape_costs(one: Assumptions, deployed: Deployed) -> ShapeCosts:
    """Return the planner's costs by these assumptions; nothing is cold, that is added apart."""
    return replace(
        DEFAULT_SHAPE_COSTS,
        hop_ms=one.hop_ms,
        slots_needed=one.slots_needed,
        search_ms=one.search_ms,
        cold_share=0.0,
        memory_gb=deployed.processor_mb / 1024,
        gb_second_usd=GB_SECOND_USD[deployed.architecture],
    )


def load_of(
    one: Assumptions, deployed: Deployed, asked: Asked, share: float, costs: CostModel
) -> Load:
    """Return what the planner is told."""
    plan_ms, scan_ms = work_of(costs, expected(one, asked, share))
    return Load(
        queries=asked.queries,
        plan_ms=plan_ms * one.work,
        scan_ms=scan_ms * one.work,
        index_bytes=round(asked.rows * (one.code_bytes + one.row_bytes + one.attribute_bytes)),
        retained_bytes=round(RETAINED_SHARE * deployed.coordinator_mb * 1e6),
        partitions=math.ceil(asked.rows / PARTITION_ROWS),
        slots=deployed.slots,
        vcpus=deployed.processor_mb / MB_PER_VCPU,
    )


@dataclass(frozen=True, slots=True)
class Missed:
    """What a query reads since containers cannot hold it: requests, megabytes, rounds."""

    requests: float
    mb: float
    rounds: float


def missed(one: Assumptions, deployed: Deployed, asked: Asked) -> Missed:
    """Return what warm processors still read: they hold codes first, then vectors.

    That flatters: the least recently used goes first, whatever it is.
    """
    held = deployed.retained_bytes
    codes, vectors = asked.rows * one.code_bytes, asked.rows * one.row_bytes
    no_code = 1.0 - min(held / codes, 1.0)
    no_vector = 1.0 - min(max(held - codes, 0.0) / vectors, 1.0)
    needed = clusters_needed(one, asked.rows, asked.share) * no_code
    pages = keep_for(K, TARGET).refined * no_vector
    read = needed * CLUSTER_ROWS * one.code_bytes + pages * PAGE_ROWS * one.row_bytes
    return Missed(needed + pages, read / 1e6, min(needed, 1.0) + min(pages, 1.0))


def price(
    one: Assumptions, deployed: Deployed, asked: Asked, *, shape: Shape | None = None
) -> Bill:
    """Return what a million queries cost, in calls of so many."""
    planned = EXPECTED_SHARE if asked.share < 1.0 else 1.0
    chosen = shape or choose_shape(load_of(one, deployed, asked, planned, DEFAULT_COSTS))
    load = load_of(one, deployed, asked, asked.share, DEFAULT_COSTS)
    costs = shape_costs(one, deployed)
    usual = estimate(chosen, load, costs)
    alone = chosen.kind == "none"
    calls = _count(chosen, load, costs, "invocation_usd")
    gb_second = GB_SECOND_USD[deployed.architecture]
    coordinator_usd_ms = deployed.coordinator_mb / 1024 * gb_second / 1e3
    processor_usd_ms = deployed.processor_mb / 1024 * gb_second / 1e3
    cpu = MB_PER_VCPU / min(deployed.coordinator_mb, MB_PER_VCPU)

    rounds = 0.0 if deployed.eventual else 1.0
    get = rounds * one.warm_requests
    spread = max(calls, 1.0)
    reads = Missed(0.0, 0.0, 0.0) if alone else missed(one, deployed, asked)
    reads = Missed(reads.requests * asked.queries, reads.mb * asked.queries, reads.rounds)
    miss_ms = reads.rounds * one.round_ms
    miss_ms += (reads.mb / one.read_mb_per_s * 1e3 + reads.requests * one.request_ms) / spread
    own_ms = cpu * (asked.queries * one.handler_ms + get * one.request_ms)
    calls_ms = 0.0 if alone else usual.ms + miss_ms
    if alone:
        own_ms += cpu * usual.ms
    # S3 is asked for news while others search what is known: only what that takes longer is waited.
    store_ms = max(rounds * one.round_ms - calls_ms, 0.0)
    called_usd = usual.usd - usual.ms / 1e3 * costs.memory_gb * costs.gb_second_usd
    called_usd -= calls * costs.invocation_usd
    processors = max(called_usd, 0.0) + calls * miss_ms * processor_usd_ms
    asks = reads.requests + (_count(chosen, load, costs, "request_usd") if alone else 0.0)
    cold_usd, cold_ms = _cold(one, deployed, asked, calls)
    scale = MILLION / asked.queries
    return Bill(
        shape=str(chosen),
        ms=own_ms + store_ms + calls_ms + cold_ms,
        invocations_each=1.0 + calls,
        coordinator=scale * own_ms * coordinator_usd_ms,
        store_wait=scale * store_ms * coordinator_usd_ms,
        calls_wait=scale * calls_ms * coordinator_usd_ms,
        processors=scale * processors,
        invocations=scale * invocation_cost_usd(1, 0.0, architecture="arm64") * (1.0 + calls),
        requests=scale * request_cost_usd({"get": 1}) * (get + asks),
        http=scale * (HTTP_REQUEST_USD if deployed.door == "api" else 0.0),
        logs=scale * logging_cost_usd(logged_bytes(one, deployed)),
        cold=scale * cold_usd,
    )


def logged_bytes(one: Assumptions, deployed: Deployed) -> float:
    """Return what a call leaves in logs."""
    found = one.line_bytes if deployed.lines else 0.0
    found += one.access_bytes if deployed.door == "api" else 0.0
    return found + (one.metrics_bytes if deployed.metrics else 0.0)


def _count(shape: Shape, load: Load, costs: ShapeCosts, price_of: str) -> float:
    """Return how many of something a shape takes: its cost where all else is free."""
    free = replace(costs, invocation_usd=0.0, request_usd=0.0, gb_second_usd=0.0)
    return estimate(shape, load, replace(free, **{price_of: 1.0})).usd


def _cold(one: Assumptions, deployed: Deployed, asked: Asked, calls: float) -> tuple[float, float]:
    """Return what cold containers add to a call on average: dollars, and milliseconds waited."""
    share = 1.0 - asked.warm
    gb_ms = GB_SECOND_USD[deployed.architecture] / 1e3 / 1024
    slow = MB_PER_VCPU / min(deployed.processor_mb, MB_PER_VCPU)
    processor_ms = slow * (one.start_ms + one.cold_requests * one.request_ms)
    processor_ms += one.cold_rounds * one.round_ms + one.cold_mb / one.read_mb_per_s * 1e3
    slow = MB_PER_VCPU / min(deployed.coordinator_mb, MB_PER_VCPU)
    mb = coordinator_bytes(one, asked) / 1e6
    coordinator_ms = slow * (one.start_ms + one.coordinator_requests * one.request_ms)
    rounds, requests_each = one.coordinator_rounds, one.coordinator_requests
    if not calls:  # it searches by itself, and reads what a processor would
        mb, rounds = mb + one.cold_mb, rounds + one.cold_rounds
        requests_each += one.cold_requests
    coordinator_ms += rounds * one.round_ms + mb / one.read_mb_per_s * 1e3
    waits_ms = share * coordinator_ms + (1.0 - asked.warm**calls) * processor_ms
    usd = waits_ms * deployed.coordinator_mb * gb_ms
    usd += calls * share * processor_ms * deployed.processor_mb * gb_ms
    requests = share * (calls * one.cold_requests + requests_each)
    return usd + requests * request_cost_usd({"get": 1}), waits_ms


def coordinator_bytes(one: Assumptions, asked: Asked) -> float:
    """Return what a coordinator must hold: all centers, and with a filter all attributes."""
    centers = asked.rows / CLUSTER_ROWS * DIMENSION * 4
    return centers + (asked.rows * one.attribute_bytes if asked.share < 1.0 else 0.0)


def sized(one: Assumptions, rows: int, **more: Any) -> Deployed:
    """Return a deployment whose containers hold all of an index, coordinator included."""
    whole = rows * (one.code_bytes + one.row_bytes)
    usual = Deployed(**more)
    slots = math.ceil(usual.slots * whole / usual.retained_bytes)
    held = coordinator_bytes(one, Asked(rows, 0.1)) / RETAINED_SHARE / 1e6
    return replace(
        usual,
        slots=max(usual.slots, slots),
        coordinator_mb=max(usual.coordinator_mb, math.ceil(held / 64) * 64),
    )


def idle_usd(one: Assumptions, rows: int) -> float:
    """Return what an index costs a month while nobody asks: its bytes in S3."""
    return storage_cost_usd(rows * one.stored_bytes)
