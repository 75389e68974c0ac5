"""Models of other kinds than BERT: tables of token vectors, and EfficientNet-Lite0."""

import numpy as np
import onnxruntime
import pytest

from squash.encoders.export.effnet import DIMENSION, SIZE, build_efficientnet
from squash.encoders.export.static import build_static
from squash.errors import InvalidArgumentError
from tiny_models import run_tokens

TABLE = np.random.default_rng(2).standard_normal((12, 5)).astype(np.float32)


def test_a_text_is_the_mean_of_its_known_words():
    model = build_static({"embeddings": TABLE}, unknown=1)
    found = run_tokens(model, [[4, 1, 7], [3, 3, 5]], [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_allclose(found[0], TABLE[[4, 7]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found[1], TABLE[3], atol=1e-6)


@pytest.mark.parametrize("rows", [[[1, 1]], [[]]])
def test_a_text_without_a_known_word_has_the_mean_of_the_table(rows):
    model = build_static({"embeddings": TABLE}, unknown=1)
    found = run_tokens(model, rows)
    np.testing.assert_allclose(found, TABLE.mean(axis=0, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("table", [TABLE[0], TABLE.astype(np.int8), TABLE[:0]])
def test_a_tensor_that_is_no_table_is_refused(table):
    with pytest.raises(InvalidArgumentError, match="not a table of floats"):
        build_static({"embeddings": table}, unknown=None)


def convolution(rng, weights, name, norm, *shape):
    """Add the random weights of a convolution and of its normalisation."""
    spread = np.sqrt(2 / np.prod(shape[1:]))
    weights[f"{name}.weight"] = (rng.standard_normal(shape) * spread).astype(np.float32)
    for part, low, high in (
        ("weight", 0.5, 1.5),
        ("bias", -0.5, 0.5),
        ("running_mean", -0.5, 0.5),
        ("running_var", 0.5, 1.5),
    ):
        weights[f"{norm}.{part}"] = rng.uniform(low, high, shape[0]).astype(np.float32)


@pytest.fixture(scope="module")
def lite0():
    """Random weights of EfficientNet-Lite0, its blocks written out one by one."""
    rng = np.random.default_rng(4)
    weights = {}
    convolution(rng, weights, "_conv_stem", "_bn0", 32, 3, 3, 3)
    blocks = [(32, 16, 3, 1), (16, 24, 3, 6), (24, 24, 3, 6), (24, 40, 5, 6), (40, 40, 5, 6)]
    blocks += [(40, 80, 3, 6), (80, 80, 3, 6), (80, 80, 3, 6)]
    blocks += [(80, 112, 5, 6), (112, 112, 5, 6), (112, 112, 5, 6)]
    blocks += [(112, 192, 5, 6), *[(192, 192, 5, 6)] * 3, (192, 320, 3, 6)]
    for number, (before, after, kernel, expand) in enumerate(blocks):
        name, wide = f"_blocks.{number}", before * expand
        if expand > 1:
            convolution(rng, weights, f"{name}._expand_conv", f"{name}._bn0", wide, before, 1, 1)
        convolution(
            rng, weights, f"{name}._depthwise_conv", f"{name}._bn1", wide, 1, kernel, kernel
        )
        convolution(rng, weights, f"{name}._project_conv", f"{name}._bn2", after, wide, 1, 1)
    convolution(rng, weights, "_conv_head", "_bn1", DIMENSION, 320, 1, 1)
    return weights


def test_efficientnet_gives_finite_features_that_differ_by_image_and_not_by_batch(lite0):
    session = onnxruntime.InferenceSession(build_efficientnet(lite0).SerializeToString())
    images = np.random.default_rng(6).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    images[1, :100] = 0
    found = session.run(["image_embeds"], {"pixels": images})[0]
    assert found.shape == (2, DIMENSION)
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 1e-3
    alone = session.run(["image_embeds"], {"pixels": images[1:]})[0]
    np.testing.assert_allclose(alone[0], found[1], atol=1e-4)


def test_a_tensor_of_efficientnet_that_is_missing_or_of_another_shape_is_named(lite0):
    name = "_blocks.7._project_conv.weight"
    with pytest.raises(InvalidArgumentError, match=r"blocks\.7\._project_conv.*of shape"):
        build_efficientnet(lite0 | {name: lite0[name][:, :, 0]})
    with pytest.raises(InvalidArgumentError, match="is missing"):
        build_efficientnet({key: values for key, values in lite0.items() if key != name})
