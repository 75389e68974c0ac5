"""Encoders that are wrong in one way each, and a plain twin of what encoders do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from squash.encoders.contract import CONFIG_FILE, Pooling
from squash.encoders.encoder import OnnxEncoder
from squash.model import Inputs, Modality, Purpose
from tiny_encoders import DIMENSION, TOKENS_MAX, WORDS

CLS, SEP, UNK = 1, 2, 0
_IDS = {word: 3 + i for i, word in enumerate(WORDS)}


def texts_of(encoder: OnnxEncoder, texts: Sequence[str], **options: Any) -> Any:
    options.setdefault("purpose", Purpose.DOCUMENT)
    return encoder.encode(Inputs(Modality.TEXT, texts), **options)


def images_of(encoder: OnnxEncoder, images: Sequence[bytes], **options: Any) -> Any:
    options.setdefault("purpose", Purpose.DOCUMENT)
    return encoder.encode(Inputs(Modality.IMAGE, images), **options)


def plain_vector(words: Sequence[str], table: np.ndarray, pooling: Pooling) -> np.ndarray:
    """What a tiny encoder makes of some words, in double precision and not normalised."""
    inner = [_IDS.get(word, UNK) for word in words][: TOKENS_MAX - 2]
    rows = table[[CLS, *inner, SEP]].astype(np.float64)
    if pooling is Pooling.CLS:
        return rows[0]
    if pooling is Pooling.LAST:
        return rows[-1]
    return rows.mean(axis=0)


def change_config(folder: Path, change: Any) -> None:
    """Rewrite `encoder.json` as `change` leaves its content, with no check at all."""
    path = folder / CONFIG_FILE
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def put_file(folder: Path, name: str, data: bytes) -> None:
    """Put a file in the place of an encoder's, and let `encoder.json` say that it is the one."""
    (folder / name).write_bytes(data)
    ref = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_config(folder, lambda content: content["files"].update({name: ref}))


def text_model(
    *,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    kind: int = TensorProto.INT64,
    sizes: Sequence[Any] = ("b", "t"),
    output: str = "last_hidden_state",
    output_kind: int = TensorProto.FLOAT,
    output_sizes: Sequence[Any] = ("b", "t", DIMENSION),
    dimension: int = DIMENSION,
    words: int = 3 + len(WORDS),
    value: float | None = None,
    node: str = "",
) -> bytes:
    """Return a model that looks its tokens up, with what is given changed.

    `node` adds to it: ``mix`` adds to every vector the mean of the run's, ``tile`` makes them as
    many times longer as the largest token says, so that their dimension cannot be foreseen.
    """
    table = np.random.default_rng(5).standard_normal((words, dimension)).astype(np.float32)
    if value is not None:
        table[:] = value
    constants = [numpy_helper.from_array(table, "table")]
    nodes = [helper.make_node("Gather", ["table", inputs[0]], ["found"])]
    last = "found"
    if node == "mix":
        constants.append(numpy_helper.from_array(np.array([0, 1], np.int64), "axes"))
        nodes += [
            helper.make_node("ReduceMean", ["found", "axes"], ["mean"]),
            helper.make_node("Add", ["found", "mean"], ["mixed"]),
        ]
        last = "mixed"
    if node == "tile":
        constants.append(numpy_helper.from_array(np.array([1, 1], np.int64), "ones"))
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
        nodes += [
            helper.make_node("ReduceMax", [inputs[0]], ["most"], keepdims=0),
            helper.make_node("Reshape", ["most", "one"], ["times"]),
            helper.make_node("Concat", ["ones", "times"], ["repeats"], axis=0),
            helper.make_node("Tile", ["found", "repeats"], ["tiled"]),
        ]
        last = "tiled"
    nodes.append(helper.make_node("Cast", [last], [output], to=output_kind))
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info(name, kind, list(sizes)) for name in inputs],
        [helper.make_tensor_value_info(output, output_kind, list(output_sizes))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def text_table(folder: Path) -> np.ndarray:
    """Return the vectors of an encoder's words, as its model file holds them."""
    (table,) = onnx.load(folder / "model.onnx").graph.initializer[:1]
    return numpy_helper.to_array(table)
