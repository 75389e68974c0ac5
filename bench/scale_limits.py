"""Which limit is met first as an index grows: each as what is used of it by rows and dimension.

All that is used grows with the rows, so where a limit is met is found by halving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from cost_model import slots_that_hold
from cost_steps import (
    RETAINED_SHARE,
    Asked,
    Assumptions,
    Deployed,
    coordinator_bytes,
    coordinator_start,
)
from scale_build import stage_cost
from scale_cut import (
    CUT_SAMPLE_BYTES,
    OPTIONS,
    Cut,
    cut,
    partitions,
    routing_bytes,
    snapshot_bytes,
)
from scale_inputs import Fit
from scale_platform import Platform
from scale_queries import assumed_on, sized
from squash import limits
from squash.index.references import segment_to_json
from squash.maintain.bulk.stages import Stage
from squash.model import ObjectRef, SegmentRef

ROWS_MIN: Final = 1_000
ROWS_MAX: Final = 10**12
DOUBLES_SHARE: Final = 0.01
PYTHON_TIMES: Final = 6.0
"""How much more than its JSON a list of dictionaries takes."""
CENTERS_TIMES: Final = 3.0
"""How many times all centers are held while they are joined and written: measured at 65,536 to
262,144 x 384."""
SPILLED_TIMES: Final = 1.1
"""The fullest group is a little larger than their mean."""
BASE_BYTES: Final = 150e6
"""Of a task's process: Python, NumPy, what is imported."""
OBJECTS: Final = ("attributes", "codes", "documents", "head", "rows", "vectors")

