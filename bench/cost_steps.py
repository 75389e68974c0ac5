"""What the steps of a query take on AWS: arithmetic on what was measured and what is assumed.

`steps` and the starts are the one model there is: `bench/cost_model.py` makes dollars of them,
`bench/scale_queries.py` draws about them what one waits for. Who answers is what
`squash.planning.shape.choose_shape` chooses, as deployed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from scale_cut import partitions, routing_bytes, snapshot_bytes
from scale_platform import MB_PER_VCPU, parameter
from squash.limits import CLUSTER_ROWS_TARGET, ROW_PAGE_ROWS
from squash.planning import DEFAULT_COSTS, Matches, keep_for
from squash.planning.prices import GB_SECOND_USD, Architecture
from squash.planning.shape import (
    DEFAULT_SHAPE_COSTS,
    Load,
    Shape,
    ShapeCosts,
    choose_shape,
    estimate,
    work_of,
)

K: Final = 10
TARGET: Final = 0.95
DIMENSION: Final = 768
RETAINED_SHARE: Final = 0.5
TMP_SHARE: Final = 0.75
SNAPSHOT_TIMES: Final = 4.0
"""How much more than its bytes a snapshot takes as objects of Python."""
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
        Of a row of 768 dimensions: codes; vector; attributes, by which the coordinator filters.
    stored_bytes:
        Of such a row, all objects together.
    refined:
        How many rows of a query are measured exactly, each in a page of vectors.
    hop_ms, round_ms, read_mb_per_s:
        From a call to its first line and back; a round to S3; how fast S3 sends.
    slots_needed:
        How many processors a query needs.
    begin_ms:
        Until a new container's import begins: waited for, and billed to nobody but who waits.
    start_ms, coordinator_start_ms:
        CPU to import a processor or another function, and the coordinator: billed.
    first_ms, coordinator_first_ms:
        CPU of the first answer, the requests that it takes without a filter included.
    connect_ms:
        CPU that a process's first connection to S3 takes, by TLS.
    client_ms:
        CPU of the coordinator to load the client of Lambda, and for its connections.
    cold_requests, cold_rounds, cold_mb:
        What a processor asks of S3 that has nothing yet, for a query.
    coordinator_requests, coordinator_lists, coordinator_rounds:
        The same of a coordinator: requests that read, and that list; a filter takes one more for
        each partition, in one more round.
    parse_ms_per_mb, deal_us:
        CPU to read a megabyte of a snapshot, and to weigh one slot for one segment.
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
    request_ms: float = 0.1
    work: float = 1.0
    code_bytes: float = 500.0
    row_bytes: float = 3_072.0
    attribute_bytes: float = 13.0
    stored_bytes: float = 3_650.0
    refined: int = keep_for(K, TARGET).refined
    hop_ms: float = DEFAULT_SHAPE_COSTS.hop_ms
    round_ms: float = DEFAULT_SHAPE_COSTS.round_ms
    read_mb_per_s: float = DEFAULT_SHAPE_COSTS.read_mb_per_s
    slots_needed: float = DEFAULT_SHAPE_COSTS.slots_needed
    begin_ms: float = 150.0
    start_ms: float = 250.0
    coordinator_start_ms: float = 300.0
    first_ms: float = 25.0
    coordinator_first_ms: float = 40.0
    connect_ms: float = 45.0
    client_ms: float = 215.0
    cold_requests: float = 8.0
    cold_rounds: float = 3.0
    cold_mb: float = 4.0
    coordinator_requests: float = 3.0
    coordinator_lists: float = 2.0
    coordinator_rounds: float = 3.0
    parse_ms_per_mb: float = 38.0
    deal_us: float = 0.013
    warm_requests: float = 1.0
    line_bytes: float = 305.0
    access_bytes: float = 299.0
    metrics_bytes: float = 512.0


def _by_default(name: str) -> float:
    return field(default_factory=lambda: float(parameter(name)))


@dataclass(frozen=True, slots=True)
class Deployed:
    """How the functions are set up; by default as `template.yaml` has it.

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

    slots: int = field(default_factory=lambda: parameter("Slots"))
    coordinator_mb: float = _by_default("CoordinatorMemory")
    processor_mb: float = _by_default("ProcessorMemory")
    tmp_mb: float = _by_default("ProcessorTmp")
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
    dimension:
        Of the index.

    """

    rows: int
    share: float = 1.0
    warm: float = 1.0
    queries: int = 1
    dimension: int = DIMENSION


@dataclass(frozen=True, slots=True)
class RowBytes:
    """Of a row: its codes, its vector, and all objects together."""

    codes: float
    vector: float
    stored: float


def row_bytes(one: Assumptions, dimension: int) -> RowBytes:
    """Return what a row takes: codes and vectors grow with the dimension, all else does not."""
    times = dimension / DIMENSION
    codes, vector = times * one.code_bytes, times * one.row_bytes
    other = one.stored_bytes - one.code_bytes - one.row_bytes
    return RowBytes(codes, vector, other + codes + vector)


def coordinator_bytes(one: Assumptions, asked: Asked) -> float:
    """Return what a coordinator must hold: centers and snapshot, and with a filter attributes."""
    held = routing_bytes(asked.rows, asked.dimension) + SNAPSHOT_TIMES * snapshot_bytes(asked.rows)
    return held + (asked.rows * one.attribute_bytes if asked.share < 1.0 else 0.0)


def expected(one: Assumptions, asked: Asked, share: float) -> Matches:
    """Return what a query is expected to meet."""
    return Matches(
        rows=asked.rows,
        matches=asked.rows * share,
        open_rows=0.0,
        comparisons=0 if share == 1.0 else 1,
        clusters=max(asked.rows // CLUSTER_ROWS_TARGET, 1),
        clusters_needed=clusters_needed(one, asked.rows, share),
        dimension=asked.dimension,
        refined=one.refined,
    )


def clusters_needed(one: Assumptions, rows: int, share: float) -> float:
    """Return how many clusters a query takes: a power of how many there are."""
    clusters = max(rows / CLUSTER_ROWS_TARGET, 1.0)
    return min(one.needed[share] * (clusters / 1_000) ** one.growth[share], clusters)


def shape_costs(one: Assumptions, deployed: Deployed) -> ShapeCosts:
    """Return the planner's costs by these assumptions; nothing is cold, that is added apart."""
    return replace(
        DEFAULT_SHAPE_COSTS,
        hop_ms=one.hop_ms,
        round_ms=one.round_ms,
        read_mb_per_s=one.read_mb_per_s,
        slots_needed=one.slots_needed,
        search_ms=one.search_ms,
        cold_share=0.0,
        memory_gb=deployed.processor_mb / 1024,
        gb_second_usd=GB_SECOND_USD[deployed.architecture],
    )


