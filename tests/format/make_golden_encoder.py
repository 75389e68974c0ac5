"""Writes golden files of encoders: `PYTHONPATH=tests python tests/format/make_golden_encoder.py`.

They are written once and kept, as those of `make_golden.py`: an encoder of texts and images as it
lies in a store, and indexes that pin it. Where that changes in a way that a reader sees, the next
folder is begun.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from make_golden import GOLDEN, open_database

from squash.storage import MemoryStore
from tiny_encoders import make_dual_encoder

VERSION = "encoder-v1"
TEXTS = ("a red dog", "the blue bird sings", "snow falls on the old house and the pale moon " * 2)
ASKED = ("dog", "Bird SINGS", "unheard of", "")


def make(store):
    """Write an encoder; an index of texts with it; one of cut vectors, which keeps no texts."""
    database = open_database(store)
    with tempfile.TemporaryDirectory() as folder:
        make_dual_encoder(Path(folder) / "made")
        database.encoders.add(Path(folder) / "made")
    texts = database.create_index("texts", encoder="tiny-dual", expires="ends")
    texts.put(keys=["k0", "k1", "k2"], texts=TEXTS, metadata=[{"n": 1}, {}, {"ends": 9e9}])
    short = database.create_index(
        "short", encoder="tiny-dual", dimension=8, metric="dot", text_key=None
    )
    short.put(keys=["k0", "k1", "k2"], texts=TEXTS)
    short.optimize()


def answers_of(database):
    """Return what the indexes hold, and answer to texts."""
    return {one.name: _answers(database.index(one.name)) for one in database.list_indexes()}


def _answers(index):
    page = index.list(include=["metadata", "vector"])
    return {
        "records": {r.key: [r.vector.tolist(), dict(r.metadata)] for r in page.records},
        "answers": [
            [[match.key, round(match.distance, 6)] for match in answer.matches]
            for answer in index.query_many(texts=ASKED)
        ],
    }


def main():
    store = MemoryStore()
    make(store)
    folder = GOLDEN / VERSION
    for info in store.list(""):
        path = folder / "objects" / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(store.get(info.key)))
    text = json.dumps(answers_of(open_database(store)), indent=1)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
