"""Encoders so small that tests make them in milliseconds: real ONNX models and a real tokenizer."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from squash.encoders.contract import (
    CONFIG_FILE,
    EncoderConfig,
    FileRef,
    ImagePart,
    Pooling,
    TextPart,
    digest_of,
    write_config,
)
from squash.model import Metric

DIMENSION = 16
TOKENS_MAX = 12
IMAGE_SIZE = 8
WORDS = tuple(
    """
    the a of and in red green blue dark pale small large old new quick slow dog cat horse
    bird fish tree leaf stone river sea sky sun moon rain snow wind fire house road wheel
    knife bread salt milk runs swims flies sleeps eats burns falls grows sings opens
    """.split()  # noqa: SIM905 - one name a word reads best
)


def make_text_encoder(folder: Path, *, name: str = "tiny", seed: int = 0, **changes: Any) -> str:
    """Write an encoder of texts that takes the mean of its words' vectors; return its digest.

    `changes` go into its `TextPart`; with `pooling=Pooling.NONE` the model pools.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[UNK]", "[CLS]", "[SEP]", *WORDS]
    part = replace(TextPart("model.onnx", "tokenizer.json", Pooling.MEAN, TOKENS_MAX), **changes)
    model = _text_model(len(words), seed, pooled=part.pooling is Pooling.NONE)
    (folder / "model.onnx").write_bytes(model)
    (folder / "tokenizer.json").write_text(_tokenizer(words).to_str(), encoding="utf-8")
    return _write(folder, name, text=part)


def make_dual_encoder(folder: Path, *, name: str = "tiny-dual", seed: int = 0) -> str:
    """Write an encoder of texts and of images; a plain picture lies near its colour's name."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[UNK]", "[CLS]", "[SEP]", *WORDS]
    table = _table(len(words), seed)
    (folder / "model.onnx").write_bytes(_text_model(len(words), seed, pooled=False))
    (folder / "tokenizer.json").write_text(_tokenizer(words).to_str(), encoding="utf-8")
    colours = table[[words.index(colour) for colour in ("red", "green", "blue")]]
    (folder / "image.onnx").write_bytes(_image_model(colours))
    return _write(
        folder,
        name,
        text=TextPart("model.onnx", "tokenizer.json", Pooling.MEAN, TOKENS_MAX),
        image=ImagePart("image.onnx", IMAGE_SIZE, IMAGE_SIZE),
    )


def _write(folder: Path, name: str, **parts: Any) -> str:
    files = {
        path.name: FileRef(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
        if path.name != CONFIG_FILE
    }
    config = EncoderConfig(
        name=name,
        revision="1",
        dimension=DIMENSION,
        metric=Metric.COSINE,
        licence="Apache-2.0",
        files=files,
        truncate_dimensions=(8,),
        source="made by a test",
        **parts,
    )
    data = write_config(config)
    (folder / CONFIG_FILE).write_bytes(data)
    return digest_of(data)


def _table(words: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((words, DIMENSION)).astype(np.float32)


def _tokenizer(words: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]")  # noqa: S106
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    # As the tokenizers of real models come: what they ask for here must not be heeded.
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    return tokenizer


def _text_model(words: int, seed: int, *, pooled: bool) -> bytes:
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"])]
    output, shape = "token_embeddings", ["b", "t", DIMENSION]
    if pooled:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
            helper.make_node("Mul", ["token_embeddings", "mask3"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "tokens"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["mask3", "tokens"], ["count"], keepdims=0),
            helper.make_node("Div", ["sum", "count"], ["sentence_embedding"]),
        ]
        output, shape = "sentence_embedding", ["b", DIMENSION]
    constants = [
        numpy_helper.from_array(_table(words, seed), "table"),
        numpy_helper.from_array(np.array([-1], np.int64), "last"),
        numpy_helper.from_array(np.array([1], np.int64), "tokens"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    return _model(nodes, inputs, outputs, constants[: 3 if pooled else 1])


def _image_model(colours: np.ndarray) -> bytes:
    """Weigh the three channels' means with a vector each."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "sides"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "colours"], ["image_embeds"]),
    ]
    constants = [
        numpy_helper.from_array(colours, "colours"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "sides"),
    ]
    shape = ["b", IMAGE_SIZE, IMAGE_SIZE, 3]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)]
    outputs = [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["b", DIMENSION])]
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: Any, inputs: Any, outputs: Any, constants: Any) -> bytes:
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
