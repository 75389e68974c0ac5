"""What a bulk build will take, before anything is spent, and what its tasks have cost.

The rates are those of one core. Where they come from stands beside each; `bench/bulk.py` measures
them anew. What is assumed and not measured says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from squash.limits import BUILD_BATCHES_MAX, BUILD_GROUP_BYTES_MAX, MIB
from squash.planning.prices import (
    Architecture,
    invocation_cost_usd,
    request_cost_usd,
    transition_cost_usd,
)
from squash.reports import BuildEstimate
from squash.values import dataclass

VCPU_MB: Final = 1_769
"""The memory at which a function has one core."""
TRANSITIONS_PER_TASK: Final = 2
TRANSITIONS_PER_STAGE: Final = 8
"""Of the state machine, as `infra/bulk_build.asl.yaml` has its states."""
_KMEANS_WHOLE_PASSES: Final = 2
_KMEANS_NEAR: Final = 64 * 8
_CENTERS_FLAT_MAX: Final = 4_096
_GROUPS_SEARCHED: Final = 6
_OBJECTS_PER_PARTITION: Final = 4
_OBJECTS_PER_FLAT: Final = 3
_PART_FILL: Final = 0.8
_CODE_SHARE: Final = 0.4
_HASH_BYTES: Final = 24
_READ_BYTES: Final = 8 * MIB


@dataclass(frozen=True, slots=True)
class BuildRates:
    """How fast a core is.

    Parameters
    ----------
    flops:
        Multiplications and additions a second, each counted. With the next three it gives the CPU
        seconds of docs/benchmarks.md for 1,042,700 x 128 (38.6) and 176,037 x 384 (14.4) within
        a quarter.
    row_ns:
        Of a row: its key, its JSON, its turn in Python, in all stages together.
    value_ns:
        To encode a value of a vector into its code.
    hash_ns:
        To hash a key, and to sort it among others. Assumed.
    text_s:
        To encode a text: docs/benchmarks.md has 105 a second on one thread.
    read_bytes_s, write_bytes_s:
        From and to a store, for one task. Assumed: S3 gives a function some 70 MB/s.
    cold_s:
        Before a task's first step. Assumed.
    gap_s:
        Between two stages. Assumed.

    """

    flops: float = 30e9
    row_ns: float = 7_000.0
    value_ns: float = 40.0
    hash_ns: float = 900.0
    text_s: float = 1 / 105
    read_bytes_s: float = 70e6
    write_bytes_s: float = 70e6
    cold_s: float = 1.0
    gap_s: float = 1.5


DEFAULT_RATES: Final = BuildRates()


@dataclass(frozen=True, slots=True)
class Workers:
    """Who runs the tasks.

    Parameters
    ----------
    count:
        How many run at once.
    memory_mb:
        The function's memory; 0 on one's own machine, where time costs nothing.
    architecture:
        The function's.
    states:
        Whether a state machine drives them.
    billed:
        Whether requests of the store cost anything.

    """

    count: int = 1
    memory_mb: int = 0
    architecture: Architecture = "arm64"
    states: bool = False
    billed: bool = True

    @property
    def cores(self) -> float:
        """Of a task, as far as one thread can use them."""
        return min(self.memory_mb / VCPU_MB, 1.0) if self.memory_mb else 1.0


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """What an estimate follows from.

    `tasks` says how many a stage has, by its name, for those that are known; `sampled_rows` are
    those of the pieces that the sample looks at, `sample_rows` those of the sample itself.
    """

    rows: int
    dimension: int
    input_bytes: int
    pieces: int
    sampled_rows: int
    sample_rows: int
    encodes: bool
    keyed: bool
    flat: bool
    partition_rows_target: int
    cluster_rows_target: int
    calibration_queries: int
    group_bytes_max: int = BUILD_GROUP_BYTES_MAX
    tasks: Mapping[str, int] = field(default_factory=dict)

    @property
    def clusters(self) -> int:
        """About how many there will be."""
        wanted = round(self.rows / self.cluster_rows_target)
        return 1 if self.flat else max(1, min(wanted, self.sample_rows // 8))

    @property
    def partitions(self) -> int:
        """About how many there will be."""
        if self.flat:
            return 0
        return max(1, math.ceil(self.rows / (_PART_FILL * self.partition_rows_target)))

    @property
    def row_bytes(self) -> float:
        """Of a row on its way: its vector, and what else its file has of it."""
        vector = 4.0 * self.dimension
        return vector + max(self.input_bytes / max(self.rows, 1) - vector, 16.0)


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What a stage is thought to take; `task_s` is the time of one of its tasks."""

    stage: str
    tasks: int
    task_s: float
    seconds: float
    cpu_s: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class _Work:
    """Of a whole stage."""

    tasks: int
    cpu_s: float = 0.0
    read: float = 0.0
    written: float = 0.0
    gets: float = 0.0
    puts: float = 0.0


def spent_usd(
    functions: int, gb_seconds: float, requests: Mapping[str, float], workers: Workers
) -> float:
    """Return what the tasks of a stage cost, at list prices.

    Parameters
    ----------
    functions, gb_seconds:
        How many of them ran in functions, and what those took.
    requests:
        Of all, by kind: get, range, put, list, delete.
    workers:
        Who ran them.

    """
    cost = invocation_cost_usd(functions, gb_seconds, architecture=workers.architecture)
    if workers.billed:
        counts = {kind: math.ceil(count) for kind, count in requests.items()}
        cost += request_cost_usd(counts)
    if workers.states and functions:
        cost += transition_cost_usd(TRANSITIONS_PER_STAGE + TRANSITIONS_PER_TASK * functions)
    return cost


