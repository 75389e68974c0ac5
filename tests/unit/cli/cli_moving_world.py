"""Commands on a store of their own, beside a live server of the service's API."""

from __future__ import annotations

import json
from uuid import uuid4

import numpy as np

import squash
from squash.cli.main import main
from squash.index.buckets import BucketSettings

PLACE = "s3vectors://media/papers"


class World:
    def __init__(self, cloud, monkeypatch, folder, capsys):
        self.cloud = cloud
        self.folder = folder
        self.patch = monkeypatch
        self.capsys = capsys
        monkeypatch.chdir(folder)
        self.renew()

    def renew(self):
        location = f"memory://{uuid4().hex}"
        self.patch.setenv("SQUASH_STORE", location)
        self.database = squash.connect(location)

    def run(self, *words, threads=1):
        self.capsys.readouterr()
        more = ("--service-url", self.cloud.url, "--json", "--parallel", str(threads))
        status = main([*map(str, words), *more])
        captured = self.capsys.readouterr()
        return status, json.loads(captured.out or captured.err)

    def theirs(self, rows, *, dimension=3, metric="euclidean", non_filterable=()):
        """Make the index of the service, of so many records."""
        buckets = self.cloud.database.vector_buckets
        if "media" not in list(buckets.names()):
            buckets.create("media", BucketSettings())
        index = self.cloud.database.create_index(
            "media/papers", dimension=dimension, metric=metric, non_filterable=non_filterable
        )
        return fill(index, rows)

    def ours(self, rows, *, dimension=3, metric="euclidean", name="papers", non_filterable=()):
        index = self.database.create_index(
            name, dimension=dimension, metric=metric, non_filterable=non_filterable
        )
        return fill(index, rows)

    def copied(self):
        return self.cloud.database.index("media/papers")


def fill(index, rows):
    if rows:
        rng = np.random.default_rng(rows)
        index.put(
            keys=[f"k{row}" for row in range(rows)],
            vectors=rng.normal(size=(rows, index.config.dimension)).astype(np.float32),
            metadata=[{"n": row, "even": row % 2 == 0} if row % 3 else {} for row in range(rows)],
        )
    return index


def small(world, *, put=7, page=5, batch=10):
    """Let there be many requests and commits of few records."""
    world.patch.setattr("squash.cli.moving.exporting.SERVICE_PUT_MAX", put)
    world.patch.setattr("squash.cli.moving.reading.SERVICE_LIST_PAGE_MAX", page)
    world.patch.setattr("squash.cli.moving.importing.MOVE_BATCH_ROWS_MAX", batch)
