"""A bulk build of millions of rows by the state machine, its functions killed in every stage.

The built artefacts run in the local cloud, over a local S3, and build one index from many files,
.npy and Parquet by turns, while containers of the builder are killed. The same build is then done
by one process that nothing disturbs, and both indexes are held to one another object by object.
Queries are judged by brute force. The rows are SIFT's descriptors, projected to fewer dimensions by
their principal axes; where more are asked for than there are, all come again with noise.

    make build-local && python bench/bulk_local.py
    python bench/bulk_local.py --rows 60000 --files 6      # to see that it runs
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import squash
from bulk_disturbing import (
    StageKiller,
    ask,
    kept_objects,
    reports,
    store_of,
    wait_for_build,
)
from bulk_reports import run_of
from data import load
from deployed import BUILD, Deployed, deployed
from report import command_line, machine, number, table, told, write_section
from squash.limits import MIB
from squash.maintain.bulk.request import BuildSizes
from squash.maintain.bulk.stages import STAGES
from squash.runtime.build_requests import Runner, default_sizes

MADE: Final = Path(__file__).resolve().parents[1] / ".cache" / "bench"
INDEX: Final = "bulk"
SIZED: Final = "small tasks"
ALONE: Final = "alone"
BUILD_ID: Final = "b0" * 16
K: Final = 10
NOISE: Final = 0.05
"""Of a row that comes again, as a share of the rows' own spread."""
AXES_ROWS: Final = 100_000
CHUNK: Final = 65_536
SECONDS_MAX: Final = 6 * 3600


@dataclass(frozen=True)
class Rows:
    """What is built from, and asked."""

    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    again: int
    """From which row on they come again, with noise."""


