"""Vector buckets as earlier releases wrote them; and what somebody else may put in their place."""

from __future__ import annotations

import json
from functools import partial

import pytest
from make_golden import expected_of, open_database, store_of, stored_of
from make_golden_buckets import INDEX, VERSION, Broken, answers_of, make

from squash.errors import DataError, NotFoundError
from squash.index import catalogue
from squash.index.names import BUCKETS

MEDIA = f"{BUCKETS}media/_bucket/"


def settings_of_index(store):
    entry = catalogue.load(store, INDEX)
    return [info.key for info in store.list(f"{entry.prefix}settings/")]


def test_they_say_the_same():
    """One that a deletion was begun of is there; one that was deleted is not."""
    found = json.loads(json.dumps(answers_of(store_of(VERSION))))
    assert found == expected_of(VERSION)
    assert [one[0] for one in found["buckets"]] == ["closing", "media"]
    with pytest.raises(NotFoundError):
        open_database(store_of(VERSION)).vector_buckets.get("gone")
    database = open_database(store_of(VERSION))
    assert not database.index(INDEX).verify().damages
    database.vector_buckets.delete("closing")
    database.create_index("media/more", dimension=2)


def test_the_writer_writes_the_same():
    """The same bytes in the same places; of the index's data, the same places."""
    store = Broken()
    make(store)
    written = {info.key: bytes(store.get(info.key)) for info in store.list("")}
    golden = stored_of(VERSION)
    assert written.keys() == golden.keys()
    for key, data in golden.items():
        if "/settings/" in key or "/_bucket/" in key or key.endswith("index.json"):
            assert written[key] == data, key


def test_no_changed_byte_goes_unseen():
    """Of what is said of a bucket, and of an index: it is refused, or says the same."""
    golden = store_of(VERSION)
    expected = answers_of(golden)
    for key in (f"{MEDIA}{3:020d}", settings_of_index(golden)[-1]):
        data = bytes(golden.get(key))
        for at in range(len(data)):
            store = store_of(VERSION)
            store.put(key, data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
            try:
                found = answers_of(store)
            except DataError as error:
                assert error.object_key == key
            else:
                assert found == expected, at


@pytest.mark.parametrize("length", [0, 1, 10, -2])
def test_a_version_that_is_cut_off_is_refused(length):
    """It is not taken for one that is not there, nor is an earlier one taken for the newest."""
    store = store_of(VERSION)
    key = f"{MEDIA}{3:020d}"
    store.put(key, bytes(store.get(key))[:length])
    buckets = open_database(store).vector_buckets
    for act in (partial(buckets.get, "media"), partial(buckets.create, "media"), buckets.list):
        with pytest.raises(DataError) as told:
            list(act() or ())
        assert told.value.object_key == key


def test_what_was_moved_is_refused():
    """A version of one bucket says nothing of another; one of a bucket nothing of an index."""
    store = store_of(VERSION)
    store.put(f"{BUCKETS}other/_bucket/{1:020d}", store.get(f"{MEDIA}{3:020d}"))
    with pytest.raises(DataError):
        open_database(store).vector_buckets.get("other")
    store = store_of(VERSION)
    store.put(settings_of_index(store)[-1], store.get(f"{MEDIA}{3:020d}"))
    with pytest.raises(DataError):
        answers_of(store)
    store = store_of(VERSION)
    store.put(f"{MEDIA}{4:020d}", store.get(settings_of_index(store)[-1]))
    with pytest.raises(DataError):
        open_database(store).vector_buckets.get("media")


def test_foreign_keys_are_left_alone():
    """What has no name of the format is not read, and keeps no bucket."""
    store = store_of(VERSION)
    foreign = [
        f"{BUCKETS}Media/_bucket/{1:020d}",
        f"{BUCKETS}x/_bucket/{1:020d}",
        f"{MEDIA}latest",
        f"{MEDIA}{7:019d}",
        f"{BUCKETS}media/_other/thing",
        f"{BUCKETS}closing/UPPER/index.json",
        f"{BUCKETS}readme.txt",
    ]
    for key in foreign:
        store.put(key, b"\xff")
    assert json.loads(json.dumps(answers_of(store))) == expected_of(VERSION)
    open_database(store).vector_buckets.delete("closing")
    assert not open_database(store).gc().failed
    assert all(store.get(key) is not None for key in foreign)
