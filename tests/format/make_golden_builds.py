"""Writes golden files of an index that builds and restorations have written to.

Run by `PYTHONPATH=tests python tests/format/make_golden_builds.py`. They are written once and kept,
as those of `make_golden.py`: commits and snapshots of version 2. Where that changes in a way that a
reader sees, the next folder is begun.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
from make_golden import GOLDEN, open_database

from fakes import CountedIds, FakeClock
from living import SMALL
from publishing import HandBuild
from squash.database import Database
from squash.runtime import Settings
from squash.storage import MemoryStore

VERSION = "builds-v1"
INDEX = "built"
DIMENSION = 4


def rows(prefix, count, seed):
    """Return rows that depend on their names and a seed."""
    generator = np.random.Generator(np.random.Philox(seed))
    return {
        "keys": [f"{prefix}{i}" for i in range(count)],
        "vectors": generator.standard_normal((count, DIMENSION)).astype(np.float32),
        "metadata": [{"n": i % 5, "seed": seed} for i in range(count)],
    }


def make(store):
    """Write them all: a build published, undone, and one that is running still."""
    clock = FakeClock()
    database = Database(store, settings=Settings(), clock=clock, ids=CountedIds(1))
    index = database.create_index(INDEX, dimension=DIMENSION, metric="euclidean")
    index.put(**rows("a", 40, 1))
    index.optimize(options=SMALL)
    index.put(**rows("a", 3, 2))
    index.delete(keys=["a7", "a8"])
    before = index.backlog().snapshot
    build = HandBuild.begin(index, 1)
    build.make(rows("b", 50, 3), options=SMALL, connect=_scratch)
    index.put(**rows("b", 2, 4))
    index.delete(keys=["b9"])
    clock.sleep(60)
    build.publish(clock=clock, ids=CountedIds(2))
    index.put(**rows("c", 2, 5))
    index.restore(before)
    index.put(**rows("d", 2, 6))
    HandBuild.begin(index, 2)
    index._session._views.log.write_snapshot(index._session._views.refresh())
    index.put(**rows("e", 2, 7))


def _scratch(store, ids):
    return Database(store, settings=Settings(), clock=FakeClock(), ids=ids)


def answers_of(store):
    """Return what the index holds after each commit, and what each commit was."""
    index = open_database(store).index(INDEX)
    told = index.snapshots(limit=100)
    return {
        "snapshots": [[one.snapshot, one.operation, one.rows] for one in told],
        "records": {
            str(one.snapshot): {
                record.key: [record.vector.tobytes().hex(), dict(record.metadata)]
                for record in index.list(
                    limit=1000, include=["metadata", "vector"], as_of=one.snapshot
                ).records
            }
            for one in told
        },
    }


def main():
    store = MemoryStore()
    make(store)
    folder = GOLDEN / VERSION
    shutil.rmtree(folder, ignore_errors=True)
    for info in store.list(""):
        path = folder / "objects" / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(store.get(info.key)))
    text = json.dumps(answers_of(store), ensure_ascii=False, separators=(",", ":"))
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
