"""Codecs per bit: recall by code score alone, and how many rows their bounds leave.

For each data set a sample of 40,000 rows and 100 held-out queries: recall@10 when all rows are
ranked by the full code's estimate and nothing is refined; *left*, the median number of rows whose
lower bound does not exceed the true 10th distance, which an exact refinement would have to read;
*violated*, how many of all bounds exceed their distance (it must be none); and *low*, the median
rank by low-bit code that holds all ten. In brackets the reference figures of an earlier prototype.

    python bench/codecs.py glove sift
"""

# ruff: noqa: A005 - a script, never imported: it hides no standard module

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from report import conditions, write_section
from squash.quantize import Codec, train_codec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

K: Final = 10
ROWS: Final = 40_000
QUERIES: Final = 100
CELLS: Final = 128
BITS: Final = (1, 2, 3, 4)
SEED: Final = 7
RECALL_SLACK: Final = 0.02

LEGEND: Final = """Recall when all rows are ranked by the code's estimate alone and nothing is \
refined; *left*, the median of rows whose lower bound does not exceed the true tenth distance; \
*low rank*, the median rank by low-bit code that holds all ten; *violated*, bounds above their \
distance (it must be none). In brackets the figures of an earlier prototype."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a codec, its number of clusters, and the reference figures."""

    title: str
    codec: str
    options: dict[str, Any]
    clusters: int
    reference_recall: dict[str, Sequence[float]]
    reference_left: dict[str, Sequence[int]]


