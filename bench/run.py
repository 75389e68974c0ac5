"""Squash beside NumPy brute force and faiss: the same queries, one process, one thread.

    python bench/run.py --data glove,fashion,sift:300000

The figures go into a section for each data set of `docs/benchmarks.md`.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

import peers
import squash
from building import UNIFORM, BuildCost, build, uniform
from data import Dataset, load
from judging import (
    F32,
    I64,
    K,
    Outcome,
    Points,
    Question,
    Selection,
    brute_force,
    measure,
    scaled,
    tenth_distances,
)
from report import command_line, conditions, number, table, write_section
from squash import Index
from squash.model import Explanation, IndexStats

SHARES: Final = (1.0, 0.1, 0.01, 0.001)
TARGETS: Final = (0.95, 0.99)
TUNING_QUERIES: Final = 400
HNSW_ROWS_MAX: Final = 200_000
RANK_BOUNDS: Final = (1, 1_000, 10_000, 50_000, 150_000, 1_000_000)
MIB: Final = 1 << 20


@dataclass(slots=True)
class Bench:
    """One data set, its questions, and its index."""

    data: Dataset
    points: Points
    queries: I64
    index: Index
    cost: BuildCost

    def questions(self, numbers: I64, selection: Selection) -> list[Question]:
        """Return some queries with a selection."""
        raw = np.array(self.data.queries[numbers], dtype=np.float32)
        vectors = scaled(raw, self.data.metric)
        return [Question(r, v, selection) for r, v in zip(raw, vectors, strict=True)]

    def tuning(self) -> I64:
        """Return the numbers of queries that are not measured."""
        others = np.setdiff1d(np.arange(len(self.data.queries)), self.queries)
        return others[:: max(1, len(others) // TUNING_QUERIES)][:TUNING_QUERIES]


@dataclass(slots=True)
class SquashAsker:
    """Asks Squash, and keeps what it says of each answer."""

    index: Index
    recall_target: float = 0.95
    exact: bool = False
    explained: list[tuple[Explanation, int]] = field(default_factory=list)

    def __call__(self, question: Question) -> I64:
        answer = self.index.query(
            question.raw,
            top_k=K,
            filter=question.selection.filter,
            recall_target=self.recall_target,
            exact=self.exact,
            include=(),
            explain=True,
        )
        if answer.explain is not None:
            self.explained.append((answer.explain, answer.usage.vectors_read))
        return np.array([int(match.key) for match in answer.matches], dtype=np.int64)

    def effort(self) -> list[str]:
        """Return median partitions and clusters visited, and vectors read in full."""
        visited = np.median([e.partitions_visited for e, _ in self.explained])
        clusters = np.median([e.clusters_visited for e, _ in self.explained])
        read = np.median([vectors for _, vectors in self.explained])
        return [f"{visited:.0f}", f"{clusters:.0f}", f"{read:,.0f}"]


def brute(points: Points) -> Callable[[Question], I64]:
    """Return what asks NumPy on the admitted rows, which it is told."""
    return lambda question: brute_force(points, question.vector, question.selection.rows)


def selected(share: float, rows: int) -> Selection:
    """Return the filter that a share of the rows passes."""
    title = f"{100 * share:g} %"
    if share == 1.0:
        return Selection(title, None, None, None)
    mask = uniform(rows) < share
    return Selection(title, {UNIFORM: {"$lt": share}}, np.flatnonzero(mask), mask)


def uniform_section(bench: Bench, others: Sequence[peers.Peer]) -> str:
    """Measure everybody at every selectivity; give the tables."""
    parts = []
    for share in SHARES:
        selection = selected(share, len(bench.points.vectors))
        rows = list(_at_selectivity(bench, others, selection))
        admitted = len(bench.points.vectors) if selection.rows is None else len(selection.rows)
        head = (f"{selection.title}: {admitted:,} rows", "recall@10", "CPU ms", "x brute force",
                "partitions", "clusters", "vectors read")  # fmt: skip
        parts.append(table(head, rows))
        sys.stderr.write(parts[-1] + "\n")
    return "\n\n".join(parts)


def _at_selectivity(
    bench: Bench, others: Sequence[peers.Peer], selection: Selection
) -> Iterator[list[str]]:
    questions = bench.questions(bench.queries, selection)
    tenths = tenth_distances(bench.points, questions)
    plain = measure(bench.points, questions, tenths, brute(bench.points))
    for target in TARGETS:
        asker = SquashAsker(bench.index, recall_target=target)
        got = measure(bench.points, questions, tenths, asker)
        yield _row(f"Squash, target {target}", got, plain, asker.effort())
    asker = SquashAsker(bench.index, exact=True)
    got = measure(bench.points, questions, tenths, asker)
    yield _row("Squash, exact", got, plain, asker.effort())
    yield _row("NumPy brute force", plain, plain)
    tuning = bench.questions(bench.tuning(), selection)
    tuning_tenths = tenth_distances(bench.points, tuning)
    for peer in others:
        for target in TARGETS:
            effort = peer.tuned(bench.points, tuning, tuning_tenths, target)
            ask = peer.asker(effort, selection)
            got = measure(bench.points, questions, tenths, ask)
            yield _row(f"{peer.title}, for {target}: effort {effort}", got, plain)
    if len(others) == 1:
        yield [f"{peers.HNSW_TITLE}: not built, too many rows", *[""] * 6]


def _row(title: str, got: Outcome, plain: Outcome, effort: Sequence[str] = ()) -> list[str]:
    figures = [f"{got.recall:.3f}", number(got.cpu_ms), number(got.cpu_ms / plain.cpu_ms)]
    return [title, *figures, *(effort or ("", "", ""))]


@dataclass(frozen=True, slots=True)
class Grouping:
    """An attribute that has to do with the vectors: which group each row is in, and its filter."""

    attribute: str
    groups: NDArray[np.int64]
    filters: Sequence[dict[str, object]]


def grouping(data: Dataset) -> Grouping:
    """Return a data set's telling attribute."""
    if data.name == "glove":
        bounds = list(pairwise(RANK_BOUNDS))
        groups = np.searchsorted(RANK_BOUNDS, data.attributes["rank"], side="right") - 1
        return Grouping(
            "rank", groups, [{"rank": {"$gte": low, "$lt": high}} for low, high in bounds]
        )
    name = "label" if data.name == "fashion" else "image"
    values, groups = np.unique(data.attributes[name], return_inverse=True)
    return Grouping(name, groups, [{name: value} for value in values.tolist()])


