"""Who builds an index of the same files: each in a process of its own, on one thread."""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from bulk_data import F32
from bulk_reports import run_of
from resident import AnonymousPeak, resident_peak_bytes
from scale_inputs import Run

K: Final = 10
TARGET: Final = 0.95
READ_ROWS: Final = 16_384
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Job:
    """What is built, of which files, where to; `truth` is int64 [q, 10], the nearest rows."""

    name: str
    files: Path
    folder: Path
    rows: int
    dimension: int
    metric: str
    queries: F32
    truth: I64
    parquet: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """What a build took of its process; recall with as little effort as reaches 0.95, or most."""

    title: str
    cpu_s: float
    wall_s: float
    anonymous_bytes: int
    resident_bytes: int
    stored_bytes: int
    recall: float
    effort: str
    run: Run | None = None


def contenders() -> dict[str, Callable[[Job], Built]]:
    """Return those that are installed, by short names."""
    known = {"squash": (squash_build, "squash"), "faiss-pq": (faiss_pq, "faiss"),
             "faiss-sq": (faiss_sq, "faiss"), "lancedb": (lance_build, "lancedb")}  # fmt: skip
    return {name: call for name, (call, package) in known.items() if find_spec(package)}


def in_child(call: Callable[[Job], Built], job: Job) -> Built:
    """Run one in a child process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(call, job).result()


def squash_build(job: Job) -> Built:
    """Run the bulk build in this process."""
    import squash

    job.folder.mkdir(parents=True, exist_ok=True)
    index = squash.connect(str(job.folder)).create_index(
        "bulk", dimension=job.dimension, metric=job.metric
    )
    with _Watch() as watch:
        status = index.build([f"file://{job.files.resolve()}/"])
    builds = index.bulk_builds()
    run = run_of(builds._store, "bulk", status.build, name=job.name, dimension=job.dimension)  # noqa: SLF001
    hits = []
    for query, near in zip(job.queries, job.truth, strict=True):
        answer = index.query(query, top_k=K, recall_target=TARGET, include=())
        found = [_row_of(match.key) for match in answer.matches]
        hits.append(len(set(found) & set(near.tolist())) / K)
    stored = sum(run.index_bytes.values())
    return watch.built("Squash", stored, float(np.mean(hits)), f"target {TARGET}", run)


def _row_of(key: str) -> int:
    return int(key.removeprefix("row-"))


def faiss_pq(job: Job) -> Built:
    """IVF-PQ, 4 bits, fast scan."""
    return _faiss(job, f"PQ{job.dimension // 2}x4fs")


def faiss_sq(job: Job) -> Built:
    """IVF-SQ8."""
    return _faiss(job, "SQ8")


def _faiss(job: Job, code: str) -> Built:
    import faiss

    from contest import lists_of

    faiss.omp_set_num_threads(1)
    job.folder.mkdir(parents=True, exist_ok=True)
    path = job.folder / "index.faiss"
    lists = lists_of(job.rows)
    metric = faiss.METRIC_INNER_PRODUCT if job.metric == "cosine" else faiss.METRIC_L2
    with _Watch() as watch:
        index = faiss.index_factory(job.dimension, f"IVF{lists},{code}", metric)
        index.train(_sample(job, 64 * lists))
        for chunk in _chunks(job):
            index.add(chunk)
        faiss.write_index(index, str(path))

    def asked(effort: int) -> I64:
        parameters = faiss.SearchParametersIVF(nprobe=effort)
        return np.asarray(index.search(_unit(job, job.queries), K, params=parameters)[1])

    recall, nprobe = _least_effort(asked, lists, job.truth)
    title = f"faiss IVF{lists},{code}"
    return watch.built(title, path.stat().st_size, recall, f"nprobe {nprobe}")


def lance_build(job: Job) -> Built:
    """LanceDB's IVF_PQ, refined when it is asked."""
    import lancedb
    import pyarrow as pa

    from contest import lists_of

    job.folder.mkdir(parents=True, exist_ok=True)
    lists = lists_of(job.rows)
    vector = pa.list_(pa.float32(), job.dimension)
    schema = pa.schema([("id", pa.int64()), ("vector", vector)])

    def batches() -> Iterator[Any]:
        at = 0
        for chunk in _chunks(job, unit=False):
            flat = pa.FixedSizeListArray.from_arrays(pa.array(chunk.ravel()), job.dimension)
            ids = pa.array(np.arange(at, at + len(chunk)))
            yield pa.record_batch([ids, flat], schema=schema)
            at += len(chunk)

    with _Watch() as watch:
        database = lancedb.connect(str(job.folder))
        table = database.create_table("rows", pa.RecordBatchReader.from_batches(schema, batches()))
        table.create_index(
            metric="cosine" if job.metric == "cosine" else "l2",
            num_partitions=lists,
            num_sub_vectors=job.dimension // 8,
            vector_column_name="vector",
            index_type="IVF_PQ",
        )

    def asked(effort: int) -> I64:
        found = []
        for query in job.queries:
            search = table.search(query).nprobes(effort).refine_factor(10).limit(K)
            ids = search.select(["id", "_distance"]).to_arrow().column("id").to_numpy()
            found.append(np.resize(ids, K) if len(ids) else np.full(K, -1))
        return np.array(found)

    recall, nprobe = _least_effort(asked, lists, job.truth)
    stored = sum(one.stat().st_size for one in job.folder.rglob("*") if one.is_file())
    return watch.built(f"LanceDB IVF_PQ{lists}", stored, recall, f"nprobe {nprobe}, refine 10")


