"""An exported BERT equals its weights, computed plainly; what is not known is refused."""

import numpy as np
import onnxruntime
import pytest

import tiny_models as tiny
from bert_reference import last_hidden_state
from squash.encoders.export import bert
from squash.encoders.export.texts import varied_texts
from squash.errors import InvalidArgumentError
from tiny_models import run_tokens


def build(weights=None, **changes):
    shape = bert.read_shape(tiny.config(**changes))
    return bert.build_bert(weights or tiny.bert_weights(), shape)


def reference(ids, weights, first_position=0):
    return last_hidden_state(
        ids,
        weights,
        layers=tiny.LAYERS,
        heads=tiny.HEADS,
        eps=tiny.EPS,
        first_position=first_position,
    )


def test_every_token_of_every_text_has_the_vector_that_plain_arithmetic_gives():
    model, weights = build(), tiny.bert_weights()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    tokenizer = tiny.tokenizer()
    tokenizer.no_padding()
    tokenizer.enable_truncation(tiny.POSITIONS)
    texts = varied_texts()
    assert len(texts) >= 200
    for text in texts:
        ids = tokenizer.encode(text).ids
        feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        found = session.run(None, feeds)[0][0]
        np.testing.assert_allclose(found, reference(ids, weights), atol=2e-5, err_msg=repr(text))


def test_a_row_has_the_same_vectors_alone_among_others_and_padded():
    model = build()
    rows = np.random.default_rng(3).integers(5, 200, (7, 9)).tolist()
    together = run_tokens(model, rows)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(run_tokens(model, [row])[0], together[place], atol=1e-5)
    padded = run_tokens(model, [row + [0] * 4 for row in rows], [[1] * 9 + [0] * 4 for _ in rows])
    np.testing.assert_allclose(padded[:, :9], together, atol=1e-5)


def test_roberta_counts_positions_from_behind_that_of_padding():
    weights = tiny.bert_weights()
    model = build(model_type="roberta", pad_token_id=1)
    ids = [2, 40, 41, 3]
    np.testing.assert_allclose(run_tokens(model, [ids])[0], reference(ids, weights, 2), atol=2e-5)
    assert bert.read_shape(tiny.config(model_type="roberta")).tokens_max == tiny.POSITIONS - 2


def test_names_with_a_prefix_or_of_older_files_are_known():
    older = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): values
        for name, values in tiny.bert_weights().items()
    }
    older["bert.pooler.dense.weight"] = np.zeros((tiny.WIDTH, tiny.WIDTH), np.float32)
    assert build(older).SerializeToString() == build().SerializeToString()


def test_half_floats_are_read():
    halves = {name: values.astype(np.float16) for name, values in tiny.bert_weights().items()}
    assert (
        np.abs(run_tokens(build(halves), [[2, 9, 3]]) - run_tokens(build(), [[2, 9, 3]])).max()
        < 0.05
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "mpnet"}, "architecture 'mpnet'"),
        ({"model_type": None}, "architecture None"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_act": "relu"}, "relu"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"layer_norm_eps": 0}, "layer_norm_eps"),
        ({"num_attention_heads": 5}, "5 heads do not divide"),
        ({"model_type": "roberta", "pad_token_id": 63}, "no positions"),
    ],
)
def test_what_is_not_known_is_refused_by_its_name(changes, said):
    with pytest.raises(InvalidArgumentError, match=said):
        bert.read_shape(tiny.config(**changes))


def test_a_tensor_that_is_missing_or_of_another_shape_is_named():
    shape = bert.read_shape(tiny.config())
    name = "encoder.layer.1.output.dense.weight"
    weights = tiny.bert_weights()
    weights[name] = weights[name].T
    with pytest.raises(InvalidArgumentError, match=r"layer\.1\.output\.dense.*\(64, 32\)"):
        bert.build_bert(weights, shape)
    del weights[name]
    with pytest.raises(InvalidArgumentError, match="is missing"):
        bert.build_bert(weights, shape)
