"""A long-lived index beside a fresh one of the same rows: recall, time, balance, bytes, writes.

    python bench/churn.py --data glove:100000,sift:100000

Each history is folded ten times, or once, without a rebuild; then the same rows are put into a new
index and both answer the same queries. CPU time is the mean of calls, all that they read being in
memory, the better of several rounds that take turns.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

import squash
from data import CACHE, load
from judging import I64, Points, Question, recall, scaled, worst_distances
from report import command_line, conditions, number, table, told, write_section
from resident import AnonymousPeak, anonymous_bytes
from squash.database import Index
from squash.maintain import BuildOptions
from squash.training import Assigner, kmeans

TARGETS: Final = (0.9, 0.95, 0.99)
K: Final = 10
FOLDS: Final = 10
HISTORIES: Final = ("churn", "growth", "growth, thrifty", "deletion", "shift")
TITLES: Final = {
    "churn": "30 % replaced by others",
    "growth": "1.9 times as many",
    "growth, thrifty": "the same, thrifty",
    "deletion": "half deleted",
    "shift": "1.8 times, by cluster",
}
# Partitions of which there are a dozen in 100,000 rows.
OPTIONS: Final = BuildOptions(partition_rows_target=8_192, partition_rows_max=16_384)
THRIFTY: Final = replace(OPTIONS, thrifty=True)
MODES: Final = {"whole": (OPTIONS, True), "in part": (OPTIONS, False), "thrifty": (THRIFTY, False)}
NOTE: Final = """An index after a history of puts and deletes, folded on the way without training \
anew, beside a fresh index of the rows it then holds; partitions aim at {target:,} rows. Recall \
is at {k} answers, for the targets {targets}. *Written* is how many rows folds wrote for each \
that was put or deleted; a thrifty fold, as the compactor's is, leaves rows in a flat segment \
where it would have to write much for few."""
COSTS_NOTE: Final = """What a fold takes of one hundredth of new rows in an index in a folder, in \
a process of its own; memory is anonymous memory above what the process had before. The rows lie \
everywhere, or are the nearest of one. A whole fold trains and writes all; one in part writes each \
partition that has any of them; a thrifty one those that have many, and a flat segment."""
_ROUNDS: Final = 12
_BATCH: Final = 10_000
_SEED: Final = 5


@dataclass(slots=True)
class Lived:
    """An index and what was done to it."""

    index: Index
    vectors: NDArray[np.float32]
    alive: NDArray[np.bool_]
    options: BuildOptions = OPTIONS
    changed: int = 0
    written: int = 0
    folds: int = 0
    rebuilds: int = 0
    fold_cpu_s: float = 0.0

    def put(self, rows: I64) -> None:
        """Put rows by their numbers."""
        for start in range(0, len(rows), _BATCH):
            some = rows[start : start + _BATCH]
            self.index.put(keys=[str(row) for row in some.tolist()], vectors=self.vectors[some])
        self.alive[rows] = True
        self.changed += len(rows)

    def delete(self, rows: I64) -> None:
        """Delete rows by their numbers."""
        self.index.delete(keys=[str(row) for row in rows.tolist()])
        self.alive[rows] = False
        self.changed += len(rows)

    def fold(self) -> None:
        """Fold, and count what that wrote."""
        before, codec = self._segments(), self._codec()
        start = time.process_time()
        self.index.optimize(options=self.options)
        self.fold_cpu_s += time.process_time() - start
        after = self._segments()
        self.written += sum(rows for one, rows in after.items() if one not in before)
        self.folds += 1
        self.rebuilds += codec is not None and codec != self._codec()

    def begin(self, rows: I64) -> None:
        """Put the first rows and build; that is not counted."""
        self.put(rows)
        self.fold()
        self.changed = self.written = self.folds = self.rebuilds = 0
        self.fold_cpu_s = 0.0

    def _segments(self) -> dict[str, int]:
        state = self.index._session._views.refresh().state  # noqa: SLF001
        return {segment.id: segment.rows for segment in state.segments}

    def _codec(self) -> bytes | None:
        trained = self.index._session.view("strong").trained  # noqa: SLF001
        return None if trained is None else trained.history.to_json()["rows_trained"], (
            None if trained is None else trained.history.energy_trained
        )


