"""An exported folder is an encoder that passes its own check; nothing less is left behind."""

import sys

import numpy as np
import onnx
import pytest

import tiny_encoders
import tiny_models as tiny
from bert_reference import last_hidden_state, mean_vector
from squash.encoders.check import check_folder
from squash.encoders.contract import OverLong, Pooling
from squash.encoders.encoder import open_encoder
from squash.encoders.export.export import default_name, export_encoder
from squash.encoders.export.judge import Bounds
from squash.encoders.export.settings import Settings
from squash.encoders.export.texts import varied_texts
from squash.errors import InvalidArgumentError
from squash.model import Inputs, Modality, Purpose

STRICT = Bounds(cosine_mean=1, cosine_min=1, drift_mean=0, drift_max=0, recall=1)
LOOSE = Bounds(cosine_mean=0.9, cosine_min=0.5, drift_mean=0.5, drift_max=1, recall=0.3)


@pytest.fixture
def source(tmp_path):
    return tiny.bert_folder(tmp_path / "Tiny Model")


def encode(folder, texts):
    inputs = Inputs(Modality.TEXT, tuple(texts))
    return open_encoder(folder).encode(inputs, purpose=Purpose.DOCUMENT).vectors


def test_an_encoder_that_is_not_rounded_equals_plain_arithmetic_on_every_text(source, tmp_path):
    done = export_encoder(str(source), tmp_path / "out", quantize="none")
    assert (done.config.name, done.config.dimension) == ("tiny-model", tiny.WIDTH)
    assert (done.judgement, done.losses) == (None, ())
    tokenizer = tiny.tokenizer()
    tokenizer.no_padding()
    tokenizer.enable_truncation(tiny.POSITIONS)
    texts = varied_texts()
    found = encode(tmp_path / "out", texts)
    weights = tiny.bert_weights()
    for text, vector in zip(texts, found, strict=True):
        ids = tokenizer.encode(text).ids
        hidden = last_hidden_state(ids, weights, layers=tiny.LAYERS, heads=tiny.HEADS, eps=tiny.EPS)
        assert mean_vector(hidden) @ vector > 1 - 1e-6, repr(text)


@pytest.mark.parametrize("quantize", ["none", "w8", "int8"])
def test_every_variant_passes_its_check_and_reports_its_sizes(source, tmp_path, quantize):
    told = []
    done = export_encoder(
        str(source), tmp_path / "out", quantize=quantize, bounds=LOOSE, report=told.append
    )
    checked = check_folder(tmp_path / "out")
    assert checked.passed
    assert checked.digest == done.digest
    assert checked.parity.inputs == 64
    assert checked.parity.required == done.parity_cosine_min
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sizes.pop("encoder.json")
    assert sizes == dict(done.file_bytes)
    assert (done.file_bytes["model.onnx"] < done.reference_bytes) == (quantize != "none")
    assert done.config.text.batch == (quantize != "int8")
    assert (done.judgement is not None) == (quantize != "none")
    assert told[0].startswith("building")


def test_weights_are_rounded_to_eight_bits_where_nothing_is_said(source, tmp_path):
    done = export_encoder(str(source), tmp_path / "out")
    assert done.quantize == "w8"
    assert done.judgement.cosine_min > 0.99


@pytest.mark.parametrize("quantize", ["none", "w8", pytest.param("int8", marks=pytest.mark.slow)])
def test_the_same_source_gives_the_same_bytes(source, tmp_path, quantize):
    digests = {
        export_encoder(str(source), tmp_path / name, quantize=quantize, bounds=LOOSE).digest
        for name in ("one", "two")
    }
    assert len(digests) == 1


def test_a_loss_above_a_bound_is_refused_with_the_figures_unless_forced(source, tmp_path):
    out = tmp_path / "made" / "out"
    with pytest.raises(InvalidArgumentError, match=r"loses too much: cosine_mean is 0\.\d{4}"):
        export_encoder(str(source), out, quantize="w8", bounds=STRICT)
    assert list(out.parent.iterdir()) == []
    done = export_encoder(str(source), out, quantize="w8", bounds=STRICT, force=True)
    assert done.losses
    assert check_folder(out).passed


def test_a_model_whose_texts_get_in_each_others_way_runs_them_one_by_one(tmp_path):
    tiny_encoders.make_text_encoder(tmp_path / "ready")
    path = tmp_path / "ready" / "model.onnx"
    model = onnx.load(path)
    (table,) = model.graph.node
    table.output[0] = "rows"
    mean = onnx.helper.make_node("ReduceMean", ["rows"], ["mean"], keepdims=1)
    mixed = onnx.helper.make_node("Add", ["rows", "mean"], ["token_embeddings"])
    model.graph.node.extend([mean, mixed])
    onnx.save(model, path)
    done = export_encoder(str(tmp_path / "ready"), tmp_path / "out", quantize="none")
    assert not done.config.text.batch
    assert check_folder(tmp_path / "out").passed


