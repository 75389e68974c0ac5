"""What a check of a folder finds, and parity with a reference."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from encoders_world import change_config, put_file, text_model, texts_of
from hypothesis import given, settings
from PIL import Image

from amounts import examples
from squash.encoders.check import TEXTS, check_folder
from squash.encoders.contract import PARITY_FILE, OverLong, Pooling
from squash.encoders.encoder import open_encoder
from squash.encoders.parity import Parity, compare, cosines, read_parity, write_parity
from squash.errors import ChecksumError, InvalidArgumentError, SquashError, UnsupportedFormatError
from squash.model import Purpose
from tiny_encoders import DIMENSION, make_dual_encoder, make_text_encoder

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def parity_of(texts, vectors, **changes) -> Parity:
    parity = Parity(Purpose.DOCUMENT, np.asarray(vectors, np.float32), 0.999, texts=tuple(texts))
    return replace(parity, **changes)


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.NONE])
@pytest.mark.parametrize("over_long", list(OverLong))
def test_good(tmp_path, pooling, over_long):
    """An encoder that is as it says passes, and is told by its digest."""
    digest = make_text_encoder(tmp_path, pooling=pooling, over_long=over_long)
    report = check_folder(tmp_path)
    assert report.digest == digest
    assert report.config.name == "tiny"
    assert (report.tried, report.parity) == (len(TEXTS), None)
    assert report.batch_agrees
    assert report.passed


def test_dual(tmp_path):
    """Both parts of a dual encoder are tried."""
    make_dual_encoder(tmp_path)
    report = check_folder(tmp_path)
    assert report.tried > len(TEXTS)
    assert report.passed


def test_batches_that_differ(tmp_path):
    """A model whose vectors depend on the others in a run is found out, unless each runs alone."""
    make_text_encoder(tmp_path)
    put_file(tmp_path, "model.onnx", text_model(node="mix"))
    report = check_folder(tmp_path)
    assert not report.batch_agrees
    assert report.batch_cosine_min < 0.999
    assert not report.passed
    change_config(tmp_path, lambda content: content["text"].update(batch=False))
    assert check_folder(tmp_path).passed


@pytest.mark.parametrize("pooling", [Pooling.CLS, Pooling.LAST])
def test_one_vector_for_all(tmp_path, pooling):
    """A pooling that makes the same vector of everything, as of words looked up, is refused."""
    make_text_encoder(tmp_path, pooling=pooling)
    with pytest.raises(InvalidArgumentError, match="same vector of all texts"):
        check_folder(tmp_path)


def test_not_finite(tmp_path):
    """A model that gives NaN does not pass a check."""
    make_text_encoder(tmp_path)
    put_file(tmp_path, "model.onnx", text_model(value=np.nan))
    with pytest.raises(InvalidArgumentError, match="not finite"):
        check_folder(tmp_path)


def test_tampered(tmp_path):
    """A check begins with the files."""
    make_text_encoder(tmp_path)
    with (tmp_path / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ChecksumError):
        check_folder(tmp_path)


def test_parity_of_a_folder(tmp_path):
    """An encoder that brings a reference's vectors is compared with them, for their purpose."""
    make_text_encoder(tmp_path, query_prefix="the old ")
    texts = ["red dog", "", "a very long text " * 20]
    vectors = texts_of(open_encoder(tmp_path), texts, purpose=Purpose.QUERY).vectors
    parity = parity_of(texts, vectors, purpose=Purpose.QUERY)
    put_file(tmp_path, PARITY_FILE, write_parity(parity))
    report = check_folder(tmp_path)
    assert report.parity.inputs == 3
    assert report.parity.cosine_min == pytest.approx(1, abs=1e-6)
    assert report.parity.passed
    assert report.passed
    # The same vectors as those of documents, which have another prefix, are not near enough.
    wrong = write_parity(replace(parity, purpose=Purpose.DOCUMENT))
    put_file(tmp_path, PARITY_FILE, wrong)
    report = check_folder(tmp_path)
    assert report.parity.cosine_min < report.parity.cosine_mean < 1
    assert report.parity.required == 0.999
    assert not report.passed


