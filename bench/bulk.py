"""The bulk build: rows a second and dollars a million rows by stage, beside faiss and LanceDB.

    python bench/bulk.py --data sift made-384:200000 made-768:200000 --save
    python bench/bulk.py --memory --dimension 768

Each contender builds an index of the same files in a process of its own on one thread: CPU time
and peak memory are its own. With `--save`, what the stages took becomes what `bench/scale.py` rests
on. With `--memory`, every task of a build runs in a process of its own, of inputs of 1, 4 and 16
units, and its peak memory must stay below a function's and must not grow.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from bulk_contenders import Built, Job, contenders, in_child, truth_of
from bulk_data import Input, opened, write_files
from bulk_memory import BOUND_MB, Peak, peaks, problems
from bulk_reports import dollars
from data import CACHE
from report import command_line, conditions, number, processor, table, told, write_section
from scale_inputs import Inputs, Run
from squash.limits import MIB
from squash.maintain.bulk.stages import STAGES, Stage

UNITS: Final = (1, 4, 16)
OUT: Final = CACHE.parent / "bench" / "bulk.json"

NOTE: Final = """Files of float32 read from disk, one thread; CPU seconds of a process of its own \
from the first byte read to the index on disk, recall measured afterwards, with the least effort \
that reaches 0.95, or all. faiss and LanceDB train and add in one pass over the files, and keep \
what their index needs: faiss no full vectors, LanceDB those. *Anonymous* memory is what no file \
backs."""
STAGES_NOTE: Final = """Squash by stage. *$ a million rows* is what the stage's CPU seconds, \
requests and transitions would cost on functions of 1,769 MB, as fast as this core, that wait for \
nothing (list prices, arm64)."""
MEMORY_NOTE: Final = """Each task in a process of its own; megabytes of anonymous memory, the most \
of any task of the stage, Python and NumPy among them. A unit is {unit:,} MiB of vectors. The \
bound is {bound:,} MB."""


def measured(one: Input, names: Sequence[str], *, files: int, parquet: bool) -> list[Built]:
    """Let everybody build an index of the same rows."""
    found = []
    known = contenders()
    with tempfile.TemporaryDirectory(prefix="squash-bulk-") as folder:
        inputs = Path(folder, "files")
        write_files(one, inputs, files=files, parquet=parquet)
        job = Job(
            one.name,
            inputs,
            Path(folder),
            one.rows,
            one.dimension,
            one.metric,
            one.queries,
            np.empty((0, 0), np.int64),
            parquet,
        )
        job = replace(job, truth=truth_of(job))
        for name in names:
            if name not in known:
                told(f"{name} is not installed")
                continue
            built = in_child(known[name], replace(job, folder=Path(folder, name)))
            told(f"{one.name} {one.rows:,} x {one.dimension}: {built.title} {built.cpu_s:.1f} s")
            found.append(built)
    return found


