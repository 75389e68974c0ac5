"""Many processes that write to one index at once, beside a single one: nothing lost, nothing twice.

Each process puts one record a commit, as fast as it is answered. Afterwards the log is read from
end to end: its numbers have no gap, every put is in it once, under the number that its writer was
told, and every record is there.

    python bench/commits.py --out docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import squash
from endpoint import make_bucket, s3_endpoint
from report import command_line, conditions, number, table, told, write_section
from squash.clock import SystemClock, SystemIds
from squash.database import Database, Index
from squash.errors import CommitUnknownError, ThrottledError
from squash.index import catalogue
from squash.index.commits import Commit, PutRows, log_key
from squash.runtime import Settings
from squash.storage import ObjectStore, PrefixStore, open_store

INDEX: Final = "commits"
DIMENSION: Final = 16
_BUCKET: Final = "commits"
_LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the index is."""

    location: str
    endpoint_url: str | None = None

    def open(self, store: ObjectStore | None = None) -> Index:
        store = store or open_store(self.location, endpoint_url=self.endpoint_url)
        settings = Settings(billed=self.location.startswith("s3://"))
        return Database(store, settings=settings, clock=SystemClock(), ids=SystemIds()).index(INDEX)


class LogPuts:
    """Passes on to a store, and counts the numbers of the log that were tried."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_if_absent(self, key: str, data: Any) -> bool:
        self.count += "/log/" in key
        return self._store.put_if_absent(key, data)


@dataclass(frozen=True, slots=True)
class Wrote:
    """What one process did: each commit's number, and how long it took."""

    snapshots: list[int]
    seconds: list[float]
    tries: int
    refused: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What several processes did together."""

    processes: int
    commits: int
    folds: int
    """Commits of the index besides, by which its writers brought many commits into a segment."""
    seconds: float
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    tries_per_commit: float
    refused: int
    """Calls that gave up because others were always first, and were repeated."""
    problems: list[str]


def write(place: Place, process: int, commits: int, barrier: Any, results: Any) -> None:
    """Put one record a commit, and say how it went."""
    counted = LogPuts(open_store(place.location, endpoint_url=place.endpoint_url))
    index, ids = place.open(counted), SystemIds()
    vector = np.random.default_rng(process).normal(size=(1, DIMENSION))
    index.backlog()
    snapshots: list[int] = []
    seconds: list[float] = []
    refused = 0
    barrier.wait()
    began = time.time()
    for i in range(commits):
        call = {"keys": [f"{process}.{i}"], "vectors": vector, "commit_id": ids.new_id()}
        start = time.perf_counter()
        while True:
            try:
                snapshots.append(index.put(**call).snapshot)
                break
            except ThrottledError as error:
                time.sleep(error.retry_after_ms / 1000)
            except CommitUnknownError:
                pass  # the same call again tells
            refused += 1
        seconds.append(time.perf_counter() - start)
    results.put(Wrote(snapshots, seconds, counted.count, refused, began, time.time()))


def run(place: Place, *, processes: int, commits: int) -> Figures:
    """Let processes write to a new index, so many commits in all, and check what came of it."""
    store = open_store(place.location, endpoint_url=place.endpoint_url)
    squash.connect(place.location, endpoint_url=place.endpoint_url).create_index(
        INDEX, dimension=DIMENSION
    )
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    shares = [commits // processes + (i < commits % processes) for i in range(processes)]
    writers = [
        context.Process(target=write, args=(place, i, share, barrier, results))
        for i, share in enumerate(shares)
    ]
    for one in writers:
        one.start()
    found: list[Wrote] = []
    while len(found) < processes:
        try:
            found.append(results.get(timeout=_LOOK_S))
        except queue.Empty:
            if any(one.exitcode for one in writers):
                for one in writers:
                    one.kill()
                raise SystemExit("a writer died: what it said stands above") from None
    for one in writers:
        one.join()
    seconds = max(one.ended for one in found) - min(one.began for one in found)
    took = np.array([s for one in found for s in one.seconds]) * 1000
    folds, problems = check(place, store, [s for one in found for s in one.snapshots])
    return Figures(
        processes=processes,
        commits=commits,
        folds=folds,
        seconds=seconds,
        per_second=commits / seconds,
        p50_ms=float(np.percentile(took, 50)),
        p95_ms=float(np.percentile(took, 95)),
        p99_ms=float(np.percentile(took, 99)),
        max_ms=float(took.max()),
        tries_per_commit=sum(one.tries for one in found) / (commits + folds),
        refused=sum(one.refused for one in found),
        problems=problems,
    )


def check(place: Place, store: ObjectStore, told_numbers: Sequence[int]) -> tuple[int, list[str]]:
    """Return how many commits were folds, and what is wrong with the log."""
    problems: list[str] = []
    log = PrefixStore(store, catalogue.load(store, INDEX).prefix)
    puts: dict[int, str] = {}
    ids: set[str] = set()
    sequence = 0
    for sequence, commit in enumerate(_commits(log), 1):
        ids.add(commit.commit_id)
        if isinstance(commit.operation, PutRows):
            puts[sequence] = commit.operation.rows.keys[0]
    if len(list(log.list("log/"))) != sequence or len(ids) != sequence:
        problems.append(f"the log ends or repeats itself at {sequence}")
    if sorted(told_numbers) != sorted(puts):
        problems.append(f"{len(told_numbers)} commits were answered, {len(puts)} are in the log")
    if len(set(puts.values())) != len(puts):
        problems.append("a put is in the log twice")
    rows = place.open().stats().rows
    if rows != len(puts):
        problems.append(f"of {len(puts)} records {rows} are there")
    return sequence - len(puts), problems


def _commits(log: ObjectStore) -> Iterator[Commit]:
    sequence = 1
    while (data := log.get(log_key(sequence))) is not None:
        yield Commit.from_bytes(data, sequence=sequence, where=log_key(sequence))
        sequence += 1


@contextmanager
def place_of(store: str) -> Iterator[Place]:
    """Give a new place: a folder, or a bucket of an S3 server of its own."""
    with ExitStack() as stack:
        if store == "folder":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="squash-commits-"))
            yield Place(folder)
            return
        url = stack.enter_context(s3_endpoint(ministack=store == "ministack"))
        make_bucket(url, _BUCKET)
        yield Place(f"s3://{_BUCKET}/prefix", url)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stores", nargs="+", default=["folder", "s3"],
                        choices=("folder", "s3", "ministack"))  # fmt: skip
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--alone", type=int, default=1_000, help="commits of the single writer")
    parser.add_argument("--out", type=Path, help="the document that gets the section")
    given = parser.parse_args()
    found: list[tuple[str, Figures]] = []
    for store in given.stores:
        for processes, commits in ((1, given.alone), (given.processes, given.commits)):
            with place_of(store) as place:
                figures = run(place, processes=processes, commits=commits)
            told(f"{store}: {figures}")
            found.append((store, figures))
    print(json.dumps([{"store": store} | asdict(one) for store, one in found], indent=2))
    if given.out:
        write_section(given.out, "commits", section(found))
    return 1 if any(one.problems for _, one in found) else 0


def section(found: Sequence[tuple[str, Figures]]) -> str:
    """Return what the document says."""
    head = (
        "store", "processes", "commits", "a second", "beside one", "p50 ms", "p95", "p99",
        "longest", "tries a commit", "lost", "twice",
    )  # fmt: skip
    rows = []
    for store, one in found:
        alone = next(f for s, f in found if s == store and f.processes == 1)
        wrong = "; ".join(one.problems) or "0"
        rows.append((
            _TITLES[store], one.processes, f"{one.commits:,}", number(one.per_second),
            f"{one.per_second / alone.per_second:.2f}", number(one.p50_ms), number(one.p95_ms),
            number(one.p99_ms), number(one.max_ms), f"{one.tries_per_commit:.2f}", wrong, wrong,
        ))  # fmt: skip
    return (
        "## Many writers to one index\n\n"
        f"{conditions(command_line(), ['numpy', 'moto'])}\n\n"
        "Each process puts one record a commit, as fast as it is answered. All commits stand in "
        "one log, one after the other: more writers do not make it faster, and must not make it "
        "slow. Afterwards the log was read from end to end: no number is absent, each put is in "
        "it once, under the number that its writer was told. The S3 server is a process on the "
        "same cores.\n\n" + table(head, rows)
    )


_TITLES: Final = {"folder": "folder", "s3": "S3 (moto)", "ministack": "S3 (MiniStack)"}


if __name__ == "__main__":
    sys.exit(main())
