"""Texts to vectors: the same whatever else is in the call, and as a plain twin makes them."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from encoders_world import plain_vector, put_file, text_model, text_table, texts_of
from hypothesis import given, settings

from amounts import examples
from squash.encoders.contract import OverLong, Pooling
from squash.encoders.encoder import open_encoder
from squash.encoders.text import plan_runs, pool
from squash.encoders.tokens import TextTokenizer
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import ENCODE_BATCH_TOKENS, TEXT_BYTES_MAX
from squash.model import Inputs, Modality, Purpose
from tiny_encoders import DIMENSION, TOKENS_MAX, WORDS, make_text_encoder

WORD = st.sampled_from([*WORDS, "unheard"])
TEXT = st.lists(WORD, max_size=30).map(" ".join)
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=80)
POOLINGS = [Pooling.MEAN, Pooling.CLS, Pooling.LAST]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Open encoders by pooling and what is done with long texts, and their folders."""
    made = {}
    for pooling in Pooling:
        for over_long in OverLong:
            folder = tmp_path_factory.mktemp(f"{pooling}-{over_long}")
            make_text_encoder(folder, pooling=pooling, over_long=over_long)
            made[pooling, over_long] = (open_encoder(folder), folder)
    return made


@pytest.fixture(scope="module")
def encoder(encoders):
    return encoders[Pooling.MEAN, OverLong.TRUNCATE][0]


@pytest.fixture(scope="module")
def chunking(encoders):
    return encoders[Pooling.MEAN, OverLong.CHUNK][0]


@given(
    st.lists(st.integers(0, 3 * ENCODE_BATCH_TOKENS) | st.integers(0, 40), max_size=300),
    st.none() | st.integers(1, 9),
)
def test_runs(lengths, rows_max):
    """Runs cover each row once, are of one length, and hold no more tokens than they may."""
    runs = list(plan_runs(lengths, rows_max=rows_max))
    assert sorted(np.concatenate([*runs, []]).tolist()) == list(range(len(lengths)))
    for run in runs:
        (length,) = {lengths[row] for row in run}
        assert len(run) == 1 or len(run) * length <= ENCODE_BATCH_TOKENS
        assert rows_max is None or len(run) <= rows_max
    # Two runs of one length are two because one would have been too large.
    tokens = [lengths[run[0]] for run in runs]
    assert tokens == sorted(tokens)
    if rows_max is None:
        for before, after in pairwise(runs):
            length = lengths[before[0]]
            if length == lengths[after[0]]:
                assert (len(before) + 1) * length > ENCODE_BATCH_TOKENS


@pytest.mark.parametrize("pooling", list(Pooling))
@settings(max_examples=examples(40, least=25), deadline=None)
@given(texts=st.lists(TEXT | ANY_TEXT, max_size=20))
def test_batch_and_single(encoders, pooling, texts):
    """A list of texts is encoded as each of them alone."""
    encoder, _ = encoders[pooling, OverLong.TRUNCATE]
    together = texts_of(encoder, texts)
    assert together.vectors.shape == (len(texts), DIMENSION)
    assert together.vectors.dtype == np.float32
    alone = [texts_of(encoder, [text]) for text in texts]
    assert together.tokens == sum(one.tokens for one in alone)
    assert together.truncated == tuple(i for i, one in enumerate(alone) if one.truncated)
    for vector, one in zip(together.vectors, alone, strict=True):
        np.testing.assert_allclose(vector, one.vectors[0], rtol=0, atol=1e-6)


@settings(max_examples=examples(40, least=25), deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_order(encoder, texts, chance):
    """The order of texts does not matter: each has its vector, at its place."""
    order = list(range(len(texts)))
    chance.shuffle(order)
    straight = texts_of(encoder, texts).vectors
    mixed = texts_of(encoder, [texts[place] for place in order]).vectors
    np.testing.assert_allclose(mixed, straight[order], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@settings(max_examples=examples(40, least=25), deadline=None)
@given(words=st.lists(WORD, max_size=30))
def test_pooling_twin(encoders, pooling, words):
    """A text's vector is that of a plain twin in double precision, truncated as it is."""
    encoder, folder = encoders[pooling, OverLong.TRUNCATE]
    wanted = plain_vector(words, text_table(folder), pooling)
    found = texts_of(encoder, [" ".join(words)]).vectors[0]
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted), rtol=0, atol=1e-6)


