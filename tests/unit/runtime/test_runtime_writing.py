"""Conditional puts, patches and deletes at the public face: what they do, refuse and cost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulated import Clock
from squash.attributes import merge_patch
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from squash.index import writer
from squash.limits import COMMIT_WITHIN_MS
from squash.maintain import BuildOptions
from squash.runtime import Settings
from squash.storage import CountingStore, MemoryStore

ID = "ab" * 16
OTHER_ID = "cd" * 16
SMALL = BuildOptions(
    partition_rows_target=150,
    partition_rows_max=200,
    cluster_rows_target=16,
    calibration_queries=20,
    exact_rows_max=0,
)


def handles(count=2, store=None, clock=None, **config):
    """Several processes' handles on one index."""
    store = store if store is not None else MemoryStore()
    clock = clock or Clock()
    databases = [
        Database(store, settings=Settings(), clock=clock, ids=SystemIds()) for _ in range(count)
    ]
    databases[0].create_index("x", dimension=2, metric="euclidean", **config)
    return [database.index("x") for database in databases]


def everything(index):
    page = index.list(limit=1000, include=("metadata",))
    return {record.key: dict(record.metadata) for record in page.records}


def test_absent_keys_are_put_and_present_ones_refused():
    """`if_absent` writes all or nothing, and names the first key that is there."""
    one, two = handles()
    assert one.put(keys=["a", "b"], vectors=[[1, 2], [3, 4]], if_absent=True).snapshot == 1
    with pytest.raises(ConflictError, match="'b'") as caught:
        two.put(keys=["new", "b", "a"], vectors=[[0, 0]] * 3, if_absent=True)
    assert caught.value.key == "b"
    assert sorted(everything(two)) == ["a", "b"]
    one.delete(keys=["b"])
    # The handle that wrote before knows an older state, in which the key was there.
    assert two.put(keys=["b"], vectors=[[5, 6]], if_absent=True).snapshot == 3
    two.put(keys=["c"], vectors=[[7, 8]])
    with pytest.raises(ConflictError, match="'c'"):
        one.put(keys=["c"], vectors=[[0, 0]], if_absent=True)
    np.testing.assert_array_equal(one.get(keys=["c"])[0].vector, [7, 8])


def test_a_refusal_is_about_the_newest_state():
    """A handle that has not seen a deletion yet does not refuse what it allows."""
    one, two = handles()
    one.put(keys=["a"], vectors=[[1, 2]])
    two.get(keys=["a"])
    one.delete(keys=["a"])
    two.put(keys=["a"], vectors=[[3, 4]], if_absent=True)
    one.get(keys=["a"])
    two.delete(keys=["a"])
    two.put(keys=["a"], vectors=[[3, 4]], metadata=[{"n": 1}])
    one.patch(keys=["a"], metadata=[{"m": 2}])
    assert everything(two) == {"a": {"n": 1, "m": 2}}


def test_if_snapshot():
    """A write conditional on a snapshot stands unless records changed after it; folds don't."""
    one, two = handles()
    first = one.put(keys=["a"], vectors=[[1, 2]], metadata=[{"n": 1}]).snapshot
    one.optimize(options=SMALL)
    assert one.backlog().snapshot > first
    second = two.patch(keys=["a"], metadata=[{"n": 2}], if_snapshot=first).snapshot
    for refused in (
        lambda: one.put(keys=["b"], vectors=[[1, 2]], if_snapshot=first),
        lambda: one.patch(keys=["a"], metadata=[{"n": 3}], if_snapshot=first),
        lambda: one.delete(keys=["a"], if_snapshot=first),
        lambda: one.delete(filter={"n": 2}, if_snapshot=first),
        lambda: one.put(keys=[], vectors=[], if_snapshot=first),
    ):
        with pytest.raises(ConflictError, match=f"newest snapshot is {second}"):
            refused()
    assert everything(one) == {"a": {"n": 2}}
    third = one.put(keys=["b"], vectors=[[1, 2]], if_snapshot=second, if_absent=True).snapshot
    fourth = two.delete(filter={"n": 2}, if_snapshot=third).snapshot
    assert one.delete(keys=["b"], if_snapshot=fourth).snapshot == fourth + 1
    assert everything(two) == {}


