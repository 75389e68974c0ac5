"""Indexes with builds and restorations, as earlier releases wrote them."""

from __future__ import annotations

import json

import pytest
from make_golden import expected_of, open_database, store_of, stored_of
from make_golden_builds import INDEX, VERSION, answers_of, make

from squash.container import Container, read_layout
from squash.errors import UnsupportedFormatError
from squash.storage import MemoryStore

STORED = stored_of(VERSION)


def versions(part: str) -> list[int]:
    return [
        read_layout(data, where=key, total_bytes=len(data)).header["version"]
        for key, data in STORED.items()
        if part in key
    ]


def test_they_say_the_same():
    """Every state: before the build, after it, restored, and what came later."""
    assert json.loads(json.dumps(answers_of(store_of(VERSION)))) == expected_of(VERSION)
    index = open_database(store_of(VERSION)).index(INDEX)
    assert not index.verify().damages
    assert {"build", "restore"} <= {one.operation for one in index.snapshots()}


def test_the_writer_writes_the_same():
    """The same objects in the same places, and the same content in every state."""
    store = MemoryStore()
    make(store)
    written = {info.key: bytes(store.get(info.key)) for info in store.list("")}
    assert written.keys() == STORED.keys()
    assert json.loads(json.dumps(answers_of(store))) == expected_of(VERSION)


def test_earlier_releases_refuse_them_by_name():
    """Both versions are there; what knows only the first refuses the second as newer."""
    assert set(versions("/log/")) == set(versions("/snapshots/")) == {1, 2}
    for key, data in STORED.items():
        kind = {"log": "commit", "snapshots": "snapshot"}.get(key.split("/")[-2])
        if kind and read_layout(data, where=key).header["version"] == 2:
            with pytest.raises(UnsupportedFormatError, match="version 2"):
                Container(data, kind=kind, versions=(1,), where=key)
