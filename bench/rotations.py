"""What a rotation takes with a matrix, and without one: of a query, of a row built, and stored.

python bench/rotations.py
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from costs import random_table
from report import command_line, conditions, number, table, told, write_section
from squash.kernels import HadamardRotation, Rotation, prepare
from squash.quantize.transforms import project_rows, random_matrix

DIMENSIONS: Final = (64, 128, 256, 384, 768, 1024, 1536, 3072)
ROUNDS: Final = 15
ROWS: Final = 512
QUERIES: Final = 64
CLUSTER_ROWS: Final = 32
HEAD: Final = (
    "dimension", "a query, matrix, µs", "without, µs", "ratio",
    "a row, matrix, µs", "without, µs", "ratio", "stored, matrix, KB", "without, KB",
)  # fmt: skip
NOTE: Final = """\
CPU time of one thread, in turns, the least of {rounds} rounds (decision 0030). A query is made \
ready by the native kernels, one call each: rotated, its table of signs, its distance to one \
center. Rows are {rows} at a time: float64, rounded once; with a matrix that is NumPy's product."""


def least_us(calls: Mapping[str, Callable[[], Any]], each: int) -> dict[str, float]:
    """Return the least CPU time of calls in turn, in µs for each of what a call does."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time_ns()
            call()
            found[name] = min(found[name], (time.process_time_ns() - start) / 1000 / each)
    return found


def line_of(dimension: int) -> tuple[str, ...]:
    """Measure a dimension, and return its line."""
    told(f"dimension {dimension}")
    rng = np.random.default_rng(dimension)
    rows = rng.standard_normal((ROWS, dimension)).astype(np.float32)
    mean = rows.mean(axis=0)
    one = random_table(rng, dimension, CLUSTER_ROWS, CLUSTER_ROWS)
    matrix, without = random_matrix(dimension, 1), HadamardRotation.random(dimension, 1)

    def queries(rotation: Rotation) -> Callable[[], None]:
        def ask() -> None:
            for query in rows[:QUERIES]:
                prepare(one, rotation, mean, query)

        return ask

    def built(rotation: Rotation) -> Callable[[], Any]:
        return lambda: project_rows(rows, mean=mean, rotation=rotation)

    asked = least_us({"matrix": queries(matrix), "without": queries(without)}, QUERIES)
    turned = least_us({"matrix": built(matrix), "without": built(without)}, ROWS)
    return (
        f"{dimension:,}",
        *_compared(asked),
        *_compared(turned),
        number(matrix.nbytes / 1000),
        number(without.flips.nbytes / 1000),
    )


def _compared(found: Mapping[str, float]) -> tuple[str, str, str]:
    before, now = found["matrix"], found["without"]
    return number(before), number(now), number(before / now)


def main() -> None:
    """Measure all dimensions, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    lines = [line_of(dimension) for dimension in DIMENSIONS]
    text = "\n\n".join(
        [
            "## Rotations",
            conditions(command_line(), ("numpy",)),
            NOTE.format(rounds=ROUNDS, rows=ROWS),
            table(HEAD, lines),
        ]
    )
    write_section(arguments.out, "rotations", text)


if __name__ == "__main__":
    main()
