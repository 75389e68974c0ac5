"""How long a cold query waits behind an S3 that is far, beside what its rounds and bytes come to.

    python bench/run.py --data sift && python bench/cold_waits.py --data sift

The index is the bench's own. Each question is asked of a library that knows nothing yet: no client,
no connection, nothing retained.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

import squash
from building import kept
from data import load
from report import command_line, conditions, number, table, write_section
from squash.clock import SystemClock, SystemIds
from squash.database import Database
from squash.model import Usage
from squash.runtime import Settings
from squash.storage import open_store

ROOT: Final = Path(__file__).resolve().parents[1]
SHARES: Final = (1.0, 0.1)
K: Final = 10
TARGET: Final = 0.95
HEAD: Final = ("rows that pass", "ms", "floor", "above it", "requests", "rounds", "MB")
NOTE: Final = """\
{rows:,} x {dimension} in {partitions} partitions behind an S3 that begins each answer {delay:g} \
ms later and brings {rate:g} MB a second, all answers together. {questions} questions for ten at \
{target}, each asked of a library that knows nothing yet, in one process. *Floor* is what its \
rounds and bytes alone come to: so many waits one after the other, and so many bytes through the \
pipe. Medians."""


@contextmanager
def far_s3(folder: Path, *, delay_ms: float, mb_per_s: float) -> Iterator[str]:
    """Serve a folder as a bucket in a process of its own; yield the URL."""
    command = [sys.executable, str(ROOT / "bench" / "far_s3.py"), str(folder)]
    command += ["--delay-ms", str(delay_ms), "--mb-per-s", str(mb_per_s)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        if server.stdout is None:
            raise RuntimeError("the server has no output to tell its URL by")
        yield server.stdout.readline().strip()  # with its input, which closes then, it ends


def asked(url: str, name: str, vector: Any, given: dict[str, Any] | None) -> tuple[float, Usage]:
    """Ask one question cold; return how long it took, in milliseconds, and what it used."""
    begun = time.perf_counter()
    database = Database(
        open_store("s3://bench", endpoint_url=url, region="us-east-1"),
        settings=Settings(billed=True),
        clock=SystemClock(),
        ids=SystemIds(),
    )
    answer = database.index(name).query(
        vector, top_k=K, filter=given, recall_target=TARGET, include=()
    )
    return 1e3 * (time.perf_counter() - begun), answer.usage


def filters(share: float, questions: int) -> list[dict[str, Any] | None]:
    """Return a filter for each question, which so many rows pass."""
    if share == 1.0:
        return [None] * questions
    lows = np.random.default_rng(3).uniform(0.0, 1.0 - share, questions)
    return [{"u": {"$gte": float(low), "$lt": float(low + share)}} for low in lows]


def measured(url: str, options: argparse.Namespace, queries: Any) -> list[list[str]]:
    """Ask all questions, without a filter and with; return the table's rows."""
    asked(url, options.data, queries[0], None)  # what is imported is not waited for again
    rows = []
    for share in SHARES:
        found = [
            asked(url, options.data, query, given)
            for query, given in zip(queries, filters(share, len(queries)), strict=True)
        ]
        took = np.array([ms for ms, _ in found])
        used = np.array(
            [(one.store_requests, one.store_rounds, one.store_bytes / 1e6) for _, one in found]
        )
        floor = used[:, 1] * options.delay_ms + used[:, 2] / options.mb_per_s * 1e3
        medians = [np.median(took), np.median(floor), np.median(took - floor)]
        medians += list(np.median(used, axis=0))
        rows.append([f"{100 * share:g} %", *(number(float(one)) for one in medians)])
    return rows


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description="How long cold queries wait.")
    parser.add_argument("--data", default="sift")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--mb-per-s", type=float, default=75.0)
    parser.add_argument("--out", type=Path, help="write a section of this document")
    options = parser.parse_args()
    os.environ.update(dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "bench"))
    folder, _ = kept(options.data, None, ROOT / ".cache" / "bench" / options.data, any_source=True)
    queries = np.ascontiguousarray(load(options.data).queries[: options.questions], np.float32)
    with far_s3(folder, delay_ms=options.delay_ms, mb_per_s=options.mb_per_s) as url:
        rows = measured(url, options, queries)
    text = table(HEAD, rows)
    print(text)
    if options.out is not None:
        about = squash.connect(str(folder)).index(options.data).stats()
        note = NOTE.format(
            rows=about.rows,
            dimension=about.dimension,
            partitions=about.partitions,
            delay=options.delay_ms,
            rate=options.mb_per_s,
            questions=len(queries),
            target=TARGET,
        )
        where = conditions(command_line(), ("numpy", "obstore"))
        title = f"## What a cold query waits for: {options.data}"
        section = f"{title}\n\n{where}\n\n{note}\n\n{text}"
        write_section(options.out, f"waiting-{options.data}", section)


if __name__ == "__main__":
    main()
