"""What queries of 768 dimensions take of one core here, from indexes of growing size.

    python bench/cost_inputs.py

writes .cache/bench/cost-inputs.json and, of that, bench/cost_fitted.json for bench/cost.py.

The vectors are made: points of a mixture in 24 dimensions, bent into 768 by a fixed random layer,
as embeddings are, that lie near a surface of few dimensions. Every row has a number `u`, drawn
evenly from 0 to 1, that filters go by.
"""

from __future__ import annotations

import one_thread  # noqa: F401  # isort: skip - must come before NumPy

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import cost_fit
import squash
from data import CACHE
from report import processor, told
from squash.api.functions import coordinator
from squash.model import RowBatch
from squash.planning import DEFAULT_COSTS
from squash.planning.shape import work_of
from squash.search.distributed import _expected
from squash.search.found import Query

DIMENSION: Final = 768
LATENT: Final = 24
CENTERS: Final = 2_000
SHARES: Final = (1.0, 0.1, 0.01)
SIZES: Final = (12_500, 25_000, 50_000, 100_000, 200_000)
QUERIES: Final = 100
K: Final = 10
TARGET: Final = 0.95
NOWHERE: Final = Path(os.devnull).open("w")  # noqa: SIM115 - loggers keep what they were made with
OUT: Final = CACHE.parent / "bench" / "cost-inputs.json"

F32 = NDArray[np.float32]


class Source:
    """Draws vectors; the same seed, the same vectors."""

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        self._centers = generator.standard_normal((CENTERS, LATENT)).astype(np.float32)
        self._layer = generator.standard_normal((LATENT, DIMENSION)).astype(np.float32)
        self._bias = generator.standard_normal(DIMENSION).astype(np.float32)

    def draw(self, rows: int, seed: int) -> F32:
        """Return float32 [rows, 768] of unit length."""
        generator = np.random.default_rng((7, seed))
        points = self._centers[generator.integers(0, CENTERS, rows)]
        points = points + 0.5 * generator.standard_normal((rows, LATENT)).astype(np.float32)
        found = np.tanh(points @ self._layer / LATENT**0.5 + self._bias)
        found += 0.05 * generator.standard_normal(found.shape).astype(np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def least_ms(call: Callable[[], Any], rounds: int = 5) -> float:
    """Return the least CPU time of some rounds."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - begin))
    return min(times)


def measured(rows: int, folder: Path) -> dict[str, Any]:
    """Build an index of so many rows and ask it."""
    source = Source()
    index = squash.connect(str(folder)).create_index("made", dimension=DIMENSION)
    numbers = np.random.default_rng(5).random(rows)
    base = []

    def batches() -> Iterator[RowBatch]:
        for first in range(0, rows, 12_500):
            part = source.draw(12_500, first)
            base.append(part)
            keys = [str(row) for row in range(first, first + len(part))]
            metadata = [{"u": float(numbers[row])} for row in range(first, first + len(part))]
            yield RowBatch(keys, part, metadata)

    # What is put has a bound until it is folded; an import keeps to it by itself.
    index.import_batches(batches())
    begin = time.process_time()
    index.optimize()
    build_s = time.process_time() - begin
    every = np.concatenate(base)
    queries = source.draw(QUERIES, 1 << 20)
    view = index._session.view("eventual")  # noqa: SLF001 - what the plans are made of
    assert view.clusters is not None
    figures: dict[str, Any] = {
        "rows": rows,
        "build_cpu_s": build_s,
        "clusters": len(view.clusters.trained.centers),
        "partitions": len(view.partitions),
        "bytes": {
            name: sum(one.reader.ref.objects[name].bytes for one in view.partitions)
            for name in view.partitions[0].reader.ref.objects
        },
        "center_bytes": int(view.clusters.trained.centers.nbytes),
        "shares": {},
    }
    for share in SHARES:
        filter_ = None if share == 1.0 else {"u": {"$lt": share}}
        node = index._session.parse(filter_)  # noqa: SLF001
        asked = Query(vector=queries[0], k=K, node=node, recall_target=TARGET)
        expected = _expected(view.clusters, [asked])
        need = view.clusters.need(TARGET).clusters(share, K)

        def one_by_one(filter_: Any = filter_) -> list[Any]:
            return [
                index.query(one, top_k=K, filter=filter_, recall_target=TARGET, include=())
                for one in queries
            ]

        def together(filter_: Any = filter_) -> list[Any]:
            return index.query_many(
                queries, top_k=K, filters=filter_, recall_target=TARGET, include=()
            )

        answers = one_by_one()
        passing = np.flatnonzero(numbers < share)
        truth = np.argsort(-(queries @ every[passing].T), axis=1)[:, :K]
        hits = [
            len({int(match.key) for match in answer.matches} & set(passing[row].tolist()))
            for answer, row in zip(answers, truth, strict=True)
        ]
        figures["shares"][f"{share:g}"] = {
            "needed": need,
            "recall": sum(hits) / (K * QUERIES),
            "scanned": statistics.mean(answer.usage.rows_scanned for answer in answers),
            "vectors_read": statistics.mean(answer.usage.vectors_read for answer in answers),
            "call_ms": least_ms(one_by_one) / QUERIES,
            "batch_ms": least_ms(together) / QUERIES,
            "modelled_ms": work_of(DEFAULT_COSTS, expected),
        }
    figures["refined"] = view.clusters.keep(K, TARGET).refined
    figures["handler_ms"] = handler_ms(folder, queries) - figures["shares"]["1"]["call_ms"]
    return figures


def handler_ms(folder: Path, queries: F32) -> float:
    """Return what the coordinator's function takes for a query that it answers by itself."""
    event = json.loads(
        (Path(__file__).parents[1] / "events" / "coordinator-query.json").read_text()
    )
    event["rawPath"] = event["requestContext"]["http"]["path"] = "/v1/indexes/made/query"
    event["pathParameters"] = {"index": "made"}

    class Context:
        aws_request_id = function_name = invoked_function_arn = "x"

        def get_remaining_time_in_millis(self) -> int:
            return 29_000

    events = []
    for one in queries:
        vector = [round(float(value), 7) for value in one]
        body = json.dumps({"vector": vector, "top_k": K, "include": []})
        events.append({**event, "body": body})

    variables = {"SQUASH_STORE": str(folder), "SQUASH_AUTH": "none", "SQUASH_LOCAL": "1"}
    with contextlib.redirect_stdout(NOWHERE):
        handle = coordinator(variables)

        def ask() -> None:
            for one in events:
                assert handle(one, Context())["statusCode"] == 200

        ask()
        return least_ms(ask) / QUERIES


def main() -> None:
    """Measure every size, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    arguments = parser.parse_args()
    found = []
    for rows in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measured(rows, Path(folder)))
        told(json.dumps(found[-1]))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    document = {"processor": processor(), "sizes": found}
    OUT.write_text(json.dumps(document), encoding="utf-8")
    cost_fit.save(cost_fit.FITTED_PATH, document, measured=datetime.now(UTC).date().isoformat())


if __name__ == "__main__":
    main()