Kind: TypeAlias = Literal["stops", "setting", "slows"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit.

    Parameters
    ----------
    name, unit:
        What is limited, and how it is told.
    most:
        The limit.
    used:
        What an index of (rows, dimension) uses of it: grows with the rows.
    kind:
        "stops": it cannot be built, or not be asked. "setting": so it is until a parameter of the
        deployment is raised. "slows": it is built and asked, worse.
    then:
        What happens beyond it, and what would have to change.

    """

    name: str
    unit: str
    most: float
    used: Callable[[int, int], float]
    kind: Kind
    then: str
    keyed: bool = False
    """Whether it is one of builds of rows with keys of their own alone."""

    def rows_at(self, dimension: int) -> int | None:
        """Return up to how many rows it holds; None if it holds at any number."""
        if self.used(ROWS_MAX, dimension) <= self.most:
            return None
        low, high = ROWS_MIN, ROWS_MAX
        while high - low > max(low // 1_000, 1):
            middle = round((low * high) ** 0.5) if high > 4 * low else (low + high) // 2
            if self.used(middle, dimension) <= self.most:
                low = middle
            else:
                high = middle
        return low


def calibrate_bytes(rows: int, dimension: int) -> float:
    """Return what `calibrate` holds."""
    centers = CENTERS_TIMES * routing_bytes(rows, dimension)
    return BASE_BYTES + centers + PYTHON_TIMES * snapshot_bytes(rows)


def segment_bytes() -> float:
    """Return what a segment takes in a commit or snapshot, by what writes it."""
    import json

    name = "0123456789abcdef" * 2
    refs = {one: ObjectRef(f"segments/{name}/{one}", 12_345_678, 3_456_789_012) for one in OBJECTS}
    made = SegmentRef(name, "partition", 25_000, 123_456, refs, None, 0)
    return float(len(json.dumps(segment_to_json(made), separators=(",", ":"))) + 1)


def all_limits(fit: Fit, one: Assumptions, platform: Platform) -> tuple[Limit, ...]:
    """Return all limits, for a platform."""

    @lru_cache(maxsize=4_096)
    def cut_of(rows: int, dimension: int) -> Cut:
        return cut(rows, dimension)

    def task_s(stage: Stage) -> Callable[[int, int], float]:
        return lambda rows, dimension: _task_s(stage, cut_of(rows, dimension), fit, platform)

    def build_h(rows: int, dimension: int) -> float:
        found = cut_of(rows, dimension)
        stages = [stage for stage in Stage if found.tasks[stage]]
        return sum(_stage_s(stage, found, fit, platform) for stage in stages) / 3_600

    def group_bytes(rows: int, dimension: int) -> float:
        found = cut_of(rows, dimension)
        return SPILLED_TIMES * found.run_bytes / found.groups

    def cold_s(rows: int, dimension: int) -> float:
        return cold_coordinator_s(rows, dimension, one, platform)

    def held(share: float) -> Callable[[int, int], float]:
        return lambda rows, d: coordinator_bytes(one, Asked(rows, share, dimension=d))

    memory, usual = platform.memory_mb * 1e6, Deployed()
    return (
        Limit(
            "clusters of 512 rows that the sample can train",
            "clusters",
            1.0,
            lambda rows, d: (
                rows / OPTIONS.cluster_rows_target / max(cut_of(rows, d).sample_rows // 8, 1)
            ),
            "slows",
            "clusters are coarser; `assemble` cuts the crowded ones",
        ),
        Limit(
            "rows of a coarse cluster that its own sample can cut by k-means",
            "clusters",
            CUT_SAMPLE_BYTES / 8.0,
            lambda rows, d: 4.0 * d * rows / cut_of(rows, d).clusters / OPTIONS.cluster_rows_target,
            "slows",
            "it is cut in halves: clusters are less good, and a query needs more of them",
        ),
        *(
            Limit(
                f"time of a task of `{stage.value}`",
                "s",
                float(limits.LAMBDA_TIMEOUT_S_MAX),
                task_s(stage),
                "stops",
                then,
            )
            for stage, then in _TIMES.items()
        ),
        Limit(
            "hours from the first object to the commit",
            "h",
            limits.COMMIT_WITHIN_MS / 3.6e6,
            build_h,
            "stops",
            "gc must know builds that are under way and leave theirs for longer",
        ),
        Limit(
            "memory of `calibrate` by default: all centers, joined and written",
            "bytes",
            memory,
            calibrate_bytes,
            "setting",
            "`BuilderMemory`",
        ),
        Limit(
            "memory of `calibrate` in the largest function",
            "bytes",
            limits.LAMBDA_MEMORY_MB_MAX * 1e6,
            calibrate_bytes,
            "stops",
            "centers joined and written in parts",
        ),
        Limit(
            "memory of `publish`: a commit that names every object",
            "bytes",
            memory,
            lambda rows, _: BASE_BYTES + PYTHON_TIMES * snapshot_bytes(rows),
            "stops",
            "a commit that names an object with the list of segments",
        ),
        Limit(
            "bytes of that commit",
            "bytes",
            float(limits.OBJECT_BYTES_MAX),
            lambda rows, _: snapshot_bytes(rows),
            "stops",
            "a commit that names an object with the list of segments",
        ),
        Limit(
            "disk of a task of `assemble` by default",
            "bytes",
            platform.tmp_mb * 1e6,
            group_bytes,
            "setting",
            "`BuilderTmp`",
        ),
        Limit(
            "disk of a task of `assemble`, the largest",
            "bytes",
            limits.LAMBDA_TMP_MB_MAX * 1e6,
            group_bytes,
            "stops",
            "more groups than `BUILD_BATCHES_MAX`, which costs reads: see its time",
        ),
        Limit(
            "memory of a plan: its pieces",
            "bytes",
            memory,
            lambda rows, d: BASE_BYTES + PYTHON_TIMES * 45 * cut_of(rows, d).pieces,
            "stops",
            "a plan in parts, one a batch",
        ),
        Limit(
            f"rows replaced by later ones, if {100 * DOUBLES_SHARE:g} % of keys are double",
            "rows",
            float(limits.BUILD_REPLACED_ROWS_MAX),
            lambda rows, _: DOUBLES_SHARE * rows,
            "stops",
            "remove doubles first, or rows replaced by range, not in every task",
            keyed=True,
        ),
        Limit(
            "input files of 1 GiB",
            "files",
            float(limits.BUILD_FILES_MAX),
            lambda rows, d: cut_of(rows, d).files,
            "stops",
            "larger files",
        ),
        Limit(
            "centers and snapshot in the coordinator by default",
            "bytes",
            RETAINED_SHARE * usual.coordinator_mb * 1e6,
            held(1.0),
            "setting",
            "`CoordinatorMemory`",
        ),
        Limit(
            "centers, snapshot and attributes (for filters) in the coordinator by default",
            "bytes",
            RETAINED_SHARE * usual.coordinator_mb * 1e6,
            held(0.1),
            "setting",
            "`CoordinatorMemory`",
        ),
        Limit(
            "centers and snapshot in the largest coordinator",
            "bytes",
            RETAINED_SHARE * limits.LAMBDA_MEMORY_MB_MAX * 1e6,
            held(1.0),
            "stops",
            "partitions chosen first, clusters inside them by allocators that hold a part each",
        ),
        Limit(
            "centers, snapshot and attributes (for filters) in the largest coordinator",
            "bytes",
            RETAINED_SHARE * limits.LAMBDA_MEMORY_MB_MAX * 1e6,
            held(0.1),
            "stops",
            "attributes by partition, held by allocators",
        ),
        Limit(
            "a cold coordinator within the time of an HTTP call",
            "s",
            limits.TIMEOUT_MS_MAX / 1e3,
            cold_s,
            "stops",
            "a snapshot in parts; routing in parts, held by allocators",
        ),
        Limit(
            "slots that hold the index",
            "slots",
            float(limits.SLOTS_MAX),
            lambda rows, d: slots_that_hold(one, rows, d),
            "slows",
            "vectors are read from S3 page by page; processors of more memory",
        ),
        Limit(
            f"segments of one of {usual.slots} slots",
            "segments",
            float(limits.SLOT_SEGMENTS_MAX),
            lambda rows, _: partitions(rows) / usual.slots,
            "slows",
            "more slots",
        ),
    )


_TIMES: Final = {
    Stage.SAMPLE: "more tasks: `BUILD_BATCHES_MAX`",
    Stage.TRAIN: "a smaller sample, or groups of clusters trained side by side",
    Stage.ASSIGN: "more tasks: `BUILD_BATCHES_MAX`",
    Stage.ASSEMBLE: "runs merged before they are read: each task reads its range of every run",
    Stage.CALIBRATE: "more memory, which is more of a core",
    Stage.PUBLISH: "more memory, which is more of a core",
}


def _task_s(stage: Stage, one: Cut, fit: Fit, platform: Platform) -> float:
    return stage_cost(stage, one, fit, platform).task_s


def _stage_s(stage: Stage, one: Cut, fit: Fit, platform: Platform) -> float:
    return stage_cost(stage, one, fit, platform).seconds


def cold_coordinator_s(rows: int, dimension: int, one: Assumptions, platform: Platform) -> float:
    """Return how long a coordinator takes that knows nothing: typically, its slots sized."""
    told = assumed_on(one, platform)
    asked = Asked(rows, dimension=dimension)
    first = coordinator_start(told, sized(told, rows, dimension), asked)
    return (first.begin_ms + first.billed_ms(told)) / 1e3


def met(every: tuple[Limit, ...], dimension: int) -> list[tuple[Limit, int]]:
    """Return the limits that are met, with up to how many rows they hold, the first one first."""
    found = [(one, one.rows_at(dimension)) for one in every]
    return sorted(
        ((one, rows) for one, rows in found if rows is not None), key=lambda pair: pair[1]
    )


def beyond(every: tuple[Limit, ...], rows: int, dimension: int, kind: Kind) -> list[Limit]:
    """Return the limits of a kind that so many rows exceed."""
    return [one for one in every if one.kind == kind and one.used(rows, dimension) > one.most]
