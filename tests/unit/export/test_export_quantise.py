"""Weights of eight bits: no further from theirs than half a step, and models that still agree."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tiny_models as tiny
from squash.encoders.export import bert, quantise
from squash.errors import InvalidArgumentError
from tiny_models import run_tokens


def model():
    return bert.build_bert(tiny.bert_weights(), bert.read_shape(tiny.config()))


@pytest.mark.parametrize("inputs", [1, 31, 32, 33, 64, 65])
def test_a_blocked_weight_is_within_half_a_step(inputs):
    weight = np.random.default_rng(inputs).standard_normal((inputs, 5)).astype(np.float32)
    weight[:, 2] = 0
    codes, scales = quantise.blocked(weight)
    assert codes.shape == (5, -(-inputs // quantise.BLOCK), quantise.BLOCK)
    steps = scales.reshape(*codes.shape[:2], 1)
    back = ((codes.astype(np.float32) - 128) * steps).reshape(5, -1)[:, :inputs].T
    bound = np.repeat(steps[..., 0], quantise.BLOCK, axis=1)[:, :inputs].T
    assert np.all(np.abs(back - weight) <= bound * 0.5 + 1e-6)


def test_a_row_of_a_table_is_within_half_a_step():
    table = np.random.default_rng(1).standard_normal((9, 16)).astype(np.float32)
    table[4] = 0
    codes, scales = quantise.rows_rounded(table)
    assert np.all(np.abs(codes * scales - table) <= scales / 2 + 1e-6)


def test_a_model_of_eight_bit_weights_is_near_and_keeps_no_float_of_them():
    plain = model()
    small = quantise.eight_bit_weights(plain)
    rows = np.random.default_rng(3).integers(5, 200, (7, 9)).tolist()
    before, after = run_tokens(plain, rows), run_tokens(small, rows)
    cosines = (before * after).sum(-1) / np.linalg.norm(before, axis=-1)
    assert (cosines / np.linalg.norm(after, axis=-1)).min() > 0.995
    assert small.ByteSize() < plain.ByteSize() * 0.7
    kept = {tensor.name for tensor in small.graph.initializer}
    assert not kept & {"words", "encoder.layer.0.output.dense.weight"}
    assert "places" in kept


def test_a_row_has_the_same_vectors_alone_and_among_others_with_eight_bit_weights():
    small = quantise.eight_bit_weights(model())
    rows = np.random.default_rng(3).integers(5, 200, (7, 9)).tolist()
    together = run_tokens(small, rows)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(run_tokens(small, [row])[0], together[place], atol=1e-5)


def test_a_model_with_weights_no_matrix_is_refused():
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    with pytest.raises(InvalidArgumentError, match="quantised already"):
        quantise.eight_bit_weights(helper.make_model(graph))
