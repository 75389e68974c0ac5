"""Folders that are not what they should be: each is refused when it is opened, and says why."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
from encoders_world import change_config, put_file, text_model, texts_of
from onnx import TensorProto, helper

from squash.encoders import lazily
from squash.encoders.check import check_folder
from squash.encoders.contract import CONFIG_FILE, Pooling
from squash.encoders.encoder import open_encoder
from squash.errors import (
    ChecksumError,
    InvalidArgumentError,
    NotFoundError,
    SquashError,
    UnsupportedFormatError,
)
from tiny_encoders import DIMENSION, WORDS, make_dual_encoder, make_text_encoder


@pytest.fixture
def folder(tmp_path):
    make_text_encoder(tmp_path)
    return tmp_path


def refused(folder, message, kind=InvalidArgumentError) -> SquashError:
    with pytest.raises(kind, match=message) as caught:
        open_encoder(folder)
    return caught.value


def test_nothing_there(tmp_path):
    """A folder without `encoder.json`, or none at all, holds no encoder."""
    refused(tmp_path, "no encoder in", NotFoundError)
    refused(tmp_path / "absent", "no encoder in", NotFoundError)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_changed_file(folder, name):
    """A file that is cut off, longer, changed in one bit, or gone is told from the right one."""
    path = folder / name
    data = path.read_bytes()
    for wrong in (data[:-1], data + b"\n", b""):
        path.write_bytes(wrong)
        assert refused(folder, f"{name} .* has .* bytes", ChecksumError).object_key == str(path)
    for place in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        refused(folder, f"{name} .* SHA-256 differs", ChecksumError)
    path.unlink()
    refused(folder, f"{name} .* is missing", ChecksumError)


def test_no_plain_file(folder):
    """A folder or a pipe in the place of a file is no file, and nobody waits for it."""
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    refused(folder, "model.onnx .* is missing", ChecksumError)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    refused(folder, "model.onnx .* is missing", ChecksumError)


def test_truncated_model(folder):
    """A model that was cut off before its checksum was taken is no model."""
    data = (folder / "model.onnx").read_bytes()
    for length in (1, 9, 100, len(data) // 2, len(data) - 1):
        put_file(folder, "model.onnx", data[:length])
        refused(folder, "no ONNX model that can be run here|takes nothing")


@pytest.mark.parametrize("seed", range(40))
def test_broken_model(folder, seed, capfd):
    """A model with some bytes changed is refused, or gives finite vectors; nothing is printed."""
    rng = np.random.default_rng(seed)
    data = bytearray((folder / "model.onnx").read_bytes())
    # The names, nodes and shapes, before and behind the table of vectors.
    places = [*range(200), *range(len(data) - 200, len(data))]
    for place in rng.choice(places, 3):
        data[place] = rng.integers(256)
    put_file(folder, "model.onnx", bytes(data))
    try:
        vectors = texts_of(open_encoder(folder), ["red", "the old dog"]).vectors
        assert vectors.shape == (2, DIMENSION)
        assert np.isfinite(vectors).all()
    except InvalidArgumentError as error:
        assert "onnx" in str(error) or error.field
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ["tokens"]}, r"takes tokens: tensor\(int64\) .* takes input_ids"),
        ({"inputs": ["input_ids", "past"]}, "past: .* takes input_ids"),
        ({"kind": TensorProto.FLOAT}, "should be int64 or int32"),
        ({"sizes": ["b", "t", 1]}, "should be int64 or int32"),
        ({"sizes": ["b", 128]}, "texts of one length only"),
        ({"sizes": [4, "t"]}, "4 at once only"),
        ({"dimension": 32, "output_sizes": ["b", "t", 32]}, r"32\]; it should be .* 16\]"),
        ({"output_sizes": ["b", DIMENSION]}, "no ONNX model|does `pooling` say"),
        ({"output_kind": TensorProto.INT64}, "it should be float32 or float16"),
        ({"output_kind": TensorProto.DOUBLE}, "it should be float32 or float16"),
    ],
)
def test_unfit_model(folder, changes, message):
    """A model's inputs and outputs are checked on opening; what was found is in the message."""
    if changes.get("kind") == TensorProto.FLOAT:
        put_file(folder, "model.onnx", model_of_floats())
    else:
        put_file(folder, "model.onnx", text_model(**changes))
    refused(folder, message)


