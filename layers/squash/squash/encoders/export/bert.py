"""BERT and its kin as ONNX, from a configuration and weights, without PyTorch.

Devlin et al. 2019; RoBERTa and XLM-RoBERTa differ in where their positions begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx

from squash.arrays import F32, AnyArray
from squash.encoders.export.graph import Graph, token_inputs
from squash.errors import InvalidArgumentError
from squash.values import dataclass

OUTPUT: Final = "last_hidden_state"
ARCHITECTURES: Final = ("bert", "roberta", "xlm-roberta")
# What ONNX's Gelu calls the forms that configurations name.
_GELU: Final = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
_PREFIXES: Final = ("bert.", "roberta.", "model.")
_LAYER: Final = "encoder.layer"
# Masked scores: so low that their share is 0, and no infinity, which would give NaN if all are.
_MASKED: Final = -1e9


@dataclass(frozen=True, slots=True)
class BertShape:
    """The sizes of a BERT.

    Parameters
    ----------
    width, inner:
        Values a token: between layers, and inside the feed-forward nets.
    layers, heads:
        How many of each.
    words, positions, first_position:
        Rows of the tables, and the row of a text's first token.
    eps:
        Added to variances.
    gelu:
        The form of the activation, in ONNX's words.

    """

    width: int
    inner: int
    layers: int
    heads: int
    words: int
    positions: int
    first_position: int
    eps: float
    gelu: str

    @property
    def tokens_max(self) -> int:
        """The most tokens of a text that there are positions for."""
        return self.positions - self.first_position


def knows(config: Mapping[str, Any]) -> bool:
    """Tell whether `read_shape` takes a `config.json` of this architecture."""
    return config.get("model_type") in ARCHITECTURES


def read_shape(config: Mapping[str, Any]) -> BertShape:
    """Read a Hugging Face `config.json`.

    Raises
    ------
    InvalidArgumentError
        If it is of another architecture, or of a form of this one that is not known here.

    """
    kind = config.get("model_type")
    if not knows(config):
        raise InvalidArgumentError(
            f"config.json: the architecture {kind!r:.60} is not known here; these are: "
            f"{', '.join(ARCHITECTURES)}. Export the model to ONNX with its own tools and name "
            "the folder that holds model.onnx and tokenizer.json."
        )
    form = config.get("position_embedding_type", "absolute")
    if form != "absolute":
        raise InvalidArgumentError(
            f"config.json: position_embedding_type {form!r:.60} is not known here, only 'absolute'"
        )
    if config.get("hidden_act", "gelu") not in _GELU:
        raise InvalidArgumentError(
            f"config.json: hidden_act {config['hidden_act']!r:.60} is not known here, only "
            f"{', '.join(_GELU)}"
        )
    shape = BertShape(
        width=_size(config, "hidden_size"),
        inner=_size(config, "intermediate_size"),
        layers=_size(config, "num_hidden_layers"),
        heads=_size(config, "num_attention_heads"),
        words=_size(config, "vocab_size"),
        positions=_size(config, "max_position_embeddings"),
        # RoBERTa counts positions from behind that of padding.
        first_position=0 if kind == "bert" else 1 + _size(config, "pad_token_id"),
        eps=_eps(config),
        gelu=_GELU[config.get("hidden_act", "gelu")],
    )
    if shape.width % shape.heads or shape.tokens_max < 1:
        raise InvalidArgumentError(
            f"config.json: {shape.heads} heads do not divide a width of {shape.width}, or there "
            f"are no positions ({shape.positions}, the first {shape.first_position})"
        )
    return shape


def _size(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    if type(value) is not int or value < 1:
        raise InvalidArgumentError(
            f"config.json: {name} is a whole number above 0, not {value!r:.60}", field=name
        )
    return value


def _eps(config: Mapping[str, Any]) -> float:
    value = config.get("layer_norm_eps", 1e-12)
    if type(value) not in {int, float} or not 0 < value < 1:
        raise InvalidArgumentError(
            f"config.json: layer_norm_eps is a small number above 0, not {value!r:.60}",
            field="layer_norm_eps",
        )
    return float(value)


def _shapes(shape: BertShape) -> dict[str, tuple[int, ...]]:
    """Return what tensors there must be, with their shapes, as PyTorch keeps them."""
    wide, inner = shape.width, shape.inner
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (shape.words, wide),
        "embeddings.position_embeddings.weight": (shape.positions, wide),
    }
    norms = ["embeddings.LayerNorm"]
    linears: dict[str, tuple[int, ...]] = {}
    for number in range(shape.layers):
        layer = f"{_LAYER}.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        linears |= {f"{layer}.attention.self.{x}": (wide, wide) for x in ("query", "key", "value")}
        linears[f"{layer}.attention.output.dense"] = (wide, wide)
        linears[f"{layer}.intermediate.dense"] = (inner, wide)
        linears[f"{layer}.output.dense"] = (wide, inner)
    for name in norms:
        found |= {f"{name}.weight": (wide,), f"{name}.bias": (wide,)}
    for name, size in linears.items():
        found |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return found


def plain_weights(weights: Mapping[str, AnyArray], shape: BertShape) -> dict[str, F32]:
    """Return the weights as float32 under BERT's own names, their shapes checked.

    Raises
    ------
    InvalidArgumentError
        If a tensor is missing or has another shape than the configuration says.

    """
    named: dict[str, AnyArray] = {}
    for name, values in weights.items():
        start = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
        # The names that TensorFlow had for these are still found in older files.
        plain = name.removeprefix(start).replace("LayerNorm.gamma", "LayerNorm.weight")
        named[plain.replace("LayerNorm.beta", "LayerNorm.bias")] = values
    wanted = _shapes(shape)
    kinds = "embeddings.token_type_embeddings.weight"
    if kinds in named:
        wanted[kinds] = (len(named[kinds]), shape.width)
    for name, size in wanted.items():
        if name not in named:
            raise InvalidArgumentError(f"model.safetensors: the tensor {name!r} is missing")
        if named[name].shape != size:
            raise InvalidArgumentError(
                f"model.safetensors: {name!r} has the shape {named[name].shape}, and config.json "
                f"says {size}"
            )
    return {name: named[name].astype(np.float32) for name in wanted}


def build_bert(weights: Mapping[str, AnyArray], shape: BertShape) -> onnx.ModelProto:
    """Build the model: int64 tokens and mask [b, t] to float32 vectors [b, t, d] of the tokens.

    Raises
    ------
    InvalidArgumentError
        If a tensor is missing or has another shape than the configuration says.

    """
    return _Builder(plain_weights(weights, shape), shape).model()


class _Builder:
    """A BERT under construction."""

    def __init__(self, weights: Mapping[str, F32], shape: BertShape) -> None:
        self._weights = weights
        self._shape = shape
        self._graph = Graph()

    def model(self) -> onnx.ModelProto:
        graph, layers = self._graph, self._shape.layers
        kept = graph.add("Unsqueeze", "attention_mask", graph.axes(1, 2))
        masked = graph.add("Sub", graph.number(1), graph.as_float(kept))
        bias = graph.add("Mul", masked, graph.number(_MASKED))
        x = self._embedded()
        for number in range(layers):
            name = f"{_LAYER}.{number}"
            attended = self._attended(x, bias, name)
            x = self._fed_forward(attended, name, OUTPUT if number == layers - 1 else None)
        outputs = {OUTPUT: ("b", "t", self._shape.width)}
        return graph.model("bert", inputs=token_inputs(), outputs=outputs)

    def _embedded(self) -> str:
        """Add words, positions and the one token type that single texts have."""
        graph, weights = self._graph, self._weights
        words = graph.constant("words", weights["embeddings.word_embeddings.weight"])
        places = weights["embeddings.position_embeddings.weight"][self._shape.first_position :]
        kinds = weights.get("embeddings.token_type_embeddings.weight")
        if kinds is not None:
            places = places + kinds[0]
        table = graph.constant("places", places)
        length = graph.add("Shape", "input_ids", start=1, end=2)
        place = graph.add("Slice", table, graph.axes(0), length, graph.axes(0))
        x = graph.add("Add", graph.add("Gather", words, "input_ids"), place)
        return self._normalised(x, "embeddings.LayerNorm")

    def _attended(self, x: str, bias: str, layer: str) -> str:
        """Add attention: each token takes of the others, by its heads, and keeps what it was."""
        graph, shape, name = self._graph, self._shape, f"{layer}.attention"
        head = shape.width // shape.heads
        split, joined = graph.axes(0, 0, shape.heads, head), graph.axes(0, 0, shape.width)

        def by_head(part: str, order: tuple[int, ...]) -> str:
            projected = graph.linear(x, self._weights, f"{name}.self.{part}")
            return graph.add("Transpose", graph.add("Reshape", projected, split), perm=order)

        scores = graph.add("MatMul", by_head("query", (0, 2, 1, 3)), by_head("key", (0, 2, 3, 1)))
        scores = graph.add("Add", graph.add("Mul", scores, graph.number(head**-0.5)), bias)
        shares = graph.add("Softmax", scores, axis=-1)
        mixed = graph.add("MatMul", shares, by_head("value", (0, 2, 1, 3)))
        mixed = graph.add("Reshape", graph.add("Transpose", mixed, perm=(0, 2, 1, 3)), joined)
        mixed = graph.linear(mixed, self._weights, f"{name}.output.dense")
        return self._normalised(graph.add("Add", mixed, x), f"{name}.output.LayerNorm")

    def _fed_forward(self, x: str, layer: str, result: str | None) -> str:
        """Add a net of two layers, applied to each token, which keeps what it was."""
        graph = self._graph
        inner = graph.linear(x, self._weights, f"{layer}.intermediate.dense")
        active = graph.add("Gelu", inner, approximate=self._shape.gelu)
        outer = graph.linear(active, self._weights, f"{layer}.output.dense")
        return self._normalised(graph.add("Add", outer, x), f"{layer}.output.LayerNorm", result)

    def _normalised(self, x: str, name: str, result: str | None = None) -> str:
        return self._graph.layer_norm(x, self._weights, name, eps=self._shape.eps, result=result)
