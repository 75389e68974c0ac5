"""What `bench/scale.py` rests on that was measured here: `bench/scale.json`, and how it is fitted.

A run is a bulk build as its tasks reported it. What a stage takes of a core is fitted as a sum of
few kinds of work, none below zero: tasks, rows, values (rows times dimension), and multiplications
by the algorithm (`work`). So a fit says what a stage takes of sizes that never ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from scale_cut import Cut, cut
from squash.maintain.bulk.stages import STAGES, Stage

PATH: Final = Path(__file__).with_name("scale.json")
KINDS: Final = ("tasks", "rows", "values", "work")
KINDS_OF: Final[Mapping[Stage, tuple[str, ...]]] = {
    Stage.PLAN: ("tasks", "rows"),
    Stage.CALIBRATE: ("tasks", "work"),
    Stage.PUBLISH: ("tasks", "rows"),
    Stage.KEYS: ("tasks", "rows"),
}
"""What a stage does, where that is not all of them."""
_STEPS: Final = 20_000


@dataclass(frozen=True, slots=True)
class StageRun:
    """What the tasks of a stage took together; `peak_mb` is of the largest."""

    tasks: int
    rows: int
    cpu_s: float
    wall_s: float = 0.0
    requests: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    peak_mb: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One bulk build: its sizes, its stages by name, and what came out.

    Parameters
    ----------
    name:
        Of the data.
    rows, dimension, keyed, files:
        Of the input.
    pieces, clusters, partitions, groups:
        As planned and trained.
    stages:
        By name.
    index_objects, index_bytes:
        Of the segments and the trained object, by the last part of their keys.
    wall_s:
        From the first task to the last, as it ran.
    functions:
        How many tasks ran side by side.

    """

    name: str
    rows: int
    dimension: int
    keyed: bool
    files: int
    pieces: int
    clusters: int
    partitions: int
    groups: int
    stages: Mapping[str, StageRun]
    index_objects: Mapping[str, int] = field(default_factory=dict)
    index_bytes: Mapping[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    functions: int = 1

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `asdict` gave; names not known are left out, so that others may add some."""
        names = cls.__dataclass_fields__
        known = {name: item for name, item in value.items() if name in names}
        fields = StageRun.__dataclass_fields__
        stages = {
            name: StageRun(**{key: item for key, item in stage.items() if key in fields})
            for name, stage in value["stages"].items()
        }
        return cls(**{**known, "stages": stages})

    @property
    def cut(self) -> Cut:
        """How the model cuts the same input."""
        return cut(self.rows, self.dimension, keyed=self.keyed, files=self.files)


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that was measured, and when and on what."""

    day: str
    processor: str
    runs: tuple[Run, ...]
    note: str = ""

    def save(self, path: Path = PATH) -> None:
        """Write them."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path = PATH) -> Self:
        """Read them."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            found["day"],
            found["processor"],
            tuple(map(Run.from_json, found["runs"])),
            found.get("note", ""),
        )


def runs_of(path: Path) -> list[Run]:
    """Return the runs of a file: one, a list, or an object whose `runs` they are."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(found, dict):
        found = found.get("runs", [found])
    return [Run.from_json(one) for one in found]


def work_of_stage(stage: Stage, one: Cut) -> dict[str, float]:
    """Return what a stage has to do, by `KINDS`; all its tasks together."""
    rows = {
        Stage.SAMPLE: one.sampled_rows,
        Stage.TRAIN: one.sample_rows,
        Stage.CALIBRATE: one.clusters,
        Stage.PUBLISH: one.partitions,
        Stage.PLAN: one.pieces,
    }.get(stage, one.rows)
    return {
        "tasks": one.tasks[stage],
        "rows": rows,
        "values": rows * one.dimension,
        "work": one.work(stage),
    }


@dataclass(frozen=True, slots=True)
class Fit:
    """Seconds of a core by kind of work, for each stage; bytes of an index's objects."""

    seconds: Mapping[Stage, Mapping[str, float]]
    row_bytes: float
    value_bytes: float
    objects_each: float
    peak_mb: Mapping[Stage, float]

    def cpu_s(self, stage: Stage, one: Cut) -> float:
        """Return what all tasks of a stage take of a core."""
        done, each = work_of_stage(stage, one), self.seconds.get(stage, {})
        return sum(each.get(kind, 0.0) * done[kind] for kind in KINDS)

    def stored_bytes(self, rows: int, dimension: int) -> float:
        """Return the bytes of an index's segments and its trained object."""
        return rows * (self.row_bytes + self.value_bytes * dimension)


def fit(runs: Sequence[Run]) -> Fit:
    """Fit every stage to the runs that have it."""
    seconds: dict[Stage, dict[str, float]] = {}
    for stage in STAGES:
        have = [run for run in runs if stage.value in run.stages]
        if not have:
            continue
        kinds = KINDS_OF.get(stage, KINDS)
        features = np.array(
            [[work_of_stage(stage, run.cut)[kind] for kind in kinds] for run in have], np.float64
        )
        times = np.array([run.stages[stage.value].cpu_s for run in have])
        seconds[stage] = dict(zip(kinds, least_relative(features, times).tolist(), strict=True))
    sized = [run for run in runs if run.index_bytes]
    shape = np.array([[run.rows, run.rows * run.dimension] for run in sized], np.float64)
    stored = np.array([sum(run.index_bytes.values()) for run in sized], np.float64)
    row, value = least_relative(shape, stored) if sized else (0.0, 0.0)
    objects = [sum(run.index_objects.values()) / max(run.partitions, 1) for run in sized]
    peaks = {
        stage: max(float(run.stages[stage.value].peak_mb) for run in runs if stage in run.stages)
        for stage in STAGES
        if any(stage.value in run.stages for run in runs)
    }
    return Fit(seconds, float(row), float(value), _mean(objects), peaks)


def least_relative(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return factors, none below zero, with the least squares of relative errors.

    Parameters
    ----------
    features:
        float64 [n, k].
    values:
        float64 [n], above zero.

    """
    wanted = np.maximum(values, 1e-9)
    scaled = features / wanted[:, None]
    lengths = np.linalg.norm(scaled, axis=0)
    unit = scaled / np.where(lengths > 0, lengths, 1.0)
    gram, target = unit.T @ unit, unit.T @ np.ones(len(wanted))
    found = np.zeros(unit.shape[1])
    for _ in range(_STEPS):  # coordinate descent: few unknowns, so any way to the end does
        before = found.copy()
        for place in range(len(found)):
            if lengths[place] > 0:
                rest = target[place] - gram[place] @ found + gram[place, place] * found[place]
                found[place] = max(rest / gram[place, place], 0.0)
        if np.abs(found - before).max() < 1e-12:
            break
    return np.asarray(found / np.where(lengths > 0, lengths, 1.0))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