def test_pooling_of_the_model(encoders):
    """A model that pools by itself makes what is made of one that leaves it to the encoder."""
    texts = ["red dog", "", "the old house falls"]
    ours, theirs = (
        texts_of(encoders[pooling, OverLong.TRUNCATE][0], texts).vectors
        for pooling in (Pooling.MEAN, Pooling.NONE)
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pool_long(pooling):
    """The mean of many vectors is not worn off by sums in single precision."""
    vectors = np.full((1, 30_000, 2), 0.1, np.float32)
    np.testing.assert_allclose(pool(vectors, pooling), [[0.1, 0.1]], rtol=1e-7)


@settings(max_examples=examples(60, least=25), deadline=None)
@given(st.lists(WORD, max_size=TOKENS_MAX - 2).map(" ".join))
def test_chunk_short(encoder, chunking, text):
    """A text that is not too long is encoded the same, whatever is done with long ones."""
    whole, parts = texts_of(encoder, [text]), texts_of(chunking, [text])
    assert whole.vectors.tobytes() == parts.vectors.tobytes()
    assert (whole.tokens, whole.truncated, whole.chunked) == (parts.tokens, (), ())
    assert (parts.truncated, parts.chunked) == ((), ())


@settings(max_examples=examples(60, least=25), deadline=None)
@given(st.lists(WORD, min_size=TOKENS_MAX - 1, max_size=50))
def test_chunk_long(encoders, words):
    """A long text's vector is the mean of its parts', weighted by their tokens."""
    encoder, folder = encoders[Pooling.MEAN, OverLong.CHUNK]
    table = text_table(folder)
    step = TOKENS_MAX - 2
    parts = [words[first : first + step] for first in range(0, len(words), step)]
    weights = [len(part) + 2 for part in parts]
    vectors = [plain_vector(part, table, Pooling.MEAN) for part in parts]
    wanted = np.average(vectors, axis=0, weights=weights)
    found = texts_of(encoder, ["red", " ".join(words)])
    assert (found.chunked, found.truncated) == ((1,), ())
    assert found.tokens == 3 + sum(weights)
    wanted /= np.linalg.norm(wanted)
    np.testing.assert_allclose(found.vectors[1], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("over_long", list(OverLong))
@settings(max_examples=examples(40, least=25), deadline=None)
@given(text=TEXT | ANY_TEXT)
def test_windows_twin(tmp_path_factory, over_long, text):
    """Windows hold the prefix, then each token of a text once, in order, within the limit."""
    folder = tmp_path_factory.mktemp("windows")
    make_text_encoder(folder, over_long=over_long, query_prefix="the old ")
    part = open_encoder(folder).config.text
    tokenizer = TextTokenizer(folder / "tokenizer.json", part)
    free = TextTokenizer(folder / "tokenizer.json", replace(part, tokens_max=10_000))
    (whole,) = free.tokens(text, Purpose.QUERY).windows
    found = tokenizer.tokens(text, Purpose.QUERY)
    assert found.over_long == (len(whole) > TOKENS_MAX)
    prefix, body = whole[1:3].tolist(), []
    for window in found.windows:
        assert len(window) <= TOKENS_MAX
        assert (window[0], window[-1]) == (whole[0], whole[-1])
        assert window[1:3].tolist() == prefix
        body += window[3:-1].tolist()
    wanted = whole[3:-1].tolist()
    assert body == (wanted if over_long is OverLong.CHUNK else wanted[: TOKENS_MAX - 4])


def test_prefixes(tmp_path):
    """A text is encoded after the words that its purpose puts before it."""
    make_text_encoder(tmp_path, query_prefix="the old ", document_prefix="a new ")
    encoder = open_encoder(tmp_path)
    make_text_encoder(tmp_path / "plain")
    plain = open_encoder(tmp_path / "plain")
    for purpose, prefix in ((Purpose.QUERY, "the old "), (Purpose.DOCUMENT, "a new ")):
        found = texts_of(encoder, ["dog", ""], purpose=purpose).vectors
        wanted = texts_of(plain, [prefix + "dog", prefix]).vectors
        np.testing.assert_array_equal(found, wanted)


def test_special_tokens_in_a_text(encoder):
    """Words of a text that look like special tokens are words: nobody ends it before its end."""
    vectors = texts_of(encoder, ["red [SEP] dog", "red"]).vectors
    assert float(vectors[0] @ vectors[1]) < 0.99


@settings(max_examples=examples(30, least=25), deadline=None)
@given(TEXT)
def test_normalised_and_cut(encoder, text):
    """Vectors have length one, also once they are cut; and cut ones point where they did."""
    whole = texts_of(encoder, [text]).vectors[0]
    cut = texts_of(encoder, [text], dimension=8).vectors[0]
    assert cut.shape == (8,)
    for vector in (whole, cut):
        assert abs(np.linalg.norm(vector.astype(np.float64)) - 1) < 1e-6
    np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), rtol=0, atol=1e-6)


