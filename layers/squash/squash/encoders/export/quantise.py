"""Smaller models: weights of eight bits, with or without activations of eight bits.

`eight_bit_weights` rounds weights only (in blocks, each with its scale), and a text's vector stays
its own whatever batch it is in. `dynamic_int8` rounds activations too, with one scale for a whole
tensor: faster, coarser, and a text's vector then depends on those it shares a run with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from squash.arrays import F32, I8, U8
from squash.errors import InvalidArgumentError

BLOCK: Final = 32
_MICROSOFT: Final = "com.microsoft"
# Products of blocks are taken in int8: several times as fast as 0, which unpacks to float32.
_ACCURACY_LEVEL: Final = 4
# Small tables, such as those of positions or token types, save nothing.
_TABLE_ROWS_MIN: Final = 256
_HALF: Final = 128
_MOST: Final = 127


def blocked(weight: F32) -> tuple[U8, F32]:
    """Round a weight [inputs, outputs] to eight bits, in blocks of inputs with a scale each.

    Returns
    -------
    (uint8 [outputs, blocks, `BLOCK`], float32 [outputs * blocks])
        A value is (code - 128) * scale; the last block is filled with zeros.

    """
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), dtype=np.float32)
    padded[:, :inputs] = weight.T
    cut = padded.reshape(outputs, blocks, BLOCK)
    scales = _scales(cut)
    codes = (np.rint(cut / scales) + _HALF).astype(np.uint8)
    return codes, scales.reshape(-1)


def rows_rounded(table: F32) -> tuple[I8, F32]:
    """Round a table [n, d] to int8, a scale [n, 1] a row."""
    scales = _scales(table)
    return np.rint(table / scales).astype(np.int8), scales


def _scales(values: F32) -> F32:
    """Return the scale of each last axis: its largest magnitude becomes 127."""
    most = np.abs(values).max(axis=-1, keepdims=True)
    return np.where(most == 0, 1, most / _MOST).astype(np.float32)


def eight_bit_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its matrices in blocks of eight bits and its tables in int8.

    Raises
    ------
    InvalidArgumentError
        If it holds no float32 matrix or table to be made smaller.

    """
    weights = _float_matrices(model.graph)
    nodes: list[Any] = []
    made: dict[str, Any] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            nodes += _blocked_product(node, weights[node.input[1]], made)
        elif node.op_type == "Gather" and _is_table(node, weights):
            nodes += _rounded_gather(node, weights[node.input[0]], made)
        else:
            nodes.append(node)
    if not made:
        raise InvalidArgumentError(
            "the model holds no float32 weights that could be made smaller: it may be quantised "
            "already; export it with quantize 'none'"
        )
    return _rebuilt(model, nodes, made)


def _float_matrices(graph: Any) -> dict[str, F32]:
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2  # noqa: PLR2004
    }


def _is_table(node: Any, weights: Mapping[str, F32]) -> bool:
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    return axis == 0 and node.input[0] in weights and len(weights[node.input[0]]) >= _TABLE_ROWS_MIN


def _blocked_product(node: Any, weight: F32, made: dict[str, Any]) -> list[Any]:
    name = node.input[1]
    if f"{name}.codes" not in made:
        codes, scales = blocked(weight)
        made[f"{name}.codes"] = numpy_helper.from_array(codes, f"{name}.codes")
        made[f"{name}.scales"] = numpy_helper.from_array(scales, f"{name}.scales")
    inputs, outputs = weight.shape
    return [
        helper.make_node(
            "MatMulNBits",
            [node.input[0], f"{name}.codes", f"{name}.scales"],
            node.output,
            name=node.name,
            domain=_MICROSOFT,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=_ACCURACY_LEVEL,
        )
    ]


def _rounded_gather(node: Any, table: F32, made: dict[str, Any]) -> list[Any]:
    name, rows, result = node.input[0], node.input[1], node.output[0]
    if f"{name}.codes" not in made:
        codes, scales = rows_rounded(table)
        made[f"{name}.codes"] = numpy_helper.from_array(codes, f"{name}.codes")
        made[f"{name}.scales"] = numpy_helper.from_array(scales, f"{name}.scales")

    def operation(kind: str, inputs: list[str], suffix: str, **attributes: Any) -> Any:
        output = f"{result}{suffix}"
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    return [
        operation("Gather", [f"{name}.codes", rows], ".codes"),
        operation("Cast", [f"{result}.codes"], ".floats", to=TensorProto.FLOAT),
        operation("Gather", [f"{name}.scales", rows], ".scales"),
        operation("Mul", [f"{result}.floats", f"{result}.scales"], ""),
    ]


def _rebuilt(model: onnx.ModelProto, nodes: list[Any], made: dict[str, Any]) -> onnx.ModelProto:
    """Return a model of these nodes, with the constants that they need."""
    graph = model.graph
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    domains = {one.domain: one.version for one in model.opset_import} | {_MICROSOFT: 1}
    rebuilt = helper.make_model(
        helper.make_graph(nodes, graph.name, graph.input, graph.output, [*kept, *made.values()]),
        opset_imports=[helper.make_opsetid(name, number) for name, number in domains.items()],
        ir_version=model.ir_version,
        producer_name="squash",
    )
    onnx.checker.check_model(rebuilt)
    return rebuilt


def dynamic_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with int8 weights, a scale a column, and activations rounded as it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - seldom used

    with tempfile.TemporaryDirectory(prefix="squash-export-") as scratch:
        path = Path(scratch) / "model.onnx"
        quantize_dynamic(model, path, per_channel=True, weight_type=QuantType.QInt8)
        return onnx.load(path)
