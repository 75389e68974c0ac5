"""Files to build from, sizes that make many tasks of few rows, and what a build left."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from squash.runtime.build_requests import default_sizes

DIMENSION = 16
BUILD = "5eed" * 8

SIZES = dataclasses.replace(
    default_sizes(8),
    partition_rows_target=400,
    partition_rows_max=800,
    cluster_rows_target=40,
    calibration_queries=32,
    exact_rows_max=300,
    piece_rows_max=500,
    batch_bytes=1 << 15,
    group_bytes_max=1 << 16,
)


def vectors(rows, seed=0):
    """Rows about some centers."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((30, DIMENSION))
    near = rng.standard_normal((rows, DIMENSION)) / 3
    return (centers[rng.integers(30, size=rows)] + near).astype(np.float32)


def write_npy(folder, *counts):
    """Write a file for each count; return the folder's URL."""
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(counts):
        np.save(folder / f"part-{number:02}.npy", vectors(rows, number))
    return f"{folder.as_uri()}/"


def write_parquet(folder, tables, *, row_group_size=700):
    """Write a file for each list of keys and array of vectors, with metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(exist_ok=True)
    for number, (keys, rows) in enumerate(tables):
        columns = {
            "key": pa.array(keys),
            "vector": pa.array([None if row is None else list(row) for row in rows],
                               pa.list_(pa.float32())),
            "year": pa.array([2000 + place % 20 for place in range(len(keys))]),
        }  # fmt: skip
        file = folder / f"part-{number:02}.parquet"
        parquet.write_table(pa.table(columns), file, row_group_size=row_group_size)
    return f"{folder.as_uri()}/"


def built(store):
    """All objects that a build made for good, by key; what tells times is left out."""
    kept = ("segments/", "trained/")
    found = {}
    for info in store.list(""):
        key = info.key.split("/", 2)[-1] if "/" in info.key else info.key
        learned = key.endswith(("/plan", "/outcome")) and "/items/" not in key
        if key.startswith(kept) or learned:
            found[key] = bytes(store.get(info.key))
    return found


def reports(store, index_prefix=""):
    """The reports of tasks, by stage and batch."""
    return {
        info.key.rsplit("/", 1)[-1]: json.loads(bytes(store.get(info.key)))
        for info in store.list(index_prefix)
        if "/done/" in info.key
    }
