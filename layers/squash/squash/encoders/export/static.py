"""A table of token vectors as an ONNX model: the mean of a text's rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx

from squash.arrays import AnyArray
from squash.encoders.export.graph import Graph, token_inputs
from squash.errors import InvalidArgumentError

OUTPUT: Final = "sentence_embedding"
TENSORS: Final = ("embeddings", "embedding.weight")


def knows(tensors: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell by the shapes of a file's tensors whether it is a table of token vectors."""
    return len(tensors) == 1 and any(name in TENSORS for name in tensors)


def build_static(weights: Mapping[str, AnyArray], *, unknown: int | None) -> onnx.ModelProto:
    """Build the model: int64 tokens and mask [b, t] to float32 vectors [b, d].

    Parameters
    ----------
    weights:
        The one tensor: float [words, d].
    unknown:
        The token of words that the tokenizer does not know: it says nothing and is not counted.

    Raises
    ------
    InvalidArgumentError
        If the tensor is no table.

    """
    (name,) = weights
    table = weights[name]
    if table.ndim != 2 or table.dtype.kind != "f" or 0 in table.shape:  # noqa: PLR2004
        raise InvalidArgumentError(
            f"model.safetensors: {name!r} is {table.dtype} {table.shape}, not a table of floats: "
            "a row a token"
        )
    graph = Graph()
    rows = graph.add("Gather", graph.constant("words", table.astype(np.float32)), "input_ids")
    counted = graph.as_float("attention_mask")
    if unknown is not None:
        token = graph.constant("unknown", np.array([unknown], dtype=np.int64))
        known = graph.add("Not", graph.add("Equal", "input_ids", token))
        counted = graph.add("Mul", counted, graph.as_float(known))
    shares = graph.add("Unsqueeze", counted, graph.axes(-1))
    total = graph.add("ReduceSum", graph.add("Mul", rows, shares), graph.axes(1), keepdims=0)
    count = graph.add("ReduceSum", shares, graph.axes(1), keepdims=0)
    mean = graph.add("Div", total, graph.add("Max", count, graph.number(1)))
    # A text without a known word has no mean. That of the whole table says as little, and has a
    # direction, which 0 has not.
    nothing = graph.constant("nothing", table.mean(axis=0, dtype=np.float64).astype(np.float32))
    said = graph.add("Greater", count, graph.number(0))
    graph.add("Where", said, mean, nothing, result=OUTPUT)
    return graph.model("static", inputs=token_inputs(), outputs={OUTPUT: ("b", table.shape[1])})
