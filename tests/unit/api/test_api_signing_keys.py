"""Signing keys: where they lie, who makes them first, and what is derived from them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading

import pytest

from squash.api.environment import (
    IN_THE_STORE,
    KeyPlace,
    PlaceKind,
    read_face,
    read_signing_keys,
)
from squash.api.signing_keys import SigningKey, ensure_signing_key, load_signing_key
from squash.errors import DataError, InvalidArgumentError
from squash.index import catalogue
from squash.storage import MemoryStore

PLACE = IN_THE_STORE[0]
DATA = bytes(range(32))


def test_a_secret_is_the_hmac_of_a_keys_id():
    """So that it can be derived anew, by another implementation too."""
    key_id = "0123456789abcdef"
    digest = hmac.new(DATA, b"squash access key v1\0" + key_id.encode(), hashlib.sha256).digest()
    expected = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert SigningKey(DATA).secret_of(key_id) == expected
    assert len(expected) == 43


def test_secrets_differ_by_signing_key_and_by_id():
    secrets = {
        SigningKey(data).secret_of(f"{i:016x}") for data in (DATA, bytes(32)) for i in range(50)
    }
    assert len(secrets) == 100


def test_a_signing_keys_name_tells_nothing_of_it():
    key = SigningKey(DATA)
    assert key.id == hashlib.sha256(b"squash signing key id v1\0" + DATA).hexdigest()[:16]
    assert repr(key) == "SigningKey()"


def test_what_is_there_is_taken_and_never_written_over():
    store = MemoryStore()
    assert load_signing_key(PLACE, store) is None
    made = ensure_signing_key(PLACE, store)
    assert len(made.data) == 32
    assert ensure_signing_key(PLACE, store) == made
    assert load_signing_key(PLACE, store) == made
    assert ensure_signing_key(KeyPlace(PlaceKind.STORE, "other"), store) != made
    assert sorted(store._objects) == ["_signing/key", "_signing/other"]


def test_of_many_who_make_one_at_once_all_take_the_same():
    store, made = MemoryStore(), []
    barrier = threading.Barrier(8)

    def make():
        barrier.wait()
        made.append(ensure_signing_key(PLACE, store))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len({key.data for key in made}) == 1


def test_no_index_can_lie_where_signing_keys_do():
    with pytest.raises(InvalidArgumentError):
        catalogue.check_index_name("_signing")


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c | {"version": 2}, lambda c: c | {"format": "x"}, lambda c: {}, lambda c: [c],
        lambda c: c | {"id": "0" * 16}, lambda c: c | {"key": "?"}, lambda c: c | {"key": ""},
        lambda c: c | {"key": base64.b64encode(bytes(32)).decode()}, lambda c: c | {"key": 1},
        lambda c: c | {"key": base64.b64encode(DATA[:31]).decode()},
    ],
)  # fmt: skip
def test_what_is_no_signing_key_is_refused_and_none_is_made(damage):
    """The message says where, and nothing of what is there."""
    store = MemoryStore()
    ensure_signing_key(PLACE, store, data=DATA)
    content = damage(json.loads(store.get("_signing/key")))
    store.put("_signing/key", json.dumps(content).encode())
    with pytest.raises(DataError, match="store:key") as caught:
        ensure_signing_key(PLACE, store)
    assert base64.b64encode(DATA).decode()[:20] not in str(caught.value)
    assert caught.value.__cause__ is None
    assert json.loads(store.get("_signing/key")) == content


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("", ["store:key"]), ("store", ["store:key"]), ("store:key-2", ["store:key-2"]),
        ("ssm:/squash/signing-key", ["ssm:/squash/signing-key"]),
        ("ssm:/b,ssm:/a , store", ["ssm:/b", "ssm:/a", "store:key"]),
    ],
)  # fmt: skip
def test_places_are_read_from_the_environment(word, expected):
    environment = {"SQUASH_SIGNING_KEY": word}
    assert [str(place) for place in read_signing_keys(environment)] == expected
    assert read_face(environment).s3vectors.signing_keys == read_signing_keys(environment)
    assert read_face({}).s3vectors.signing_keys == IN_THE_STORE


@pytest.mark.parametrize(
    "word",
    ["ssm", "ssm:", "ssm:name", "ssm:/", "ssm:/a b", "ssm:/a//b", "store:", "store:../x", "file:x",
     "store:_a", ",", "store,", "store,store,store,store,store", "ssm:/a;b"],
)  # fmt: skip
def test_what_is_no_place_is_refused_when_a_function_starts(word):
    with pytest.raises(InvalidArgumentError, match="SQUASH_SIGNING_KEY"):
        read_face({"SQUASH_SIGNING_KEY": word})
