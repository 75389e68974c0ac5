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

from scale_cut import KEY_ROW_BYTES, OPTIONS, RUN_ROW_BYTES, SEGMENT_BYTES, Cut, routing_bytes
from scale_inputs import Fit
from scale_platform import Platform
from squash.limits import (
    BUILD_CHUNK_BYTES_MAX,
    BUILD_CHUNK_ROWS_MAX,
    DELETE_BATCH_KEYS,
    LIST_PAGE_MAX,
)
from squash.maintain.bulk.stages import STAGES, Stage
from squash.planning.prices import (
    invocation_cost_usd,
    request_cost_usd,
    transition_cost_usd,
)
from squash.storage.ranges import READ_BYTES_MAX


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

    def plus(self, other: Requests, times: float) -> Requests:
        """Return these, and others so many times."""
        return Requests(
            *(
                getattr(self, name) + times * getattr(other, name)
                for name in self.__dataclass_fields__
            )
        )


OBJECTS_PER_PARTITION: Final = 6
# Of a task, beside what its work asks for: whether it is done, request, attempt, stop, a list of
# attempts, its report. Reports do not count them.
UNREPORTED: Final = Requests(get=4.0, put=1.0, list=1.0)
PROBE_RANGES: Final = 1.0
PROBE_BYTES: Final = 16_384.0
PART_BYTES: Final = READ_BYTES_MAX
"""Of one ranged read of a store: longer ones are several."""
SHARE_BYTES: Final = 600.0
"""Of what a group's task says of the nearest rows of one held-out query."""
PUBLISH: Final = Requests(get=11.0, put=3.0, list=6.0, delete=2.0)
"""Of a commit, and of looking for what is to be removed."""
GATE_MS: Final = 500.0
"""Of a gate, beside reading the reports of a stage."""
SPREAD: Final = 0.15
"""Of the tasks of a stage: sigma of a lognormal."""
SIMULATED_TASKS_MAX: Final = 20_000
_SEED: Final = 11


@dataclass(frozen=True, slots=True)
class StageCost:
    """A stage of a build.

    Parameters
    ----------
    tasks, task_s:
        How many, and how long one takes, its container's start apart.
    cpu_s:
        Of one core, all tasks together.
    requests, reported, bytes_in, bytes_out:
        Of all tasks; `reported` are the requests that their reports count.
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
    reported: Requests
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
    reported = requests_of(stage, one)
    requests = reported.plus(UNREPORTED, tasks)
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
    gate_s = (GATE_MS + tasks / platform.requests_at_once * platform.get.p50) / 1e3
    gates_s = platform.gates_per_stage * (platform.invoke.p50 / 1e3 + gate_s)
    gb_seconds += platform.gates_per_stage * gate_s * gb
    return StageCost(
        stage,
        tasks,
        task_s,
        cpu_s,
        requests,
        reported,
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
    """Return the requests of all tasks of a stage, as their reports count them."""
    tasks = float(one.tasks[stage])
    chunk_rows = min(BUILD_CHUNK_ROWS_MAX, BUILD_CHUNK_BYTES_MAX // (4 * one.dimension))
    reads = math.ceil(one.piece_rows / chunk_rows)
    match stage:
        case Stage.PLAN:
            lists = 2 + one.files / LIST_PAGE_MAX
            return Requests(1, PROBE_RANGES * one.files, 1, lists)
        case Stage.SAMPLE:
            return Requests(tasks, one.sample_pieces * reads, tasks)
        case Stage.TRAIN:
            return Requests(1.0 + one.tasks[Stage.SAMPLE], 0.0, 1)
        case Stage.ASSIGN:
            kept = 2 if one.key_ranges else 1
            return Requests(3 * tasks, one.pieces * reads, kept * (one.pieces + tasks), tasks)
        case Stage.KEYS:
            lines = one.tasks[Stage.ASSIGN] * tasks
            return Requests(tasks, lines + one.pieces * tasks, tasks)
        case Stage.ASSEMBLE:
            made = OBJECTS_PER_PARTITION * one.partitions
            # A line of each directory, and its group's part of each run that has one.
            lines = one.tasks[Stage.ASSIGN] * tasks
            each = math.ceil(one.run_bytes / one.filled / PART_BYTES)
            reads = lines + one.filled * each
            return Requests((2 + one.key_ranges) * tasks, reads, tasks + made)
        case Stage.CALIBRATE:
            return Requests(1.0 + one.groups, 0.0, 2)
        case Stage.PUBLISH:
            left = one.pieces * (2 if one.key_ranges else 1) + one.tasks[Stage.SAMPLE]
            more = Requests(list=left / LIST_PAGE_MAX, delete=left / DELETE_BATCH_KEYS)
            return PUBLISH.plus(more, 1.0)
        case _:
            return Requests()


def bytes_of(stage: Stage, one: Cut, fit: Fit) -> tuple[float, float]:
    """Return the bytes that all tasks of a stage read and write."""
    vector = 4.0 * one.dimension
    sample = one.sample_rows * (vector + one.document_bytes + RUN_ROW_BYTES)
    tasks = one.tasks[stage]
    match stage:
        case Stage.PLAN:
            return PROBE_BYTES * one.files, 60.0 * one.pieces + 200.0 * one.files
        case Stage.SAMPLE:
            return one.sampled_rows * vector, sample
        case Stage.TRAIN:
            return sample, one.model_bytes
        case Stage.ASSIGN:
            keys = one.rows * KEY_ROW_BYTES if one.key_ranges else 0.0
            return one.vector_bytes + tasks * one.model_bytes, one.run_bytes + keys
        case Stage.KEYS:
            return one.rows * KEY_ROW_BYTES + tasks * one.line_bytes, 0.0
        case Stage.ASSEMBLE:
            models = tasks * one.model_bytes
            return one.run_bytes + tasks * one.line_bytes + models, fit.stored_bytes(
                one.rows, one.dimension
            )
        case Stage.CALIBRATE:
            routed = routing_bytes(one.rows, one.dimension) + one.partitions * SEGMENT_BYTES
            shares = one.groups * OPTIONS.calibration_queries * SHARE_BYTES
            trained = routed + vector * one.dimension
            return one.model_bytes + shares + routed, trained
        case Stage.PUBLISH:
            return one.partitions * SEGMENT_BYTES, 2.0 * one.partitions * SEGMENT_BYTES
        case _:
            return 0.0, 0.0


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
        "reads": one.reported.reads,
        "puts": one.reported.put,
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
    }
    return {
        name: predicted[name] / value
        for name, value in measured.items()
        if name in predicted and value > 0
    }
