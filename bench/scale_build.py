"""What a bulk build takes on Lambda and Step Functions, stage by stage: time, dollars, requests.

Pure: from a cut, a fit of what was measured, and a platform. A stage's tasks are taken to be alike
but for a spread; they start as fast as the map and Lambda let them, run as wide as the account
allows, and no stage is faster than S3 answers one prefix's requests.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from scale_cut import DOCUMENT_BYTES, KEY_ROW_BYTES, Cut
from scale_inputs import Fit
from scale_platform import Platform
from squash.limits import DELETE_BATCH_KEYS, LIST_PAGE_MAX, MIB
from squash.maintain.bulk.stages import MAPPED, STAGES, Stage
from squash.planning.prices import (
    invocation_cost_usd,
    request_cost_usd,
    transition_cost_usd,
)

OBJECTS_PER_PARTITION: Final = 6
PART_BYTES: Final = 8 * MIB
"""Of one ranged read of an input file."""
TASK_GETS: Final = 6.0
"""Of a task: whether it is done, request, attempt, stop, plan, model."""
TASK_PUTS: Final = 1.0
PROBE_GETS: Final = 2.0
GATE_MS: Final = 500.0
"""Of a gate: it reads the reports of the stage before."""
SPREAD: Final = 0.15
"""Of the tasks of a stage: sigma of a lognormal."""
SIMULATED_TASKS_MAX: Final = 20_000
_SEED: Final = 11


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to S3 by kind, as `squash.planning.prices` names them."""

    get: float = 0.0
    range: float = 0.0
    put: float = 0.0
    list: float = 0.0
    delete: float = 0.0

    def counts(self) -> dict[str, int]:
        """Return whole numbers by kind."""
        return {name: round(getattr(self, name)) for name in self.__dataclass_fields__}

    @property
    def reads(self) -> float:
        """Gets of objects and of ranges."""
        return self.get + self.range

    @property
    def writes(self) -> float:
        """What S3 counts as writes."""
        return self.put + self.list + self.delete


@dataclass(frozen=True, slots=True)
class StageCost:
    """A stage of a build.

    Parameters
    ----------
    tasks, task_s:
        How many, and how long one takes, its container's start apart.
    cpu_s:
        Of one core, all tasks together.
    requests, bytes_in, bytes_out:
        Of all tasks.
    waves:
        How often each of the containers that may run at once is used.
    store_s:
        The least that S3 lets its requests take.
    seconds:
        From the stage's begin to its end.
    function_usd, request_usd, transition_usd:
        Its parts of the bill.

    """

    stage: Stage
    tasks: int
    task_s: float
    cpu_s: float
    requests: Requests
    bytes_in: float
    bytes_out: float
    waves: float
    store_s: float
    seconds: float
    function_usd: float
    request_usd: float
    transition_usd: float

    @property
    def usd(self) -> float:
        """All that it costs."""
        return self.function_usd + self.request_usd + self.transition_usd