def estimate_stages(
    facts: BuildFacts, workers: Workers, rates: BuildRates = DEFAULT_RATES
) -> tuple[StageEstimate, ...]:
    """Return what each stage is thought to take, those without tasks left out."""
    return tuple(
        _stage(name, work, workers, rates)
        for name, work in _works(facts, rates).items()
        if work.tasks
    )


def estimate_build(facts: BuildFacts, stages: tuple[StageEstimate, ...]) -> BuildEstimate:
    """Return what the build as a whole is thought to take."""
    objects = _OBJECTS_PER_PARTITION * facts.partitions + 1 if facts.rows else 0
    return BuildEstimate(
        rows=facts.rows,
        input_bytes=facts.input_bytes,
        partitions=facts.partitions,
        clusters=0 if facts.flat else facts.clusters,
        objects=_OBJECTS_PER_FLAT if facts.flat else objects,
        seconds=sum(stage.seconds for stage in stages),
        cpu_s=sum(stage.cpu_s for stage in stages),
        cost_usd=sum(stage.cost_usd for stage in stages),
    )


def _works(facts: BuildFacts, rates: BuildRates) -> dict[str, _Work]:
    rows, dimension, clusters = facts.rows, facts.dimension, facts.clusters
    known, vectors = facts.tasks.get, 4.0 * facts.dimension
    share = facts.sampled_rows / max(rows, 1)
    compared = clusters
    if clusters > _CENTERS_FLAT_MAX:
        compared = math.ceil((1 + _GROUPS_SEARCHED) * math.sqrt(clusters))
    gigantic = 2.0 * dimension / rates.flops  # a row against one centre
    run_bytes = rows * (facts.row_bytes + 12)
    source = rows * (vectors + 8) if facts.encodes else float(facts.input_bytes)
    groups = 1 if facts.flat else max(1, math.ceil(run_bytes / facts.group_bytes_max))
    groups = min(groups, BUILD_BATCHES_MAX)
    # What reads all runs asks for a line of each directory, and for a part of each run.
    through = facts.pieces + known("assign", 0)
    sample = facts.sample_rows
    passes = _KMEANS_WHOLE_PASSES * compared + (0 if facts.flat else _KMEANS_NEAR)
    coding = 0.0 if facts.flat else dimension * (gigantic + rates.value_ns * 1e-9)
    measuring = 0.0 if facts.flat else facts.calibration_queries * gigantic
    return {
        "plan": _Work(1, gets=2 * facts.pieces, puts=2),
        "encode": _Work(
            known("encode", 0),
            cpu_s=rows * rates.text_s,
            read=facts.input_bytes,
            written=source,
            gets=facts.pieces,
            puts=facts.pieces,
        ),
        "sample": _Work(
            known("sample", 0),
            cpu_s=facts.sampled_rows * rates.row_ns * 1e-9 / 4,
            read=source * share,
            written=sample * vectors,
            gets=source * share / _READ_BYTES,
            puts=known("sample", 0),
        ),
        "train": _Work(
            1,
            cpu_s=sample * passes * gigantic,
            read=sample * vectors,
            written=clusters * vectors,
            gets=known("sample", 0),
            puts=1,
        ),
        "assign": _Work(
            known("assign", 0),
            cpu_s=rows
            * (compared * gigantic + (rates.row_ns / 4 + facts.keyed * rates.hash_ns) * 1e-9),
            read=source,
            written=run_bytes + facts.keyed * _HASH_BYTES * rows,
            gets=source / _READ_BYTES,
            puts=(1 + facts.keyed) * through,
        ),
        "keys": _Work(
            known("keys", 0) if facts.keyed else 0,
            cpu_s=rows * rates.hash_ns * 1e-9,
            read=rows * _HASH_BYTES,
            gets=through * known("keys", 0),
            puts=known("keys", 0),
        ),
        "assemble": _Work(
            groups,
            cpu_s=rows * (coding + measuring + rates.row_ns / 2 * 1e-9),
            read=run_bytes,
            written=run_bytes + rows * _CODE_SHARE * vectors,
            gets=through * groups,
            puts=_OBJECTS_PER_PARTITION * facts.partitions + groups,
        ),
        "calibrate": _Work(1, cpu_s=clusters * measuring, gets=groups, puts=2),
        "publish": _Work(1, gets=20, puts=2),
    }


def _stage(name: str, work: _Work, workers: Workers, rates: BuildRates) -> StageEstimate:
    moving = work.read / rates.read_bytes_s + work.written / rates.write_bytes_s
    cold = rates.cold_s if workers.memory_mb else 0.0
    task_s = cold + (work.cpu_s / workers.cores + moving) / work.tasks
    # Each task reads request, attempt, plan and what is stopped, and writes a report.
    requests = {
        "range": work.gets,
        "put": work.puts + work.tasks,
        "get": 4 * work.tasks,
        "list": work.tasks,
    }
    functions = work.tasks if workers.memory_mb else 0
    gb_seconds = workers.memory_mb / 1024 * task_s * work.tasks
    return StageEstimate(
        stage=name,
        tasks=work.tasks,
        task_s=task_s,
        seconds=math.ceil(work.tasks / workers.count) * task_s
        + (rates.gap_s if workers.memory_mb else 0.0),
        cpu_s=work.cpu_s + work.tasks * cold * workers.cores,
        cost_usd=spent_usd(functions, gb_seconds, requests, workers),
    )