def correlated_section(bench: Bench) -> str:
    """Filter by the group of the nearest row, and by the one whose nearest row is farthest."""
    known = grouping(bench.data)
    shown = []
    every = bench.questions(bench.queries, selected(1.0, len(bench.points.vectors)))
    ranked = [_groups_by_distance(bench.points, question.vector, known) for question in every]
    selections: dict[int, Selection] = {}
    for title, place in (("with the query", 0), ("half-way", None), ("against the query", -1)):
        questions = []
        for question, order in zip(every, ranked, strict=True):
            group = int(order[len(order) // 2 if place is None else place])
            if group not in selections:
                selections[group] = _group_selection(known, group)
            questions.append(Question(question.raw, question.vector, selections[group]))
        shown.append(_correlated_row(bench, f"{known.attribute}, {title}", questions))
    head = ("filter", "rows that pass", "recall@10", "CPU ms", "x brute force", "partitions",
            "clusters", "vectors read")  # fmt: skip
    return table(head, shown)


def _correlated_row(bench: Bench, title: str, questions: Sequence[Question]) -> list[str]:
    tenths = tenth_distances(bench.points, questions)
    plain = measure(bench.points, questions, tenths, brute(bench.points))
    asker = SquashAsker(bench.index)
    row = _row(title, measure(bench.points, questions, tenths, asker), plain, asker.effort())
    sizes = [len(q.selection.rows) for q in questions if q.selection.rows is not None]
    return [row[0], f"{np.median(sizes):,.0f}", *row[1:]]


def _groups_by_distance(points: Points, vector: F32, known: Grouping) -> I64:
    """Return the groups with at least K rows, in the order of their nearest rows."""
    nearest = np.full(len(known.filters), np.inf, dtype=np.float32)
    np.minimum.at(nearest, known.groups, points.squared_distances(vector, None))
    large = np.bincount(known.groups, minlength=len(nearest)) >= K
    order = np.argsort(nearest, kind="stable")
    return order[large[order]]


def _group_selection(known: Grouping, group: int) -> Selection:
    mask = known.groups == group
    return Selection(f"group {group}", known.filters[group], np.flatnonzero(mask), mask)


def size_section(bench: Bench, folder: Path, others: Sequence[peers.Peer]) -> str:
    """Say what the index weighs and what it took to build."""
    stats: IndexStats = bench.index.stats()
    rows, dimension = bench.points.vectors.shape
    codes = sum(path.stat().st_size for path in folder.rglob("*codes*") if path.is_file())
    cost = bench.cost
    lines = [
        ("partitions, clusters", f"{stats.partitions:,}, {stats.clusters:,}"),
        ("codes with factors, byte a row", number(stats.code_bytes_per_row)),
        ("codes with factors, byte a dimension", number(stats.code_bytes_per_row / dimension)),
        ("stored codes objects, byte a dimension", number(codes / rows / dimension)),
        ("stored in all, MiB (the vectors alone)",
         f"{number(stats.stored_bytes / MIB)} ({number(rows * dimension * 4 / MIB)})"),
        ("import, CPU s", number(cost.import_cpu_s)),
        ("optimize, CPU s", number(cost.optimize_cpu_s)),
        ("build's peak of anonymous memory, MiB", number(cost.anonymous_bytes / MIB)),
        ("build's peak resident, mapped data included, MiB", number(cost.resident_bytes / MIB)),
        *((f"{peer.title} build, CPU s", number(peer.build_cpu_s)) for peer in others),
    ]  # fmt: skip
    return table(("size and build", ""), lines)


NOTES: Final = """## How to read the speed tables

Recall@10 is against brute force in float64, ties counted by distance. CPU ms is the median over \
{queries} held-out queries of the process's CPU time, after a warm-up; *x brute force* is its \
ratio to NumPy's on the same rows. Everything is in memory.

- Brute force and faiss are handed the rows that pass for free, as a list or an \
`IDSelectorBitmap`. Squash evaluates its filter `u < s` inside the timed part, looks for newer \
commits, and fetches the answers' keys.
- Squash runs its NumPy kernels here.
- Faiss's effort (nprobe, or efSearch up to {effort:,}) is the least that met the recall on up to \
{tuning} other queries; Squash learned its own when it was built, from its own rows.
- HNSW is not built above {hnsw:,} rows unless `--hnsw` asks for it."""

CORRELATED_NOTE: Final = """Filters that have to do with the vectors, at the default target of \
0.95: each query is filtered by the group of the row nearest to it, by the middle one of all \
groups by their nearest row, and by the group whose nearest row is the farthest."""


def section(name: str, limit: int | None, queries: int, *, with_hnsw: bool) -> str:
    """Measure one data set; give its section."""
    data = load(name, limit=limit)
    points = Points.of(data.vectors, data.metric)
    rows, dimension = points.vectors.shape
    chosen = np.linspace(0, len(data.queries) - 1, min(queries, len(data.queries)))
    with tempfile.TemporaryDirectory(prefix="squash-bench-") as folder:
        cost = build(name, limit, Path(folder))
        sys.stderr.write(f"{name}: built, {cost}\n")
        index = squash.connect(folder).index(name)
        bench = Bench(data, points, chosen.astype(np.int64), index, cost)
        others = [peers.ivf_flat(points)]
        if with_hnsw or rows <= HNSW_ROWS_MAX:
            others.append(peers.hnsw(points))
        parts = [
            f"## {name}: {rows:,} x {dimension}, {data.metric}",
            conditions(command_line(), ("numpy", "faiss-cpu")),
            uniform_section(bench, others),
            CORRELATED_NOTE,
            correlated_section(bench),
            size_section(bench, Path(folder), others),
        ]
    return "\n\n".join(parts)


def notes(queries: int) -> str:
    """Return the section that goes before all others."""
    return NOTES.format(
        queries=queries, tuning=TUNING_QUERIES, effort=peers.EFFORT_MAX, hnsw=HNSW_ROWS_MAX
    )


def main() -> None:
    """Measure the data sets named and write their sections."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="glove,fashion,sift:300000", help="NAME or NAME:ROWS, with commas between"
    )
    parser.add_argument("--limit", type=int, help="at most so many rows, where --data says nothing")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--hnsw", action="store_true", help="build HNSW whatever the size")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    write_section(arguments.out, "notes", notes(arguments.queries))
    for entry in arguments.data.split(","):
        name, _, rows = entry.partition(":")
        limit = int(rows) if rows else arguments.limit
        text = section(name, limit, arguments.queries, with_hnsw=arguments.hnsw)
        write_section(arguments.out, entry.replace(":", "-"), text)
        sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
