"""The layers a compact network is made of, in NumPy: forward, backward, and as the file computes them.

Tensors have the shape ``(n, height, width, channels)``; a dense layer is a convolution of one
point. Padding is TensorFlow's SAME. `hybrid` is the arithmetic of int8 weights with float inputs,
as the kernels of every runtime do it for convolutions: inputs to 8 bit with scale and zero point of
the sample, sums in integers, result back to float32. (XNNPACK in ai-edge-litert gives each point of
a 1 x 1 convolution its own scale: the same for a dense layer, a little finer for an image.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """``weights`` of shape ``(n_out, height, width, n_in)``, ``bias`` of shape ``(n_out,)``."""

    weights: Array
    bias: Array
    relu: bool = True
    stride: int = 1

    channel_axis = 0


@dataclass(frozen=True, slots=True, eq=False)
class Depthwise:
    """A filter for each channel: ``weights`` of shape ``(1, height, width, n_channels)``."""

    weights: Array
    bias: Array
    relu: bool = True
    stride: int = 1

    channel_axis = 3


@dataclass(frozen=True, slots=True, eq=False)
class Fire:
    """Squeeze to few channels, expand with filters of one point and of three, side by side.

    F. Iandola et al., SqueezeNet, 2016.
    """

    squeeze: Conv
    expand_point: Conv
    expand_wide: Conv


@dataclass(frozen=True, slots=True)
class Upsample:
    """Repeats each point of the width, and of the height where there is more than one."""

    factor: int = 2


Layer: TypeAlias = Conv | Depthwise | Fire | Upsample


def weighted(layers: tuple[Layer, ...]) -> Iterator[Conv | Depthwise]:
    """Every layer with weights, in the order of the file."""
    for layer in layers:
        if isinstance(layer, Fire):
            yield from (layer.squeeze, layer.expand_point, layer.expand_wide)
        elif not isinstance(layer, Upsample):
            yield layer


def out_size(size: int, stride: int) -> int:
    return math.ceil(size / stride)


def _padded(x: Array, kernel: tuple[int, int], stride: int) -> Array:
    pads = [(0, 0)]
    for size, taps in zip(x.shape[1:3], kernel, strict=True):
        total = max((out_size(size, stride) - 1) * stride + taps - size, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)])


def _tap(padded: Array, i: int, j: int, out_shape: tuple[int, int], stride: int) -> Array:
    rows, columns = out_shape
    return padded[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]


def _convolve(layer: Conv | Depthwise, x: Array, weights: Array) -> Array:
    kernel = (weights.shape[1], weights.shape[2])
    padded = _padded(x, kernel, layer.stride)
    shape = (out_size(x.shape[1], layer.stride), out_size(x.shape[2], layer.stride))
    total: Array | None = None
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            tap = _tap(padded, i, j, shape, layer.stride)
            part = tap @ weights[:, i, j].T if isinstance(layer, Conv) else tap * weights[0, i, j]
            total = part if total is None else total + part
    assert total is not None
    return total


def forward(layer: Layer, x: Array) -> Array:
    """The layer in float32."""
    if isinstance(layer, Upsample):
        return _repeat(x, layer.factor)
    if isinstance(layer, Fire):
        inner = forward(layer.squeeze, x)
        return np.concatenate(
            [forward(layer.expand_point, inner), forward(layer.expand_wide, inner)], axis=-1
        )
    y = _convolve(layer, x, layer.weights) + layer.bias
    return np.maximum(y, 0) if layer.relu else y


def hybrid(layer: Layer, x: Array) -> Array:
    """The layer as a runtime computes it from int8 weights."""
    if isinstance(layer, Upsample):
        return _repeat(x, layer.factor)
    if isinstance(layer, Fire):
        inner = hybrid(layer.squeeze, x)
        return np.concatenate([hybrid(layer.expand_point, inner), hybrid(layer.expand_wide, inner)], axis=-1)
    weights, scales = to_int8(layer.weights, layer.channel_axis)
    # With one output channel there is one scale, and runtimes take the older, symmetric kernel.
    inputs, input_scale = _quantized_input(x, symmetric=layer.bias.size == 1)
    # Integers of this size are exact in float64, and its matrix product is the fast one.
    sums = _convolve(layer, inputs, weights.astype(np.float64))
    y = (sums * input_scale * scales + layer.bias).astype(np.float32)
    return np.maximum(y, 0) if layer.relu else y


def to_int8(weights: Array, channel_axis: int) -> tuple[npt.NDArray[np.int8], Array]:
    """Symmetric int8 values, and one scale for each index of `channel_axis`."""
    others = tuple(axis for axis in range(weights.ndim) if axis != channel_axis)
    peak = np.abs(weights).max(axis=others)
    scales = (np.where(peak > 0, peak, 1.0) / 127.0).astype(np.float32)
    shape = [1] * weights.ndim
    shape[channel_axis] = -1
    return np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8), scales


def _quantized_input(x: Array, *, symmetric: bool) -> tuple[Array, Array]:
    """Eight-bit values less their zero point, and the scale of each sample."""
    axes = (1, 2, 3)
    if symmetric:
        peak = np.abs(x).max(axis=axes, keepdims=True).astype(np.float64)
        step = np.where(peak > 0, peak / 127.0, 1.0)
        return np.clip(np.rint(x / step), -127, 127), step
    low = np.minimum(x.min(axis=axes, keepdims=True), 0).astype(np.float64)
    high = np.maximum(x.max(axis=axes, keepdims=True), 0).astype(np.float64)
    scale = np.where(high > low, (high - low) / 255.0, 1.0)
    zero = np.clip(np.rint(-128 - low / scale), -128, 127)
    values = np.clip(np.rint(x / scale) + zero, -128, 127) - zero
    return values, scale


def _repeat(x: Array, factor: int) -> Array:
    wide = np.repeat(x, factor, axis=2)
    return np.repeat(wide, factor, axis=1) if x.shape[1] > 1 else wide


def backward(layer: Layer, x: Array, delta: Array) -> tuple[Array, list[Array]]:
    """Gradients by the input, and by weights and bias in the order of `weighted`.

    `delta` is the gradient by the output of `forward` for the input `x`.
    """
    if isinstance(layer, Upsample):
        return _folded(delta, layer.factor, x.shape), []
    if isinstance(layer, Fire):
        inner = forward(layer.squeeze, x)
        split = layer.expand_point.bias.size
        of_point, by_point = backward(layer.expand_point, inner, delta[..., :split])
        of_wide, by_wide = backward(layer.expand_wide, inner, delta[..., split:])
        of_input, by_squeeze = backward(layer.squeeze, x, of_point + of_wide)
        return of_input, [*by_squeeze, *by_point, *by_wide]
    if layer.relu:
        delta = delta * (forward(layer, x) > 0)
    return _convolve_back(layer, x, delta)


def _convolve_back(layer: Conv | Depthwise, x: Array, delta: Array) -> tuple[Array, list[Array]]:
    kernel = (layer.weights.shape[1], layer.weights.shape[2])
    padded = _padded(x, kernel, layer.stride)
    of_padded, by_weights = np.zeros_like(padded), np.zeros_like(layer.weights)
    shape = (delta.shape[1], delta.shape[2])
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            tap = _tap(padded, i, j, shape, layer.stride)
            into = _tap(of_padded, i, j, shape, layer.stride)
            if isinstance(layer, Conv):
                flat = delta.reshape(-1, delta.shape[-1])
                by_weights[:, i, j] = flat.T @ tap.reshape(-1, tap.shape[-1])
                into += delta @ layer.weights[:, i, j]
            else:
                by_weights[0, i, j] = (delta * tap).sum(axis=(0, 1, 2))
                into += delta * layer.weights[0, i, j]
    before = [
        max((out_size(size, layer.stride) - 1) * layer.stride + taps - size, 0) // 2
        for size, taps in zip(x.shape[1:3], kernel, strict=True)
    ]
    rows, columns = (slice(b, b + size) for b, size in zip(before, x.shape[1:3], strict=True))
    return of_padded[:, rows, columns], [by_weights, delta.sum(axis=(0, 1, 2))]


def _folded(delta: Array, factor: int, shape: tuple[int, ...]) -> Array:
    n, height, width, channels = shape
    tall = factor if height > 1 else 1
    folded: Array = delta.reshape(n, height, tall, width, factor, channels).sum(axis=(2, 4))
    return folded
