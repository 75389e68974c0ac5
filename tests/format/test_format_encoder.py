"""Encoders and indexes that pin them, as earlier releases wrote them: they answer the same."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from make_golden import expected_of, open_database, store_of, stored_of
from make_golden_encoder import VERSION, answers_of, make

from squash.errors import DataError, UnsupportedFormatError
from squash.index import catalogue
from squash.storage import MemoryStore


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SQUASH_ENCODER_CACHE", str(tmp_path / "cache"))


def test_it_answers_the_same():
    """Records are those written; texts are encoded by the encoder written, and find the same."""
    found, expected = answers_of(open_database(store_of(VERSION))), expected_of(VERSION)
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name]["records"] == one["records"]
        for mine, theirs in zip(found[name]["answers"], one["answers"], strict=True):
            assert [key for key, _ in mine] == [key for key, _ in theirs]
            np.testing.assert_allclose([d for _, d in mine], [d for _, d in theirs], atol=1e-5)


def test_the_writer_writes_the_same(tmp_path):
    """Written anew, the same kinds of objects lie in the same places, and say the same."""
    store = MemoryStore()
    make(store)
    (info,) = open_database(store).encoders.list()
    (golden,) = open_database(store_of(VERSION)).encoders.list()
    written = {key.key: bytes(store.get(key.key)) for key in store.list("")}
    # Another release of onnx may write the same model by other bytes, and so of another digest.
    assert {key.replace(info.digest, golden.digest) for key in written} == set(stored_of(VERSION))
    for name in ("texts", "short"):
        mine, theirs = (
            json.loads(one[f"{name}/index.json"]) for one in (written, stored_of(VERSION))
        )
        mine["encoder"]["digest"] = golden.digest
        for volatile in ("crc32", "created_ms"):
            del mine[volatile], theirs[volatile]
        assert mine == theirs
        assert list(mine) == list(theirs)
    assert open_database(store).index("texts").verify().damages == ()


def changed(store, name, change):
    """Change an `index.json` as a hand would that knows the checksum."""
    content = json.loads(store.get(f"{name}/index.json"))
    change(content)
    rest = {key: value for key, value in content.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    content["crc32"] = f"{zlib.crc32(text.encode()):08x}"
    store.put(f"{name}/index.json", json.dumps(content).encode())


WRONG = [
    (lambda c: c["encoder"].update(digest="0" * 63), DataError),
    (lambda c: c["encoder"].update(digest=None), DataError),
    (lambda c: c["encoder"].update(name="../tiny"), DataError),
    (lambda c: c["encoder"].update(text_key="elsewhere"), DataError),
    (lambda c: c["encoder"].update(text_key=""), DataError),
    (lambda c: c["encoder"].pop("text_key"), DataError),
    (lambda c: c.update(encoder=None), DataError),
    (lambda c: c.update(encoder="tiny"), DataError),
    (lambda c: c.pop("encoder"), DataError),
    (lambda c: c.update(non_filterable=[]), DataError),
    (lambda c: c["attributes"].update(text="string"), DataError),
    (lambda c: c["features"].append("encoders"), UnsupportedFormatError),
]


@pytest.mark.parametrize(("change", "error"), WRONG)
def test_a_pin_that_cannot_be_is_refused(change, error):
    """It is told as damage of the object, and no other index suffers."""
    store = store_of(VERSION)
    changed(store, "texts", change)
    with pytest.raises(error) as told:
        catalogue.load(store, "texts")
    assert told.value.object_key == "texts/index.json"
    catalogue.load(store, "short")


def test_without_its_feature_the_field_says_nothing():
    """As the first releases had it: such an index has no encoder."""
    store = store_of(VERSION)
    changed(store, "texts", lambda content: content.update(features=["expires"]))
    assert catalogue.load(store, "texts").config.encoder is None
