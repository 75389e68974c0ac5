"""Two at vector buckets at once: one is first, and the other decides again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from bucket_world import CONFIG, NAME, buckets_of, keys

from squash.clock import SystemClock, SystemIds
from squash.errors import (
    ConflictError,
    NotFoundError,
)
from squash.index import catalogue
from squash.index.buckets import VectorBuckets
from squash.index.names import BUCKETS
from squash.storage import FolderStore, MemoryStore


def test_made_once():
    """Of many at once one makes it; the others hear of a conflict."""
    store = MemoryStore()

    def attempt(number):
        try:
            return buckets_of(store, number).create(NAME)
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [one for one in pool.map(attempt, range(8)) if one is not None]
    assert made == [buckets_of(store, 9).get(NAME)]


class Meddling(MemoryStore):
    """Lets somebody else act once, right before or after a call whose key has a part."""

    def __init__(self):
        super().__init__()
        self.before = self.after = None
        self.part = ""

    def arm(self, part, *, before=None, after=None):
        self.part, self.before, self.after = part, before, after

    def put_if_absent(self, key, data):
        if self.part in key and self.before:
            act, self.before = self.before, None
            act()
        done = super().put_if_absent(key, data)
        if self.part in key and self.after:
            act, self.after = self.after, None
            act()
        return done


def test_an_index_made_while_its_bucket_is_deleted():
    """Either the bucket stays, or nobody is told of the index and nothing of it is left."""
    # Before the index is there the whole deletion happens.
    store = Meddling()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    buckets.create(NAME)
    store.arm("index.json", before=partial(other.delete, NAME))
    with pytest.raises(NotFoundError):
        buckets.create_index(CONFIG, {"a": "b"})
    assert catalogue.names(store) == []
    left = keys(store, f"{BUCKETS}{NAME}/papers/")
    assert [one.partition("/log/")[2] for one in left] == [f"{1:020d}"], "its end is told"
    # While it is being deleted the index is made.
    store = Meddling()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    buckets.create(NAME)
    store.arm(f"_bucket/{2:020d}", after=partial(buckets.create_index, CONFIG))
    with pytest.raises(ConflictError, match="media/papers"):
        other.delete(NAME)
    assert other.get(NAME) == buckets.get(NAME)
    assert catalogue.names(store) == [CONFIG.name]
    # After the indexes were listed.
    store = Meddling()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    buckets.create(NAME)
    store.arm(f"_bucket/{3:020d}", before=partial(buckets.create_index, CONFIG))
    with pytest.raises(ConflictError, match="media/papers"):
        other.delete(NAME)
    assert catalogue.names(store) == [CONFIG.name]
    assert list(other.names()) == [NAME]


def test_a_bucket_that_is_replaced_while_an_index_is_made():
    """The index was for the one before: it is taken back."""
    store = Meddling()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    buckets.create(NAME)

    def replace_it():
        other.delete(NAME)
        other.create(NAME)

    store.arm("index.json", before=replace_it)
    with pytest.raises(NotFoundError):
        buckets.create_index(CONFIG)
    assert list(other.index_names(NAME)) == []
    other.delete(NAME)


def test_settings_changed_while_a_bucket_is_deleted():
    """The deletion looks again, and the change is answered and gone; or it comes too late."""
    store = Meddling()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    made = buckets.create(NAME)
    store.arm(
        f"_bucket/{3:020d}", before=lambda: buckets.change(made, lambda s: replace(s, policy="p"))
    )
    other.delete(NAME)
    with pytest.raises(NotFoundError):
        buckets.get(NAME)


def test_of_two_who_delete_one_is_told(tmp_path):
    """And whoever makes indexes meanwhile has each in a bucket that is there."""
    store = FolderStore(tmp_path)

    def make():
        return VectorBuckets(store, clock=SystemClock(), ids=SystemIds())

    def delete(_):
        try:
            make().delete(NAME)
        except (ConflictError, NotFoundError):
            return 0
        return 1

    def create(number):
        try:
            return make().create_index(replace(CONFIG, name=f"{NAME}/one{number}")).config.name
        except (ConflictError, NotFoundError):
            return None

    gone = 0
    for _ in range(12):
        buckets = make()
        buckets.create(NAME)
        with ThreadPoolExecutor(5) as pool:
            creating = pool.map(create, range(2))
            deleted = sum(pool.map(delete, range(3)))
            made = [name for name in creating if name is not None]
        assert deleted <= 1
        assert not (deleted and made)
        there = list(make().names())
        assert there == ([] if deleted else [NAME])
        assert sorted(catalogue.names(store)) == sorted(made)
        gone += deleted
        for name in made:
            catalogue.drop(store, name)
        if not deleted:
            buckets.delete(NAME)
    print(f"{gone} of 12 were deleted")  # noqa: T201 - shown where it fails


def test_many_change_a_bucket_at_once(tmp_path):
    """No tag is lost."""
    store = FolderStore(tmp_path)
    made = VectorBuckets(store, clock=SystemClock(), ids=SystemIds()).create(NAME)

    def tag(number):
        buckets = VectorBuckets(store, clock=SystemClock(), ids=SystemIds())
        for step in range(4):
            name = f"{number}-{step}"
            buckets.change(made, lambda s, name=name: replace(s, tags={**s.tags, name: ""}))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(tag, range(6)))
    assert len(buckets_of(store).get(made.name).settings.tags) == 24
