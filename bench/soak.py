"""Mixed queries and writes against the local cloud while it is disturbed; was every answer right?

Containers are killed at random, S3 answers late or not at all, functions are throttled and lose
answers. Afterwards the log is replayed into a plain table, and every answer and every acknowledged
write is held against it.

    python bench/soak.py --minutes 30
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from deployed import Deployed, deployed
from report import told
from soaking import Load, Record, Table, Verdict, base, every, judge, run
from squash.local.faults import Fault, FaultKind
from squash.maintain import BuildOptions
from squash.model import RowBatch

DIMENSION: Final = 32
KILL_EVERY_S: Final = 2.0
FOLD_EVERY_S: Final = 20.0
LOOK_EVERY_S: Final = 1.0
FAULTS: Final = (
    Fault(FaultKind.S3_FAIL, share=0.01, seed=1),
    Fault(FaultKind.S3_DELAY, share=0.03, seed=2, delay_ms=80),
    Fault(FaultKind.S3_DROP, share=0.005, seed=3),
    Fault(FaultKind.THROTTLE, share=0.01, seed=4),
    Fault(FaultKind.DELAY, share=0.02, seed=5, delay_ms=150),
    Fault(FaultKind.DROP, share=0.005, seed=6),
)


def soak(
    *, minutes: float, queries: int, rows: int, seed: int, shape: str, readers: int, writers: int
) -> dict[str, Any]:
    """Run it, and return the figures."""
    load = Load(
        "soak",
        DIMENSION,
        queries=queries,
        readers=readers,
        writers=writers,
        writes=1 << 30,
        seed=seed,
    )
    environment = {"SQUASH_SHAPE": shape} if shape else {}
    with deployed(environment=environment, s3_memory=True, s3_proxy=True) as place:
        keys, vectors, metadata = base(load, rows)
        index = place.database().create_index(load.index, dimension=DIMENSION, metric="euclidean")
        index.import_batches([RowBatch(keys, vectors, metadata)])
        index.optimize(
            options=BuildOptions(
                partition_rows_target=max(rows // 16, 512), cluster_rows_target=128
            )
        )
        began = index.stats().snapshot
        told(f"{rows:,} rows in {index.stats().partitions} partitions")
        record, seen = _disturbed(place, load, minutes * 60, seed)
        place.cloud.set_faults(())
        place.cloud.settle()
        verdict = judge(
            place.store(), load, record, Table(keys, vectors, metadata), base_snapshot=began
        )
        verdict.wrong += map(str, place.database().index(load.index).verify().damages)
        return _figures(record, verdict, seen, place.cloud.stats())


def _disturbed(
    place: Deployed, load: Load, seconds: float, seed: int
) -> tuple[Record, dict[str, Any]]:
    cloud = place.cloud
    stop, quiet = threading.Event(), threading.Event()
    rng = np.random.default_rng(seed)
    memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
    killed: Counter[str] = Counter()
    start = time.perf_counter()

    def kill() -> None:
        living = cloud.containers()
        if living:
            one = living[int(rng.integers(len(living)))]
            killed[one["function"]] += cloud.kill(one["function"], container=one["name"])

    def look() -> None:
        for one in cloud.containers():
            memory[one["function"]].append((time.perf_counter() - start, one["memory_mb"]))
        if time.perf_counter() - start > seconds:
            stop.set()

    def fold() -> None:
        cloud_fold(place, load.index)

    cloud.set_faults(FAULTS)
    threads = [
        every(KILL_EVERY_S, kill, quiet),
        every(LOOK_EVERY_S, look, quiet),
        every(FOLD_EVERY_S, fold, quiet),
    ]
    record = run(place.url, load, headers={}, stop=stop)
    quiet.set()
    for thread in threads:
        thread.join()
    return record, {"killed": dict(killed), "memory": memory}


def cloud_fold(place: Deployed, index: str) -> None:
    """Ask for the fold, as a person would; it may be refused."""
    import urllib3

    urllib3.request(
        "POST",
        f"{place.url}/v1/indexes/{index}/optimize",
        headers={"content-type": "application/json"},
        retries=False,
        timeout=60.0,
    )


def _figures(
    record: Record, verdict: Verdict, seen: dict[str, Any], stats: dict[str, Any]
) -> dict[str, Any]:
    seconds = [one.seconds for one in record.asked]
    peaks = {
        name: {
            "peak_mb": max(mb for _, mb in found),
            "peak_last_half_mb": max(mb for t, mb in found if t >= found[-1][0] / 2),
            "peak_first_half_mb": max(mb for t, mb in found if t <= found[-1][0] / 2),
        }
        for name, found in seen["memory"].items()
    }
    return {
        "seconds": round(record.seconds, 1),
        "queries_answered": len(record.asked),
        "wrong": verdict.wrong,
        "recall_of_approximate": float(np.mean(verdict.recalls)) if verdict.recalls else None,
        "writes_acknowledged": len(record.written),
        "lost": verdict.lost,
        "commits": verdict.commits,
        "refused_and_repeated": {str(k): v for k, v in sorted(record.refused.items())},
        "given_up": record.given_up,
        "unexpected": record.unexpected,
        "query_ms": {
            f"p{q}": round(1e3 * float(np.percentile(seconds, q)), 1) for q in (50, 95, 99)
        }
        if seconds
        else None,
        "containers_killed": seen["killed"],
        "memory": peaks,
        "functions": stats["functions"],
        "s3": stats["s3"],
    }


def main() -> None:
    """Run from the command line; the exit status tells whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--queries", type=int, default=1_000_000, help="at most")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", default="", help="as SQUASH_SHAPE; empty leaves the choice")
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--writers", type=int, default=2)
    figures = soak(**vars(parser.parse_args()))
    print(json.dumps(figures, indent=2, default=str))
    bad = figures["wrong"] or figures["lost"] or figures["unexpected"] or figures["given_up"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
