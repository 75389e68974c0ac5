"""How queries scale with threads: one index, one process, one and two threads; and two processes.

    python bench/threads.py --data sift

A thread that is in the kernels does not hold Python's lock; one that is not does. Two processes
share nothing but memory: what they reach together is what the machine has to give.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

import squash
from building import kept
from data import CACHE, load
from report import command_line, conditions, number, table, told, write_section
from squash.kernels import native

SHARES: Final = (1.0, 0.1, 0.01)
ROUNDS: Final = 3
HEAD: Final = (
    "1,000 queries",
    "CPU µs each",
    "of it in kernels",
    "one thread, a second",
    "two threads",
    "two processes",
)


def filter_of(share: float) -> dict[str, Any] | None:
    """Return a filter that this share of the rows passes."""
    return None if share == 1.0 else {"u": {"$lt": share}}


def one_by_one(index: squash.Index, queries: Any, share: float) -> None:
    """Ask queries singly."""
    for query in queries:
        index.query(query, filter=filter_of(share), include=())


def together(index: squash.Index, queries: Any, share: float) -> None:
    """Ask queries in one call."""
    index.query_many(queries, filters=filter_of(share), include=())


MODES: Final[dict[str, Callable[[squash.Index, Any, float], None]]] = {
    "query": one_by_one,
    "query_many": together,
}


def threads_s(ask: Callable[[Any], None], queries: Any, count: int) -> float:
    """Return how long so many threads take, each with its part of the queries; the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        threads = [threading.Thread(target=ask, args=(queries[i::count],)) for i in range(count)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        best = min(best, time.perf_counter() - begin)
    return best


def _process(
    place: tuple[str, str], queries: Any, mode: str, *, share: float, gate: Any, times: Any
) -> None:
    index = squash.connect(place[0]).index(place[1])
    MODES[mode](index, queries, share)
    for _ in range(ROUNDS):
        gate.wait()
        begin = time.perf_counter()
        MODES[mode](index, queries, share)
        gate.wait()
        times.put(time.perf_counter() - begin)


def processes_s(place: tuple[str, str], queries: Any, mode: str, share: float) -> float:
    """Return how long two processes take, each with half of the queries; the best round."""
    context = multiprocessing.get_context("spawn")
    gate, times = context.Barrier(2), context.Queue()
    workers = [
        context.Process(
            target=_process,
            args=(place, queries[i::2], mode),
            kwargs={"share": share, "gate": gate, "times": times},
        )
        for i in range(2)
    ]
    for worker in workers:
        worker.start()
    found = [times.get() for _ in range(2 * ROUNDS)]
    for worker in workers:
        worker.join()
    return min(found)


def lines(place: tuple[str, str], queries: Any) -> list[Sequence[str]]:
    """Measure every mode and share."""
    index = squash.connect(place[0]).index(place[1])
    made = []
    for mode, call in MODES.items():
        for share in SHARES:
            ask = partial(call, index, share=share)
            ask(queries)
            with native.timed(time.thread_time_ns) as spent:
                begin = time.thread_time_ns()
                ask(queries)
                cpu_ns = time.thread_time_ns() - begin
                kernels = spent() / cpu_ns
            one, two = (threads_s(ask, queries, count) for count in (1, 2))
            apart = processes_s(place, queries, mode, share)
            made.append(
                (
                    f"{mode}, {100 * share:g} % pass",
                    number(cpu_ns / 1000 / len(queries)),
                    f"{100 * kernels:.0f} %",
                    f"{len(queries) / one:,.0f}",
                    f"{len(queries) / two:,.0f} (× {one / two:.2f})",
                    f"{len(queries) / apart:,.0f} (× {one / apart:.2f})",
                )
            )
            told(" | ".join(made[-1]))
    return made


def main() -> None:
    """Measure one data set and write its section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sift", help="NAME or NAME:ROWS")
    parser.add_argument("--any-index", action="store_true", help="take the newest index there is")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    name, _, limit = arguments.data.partition(":")
    data = load(name, limit=int(limit) if limit else None)
    folder = CACHE.parent / "peers" / f"{name}-{len(data.vectors)}"
    store, _ = kept(name, int(limit) if limit else None, folder, any_source=arguments.any_index)
    queries = np.asarray(data.queries[:1000], dtype=np.float32)
    order = np.random.default_rng(3).permutation(len(queries))
    text = "\n\n".join(
        [
            f"## Threads on {name}",
            conditions(command_line(), ("numpy",)).replace("one thread used", "two used"),
            table(HEAD, lines((str(store), name), queries[order])),
        ]
    )
    write_section(arguments.out, f"threads-{name}", text)
    print(text)


if __name__ == "__main__":
    main()