def load_of(
    one: Assumptions, deployed: Deployed, asked: Asked, share: float, *, function_mb: float
) -> Load:
    """Return what the planner is told by who has so much memory."""
    plan_ms, scan_ms = work_of(DEFAULT_COSTS, expected(one, asked, share))
    each = row_bytes(one, asked.dimension)
    return Load(
        queries=asked.queries,
        plan_ms=plan_ms * one.work,
        scan_ms=scan_ms * one.work,
        index_bytes=round(asked.rows * (each.codes + each.vector + one.attribute_bytes)),
        retained_bytes=round(RETAINED_SHARE * deployed.coordinator_mb * 1e6),
        partitions=partitions(asked.rows),
        slots=deployed.slots,
        vcpus=function_mb / MB_PER_VCPU,
    )


@dataclass(frozen=True, slots=True)
class Missed:
    """What a call reads since containers cannot hold it: requests, megabytes, rounds."""

    requests: float
    mb: float
    rounds: float


def missed(one: Assumptions, deployed: Deployed, asked: Asked) -> Missed:
    """Return what warm processors still read: they hold codes first, then vectors.

    That flatters: the least recently used goes first, whatever it is.
    """
    held, each = deployed.retained_bytes, row_bytes(one, asked.dimension)
    codes, vectors = asked.rows * each.codes, asked.rows * each.vector
    no_code = 1.0 - min(held / codes, 1.0)
    no_vector = 1.0 - min(max(held - codes, 0.0) / vectors, 1.0)
    needed = clusters_needed(one, asked.rows, asked.share) * no_code
    pages = one.refined * no_vector
    read = needed * CLUSTER_ROWS_TARGET * each.codes + pages * ROW_PAGE_ROWS * each.vector
    times = asked.queries
    return Missed(times * (needed + pages), times * read / 1e6, min(needed, 1.0) + min(pages, 1.0))


