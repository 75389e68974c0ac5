"""What queries cost on AWS: dollars a million, from CPU time measured here and list prices.

    python bench/cost_inputs.py && python bench/cost.py --out docs/benchmarks.md

The model is pure: `price` takes assumptions, an index and a way of asking, and returns the parts of
the bill. Who answers is what `squash.planning.shape.choose_shape` chooses, as deployed.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from report import command_line, machine, number, table, write_section
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

ROOT: Final = Path(__file__).resolve().parents[1]
INPUTS: Final = ROOT / ".cache" / "bench" / "cost-inputs.json"
MILLION: Final = 1_000_000
SIZES: Final = (MILLION, 10 * MILLION, 100 * MILLION)
SHARES: Final = (1.0, 0.1, 0.01)
WARM: Final = (1.0, 0.98, 0.8)
BATCH: Final = 100
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
# Made data has few centers, near which no more clusters are needed however many rows there are;
# real data, and prudence, want some.
GROWTH_MIN: Final = 0.25
# The share of rows that the coordinator expects to pass, as the distributed searcher has it.
EXPECTED_SHARE: Final = 0.1
PEERS: Final[Mapping[str, Mapping[int, float]]] = {
    "S3 Vectors": {MILLION: 9.05, 10 * MILLION: 63.0},
    "turbopuffer": {MILLION: 3.27, 10 * MILLION: 32.0},
}


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
    log_bytes:
        Of logs and metrics, a call of the coordinator.

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
    log_bytes: float = 1_200.0


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

    """

    slots: int = SLOTS
    coordinator_mb: float = MB_PER_VCPU
    processor_mb: float = MB_PER_VCPU
    tmp_mb: float = 512.0
    architecture: Architecture = "arm64"
    eventual: bool = False

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
        GB-seconds of the coordinator: its own work; waiting for S3; for those that it calls.
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

    get = 0.0 if deployed.eventual else 1.0
    spread = max(calls, 1.0)
    reads = Missed(0.0, 0.0, 0.0) if alone else missed(one, deployed, asked)
    reads = Missed(reads.requests * asked.queries, reads.mb * asked.queries, reads.rounds)
    miss_ms = reads.rounds * one.round_ms
    miss_ms += (reads.mb / one.read_mb_per_s * 1e3 + reads.requests * one.request_ms) / spread
    own_ms = cpu * (asked.queries * one.handler_ms + get * one.request_ms)
    calls_ms = 0.0 if alone else usual.ms + miss_ms
    if alone:
        own_ms += cpu * usual.ms
    store_ms = get * one.round_ms
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
        http=scale * HTTP_REQUEST_USD,
        logs=scale * logging_cost_usd(one.log_bytes),
        cold=scale * cold_usd,
    )


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


def assumptions(found: Mapping[str, Any]) -> Assumptions:
    """Return what `bench/cost_inputs.py` measured, fitted."""
    sizes = found["sizes"]
    last = sizes[-1]
    needed, growth = {}, {}
    for share in SHARES:
        clusters = [one["clusters"] for one in sizes]
        values = [one["shares"][f"{share:g}"]["needed"] for one in sizes]
        growth[share] = max(slope(clusters, values), GROWTH_MIN)
        needed[share] = values[-1] * (1_000 / clusters[-1]) ** growth[share]
    above = [one["call_ms"] - sum(one["modelled_ms"]) for one in map(last["shares"].get, _names())]
    rows, sizes_of = last["rows"], last["bytes"]
    return Assumptions(
        handler_ms=min(one["handler_ms"] for one in sizes),
        search_ms=max(sum(above) / len(above), 0.0),
        needed=needed,
        growth=growth,
        code_bytes=sizes_of["codes"] / rows,
        row_bytes=sizes_of["vectors"] / rows,
        attribute_bytes=sizes_of["attributes"] / rows,
        stored_bytes=sum(sizes_of.values()) / rows,
    )


def _names() -> list[str]:
    return [f"{share:g}" for share in SHARES]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of a straight line through logarithms."""
    x, y = [math.log(value) for value in xs], [math.log(value) for value in ys]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


VARIED: Final = (
    "handler_ms", "search_ms", "work", "needed", "request_ms", "hop_ms", "round_ms",
    "read_mb_per_s", "slots_needed", "start_ms", "cold_requests", "cold_mb", "log_bytes",
)  # fmt: skip


def varied(one: Assumptions, name: str, factor: float) -> Assumptions:
    """Return the assumptions with one of them multiplied."""
    value = getattr(one, name)
    if isinstance(value, Mapping):
        return replace(one, **{name: {key: factor * part for key, part in value.items()}})
    return replace(one, **{name: factor * value})


def sensitivity(
    one: Assumptions, deployed: Deployed, asked: Asked
) -> list[tuple[str, float, float]]:
    """Return the bill with each assumption halved and doubled, the most telling first."""
    found = [
        (
            name,
            price(varied(one, name, 0.5), deployed, asked).total,
            price(varied(one, name, 2.0), deployed, asked).total,
        )
        for name in VARIED
    ]
    return sorted(found, key=lambda line: -abs(line[2] - line[1]))


def idle_usd(one: Assumptions, rows: int) -> float:
    """Return what an index costs a month while nobody asks: its bytes in S3."""
    return storage_cost_usd(rows * one.stored_bytes)


def dollars(value: float) -> str:
    """Return an amount."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def rows_of(size: int) -> str:
    """Return how an index is called."""
    return f"{size // MILLION} million"


