"""The model of what queries cost on AWS: the steps of `bench/cost_steps.py` at list prices.

`price` takes assumptions, a deployment, an index and a way of asking, and returns the parts of the
bill.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

from cost_steps import (
    DIMENSION,
    RETAINED_SHARE,
    Asked,
    Assumptions,
    Deployed,
    Start,
    coordinator_bytes,
    coordinator_start,
    processor_start,
    row_bytes,
    slowness,
    steps,
)
from scale_cut import routing_bytes
from squash.planning.prices import (
    GB_SECOND_USD,
    HTTP_REQUEST_USD,
    invocation_cost_usd,
    logging_cost_usd,
    request_cost_usd,
    storage_cost_usd,
)
from squash.planning.shape import DEFAULT_SHAPE_COSTS, Shape

MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Bill:
    """Dollars for a million queries, by part, and how long one waits.

    Parameters
    ----------
    coordinator, store_wait, calls_wait:
        GB-seconds of the coordinator: its own work; waiting for S3 once those that it calls are
        done; and calling these, and waiting for them.
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
    "coordinator's work", "its waiting for S3", "its calls and waiting for processors",
    "processors", "invocations", "S3 requests", "HTTP API", "logs", "cold starts",
)  # fmt: skip


def price(
    one: Assumptions, deployed: Deployed, asked: Asked, *, shape: Shape | None = None
) -> Bill:
    """Return what a million queries cost, in calls of so many."""
    took = steps(one, deployed, asked, shape=shape)
    gb_ms = GB_SECOND_USD[deployed.architecture] / 1e3
    coordinator_ms = deployed.coordinator_mb / 1024 * gb_ms
    store_ms = max(took.news_ms - took.calls_ms, 0.0)
    processors = took.called_gb_ms + took.calls * took.missed_ms * deployed.processor_mb / 1024
    news = 0.0 if deployed.eventual else one.warm_requests
    share = 1.0 - asked.warm
    cold_usd, cold_ms = away_usd(one, deployed, asked, Away(share, share, took.calls))
    scale = MILLION / asked.queries
    return Bill(
        shape=str(took.shape),
        ms=took.ms + cold_ms,
        invocations_each=1.0 + took.calls,
        coordinator=scale * took.own_ms * coordinator_ms,
        store_wait=scale * store_ms * coordinator_ms,
        calls_wait=scale * took.calls_ms * coordinator_ms,
        processors=scale * processors * gb_ms,
        invocations=scale * invocation_cost_usd(1, 0.0, architecture="arm64") * (1.0 + took.calls),
        requests=scale * request_cost_usd({"get": 1}) * (news + took.asks),
        http=scale * (HTTP_REQUEST_USD if deployed.door == "api" else 0.0),
        logs=scale * logging_cost_usd(logged_bytes(one, deployed)),
        cold=scale * cold_usd,
    )


def logged_bytes(one: Assumptions, deployed: Deployed) -> float:
    """Return what a call leaves in logs."""
    found = one.line_bytes if deployed.lines else 0.0
    found += one.access_bytes if deployed.door == "api" else 0.0
    return found + (one.metrics_bytes if deployed.metrics else 0.0)


def start_usd(one: Assumptions, deployed: Deployed, start: Start, function_mb: float) -> float:
    """Return what a container costs that starts, to itself."""
    usd = _gb_ms_usd(deployed, start.billed_ms(one) * function_mb / 1024)
    usd += start.gets * request_cost_usd({"get": 1})
    return usd + start.lists * request_cost_usd({"list": 1})


@dataclass(frozen=True, slots=True)
class Away:
    """Which containers are not there: shares of coordinators, of processors; calls a query."""

    coordinator: float
    processor: float
    calls: float

    @property
    def behind(self) -> float:
        """The share of queries for which some processor starts."""
        return 1.0 - (1.0 - self.processor) ** self.calls

    @property
    def some(self) -> float:
        """The share of queries for which anything starts."""
        return 1.0 - (1.0 - self.coordinator) * (1.0 - self.behind)


def away_usd(one: Assumptions, deployed: Deployed, asked: Asked, away: Away) -> tuple[float, float]:
    """Return what containers add to a call on average that start: dollars, milliseconds waited."""
    processor = processor_start(one, deployed)
    coordinator = coordinator_start(one, deployed, asked, alone=not away.calls)
    # Who calls waits for a processor to begin, too, and is billed for that.
    behind_ms = away.behind * (processor.begin_ms + processor.billed_ms(one))
    usd = away.coordinator * start_usd(one, deployed, coordinator, deployed.coordinator_mb)
    usd += _gb_ms_usd(deployed, behind_ms * deployed.coordinator_mb / 1024)
    each = start_usd(one, deployed, processor, deployed.processor_mb)
    usd += away.calls * away.processor * each
    begun_ms = coordinator.begin_ms + coordinator.billed_ms(one)
    return usd, away.coordinator * begun_ms + behind_ms


def ping_usd(one: Assumptions, deployed: Deployed) -> float:
    """Return what it costs to call all slots for nothing, so that their containers stay."""
    process_ms = slowness(deployed.processor_mb) * DEFAULT_SHAPE_COSTS.called_ms
    own_ms = slowness(deployed.coordinator_mb) * deployed.slots * DEFAULT_SHAPE_COSTS.call_ms
    own_ms += one.hop_ms + process_ms
    gb_ms = own_ms * deployed.coordinator_mb + deployed.slots * process_ms * deployed.processor_mb
    return invocation_cost_usd(
        1 + deployed.slots, gb_ms / 1024 / 1e3, architecture=deployed.architecture
    )


def _gb_ms_usd(deployed: Deployed, gb_ms: float) -> float:
    return gb_ms / 1e3 * GB_SECOND_USD[deployed.architecture]


def tenant_gb(one: Assumptions, deployed: Deployed, asked: Asked) -> float:
    """Return the memory of containers that are made for tenants, a query on average."""
    calls = steps(one, deployed, asked).calls / asked.queries
    return calls * (1.0 - asked.warm) * deployed.processor_mb / 1024


def slots_that_hold(
    one: Assumptions, rows: int, dimension: int, deployed: Deployed | None = None
) -> int:
    """Return how many slots hold an index, those that there are at least."""
    usual, each = deployed or Deployed(), row_bytes(one, dimension)
    held = usual.retained_bytes / usual.slots
    return max(usual.slots, math.ceil(rows * (each.codes + each.vector) / held))


def sized(one: Assumptions, rows: int, *, dimension: int = DIMENSION, **more: Any) -> Deployed:
    """Return a deployment whose containers hold all of an index, coordinator included."""
    usual = Deployed(**more)
    held = coordinator_bytes(one, Asked(rows, 0.1, dimension=dimension)) / RETAINED_SHARE / 1e6
    return replace(
        usual,
        slots=slots_that_hold(one, rows, dimension, usual),
        coordinator_mb=max(usual.coordinator_mb, math.ceil(held / 64) * 64),
    )


def index_bytes(one: Assumptions, rows: int, dimension: int = DIMENSION) -> float:
    """Return what an index takes in S3: its rows, and its centers."""
    return rows * row_bytes(one, dimension).stored + routing_bytes(rows, dimension)


def idle_usd(one: Assumptions, rows: int, dimension: int = DIMENSION) -> float:
    """Return what an index costs a month while nobody asks: its bytes in S3."""
    return storage_cost_usd(index_bytes(one, rows, dimension))
