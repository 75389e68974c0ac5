"""Squash beside its peers on one data set: one process, one thread, the same queries.

    python bench/run.py --data sift            # all rows
    python bench/run.py --data text:100000     # so many of them

Indexes are built once and kept under `.cache/peers/NAME-ROWS`, Squash's own for as long as the
library's source stays the same. The figures go into `.cache/bench/NAME-ROWS.json`, the tables into
a section of `docs/benchmarks.md`, the plots beside it.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import calibration
import cold
import peers
import tables
from contest import Contestant
from data import CACHE, load
from notes import NOTES
from ours import Squash
from paper import Paper
from peers_stores import Lance, missing
from report import command_line, told, write_section
from resident import resident_peak_bytes
from speed import QUESTION_SHARES, ROUNDS, contest
from workload import Workload

PARTS: Final = ("speed", "cold", "calibration")
OURS: Final = "squash"


def measured(
    workload: Workload,
    contestants: Sequence[Contestant],
    *,
    ks: Sequence[int],
    parts: Sequence[str],
) -> dict[str, Any]:
    """Return all figures as plain JSON."""
    data = workload.data
    figures: dict[str, Any] = {
        "name": data.name,
        "metric": data.metric,
        "rows": workload.rows,
        "dimension": workload.points.vectors.shape[1],
        "queries": len(workload.measured),
        "command": command_line(),
        "versions": {name: version(name) for name in ("numpy", "faiss-cpu")},
        "costs": {one.title: asdict(one.cost) for one in contestants},
        "resident_bytes": resident_peak_bytes(),
    }
    ours = next((one for one in contestants if isinstance(one, Squash)), None)
    if "speed" in parts:
        figures["speed"] = contest(workload, contestants, ks=ks)
    if ours is not None and "cold" in parts:
        figures["cold"] = cold.measured(workload, ours)
    if ours is not None and "calibration" in parts:
        figures["calibration"] = calibration.measured(workload, ours)
    return figures


def listed(text: str, known: Sequence[str]) -> list[str]:
    """Return the names in a list with commas; all of them must be known."""
    names = [name for name in text.split(",") if name]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SystemExit(f"error: {', '.join(unknown)}: choose of {', '.join(known)}")
    return names


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sift", help="NAME or NAME:ROWS")
    parser.add_argument("--queries", type=int, default=500, help="at most so many are measured")
    parser.add_argument("--tuning", type=int, default=100, help="so many others to tune peers on")
    parser.add_argument("--only", default=",".join((OURS, *peers.NAMES)), help="contestants")
    parser.add_argument("--skip", default="", help="contestants to leave out")
    parser.add_argument("--k", default="10,100")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--build-only", action="store_true", help="build the indexes and stop")
    parser.add_argument(
        "--any-index",
        action="store_true",
        help="take Squash's newest index, whatever source built it",
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    return parser.parse_args()


def notes() -> str:
    """Return the section that goes before all others."""
    return NOTES.format(
        rounds=ROUNDS,
        cost_ms=Contestant.cost_ms_max,
        paper=Paper.questions_max,
        paper_cost_ms=Paper.cost_ms_max,
        lance=Lance.questions_max,
        part=QUESTION_SHARES[100],
    )


def main() -> None:
    """Measure one data set and write its section."""
    arguments = options()
    name, _, rows = arguments.data.partition(":")
    limit = int(rows) if rows else None
    every = (OURS, *peers.NAMES)
    skipped = listed(arguments.skip, every)
    names = [name for name in listed(arguments.only, every) if name not in skipped]
    data = load(name, limit=limit)
    folder = CACHE.parent / "peers" / f"{name}-{len(data.vectors)}"
    workload = Workload.of(data, queries=arguments.queries, tuning=arguments.tuning, folder=folder)
    contestants: list[Contestant] = peers.opened(
        workload.points, names, data=name, limit=limit, folder=folder
    )
    if arguments.build_only:
        return
    if OURS in names:
        ours = Squash(name, limit, folder, any_source=arguments.any_index)
        contestants.insert(0, ours)
    figures = measured(
        workload,
        contestants,
        ks=[int(k) for k in arguments.k.split(",")],
        parts=listed(arguments.parts, PARTS),
    )
    absent = missing(workload.points.vectors.shape[1])
    figures["missing"] = {name: reason for name, reason in absent.items() if name in names}
    path = CACHE.parent / "bench" / f"{folder.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures)
    path.write_text(text, encoding="utf-8")
    place = name if limit is None else f"{name}-{limit}"
    write_section(arguments.out, "notes", notes())
    write_section(
        arguments.out, place, tables.section(json.loads(text), arguments.out.parent / "plots")
    )
    told(f"{path}; section {place} of {arguments.out}")


if __name__ == "__main__":
    main()