def model_of_floats() -> bytes:
    sizes = ["b", "t", DIMENSION]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["input_ids"], ["last_hidden_state"])],
        "floats",
        [helper.make_tensor_value_info("input_ids", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, sizes)],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": ["input_ids"]},
        {"inputs": ["input_ids", "attention_mask", "token_type_ids", "position_ids"]},
        {"kind": TensorProto.INT32},
        {"sizes": [1, "t"], "output_sizes": [1, "t", DIMENSION]},
        {"output": "token_embeddings"},
        {"output": "anything"},
        {"output_sizes": [None, None, None]},
    ],
)
def test_fit_model(folder, changes):
    """Models that differ in what may differ are run, and give the same vectors."""
    put_file(folder, "model.onnx", text_model())
    texts = ["red", "dog", "the old dog"]
    wanted = texts_of(open_encoder(folder), texts).vectors
    put_file(folder, "model.onnx", text_model(**changes))
    np.testing.assert_allclose(texts_of(open_encoder(folder), texts).vectors, wanted, atol=1e-6)


def test_half_precision(folder):
    """A model that gives float16 is taken; its vectors are as near as that allows."""
    put_file(folder, "model.onnx", text_model())
    wanted = texts_of(open_encoder(folder), ["red"]).vectors
    put_file(folder, "model.onnx", text_model(output_kind=TensorProto.FLOAT16))
    found = texts_of(open_encoder(folder), ["red"]).vectors
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def two_outputs(*names: str) -> bytes:
    model = onnx.load_from_string(text_model(output=names[0]))
    model.graph.node.append(helper.make_node("Identity", [names[0]], [names[1]]))
    sizes = ["b", "t", DIMENSION]
    output = helper.make_tensor_value_info(names[1], TensorProto.FLOAT, sizes)
    model.graph.output.append(output)
    return model.SerializeToString()


def test_output_names(folder):
    """Of several outputs that with a known name is taken; where none has one, all are named."""
    put_file(folder, "model.onnx", two_outputs("odd", "last_hidden_state"))
    assert texts_of(open_encoder(folder), ["red"]).vectors.shape == (1, DIMENSION)
    put_file(folder, "model.onnx", two_outputs("odd", "even"))
    refused(folder, "gives odd: .*; even: .* none is called last_hidden_state")


def test_pooling_that_is_not(tmp_path):
    """`pooling` that does not go with the model's output is refused, either way round."""
    make_text_encoder(tmp_path, pooling=Pooling.NONE)
    put_file(tmp_path, "model.onnx", text_model(output="sentence_embedding"))
    refused(tmp_path, "does `pooling` say")
    make_text_encoder(tmp_path, pooling=Pooling.NONE)
    change_config(tmp_path, lambda content: content["text"].update(pooling="cls"))
    refused(tmp_path, "does `pooling` say")


def test_shape_that_is_not_kept(folder):
    """An output of a shape that the model did not promise is refused when it is run."""
    put_file(folder, "model.onnx", text_model(node="tile", output_sizes=[None, None, None]))
    with pytest.raises(InvalidArgumentError, match=r"float32 \[1, 3, 128\]; it should be"):
        texts_of(open_encoder(folder), ["red"])


def test_wrong_dimension(folder):
    """A dimension in `encoder.json` that is not the model's is refused."""
    change_config(folder, lambda content: content.update(dimension=24, truncate_dimensions=[]))
    refused(folder, r"16\]; it should be .* 24\]")


