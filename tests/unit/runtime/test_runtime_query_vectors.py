"""Remembered query vectors: the same answers, asked of the encoder once, within their bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.encoders.encoded import Encoded
from squash.errors import InvalidArgumentError
from squash.model import EncoderPin, Inputs, Modality, Purpose
from squash.runtime.encoding import EncodedFor
from squash.runtime.query_vectors import QueryVectors
from squash.search.spending import Spent

PIN = EncoderPin("fake", "0" * 64)
OTHER = EncoderPin("fake", "1" * 64)


class Fake:
    """Makes a vector of a text's length and the encoder; long texts are truncated or chunked."""

    def __init__(self):
        self.asked = []

    def encode(self, pin, inputs, *, purpose, dimension, deadline_ms=None, told=None):
        self.asked.append(list(inputs.items))
        for place, item in enumerate(inputs.items):
            if item in {"bad", b"bad"}:
                raise InvalidArgumentError("bad", field=f"{inputs.modality}s[{place}]")
        vectors = np.array(
            [
                [hash((item, pin.digest, inputs.modality)) % 1000] * dimension
                for item in inputs.items
            ],
            np.float32,
        ).reshape(len(inputs), dimension)
        long = [place for place, item in enumerate(inputs.items) if len(item) > 3]
        encoded = Encoded(
            vectors,
            sum(map(len, inputs.items)),
            tuple(place for place in long if len(inputs.items[place]) % 2),
            tuple(place for place in long if not len(inputs.items[place]) % 2),
        )
        return EncodedFor(encoded, Spent(invocations=1))


def ask(encoding, *items, pin=PIN, dimension=2, purpose=Purpose.QUERY):
    modality = Modality.IMAGE if items and isinstance(items[0], bytes) else Modality.TEXT
    return encoding.encode(pin, Inputs(modality, items), purpose=purpose, dimension=dimension)


def test_a_question_asked_again_spends_nothing():
    """No tokens, no calls; what was done to it is said again."""
    fake = Fake()
    vectors = QueryVectors(fake)
    first = ask(vectors, "abcde")
    again = ask(vectors, "abcde")
    assert fake.asked == [["abcde"]]
    np.testing.assert_array_equal(first.encoded.vectors, again.encoded.vectors)
    assert (first.encoded.tokens, again.encoded.tokens) == (5, 0)
    assert (first.spent.invocations, again.spent.invocations) == (1, 0)
    assert first.encoded.truncated == again.encoded.truncated == (0,)


def test_only_the_same_is_the_same():
    """Another encoder, dimension, modality or text is another question; documents pass through."""
    fake = Fake()
    vectors = QueryVectors(fake)
    for times in (1, 2):
        ask(vectors, "abc")
        ask(vectors, "abc", pin=OTHER)
        ask(vectors, "abc", dimension=3)
        ask(vectors, b"abc")
        ask(vectors, "abd")
        assert len(fake.asked) == 5
        del times
    for count in (6, 7):
        ask(vectors, "abc", purpose=Purpose.DOCUMENT)
        assert len(fake.asked) == count


@given(st.lists(st.lists(st.sampled_from(["", "a", "b", "long", "longer", "odd long"]))))
def test_the_twin_without_memory_says_the_same(calls):
    """Whatever was asked before: vectors, and places of what was truncated and chunked."""
    fake = Fake()
    vectors = QueryVectors(fake, bytes_max=3 * 520)
    for call in calls:
        mine, plain = ask(vectors, *call).encoded, ask(Fake(), *call).encoded
        np.testing.assert_array_equal(mine.vectors, plain.vectors)
        assert (mine.truncated, mine.chunked) == (plain.truncated, plain.chunked)
        assert vectors.bytes <= 3 * 520
    assert all(len(set(asked)) == len(asked) > 0 for asked in fake.asked)


def test_an_error_names_the_place_in_the_call():
    """Although the encoder was asked for fewer."""
    vectors = QueryVectors(Fake())
    ask(vectors, "a", "b")
    with pytest.raises(InvalidArgumentError) as told:
        ask(vectors, "a", "c", "b", "bad")
    assert told.value.field == "texts[3]"
    with pytest.raises(InvalidArgumentError) as told:
        ask(vectors, "bad")
    assert told.value.field == "texts[0]"


def test_the_least_used_is_forgotten():
    """What is asked for again and again stays."""
    fake = Fake()
    vectors = QueryVectors(fake, bytes_max=2 * 520)
    for text in ("a", "b", "a", "c", "a", "d", "a"):
        ask(vectors, text)
    assert fake.asked == [["a"], ["b"], ["c"], ["d"]]
    ask(vectors, "c")
    assert fake.asked[-1] == ["c"]


def test_a_memory_too_small_for_one():
    """It remembers nothing, and answers."""
    fake = Fake()
    vectors = QueryVectors(fake, bytes_max=100)
    np.testing.assert_array_equal(ask(vectors, "a").encoded.vectors, ask(fake, "a").encoded.vectors)
    assert vectors.bytes == 0


def test_what_is_given_out_is_the_callers():
    """To write into it changes no later answer."""
    vectors = QueryVectors(Fake())
    first = ask(vectors, "a").encoded.vectors
    before = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(ask(vectors, "a").encoded.vectors, before)


def test_many_threads():
    """They agree, and the count of bytes is that of what is kept."""
    vectors = QueryVectors(Fake(), bytes_max=20 * 520)
    texts = [f"t{i % 30}" for i in range(600)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: ask(vectors, text).encoded.vectors[0, 0], texts))
    assert found == [ask(Fake(), text).encoded.vectors[0, 0] for text in texts]
    assert vectors.bytes == len(vectors._kept) * 520
