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
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from deployed import deployed
from disturbing import Disturbance, Soaked, soak
from soaking import Load

DIMENSION: Final = 32
WRITES_MAX: Final = 1 << 30


def measure(
    *, minutes: float, queries: int, rows: int, seed: int, shape: str, readers: int, writers: int
) -> dict[str, Any]:
    """Run it, and return the figures."""
    load = Load("soak", DIMENSION, queries, readers, writers, WRITES_MAX, seed=seed)
    environment = {"SQUASH_SHAPE": shape} if shape else {}
    with deployed(environment=environment, s3_memory=True, s3_proxy=True) as place:
        soaked = soak(place, load, Disturbance(minutes * 60, seed=seed), rows=rows)
        return _figures(soaked, place.cloud.stats())


def _figures(soaked: Soaked, stats: dict[str, Any]) -> dict[str, Any]:
    record, verdict = soaked.record, soaked.verdict
    seconds = [one.seconds for one in record.asked]
    peaks = {
        name: {
            "peak_mb": max(mb for _, mb in found),
            "peak_first_half_mb": max(
                (mb for t, mb in found if t <= record.seconds / 2), default=0.0
            ),
            "peak_last_half_mb": max(
                (mb for t, mb in found if t >= record.seconds / 2), default=0.0
            ),
        }
        for name, found in soaked.memory.items()
    }
    return {
        "seconds": round(record.seconds, 1),
        "queries_answered": len(record.asked),
        "wrong": verdict.wrong,
        "recall_of_approximate": float(np.mean(verdict.recalls)) if verdict.recalls else None,
        "puts_acknowledged": len(record.written),
        "deletions_acknowledged": len(record.deleted),
        "lost": verdict.lost,
        "commits": verdict.commits,
        "refused_and_repeated": dict(sorted(record.refused.items())),
        "given_up": record.given_up,
        "unexpected": record.unexpected,
        "folds": verdict.folds,
        "folds_asked_for": soaked.folds,
        "query_ms": {
            f"p{q}": round(1e3 * float(np.percentile(seconds, q)), 1) for q in (50, 95, 99)
        }
        if seconds
        else None,
        "containers_killed": soaked.killed,
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
    parser.add_argument(
        "--shape", default="fan-out", help="as SQUASH_SHAPE; empty leaves the choice"
    )
    parser.add_argument("--readers", type=int, default=3)
    parser.add_argument("--writers", type=int, default=2)
    figures = measure(**vars(parser.parse_args()))
    print(json.dumps(figures, indent=2, default=str))
    bad = figures["wrong"] or figures["lost"] or figures["unexpected"] or figures["given_up"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