def test_parity_of_images(tmp_path):
    """Texts and images are compared in one go: the vectors of texts stand first."""
    make_dual_encoder(tmp_path)
    encoder = open_encoder(tmp_path)
    out = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(out, "PNG")
    parity = parity_of(["red"], np.zeros((2, DIMENSION)), images=(out.getvalue(),))
    made = [encoder.encode(inputs, purpose=parity.purpose).vectors for inputs in parity.inputs]
    parity = replace(parity, vectors=np.concatenate(made))
    assert compare(read_parity(write_parity(parity)), encoder).passed
    assert not compare(replace(parity, vectors=parity.vectors[::-1].copy()), encoder).passed


def test_parity_of_another_dimension(tmp_path):
    """A reference of another dimension is no reference of this encoder."""
    make_text_encoder(tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"\[1, 16\].*\[1, 8\]"):
        compare(parity_of(["red"], np.ones((1, 8))), open_encoder(tmp_path))


@settings(max_examples=examples(50, least=25))
@given(st.lists(TEXT, max_size=5), st.lists(st.binary(max_size=9), max_size=3), st.data())
def test_round_trip(texts, images, data):
    """A parity file comes back as it was written, to the bits of its vectors."""
    rows = len(texts) + len(images)
    dimension = data.draw(st.integers(1, 9))
    generator = np.random.default_rng(rows)
    vectors = generator.standard_normal((rows, dimension)).astype(np.float32)
    required = data.draw(st.floats(-1, 1))
    parity = Parity(Purpose.QUERY, vectors, required, tuple(texts), tuple(images))
    if rows == 0:
        with pytest.raises(InvalidArgumentError):
            write_parity(parity)
        return
    stored = write_parity(parity)
    found = read_parity(stored)
    assert found.vectors.tobytes() == vectors.tobytes()
    assert replace(found, vectors=vectors) == parity
    assert write_parity(found) == stored


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("purpose", ["both", None, 7, []]),
        ("texts", ["red", None, [7], ["a", "b"], []]),
        ("images", ["red", ["?"], ["é"], ["aGk="], [7]]),
        ("dimension", [0, 3, "2", None, 2.0, 10**9, True]),
        ("vectors", ["", "????", None, 7, "AAAA", "AADAfwAAwH8="]),
        ("cosine_min", [1.5, -2, "1", None, True, float("nan")]),
        ("odd", [1]),
    ],
)
def test_wrong_parity(member, values):
    """A member of a parity file that is wrong is named."""
    good = json.loads(write_parity(parity_of(["red"], [[1, 2]])))
    for value in values:
        with pytest.raises(InvalidArgumentError) as caught:
            read_parity(json.dumps({**good, member: value}).encode())
        assert caught.value.field is not None
        read_parity(json.dumps(good).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"null", b"[" * 99_999, b"\xff"])
def test_no_parity(data):
    """What is no parity file is refused."""
    with pytest.raises(InvalidArgumentError):
        read_parity(data)


def test_parity_version():
    """A later version is told from a broken file, and a missing member is named."""
    good = json.loads(write_parity(parity_of(["red"], [[1, 2]])))
    with pytest.raises(UnsupportedFormatError):
        read_parity(json.dumps({**good, "version": 2}).encode())
    del good["texts"]
    with pytest.raises(InvalidArgumentError, match="texts is missing"):
        read_parity(json.dumps(good).encode())


@pytest.mark.parametrize("seed", range(60))
def test_broken_parity(seed):
    """A parity file with any bytes changed is read or refused: nothing else."""
    chance = random.Random(seed)
    data = bytearray(write_parity(parity_of(["red", "dog"], [[1, 2], [3, 4]])))
    for _ in range(3):
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        assert len(read_parity(bytes(data)).vectors) == 2
    except SquashError as error:
        assert str(error)


def test_cosines():
    """Cosines are those of the definition; none is near to a vector of length zero."""
    left = np.array([[1, 0], [1, 1], [0, 0], [1e-20, 0]], np.float32)
    right = np.array([[2, 0], [1, -1], [1, 0], [5, 0]], np.float32)
    np.testing.assert_allclose(cosines(left, right), [1, 0, 0, 1], atol=1e-7)
