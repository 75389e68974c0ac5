"""Writes golden files of vector buckets.

Run by `PYTHONPATH=tests python tests/format/make_golden_buckets.py`. They are written once and
kept, as those of `make_golden.py`: buckets with settings that were changed, one that somebody began
to delete, one that is gone, and an index with settings. Where that changes in a way that a reader
sees, the next folder is begun.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

from make_golden import GOLDEN, open_database

from squash.index import catalogue
from squash.index.buckets import BucketSettings
from squash.storage import MemoryStore

VERSION = "buckets-v1"
POLICY = '{"Version": "2012-10-17", "Statement": []}'
INDEX = "media/films.v1"


class Broken(MemoryStore):
    """Ends the process that would say that a bucket is gone."""

    armed = False

    def put_if_absent(self, key, data):
        if self.armed and b'"gone"' in bytes(data):
            raise KeyboardInterrupt
        return super().put_if_absent(key, data)


def make(store):
    """Write them all."""
    database = open_database(store)
    buckets = database.vector_buckets
    media = buckets.create("media", BucketSettings({"team": "søk"}))
    buckets.change(media, lambda s: replace(s, policy=POLICY))
    buckets.change(media, lambda s: replace(s, tags={**s.tags, "empty": ""}))
    buckets.create("gone", BucketSettings({"a": "1"}))
    buckets.delete("gone")
    buckets.create("closing", BucketSettings({"a": "2"}))
    store.armed = True
    with suppress(KeyboardInterrupt):
        buckets.delete("closing")
    store.armed = False
    index = database.create_index(
        INDEX, dimension=3, metric="euclidean", non_filterable=["text"], tags={"stage": "test"}
    )
    buckets.change_index(
        catalogue.load(store, INDEX), lambda s: replace(s, tags={**s.tags, "more": "x"})
    )
    index.put(
        keys=["a", "b", "c"],
        vectors=[[0, 1, 2], [3, 4, 5], [6, 7, 8]],
        metadata=[{"n": 1}, {"n": 2, "text": "é"}, {}],
    )
    index.optimize()
    index.put(keys=["d"], vectors=[[9, 9, 9]])


def answers_of(store):
    """Return all that is said of the buckets, and what the index holds and answers."""
    database = open_database(store)
    buckets = database.vector_buckets
    index = database.index(INDEX)
    page = index.list(include=["metadata", "vector"])
    tags = buckets.index_settings(catalogue.load(store, INDEX)).tags
    return {
        "buckets": [
            [one.name, one.id, one.created_ms, dict(one.settings.tags), one.settings.policy]
            for one in buckets.list()
        ],
        "indexes": {one.name: list(buckets.index_names(one.name)) for one in buckets.list()},
        "tags": dict(tags),
        "records": {r.key: [r.vector.tolist(), dict(r.metadata)] for r in page.records},
        "answer": [
            [match.key, round(match.distance, 6)]
            for match in index.query([1, 1, 1], top_k=3, filter={"n": {"$gte": 1}}).matches
        ],
    }


def main():
    store = Broken()
    make(store)
    folder = GOLDEN / VERSION
    for info in store.list(""):
        path = folder / "objects" / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(store.get(info.key)))
    text = json.dumps(answers_of(store), indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
