"""What a cold query asks of S3: requests, rounds, bytes; with heads of partitions and without.

`python bench/remote.py` builds an index of random vectors in a local S3 server (moto's),
then asks each question of a process that knows nothing yet, again with its memory warm, and again
with nothing but files of the local disk. A *processor* is what a function does for one partition:
head, codes of its clusters, vectors and documents of its finalists.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import boto3
import numpy as np
from moto.server import ThreadedMotoServer

from squash.clock import SystemClock, SystemIds
from squash.database import Database, Index
from squash.index import reader as reader_module
from squash.index.prefetch import prefetch_codes, prefetch_heads, prefetch_rows
from squash.index.reader import SegmentReader
from squash.kernels import prepare
from squash.model import Metric, Usage
from squash.planning import take_clusters
from squash.runtime import RetainedObjects, Settings
from squash.storage import CountingStore, open_store
from squash.storage.tmp import TmpFiles

BUCKET = "bench"
FINALISTS = 20
K = 10
TARGET = 0.95


@contextmanager
def served() -> Iterator[str]:
    """Run an S3 server on a port of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "bench"
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    yield endpoint
    server.stop()


def smooth(rows: int, dimension: int) -> np.ndarray[Any, Any]:
    """Return vectors without clusters of their own, of some 24 dimensions that count."""
    rng = np.random.default_rng(7)
    scales = np.exp(-np.arange(dimension) / 24).astype(np.float32) + np.float32(0.02)
    mixed = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0].astype(np.float32)
    return (rng.standard_normal((rows, dimension)).astype(np.float32) * scales) @ mixed


def opened(endpoint: str, tmp: TmpFiles | None = None) -> Index:
    store = open_store(f"s3://{BUCKET}/p", endpoint_url=endpoint)
    settings = Settings(billed=True)
    database = Database(store, settings=settings, clock=SystemClock(), ids=SystemIds(), tmp=tmp)
    return database.index("x")


def asked(index: Index, vector: Any) -> Usage:
    return index.query(vector, top_k=K, recall_target=TARGET).usage


def processor(
    endpoint: str, index: Index, vectors: Any, clusters_max: int
) -> list[tuple[int, int, int, int]]:
    """Do a processor's part for the partition of which each query takes most clusters."""
    view = index._session.view("eventual")  # noqa: SLF001
    clusters = view.clusters
    assert clusters is not None
    table, codec = clusters.table(), clusters.trained.codec
    prefix = index._session._store._prefix  # noqa: SLF001 - as a task names it
    figures = []
    for vector in vectors:
        unit = view.metric is Metric.COSINE
        prepared = prepare(table, codec.rotation, codec.mean, vector, unit=unit)
        blank = np.zeros_like(table.alive)
        taken = take_clusters(
            table, prepared.distances, k=K, need=clusters.need(TARGET), overall=1.0,
            sure=blank, possible=blank, program=None, counts=None,
        ).clusters  # fmt: skip
        number = int(np.bincount(table.partition[taken]).argmax())
        mine = taken[table.partition[taken] == number] - clusters.partitions[number].first_cluster
        mine = mine[:clusters_max]
        store = CountingStore(open_store(f"s3://{BUCKET}/p/{prefix}", endpoint_url=endpoint))
        figures.append((len(mine), *_one_part(store, clusters.partitions[number], mine, vector)))
    return figures


def _one_part(store: CountingStore, view: Any, mine: Any, vector: Any) -> tuple[int, int, int]:
    loader = RetainedObjects(store, bytes_max=1 << 30, whole_bytes_max=0)
    reader = SegmentReader(view.reader.ref, loader, dimension=len(vector))
    codec = view.trained.codec
    prefetch_heads([reader])
    prefetch_codes([(reader, mine)], codec.stored_specs)
    begins = view.cluster_begins
    rows = np.concatenate([np.arange(begins[c], begins[c + 1]) for c in mine])
    # The true nearest stand in for the finalists; they are read on another way.
    distances = np.square(view.vectors(rows) - vector).sum(axis=1)
    finalists = rows[np.argsort(distances)[:FINALISTS]]
    one = [(reader, finalists)]
    prefetch_rows(vectors=one, documents=[(reader, finalists[:K])])
    counts = store.counts()
    return counts.requests, counts.rounds, counts.bytes_in


def told(name: str, usages: list[Usage]) -> None:
    def middle(field: str) -> float:
        return float(np.median([getattr(one, field) for one in usages]))

    print(
        f"{name:<34} requests {middle('store_requests'):5.0f}  rounds {middle('store_rounds'):3.0f}"
        f"  MB {middle('store_bytes') / 1e6:7.2f}  parts: memory {middle('parts_from_memory'):4.0f}"
        f" tmp {middle('parts_from_tmp'):4.0f} store {middle('parts_from_store'):4.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=131_072)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=9)
    options = parser.parse_args()
    vectors = smooth(options.rows + options.queries, options.dimension)
    vectors, queries = vectors[: options.rows], vectors[options.rows :]
    with served() as endpoint, tempfile.TemporaryDirectory() as folder:
        store = open_store(f"s3://{BUCKET}/p", endpoint_url=endpoint)
        database = Database(store, settings=Settings(), clock=SystemClock(), ids=SystemIds())
        made = database.create_index("x", dimension=options.dimension, metric="euclidean")
        for first in range(0, options.rows, 16_384):
            part = vectors[first : first + 16_384]
            keys = [f"k{i}" for i in range(first, first + len(part))]
            made.put(keys=keys, vectors=part, metadata=[{"n": i % 100} for i in range(len(part))])
        made.optimize()
        print(f"{options.rows:,} x {options.dimension}: {made.stats().partitions} partitions")
        for name, head in (("without heads", "none"), ("with heads", "head")):
            with patch.object(reader_module, "HEAD", head):
                told(f"cold query, {name}", [asked(opened(endpoint), q) for q in queries])
                for most in (options.rows, 4):
                    figures = processor(endpoint, opened(endpoint), queries, most)
                    clusters, requests, rounds, read = np.median(figures, axis=0)
                    print(
                        f"  one partition, {clusters:2.0f} clusters  requests {requests:5.0f}"
                        f"  rounds {rounds:3.0f}  MB {read / 1e6:7.2f}"
                    )
        files = TmpFiles(folder)
        warm = opened(endpoint, files)
        told("filled", [asked(warm, q) for q in queries])
        told("warm", [asked(warm, q) for q in queries])
        told("memory empty, files there", [asked(opened(endpoint, files), q) for q in queries])


if __name__ == "__main__":
    main()
