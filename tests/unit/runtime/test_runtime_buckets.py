"""All that is done with an index is done with one in a vector bucket, and names it so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fakes import CountedIds, FakeClock
from living import SMALL, copied, damage, everything
from squash.api.compacting import collect, compact
from squash.database import Database
from squash.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedFormatError,
)
from squash.index import catalogue
from squash.index.buckets import IndexSettings
from squash.planning import pending_rows_max
from squash.runtime import Settings
from squash.runtime.encoders import EncoderRegistry
from squash.storage import MemoryStore
from tiny_encoders import make_text_encoder

NAME = "media/papers"
ENTRY = "_buckets/media/papers/index.json"
DAY_S = 86_400


def connected(store, clock=None):
    return Database(store, settings=Settings(), clock=clock or FakeClock(), ids=CountedIds(7))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def database(clock):
    """A bucket with an index that has partitions, fresh rows, dead ones and settings."""
    made = connected(MemoryStore(clock), clock)
    made.vector_buckets.create("media")
    index = made.create_index(NAME, dimension=4, metric="euclidean", tags={"a": "1"})
    rng = np.random.default_rng(3)
    keys = [f"k{i}" for i in range(80)]
    index.put(keys=keys, vectors=rng.normal(size=(80, 4)), metadata=[{"n": i} for i in range(80)])
    index.optimize(options=SMALL)
    index.put(keys=["new"], vectors=rng.normal(size=(1, 4)))
    index.delete(keys=["k3"])
    return made


def settings_key(store):
    (key,) = [info.key for info in store.list("_buckets/media/papers/") if "settings" in info.key]
    return key


def test_it_answers_as_every_index(database):
    """Queries, reading, numbers and history are those of an index of the same rows elsewhere."""
    index = database.index(NAME)
    assert index.config.name == NAME
    other = database.create_index("papers", dimension=4, metric="euclidean")
    rows = index.list(limit=1000, include=("metadata", "vector")).records
    other.put(
        keys=[row.key for row in rows],
        vectors=[row.vector for row in rows],
        metadata=[row.metadata for row in rows],
    )
    for exact in (True, False):
        found = index.query([1, 0, 0, 0], top_k=20, filter={"n": {"$gte": 5}}, exact=exact)
        same = other.query([1, 0, 0, 0], top_k=20, filter={"n": {"$gte": 5}}, exact=exact)
        assert [(m.key, m.distance) for m in found.matches] == [
            (m.key, m.distance) for m in same.matches
        ]
    stats = index.stats()
    assert (stats.name, stats.rows) == (NAME, 80)
    assert index.snapshots()[0].snapshot == 4
    exported = [key for batch in index.export_batches() for key in batch.keys]
    assert sorted(exported) == sorted(row.key for row in rows)


def test_all_indexes_are_listed_and_collected(database, clock):
    """Those in buckets last; settings of indexes are known and stay."""
    database.create_index("zebras", dimension=2)
    assert [one.name for one in database.list_indexes()] == ["zebras", NAME]
    assert [one.name for one in database.list_indexes(in_buckets=False)] == ["zebras"]
    before = everything(database.index(NAME))
    database.index(NAME).optimize(options=SMALL, full=True)
    clock.sleep(3 * DAY_S)
    report = database.gc()
    assert list(report.indexes) == ["zebras", NAME]
    assert (report.failed, report.left, report.remains.objects) == ({}, (), 0)
    assert report.indexes[NAME].unknown.objects == 0
    database.index(NAME).optimize(options=SMALL, full=True)
    clock.sleep(3 * DAY_S)
    assert database.index(NAME).gc().total.objects
    index = connected(database.store, clock).index(NAME)
    assert everything(index) == before
    assert not index.verify().damages
    entry = catalogue.load(database.store, NAME)
    assert database.vector_buckets.index_settings(entry) == IndexSettings({"a": "1"})


def test_what_a_dropped_index_leaves_is_collected(database, clock):
    """Its last commits, what came after the drop, and what a bucket was, once that is old."""
    prefix = catalogue.load(database.store, NAME).prefix
    database.drop_index(NAME)
    database.store.put(f"{prefix}segments/{'a' * 32}/codes", b"late")
    ended = [*database.store.list(f"{prefix}log/")]
    database.vector_buckets.create("other")
    database.vector_buckets.delete("other")
    assert database.gc().remains.objects == 0
    clock.sleep(2 * DAY_S)
    said = database.gc(dry_run=True)
    assert said.remains.objects == len(ended) + 3  # and what the bucket was before it was gone
    report = database.gc()
    assert (report.remains, report.left) == (said.remains, ())
    left = [info.key for info in database.store.list("")]
    assert left == [f"_buckets/media/_bucket/{1:020d}", f"_buckets/other/_bucket/{3:020d}"]
    assert list(connected(database.store, clock).vector_buckets.names()) == ["media"]


def test_what_is_damaged_is_named_where_it_lies(database):
    """Its entry, its settings, and what is said of its bucket."""
    store = database.store
    index = database.index(NAME)
    assert not index.verify().damages
    for key in (ENTRY, settings_key(store), f"_buckets/media/_bucket/{1:020d}"):
        broken = copied(store)
        assert damage(broken, key) == key
        hurt = connected(broken)
        if key != ENTRY:
            (found,) = hurt.index(NAME).verify().damages
            assert found.object_key.endswith(key.removeprefix(index_prefix(store)))
            report = hurt.index(NAME).repair()
            assert [one.object_key for one in report.left] == [found.object_key]
    # Also by a handle that has read what was sound.
    broken = copied(store)
    held = connected(broken)
    held.vector_buckets.get("media")
    assert damage(broken, "/_bucket/")
    assert len(held.index(NAME).verify().damages) == 1
    broken = copied(store)
    broken.delete([f"_buckets/media/_bucket/{1:020d}"])
    (found,) = connected(broken).index(NAME).verify().damages
    assert (found.object_key, "'media'" in found.problem) == (ENTRY, True)
    hurt = connected(broken)
    hurt.vector_buckets.create("media")
    assert not hurt.index(NAME).verify().damages


def index_prefix(store):
    return catalogue.load(store, NAME).prefix


def test_damaged_settings_are_mended_by_those_before(database):
    """If it is told to lose them; older ones that nobody reads, in any case."""
    store = database.store
    entry = catalogue.load(store, NAME)
    database.vector_buckets.change_index(entry, lambda _: IndexSettings({"b": "2"}))
    one, two = (f"{entry.prefix}settings/{number:020d}" for number in (1, 2))
    hurt = copied(store)
    damage(hurt, one)
    (mended,) = connected(hurt).index(NAME).repair().repaired
    assert mended.object_key == one.removeprefix(entry.prefix)
    assert connected(hurt).vector_buckets.index_settings(entry) == IndexSettings({"b": "2"})
    hurt = copied(store)
    damage(hurt, two)
    assert connected(hurt).index(NAME).repair().left
    assert not connected(hurt).index(NAME).repair(drop_lost=True).left
    assert connected(hurt).vector_buckets.index_settings(entry) == IndexSettings({"a": "1"})


def test_segments_are_mended(database):
    store = database.store
    before = everything(database.index(NAME))
    assert damage(store, "/codes")
    assert connected(store).index(NAME).verify().damages
    report = connected(store).index(NAME).repair()
    assert (bool(report.repaired), report.left) == (True, ())
    assert everything(connected(store).index(NAME)) == before


def test_the_compactor_folds_it(database, clock):
    """By its name, and when it is due among all; one that is damaged stops none of the others."""
    said = []

    def note(words, **fields):
        said.append((words, fields))

    asked = {"remaining_ms": lambda: 900_000, "note": note}
    (folded,) = compact(database, {"index": NAME}, **asked)
    assert (folded.index, folded.outcome) == (NAME, "folded")
    database.vector_buckets.create("hurt")
    database.create_index("hurt/one", dimension=2)
    database.store.put("_buckets/hurt/one/index.json", b"{}")
    database.vector_buckets.create("zzz")
    due = database.create_index("zzz/due", dimension=2)
    many = pending_rows_max(0) + 1
    due.put(keys=[f"k{number}" for number in range(many)], vectors=np.ones((many, 2)))
    done = compact(database, {}, **asked)
    outcomes = {one.index: one.outcome for one in done}
    assert outcomes == {"hurt/one": "failed", NAME: "not due", "zzz/due": "folded"}
    assert "_buckets/hurt/one/index.json" in done[0].why
    clock.sleep(2 * DAY_S)
    done = collect(database, {"gc": True}, retention_s=DAY_S, **asked)
    assert {one.index: one.outcome for one in done} == {
        NAME: "collected",
        "zzz/due": "collected",
        "hurt/one": "failed",
    }
    (one,) = collect(database, {"gc": True, "index": NAME}, retention_s=DAY_S, **asked)
    assert (one.index, one.outcome) == (NAME, "collected")
    (one,) = compact(database, {"index": "media/none"}, **asked)
    assert (one.index, one.outcome) == ("media/none", "gone")
    for wrong in ("media/", "_buckets/media", "media/papers/more"):
        with pytest.raises(InvalidArgumentError):
            compact(database, {"index": wrong}, **asked)


def test_an_encoder_that_it_pins_stays(database, tmp_path):
    """Until the index is dropped."""
    make_text_encoder(tmp_path / "tiny")
    EncoderRegistry(database.store, check=lambda folder: None).add(tmp_path / "tiny")
    index = database.create_index("media/notes", encoder="tiny")
    index.put(keys=["a"], texts=["a red fish"])
    assert index.query(text="fish", top_k=1).matches[0].key == "a"
    with pytest.raises(ConflictError, match="media/notes"):
        database.encoders.remove("tiny")
    database.encoders.remove("tiny", force=True)
    (found,) = connected(database.store).index("media/notes").verify().damages
    assert found.object_key == "_buckets/media/notes/index.json"
    database.drop_index("media/notes")


def test_errors_name_it(database):
    """As it is asked for, with what is near in its bucket."""
    with pytest.raises(NotFoundError, match=r"'media/paper'\. Did you mean 'media/papers'") as told:
        database.index("media/paper")
    assert told.value.index == "media/paper"
    with pytest.raises(NotFoundError, match="'none'"):
        database.create_index("none/papers", dimension=2)
    with pytest.raises(ConflictError, match="'media/papers'"):
        database.create_index(NAME, dimension=2)
    with pytest.raises(InvalidArgumentError, match="bucket/index"):
        database.create_index("media/p_1", dimension=2)
    with pytest.raises(InvalidArgumentError) as refused:
        database.create_index("plain", dimension=2, tags={"a": "1"})
    assert refused.value.field == "tags"


def test_an_entry_of_a_newer_release_is_named(database):
    content = json.loads(bytes(database.store.get(ENTRY)))
    database.store.put(ENTRY, json.dumps(content | {"version": 2}).encode())
    with pytest.raises(UnsupportedFormatError) as told:
        database.index(NAME)
    assert told.value.object_key == ENTRY
