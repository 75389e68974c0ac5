"""Conditional puts, patches and deletes at the public face: what they do, refuse and cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from writing_world import SMALL, everything, handles

from simulated import Clock
from squash.attributes import merge_patch
from squash.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from squash.index import writer
from squash.limits import COMMIT_WITHIN_MS
from squash.storage import MemoryStore

ID = "ab" * 16


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
    assert index.stats().rows == 2, "it is counted until it is folded away"
    assert [one.key for one in index.get(keys=["long", "short", "long"])] == ["long"]
    assert index.delete(filter={"n": 1}).rows == 1
    assert index.put(keys=["short"], vectors=[[5, 6]], if_absent=True).rows == 1
    assert everything(index) == {"short": {}}
