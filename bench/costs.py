"""What the steps of a search cost on this machine: fits `squash.planning.CostModel`.

    python bench/costs.py                     # prints, writes .cache/bench/costs.json and a section
    SQUASH_COSTS=.cache/bench/costs.json ...  # plans by it

Codes and vectors are random, in mapped files as a folder's index is, and larger than the last-level
cache; clusters and rows are visited in random order. Times are medians of the thread's CPU time.
The parameters are fitted by least squares of the relative errors, none below a floor; the error
printed is the median and the largest of |expected / measured - 1|.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import json
import mmap
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data import CACHE
from report import command_line, conditions, number, processor, table, told, write_section
from squash import kernels
from squash.kernels import (
    BLOCK_FACTOR_BYTES,
    BLOCK_ROWS,
    ClusterTable,
    FilterProgram,
    HadamardRotation,
    Leaf,
)
from squash.kernels.prepare import prepare
from squash.planning import DEFAULT_COSTS, CostModel, Matches, keep_for, plan_matches

DIMENSIONS: Final = (64, 128, 256, 512, 1024)
CODE_BYTES: Final = 1 << 26
VECTOR_BYTES: Final = 1 << 28
FILTERED_ROWS: Final = 1 << 22
DENSITIES: Final = (0.01, 0.03, 0.1)
SURVIVORS: Final = (0.02, 0.1, 0.3)
LEAST: Final = 1e-6
NEVER: Final = 2.0
MEASURED_ROWS: Final = (250, 1000)
EXAMPLE_ROWS: Final = 1_000_000

AnyArray = NDArray[Any]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
REPEATS: Final = 9
HOT_REPEATS: Final = 51


@dataclass(frozen=True, slots=True)
class Sample:
    """A measured time, and how often each parameter counts in it."""

    step: str
    dimension: int
    ns: float
    counts: Mapping[str, float]


def median_ns(calls: Sequence[Callable[[], Any]]) -> float:
    """Return the median CPU time of some calls that do as much, each somewhere else."""
    times = []
    for call in calls:
        begin = time.thread_time_ns()
        call()
        times.append(time.thread_time_ns() - begin)
    return float(np.median(times))


def stored(array: AnyArray) -> AnyArray:
    """Return an array as a folder's index is read: a file mapped into memory, all of it cached."""
    with tempfile.TemporaryFile(dir=CACHE) as file:
        file.write(array.data)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found = np.frombuffer(mapped, array.dtype).reshape(array.shape)
    assert np.array_equal(found, array)
    return found