# Reference: recall@10 at 1, 2, 3, 4 bits, and rows left. "One center" had a statistical bound.
TABLE: Final = (
    Row(
        "OSQ, centroid distance; cell bound", "osq", {"factors": False}, 1,
        {"sift": (0.655, 0.787, 0.890, 0.923), "glove": (0.454, 0.694, 0.826, 0.898)},
        {"sift": (780, 250, 80, 35), "glove": (15601, 910, 125, 41)},
    ),
    Row(
        "same codes, rescaled; Cauchy-Schwarz", "osq", {"factors": True}, 1,
        {"sift": (0.632, 0.806, 0.898, 0.938), "glove": (0.443, 0.717, 0.855, 0.932)},
        {"sift": (742, 210, 70, 32), "glove": (5722, 344, 71, 31)},
    ),
    Row(
        "residual, one center; Cauchy-Schwarz", "residual", {}, 1,
        {"sift": (0.470, 0.717, 0.828, 0.909), "glove": (0.391, 0.669, 0.839, 0.902)},
        {},
    ),
    Row(
        f"residual, {CELLS} clusters; Cauchy-Schwarz", "residual", {}, CELLS,
        {"sift": (0.696, 0.838, 0.905, 0.943), "glove": (0.567, 0.763, 0.877, 0.954)},
        {"sift": (782, 132, 50, 26), "glove": (4948, 331, 66, 26)},
    ),
    Row(
        f"OSQ on residuals, {CELLS} clusters, rescaled", "osq", {"residual": True}, CELLS,
        {"sift": (0.688, 0.824, 0.904, 0.949), "glove": (0.519, 0.773, 0.882, 0.940)},
        {"sift": (522, 166, 56, 26), "glove": (3566, 218, 52, 26)},
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clustering:
    """Rows sorted by cluster."""

    vectors: F32
    begins: I64
    means: F32

    @property
    def labels(self) -> I64:
        """int64 [n], each row's cluster."""
        return np.repeat(np.arange(len(self.means)), np.diff(self.begins))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured for one codec."""

    recall: float
    left: float
    low: float
    violated: int


def clustered(vectors: F32, clusters: int) -> Clustering:
    """Run plain k-means, and sort the rows by cluster."""
    rng = np.random.default_rng(SEED)
    centers = vectors[rng.choice(len(vectors), clusters, replace=False)].copy()
    labels = np.zeros(len(vectors), dtype=np.int64)
    squares = (vectors**2).sum(axis=1)
    for _ in range(12 if clusters > 1 else 1):
        gaps = squares[:, None] - 2 * vectors @ centers.T + (centers**2).sum(axis=1)
        labels = gaps.argmin(axis=1)
        for cluster in np.unique(labels):
            centers[cluster] = vectors[labels == cluster].mean(axis=0, dtype=np.float64)
    order = np.argsort(labels, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=clusters))])
    return Clustering(vectors[order], begins.astype(np.int64), centers)


def trained(row: Row, rows: Clustering, bits: int) -> Codec:
    """Train a line's codec at some bits a dimension."""
    name = "bits" if row.codec == "residual" else "bits_per_dimension"
    return train_codec(
        row.codec,
        sample=rows.vectors,
        space="l2",
        seed=SEED,
        residuals=rows.vectors - rows.means[rows.labels],
        **{name: bits, **row.options},
    )


def measure(codec: Codec, rows: Clustering, queries: F32) -> Outcome:
    """Score all rows for each query, and compare with the true distances."""
    centers = codec.project(rows.means)
    codes = codec.encode(codec.project(rows.vectors), centers=centers, cluster_begins=rows.begins)
    wide = rows.vectors.astype(np.float64)
    recalls, left, low_ranks, violated = [], [], [], 0
    for query in queries:
        true = ((wide - query) ** 2).sum(axis=1)
        nearest = np.argsort(true, kind="stable")[:K]
        prepared = codec.prepare(query)
        estimates, bounds = codec.full_scan(
            codes,
            rows=np.arange(len(wide)),
            row_clusters=rows.labels,
            cluster_begins=rows.begins,
            centers=centers,
            prepared=prepared,
        )
        best = np.argsort(estimates, kind="stable")[:K]
        recalls.append(len(np.intersect1d(best, nearest)) / K)
        left.append(int((bounds <= true[nearest[-1]]).sum()))
        violated += int((bounds > true).sum())
        found, low = codec.low_scan(
            codes,
            clusters=np.arange(len(centers)),
            cluster_begins=rows.begins,
            centers=centers,
            prepared=prepared,
        )
        by_low = found[np.argsort(low, kind="stable")]
        low_ranks.append(int(np.flatnonzero(np.isin(by_low, nearest)).max()) + 1)
    return Outcome(
        float(np.mean(recalls)), float(np.median(left)), float(np.median(low_ranks)), violated
    )


def bench_data(name: str) -> tuple[F32, F32]:
    """Return the sample and the queries of a data set, float32.

    GloVe's words come most frequent first, and the reference figures are of the most frequent
    ones: sample and queries are taken from these. Of other sets the sample is spread evenly.
    """
    from data import load

    if name == "glove":
        rows = np.array(load(name).vectors[: ROWS + QUERIES])
        held_out = np.linspace(0, len(rows) - 1, QUERIES).astype(np.int64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return np.delete(rows, held_out, axis=0), rows[held_out]
    found = load(name, limit=ROWS)
    queries = found.queries[:: max(1, len(found.queries) // QUERIES)][:QUERIES]
    return np.array(found.vectors, dtype=np.float32), np.array(queries, dtype=np.float32)


def lines(name: str) -> Iterator[str]:
    """Measure one data set; give the table line by line, then say what falls short."""
    vectors, queries = bench_data(name)
    yield f"## Codecs on {name}: {len(vectors):,} x {vectors.shape[1]}, {len(queries)} queries"
    yield ""
    yield conditions(f"python bench/codecs.py {name}", ("numpy",))
    yield ""
    yield LEGEND
    yield ""
    yield "| codec | bits | recall@10 (ref) | left (ref) | low rank | violated |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    grouped = {clusters: clustered(vectors, clusters) for clusters in (1, CELLS)}
    short = []
    for row in TABLE:
        rows = grouped[row.clusters]
        reference = row.reference_recall.get(name)
        for place, bits in enumerate(BITS):
            got = measure(trained(row, rows, bits), rows, queries)
            recall = f"{got.recall:.3f}{bracketed(reference, place)}"
            left = f"{got.left:.0f}{bracketed(row.reference_left.get(name), place)}"
            yield (f"| {row.title} | {bits} | {recall} | {left} | {got.low:.0f} | {got.violated} |")
            if reference is not None and got.recall < reference[place] - RECALL_SLACK:
                points = 100 * (reference[place] - got.recall)
                short.append(f"{row.title} at {bits} bits ({points:.1f} points)")
    yield ""
    yield shortfall(short)


def shortfall(short: Sequence[str]) -> str:
    """Say in a sentence where recall is below the reference by more than it may be."""
    if not short:
        return "No figure is more than two points of recall below its reference."
    return f"More than two points of recall below the reference: {'; '.join(short)}."


def bracketed(values: Sequence[float] | None, place: int) -> str:
    """Return a reference figure in brackets, or nothing."""
    return "" if values is None else f" ({values[place]})"


def main(names: Sequence[str], out: Path | None) -> None:
    """Print the table of each data set, and write it where that is asked for."""
    for name in names:
        text = []
        for line in lines(name):
            print(line, flush=True)
            text.append(line)
        print()
        if out is not None:
            write_section(out, f"codecs-{name}", "\n".join(text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", default=["glove", "sift"])
    parser.add_argument("--out", type=Path, help="write sections of this document")
    arguments = parser.parse_args()
    main(arguments.name, arguments.out)