@dataclass(frozen=True, slots=True)
class BuildCost:
    """A build: its stages in their order."""

    cut: Cut
    stages: tuple[StageCost, ...]

    @property
    def seconds(self) -> float:
        """From begin to end."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def usd(self) -> float:
        """All that it costs."""
        return sum(stage.usd for stage in self.stages)

    def of(self, stage: Stage) -> StageCost:
        """Return one stage."""
        return next(one for one in self.stages if one.stage is stage)


def build_cost(one: Cut, fit: Fit, platform: Platform) -> BuildCost:
    """Return what a build takes."""
    return BuildCost(
        one,
        tuple(stage_cost(stage, one, fit, platform) for stage in STAGES if one.tasks[stage]),
    )


def stage_cost(stage: Stage, one: Cut, fit: Fit, platform: Platform) -> StageCost:
    """Return what a stage takes."""
    tasks = one.tasks[stage]
    cpu_s = fit.cpu_s(stage, one) / platform.processor_share
    requests = requests_of(stage, one)
    bytes_in, bytes_out = bytes_of(stage, one, fit)
    task_s = cpu_s / tasks / platform.vcpus
    task_s += (bytes_in + bytes_out) / tasks / platform.bandwidth_mb_per_s / 1e6
    at_once = min(platform.requests_at_once, max((requests.reads + requests.writes) / tasks, 1.0))
    task_s += requests.reads / tasks / at_once * platform.get.p50 / 1e3
    task_s += requests.writes / tasks / at_once * platform.put.p50 / 1e3
    start_s = (platform.start.p50 + platform.import_ms) / 1e3
    least = max(requests.reads / platform.gets_per_s, requests.writes / platform.puts_per_s)
    store_s = with_splits(least, platform)
    ran_s = makespan(tasks, task_s, start_s, platform)
    width = min(platform.concurrency, platform.children_max)
    starts = min(tasks, width)
    gb = platform.memory_mb / 1024
    calls = tasks + platform.gates_per_stage
    # A task that S3 holds up is billed while it waits.
    waited_s = max(store_s - ran_s, 0.0) * min(tasks, width)
    gb_seconds = (tasks * task_s + starts * start_s + waited_s) * gb
    # Every stage is a map, that of one task too, between two gates.
    transitions = platform.transitions_per_stage + platform.transitions_per_task * tasks
    gates_s = platform.gates_per_stage * (platform.invoke.p50 + GATE_MS) / 1e3
    gb_seconds += platform.gates_per_stage * GATE_MS / 1e3 * gb
    return StageCost(
        stage,
        tasks,
        task_s,
        cpu_s,
        requests,
        bytes_in,
        bytes_out,
        tasks / width,
        store_s,
        max(ran_s, store_s) + gates_s + platform.map_s,
        invocation_cost_usd(calls, gb_seconds, architecture=platform.architecture),
        request_cost_usd(requests.counts()),
        transition_cost_usd(round(transitions)),
    )


def requests_of(stage: Stage, one: Cut) -> Requests:
    """Return the requests of all tasks of a stage."""
    tasks = one.tasks[stage]
    gets, puts = TASK_GETS * tasks, TASK_PUTS * tasks
    piece_bytes = 4 * one.dimension * one.piece_rows
    reads = max(math.ceil(piece_bytes / PART_BYTES), 1)
    mapped = sum(one.tasks[name] for name in MAPPED)
    match stage:
        case Stage.PLAN:
            lists = 1 + one.files / LIST_PAGE_MAX
            return Requests(gets, PROBE_GETS * one.files, puts + 1, lists)
        case Stage.SAMPLE:
            return Requests(gets, one.sample_pieces * reads, puts + tasks)
        case Stage.TRAIN:
            return Requests(gets + one.tasks[Stage.SAMPLE], 0.0, puts + 1)
        case Stage.ASSIGN:
            kept = 2 if one.key_ranges else 1
            return Requests(gets, one.pieces * reads, puts + kept * one.pieces)
        case Stage.KEYS:
            return Requests(gets, 2.0 * one.pieces * tasks, puts + tasks)
        case Stage.ASSEMBLE:
            made = OBJECTS_PER_PARTITION * one.partitions
            replaced = one.key_ranges * tasks
            return Requests(gets + replaced, 2.0 * one.pieces * tasks, puts + tasks + made)
        case Stage.CALIBRATE:
            return Requests(gets + one.groups, 0.0, puts + 2)
        case Stage.PUBLISH:
            left = one.pieces * (2 if one.key_ranges else 1) + one.tasks[Stage.SAMPLE]
            lists = 4 + left / LIST_PAGE_MAX
            return Requests(gets + 4 + mapped, 0.0, puts + 1, lists, left / DELETE_BATCH_KEYS)
        case _:
            return Requests(gets, 0.0, puts)


def bytes_of(stage: Stage, one: Cut, fit: Fit) -> tuple[float, float]:
    """Return the bytes that all tasks of a stage read and write."""
    vector = 4.0 * one.dimension
    sample = one.sample_rows * (vector + DOCUMENT_BYTES)
    match stage:
        case Stage.SAMPLE:
            return one.sampled_rows * vector, sample
        case Stage.TRAIN:
            return sample, one.clusters * vector
        case Stage.ASSIGN:
            keys = one.rows * KEY_ROW_BYTES if one.key_ranges else 0.0
            model = one.tasks[stage] * one.clusters * vector
            return one.vector_bytes + model, one.run_bytes + keys
        case Stage.KEYS:
            return one.rows * KEY_ROW_BYTES, 0.0
        case Stage.ASSEMBLE:
            heads = one.tasks[stage] * (one.pieces * 16.0 * one.groups + one.clusters * vector)
            return one.run_bytes + heads, fit.stored_bytes(one.rows, one.dimension)
        case Stage.CALIBRATE | Stage.PUBLISH:
            centers = routing_bytes(one.rows, one.dimension)
            return centers, centers
        case _:
            return 0.0, 0.0


def routing_bytes(rows: int, dimension: int) -> float:
    """Return the bytes of the centers of a finished index: a cluster has 512 rows."""
    from squash.limits import CLUSTER_ROWS_TARGET

    return rows / CLUSTER_ROWS_TARGET * (4.0 * dimension + 8.0)


def with_splits(least_s: float, platform: Platform) -> float:
    """Return how long requests take that one prefix answers in so long, as S3 splits it."""
    left, rate, spent = least_s, 1.0, 0.0
    for _ in range(platform.splits_max):
        if left <= rate * platform.split_s:
            break
        left -= rate * platform.split_s
        spent += platform.split_s
        rate *= 2.0
    return spent + left / rate


def makespan(tasks: int, task_s: float, start_s: float, platform: Platform) -> float:
    """Return when the last of so many tasks ends; the same for the same arguments.

    The first tasks start containers, as fast as the map starts children and Lambda containers;
    each later one takes the container that is free first.
    """
    scale = max(tasks / SIMULATED_TASKS_MAX, 1.0)
    count = math.ceil(tasks / scale)
    width = min(platform.concurrency, platform.children_max)
    slots = max(min(math.floor(width / scale), count), 1)
    generator = np.random.default_rng(_SEED)
    spread = np.exp(SPREAD * generator.standard_normal(count) - SPREAD**2 / 2)
    free: list[float] = []
    last = 0.0
    for number, factor in enumerate(spread.tolist()):
        asked = number * scale / platform.child_starts_per_s
        if number < slots:
            ramped = number * scale // platform.ramp * platform.ramp_s
            begin = max(asked, ramped) + start_s
        else:
            begin = max(heapq.heappop(free), asked)
        end = begin + task_s * factor
        heapq.heappush(free, end)
        last = max(last, end)
    return last


def ratios(one: StageCost, measured: Mapping[str, float]) -> dict[str, float]:
    """Return predicted over measured, by quantity; quantities not measured are left out."""
    predicted = {
        "tasks": float(one.tasks),
        "cpu_s": one.cpu_s,
        "reads": one.requests.reads,
        "puts": one.requests.put,
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
    }
    return {
        name: predicted[name] / value
        for name, value in measured.items()
        if name in predicted and value > 0
    }
