"""all-MiniLM-L6-v2 as an ONNX model, built from its weights without PyTorch, and a text encoder.

A batch holds texts of one length in tokens. So nothing is padded or masked, and the vector of a
text does not depend on which others are encoded with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

TOKENS_MAX: Final = 64
_BATCH_TOKENS: Final = 2_048
_OPSET: Final = 20
_TOLD_EVERY: Final = 10_000


class _Graph:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], eps: float) -> None:
        self.weights = weights
        self.eps = eps
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation; return the name of its result."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        """Add a constant; return its name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def linear(self, x: str, name: str) -> str:
        """Add x W + b."""
        weight = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.node("Add", self.node("MatMul", x, weight), bias)

    def normalized(self, x: str, name: str) -> str:
        """Add a layer normalisation."""
        scale = self.constant(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=self.eps)


def _embedded(graph: _Graph) -> str:
    """Add words, positions and the one token type there is."""
    weights = graph.weights
    words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
    places = weights["embeddings.position_embeddings.weight"][:TOKENS_MAX]
    # Every token is of type 0, so its row joins the positions'.
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    places = graph.constant("places", places + kind)
    length = graph.node("Shape", "tokens", start=1, end=2)
    zero = graph.constant("zero", np.array([0], dtype=np.int64))
    place = graph.node("Slice", places, zero, length, zero)
    return graph.normalized(
        graph.node("Add", graph.node("Gather", words, "tokens"), place), "embeddings.LayerNorm"
    )


def _layer(graph: _Graph, x: str, number: int, *, heads: int, width: int) -> str:
    """Add a transformer layer: attention and a feed-forward net, each with its residual."""
    name = f"encoder.layer.{number}"
    split = graph.constant("split", np.array([0, 0, heads, width // heads], dtype=np.int64))
    joined = graph.constant("joined", np.array([0, 0, width], dtype=np.int64))
    scale = graph.constant("scale", np.array((width / heads) ** -0.5, dtype=np.float32))

    def by_head(part: str, order: Sequence[int]) -> str:
        projected = graph.linear(x, f"{name}.attention.self.{part}")
        return graph.node("Transpose", graph.node("Reshape", projected, split), perm=order)

    scores = graph.node("MatMul", by_head("query", (0, 2, 1, 3)), by_head("key", (0, 2, 3, 1)))
    shares = graph.node("Softmax", graph.node("Mul", scores, scale), axis=-1)
    mixed = graph.node("MatMul", shares, by_head("value", (0, 2, 1, 3)))
    mixed = graph.node("Reshape", graph.node("Transpose", mixed, perm=(0, 2, 1, 3)), joined)
    attended = graph.normalized(
        graph.node("Add", graph.linear(mixed, f"{name}.attention.output.dense"), x),
        f"{name}.attention.output.LayerNorm",
    )
    inner = graph.node("Gelu", graph.linear(attended, f"{name}.intermediate.dense"))
    outer = graph.linear(inner, f"{name}.output.dense")
    return graph.normalized(graph.node("Add", outer, attended), f"{name}.output.LayerNorm")


def build_model(folder: Path) -> bytes:
    """Return the ONNX model: int64 tokens [b, t] to float32 vectors [b, 384] of length one."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    graph = _Graph(load_file(folder / "model.safetensors"), config["layer_norm_eps"])
    width, heads = config["hidden_size"], config["num_attention_heads"]
    x = _embedded(graph)
    for number in range(config["num_hidden_layers"]):
        x = _layer(graph, x, number, heads=heads, width=width)
    tokens_axis = graph.constant("tokens_axis", np.array([1], dtype=np.int64))
    mean = graph.node("ReduceMean", x, tokens_axis, keepdims=0)
    graph.node("LpNormalization", mean, axis=-1, p=2)
    graph.nodes[-1].output[0] = "vectors"
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "minilm",
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["b", "t"])],
            [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["b", width])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _batches(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield rows of one length at a time, about as many tokens in each batch."""
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        step = max(1, _BATCH_TOKENS // length)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]


def encode(
    texts: Sequence[str],
    folder: Path,
    *,
    threads: int,
    told: Callable[[str], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Return float32 [n, 384], the texts cut at 64 tokens; `told` hears how far it is."""
    # The file asks for 128 tokens, padded; lengths are ours to choose.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS_MAX)
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        build_model(folder), options, providers=["CPUExecutionProvider"]
    )
    vectors = np.empty((len(texts), session.get_outputs()[0].shape[1]), dtype=np.float32)
    done = 0
    for rows in _batches(np.array([len(ids) for ids in tokens], dtype=np.int64)):
        batch = np.array([tokens[row] for row in rows], dtype=np.int64)
        vectors[rows] = session.run(None, {"tokens": batch})[0]
        before, done = done, done + len(rows)
        if before // _TOLD_EVERY < done // _TOLD_EVERY:
            told(f"{done:,} of {len(texts):,} texts encoded")
    return vectors
