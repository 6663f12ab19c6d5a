"""A compact network that reconstructs what is healthy, and its `.tflite` file.

Input scaling and reconstruction error are part of the graph, so every runtime gives the same score.
The body may be int8: weights with one scale for each output channel, while input, output, scaling
and residual stay float32 (full int8 input and output saturate exactly where an anomaly begins).

Dense layers are written as convolutions of one point. Of a dense layer with int8 weights
tflite-runtime 2.14 reads only the first scale, without an error, and its scores are then wrong;
convolutions it computes right, and ai-edge-litert, with and without XNNPACK, to the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pdm_edge.detect.graph import Graph, Op
from pdm_edge.detect.layers import Array, Conv, Depthwise, Fire, Layer, Upsample, forward, hybrid, to_int8

SMALLEST: Final = 1e-12
"""What is taken for zero before a logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """``z = (y - mean) * inverse_std``, where y is ln(x) for features marked `logarithmic`, else x.

    Vibration levels scatter and grow in proportion to themselves: a doubling is a doubling at
    every level, so it is their logarithm that is compared.
    """

    mean: Array
    inverse_std: Array
    logarithmic: Array  # 1.0 or 0.0 for each feature

    def __call__(self, x: Array) -> Array:
        levels = np.log(np.maximum(x, np.float32(SMALLEST)))
        z: Array = (np.where(self.logarithmic > 0, levels, x) - self.mean) * self.inverse_std
        return z


@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """Scaled features, taken as an image of `shape` (height, width, channels), and its layers."""

    scaling: Scaling
    shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

    def squared_residuals(self, x: Array, *, int8: bool = False) -> Array:
        """The same in NumPy, shape ``(n, n_features)``: what the file must agree with."""
        z = self.scaling(x)
        hidden = z.reshape(-1, *self.shape)
        for layer in self.layers:
            hidden = hybrid(layer, hidden) if int8 else forward(layer, hidden)
        residual: Array = (z - hidden.reshape(z.shape)) ** 2
        return residual


def write_autoencoder(net: Autoencoder, *, quantize: bool) -> bytes:
    """The network as a `.tflite` file.

    Input ``features`` of shape ``(1, n_features)``; outputs ``score`` (mean squared residual, shape
    ``(1,)``) and ``squared_residuals`` of shape ``(1, n_features)``, all float32. The first axis
    may be resized for batches.

    Parameters
    ----------
    quantize
        Store the weights as int8 with one scale for each output channel.
    """
    graph = Graph()
    n_features = net.scaling.mean.size
    x = graph.tensor("features", (1, n_features))
    z = _scaled(graph, net.scaling, x)
    shape = graph.constant("image_shape", np.array([-1, *net.shape], dtype=np.int32))
    hidden = graph.operator(Op.RESHAPE, (z, shape), "image", (1, *net.shape))
    for index, layer in enumerate(net.layers):
        hidden = _add(graph, layer, hidden, f"layer_{index}", quantize)
    flat = graph.constant("feature_shape", np.array([-1, n_features], dtype=np.int32))
    rebuilt = graph.operator(Op.RESHAPE, (hidden, flat), "reconstruction", (1, n_features))
    squares = graph.operator(Op.SQUARED_DIFFERENCE, (z, rebuilt), "squared_residuals", (1, n_features))
    axis = graph.constant("axis", np.array([1], dtype=np.int32))
    score = graph.operator(Op.MEAN, (squares, axis), "score", (1,))
    return graph.finish(inputs=(x,), outputs=(score, squares), description="pdm-edge autoencoder")


def _scaled(graph: Graph, scaling: Scaling, x: int) -> int:
    """Levels and plain values side by side: each is multiplied by zero where it is not wanted."""
    shape = graph.shape(x)
    marked = scaling.logarithmic > 0

    def part(source: int, name: str, wanted: Array) -> int:
        centred = graph.operator(
            Op.SUB, (source, graph.constant(f"{name}_mean", scaling.mean * wanted)), f"{name}_centred", shape
        )
        factor = graph.constant(f"{name}_inverse_std", scaling.inverse_std * wanted)
        return graph.operator(Op.MUL, (centred, factor), f"{name}_scaled", shape)

    parts = []
    if marked.any():
        smallest = graph.constant("smallest", np.full(1, SMALLEST, dtype=np.float32))
        above = graph.operator(Op.MAXIMUM, (x, smallest), "above_zero", shape)
        logarithm = graph.operator(Op.LOG, (above,), "logarithm", shape)
        parts.append(part(logarithm, "levels", marked.astype(np.float32)))
    if not marked.all():
        parts.append(part(x, "values", (~marked).astype(np.float32)))
    return parts[0] if len(parts) == 1 else graph.operator(Op.ADD, (parts[0], parts[1]), "z", shape)


def _add(graph: Graph, layer: Layer, x: int, name: str, quantize: bool) -> int:
    n, height, width, channels = graph.shape(x)
    if isinstance(layer, Upsample):
        size = (height * layer.factor if height > 1 else 1, width * layer.factor)
        wanted = graph.constant(f"{name}_size", np.array(size, dtype=np.int32))
        return graph.operator(Op.RESIZE_NEAREST_NEIGHBOR, (x, wanted), name, (n, *size, channels))
    if isinstance(layer, Fire):
        inner = _add(graph, layer.squeeze, x, f"{name}_squeeze", quantize)
        point = _add(graph, layer.expand_point, inner, f"{name}_point", quantize)
        wide = _add(graph, layer.expand_wide, inner, f"{name}_wide", quantize)
        shape = graph.shape(point)
        total = (*shape[:3], shape[3] + graph.shape(wide)[3])
        return graph.operator(Op.CONCATENATION, (point, wide), name, total, axis=3)
    return _add_weighted(graph, layer, x, name, quantize)


def _add_weighted(graph: Graph, layer: Conv | Depthwise, x: int, name: str, quantize: bool) -> int:
    n, height, width, _ = graph.shape(x)
    if quantize:
        stored, scales = to_int8(layer.weights, layer.channel_axis)
        weights = graph.int8_constant(f"{name}_weights", stored, scales, layer.channel_axis)
    else:
        weights = graph.constant(f"{name}_weights", layer.weights)
    bias = graph.constant(f"{name}_bias", layer.bias)
    size = (-(-height // layer.stride), -(-width // layer.stride))
    code = Op.CONV_2D if isinstance(layer, Conv) else Op.DEPTHWISE_CONV_2D
    shape = (n, *size, layer.bias.size)
    return graph.operator(code, (x, weights, bias), name, shape, relu=layer.relu, stride=layer.stride)