def test_texts_of_ones_own_judge_and_go_nowhere(source, tmp_path):
    secret = [f"our secret number {number}" for number in range(25)]
    done = export_encoder(str(source), tmp_path / "out", texts=secret, bounds=LOOSE)
    assert done.judgement.texts == 25
    assert b"secret" not in (tmp_path / "out" / "parity.json").read_bytes()
    with pytest.raises(InvalidArgumentError, match="3 texts are too few"):
        export_encoder(str(source), tmp_path / "other", texts=secret[:3])


def test_settings_go_before_what_the_source_says(source, tmp_path):
    tiny.write_json(source / "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    settings = Settings(tokens_max=16, over_long=OverLong.CHUNK, query_prefix="find: ")
    done = export_encoder(
        str(source), tmp_path / "out", name="mine", quantize="none", settings=settings
    )
    part = done.config.text
    assert (part.pooling, part.tokens_max, part.over_long) == (Pooling.CLS, 16, OverLong.CHUNK)
    assert (done.config.name, part.query_prefix) == ("mine", "find: ")
    with pytest.raises(InvalidArgumentError, match="more than the model's 64 positions"):
        export_encoder(str(source), tmp_path / "more", settings=Settings(tokens_max=65))


def test_a_licence_is_read_from_the_head_of_the_card(source, tmp_path):
    assert export_encoder(str(source), tmp_path / "a", quantize="none").config.licence == "unknown"
    (source / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert export_encoder(str(source), tmp_path / "b", quantize="none").config.licence == "mit"


def test_a_table_of_token_vectors_becomes_an_encoder(tmp_path):
    folder = tiny.static_folder(tmp_path / "table")
    done = export_encoder(str(folder), tmp_path / "out", bounds=LOOSE)
    assert (done.quantize, done.config.text.pooling) == ("w8", Pooling.NONE)
    assert check_folder(tmp_path / "out").passed
    plain = export_encoder(str(folder), tmp_path / "plain", quantize="none")
    table = tiny.tensors(folder)["embeddings"]
    words = tiny.vocabulary()
    wanted = table[[words.index(piece) for piece in ("a", "b", "##c")]].mean(axis=0)
    assert plain.config.dimension == tiny.WIDTH
    found = encode(tmp_path / "plain", ["a bc", "\U00010348", ""])
    np.testing.assert_allclose(found[0], wanted / np.linalg.norm(wanted), atol=1e-6)
    np.testing.assert_allclose(found[1], found[2], atol=1e-6)


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.NONE])
def test_a_ready_model_is_taken_byte_for_byte(tmp_path, pooling):
    tiny_encoders.make_text_encoder(tmp_path / "ready", pooling=pooling)
    (tmp_path / "ready" / "encoder.json").unlink()
    done = export_encoder(str(tmp_path / "ready"), tmp_path / "out", quantize="none")
    assert done.config.text.pooling is pooling
    assert done.config.dimension == tiny_encoders.DIMENSION
    data = (tmp_path / "out" / "model.onnx").read_bytes()
    assert data == (tmp_path / "ready" / "model.onnx").read_bytes()
    assert check_folder(tmp_path / "out").passed


def test_a_ready_model_with_its_weights_elsewhere_becomes_one_file(tmp_path):
    tiny_encoders.make_text_encoder(tmp_path / "ready")
    path = tmp_path / "ready" / "model.onnx"
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    export_encoder(str(tmp_path / "ready"), tmp_path / "out", quantize="none")
    assert check_folder(tmp_path / "out").passed


@pytest.mark.slow
def test_a_model_that_is_quantised_already_is_not_quantised_again(source, tmp_path):
    export_encoder(str(source), tmp_path / "ready", quantize="int8", bounds=LOOSE)
    settings = Settings(tokens_max=tiny.POSITIONS)  # which nothing beside the model says
    done = export_encoder(str(tmp_path / "ready"), tmp_path / "out", settings=settings)
    assert (done.quantize, done.config.text.batch) == ("none", False)
    for quantize in ("w8", "int8"):
        with pytest.raises(InvalidArgumentError, match="quantised already"):
            export_encoder(
                str(tmp_path / "ready"), tmp_path / "other", quantize=quantize, settings=settings
            )
    assert not (tmp_path / "other").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path):
    tiny_encoders.make_text_encoder(tmp_path / "ready")
    (tmp_path / "ready" / "model.onnx").write_bytes(b"no model at all")
    with pytest.raises(InvalidArgumentError, match=r"model\.onnx"):
        export_encoder(str(tmp_path / "ready"), tmp_path / "out", quantize="none")


def test_what_is_there_already_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine", encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match="is there already"):
        export_encoder(str(source), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_unknown_kind_of_rounding_and_a_missing_package_are_said(source, tmp_path, monkeypatch):
    with pytest.raises(InvalidArgumentError, match="none, w8, int8, not 'w4'"):
        export_encoder(str(source), tmp_path / "out", quantize="w4")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(InvalidArgumentError, match=r"squash-search\[export\]"):
        export_encoder(str(source), tmp_path / "out")


@pytest.mark.parametrize(
    ("source", "name"),
    [("minilm", "minilm"), ("/a/BAAI_bge.Base", "baai-bge-base"), ("/", "encoder")],
)
def test_a_name_is_made_of_the_source(source, name):
    assert default_name(source) == name