def test_dimension_unknown(encoder):
    """A dimension that the model was not trained for is refused, with those that it was."""
    with pytest.raises(InvalidArgumentError, match="16 or 8 dimensions, not 4") as caught:
        texts_of(encoder, ["red"], dimension=4)
    assert caught.value.field == "dimension"


def test_none(encoder):
    """No texts are no vectors."""
    found = texts_of(encoder, [])
    assert found.vectors.shape == (0, DIMENSION)
    assert texts_of(encoder, [], dimension=8).vectors.shape == (0, 8)


def test_told(chunking):
    """How many texts are done is told as it grows, and reaches all of them."""
    heard = []
    texts_of(chunking, ["red " * 50, "dog", "the old dog", "cat"], told=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 4
    assert heard[0] == 2  # the two shortest share a run


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (7, InvalidArgumentError, "is a string, not int"),
        (None, InvalidArgumentError, "is a string, not NoneType"),
        (b"red", InvalidArgumentError, "is a string, not bytes"),
        ("red \ud800 dog", InvalidArgumentError, "surrogate pair stands at character 4"),
        ("x" * (TEXT_BYTES_MAX + 1), TooLargeError, "TEXT_BYTES_MAX"),
        ("é" * (TEXT_BYTES_MAX // 2 + 1), TooLargeError, "TEXT_BYTES_MAX"),
    ],
)
def test_bad_text(encoder, text, kind, message):
    """What is no text, or too long a one, is refused with its place before a model runs."""
    heard = []
    with pytest.raises(kind, match=message) as caught:
        texts_of(encoder, ["red", "dog", text], told=heard.append)
    assert caught.value.field == "texts[2]"
    assert heard == []


def test_longest_text(encoder):
    """The longest text that is taken can be encoded."""
    found = texts_of(encoder, ["x" * TEXT_BYTES_MAX, ("red " * TEXT_BYTES_MAX)[:TEXT_BYTES_MAX]])
    assert found.truncated == (1,)


def test_zero_vector(tmp_path):
    """A vector without a direction names the text; where vectors are not normalised it is one."""
    make_text_encoder(tmp_path)
    put_file(tmp_path, "model.onnx", text_model(value=0.0))
    with pytest.raises(InvalidArgumentError, match="length zero") as caught:
        texts_of(open_encoder(tmp_path), ["red"])
    assert caught.value.field == "texts[0]"


@pytest.mark.parametrize("value", [1e-30, 1e30])
def test_extreme_lengths(tmp_path, value):
    """Vectors whose squares are beyond floats are normalised all the same."""
    make_text_encoder(tmp_path)
    put_file(tmp_path, "model.onnx", text_model(value=value))
    vectors = texts_of(open_encoder(tmp_path), ["red"]).vectors
    np.testing.assert_allclose(vectors, DIMENSION**-0.5, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, value):
    """A vector that is not finite is no vector, and names the text."""
    make_text_encoder(tmp_path)
    put_file(tmp_path, "model.onnx", text_model(value=value))
    with pytest.raises(InvalidArgumentError, match="not finite") as caught:
        texts_of(open_encoder(tmp_path), ["red"])
    assert caught.value.field == "texts[0]"


def test_alone_in_a_run(tmp_path):
    """Where texts may not share a run they do not: each has the vector that it has alone."""
    make_text_encoder(tmp_path, batch=False)
    put_file(tmp_path, "model.onnx", text_model(node="mix"))
    encoder = open_encoder(tmp_path)
    texts = ["red dog", "blue cat", "old tree"]
    alone = [texts_of(encoder, [text]).vectors[0] for text in texts]
    np.testing.assert_array_equal(texts_of(encoder, texts).vectors, alone)


def test_no_images(encoder):
    """An encoder of texts refuses images."""
    with pytest.raises(InvalidArgumentError, match="encodes no images, only texts"):
        encoder.encode(Inputs(Modality.IMAGE, [b"x"]), purpose=Purpose.QUERY)


def test_threads(encoder):
    """Threads that share an encoder have each its own vectors."""
    texts = [f"{first} {second}" for first in WORDS[:12] for second in WORDS[:12]]
    wanted = texts_of(encoder, texts).vectors
    found: dict[int, np.ndarray] = {}

    def work(offset: int) -> None:
        mine = [*texts[offset:], *texts[:offset]]
        found[offset] = np.roll(texts_of(encoder, mine).vectors, offset, axis=0)

    workers = [threading.Thread(target=work, args=(offset,)) for offset in range(0, 80, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == len(workers)
    for vectors in found.values():
        np.testing.assert_allclose(vectors, wanted, rtol=0, atol=1e-6)