class _Watch:
    """CPU time, time and memory between begin and end."""

    def __enter__(self) -> Self:
        self._memory = AnonymousPeak()
        self._memory.__enter__()
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *raised: object) -> None:
        self.cpu_s = time.process_time() - self._cpu
        self.wall_s = time.perf_counter() - self._wall
        self._memory.__exit__(None, None, None)
        self._resident = resident_peak_bytes()

    def built(
        self, title: str, stored: int, recall: float, effort: str, run: Run | None = None
    ) -> Built:
        return Built(
            title,
            self.cpu_s,
            self.wall_s,
            self._memory.peak_bytes,
            self._resident,
            stored,
            recall,
            effort,
            run,
        )


def _least_effort(asked: Callable[[int], I64], most: int, truth: I64) -> tuple[float, int]:
    """Return recall at the least of 1, 2, 4, … that reaches the target, and that; or the last."""
    effort = 1
    while True:
        found = asked(effort)
        hits = [
            len(set(a.tolist()) & set(b.tolist())) / K for a, b in zip(found, truth, strict=True)
        ]
        recall = float(np.mean(hits))
        if recall >= TARGET or effort >= most:
            return recall, effort
        effort = min(2 * effort, most)


def _chunks(job: Job, *, unit: bool = True) -> Iterator[F32]:
    """Read the files from disk, some thousands of rows at a time."""
    for path in sorted(job.files.iterdir()):
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches(READ_ROWS, columns=["vector"]):
                flat = batch.column("vector").flatten().to_numpy()
                chunk = np.ascontiguousarray(flat, np.float32).reshape(-1, job.dimension)
                yield _unit(job, chunk) if unit else chunk
            continue
        array = np.load(path, mmap_mode="r")
        for start in range(0, len(array), READ_ROWS):
            chunk = np.array(array[start : start + READ_ROWS], np.float32)
            yield _unit(job, chunk) if unit else chunk


def _unit(job: Job, rows: F32) -> F32:
    """Return rows as faiss compares them: of unit length where the metric is cosine."""
    if job.metric != "cosine":
        return rows
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _sample(job: Job, rows: int) -> F32:
    """Return about so many rows at even distances."""
    step = max(job.rows // rows, 1)
    found, at = [], 0
    for chunk in _chunks(job):
        found.append(chunk[-at % step :: step])
        at += len(chunk)
    return np.concatenate(found)


def truth_of(job: Job) -> I64:
    """Return int64 [q, 10], the nearest rows of each query, by brute force."""
    best = np.full((len(job.queries), K), np.inf, np.float32)
    rows = np.zeros((len(job.queries), K), np.int64)
    queries, at = _unit(job, job.queries), 0
    for chunk in _chunks(job):
        distance = np.einsum("ij,ij->i", chunk, chunk) - 2.0 * queries @ chunk.T
        numbers = np.broadcast_to(np.arange(at, at + len(chunk)), distance.shape)
        both = np.concatenate([best, distance], axis=1)
        named = np.concatenate([rows, numbers], axis=1)
        near = np.argpartition(both, K - 1, axis=1)[:, :K]
        best = np.take_along_axis(both, near, axis=1)
        rows = np.take_along_axis(named, near, axis=1)
        at += len(chunk)
    return rows