@pytest.mark.parametrize("number", [-1, 3, 1.5, True, "1"])
def test_numbers_that_are_no_snapshot(number):
    """There is no condition on a snapshot that is yet to come, or that is none."""
    (index,) = handles(1)
    index.put(keys=["a"], vectors=[[1, 2]], metadata=[{}])
    index.put(keys=["a"], vectors=[[1, 2]], metadata=[{}])
    for call in (
        lambda: index.put(keys=["a"], vectors=[[1, 2]], if_snapshot=number),
        lambda: index.patch(keys=["a"], metadata=[{}], if_snapshot=number),
        lambda: index.delete(keys=["a"], if_snapshot=number),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert caught.value.field == "if_snapshot"
    assert index.backlog().snapshot == 2


@pytest.mark.parametrize("commit_id", ["", "ab", "AB" * 16, 7, "zz" * 16])
def test_ids_that_are_none(commit_id):
    """A commit id is one as errors give it."""
    (index,) = handles(1)
    for call in (
        lambda: index.put(keys=["a"], vectors=[[1, 2]], commit_id=commit_id),
        lambda: index.patch(keys=["a"], metadata=[{}], commit_id=commit_id),
        lambda: index.delete(keys=["a"], commit_id=commit_id),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            call()
        assert caught.value.field == "commit_id"
    with pytest.raises(InvalidArgumentError, match="if_absent"):
        index.put(keys=["a"], vectors=[[1, 2]], if_absent="yes")


def test_a_repeated_call_asks_no_condition():
    """The same commit id again: done, by the snapshot it made then, whatever came after."""
    one, two = handles()
    one.put(keys=["a", "b"], vectors=[[1, 2], [3, 4]], metadata=[{"n": 1}, {"n": 2}])
    ids = [f"{i:032x}" for i in range(4)]

    def calls(index):
        return [
            index.put(
                keys=["c"], vectors=[[5, 6]], if_absent=True, if_snapshot=1, commit_id=ids[0]
            ),
            index.patch(keys=["a"], metadata=[{"m": 1}], if_snapshot=2, commit_id=ids[1]),
            index.delete(filter={"n": 2}, if_snapshot=3, commit_id=ids[2]),
            index.delete(keys=["c"], if_snapshot=4, commit_id=ids[3]),
        ]

    done = calls(one)
    assert [(result.snapshot, result.rows) for result in done] == [(2, 1), (3, 1), (4, 1), (5, 1)]
    assert calls(two) == calls(one) == done
    two.put(keys=["b"], vectors=[[3, 4]], metadata=[{"n": 2}])
    for number in range(70):  # a snapshot lies between
        two.put(keys=["z"], vectors=[[3, 4]], metadata=[{"n": 9, "i": number}])
    assert calls(one) == done
    assert everything(one) == {"a": {"n": 1, "m": 1}, "b": {"n": 2}, "z": {"n": 9, "i": 69}}


def test_a_patch_merges():
    """Names with None go, given ones are set, the rest and the vector stay, bit for bit."""
    one, two = handles(non_filterable=["text"])
    vectors = np.array([[1e-40, -0.0], [1 / 3, 3e14]], dtype=np.float32)
    before = [{"n": 1, "s": "x", "text": {"a": {"b": 1, "c": 2}, "d": [1]}}, {}]
    one.put(keys=["a", "é"], vectors=vectors, metadata=before)
    result = two.patch(
        keys=["é", "a"],
        metadata=[
            {"tags": ["u", "v"], "none": None},
            {"n": None, "s": "y", "text": {"a": {"b": None, "e": {"f": None}}, "d": {"g": 1}}},
        ],
    )
    assert (result.snapshot, result.rows) == (2, 2)
    found = one.get(keys=["a", "é"])
    assert [record.metadata for record in found] == [
        {"s": "y", "text": {"a": {"c": 2, "e": {}}, "d": {"g": 1}}},
        {"tags": ["u", "v"]},
    ]
    assert [record.vector.tobytes() for record in found] == [row.tobytes() for row in vectors]
    assert before[0]["text"] == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_patch_that_cannot_be_kept():
    """What comes of a patch is held against the limits of a put, and named."""
    (index,) = handles(1, attributes={"year": "number"}, non_filterable=["text"])
    index.put(keys=["a", "b"], vectors=[[1, 2], [3, 4]], metadata=[{"s": "x" * 1900}, {}])
    refused = [
        (["b", "none"], [{}, {}], NotFoundError, "keys"),
        (["b", "a"], [{"n": 1}, {"t": "y" * 900}], TooLargeError, "metadata"),
        (["a"], [{"n": {"nested": 1}}], InvalidArgumentError, "metadata.n"),
        (["a"], [{"year": "late"}], InvalidArgumentError, "metadata.year"),
        (["a"], [{"n": float("nan")}], InvalidArgumentError, "metadata.n"),
        (["a", "a"], [{}, {}], InvalidArgumentError, "keys[1]"),
        (["a"], [None], InvalidArgumentError, "metadata[0]"),
        (["a"], [[]], InvalidArgumentError, "metadata[0]"),
        (["a"], [], InvalidArgumentError, "metadata"),
        (["a"], {"n": 1}, InvalidArgumentError, "metadata"),
        ("a", [{}], InvalidArgumentError, "keys"),
        ([""], [{}], InvalidArgumentError, "keys[0]"),
    ]
    for keys, metadata, error, field in refused:
        with pytest.raises(error) as caught:
            index.patch(keys=keys, metadata=metadata)
        assert caught.value.field == field
    deep: dict = {}
    for _ in range(5000):
        deep = {"d": deep}
    with pytest.raises(TooLargeError):
        index.patch(keys=["a"], metadata=[{"text": deep}])
    assert index.backlog().snapshot == 1
    assert index.patch(keys=[], metadata=[]).rows == 0
    assert index.backlog().snapshot == 1
    with pytest.raises(NotFoundError, match="'none'") as found:
        index.patch(keys=["b", "none"], metadata=[{}, {}])
    assert found.value.key == "none"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_merging_is_that_of_the_standard(target, patch):
    """It is the pseudocode of RFC 7396, section 2; nothing given is changed."""

    def standard(target, patch):
        if not isinstance(patch, dict):
            return patch
        target = dict(target) if isinstance(target, dict) else {}
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = standard(target.get(name), value)
        return target

    given = repr((target, patch))
    assert merge_patch(target, patch) == standard(target, patch)
    assert repr((target, patch)) == given


@pytest.mark.parametrize("rows_inline_max", [4_096, 10])
def test_patches_of_all_kinds_of_rows(rows_inline_max, monkeypatch):
    """Rows of the log, of flat segments and of partitions, few and many, keep their vectors."""
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", rows_inline_max)
    one, two = handles()
    generator = np.random.Generator(np.random.Philox(3))
    vectors = generator.standard_normal((700, 2)).astype(np.float32)
    keys = [f"k{i}" for i in range(700)]
    metadata = [{"n": i} for i in range(700)]
    one.put(keys=keys[:500], vectors=vectors[:500], metadata=metadata[:500])
    one.optimize(options=SMALL)
    one.put(keys=keys[400:650], vectors=vectors[400:650], metadata=metadata[400:650])
    one.put(keys=keys[650:], vectors=vectors[650:], metadata=metadata[650:])
    order = generator.permutation(700).tolist()
    two.patch(keys=[keys[i] for i in order], metadata=[{"m": -i} for i in order])
    one.patch(keys=[keys[7]], metadata=[{"n": None}])
    found = one.get(keys=keys)
    expected = [{"n": i, "m": -i} for i in range(700)]
    del expected[7]["n"]
    assert [record.metadata for record in found] == expected
    np.testing.assert_array_equal(np.array([record.vector for record in found]), vectors)
    assert one.stats().rows == 700
    assert not one.verify().damages


def test_large_conditional_puts_write_nothing_in_vain(monkeypatch):
    """Segments are written only after the condition held, and not again by a repeated call."""
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", 2)
    store = MemoryStore()
    one, two = handles(store=store)
    many = {"keys": ["a", "b", "c"], "vectors": [[1, 2]] * 3}
    one.put(**many, if_absent=True, commit_id=ID)
    objects = {info.key for info in store.list("")}
    with pytest.raises(ConflictError):
        two.put(**many, if_absent=True)
    assert two.put(**many, if_absent=True, commit_id=ID).snapshot == 1
    assert {info.key for info in store.list("")} == objects


def test_what_took_too_long_is_not_named(monkeypatch):
    """A writer refuses to name segments that were written so long ago that gc may take them."""
    monkeypatch.setattr(writer, "INLINE_COMMIT_ROWS_MAX", 2)
    clock = Clock()
    (index,) = handles(1, clock=clock)
    write = writer.write_segment

    def slow(*args, **more):
        clock.sleep(COMMIT_WITHIN_MS / 1000 + 1)
        return write(*args, **more)

    monkeypatch.setattr(writer, "write_segment", slow)
    with pytest.raises(UnavailableError, match="20 hours"):
        index.put(keys=["a", "b", "c"], vectors=[[1, 2]] * 3)
    assert index.backlog().snapshot == 0


@pytest.mark.parametrize("folded", [False, True])
def test_expired_records_are_not_there(folded):
    """For `if_absent`, patches and filters a record is gone from the time on that it names."""
    clock = Clock()
    (index,) = handles(1, clock=clock, expires="until")
    until = clock.now_ms() / 1000 + 60
    index.put(
        keys=["short", "long"], vectors=[[1, 2], [3, 4]], metadata=[{"until": until}, {"n": 1}]
    )
    if folded:
        index.optimize(options=SMALL)
    with pytest.raises(ConflictError):
        index.put(keys=["short"], vectors=[[5, 6]], if_absent=True)
    before = index.patch(keys=["short"], metadata=[{"n": 1}]).snapshot
    clock.sleep(60)
    with pytest.raises(NotFoundError, match="'short'"):
        index.patch(keys=["long", "short"], metadata=[{"n": 2}] * 2)
    assert index.delete(filter={"until": {"$exists": True}}).rows == 0
    assert index.backlog().snapshot == before, "expiry is no commit"
    assert index.delete(filter={"n": 1}).rows == 1
    assert index.put(keys=["short"], vectors=[[5, 6]], if_absent=True).rows == 1
    assert everything(index) == {"short": {}}


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