@dataclass(frozen=True, slots=True)
class Steps:
    """What a call of warm containers takes, in milliseconds.

    Parameters
    ----------
    shape, calls:
        Who answers, and how many others are called for it.
    own_ms:
        CPU of the coordinator for what it has to do whoever answers; its search, if it does.
    news_ms:
        A round to S3, which is asked for news while others search what is known.
    plan_ms:
        CPU of the coordinator to plan, to call others and to take in their answers.
    between_ms:
        From there until these work, and back; of a tree, all until its root has its answers.
    process_ms:
        Of each that is called; of a tree it is in `between_ms`.
    missed, missed_ms:
        What each of those reads, and how long.
    called_gb_ms:
        Memory times time of all that are called, reading apart.
    asks:
        S3 requests of all, news apart.

    """

    shape: Shape
    calls: float
    own_ms: float
    news_ms: float
    plan_ms: float
    between_ms: float
    process_ms: float
    missed: Missed
    missed_ms: float
    called_gb_ms: float
    asks: float

    @property
    def calls_ms(self) -> float:
        """How long the coordinator is busy with others and waits for them."""
        return self.plan_ms + self.between_ms + self.process_ms + self.missed_ms

    @property
    def ms(self) -> float:
        """How long a call takes."""
        return self.own_ms + max(self.news_ms, self.calls_ms)


def steps(
    one: Assumptions, deployed: Deployed, asked: Asked, *, shape: Shape | None = None
) -> Steps:
    """Return what a call takes, of the shape that is chosen or of this one."""
    own_mb = deployed.coordinator_mb
    planned = EXPECTED_SHARE if asked.share < 1.0 else 1.0
    chosen = shape or choose_shape(load_of(one, deployed, asked, planned, function_mb=own_mb))
    costs, rounds = shape_costs(one, deployed), 0.0 if deployed.eventual else 1.0
    slow = slowness(own_mb)
    own_ms = slow * (asked.queries * one.handler_ms + rounds * one.warm_requests * one.request_ms)
    if chosen.kind == "none":
        load = load_of(one, deployed, asked, asked.share, function_mb=own_mb)
        own_ms += estimate(chosen, load, costs).ms
        asks = _count(chosen, load, costs, "request_usd")
        nothing = Missed(0.0, 0.0, 0.0)
        news = rounds * one.round_ms
        return Steps(chosen, 0.0, own_ms, news, 0.0, 0.0, 0.0, nothing, 0.0, 0.0, asks)
    load = load_of(one, deployed, asked, asked.share, function_mb=deployed.processor_mb)
    usual, calls = estimate(chosen, load, costs), _count(chosen, load, costs, "invocation_usd")
    free = replace(costs, invocation_usd=0.0, request_usd=0.0, gb_second_usd=1.0)
    called_gb_ms = 1e3 * estimate(chosen, load, free).usd - usual.ms * costs.memory_gb
    called_gb_ms = max(called_gb_ms, 0.0)
    if chosen.tree is None:
        process_ms = called_gb_ms / calls / costs.memory_gb
        cores = max(min(load.vcpus, asked.queries), 0.1)
        native_ms = asked.queries * load.plan_ms
        python_ms = usual.ms - one.hop_ms - process_ms - native_ms / cores
        between_ms = one.hop_ms
        plan_ms = native_ms / max(min(own_mb / MB_PER_VCPU, asked.queries), 0.1)
        plan_ms += slow * python_ms
    else:
        # What the root does by itself; all else of a tree is done by allocators.
        root_ms = costs.call_ms * chosen.tree.branching_factor + asked.queries * costs.answer_ms
        process_ms, between_ms, plan_ms = 0.0, usual.ms - root_ms, slow * root_ms
    reads = missed(one, deployed, asked)
    missed_ms = reads.mb / one.read_mb_per_s * 1e3 + reads.requests * one.request_ms
    return Steps(
        chosen,
        calls,
        own_ms,
        rounds * one.round_ms,
        plan_ms,
        between_ms,
        process_ms,
        reads,
        reads.rounds * one.round_ms + missed_ms / max(calls, 1.0),
        called_gb_ms,
        reads.requests,
    )