def test_weights_elsewhere(folder):
    """A model whose weights lie in a file beside it is refused: its digest would not pin them."""
    onnx.save(
        onnx.load(folder / "model.onnx"),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    put_file(folder, "model.onnx", (folder / "model.onnx").read_bytes())
    with pytest.raises(InvalidArgumentError, match="keeps weights in another file"):
        check_folder(folder)
    # Where only the encoder's own files are, as in a cache, the model cannot be opened at all.
    (folder / "weights.bin").unlink()
    refused(folder, "model.onnx is no ONNX model that can be run here")


def test_swapped_tokenizer(folder):
    """A tokenizer with tokens that the model has no vectors of fails the check, not a user."""
    put_file(folder, "model.onnx", text_model(words=len(WORDS)))
    assert texts_of(open_encoder(folder), ["a red dog"]).vectors.shape == (1, DIMENSION)
    with pytest.raises(InvalidArgumentError, match="do not belong together") as caught:
        check_folder(folder)
    assert caught.value.field == "text.tokenizer"
    with pytest.raises(InvalidArgumentError, match="Does its tokenizer belong to it") as caught:
        texts_of(open_encoder(folder), ["it opens"])


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff\xfe", b"null", b"[" * 99_999, b'{"model": {"type": "BPE"}}'],
)
def test_broken_tokenizer(folder, data):
    """A file that is no tokenizer is refused, with the library's reason."""
    if data:
        put_file(folder, "tokenizer.json", data)
        refused(folder, "tokenizer.json is no tokenizer")
    else:
        (folder / "tokenizer.json").write_bytes(data)
        refused(folder, "has 0 bytes", ChecksumError)


def tokenizer_with(folder, change) -> None:
    content = json.loads((folder / "tokenizer.json").read_bytes())
    change(content)
    put_file(folder, "tokenizer.json", json.dumps(content).encode())


def test_tokenizer_panics(folder, capfd):
    """A tokenizer that contradicts itself, on which the library panics, is refused too."""
    tokenizer_with(folder, lambda content: content["post_processor"].update(special_tokens={}))
    refused(folder, "tokenizer.json is no tokenizer")
    capfd.readouterr()  # what the library says of it


@pytest.mark.parametrize("token", [2**31, 2**32 - 1])
def test_tokens_beyond(folder, token):
    """A token that models cannot take is refused, and never becomes another."""
    tokenizer_with(folder, lambda content: content["model"]["vocab"].update(red=token))
    with pytest.raises(InvalidArgumentError, match="out of bounds") as caught:
        texts_of(open_encoder(folder), ["dog", "red"])
    assert caught.value.field == "texts[1]"
    with pytest.raises(InvalidArgumentError, match="out of bounds"):
        check_folder(folder)


def test_special_tokens_within(folder):
    """A tokenizer that puts special tokens into a text cannot be used: texts are cut."""

    def twice(content):
        single = content["post_processor"]["single"]
        content["post_processor"]["single"] = [*single, *single[1:]]

    tokenizer_with(folder, twice)
    refused(folder, "special tokens before and after")


def test_no_room(tmp_path):
    """A prefix that fills the encoder leaves no room for a text."""
    make_text_encoder(tmp_path, query_prefix="red " * 10)
    assert refused(tmp_path, "no room .* query_prefix").field == "text.tokens_max"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 16, "resize": 16}, r"pixels: tensor\(uint8\) \[\?, 8, 8, 3\]; by size"),
        ({"channels_first": True}, "by size it is"),
        ({"mean": [0, 0, 0], "deviation": [1, 1, 1]}, "by mean it is"),
    ],
)
def test_unfit_image_model(tmp_path, change, message):
    """An image model's input is checked against what `encoder.json` says of it."""
    make_dual_encoder(tmp_path)
    change_config(tmp_path, lambda content: content["image"].update(change))
    refused(tmp_path, message)


def test_newer_version(folder):
    """An encoder of a later format is told from a broken one."""
    change_config(folder, lambda content: content.update(version=2))
    refused(folder, "newer release", UnsupportedFormatError)


def test_path_traversal(folder):
    """A file name that leaves the folder is refused before anything is read by it."""
    (folder.parent / "secret").write_bytes(b"x")
    for name in ("../secret", "/etc/passwd", "a/../../secret", "..", ".", ".hidden", "a\\b", "a\0"):
        make_text_encoder(folder)
        ref = {"bytes": 1, "sha256": "0" * 64}
        change_config(
            folder, lambda content, name=name, ref=ref: content["files"].update({name: ref})
        )
        assert refused(folder, "is the name of a file beside it").field.startswith("files.")


def test_config_too_large(folder):
    """An `encoder.json` of endless size is not read to its end."""
    with (folder / CONFIG_FILE).open("ab") as file:
        file.truncate(1 << 33)
    refused(folder, "more than 65536 bytes")


def test_library_missing(folder, monkeypatch):
    """Without the libraries the message says which extra brings them."""

    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(lazily, "import_module", absent)
    refused(folder, r"tokenizers is not installed.*squash-search\[encoders\]")
