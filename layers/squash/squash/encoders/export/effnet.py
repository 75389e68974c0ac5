"""EfficientNet-Lite0 as ONNX: pooled features of images, from weights as PyTorch keeps them.

Tan & Le 2019; the Lite form has no squeeze-and-excitation and ReLU6 for its activation. Padding is
TensorFlow's, where the weights come from: uneven, the odd pixel after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto

from squash.arrays import F32, AnyArray
from squash.encoders.export.graph import Graph
from squash.errors import InvalidArgumentError
from squash.values import dataclass

INPUT: Final = "pixels"
OUTPUT: Final = "image_embeds"
SIZE: Final = 224
RESIZE: Final = 256
DIMENSION: Final = 1_280
_EPS: Final = 1e-3
# What the weights were trained to see: (value - 127) / 128, of values 0 to 255.
_MIDDLE: Final = 127.0
_SPREAD: Final = 128.0


@dataclass(frozen=True, slots=True)
class _Stage:
    """So many blocks; the first changes the channels and may halve the sides."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


_STEM: Final = 32
_STAGES: Final = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _Net:
    """Adds convolutions to a graph, each with the normalisation that follows it."""

    def __init__(self, weights: Mapping[str, AnyArray]) -> None:
        self.graph = Graph()
        self._weights = weights

    def _tensor(self, name: str, shape: tuple[int, ...]) -> F32:
        found = self._weights.get(name)
        if found is None or found.shape != shape:
            what = "missing" if found is None else f"of shape {found.shape}, not {shape}"
            raise InvalidArgumentError(f"EfficientNet-Lite0: the tensor {name!r} is {what}")
        return found.astype(np.float32)

    def convolved(
        self, x: str, name: str, norm: str, shape: tuple[int, ...], *, stride: int = 1,
        groups: int = 1, active: bool = True,
    ) -> str:  # fmt: skip
        """Add a convolution [outputs, inputs / groups, k, k]; its normalisation joins it."""
        outputs = shape[0]
        gain, shift, mean, variance = (
            self._tensor(f"{norm}.{part}", (outputs,)).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / np.sqrt(variance + _EPS)
        weight = self._tensor(f"{name}.weight", shape) * factor[:, None, None, None]
        graph = self.graph
        made = graph.add(
            "Conv",
            x,
            graph.constant(f"{name}.weight", weight.astype(np.float32)),
            graph.constant(f"{name}.bias", (shift - mean * factor).astype(np.float32)),
            auto_pad="SAME_UPPER",
            kernel_shape=shape[2:],
            strides=(stride, stride),
            group=groups,
        )
        return graph.add("Clip", made, graph.number(0), graph.number(6)) if active else made

    def block(self, x: str, name: str, stage: _Stage, channels: int, stride: int) -> str:
        """Add a block: wider, each channel with its neighbours, narrower; plus what came in."""
        wide, kernel = channels * stage.expand, stage.kernel
        inner = x
        if stage.expand > 1:
            inner = self.convolved(
                inner, f"{name}._expand_conv", f"{name}._bn0", (wide, channels, 1, 1)
            )
        inner = self.convolved(
            inner, f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, kernel, kernel),
            stride=stride, groups=wide,
        )  # fmt: skip
        inner = self.convolved(
            inner, f"{name}._project_conv", f"{name}._bn2", (stage.channels, wide, 1, 1),
            active=False,
        )  # fmt: skip
        if stride == 1 and channels == stage.channels:
            return self.graph.add("Add", inner, x)
        return inner


def build_efficientnet(weights: Mapping[str, AnyArray]) -> onnx.ModelProto:
    """Build the model: uint8 images [b, 224, 224, 3] to float32 features [b, 1280].

    Raises
    ------
    InvalidArgumentError
        If a tensor is missing or has another shape.

    """
    net = _Net(weights)
    graph = net.graph
    values = graph.add("Sub", graph.as_float(INPUT), graph.number(_MIDDLE))
    values = graph.add("Div", values, graph.number(_SPREAD))
    x = graph.add("Transpose", values, perm=(0, 3, 1, 2))
    x = net.convolved(x, "_conv_stem", "_bn0", (_STEM, 3, 3, 3), stride=2)
    channels, number = _STEM, 0
    for stage in _STAGES:
        for place in range(stage.blocks):
            stride = stage.stride if place == 0 else 1
            x = net.block(x, f"_blocks.{number}", stage, channels, stride)
            channels, number = stage.channels, number + 1
    x = net.convolved(x, "_conv_head", "_bn1", (DIMENSION, channels, 1, 1))
    graph.add("ReduceMean", x, graph.axes(2, 3), keepdims=0, result=OUTPUT)
    return graph.model(
        "efficientnet-lite0",
        inputs={INPUT: (int(TensorProto.UINT8), ("b", SIZE, SIZE, 3))},
        outputs={OUTPUT: ("b", DIMENSION)},
    )
