"""What is no content is refused, by name and place, and nothing is written of it."""

from __future__ import annotations

import numpy as np
import pytest
from content_world import DIMENSION, tiny

from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    TooLargeError,
    UnavailableError,
)
from squash.limits import IMAGE_BYTES_MAX, METADATA_BYTES_MAX, TEXT_BYTES_MAX

BAD = [
    (["ok", 3], "texts[1]", InvalidArgumentError),
    (["ok", None], "texts[1]", InvalidArgumentError),
    ([b"ok"], "texts[0]", InvalidArgumentError),
    (["\ud800"], "texts[0]", InvalidArgumentError),
    (["ok", "x" * (TEXT_BYTES_MAX + 1)], "texts[1]", TooLargeError),
    (["é" * (TEXT_BYTES_MAX // 2 + 1)], "texts[0]", TooLargeError),
    ("text", "texts", InvalidArgumentError),
    (b"text", "texts", InvalidArgumentError),
    ({"a": 1}, "texts", InvalidArgumentError),
    (3, "texts", InvalidArgumentError),
]


@pytest.mark.parametrize(("texts", "field", "error"), BAD)
def test_what_is_no_text(db, folders, letters, texts, field, error):
    """Its place is named, and nothing is encoded."""
    index = tiny(db, folders, text_key=None)
    keys = [f"k{i}" for i in range(len(texts))] if isinstance(texts, list) else ["a"]
    for call in (
        lambda: index.put(keys=keys, texts=texts),
        lambda: index.query_many(texts=texts),
    ):
        with pytest.raises(error) as told:
            call()
        assert told.value.field == field
    if isinstance(texts, list) and texts[-1] is not None:
        with pytest.raises(error) as told:
            index.query(text=texts[-1])
        assert told.value.field == "text"
    assert letters.asked == []


def test_too_many_texts(db, folders, letters, monkeypatch):
    """The limits of keys and of queries hold for texts, and nothing is encoded."""
    index = tiny(db, folders)
    monkeypatch.setattr("squash.database.arguments.QUERIES_PER_CALL_MAX", 2)
    monkeypatch.setattr("squash.index.checking.KEYS_PER_CALL_MAX", 2)
    with pytest.raises(InvalidArgumentError, match="at most 2 queries"):
        index.query_many(texts=["a", "b", "c"])
    with pytest.raises(TooLargeError, match="at most 2"):
        index.put(keys=["a", "b", "c"], texts=["a", "b", "c"])
    with pytest.raises(InvalidArgumentError, match="2 queries and 1 filters"):
        index.query_many(texts=["a", "b"], filters=[None])
    assert letters.asked == []


def test_what_is_no_image(db, letters):
    """Likewise."""
    index = db.create_index("x", encoder="tiny-dual")
    for images, field, error in (
        (["text"], "images[0]", InvalidArgumentError),
        ([b"ok", bytes(IMAGE_BYTES_MAX + 1)], "images[1]", TooLargeError),
        (b"image", "images", InvalidArgumentError),
    ):
        with pytest.raises(error) as told:
            index.put(keys=["a"] * len(images), images=images)
        assert told.value.field == field
    with pytest.raises(InvalidArgumentError) as told:
        index.query(image="path.png")
    assert told.value.field == "image"
    assert letters.asked == []


def test_records_are_checked_before_anything_is_encoded(db, folders, letters):
    """Keys, numbers of things, metadata, the text's size and place."""
    index = tiny(db, folders, attributes={"n": "number"})
    for more, field in (
        ({"keys": ["a", "a"]}, "keys[1]"),
        ({"keys": ["a", ""]}, "keys[1]"),
        ({"keys": ["a"]}, "texts"),
        ({"metadata": [{}]}, "metadata"),
        ({"metadata": [{}, {"n": "one"}]}, "metadata.n"),
        ({"metadata": [{}, "none"]}, "metadata"),
        ({"metadata": [{}, {"text": "another"}]}, "metadata[1].text"),
        ({"metadata": [{}, {"text": None}]}, "metadata[1].text"),
        ({"texts": ["ok", "x" * (METADATA_BYTES_MAX + 1)]}, "texts[1]"),
        ({"texts": ["ok", "x" * (METADATA_BYTES_MAX - 10)]}, "texts[1]"),  # and {"text":""}
        ({"texts": ["ok", "\n" * (METADATA_BYTES_MAX // 2)]}, "texts[1]"),
    ):
        with pytest.raises((InvalidArgumentError, TooLargeError)) as told:
            index.put(**{"keys": ["a", "b"], "texts": ["alpha", "beta"]} | more)
        assert told.value.field == field, more
    assert letters.asked == []
    assert index.stats().rows == 0


def test_a_text_is_not_patched(db, folders):
    """Its vector would be another's; all else is patched as ever."""
    index = tiny(db, folders)
    index.put(keys=["a", "b"], texts=["alpha", "beta"])
    for value in ("gamma", "beta", None):
        with pytest.raises(InvalidArgumentError, match="put the record with its new text") as told:
            index.patch(keys=["a", "b"], metadata=[{"n": 1}, {"text": value}])
        assert (told.value.key, told.value.field) == ("b", "metadata[1].text")
    index.patch(keys=["a"], metadata=[{"n": 1}])
    assert index.get(keys=["a"])[0].metadata == {"n": 1, "text": "alpha"}


def test_a_lost_race_encodes_nothing_again(db, folders, letters):
    """Encoding is done before the commit, once, however often that is tried."""
    index = tiny(db, folders)
    other = db.index("x")
    put = index.put(keys=["a"], texts=["alpha"])
    other.put(keys=["b"], texts=["beta"])
    assert index.put(keys=["c"], texts=["gamma"]).snapshot == put.snapshot + 2
    assert len(letters.asked) == 3
    with pytest.raises(ConflictError):
        index.put(keys=["a"], texts=["alpha"], if_absent=True)


def test_what_fails_to_encode_writes_nothing(db, folders, letters):
    """The error of whoever encodes comes through as it is."""
    index = tiny(db, folders)
    letters.error = UnavailableError("nobody there")
    for call in (
        lambda: index.put(keys=["a"], texts=["alpha"]),
        lambda: index.query(text="alpha"),
    ):
        with pytest.raises(UnavailableError, match="nobody there"):
            call()
    assert index.stats().snapshot == 0


@pytest.mark.parametrize(
    "vectors",
    [np.ones((1, DIMENSION - 1)), np.ones((2, DIMENSION)), np.full((1, DIMENSION), np.nan)],
)
def test_vectors_that_do_not_fit_are_not_taken(db, folders, letters, vectors):
    """An encoder that breaks its word is told as damage."""
    index = tiny(db, folders)
    letters.vectors = vectors.astype(np.float32)
    for call in (
        lambda: index.put(keys=["a"], texts=["alpha"]),
        lambda: index.query_many(texts=["alpha"]),
    ):
        with pytest.raises(DataError, match="gave vectors"):
            call()
    assert index.stats().snapshot == 0