def lived(history: str, vectors: NDArray[np.float32], metric: str) -> Lived:
    """Let an index live through a history."""
    generator = np.random.default_rng(_SEED)
    rows = len(vectors)
    one = Lived(_created(vectors, metric), vectors, np.zeros(rows, dtype=np.bool_))
    order = generator.permutation(rows)
    if history == "churn":
        begun = int(rows / 1.3)
        one.begin(order[:begun])
        for some in np.array_split(order[begun:], FOLDS):
            gone = generator.choice(np.flatnonzero(one.alive), size=len(some), replace=False)
            one.delete(gone)
            one.put(some)
            one.fold()
    elif history == "deletion":
        one.begin(order)
        one.delete(order[: rows // 2])
        one.fold()
    else:
        begun = int(rows / 1.9)
        if history == "shift":
            measured = scaled(vectors, metric)
            centers = kmeans(measured, clusters=50, seed=_SEED, iterations=4)
            order = np.argsort(Assigner(centers).assign(measured), kind="stable")
            begun = int(rows / 1.8)
        one.begin(order[:begun])
        if history.endswith("thrifty"):
            one.options = THRIFTY
        for some in np.array_split(order[begun:], FOLDS):
            one.put(some)
            one.fold()
    return one


def _created(vectors: NDArray[np.float32], metric: str) -> Index:
    database = squash.connect(f"memory://{uuid4().hex}")
    return database.create_index("x", dimension=vectors.shape[1], metric=metric)


@dataclass(frozen=True, slots=True)
class Judged:
    """What an index is like."""

    recall: list[float]
    clusters: list[float]
    cpu_us: list[float]
    balance: float
    partitions: int
    bytes_per_row: float
    rows_outside: int


def judge(
    indexes: Sequence[Index],
    vectors: NDArray[np.float32],
    alive: NDArray[np.bool_],
    *,
    queries: NDArray[np.float32],
    metric: str,
) -> list[Judged]:
    """Ask indexes of the same rows the same queries, in turns."""
    points = Points.of(vectors[alive], metric)
    place = np.cumsum(alive) - 1
    questions = [
        Question(raw, vector, None)
        for raw, vector in zip(queries, scaled(queries, metric), strict=True)
    ]
    worst = worst_distances(points, questions)[:, 0]
    times = np.full((len(indexes), len(TARGETS), _ROUNDS), np.inf)
    recalls = np.zeros((len(indexes), len(TARGETS)))
    clusters = np.zeros((len(indexes), len(TARGETS)))
    for turn in range(_ROUNDS + 1):
        for which, index in enumerate(indexes):
            for target, wanted in enumerate(TARGETS):
                start = time.process_time_ns()
                answers = [
                    index.query(one.raw, top_k=K, recall_target=wanted, include=())
                    for one in questions
                ]
                if turn:
                    spent = (time.process_time_ns() - start) / 1e3 / len(questions)
                    times[which, target, turn - 1] = spent
                    continue
                found = [place[[int(m.key) for m in answer.matches]] for answer in answers]
                recalls[which, target] = np.mean(
                    [
                        recall(points, one, rows, k=K, worst=limit)
                        for one, rows, limit in zip(questions, found, worst, strict=True)
                    ]
                )
                explained = [
                    index.query(one.raw, top_k=K, recall_target=wanted, include=(), explain=True)
                    for one in questions[::4]
                ]
                clusters[which, target] = np.mean(
                    [answer.explain.clusters_visited for answer in explained if answer.explain]
                )
    return [
        _judged(index, recalls[at], clusters[at], times[at].min(axis=1))
        for at, index in enumerate(indexes)
    ]


def _judged(index: Index, recalls: Any, clusters: Any, cpu_us: Any) -> Judged:
    stats = index.stats()
    state = index._session._views.known().state  # noqa: SLF001
    rows = [segment.rows for segment in state.segments if segment.kind == "partition"]
    return Judged(
        recalls.tolist(),
        clusters.tolist(),
        cpu_us.tolist(),
        max(rows) / float(np.mean(rows)),
        len(rows),
        stats.stored_bytes / stats.rows,
        stats.rows_fresh,
    )


def measured(
    name: str, limit: int | None, *, queries: int, histories: Sequence[str]
) -> dict[str, Any]:
    """Let a data set's index live through every history."""
    data = load(name, limit=limit)
    vectors = np.array(data.vectors, dtype=np.float32)
    asked = np.asarray(data.queries)[:: max(len(data.queries) // queries, 1)][:queries]
    figures: dict[str, Any] = {}
    for history in histories:
        one = lived(history, vectors, data.metric)
        fresh = Lived(_created(vectors, data.metric), vectors, np.zeros(len(vectors), np.bool_))
        fresh.begin(np.random.default_rng(_SEED + 1).permutation(np.flatnonzero(one.alive)))
        pair = judge(
            [one.index, fresh.index], vectors, one.alive, queries=asked, metric=data.metric
        )
        figures[history] = {
            "rows": int(one.alive.sum()),
            "written": one.written / one.changed,
            "folds": one.folds,
            "rebuilds": one.rebuilds,
            "fold_cpu_s": one.fold_cpu_s,
            "lived": asdict(pair[0]),
            "fresh": asdict(pair[1]),
        }
        told(f"{name} {history}: {json.dumps(figures[history])}")
        told(_summary(figures[history]))
    return figures


def fold_costs(name: str, limit: int | None) -> list[dict[str, Any]]:
    """Fold one hundredth of new rows into an index in a folder, in every way, in children."""
    data = load(name, limit=limit)
    vectors = np.array(data.vectors, dtype=np.float32)
    rows = len(vectors)
    order = np.random.default_rng(_SEED).permutation(rows)
    measured = scaled(vectors, data.metric)
    away = np.linalg.norm(measured - measured[order[0]], axis=1)
    near = np.argsort(away, kind="stable")[: rows // 100]
    figures = []
    for where, new in (("everywhere", order[: rows // 100]), ("at one place", near)):
        with tempfile.TemporaryDirectory(prefix="squash-churn-") as folder:
            first = Path(folder, "first")
            first.mkdir()
            index = squash.connect(str(first)).create_index(
                "x", dimension=vectors.shape[1], metric=data.metric
            )
            old = np.setdiff1d(np.arange(rows), new)
            for some in np.array_split(old, max(len(old) // _BATCH, 1)):
                index.put(keys=[str(row) for row in some.tolist()], vectors=vectors[some])
            index.optimize(options=OPTIONS)
            index.put(keys=[str(row) for row in new.tolist()], vectors=vectors[new])
            for mode in MODES:
                copy = Path(folder, mode.replace(" ", "-"))
                shutil.copytree(first, copy)
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    spent = pool.submit(fold_alone, copy, mode).result()
                figures.append({"data": name, "where": where, "mode": mode, **spent})
                told(str(figures[-1]))
    return figures


def fold_alone(folder: Path, mode: str) -> dict[str, float]:
    """Fold an index, and say what it took of this process."""
    index = squash.connect(str(folder)).index("x")
    index.backlog()
    options, full = MODES[mode]
    from squash.runtime import maintenance  # noqa: F401 - not to count its import

    before = {one.id for one in index._session._views.known().state.segments}  # noqa: SLF001
    start_bytes, start = anonymous_bytes(), time.process_time()
    with AnonymousPeak() as peak:
        index.optimize(options=options, full=full, scratch=folder)
    cpu_s = time.process_time() - start
    after = index._session._views.known().state.segments  # noqa: SLF001
    return {
        "cpu_s": cpu_s,
        "peak_bytes": max(peak.peak_bytes - start_bytes, 0),
        "rows": sum(one.rows for one in after if one.id not in before),
    }


def _cost_lines(figures: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    whole = {(one["data"], one["where"]): one for one in figures if one["mode"] == "whole"}
    for one in figures:
        base = whole[one["data"], one["where"]]
        yield [
            f"{one['data']}, {one['where']}, {one['mode']}",
            f"{one['rows']:,}",
            f"{one['cpu_s']:.2f}",
            f"{one['cpu_s'] / base['cpu_s']:.2f}",
            number(one["peak_bytes"] / (1 << 20)),
            f"{one['peak_bytes'] / base['peak_bytes']:.2f}",
        ]


def _summary(one: Mapping[str, Any]) -> str:
    gaps = np.array(one["lived"]["recall"]) - np.array(one["fresh"]["recall"])
    ratio = np.array(one["lived"]["cpu_us"]) / np.array(one["fresh"]["cpu_us"])
    clusters = np.array(one["lived"]["clusters"]) / np.array(one["fresh"]["clusters"])
    return f"  gaps {gaps.round(4)} time {ratio.round(3)} clusters {clusters.round(2)}"


def section(every: Mapping[str, Mapping[str, Any]], costs: Sequence[Mapping[str, Any]]) -> str:
    """Return the document's section."""
    head = (
        "data, history", "rows", "recall, lived", "recall, fresh", "clusters", "time",
        "max / mean rows", "bytes", "written", "rebuilds",
    )  # fmt: skip
    return "\n\n".join(
        [
            "## A long-lived index beside a fresh one",
            conditions(command_line(), ("numpy",)),
            NOTE.format(
                target=OPTIONS.partition_rows_target,
                k=K,
                targets=", ".join(f"{target:g}" for target in TARGETS),
            ),
            table(head, _lines(every)),
            "Clusters, time and bytes are those of the lived index over the fresh one's.",
            COSTS_NOTE,
            table(
                ("fold", "rows written", "CPU s", "of whole", "MiB", "of whole"),
                _cost_lines(costs),
            ),
        ]
    )


def _lines(every: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for name, histories in every.items():
        for history, one in histories.items():
            old, new = one["lived"], one["fresh"]
            yield [
                f"{name}, {TITLES[history]}",
                f"{one['rows']:,}",
                _three(old["recall"]),
                _three(new["recall"]),
                _ratios(old["clusters"], new["clusters"]),
                _ratios(old["cpu_us"], new["cpu_us"]),
                f"{old['balance']:.2f} ({new['balance']:.2f})",
                f"{old['bytes_per_row'] / new['bytes_per_row']:.2f}",
                number(one["written"]),
                str(one["rebuilds"]),
            ]


def _three(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _ratios(these: Sequence[float], those: Sequence[float]) -> str:
    return " ".join(f"{one / other:.2f}" for one, other in zip(these, those, strict=True))


def main() -> None:
    """Measure every history and write the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="glove:100000,sift:100000", help="NAME:ROWS,..")
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--histories", default=";".join(HISTORIES), help="with semicolons")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    every, costs = {}, []
    for one in arguments.data.split(","):
        name, _, limit = one.partition(":")
        every[name] = measured(
            name,
            int(limit) if limit else None,
            queries=arguments.queries,
            histories=arguments.histories.split(";"),
        )
        costs += fold_costs(name, int(limit) if limit else None)
    path = CACHE.parent / "bench" / "churn.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([every, costs]), encoding="utf-8")
    write_section(arguments.out, "churn", section(every, costs))


if __name__ == "__main__":
    main()