NOTE: Final = """\
Dollars for a million queries, k = 10 at recall 0.95, {dimension} dimensions, list \
prices of us-east-1 without free tiers and without what leaves AWS. The HTTP API ($1.00) and logs \
({logs}, {log_bytes:.0f} bytes a call) are included; the peers' prices hold all that they ask for \
queries. *Warm* is the share of calls, of the coordinator and of processors, that find a container \
which has loaded what they need; the others start one (all billed) and read from S3.

Measured here (`bench/cost_inputs.py`, {processor}, two cores shared with others, which makes CPU \
time up to twice as long): made vectors near a surface of 24 dimensions, {sizes} rows; recall \
{recall} without a filter, {recall_filtered} where 1 % pass. Clusters needed by share of rows that \
pass, of 1,000, and the power with which they grow ({growth_min} at least): {needed}. CPU of the \
coordinator's function for a query in JSON {handler} ms, of a search beside `CostModel` {search} \
ms, of an S3 request {request} ms (decision 0012), to start {start:.0f} ms (the section *Cold \
starts*). Bytes a row: codes {codes:.0f}, vectors {vectors:.0f}, attributes {attributes:.0f}, in \
all {stored:.0f}. Work is `planning.costs`, calls `planning.shape`, with its numbers for hops and \
slots. **Assumed, not measured on AWS**: {hop:.0f} ms a hop, {round:.0f} ms a round to S3, \
{rate:.0f} MB a second. A cold processor is taken to ask S3 {cold_requests:.0f} times in \
{cold_rounds:.0f} rounds for {cold_mb:.0f} MB, which is the aim; 0011 measured more."""

AS_IS: Final = """**As deployed by default** (8 slots, 1769 MB, half of it retained, 512 MB of \
/tmp). Of 10 million rows and more this keeps the codes at best, and each query reads pages of \
vectors from S3:"""
SIZED: Final = """**With as many slots as hold the index** (`Slots`; and a coordinator that holds \
all centers and attributes, `CoordinatorMemory`):"""
SPREAD: Final = "What a query costs by part, one a call, 10 % passing, 98 % warm, sized:"
SWUNG: Final = (
    """What the assumptions do to {title} ({usual} as assumed), each halved and doubled:"""
)
CHOICES: Final = "What settings do to a query of 1 million, 10 % passing, all else as by default:"


def section(one: Assumptions, found: Mapping[str, Any], plots: Path | None) -> str:
    """Return the document's section."""
    middle = Asked(MILLION, 0.1, 0.98)
    usual = Deployed()
    first = replace(middle, warm=1.0)
    parts = ["## What queries cost", machine(command_line(), {}), note(one, found)]
    if plots is not None:
        import costplot

        parts.append(costplot.draw(one, plots / "cost.svg"))
    parts += [
        AS_IS,
        _bills(one, lambda _: usual),
        SIZED,
        _bills(one, lambda rows: sized(one, rows)),
        SPREAD,
        _parts(one),
        CHOICES,
        _choices(one, middle),
        SWUNG.format(title="1 million, all warm", usual=dollars(price(one, usual, first).total)),
        _swings(one, usual, first),
        SWUNG.format(title="1 million, 98 % warm", usual=dollars(price(one, usual, middle).total)),
        _swings(one, usual, middle),
        "Idle, a month, in S3: "
        + ", ".join(f"${dollars(idle_usd(one, rows))} for {rows_of(rows)}" for rows in SIZES)
        + " rows.",
    ]
    return "\n\n".join(parts)


