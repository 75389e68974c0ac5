"""Vector buckets are made once, hold indexes, and go when they are empty."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
from bucket_world import CONFIG, NAME, buckets_of, keys

from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    SquashError,
    UnavailableError,
)
from squash.index import catalogue
from squash.index.buckets import BucketSettings, IndexSettings, VectorBucket
from squash.index.names import BUCKETS, bucket_of, folder_of, is_index_name, is_prefix
from squash.index.sealed import document_checksum
from squash.storage import CountingStore, MemoryStore


@pytest.mark.parametrize("settings", [None, BucketSettings({"a": "ü", "b": ""}, '{"x": 1}')])
def test_what_is_made_is_found(settings):
    """By every handle, with its settings."""
    store = MemoryStore()
    made = buckets_of(store).create(NAME, settings)
    for buckets in (buckets_of(store, 1), buckets_of(store, 2)):
        assert buckets.get(NAME) == made
        assert list(buckets.list()) == [made]
        assert buckets.get(made.name).settings == made.settings == (settings or BucketSettings())
    assert keys(store) == [f"{BUCKETS}{NAME}/_bucket/{1:020d}"]


@pytest.mark.parametrize(
    "name", ["", "ab", "a" * 64, "Ab1", "-ab", "ab.", "a/b", "a_b", "abc\n", 3]
)
def test_names_that_cannot_be(name):
    store = MemoryStore()
    with pytest.raises(InvalidArgumentError):
        buckets_of(store).create(name)
    assert not keys(store)
    with pytest.raises(NotFoundError):
        buckets_of(store).get(name)
    with pytest.raises(NotFoundError):
        buckets_of(store).delete(name)


def test_names_of_indexes():
    """One in a bucket has two parts; what is below a bucket's own folder names none."""
    for name in ("p", "papers", "p_1", "media/papers", "a.b/c-d", "a..b/c.d"):
        assert is_index_name(name)
        assert is_prefix(f"{folder_of(name)}/{'0' * 32}/")
    for name in ("", "media/", "/papers", "a/b/c", "media/_bucket", "_buckets/media", "me/papers"):
        assert not is_index_name(name)
        assert not is_prefix(f"{folder_of(name)}/{'0' * 32}/")
    assert (bucket_of("papers"), bucket_of("media/papers")) == (None, "media")


def test_listing_is_in_order_from_where_one_stopped():
    """By a beginning, after a name; more than are read at once."""
    store = MemoryStore()
    buckets = buckets_of(store)
    names = sorted(f"{letter}{number:02d}" for letter in "ab" for number in range(20))
    for name in reversed(names):
        buckets.create(name)
    buckets.delete("a07")
    names.remove("a07")
    assert list(buckets_of(store, 1).names()) == names
    assert list(buckets.names("b1")) == [f"b{number}" for number in range(10, 20)]
    assert list(buckets.names("a", after="a06")) == names[7:19]
    assert list(buckets.names("", after="b19")) == []


def test_a_deleted_bucket_is_gone_and_can_be_made_anew():
    """Nothing is known of the one before: not its settings, not its id."""
    store = MemoryStore()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    first = buckets.create(NAME, BucketSettings({"a": "1"}, "{}"))
    assert other.get(NAME) == first
    buckets.delete(NAME)
    for one in (buckets, other, buckets_of(store, 2)):
        assert list(one.names()) == []
        for act in (
            partial(one.get, NAME),
            partial(one.delete, NAME),
            partial(one.change, first, lambda s: s),
            partial(one.create_index, CONFIG),
        ):
            with pytest.raises(NotFoundError):
                act()
    second = other.create(NAME)
    assert second.id != first.id
    assert buckets.get(NAME) == second
    with pytest.raises(NotFoundError):
        buckets.change(first, lambda _: BucketSettings({"b": "2"}))
    assert buckets.get(NAME).settings == BucketSettings()