def random_table(
    rng: np.random.Generator, dimension: int, rows: int, cluster_rows: int
) -> ClusterTable:
    """Return clusters of random codes in one partition, whole blocks each."""
    groups = -(-dimension // 4)
    width = 16 * groups + BLOCK_FACTOR_BYTES
    count = rows // cluster_rows
    cluster_blocks = cluster_rows // BLOCK_ROWS
    blocks = np.frombuffer(bytearray(rng.bytes(rows // BLOCK_ROWS * width)), np.uint8)
    blocks = blocks.reshape(-1, width)
    factors = blocks[:, 16 * groups :]
    norms = rng.uniform(0.9, 1.1, (len(blocks), BLOCK_ROWS)).astype(np.float32)
    factors[:, :128] = norms.view(np.uint8).reshape(len(blocks), 128)
    factors[:, 128:] = np.full((len(blocks), 96), 1, np.float16).view(np.uint8)
    factors[:, 192:256] = 0
    factors[:, 256:] = np.full((len(blocks), 32), 0.1, np.float16).view(np.uint8)
    firsts = np.arange(count, dtype=np.int64)
    return ClusterTable(
        space="l2",
        dimension=dimension,
        centers=(rng.standard_normal((count, dimension)) / dimension**0.5).astype(np.float32),
        center_norms=np.ones(count),
        rows=np.full(count, cluster_rows, dtype=np.int64),
        partition=np.zeros(count, dtype=np.int64),
        first_row=firsts * cluster_rows,
        first_block=firsts * cluster_blocks,
        local_block=firsts * cluster_blocks,
        alive=np.full(len(blocks), 0xFFFFFFFF, dtype=np.uint32),
        alive_counts=np.full(count, cluster_rows, dtype=np.int64),
        row_base=np.zeros(1, dtype=np.int64),
        blocks=[stored(blocks)],
        full=[stored(np.frombuffer(rng.bytes(rows * dimension // 2), np.uint8).reshape(rows, -1))],
        vectors=[None],
    )


class Scans:
    """Scans of one table, each of other clusters."""

    def __init__(self, rng: np.random.Generator, dimension: int, cluster_rows: int) -> None:
        rows = CODE_BYTES // (dimension // 2)
        self._rng, self._dimension, self._rows = rng, dimension, rows
        self._table = random_table(rng, dimension, rows, cluster_rows)
        unit = rng.standard_normal(dimension).astype(np.float32) / np.float32(dimension**0.5)
        axes = np.eye(dimension, dtype=np.float32)
        self._query = prepare(self._table, axes, np.zeros(dimension, np.float32), unit)
        order = rng.permutation(len(self._table.rows)).astype(np.int64)
        self._orders = np.array_split(order, REPEATS)

    def scan(
        self, order: I64, possible: U32 | None, reach: float, share_min: float
    ) -> kernels.Ranked:
        return kernels.scan(
            self._table, order, possible, self._query, keep=30, reach=reach, share_min=share_min,
            bounds=False,
        )  # fmt: skip

    def signs(self, share: float) -> Sample:
        """Scan all signs; of the rows about this share survives."""
        reach = self._reach_for(share)
        return self._sample(f"signs, {share:.0%} survive", [None] * REPEATS, reach, 0.0)

    def codes(self, share: float) -> Sample:
        """Gather the full codes of this share."""
        bits = [
            np.packbits(self._rng.random(self._rows) < share, bitorder="little").view(np.uint32)
            for _ in range(REPEATS)
        ]
        return self._sample(f"codes, {share:.0%} admitted", bits, 0.0, NEVER)

    def _sample(
        self, step: str, bits: Sequence[U32 | None], reach: float, share_min: float
    ) -> Sample:
        found = []

        def scanned(order: I64, possible: U32 | None) -> None:
            found.append(self.scan(order, possible, reach, share_min))

        calls = [partial(scanned, *one) for one in zip(self._orders, bits, strict=True)]
        median_ns(calls)
        ns = median_ns(calls)
        clusters = len(self._table.rows) / REPEATS
        signs = float(np.mean([one.low_scanned for one in found]))
        ranked = float(np.mean([one.ranked for one in found]))
        counts = {
            "cluster": clusters,
            "cluster_dimension": clusters * self._dimension,
            "low_row": signs,
            "low_row_dimension": signs * self._dimension,
            "gathered_row": ranked,
            "gathered_row_dimension": ranked * self._dimension,
        }
        return Sample(step, self._dimension, ns, counts)

    def _reach_for(self, share: float) -> float:
        """Return the reach with which about this share of the rows survives their signs."""
        low, high = -8.0, 8.0
        for _ in range(14):
            middle = (low + high) / 2
            found = self.scan(self._orders[0], None, middle, 0.0)
            low, high = (middle, high) if found.ranked < share * found.admitted else (low, middle)
        return high


def scans(rng: np.random.Generator, dimension: int) -> Iterator[Sample]:
    """Scan clusters of two sizes: their signs, with some survivors, and their codes, gathered."""
    for cluster_rows in (128, 512):
        world = Scans(rng, dimension, cluster_rows)
        for share in SURVIVORS:
            yield world.signs(share)
        for share in DENSITIES:
            yield world.codes(share)


def preparations(rng: np.random.Generator, dimension: int) -> Iterator[Sample]:
    """Rotate queries and measure their distances to few and to many centers."""
    rotation = HadamardRotation.random(dimension, 7)
    mean = np.zeros(dimension, np.float32)
    query = rng.standard_normal(dimension).astype(np.float32)
    for count in (64, 2048):
        world = random_table(rng, dimension, 32 * count, 32)
        yield Sample(
            "prepare",
            dimension,
            median_ns([partial(prepare, world, rotation, mean, query)] * HOT_REPEATS),
            {
                "call": 1,
                "rotated_dimension": dimension,
                "center_value": count * dimension,
            },
        )


def walks(rng: np.random.Generator) -> Iterator[Sample]:
    """Take few and many clusters."""
    world = random_table(rng, 64, 32 * 2048, 32)
    distances = rng.random(2048).astype(np.float32)
    for taken in (16, 128, 256):
        need = np.full(513, 1 / taken)

        def walked(need: F64 = need) -> Any:
            return kernels.walk(
                world, distances, k=10, overall=1.0, prior_rows=1024.0, thinning=1.0,
                inverse_need=need, adverse=np.ones(513),
            )  # fmt: skip

        yield Sample(
            "walk", 64, median_ns([walked] * HOT_REPEATS), {"call": 1, "walked": float(taken)}
        )


def measures(rng: np.random.Generator, dimension: int) -> Iterator[Sample]:
    """Measure rows from everywhere, few of each page."""
    rows = VECTOR_BYTES // (4 * dimension)
    vectors = np.empty((rows, dimension), np.float32)
    vectors[:] = rng.standard_normal(dimension).astype(np.float32)
    vectors = stored(vectors)
    world = random_table(rng, dimension, BLOCK_ROWS, BLOCK_ROWS)
    world.vectors[0] = vectors
    query = np.ones(dimension, np.float32)
    for metric in ("euclidean", "cosine"):
        for count in MEASURED_ROWS:
            partition = np.zeros(count, np.int64)
            calls = [
                partial(
                    kernels.row_distances, metric, query, world, partition,
                    np.sort(rng.choice(rows, count, replace=False)).astype(np.int64),
                )
                for _ in range(REPEATS)
            ]  # fmt: skip
            counts = {"exact_row": count, "exact_row_dimension": count * dimension}
            yield Sample(f"exact, {metric}, {count}", dimension, median_ns(calls), counts)


def filters(rng: np.random.Generator) -> Iterator[Sample]:
    """Evaluate filters for all rows: one, two and three comparisons, and one with open rows."""
    world = random_table(rng, 8, FILTERED_ROWS, 512)
    count = len(world.rows)
    names = ("a", "b", "c")
    for name in names:
        world.columns[name] = [stored(np.frombuffer(rng.bytes(FILTERED_ROWS), np.uint8))]
        numbers = np.arange(1024, dtype=np.float64)
        world.values[name] = [
            (numbers, stored(rng.integers(0, 1024, FILTERED_ROWS).astype(np.uint32)))
        ]
        world.signatures[name] = [None]
    every = np.arange(count, dtype=np.int64)
    sure, possible = (np.zeros(len(world.alive), np.uint32) for _ in range(2))
    truth = np.where(np.arange(256) < 128, 2, 0).astype(np.uint8)
    for leaves in (1, 2, 3):
        operations = [(kernels.LEAF, 0)]
        for place in range(1, leaves):
            operations += [(kernels.LEAF, place), (kernels.AND, 0)]
        program = FilterProgram(
            tuple(operations),
            tuple(Leaf(name, truth.tobytes()) for name in names[:leaves]),
        )
        yield Sample(
            f"filter, {leaves}",
            0,
            median_ns(
                [partial(kernels.filter_clusters, world, program, every, sure, possible)] * REPEATS
            ),
            {"filter_row": FILTERED_ROWS * leaves},
        )
    for cells in (2, 8):
        maybe = truth.copy()
        maybe[100 : 100 + cells] = 1
        program = FilterProgram(
            ((kernels.LEAF, 0),),
            (Leaf("a", maybe.tobytes(), intervals=((0.0, 500.0),)),),
        )
        yield Sample(
            f"filter, {cells} cells open",
            0,
            median_ns(
                [partial(kernels.filter_clusters, world, program, every, sure, possible)] * REPEATS
            ),
            {"filter_row": FILTERED_ROWS, "open_row": FILTERED_ROWS * cells / 256},
        )


def fitted(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the parameters whose relative errors have the least squares, none below `LEAST`."""
    names = sorted({name for sample in samples for name in sample.counts})
    system = np.array([[s.counts.get(name, 0.0) / s.ns for name in names] for s in samples])
    free = list(range(len(names)))
    while True:
        found, *_ = np.linalg.lstsq(system[:, free], np.ones(len(samples)), rcond=None)
        if (found > 0).all():
            break
        free.pop(int(found.argmin()))
    values = dict.fromkeys(names, LEAST)
    values.update({names[place]: float(value) for place, value in zip(free, found, strict=True)})
    return values


def expected_ns(parameters: Mapping[str, float], sample: Sample) -> float:
    """Return what the parameters say of a sample."""
    return sum(parameters[name] * count for name, count in sample.counts.items())


def measured() -> tuple[CostModel, dict[str, list[Sample]], dict[str, float]]:
    """Measure every step; return the model, the samples of each fit, and their parameters."""
    rng = np.random.default_rng(7)
    groups: dict[str, list[Sample]] = {
        "filter": list(filters(rng)),
        "walk": list(walks(rng)),
        "prepare": [],
        "scan": [],
        "exact": [],
    }
    for dimension in DIMENSIONS:
        told(f"dimension {dimension}")
        groups["prepare"] += preparations(rng, dimension)
        groups["scan"] += scans(rng, dimension)
        groups["exact"] += measures(rng, dimension)
    parameters: dict[str, float] = {}
    for samples in groups.values():
        parameters |= fitted(samples)
    told(json.dumps(parameters))
    parameters["cluster"] += parameters.pop("walked")
    del parameters["call"]  # it is the same for every plan
    model = CostModel(**{name: float(f"{value:.3g}") for name, value in parameters.items()})
    return model, groups, parameters


def errors(samples: Sequence[Sample]) -> list[float]:
    """Return |expected / measured - 1| of the samples, by their own fit."""
    parameters = fitted(samples)
    return [abs(expected_ns(parameters, sample) / sample.ns - 1) for sample in samples]


def section(model: CostModel, groups: Mapping[str, Sequence[Sample]]) -> str:
    """Return the document's section."""
    fits = [
        [name, len(samples), f"{100 * np.median(e):.0f} %", f"{100 * max(e):.0f} %"]
        for name, samples in groups.items()
        if (e := errors(samples))
    ]
    values = [[name, f"{value:g}"] for name, value in model.to_json().items()]
    return "\n\n".join(
        [
            "## What the steps cost",
            conditions(command_line(), ("numpy",)),
            LEGEND,
            table(("parameter", "ns"), values),
            "How far the model is from what was measured:",
            table(("step", "measured", "median error", "largest"), fits),
            f"What follows, for 10 answers at recall 0.95 in {EXAMPLE_ROWS:,} rows:",
            table(CROSSOVERS, [crossovers(model, dimension) for dimension in DIMENSIONS]),
        ]
    )


LEGEND: Final = (
    "Nanoseconds of one core, by which plans are chosen; `squash.planning.CostModel` says what "
    "each is."
)
CROSSOVERS: Final = (
    "dimension",
    "signs, ns a row",
    "code, ns a row",
    "exact, ns a row",
    "signs from this share admitted",
    "exact at once up to so many rows",
    "and so many a cluster",
    "all matches measured up to",
)


def crossovers(model: CostModel, dimension: int) -> list[object]:
    """Return what follows from a model at one dimension."""
    straight = model.straight(dimension, keep_for(10, 0.95).refined)
    return [
        dimension,
        number(model.signs(dimension)),
        number(model.gathered(dimension)),
        number(model.exact(dimension)),
        f"{100 * model.share_min(dimension):.1f} %",
        number(straight.base),
        number(straight.each),
        f"{scan_all_max(model, dimension):,}",
    ]


def scan_all_max(model: CostModel, dimension: int, rows: int = EXAMPLE_ROWS) -> int:
    """Return up to how many matches measuring all is cheaper than a walk of a usual index."""
    clusters = rows // 512
    low, high = 0, rows
    while high - low > 1:
        matches = (low + high) // 2
        share = matches / rows
        expected = Matches(
            rows=rows, matches=matches, open_rows=0.008 * rows, comparisons=1, clusters=clusters,
            clusters_needed=min(30 * share**-0.43, clusters), dimension=dimension,
            refined=keep_for(10, 0.95).refined,
        )  # fmt: skip
        if plan_matches(model, expected, always_max=0).scan_all:
            low = matches
        else:
            high = matches
    return low


def main() -> None:
    """Measure, fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=CACHE.parent / "bench" / "costs.json")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    model, groups, _ = measured()
    for name, samples in groups.items():
        for sample in samples:
            told(f"{name}: {sample.step}, {sample.dimension}: {sample.ns / 1000:,.1f} us")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    document = {"measured": f"{command_line()}; {processor()}", "costs": model.to_json()}
    arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = section(model, groups)
    write_section(arguments.out, "costs", text)
    print(text)
    told(f"{arguments.json}; the defaults are {DEFAULT_COSTS}")


if __name__ == "__main__":
    main()