def rows_of(count: int, dimension: int, queries: int) -> Rows:
    """Return the rows, mapped from a file that is made once."""
    base = load("sift")
    sample = np.asarray(base.vectors[:: max(1, len(base.vectors) // AXES_ROWS)], np.float64)
    _, axes = np.linalg.eigh(np.cov(sample, rowvar=False))
    axes = axes[:, ::-1][:, :dimension].astype(np.float32)
    path = MADE / f"bulk-{count}x{dimension}.npy"
    MADE.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        spread = NOISE * float((sample.astype(np.float32) @ axes).std(axis=0).mean())
        made = np.lib.format.open_memmap(
            path.with_suffix(".part"), "w+", np.float32, (count, dimension)
        )
        for first in range(0, count, CHUNK):
            numbers = np.arange(first, min(first + CHUNK, count))
            part = base.vectors[numbers % len(base.vectors)] @ axes
            noise = np.random.default_rng(first).standard_normal(part.shape, np.float32)
            repeated = (numbers >= len(base.vectors))[:, None]
            made[first : first + CHUNK] = part + spread * noise * repeated
        made.flush()
        path.with_suffix(".part").rename(path)
    return Rows(
        np.load(path, mmap_mode="r"), (base.queries[:queries] @ axes), min(count, len(base.vectors))
    )


def files_of(vectors: NDArray[np.float32], count: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of files: every other one Parquet, with an attribute."""
    bounds = np.linspace(0, len(vectors), count + 1).astype(int)
    for file in range(count):
        part = np.ascontiguousarray(vectors[bounds[file] : bounds[file + 1]])
        stream = io.BytesIO()
        if file % 2:
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
            batch = pa.table({"vector": column, "file": np.full(len(part), file)})
            pq.write_table(batch, stream, row_group_size=50_000, compression="zstd")
            yield f"{file:03d}.parquet", stream.getvalue()
        else:
            np.save(stream, part)
            yield f"{file:03d}.npy", stream.getvalue()


def upload(place: Deployed, vectors: NDArray[np.float32], count: int) -> list[str]:
    """Put the files into the bucket; returns their URLs."""
    client = boto3.client("s3", **place.cloud.client_arguments("s3"))
    (bucket,) = place.cloud.cloud.template.buckets
    urls = []
    for name, data in files_of(vectors, count):
        client.put_object(Bucket=bucket, Key=f"inputs/{name}", Body=data)
        urls.append(f"s3://{bucket}/inputs/{name}")
    return urls


def by_machine(
    place: Deployed, urls: Sequence[str], sizes: BuildSizes, options: argparse.Namespace
) -> dict[str, Any]:
    """Have the state machine build, with kills; returns what is known of it."""
    index = place.database().create_index(INDEX, dimension=options.dimension, metric="euclidean")
    (state_machine,) = place.cloud.cloud.template.state_machines
    builder = place.cloud.cloud.template.functions["squash-builder"]
    runner = Runner("states", state_machine.arn, builder.memory_mb, "x86_64")
    # HTTP has no say in the sizes of tasks: prepared and cancelled here, it is begun over HTTP.
    builds = index.bulk_builds()
    builds.prepare(urls, build_id=BUILD_ID, sizes=sizes, runner=runner)
    path = f"/v1/indexes/{INDEX}/builds/{BUILD_ID}"
    ask(place.url, "POST", f"{path}/cancel")
    killer = StageKiller(
        place.cloud, store_of(index), BUILD_ID, seed=options.seed, delay_ms_max=options.delay_ms
    )
    began = time.monotonic()
    last = [""]

    def tell(status: Mapping[str, Any]) -> None:
        done = ", ".join(
            f"{one['stage']} {one['tasks_done']}/{one['tasks']}"
            for one in status["stages"]
            if one["tasks_done"]
        )
        if done != last[0]:
            last[0] = done
            told(f"{time.monotonic() - began:7.1f} s  {done}")

    with killer:
        ask(place.url, "POST", f"{path}/resume", {})
        status = wait_for_build(
            place.url, INDEX, BUILD_ID, seconds=SECONDS_MAX, every_s=1.0, told=tell
        )
    wall_s = time.monotonic() - began
    if killer.problem is not None:
        raise killer.problem
    if status["state"] != "published":
        raise SystemExit(f"the build is {status['state']}: {status['problems']}")
    return {
        "status": status,
        "wall_s": wall_s,
        "kills": dict(killer.kills),
        "calls": place.cloud.stats()["functions"]["squash-builder"],
        "reports": reports(store_of(index), BUILD_ID),
        "memory_mb": builder.memory_mb,
    }


def by_one_process(
    location: str, endpoint: str, urls: Sequence[str], sizes: BuildSizes, dimension: int
) -> dict[str, Any]:
    """Do the same build; run in a process of its own, whose memory is measured."""
    database = squash.connect(location, endpoint_url=endpoint)
    index = database.create_index(INDEX, dimension=dimension, metric="euclidean")
    began, cpu_s = time.monotonic(), time.process_time()
    status = index.build(urls, build=BUILD_ID, sizes=sizes)
    # Not getrusage's: that of a process which was spawned begins with its parent's.
    memory = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kb = int(memory.partition("VmHWM:")[2].split()[0])
    return {
        "state": status.state,
        "wall_s": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu_s,
        "peak_mb": peak_kb >> 10,
        "reports": reports(store_of(index), BUILD_ID),
    }


def nearest(rows: Rows) -> NDArray[np.int64]:
    """Return the rows next to each query, int64 [q, K], by brute force."""
    best_rows = np.empty((len(rows.queries), 0), np.int64)
    best = np.empty((len(rows.queries), 0), np.float32)
    queries = rows.queries
    for first in range(0, len(rows.vectors), CHUNK):
        part = np.asarray(rows.vectors[first : first + CHUNK])
        distances = (part**2).sum(axis=1) - 2 * queries @ part.T
        numbers = np.broadcast_to(np.arange(first, first + len(part)), distances.shape)
        best = np.concatenate([best, distances], axis=1)
        best_rows = np.concatenate([best_rows, numbers], axis=1)
        order = np.argsort(best, axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(best, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
    return best_rows


def asked(index: squash.Index, rows: Rows, right: NDArray[np.int64]) -> dict[str, float]:
    """Ask an index all queries, twice; returns recall, and the times of the second round."""
    found, times_ms = 0, []
    for round_ in range(2):
        for query, numbers in zip(rows.queries, right, strict=True):
            began = time.perf_counter()
            answer = index.query(query, top_k=K)
            elapsed_ms = 1000 * (time.perf_counter() - began)
            if round_:
                times_ms.append(elapsed_ms)
                keys = {match.key for match in answer.matches}
                found += len(keys & {str(number) for number in numbers})
    return {
        "recall": found / right.size,
        "p50_ms": float(np.percentile(times_ms, 50)),
        "p95_ms": float(np.percentile(times_ms, 95)),
    }


def over_http(place: Deployed, rows: Rows, right: NDArray[np.int64]) -> float:
    """Return the recall of answers of the deployed functions."""
    found = 0
    for query, numbers in zip(rows.queries, right, strict=True):
        body = {"vector": query.tolist(), "top_k": K}
        matches = ask(place.url, "POST", f"/v1/indexes/{INDEX}/query", body)["matches"]
        found += len({one["key"] for one in matches} & {str(number) for number in numbers})
    return found / right.size


def stage_rows(
    found: Mapping[str, list[dict[str, Any]]],
    alone: Mapping[str, list[dict[str, Any]]],
    kills: Mapping[str, int],
    memory_mb: int,
) -> list[list[str]]:
    """Return a row a stage, as the tasks reported."""
    lines = []
    for stage in STAGES:
        tasks = found.get(stage, [])
        if not tasks:
            continue
        took_s = (max(t["ended_ms"] for t in tasks) - min(t["begun_ms"] for t in tasks)) / 1000
        cpu_s = sum(task["cpu_ms"] for task in tasks) / 1000
        alone_s = sum(task["cpu_ms"] for task in alone.get(stage, [])) / 1000
        requests: dict[str, int] = {}
        for task in tasks:
            for kind, count in task["requests"].items():
                requests[kind] = requests.get(kind, 0) + count
        billed_s = sum(task["ended_ms"] - task["begun_ms"] for task in tasks) / 1000
        lines.append(
            [
                str(stage),
                str(len(tasks)),
                str(kills.get(stage, 0)),
                number(took_s or 0.001),
                number(billed_s * memory_mb / 1024 or 0.001),
                number(cpu_s or 0.001),
                number(alone_s or 0.001),
                str(max(task["peak_mb"] for task in tasks)),
                number(sum(task["bytes_in"] for task in tasks) / MIB or 0.001),
                number(sum(task["bytes_out"] for task in tasks) / MIB or 0.001),
                ", ".join(f"{count} {kind}" for kind, count in sorted(requests.items())),
            ]
        )
    return lines


HEAD: Final = (
    "stage", "tasks", "kills", "s", "GB-s", "CPU s", "CPU s alone", "peak MB", "MiB in", "MiB out",
    "requests",
)  # fmt: skip


def main() -> None:
    """Build, compare, ask, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dimension", type=int, default=96)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--concurrency", type=int, default=4, help="tasks at once")
    parser.add_argument("--batch-mb", type=int, default=64, help="of a task of sample or assign")
    parser.add_argument("--group-mb", type=int, default=64, help="of a task of assemble")
    parser.add_argument("--delay-ms", type=float, default=4_000, help="until a kill, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", type=Path, default=BUILD, help="what `make build-local` made")
    parser.add_argument("--data", type=Path, help="a folder for S3 to keep its objects in")
    parser.add_argument("--json", type=Path, default=MADE / "bulk_local.json")
    parser.add_argument("--out", type=Path, help="write a section of this document")
    options = parser.parse_args()

    rows = rows_of(options.rows, options.dimension, options.queries)
    sizes = replace(
        default_sizes(options.dimension),
        batch_bytes=options.batch_mb * MIB,
        group_bytes_max=options.group_mb * MIB,
    )
    right = nearest(rows)
    told(f"{len(rows.vectors):,} x {options.dimension}, of which {rows.again:,} come first")
    with deployed(
        build=options.build,
        data=options.data,
        s3_memory=options.data is None,
        parameters={"BuildConcurrency": str(options.concurrency)},
    ) as place:
        urls = upload(place, rows.vectors, options.files)
        machined = by_machine(place, urls, sizes, options)
        told("the same by one process")
        elsewhere = place.location.removesuffix("/squash") + f"/{ALONE}"
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            single = pool.submit(
                by_one_process, elsewhere, place.cloud.s3_url, urls, sizes, options.dimension
            ).result()
        ours, theirs = place.database().index(INDEX), place.database_at(ALONE).index(INDEX)
        objects = kept_objects(store_of(ours))
        others = kept_objects(store_of(theirs))
        differing = sorted(
            key for key in objects.keys() | others.keys() if objects.get(key) != others.get(key)
        )
        answers = {
            "by the state machine": asked(ours, rows, right),
            "by one process": asked(theirs, rows, right),
        }
        http_recall = over_http(place, rows, right)
        run = run_of(
            store_of(ours), INDEX, BUILD_ID, name=f"SIFT by the state machine, {SIZED}",
            dimension=options.dimension, functions=options.concurrency,
        )  # fmt: skip
    result = {
        "command": command_line(),
        "rows": options.rows, "dimension": options.dimension, "files": options.files,
        "rows_before_repetition": rows.again, "noise": NOISE,
        "machine": machined, "alone": single, "objects": len(objects), "differing": differing,
        "answers": answers, "http_recall": http_recall, "runs": [asdict(run)],
    }  # fmt: skip
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    told_text = report(result)
    print(told_text)
    if options.out is not None:
        write_section(options.out, "bulk-machine", told_text)
    if differing or not objects:
        raise SystemExit(f"{len(differing)} of {len(objects)} objects differ: {differing[:10]}")


def report(result: Mapping[str, Any]) -> str:
    """Return what was found, as a section in Markdown."""
    machined, single = result["machine"], result["alone"]
    lines = stage_rows(
        machined["reports"], single["reports"], machined["kills"], machined["memory_mb"]
    )
    answers = [
        [name, f"{of['recall']:.4f}", number(of["p50_ms"]), number(of["p95_ms"])]
        for name, of in result["answers"].items()
    ]
    return "\n\n".join(
        (
            "## A build by the state machine, its functions killed",
            machine(result["command"], {"numpy": np.__version__, "pyarrow": pa.__version__}),
            (
                f"{result['rows']:,} x {result['dimension']} from {result['files']} files, SIFT "
                f"projected by its principal axes; rows from "
                f"{result['rows_before_repetition']:,} on come again with noise of {NOISE:.0%}. "
                f"Of {result['objects']} objects, "
                f"{len(result['differing'])} differ from those of one undisturbed process."
            ),
            table(HEAD, lines),
            (
                f"By the state machine {machined['wall_s']:.0f} s, {machined['calls']['calls']} "
                f"calls, {machined['calls']['killed']} containers killed, "
                f"${machined['status']['cost_usd']:.4f} as Lambda and S3 would bill it; by one "
                f"process {single['wall_s']:.0f} s, {single['cpu_s']:.0f} s of a processor, "
                f"at most {single['peak_mb']} MB."
            ),
            table(("built", f"recall@{K}", "p50 ms", "p95 ms"), answers),
            f"Over HTTP: recall@{K} {result['http_recall']:.4f}.",
        )
    )


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
