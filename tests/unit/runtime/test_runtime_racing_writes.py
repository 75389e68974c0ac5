"""Conditional writes that lose races: what is decided anew, what is read for it, what is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from writing_world import SMALL, everything, handles

from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import (
    ConflictError,
    NotFoundError,
)
from squash.index import writer
from squash.runtime import Settings
from squash.storage import CountingStore, MemoryStore


class Rival(MemoryStore):
    """Lets another writer be first, when a commit is about to be stored."""

    def __init__(self):
        super().__init__()
        self.acts = []
        self.acting = False

    def put_if_absent(self, key, data):
        if "/log/" in key and self.acts and not self.acting:
            self.acting = True
            self.acts.pop(0)()
            self.acting = False
        return super().put_if_absent(key, data)


def racing():
    store = Rival()
    mine, theirs = handles(store=store)
    mine.put(
        keys=["a", "b"], vectors=[[1, 2], [3, 4]], metadata=[{"n": 1, "x": 1}, {"n": 2, "x": 2}]
    )
    theirs.backlog()
    return store, mine, theirs


def test_who_loses_a_race_is_decided_about_anew():
    """Every condition is checked again after a commit that came between."""
    for call in (
        lambda index: index.put(keys=["c"], vectors=[[9, 9]], if_absent=True),
        lambda index: index.put(keys=["d"], vectors=[[9, 9]], if_snapshot=1),
        lambda index: index.patch(keys=["a"], metadata=[{"n": 9}], if_snapshot=1),
        lambda index: index.delete(keys=["a"], if_snapshot=1),
        lambda index: index.delete(filter={"n": 1}, if_snapshot=1),
    ):
        store, mine, theirs = racing()
        store.acts.append(lambda to=theirs: to.put(keys=["c"], vectors=[[5, 5]]))
        with pytest.raises(ConflictError):
            call(mine)
        assert everything(mine) == {"a": {"n": 1, "x": 1}, "b": {"n": 2, "x": 2}, "c": {}}
    store, mine, theirs = racing()
    store.acts.append(lambda: theirs.delete(keys=["a"]))
    with pytest.raises(NotFoundError, match="'a'"):
        mine.patch(keys=["b", "a"], metadata=[{"n": 9}, {"n": 9}])
    assert everything(mine) == {"b": {"n": 2, "x": 2}}


def test_a_patch_that_loses_a_race_loses_no_update():
    """Two patches of other names of one record both stand; a replaced vector stays, too."""
    store, mine, theirs = racing()
    store.acts.append(lambda: theirs.patch(keys=["a"], metadata=[{"x": 7}]))
    store.acts.append(lambda: theirs.put(keys=["b"], vectors=[[8, 8]], metadata=[{"y": 1}]))
    assert mine.patch(keys=["a", "b"], metadata=[{"n": 5}, {"n": 6}]).snapshot == 4
    assert everything(mine) == {"a": {"n": 5, "x": 7}, "b": {"n": 6, "y": 1}}
    np.testing.assert_array_equal(mine.get(keys=["b"])[0].vector, [8, 8])


def test_a_filter_is_decided_anew():
    """A record replaced meanwhile by one that does not pass is not deleted; a new one is."""
    store, mine, theirs = racing()
    store.acts.append(
        lambda: theirs.put(keys=["a", "c"], vectors=[[5, 5], [6, 6]], metadata=[{"n": 3}, {"n": 1}])
    )
    result = mine.delete(filter={"n": {"$lt": 3}})
    assert (result.snapshot, result.rows) == (3, 2)
    assert everything(mine) == {"a": {"n": 3}}
    store.acts.append(lambda: theirs.delete(keys=["a"]))
    result = mine.delete(filter={"n": 3})
    assert (result.snapshot, result.rows) == (4, 0), "nothing is left to delete: no commit"
    assert mine.backlog().snapshot == 4


def test_what_conditions_cost():
    """A condition that holds costs no request, and a lost race only reading on."""
    counting = CountingStore(MemoryStore())
    mine, theirs = handles(store=counting)
    mine.put(keys=["a", "b"], vectors=[[1, 2]] * 2, metadata=[{"n": 1}] * 2)
    snapshot = mine.backlog().snapshot

    def cost(call):
        before = counting.counts()
        call()
        return dict((counting.counts() - before).by_kind)

    once = cost(lambda: mine.put(keys=["c"], vectors=[[1, 2]]))
    assert sum(once.values()) == 1
    for call in (
        lambda: mine.put(keys=["d"], vectors=[[1, 2]], if_absent=True, if_snapshot=snapshot + 1),
        lambda: mine.patch(keys=["a"], metadata=[{"n": 2}], if_snapshot=snapshot + 2),
        lambda: mine.delete(keys=["b"], if_snapshot=snapshot + 3),
    ):
        assert cost(call) == once
    assert sum(cost(lambda: mine.delete(filter={"n": 2})).values()) == 2
    theirs.backlog()
    mine.put(keys=["e"], vectors=[[1, 2]])
    # The lost put, the commit that is there, two absent ones, and the put that wins.
    assert sum(cost(lambda: theirs.patch(keys=["c"], metadata=[{"n": 3}])).values()) == 5


def test_a_lost_race_reads_records_again_only_if_they_changed(monkeypatch):
    """A patch made once stays valid while nobody touches its keys, in whichever way they do."""
    store, mine, theirs = racing()
    opened = []
    views = mine._session._views
    view_of = views.view_of
    monkeypatch.setattr(views, "view_of", lambda one: opened.append(one) or view_of(one))
    store.acts += [
        lambda: theirs.put(keys=["c"], vectors=[[5, 5]]),
        lambda: theirs.delete(keys=["b"]),
        lambda: theirs.optimize(options=SMALL),
    ]
    mine.patch(keys=["a"], metadata=[{"n": 5}])
    assert len(opened) == 1
    store.acts += [
        lambda: theirs.put(keys=["c"], vectors=[[5, 5]]),
        lambda: theirs.patch(keys=["a"], metadata=[{"z": 1}]),
        lambda: theirs.delete(keys=["c"]),
    ]
    mine.patch(keys=["a"], metadata=[{"n": 6}])
    assert len(opened) == 3
    assert not store.acts
    assert everything(mine) == {"a": {"n": 6, "x": 1, "z": 1}}


def test_patches_read_by_pages_in_few_rounds(monkeypatch):
    """From a remote store, vectors and documents of all segments come in one round."""
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", 10)
    counting = CountingStore(MemoryStore())
    database = Database(
        counting, settings=Settings(whole_bytes_max=0), clock=Clock(), ids=SystemIds()
    )
    index = database.create_index("x", dimension=512, metric="euclidean")
    generator = np.random.Generator(np.random.Philox(5))
    vectors = generator.standard_normal((4, 640, 512)).astype(np.float32)
    for part in range(4):
        keys = [f"{part}.{i}" for i in range(640)]
        index.put(keys=keys, vectors=vectors[part], metadata=[{"i": i} for i in range(640)])
    index.patch(keys=["0.639"], metadata=[{"warm": 1}])  # key tables and directories are read
    keys = [f"{part}.{i}" for part in range(4) for i in (3, 5, 70)]
    before = counting.counts()
    index.patch(keys=keys[:10], metadata=[{"n": 1}] * 10)
    spent = counting.counts() - before
    assert spent.rounds <= 3, "key tables or directories, pages, and the commit"
    assert spent.bytes_in < 4 * 3 * 64 * 512 * 4 * 1.5
    found = index.get(keys=keys[:10])
    for record in found:
        part, row = map(int, record.key.split("."))
        np.testing.assert_array_equal(record.vector, vectors[part][row])
        assert record.metadata == {"i": row, "n": 1}


@pytest.mark.parametrize("separate", [True, False], ids=["processes", "one handle"])
def test_counting_together_loses_no_count(separate):
    """Eight threads read a counter and patch it on the condition that nothing changed."""
    threads, turns = 8, 5
    indexes = handles(threads if separate else 1)
    indexes[0].put(keys=["n"], vectors=[[1, 2]], metadata=[{"count": 0}])
    start = threading.Barrier(threads)

    def count(number):
        index = indexes[number % len(indexes)]
        start.wait()
        for _ in range(turns):
            while True:
                snapshot = index.backlog().snapshot
                value = index.get(keys=["n"])[0].metadata["count"]
                try:
                    index.patch(keys=["n"], metadata=[{"count": value + 1}], if_snapshot=snapshot)
                    break
                except ConflictError:
                    continue

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(count, range(threads)))
    assert everything(indexes[0]) == {"n": {"count": threads * turns}}
    assert indexes[0].backlog().snapshot == 1 + threads * turns


def test_a_key_is_created_once():
    """Of eight writers that put one key if it is absent, one succeeds, each time."""
    indexes = handles(8)

    def create(number, key):
        try:
            indexes[number].put(
                keys=[key], vectors=[[number, 0]], metadata=[{"by": number}], if_absent=True
            )
        except ConflictError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        for turn in range(4):
            key = f"k{turn}"
            made = [one for one in pool.map(create, range(8), [key] * 8) if one is not None]
            assert len(made) == 1
            assert everything(indexes[3])[key] == {"by": made[0]}