def section(found: Mapping[str, Sequence[Built]], rows_of: Mapping[str, int]) -> str:
    """Return the document's section."""
    lines, stages = [], []
    for title, every in found.items():
        rows = rows_of[title]
        for one in every:
            lines.append(
                [
                    f"{title}: {one.title}",
                    number(one.cpu_s),
                    number(one.wall_s),
                    number(rows / one.cpu_s),
                    number(one.anonymous_bytes / MIB),
                    number(one.resident_bytes / MIB),
                    number(one.stored_bytes / MIB),
                    f"{one.recall:.3f}",
                    one.effort,
                ]
            )
            if one.run is not None:
                stages += list(_stages(title, one.run))
    head = (
        "data: index", "CPU s", "s", "rows/s of CPU", "anonymous MiB", "resident MiB",
        "stored MiB", "recall@10", "asked with",
    )  # fmt: skip
    parts = [
        "## Building from files",
        conditions(command_line(), ("numpy", "faiss-cpu", "lancedb")),
        NOTE,
        table(head, lines),
        STAGES_NOTE,
        table(
            ("data: stage", "tasks", "CPU s", "rows/s of CPU", "$ a million rows", "requests",
             "MB in", "MB out", "peak MB"),
            stages,
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _stages(title: str, run: Run) -> list[list[str]]:
    lines = []
    for stage in STAGES:
        one = run.stages.get(stage.value)
        if one is None or not one.tasks:
            continue
        lines.append(
            [
                f"{title}: {stage.value}",
                f"{one.tasks:,}",
                number(one.cpu_s),
                number(run.rows / max(one.cpu_s, 1e-3)),
                f"{dollars(one) / run.rows * 1e6:.4f}",
                f"{sum(one.requests.values()):,}",
                number(one.bytes_in / 1e6),
                number(one.bytes_out / 1e6),
                f"{one.peak_mb:,}",
            ]
        )
    every = [one for one in run.stages.values() if one.tasks]
    cpu_s = sum(one.cpu_s for one in every)
    lines.append(
        [
            f"{title}: all",
            f"{sum(one.tasks for one in every):,}",
            number(cpu_s),
            number(run.rows / cpu_s),
            f"{sum(map(dollars, every)) / run.rows * 1e6:.4f}",
            f"{sum(sum(one.requests.values()) for one in every):,}",
            number(sum(one.bytes_in for one in every) / 1e6),
            number(sum(one.bytes_out for one in every) / 1e6),
            f"{max(one.peak_mb for one in every):,}",
        ]
    )
    return lines


def memory_of(arguments: argparse.Namespace) -> dict[int, dict[Stage, Peak]]:
    """Build of each number of units, task by task."""
    found = {}
    unit = arguments.unit_mib * MIB // (4 * arguments.dimension)
    for units in arguments.units:
        one = replace(opened(f"made-{arguments.dimension}:{unit * units}"), queries=np.empty(0))
        with tempfile.TemporaryDirectory(prefix="squash-bulk-") as folder:
            files = Path(folder, "files")
            write_files(one, files, files=units, parquet=arguments.parquet)
            found[units] = peaks(Path(folder, "store"), files, dimension=one.dimension)
        told(
            f"{units} units: { {s.value: round(p.anonymous_mb) for s, p in found[units].items()} }"
        )
    return found


def memory_section(found: Mapping[int, Mapping[Stage, Peak]], unit_mib: int) -> str:
    """Return the document's section."""
    rows = [
        [
            stage.value,
            *(
                number(found[units][stage].anonymous_mb) if stage in found[units] else "–"
                for units in found
            ),
        ]
        for stage in STAGES
        if any(stage in one for one in found.values())
    ]
    head = ("stage", *(f"{units} unit{'s' * (units > 1)}" for units in found))
    note = MEMORY_NOTE.format(unit=unit_mib, bound=BOUND_MB)
    return "\n\n".join(
        [
            "## Memory of a bulk build's tasks",
            conditions(command_line(), ("numpy", "pyarrow")),
            note,
            table(head, rows),
        ]
    )


def _save(runs: Sequence[Run], *, keep: bool) -> None:
    """Write what was measured to where `bench/scale.py` finds it, and for `--check`."""
    day = datetime.now(UTC).date().isoformat()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    whole = {"day": day, "processor": processor(), "runs": [asdict(run) for run in runs]}
    OUT.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    if keep:
        Inputs(day, processor(), tuple(runs)).save()


def main() -> None:
    """Measure, tell, and write the section where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["sift"], help="NAME[:ROWS], made-D:ROWS")
    parser.add_argument("--contenders", nargs="*", default=list(contenders()))
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--parquet", action="store_true", help="files with keys and a number")
    parser.add_argument("--save", action="store_true", help="for bench/scale.py to rest on")
    parser.add_argument("--memory", action="store_true", help="peak memory of each task")
    parser.add_argument("--dimension", type=int, default=128, help="of the rows of --memory")
    parser.add_argument("--units", type=int, nargs="*", default=list(UNITS))
    parser.add_argument("--unit-mib", type=int, default=512)
    parser.add_argument("--out", type=Path, help="write a section of this document")
    arguments = parser.parse_args()
    if arguments.memory:
        peaked = memory_of(arguments)
        name, text = "bulk-memory", memory_section(peaked, arguments.unit_mib)
        wrong = problems(peaked)
    else:
        found, rows_of = {}, {}
        for one in map(opened, arguments.data):
            every = measured(
                one, arguments.contenders, files=arguments.files, parquet=arguments.parquet
            )
            title = f"{one.name} {one.rows:,} x {one.dimension}"
            found[title], rows_of[title] = every, one.rows
        runs = [one.run for every in found.values() for one in every if one.run is not None]
        _save(runs, keep=arguments.save)
        name, text, wrong = "bulk", section(found, rows_of), []
    print(text)
    if arguments.out is not None:
        write_section(arguments.out, name, text)
    if wrong:
        sys.exit("error: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
