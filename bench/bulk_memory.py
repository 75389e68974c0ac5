"""The most memory that each task of a bulk build takes, each in a process of its own."""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from resident import AnonymousPeak, anonymous_bytes, resident_peak_bytes
from squash.maintain.bulk.stages import STAGES, Stage, Task

NAME: Final = "bulk"
BOUND_MB: Final = 1_769
FLAT_TIMES: Final = 1.25
"""From 4 units to 16, a stage's peak may grow by so much and still be called flat."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Of a task: megabytes before it, and at most, with mapped files and without."""

    begin_mb: float
    anonymous_mb: float
    resident_mb: float


def peaks(folder: Path, files: Path, *, dimension: int) -> dict[Stage, Peak]:
    """Build an index of files, every task in a process of its own; return each stage's highest."""
    import squash

    folder.mkdir(parents=True, exist_ok=True)
    index = squash.connect(str(folder)).create_index(NAME, dimension=dimension, metric="euclidean")
    builds = index.building
    build = builds.prepare([f"file://{files.resolve()}/"]).build
    found: dict[Stage, Peak] = {}
    for stage in STAGES:
        builds.open_stage({"index": NAME, "build": build, "open": stage.value})
        from squash.maintain.bulk.batches import stage_tasks

        for task in stage_tasks(builds._store, NAME, build, stage):  # noqa: SLF001
            peak = _in_child(folder, task)
            known = found.get(stage)
            if known is None or peak.anonymous_mb > known.anonymous_mb:
                found[stage] = peak
    return found


def _in_child(folder: Path, task: Task) -> Peak:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_run, str(folder), task.to_json()).result()


def _run(folder: str, event: Mapping[str, Any]) -> Peak:
    import squash

    builds = squash.connect(folder).index(NAME).building
    begin = anonymous_bytes()
    with AnonymousPeak() as memory:
        builds.run_task(event)
    return Peak(begin / 1e6, memory.peak_bytes / 1e6, resident_peak_bytes() / 1e6)


def problems(found: Mapping[int, Mapping[Stage, Peak]]) -> list[str]:
    """Return what is not as promised: a peak above the bound, or one that grows with the input."""
    told = []
    largest = max(found)
    middle = sorted(found)[-2] if len(found) > 1 else largest
    for stage, peak in found[largest].items():
        if peak.anonymous_mb > BOUND_MB:
            told.append(f"{stage.value}: {peak.anonymous_mb:,.0f} MB, the bound is {BOUND_MB:,}")
        before = found[middle].get(stage)
        if before and peak.anonymous_mb > FLAT_TIMES * before.anonymous_mb + 64:
            told.append(
                f"{stage.value}: {before.anonymous_mb:,.0f} MB of {middle} units, "
                f"{peak.anonymous_mb:,.0f} of {largest}"
            )
    return told