def test_a_bucket_with_an_index_stays():
    """It says which; once that is dropped it goes."""
    store = MemoryStore()
    buckets = buckets_of(store)
    made = buckets.create(NAME, BucketSettings({"a": "1"}))
    entry = buckets.create_index(CONFIG, {"team": "x"})
    stored = keys(store)
    for _ in range(3):
        with pytest.raises(ConflictError, match="media/papers"):
            buckets.delete(NAME)
    assert keys(store) == stored, "of versions there may only be so many in an hour"
    assert buckets_of(store, 1).get(NAME) == made
    assert catalogue.load(store, CONFIG.name) == entry
    assert buckets.index_settings(entry) == IndexSettings({"team": "x"})
    catalogue.drop(store, CONFIG.name)
    buckets.delete(NAME)
    left = {*keys(store)} - {*keys(store, f"{BUCKETS}{NAME}/_bucket/")}
    assert left == {f"{entry.prefix}log/{1:020d}"}, "who has it open learns of the end of its log"


def test_settings_of_a_bucket_change():
    """Each change is made of what was there; others see it at once."""
    store = MemoryStore()
    buckets, other = buckets_of(store), buckets_of(store, 1)
    made = buckets.create(NAME)
    other.get(NAME)
    buckets.change(made, lambda s: replace(s, tags={**s.tags, "a": "1"}))
    other.change(made, lambda s: replace(s, policy="p"))
    buckets.change(made, lambda s: replace(s, tags={**s.tags, "b": "2"}))
    assert other.get(NAME).settings == BucketSettings({"a": "1", "b": "2"}, "p")
    assert other.get(NAME) == VectorBucket(
        NAME, made.id, made.created_ms, BucketSettings({"a": "1", "b": "2"}, "p")
    )


@pytest.mark.parametrize("tags", [{"a": 1}, {1: "a"}, {"": "a"}, {"a": None}])
def test_what_could_not_be_read_back_is_not_written(tags):
    """Neither for a bucket nor for an index, new or there."""
    store = MemoryStore()
    buckets = buckets_of(store)
    made = buckets.create(NAME)
    entry = buckets.create_index(CONFIG)
    before = keys(store)
    for act in (
        partial(buckets.create, "other", BucketSettings(tags)),
        partial(buckets.create, "other", BucketSettings(policy={})),
        partial(buckets.change, made, lambda _: BucketSettings(tags)),
        partial(buckets.create_index, replace(CONFIG, name=f"{NAME}/other"), tags),
        partial(buckets.change_index, entry, lambda _: IndexSettings(tags)),
    ):
        with pytest.raises(InvalidArgumentError):
            act()
    assert keys(store) == before


def test_settings_of_an_index_change_while_it_is_there():
    """A change that comes after a drop is refused, and leaves nothing."""
    store = MemoryStore()
    buckets = buckets_of(store)
    buckets.create(NAME)
    entry = buckets.create_index(CONFIG)
    assert buckets.index_settings(entry) == IndexSettings()
    changed = buckets.change_index(entry, lambda s: replace(s, tags={**s.tags, "a": "1"}))
    assert changed == buckets_of(store, 1).index_settings(entry) == IndexSettings({"a": "1"})
    catalogue.drop(store, CONFIG.name)
    with pytest.raises(NotFoundError):
        buckets.change_index(entry, lambda _: IndexSettings({"b": "2"}))
    assert keys(store, f"{BUCKETS}{NAME}/papers/") == [f"{entry.prefix}log/{1:020d}"]
    again = buckets.create_index(CONFIG)
    assert buckets.index_settings(again) == IndexSettings()


def test_what_it_costs_to_ask_again():
    """One GET, for the bucket and its settings together."""
    store = CountingStore(MemoryStore())
    buckets = buckets_of(store)
    made = buckets.create(NAME)
    before = store.counts()
    assert buckets.get(NAME) == made
    assert (store.counts() - before).by_kind == {"get": 1}
    before = store.counts()
    buckets_of(store, 1).get(NAME)
    assert (store.counts() - before).by_kind == {"get": 1, "list": 1}


