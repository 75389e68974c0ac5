"""What a folder says of its model is read; what it asks for and cannot have is refused."""

import onnx
import pytest
from safetensors.numpy import save_file

import tiny_encoders
import tiny_models as tiny
from squash.encoders.contract import Pooling
from squash.encoders.export.folder import Kind, read_folder, tensors_of
from squash.errors import DataError, InvalidArgumentError
from squash.model import Metric


def test_a_bare_bert_is_known_and_its_length_is_that_of_its_positions(tmp_path):
    found = read_folder(tiny.bert_folder(tmp_path))
    assert (found.kind, found.settings.tokens_max) == (Kind.BERT, tiny.POSITIONS)
    assert found.settings.pooling is None


def test_a_sentence_model_says_how_it_is_used(tmp_path):
    folder = tiny.bert_folder(tmp_path)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    tiny.write_json(folder / "1_Pooling/config.json", pooling)
    tiny.write_json(folder / "sentence_bert_config.json", {"max_seq_length": 24})
    tiny.write_json(folder / "tokenizer_config.json", {"model_max_length": 48})
    prompts = {"query": "query: ", "passage": "passage: "}
    sentence = {"prompts": prompts, "similarity_fn_name": "dot"}
    tiny.write_json(folder / "config_sentence_transformers.json", sentence)
    modules = [{"type": f"sentence_transformers.models.{x}"} for x in ("Transformer", "Pooling")]
    tiny.write_json(folder / "modules.json", modules)
    said = read_folder(folder).settings
    assert (said.pooling, said.tokens_max) == (Pooling.CLS, 24)
    assert (said.query_prefix, said.document_prefix) == ("query: ", "passage: ")
    assert (said.metric, said.normalise) == (Metric.DOT, False)


def test_a_length_that_nobody_set_is_not_taken(tmp_path):
    folder = tiny.bert_folder(tmp_path)
    tiny.write_json(folder / "tokenizer_config.json", {"model_max_length": 10**30})
    assert read_folder(folder).settings.tokens_max == tiny.POSITIONS


def test_an_unknown_architecture_is_taken_as_the_onnx_model_beside_it(tmp_path):
    folder = tiny.bert_folder(tmp_path / "model", model_type="mpnet")
    with pytest.raises(InvalidArgumentError, match="mpnet"):
        read_folder(folder)
    tiny_encoders.make_text_encoder(tmp_path / "ready")
    (folder / "onnx").mkdir()
    (tmp_path / "ready" / "model.onnx").rename(folder / "onnx" / "model.onnx")
    found = read_folder(folder)
    assert (found.kind, found.weights) == (Kind.ONNX, folder / "onnx" / "model.onnx")
    onnx.load(found.weights)


@pytest.mark.parametrize("name", ["embeddings", "embedding.weight"])
def test_a_single_table_is_known(tmp_path, name):
    found = read_folder(tiny.static_folder(tmp_path, name=name))
    assert (found.kind, found.settings.pooling) == (Kind.STATIC, Pooling.NONE)


def test_a_folder_without_a_tokenizer_or_without_weights_is_refused(tmp_path):
    folder = tiny.bert_folder(tmp_path)
    (folder / "tokenizer.json").rename(folder / "kept")
    with pytest.raises(InvalidArgumentError, match=r"holds no tokenizer\.json"):
        read_folder(folder)
    (folder / "kept").rename(folder / "tokenizer.json")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidArgumentError, match="save them again as one safetensors file"):
        read_folder(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_file_of_weights_is_damaged(tmp_path, keep):
    folder = tiny.bert_folder(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_folder(folder)
    with pytest.raises(DataError, match="damaged or cut short"):
        tensors_of(weights)


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "'Dense'"),
        ("modules.json", {"type": "Dense"}, "does not list modules"),
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "pooling_mode_cls_token, pooling_mode_mean_tokens",
        ),
        ("config.json", [1], "does not hold an object"),
    ],
)
def test_what_is_not_done_here_is_refused(tmp_path, path, content, said):
    folder = tiny.bert_folder(tmp_path)
    tiny.write_json(folder / path, content)
    with pytest.raises(InvalidArgumentError, match=said):
        read_folder(folder)


def test_a_configuration_that_is_no_json_is_refused(tmp_path):
    folder = tiny.bert_folder(tmp_path)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match="is not JSON"):
        read_folder(folder)


def test_tensors_that_are_no_floats_are_left_out(tmp_path):
    weights = tiny.bert_weights()
    weights["embeddings.position_ids"] = tiny.np.arange(4)
    save_file(weights, tmp_path / "model.safetensors")
    assert tensors_of(tmp_path / "model.safetensors").keys() == tiny.bert_weights().keys()