def slowness(function_mb: float) -> float:
    """Return by how much a function takes longer than a core for what one thread does."""
    return MB_PER_VCPU / min(function_mb, MB_PER_VCPU)


def _count(shape: Shape, load: Load, costs: ShapeCosts, price_of: str) -> float:
    """Return how many of something a shape takes: its cost where all else is free."""
    free = replace(costs, invocation_usd=0.0, request_usd=0.0, gb_second_usd=0.0)
    return estimate(shape, load, replace(free, **{price_of: 1.0})).usd


@dataclass(frozen=True, slots=True)
class Start:
    """What a container adds to a call that it starts for.

    Parameters
    ----------
    begin_ms:
        Until its import begins, which is not billed.
    cpu_ms, rounds, mb:
        Its own work; how often it waits for S3; what it reads.
    gets, lists:
        Requests to S3.

    """

    begin_ms: float
    cpu_ms: float
    rounds: float
    mb: float
    gets: float
    lists: float

    def billed_ms(self, one: Assumptions) -> float:
        """Return how long it runs."""
        return self.cpu_ms + self.rounds * one.round_ms + self.mb / one.read_mb_per_s * 1e3


def processor_start(one: Assumptions, deployed: Deployed) -> Start:
    """Return what a processor that knows nothing does before it answers."""
    cpu_ms = slowness(deployed.processor_mb) * (one.start_ms + one.first_ms + one.connect_ms)
    return Start(one.begin_ms, cpu_ms, one.cold_rounds, one.cold_mb, one.cold_requests, 0.0)


def coordinator_start(
    one: Assumptions, deployed: Deployed, asked: Asked, *, alone: bool = False
) -> Start:
    """Return what a coordinator that knows nothing does; alone, what a processor would, too."""
    rows, count = asked.rows, partitions(asked.rows)
    cpu_ms = one.coordinator_start_ms + one.coordinator_first_ms + one.connect_ms
    cpu_ms += snapshot_bytes(rows) / 1e6 * one.parse_ms_per_mb
    mb = (snapshot_bytes(rows) + routing_bytes(rows, asked.dimension)) / 1e6
    gets, rounds = one.coordinator_requests, one.coordinator_rounds
    if asked.share < 1.0:
        gets, rounds, mb = gets + count, rounds + 1.0, mb + rows * one.attribute_bytes / 1e6
        cpu_ms += count * one.request_ms
    if alone:
        gets, rounds, mb = gets + one.cold_requests, rounds + one.cold_rounds, mb + one.cold_mb
        cpu_ms += one.first_ms
    else:
        cpu_ms += one.client_ms + count * deployed.slots * one.deal_us / 1e3
    return Start(
        one.begin_ms,
        slowness(deployed.coordinator_mb) * cpu_ms,
        rounds,
        mb,
        gets,
        one.coordinator_lists,
    )
