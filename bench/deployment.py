"""A million vectors behind the local cloud: every shape of the tree, warm and cold.

The built artefacts answer HTTP, from objects in a local S3 server; each answer is held against the
same library in one process. One run measures what a query waits for, how many a second a batch
gives, what the coordinator adds to the slowest processor, and what a cold container asks of S3.

    make build-local && python bench/deployment.py --data sift
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import urllib3

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import squash
from building import kept
from data import CACHE, load
from deployed import Deployed, deployed
from report import machine, number, table, told, write_section
from squash.local.account import Policy
from squash.local.calls import Outcome
from squash.local.environment import CREDENTIALS
from squash.local.processes import INSIDE
from squash.model import IndexStats
from squash.planning.shape import read_shape
from squash.search.events import open_answer
from squash.storage import PrefixStore, open_store

SHAPES: Final = ("none", "fan-out", "4,1", "3,2", "2,3")
BATCHES: Final = (1, 100, 1000)
# Growing, so that a tree's containers start some at a time: each allocator calls processors of its
# own, a hundred in a deep tree, and all at once they starve one another on a few cores.
WARMING: Final = (1, 4, 8, 16, 32, 64, 100, 300, 1000)
COLD: Final = 10
K: Final = 10
TARGET: Final = 0.95
FILTERS: Final = (None, {"u": {"$lt": 0.1}})
# A query of eventual consistency does not ask S3, whose stand-in here takes longer than all else.
SINGLES: Final = (
    ("all", None, "strong"),
    ("10 %", FILTERS[1], "strong"),
    ("eventual", None, "eventual"),
)
_BASE64: Final = "base64"


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server in a process of its own."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    for name, value in zip(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), CREDENTIALS, strict=True
    ):
        os.environ[name] = value
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    process = subprocess.Popen(  # noqa: S603 - moto, of this environment
        [sys.executable, str(INSIDE / "moto_server.py"), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class RefusedError(Exception):
    """An answer other than 200."""


class Asking:
    """Asks over HTTP, and keeps what came."""

    def __init__(self, place: Deployed, name: str, queries: np.ndarray) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=120.0)
        self._url = f"{place.url}/v1/indexes/{name}/query"
        self.queries = queries

    def ask(self, numbers: Sequence[int], filter_: Any, **more: Any) -> tuple[list[Any], float]:
        """Return the answers to some queries, and the seconds they took."""
        vectors = [{_BASE64: _packed(self.queries[i])} for i in numbers]
        body: dict[str, Any] = {"top_k": K, "recall_target": TARGET, "include": [], **more}
        if filter_ is not None:
            body["filter"] = filter_
        if len(vectors) == 1:
            body["vector"] = vectors[0]
        else:
            body["queries"] = [{"vector": vector} for vector in vectors]
        data = json.dumps(body).encode()
        start = time.perf_counter()
        answer = self._http.request(
            "POST", self._url, body=data, headers={"content-type": "application/json"}
        )
        seconds = time.perf_counter() - start
        if answer.status != 200:
            raise RefusedError(f"{answer.status}: {answer.data.decode()}")
        found = answer.json()
        return found.get("answers", [found]), seconds


def _packed(vector: np.ndarray) -> str:
    import base64

    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def keys_of(answer: Any) -> list[tuple[str, float]]:
    """Return keys and distances."""
    return [(match["key"], match["distance"]) for match in answer["matches"]]


def warmed(asking: Asking, seconds_max: float) -> float:
    """Ask until nothing is started or read anew, or the time is up; return the seconds it took."""
    begun = time.monotonic()
    for size in WARMING:
        numbers = [i % len(asking.queries) for i in range(size)]
        while time.monotonic() - begun < seconds_max:
            try:
                usage = asking.ask(numbers, None)[0][0]["usage"]
            except RefusedError as error:  # what it has started and read is there for the next
                told(f"warming, {size}: {error}")
                continue
            if not usage["invocations_cold"] and usage["store_requests"] <= 2 + size / 10:
                break
    return time.monotonic() - begun


def measure(
    asking: Asking,
    expected: dict[str, list[Any]],
    outcomes: list[tuple[str, Outcome]],
    *,
    singles: int,
) -> dict[str, Any]:
    """Measure one shape."""
    figures: dict[str, Any] = {"different": 0, "compared": 0}
    for filter_ in FILTERS:
        name = json.dumps(filter_)
        for i in range(len(expected[name])):
            answers, _ = asking.ask([i], filter_)
            figures["different"] += keys_of(answers[0]) != expected[name][i]
            figures["compared"] += 1
    for label, filter_, consistency in SINGLES:
        waited, above, requests, slowest = [], [], [], []
        for i in range(singles):
            outcomes.clear()
            answers, seconds = asking.ask(
                [i % len(expected["null"])], filter_, consistency=consistency
            )
            seen = defaultdict(list)
            for function, outcome in outcomes:
                seen[function.split("-")[1]].append(outcome.duration_ms)
            waited.append(1e3 * seconds)
            below = max([*seen["processor"], *seen["allocator"], 0.0])
            slowest.append(below)
            above.append(max(seen["coordinator"], default=0.0) - below)
            requests.append(answers[0]["usage"]["store_requests"])
        figures[label] = {
            "p50_ms": float(np.percentile(waited, 50)),
            "p99_ms": float(np.percentile(waited, 99)),
            "coordinator_above_ms": float(np.median(above)),
            "slowest_below_ms": float(np.median(slowest)),
            "requests_max": int(max(requests)),
            "requests": float(np.median(requests)),
        }
    _measure_batches(asking, expected["null"], figures)
    return figures


def _measure_batches(
    asking: Asking, expected: Sequence[list[tuple[str, float]]], figures: dict[str, Any]
) -> None:
    """Measure how many a second batches give, once warm."""
    for size in BATCHES:
        took: list[float] = []
        for run in range(3):
            numbers = [(run * size + i) % len(asking.queries) for i in range(size)]
            try:
                answers, seconds = asking.ask(numbers, None)
            except RefusedError as error:
                # A deep tree is more processes than these cores can serve in the time there is.
                told(f"a batch of {size}: {error}")
                took.clear()
                break
            took.append(seconds)
            for i, answer in zip(numbers, answers, strict=True):
                if i < len(expected):
                    figures["different"] += keys_of(answer) != expected[i]
                    figures["compared"] += 1
            figures[f"invocations of {size}"] = answers[0]["usage"]["invocations"]
        figures[f"batch {size}"] = size / float(np.median(took)) if took else None


def cold(
    place: Deployed, asking: Asking, outcomes: list[tuple[str, Outcome]], times: int
) -> dict[str, Any]:
    """Ask with no container warm; of each processor that was called, too, what it asked of S3."""
    figures = defaultdict(list)
    processors: list[tuple[int, int, float]] = []
    for i in range(times):
        for name in place.cloud.stats()["functions"]:
            place.cloud.kill(name)
        outcomes.clear()
        answers, seconds = asking.ask([i], None)
        for function, outcome in outcomes:
            if function.split("-")[1] == "processor":
                _, spent = open_answer(outcome.payload)
                requests = sum(spent.store_kinds.values())
                processors.append((requests, spent.store_rounds, spent.store_bytes / 1e6))
        usage = answers[0]["usage"]
        figures["ms"].append(1e3 * seconds)
        for key in ("store_requests", "store_rounds", "store_bytes", "invocations_cold"):
            figures[key].append(usage[key])
    found: dict[str, Any] = {key: float(np.median(values)) for key, values in figures.items()}
    found["processors"] = processors
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sift")
    parser.add_argument("--index", type=Path, help="a store that holds the index already")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES))
    parser.add_argument("--singles", type=int, default=200)
    parser.add_argument("--compare", type=int, default=100)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--warm-seconds", type=float, default=120.0, help="at most, for a shape")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    name, _, limit = options.data.partition(":")
    data = load(name, limit=int(limit) if limit else None)
    folder = (
        options.index
        or kept(name, int(limit) if limit else None, CACHE.parent / "bench" / options.data)[0]
    )
    queries = np.array(data.queries)
    local = squash.connect(str(folder)).index(name)
    stats = local.stats()
    told(f"{stats.rows:,} x {stats.dimension}, {stats.partitions} partitions")
    expected = {
        json.dumps(filter_): [
            [(match.key, match.distance) for match in answer.matches]
            for answer in local.query_many(
                queries[: options.compare],
                top_k=K,
                filters=filter_,
                recall_target=TARGET,
                include=(),
            )
        ]
        for filter_ in FILTERS
    }
    rows: list[list[object]] = []
    found: dict[str, Any] = {}
    with s3_server() as s3:
        uploaded = False
        for shape in options.shapes:
            outcomes: list[tuple[str, Outcome]] = []
            with deployed(
                environment={"SQUASH_SHAPE": shape},
                parameters={"Slots": str(options.slots)},
                policy=Policy(containers_max=_containers(shape, options.slots)),
                s3=s3,
                observe=lambda function, outcome, seen=outcomes: seen.append(
                    (function.name, outcome)
                ),
            ) as place:
                if not uploaded:
                    upload(folder, place, name)
                    uploaded = True
                asking = Asking(place, name, queries)
                warm_s = warmed(asking, options.warm_seconds)
                figures = measure(asking, expected, outcomes, singles=options.singles)
                figures["warm_s"] = warm_s
                figures["cold"] = cold(place, asking, outcomes, COLD)
            found[shape] = figures
            told(f"{shape}: {json.dumps(figures)}")
            rows.append(_row(shape, figures))
            text = _section(options, stats, rows)
            if options.out:  # so that a shape that fails leaves the others' figures
                write_section(options.out, f"deployment-{name}", text)
    told(json.dumps(found, indent=2))
    kept_for_scale = {
        "name": name,
        "rows": stats.rows,
        "dimension": stats.dimension,
        "slots": options.slots,
        "shapes": found,
    }
    path = CACHE.parent / "bench" / f"deployment-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept_for_scale), encoding="utf-8")
    print(text)


def _containers(shape: str, slots: int) -> int:
    """Return how many containers a shape keeps warm, with a quarter more for hedged calls."""
    tree = read_shape(shape).tree
    nodes = 0 if tree is None else tree.nodes
    return max(64, (1 + nodes + max(nodes, 1) * slots) * 5 // 4)


def _section(options: argparse.Namespace, stats: IndexStats, rows: list[list[object]]) -> str:
    head = (
        "shape", "differ", "p50 ms", "p99", "10 %: p50", "p99", "above the slowest, ms",
        "S3 requests warm", "eventual: p50", "above the slowest", "1 at a time, q/s", "100",
        "1,000", "calls for 1,000", "cold ms", "requests", "rounds", "MB",
        "a processor: requests", "rounds", "MB",
    )  # fmt: skip
    command = (
        f"python bench/deployment.py --data {options.data} --shapes {' '.join(options.shapes)}"
    )
    run = machine(command, {"numpy": np.__version__})
    return (
        f"## The deployment on {options.data}\n\n{run}\n\n"
        f"{stats.rows:,} x {stats.dimension} in {stats.partitions} partitions behind the local "
        f"cloud, {options.slots} slots, k = {K}, recall target {TARGET}. `none` is one function, "
        "`fan-out` a coordinator and its processors, `F,L` a tree of branching F and depth L. "
        f"Every answer of {options.compare} queries, alone with and without a filter and in "
        "batches, was held against one process. *Above the slowest* is what the coordinator takes "
        "beyond the slowest function that it waits for, the stand-in for S3 included, which is "
        "asked whether there is news; *eventual* does not ask it. *At a time* are queries a "
        "second, warm, or 503 where they were not answered in the time there is; the last "
        f"seven are of queries that find no container, medians of {COLD}; and of all processors "
        "that these called, median and most.\n\n" + table(head, rows)
    )


def _row(shape: str, figures: dict[str, Any]) -> list[object]:
    every, some, frozen = figures["all"], figures["10 %"], figures["cold"]
    return [
        shape,
        f"{figures['different']} of {figures['compared']}",
        number(every["p50_ms"]),
        number(every["p99_ms"]),
        number(some["p50_ms"]),
        number(some["p99_ms"]),
        number(max(every["coordinator_above_ms"], 0.0)),
        number(every["requests"]),
        number(figures["eventual"]["p50_ms"]),
        number(max(figures["eventual"]["coordinator_above_ms"], 0.0)),
        *(number(rate) if (rate := figures[f"batch {size}"]) else "503" for size in BATCHES),
        figures.get(f"invocations of {BATCHES[-1]}", "-"),
        number(frozen["ms"]),
        number(frozen["store_requests"]),
        number(frozen["store_rounds"]),
        number(frozen["store_bytes"] / 1e6),
        *_of_processors(frozen["processors"]),
    ]


def _of_processors(asked: Sequence[Sequence[float]]) -> list[object]:
    """Return what cold processors asked of S3: requests, rounds and MB, median and most."""
    if not asked:
        return ["–"] * 3
    return [
        f"{number(float(np.median(one)))}, {number(max(one))}" for one in zip(*asked, strict=True)
    ]


def upload(folder: Path, place: Deployed, name: str) -> None:
    """Copy an index's live objects into the deployment's store."""
    source, target = open_store(str(folder)), place.store()
    index = squash.connect(str(folder)).index(name)
    view = index._session.view("eventual")  # noqa: SLF001 - which objects live
    wanted = {ref.key for rows in view.partitions for ref in rows.reader.ref.objects.values()}
    prefix = next(one for one in source.list_folders(f"{name}/"))
    below = PrefixStore(source, f"{name}/{prefix}/")
    into = PrefixStore(target, f"{name}/{prefix}/")
    size = 0
    for info in below.list(""):
        if info.key.startswith("segments/") and info.key not in wanted:
            continue
        into.put(info.key, bytes(below.get(info.key) or b""))
        size += info.bytes
    target.put(f"{name}/index.json", bytes(source.get(f"{name}/index.json") or b""))
    told(f"{size / 1e6:,.0f} MB in S3")


if __name__ == "__main__":
    main()