def test_what_a_dropped_index_left_keeps_no_bucket():
    """A commit that came after the drop, and a drop broken off after its first step."""
    store = MemoryStore()
    buckets = buckets_of(store)
    buckets.create(NAME)
    entry = buckets.create_index(CONFIG, {"a": "b"})
    store.put(f"{entry.prefix}log/{1:020d}", b"first")
    store.put(f"{entry.prefix}log/{2:020d}", b"second")
    store.delete([catalogue.entry_key(CONFIG.name)])
    # The whole data is there: the entry may be restored, or the drop repeated.
    with pytest.raises(ConflictError, match="restore that, or drop"):
        buckets.delete(NAME)
    assert list(buckets.index_names(NAME)) == []
    store.delete([f"{entry.prefix}log/{1:020d}"])
    buckets.delete(NAME)
    assert len(keys(store)) == len(keys(store, f"{BUCKETS}{NAME}/_bucket/"))


def test_an_index_whose_bucket_was_lost_is_not():
    """It is read by its name; a bucket that is made again has it."""
    store = MemoryStore()
    buckets = buckets_of(store)
    buckets.create(NAME)
    entry = buckets.create_index(CONFIG)
    store.delete(keys(store, f"{BUCKETS}{NAME}/_bucket/"))
    buckets = buckets_of(store, 1)
    assert catalogue.load(store, CONFIG.name) == entry
    assert catalogue.names(store) == [CONFIG.name]
    assert list(buckets.names()) == []
    buckets.create(NAME)
    assert list(buckets.index_names(NAME)) == ["papers"]
    with pytest.raises(ConflictError):
        buckets.delete(NAME)


def test_names_of_indexes_in_a_bucket():
    """In order, without what has no entry; those whose entries cannot be read are among them."""
    store = MemoryStore()
    buckets = buckets_of(store)
    buckets.create(NAME)
    for name in ("pears", "apples", "papers"):
        buckets.create_index(replace(CONFIG, name=f"{NAME}/{name}"))
    store.put(catalogue.entry_key(f"{NAME}/pears"), b"{}")
    store.put(f"{BUCKETS}{NAME}/zebras/{'0' * 32}/log/{1:020d}", b"")
    assert list(buckets.index_names(NAME)) == ["apples", "papers", "pears"]
    assert list(buckets.index_names(NAME, "p", after="papers")) == ["pears"]
    with pytest.raises(DataError):
        catalogue.list_configs(store)


def stored(change):
    """A bucket's first version, changed, with a checksum that fits."""
    store = MemoryStore()
    buckets_of(store).create(NAME)
    document = json.loads(bytes(store.get(keys(store)[0])))
    change(document["content"])
    document["crc32"] = document_checksum(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.clear(),
        lambda content: content.update(name="other"),
        lambda content: content.update(id="x"),
        lambda content: content.update(id=7),
        lambda content: content.update(state="lost"),
        lambda content: content.update(created_ms="1"),
        lambda content: content.update(created_ms=True),
        lambda content: content.update(tags=[]),
        lambda content: content.update(tags={"a": 1}),
        lambda content: content.update(policy={}),
        lambda content: content.pop("policy"),
    ],
)
def test_what_describes_no_bucket(change):
    """It is named as damaged by all who look; it is not taken for gone, and not made anew."""
    store = MemoryStore()
    data = stored(change)
    store.put(f"{BUCKETS}{NAME}/_bucket/{1:020d}", data)
    buckets = buckets_of(store)
    made = VectorBucket(NAME, "0" * 32, 0)
    for act in (
        partial(buckets.get, NAME),
        partial(buckets.create, NAME),
        partial(buckets.delete, NAME),
        partial(buckets.change, made, lambda s: s),
        partial(buckets.create_index, CONFIG),
        lambda: list(buckets.list()),
    ):
        with pytest.raises(SquashError) as told:
            act()
        assert type(told.value) is DataError
        assert told.value.object_key.startswith(f"{BUCKETS}{NAME}/_bucket/")
    assert [bytes(store.get(key)) for key in keys(store)] == [data]


def test_a_store_that_is_down_is_told():
    class Down(MemoryStore):
        def put_if_absent(self, *_):
            raise UnavailableError("down")

    store = Down()
    with pytest.raises(UnavailableError):
        buckets_of(store).create(NAME)
    assert not keys(store)