def note(one: Assumptions, found: Mapping[str, Any]) -> str:
    """Return what the figures are from."""
    last = found["sizes"][-1]
    return NOTE.format(
        dimension=DIMENSION,
        logs=f"${dollars(MILLION * logging_cost_usd(one.log_bytes))}",
        log_bytes=one.log_bytes,
        processor=found["processor"],
        sizes=" to ".join(f"{found['sizes'][i]['rows']:,}" for i in (0, -1)),
        recall=f"{last['shares']['1']['recall']:.3f}",
        recall_filtered=f"{last['shares']['0.01']['recall']:.3f}",
        growth_min=GROWTH_MIN,
        needed=", ".join(
            f"{100 * share:g} %: {one.needed[share]:.0f} (power {one.growth[share]:.2f})"
            for share in SHARES
        ),
        handler=number(one.handler_ms),
        search=number(one.search_ms),
        request=number(one.request_ms),
        start=one.start_ms,
        codes=one.code_bytes,
        vectors=one.row_bytes,
        attributes=one.attribute_bytes,
        stored=one.stored_bytes,
        hop=one.hop_ms,
        round=one.round_ms,
        rate=one.read_mb_per_s,
        cold_requests=one.cold_requests,
        cold_rounds=one.cold_rounds,
        cold_mb=one.cold_mb,
    )


def _bills(one: Assumptions, deployed_for: Callable[[int], Deployed]) -> str:
    rows = []
    for size in SIZES:
        deployed = deployed_for(size)
        for share in SHARES:
            warm = [price(one, deployed, Asked(size, share, w)) for w in WARM]
            batch = [price(one, deployed, Asked(size, share, w, BATCH)) for w in WARM]
            x86 = price(one, replace(deployed, architecture="x86_64"), Asked(size, share, 0.98))
            rows.append(
                [
                    f"{rows_of(size)}, {100 * share:g} %",
                    f"{deployed.slots} x {deployed.coordinator_mb:.0f}",
                    warm[0].shape,
                    number(warm[0].ms),
                    *(dollars(bill.total) for bill in warm),
                    dollars(x86.total),
                    f"{batch[0].shape}",
                    *(dollars(bill.total) for bill in batch),
                    *(
                        dollars(prices[size]) if size in prices else "–"
                        for prices in PEERS.values()
                    ),
                ]
            )
    head = (
        "rows, share that passes", "slots x coordinator's MB", "one query", "ms warm", "100 % warm",
        "98 %", "80 %", "x86, 98 %", f"batch of {BATCH}", "100 % warm", "98 %", "80 %", *PEERS,
    )  # fmt: skip
    return table(head, rows)


def _parts(one: Assumptions) -> str:
    bills = [price(one, sized(one, size), Asked(size, 0.1, 0.98)) for size in SIZES]
    rows = []
    for name, label in zip(PARTS, LABELS, strict=True):
        values = [getattr(bill, name) for bill in bills]
        shares = [
            f"{dollars(value)} ({100 * value / bill.total:.0f} %)"
            for value, bill in zip(values, bills, strict=True)
        ]
        rows.append([label, *shares])
    rows.append(["all", *(dollars(bill.total) for bill in bills)])
    return table(("part", *map(rows_of, SIZES)), rows)


def _choices(one: Assumptions, asked: Asked) -> str:
    usual = Deployed()
    variants = [
        ("by default", usual, None),
        ("`consistency` eventual", replace(usual, eventual=True), None),
        ("`CoordinatorMemory` 1024", replace(usual, coordinator_mb=1024.0), None),
        ("`CoordinatorMemory` 512", replace(usual, coordinator_mb=512.0), None),
        ("`CoordinatorMemory` 3008", replace(usual, coordinator_mb=3008.0), None),
        ("`ProcessorMemory` 3008", replace(usual, processor_mb=3008.0), None),
        ("2 slots of 7076 MB", replace(usual, slots=2, processor_mb=7076.0), None),
        ("1 slot of 10240 MB", replace(usual, slots=1, processor_mb=10240.0), None),
        (
            "one function of 8192 MB, eventual",
            replace(usual, coordinator_mb=8192.0, processor_mb=8192.0, eventual=True),
            Shape("none"),
        ),
    ]
    rows = []
    for title, deployed, shape in variants:
        warm = price(one, deployed, replace(asked, warm=1.0), shape=shape)
        bill = price(one, deployed, asked, shape=shape)
        rows.append([title, number(warm.ms), dollars(warm.total), dollars(bill.total)])
    return table(("setting", "ms warm", "all warm", "98 % warm"), rows)


def _swings(one: Assumptions, deployed: Deployed, asked: Asked) -> str:
    lines = sensitivity(one, deployed, asked)[:7]
    return table(
        ("assumption", "halved", "doubled"),
        [[f"`{name}`", dollars(low), dollars(high)] for name, low, high in lines],
    )


def main() -> None:
    """Print the section, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, default=INPUTS)
    parser.add_argument("--out", type=Path, help="write a section of this document")
    arguments = parser.parse_args()
    found = json.loads(arguments.inputs.read_text(encoding="utf-8"))
    plots = arguments.out.parent / "plots" if arguments.out is not None else None
    text = section(assumptions(found), found, plots)
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, "cost", text)


if __name__ == "__main__":
    main()
