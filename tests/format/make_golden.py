"""Writes the newest golden files: `PYTHONPATH=tests python tests/format/make_golden.py`.

They are written once and kept: later releases must open them and answer the same. Where what is
written changes in a way that a reader sees, the next folder is begun and the older ones stay:

- v1: codec `residual` version 1, segments that do not say where each record begins.
- v2: codec `residual` version 2, `document_row_offsets` in `rows`.
- v3: partitions with a `head`.
- v4: snapshots that say which commit last changed records, one after each fold; what was trained
  says on what.
- v5: what was trained says where the attributes of each partition lie.
- v6: codec `residual` version 3, in an index of its own: of few dimensions it stays version 2.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from forcing import codes_only
from squash.container import pack
from squash.database import Database, Index
from squash.maintain import BuildOptions
from squash.runtime import Settings
from squash.storage import MemoryStore

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
VERSIONS = ("v1", "v2", "v3", "v4", "v5", "v6")
NEWEST = VERSIONS[-1]
DIMENSION = 6
MANY = 70
ROWS = 90
SMALL = BuildOptions(
    partition_rows_target=50,
    partition_rows_max=60,
    cluster_rows_target=12,
    calibration_queries=20,
    exact_rows_max=0,
)
FILTERS = (
    None,
    {"year": {"$gte": 2010}},
    {"tags": "b", "open": True},
    {"$or": [{"name": {"$startsWith": "é"}}, {"year": {"$in": [2001, 2002]}}]},
    {"year": {"$exists": False}},
)


class FixedClock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms

    def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class FixedIds:
    """Ids in order."""

    def __init__(self) -> None:
        self.count = 0

    def new_id(self) -> str:
        self.count += 1
        return f"{self.count:032x}"

    def jitter(self) -> float:
        return 0.5


def open_database(store):
    return Database(
        store,
        settings=Settings(whole_bytes_max=1 << 20),
        clock=FixedClock(),
        ids=FixedIds(),
    )


def rows(first, count, seed, dimension=DIMENSION):
    generator = np.random.Generator(np.random.Philox(seed))
    centers = generator.standard_normal((5, dimension)) * 3
    vectors = centers[generator.integers(5, size=count)]
    vectors = (vectors + generator.standard_normal((count, dimension))).astype(np.float32)
    metadata = []
    for i in range(first, first + count):
        one = {"name": f"{'éabc'[i % 4]}{i}", "open": i % 3 == 0, "tags": list("abc")[: i % 4]}
        if i % 5:
            one["year"] = 2000 + i % 25 if i % 7 else f"y{i}"
        metadata.append({**one, "text": {"any": [None, i]}})
    return {
        "keys": [f"k{i}" for i in range(first, first + count)],
        "vectors": vectors,
        "metadata": metadata,
    }


def write_snapshot(index: Index) -> None:
    log = index._session._views.log
    log.write_snapshot(log.refresh(None))


def make(store):
    """Write the indexes: rows in the log, a flat segment, partitions of two codecs."""
    database = open_database(store)
    more = {"dimension": DIMENSION, "non_filterable": ["text"], "seed": 7}
    fresh = database.create_index("fresh", metric="euclidean", **more)
    fresh.put(**rows(0, 9, 1))
    fresh.delete(keys=["k3", "none"])
    write_snapshot(fresh)
    fresh.put(**rows(7, 4, 2))
    flat = database.create_index(
        "flat", metric="dot", attributes={"open": "boolean", "tags": "string[]"}, **more
    )
    flat.put(**rows(0, 70, 3))
    flat.optimize()
    flat.delete(keys=["k5"])
    for codec, metric in (("residual", "cosine"), ("osq", "dot")):
        index = database.create_index(codec, metric=metric, codec=codec, **more)
        index.put(**rows(0, ROWS, 4))
        index.optimize(options=SMALL)
        index.put(**rows(ROWS - 5, 10, 5))
        index.delete(keys=["k1", "k2"])
        write_snapshot(index)
        index.put(**rows(3, 2, 6))
        index.delete(keys=["k9"])
    many = database.create_index("many", metric="euclidean", **{**more, "dimension": MANY})
    many.put(**rows(0, ROWS, 7, MANY))
    many.optimize(options=SMALL)


def wrong(store):
    """Objects written wrongly on purpose, by what is wrong with them."""
    key = next(info.key for info in store.list("fresh/") if "/log/" in info.key)
    commit = bytes(store.get(key))
    version = pack("segment-rows", 2, header={"rows": 0}, arrays={})
    feature = pack("segment-rows", 1, header={"features": ["zstd"]}, arrays={})
    return {
        "version": version,
        "feature": feature,
        "kind": pack("segment-cows", 1, header={}, arrays={}),
        "checksum": commit[:-1] + bytes([commit[-1] ^ 1]),
    }


def queries(dimension=DIMENSION):
    generator = np.random.Generator(np.random.Philox(99))
    return generator.standard_normal((4, dimension)).astype(np.float32)


def stored_of(version):
    """Return the objects of a folder by key."""
    objects = GOLDEN / version / "objects"
    paths = sorted(path for path in objects.rglob("*") if path.is_file())
    return {path.relative_to(objects).as_posix(): path.read_bytes() for path in paths}


def store_of(version):
    """Return a store that holds the objects of a folder."""
    store = MemoryStore()
    for key, data in stored_of(version).items():
        store.put(key, data)
    return store


def expected_of(version):
    """Return what the release that wrote a folder answered."""
    return json.loads((GOLDEN / version / "expected.json").read_text(encoding="utf-8"))


def answers_of(database):
    """Return what the indexes hold and answer: by scanning, and by codes however few rows."""
    with codes_only():
        return {one.name: _answers(database.index(one.name)) for one in database.list_indexes()}


def _answers(index):
    page = index.list(limit=1000, include=["metadata", "vector"])
    return {
        "records": {r.key: [r.vector.tobytes().hex(), dict(r.metadata)] for r in page.records},
        "answers": [
            [
                [[m.key, round(m.distance, 9)] for m in found.matches]
                for f in FILTERS
                for found in [index.query(q, top_k=5, filter=f, exact=exact, recall_target=0.999)]
            ]
            for q in queries(index.config.dimension)
            for exact in (True, False)
        ],
    }


def main():
    store = MemoryStore()
    make(store)
    folder = GOLDEN / NEWEST
    shutil.rmtree(folder, ignore_errors=True)
    for info in store.list(""):
        path = folder / "objects" / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(store.get(info.key)))
    (folder / "wrong").mkdir()
    for name, data in wrong(store).items():
        (folder / "wrong" / name).write_bytes(data)
    text = json.dumps(answers_of(open_database(store)), ensure_ascii=False, separators=(",", ":"))
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
