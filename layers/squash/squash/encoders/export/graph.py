"""Collects the operations and constants of an ONNX graph, and makes a checked model of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from squash.arrays import AnyArray

# Opset 20 is the first with Gelu; onnxruntime has known both since 1.17.
OPSET: Final = 20
IR_VERSION: Final = 9
TOKEN_INPUTS: Final = ("input_ids", "attention_mask")

Shape = Sequence[int | str]


class Graph:
    """A graph under construction; a result is known by its name."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    def add(self, kind: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        """Add an operation; return the name of its result, `result` if that is given."""
        name = result or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: Any) -> str:
        """Add a constant, once; return its name."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def number(self, value: float) -> str:
        """Add a float32 without axes."""
        return self._scalar(f"number {value!r}", np.array(value, dtype=np.float32))

    def axes(self, *values: int) -> str:
        """Add a list of int64, as axes and shapes are given."""
        return self.constant(f"axes {values}", np.array(values, dtype=np.int64))

    def _scalar(self, name: str, value: AnyArray) -> str:
        # np.ascontiguousarray would give it an axis.
        self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def as_float(self, x: str) -> str:
        """Add a cast to float32."""
        return self.add("Cast", x, to=TensorProto.FLOAT)

    def linear(self, x: str, weights: Mapping[str, AnyArray], name: str) -> str:
        """Add x W^T + b, with weights as PyTorch keeps them: W [outputs, inputs]."""
        weight = self.constant(f"{name}.weight", weights[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", weights[f"{name}.bias"])
        return self.add("Add", self.add("MatMul", x, weight), bias)

    def layer_norm(
        self,
        x: str,
        weights: Mapping[str, AnyArray],
        name: str,
        *,
        eps: float,
        result: str | None = None,
    ) -> str:
        """Add a normalisation over the last axis."""
        scale = self.constant(f"{name}.weight", weights[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", weights[f"{name}.bias"])
        return self.add("LayerNormalization", x, scale, bias, result=result, axis=-1, epsilon=eps)

    def model(
        self, name: str, *, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, Shape]
    ) -> onnx.ModelProto:
        """Return the model; its outputs are float32, its inputs of an element type and a shape."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(key, *value) for key, value in inputs.items()],
            [
                helper.make_tensor_value_info(key, TensorProto.FLOAT, shape)
                for key, shape in outputs.items()
            ],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="squash",
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def token_inputs() -> dict[str, tuple[int, Shape]]:
    """Return the inputs of a model of texts: int64 [b, t] each."""
    return {name: (int(TensorProto.INT64), ("b", "t")) for name in TOKEN_INPUTS}
