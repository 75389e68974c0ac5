"""How Squash grows with the number of rows: time and bytes of a query, and time to build.

    python bench/growth.py --data sift

From 10,000 rows to all, threefold each time. CPU time is the mean of calls that ask for recall
0.95 at 10 answers, all that they read being in memory, of eight rounds the least; bytes are what
one query asks of a store that is read page by page, as S3 is, with nothing retained. The exponent
is the slope of a straight line through the logarithms.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from contest import try_calls
from data import CACHE, load
from ours import Squash
from report import command_line, conditions, number, table, told, write_section
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.runtime import Settings
from squash.storage import open_store
from workload import SHARES, Workload

ROWS_MIN: Final = 10_000
STEP: Final = 3
K: Final = 10
TARGET: Final = 0.95
_ROUNDS: Final = 8
_BYTES_QUESTIONS: Final = 20
SERIES: Final = ("cpu_us", "cold_bytes", "compared")
LABELS: Final = {
    "cpu_us": "CPU µs a query",
    "cold_bytes": "bytes a query reads, nothing retained",
    "compared": "codes and vectors compared",
}


def sizes(rows: int) -> list[int]:
    """Return numbers of rows from 10,000 to all."""
    found = []
    size = ROWS_MIN
    while size * 2 <= rows:
        found.append(size)
        size *= STEP
    return [*found, rows]


def measured(name: str, rows: int, *, queries: int) -> dict[str, Any]:
    """Build an index of so many rows and ask it."""
    data = load(name, limit=rows)
    folder = CACHE.parent / "peers" / f"{name}-{rows}"
    workload = Workload.of(data, queries=queries, tuning=1, folder=folder)
    ours = Squash(name, rows, folder)
    figures: dict[str, Any] = {
        "rows": rows,
        "build_cpu_s": ours.built.import_cpu_s + ours.built.optimize_cpu_s,
        "build_bytes": ours.built.anonymous_bytes,
        "shares": {},
    }
    for share in SHARES:
        asked = workload.independent(share)
        points = [
            try_calls(ours, workload.points, asked, k=K, effort=(TARGET,)) for _ in range(_ROUNDS)
        ]
        usages = [ours.usage(question, K, (TARGET,)) for question in asked.questions]
        figures["shares"][f"{100 * share:g} %"] = {
            "recall": points[0].recall,
            "cpu_us": min(point.cpu_us for point in points),
            "compared": float(
                np.mean([usage.rows_scanned + usage.vectors_read for usage in usages])
            ),
            "cold_bytes": _cold_bytes(name, ours.folder, asked.first(_BYTES_QUESTIONS).questions),
        }
    told(f"{name} {rows:,}: {figures}")
    return figures


def _cold_bytes(name: str, folder: Path, questions: Sequence[Any]) -> float:
    """Return the mean of bytes that a query reads of an index opened for it alone."""
    spent = []
    for question in questions:
        settings = Settings(whole_bytes_max=0)
        database = Database(
            open_store(str(folder)), settings=settings, clock=SystemClock(), ids=SystemIds()
        )
        known = question.selection
        answer = database.index(name).query(
            question.raw,
            top_k=K,
            filter=None if known is None else known.filter,
            recall_target=TARGET,
            include=(),
        )
        spent.append(answer.usage.store_bytes)
    return float(np.mean(spent))


def exponent(rows: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of a straight line through logarithms."""
    if len(rows) < 2:
        return float("nan")
    return float(np.polyfit(np.log(rows), np.log(np.maximum(values, 1e-9)), 1)[0])


def section(figures: Mapping[str, Any], plots: Path) -> str:
    """Return the document's section."""
    import plotting

    name, every = figures["name"], figures["sizes"]
    rows = [one["rows"] for one in every]
    head = ("growth", *(f"{size:,} rows" for size in rows), "exponent")
    return "\n\n".join(
        [
            f"## Growth on {name}",
            conditions(figures["command"], ("numpy",)),
            plotting.growth(figures, plots / f"growth-{name}.svg"),
            table(head, _lines(every, rows)),
        ]
    )


def _lines(every: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> Iterator[list[str]]:
    seconds = [one["build_cpu_s"] for one in every]
    yield ["build, CPU s", *map(number, seconds), f"{exponent(rows, seconds):.2f}"]
    for series in SERIES:
        for share in every[0]["shares"]:
            values = [one["shares"][share][series] for one in every]
            line = [f"{LABELS[series]}, {share} pass", *map(number, values)]
            yield [*line, f"{exponent(rows, values):.2f}"]
    for share in every[0]["shares"]:
        yield [
            f"recall@10, {share} pass",
            *(f"{one['shares'][share]['recall']:.3f}" for one in every),
            "",
        ]


def main() -> None:
    """Measure every size and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sift", help="NAME or NAME:ROWS, the most rows")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    name, _, limit = arguments.data.partition(":")
    rows = len(load(name, limit=int(limit) if limit else None).vectors)
    figures = {
        "name": name,
        "command": command_line(),
        "sizes": [measured(name, size, queries=arguments.queries) for size in sizes(rows)],
    }
    path = CACHE.parent / "bench" / f"growth-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures), encoding="utf-8")
    text = section(figures, arguments.out.parent / "plots")
    write_section(arguments.out, f"growth-{name}", text)


if __name__ == "__main__":
    main()
