"""Writes a trained dense autoencoder as a `.tflite` file, with nothing but the flatbuffers package.

Input scaling and reconstruction error are part of the graph, so every runtime gives the same score.
The body may be int8: weights with one scale a layer, while input, output, scaling and residual stay
float32 (full int8 input and output saturate exactly where an anomaly begins). One scale for each
output channel would be finer, but tflite-runtime 2.14 reads only the first of them without an
error, and its scores are then wrong.

Table slots and enumeration values are those of the TensorFlow Lite schema, version 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import flatbuffers
import numpy as np
import numpy.typing as npt

_FLOAT32, _INT32, _INT8 = 0, 2, 9
_FULLY_CONNECTED, _MUL, _MEAN, _SUB, _SQUARED_DIFFERENCE = 9, 18, 40, 41, 99
_FULLY_CONNECTED_OPTIONS, _MUL_OPTIONS, _REDUCER_OPTIONS, _SUB_OPTIONS, _SQUARED_DIFFERENCE_OPTIONS = (
    8,
    21,
    27,
    28,
    76,
)
_OPTIONS: Final = {
    _FULLY_CONNECTED: _FULLY_CONNECTED_OPTIONS,
    _MUL: _MUL_OPTIONS,
    _MEAN: _REDUCER_OPTIONS,
    _SUB: _SUB_OPTIONS,
    _SQUARED_DIFFERENCE: _SQUARED_DIFFERENCE_OPTIONS,
}
_RELU: Final = 1

FloatMatrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A dense layer: ``weights`` of shape ``(n_out, n_in)``, ``bias`` of shape ``(n_out,)``."""

    weights: FloatMatrix
    bias: FloatMatrix
    relu: bool


@dataclass(frozen=True, slots=True, eq=False)
class Autoencoder:
    """A trained network: ``z = (x - mean) * inverse_std``, layers, squared residual of z."""

    mean: FloatMatrix
    inverse_std: FloatMatrix
    layers: tuple[Layer, ...]

    def squared_residuals(self, x: FloatMatrix) -> FloatMatrix:
        """The same in NumPy, shape ``(n, n_features)``: what the file must agree with."""
        z = (x - self.mean) * self.inverse_std
        hidden = z
        for layer in self.layers:
            hidden = hidden @ layer.weights.T + layer.bias
            if layer.relu:
                hidden = np.maximum(hidden, 0)
        residual: FloatMatrix = (z - hidden) ** 2
        return residual


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    content: bytes = b""
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class _Operator:
    code: int
    inputs: tuple[int, ...]
    output: int
    relu: bool = False


def write_autoencoder(net: Autoencoder, *, quantize: bool) -> bytes:
    """The network as a `.tflite` file.

    Input ``features`` of shape ``(1, n_features)``; outputs ``score`` (mean squared residual, shape
    ``(1,)``) and ``squared_residuals`` of shape ``(1, n_features)``, all float32.

    Parameters
    ----------
    quantize
        Store the weights as int8 with one scale a layer.
    """
    graph = _Graph()
    n_features = net.mean.size
    x = graph.tensor("features", (1, n_features))
    centred = graph.operator(_SUB, (x, graph.constant("mean", net.mean)), "centred", (1, n_features))
    z = graph.operator(_MUL, (centred, graph.constant("inverse_std", net.inverse_std)), "z", (1, n_features))
    hidden = z
    for index, layer in enumerate(net.layers):
        weights = graph.weights(f"weights_{index}", layer.weights, quantize=quantize)
        bias = graph.constant(f"bias_{index}", layer.bias)
        hidden = graph.operator(
            _FULLY_CONNECTED,
            (hidden, weights, bias),
            f"hidden_{index}",
            (1, layer.bias.size),
            relu=layer.relu,
        )
    squares = graph.operator(_SQUARED_DIFFERENCE, (z, hidden), "squared_residuals", (1, n_features))
    axis = graph.constant("axis", np.array([1], dtype=np.int32))
    score = graph.operator(_MEAN, (squares, axis), "score", (1,))
    return graph.finish(inputs=(x,), outputs=(score, squares))


def quantized(net: Autoencoder) -> Autoencoder:
    """The network with the weights that int8 storage gives it, back in float32."""
    layers = []
    for layer in net.layers:
        values, scale = _to_int8(layer.weights)
        layers.append(Layer(values.astype(np.float32) * np.float32(scale), layer.bias, layer.relu))
    return Autoencoder(net.mean, net.inverse_std, tuple(layers))


def _to_int8(weights: FloatMatrix) -> tuple[npt.NDArray[np.int8], float]:
    """Symmetric int8 values and their scale."""
    scale = float(np.abs(weights).max() or 1.0) / 127.0
    return np.clip(np.rint(weights / scale), -127, 127).astype(np.int8), scale


class _Graph:
    """Collects tensors and operators, then writes them in one go."""

    def __init__(self) -> None:
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []

    def tensor(self, name: str, shape: tuple[int, ...]) -> int:
        return self._add(_Tensor(name, shape, _FLOAT32))

    def constant(self, name: str, values: npt.NDArray[np.float32] | npt.NDArray[np.int32]) -> int:
        kind = _INT32 if values.dtype == np.int32 else _FLOAT32
        stored = values.astype("<i4" if kind == _INT32 else "<f4")
        return self._add(_Tensor(name, values.shape, kind, stored.tobytes()))

    def weights(self, name: str, values: FloatMatrix, *, quantize: bool) -> int:
        if not quantize:
            return self.constant(name, values)
        stored, scale = _to_int8(values)
        return self._add(_Tensor(name, values.shape, _INT8, stored.tobytes(), scale))

    def operator(
        self, code: int, inputs: tuple[int, ...], name: str, shape: tuple[int, ...], *, relu: bool = False
    ) -> int:
        output = self.tensor(name, shape)
        self._operators.append(_Operator(code, inputs, output, relu))
        return output

    def _add(self, tensor: _Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def finish(self, *, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        builder = flatbuffers.Builder(1024)
        codes = sorted({operator.code for operator in self._operators})
        hybrid = any(tensor.kind == _INT8 for tensor in self._tensors)
        buffers = [_buffer(builder, b"")]
        tensors = []
        for tensor in self._tensors:
            number = 0
            if tensor.content:
                number = len(buffers)
                buffers.append(_buffer(builder, tensor.content))
            tensors.append(_tensor(builder, tensor, number))
        operators = [_operator(builder, operator, codes) for operator in self._operators]
        subgraph = _table(
            builder,
            5,
            [
                (0, _offsets(builder, tensors)),
                (1, _ints(builder, inputs)),
                (2, _ints(builder, outputs)),
                (3, _offsets(builder, operators)),
            ],
        )
        operator_codes = [_operator_code(builder, code, hybrid) for code in codes]
        parts = [
            (1, _offsets(builder, operator_codes)),
            (2, _offsets(builder, [subgraph])),
            (3, builder.CreateString("pdm-edge autoencoder")),
            (4, _offsets(builder, buffers)),
        ]
        builder.StartObject(5)
        builder.PrependUint32Slot(0, 3, 0)
        for slot, offset in parts:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, n_slots: int, parts: Sequence[tuple[int, int]]) -> int:
    builder.StartObject(n_slots)
    for slot, offset in parts:
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(builder.EndObject())


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _ints(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.array(values, dtype="<i4")))


def _buffer(builder: flatbuffers.Builder, content: bytes) -> int:
    if not content:
        return _table(builder, 1, [])
    builder.StartVector(1, len(content), 16)  # runtimes map weights as they are: 16-byte alignment
    builder.head -= len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    return _table(builder, 1, [(0, int(builder.EndVector()))])


def _tensor(builder: flatbuffers.Builder, tensor: _Tensor, buffer: int) -> int:
    name = builder.CreateString(tensor.name)
    shape = _ints(builder, tensor.shape)
    quantization = None
    if tensor.scale is not None:
        scales = builder.CreateNumpyVector(np.array([tensor.scale], dtype="<f4"))
        zeros = builder.CreateNumpyVector(np.zeros(1, dtype="<i8"))
        quantization = _table(builder, 7, [(2, scales), (3, zeros)])
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(0, shape, 0)
    builder.PrependInt8Slot(1, tensor.kind, 0)
    builder.PrependUint32Slot(2, buffer, 0)
    builder.PrependUOffsetTRelativeSlot(3, name, 0)
    if quantization is not None:
        builder.PrependUOffsetTRelativeSlot(4, quantization, 0)
    return int(builder.EndObject())


def _operator(builder: flatbuffers.Builder, operator: _Operator, codes: Sequence[int]) -> int:
    builder.StartObject(4)
    builder.PrependInt8Slot(0, _RELU if operator.relu else 0, 0)
    options = builder.EndObject()
    inputs, outputs = _ints(builder, operator.inputs), _ints(builder, (operator.output,))
    builder.StartObject(5)
    builder.PrependUint32Slot(0, codes.index(operator.code), 0)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
    builder.PrependUint8Slot(3, _OPTIONS[operator.code], 0)
    builder.PrependUOffsetTRelativeSlot(4, options, 0)
    return int(builder.EndObject())


def _operator_code(builder: flatbuffers.Builder, code: int, hybrid: bool) -> int:
    builder.StartObject(4)
    builder.PrependInt8Slot(0, code, 0)
    # Version 3 of a dense layer is the first that takes int8 weights with a float input.
    builder.PrependInt32Slot(2, 3 if hybrid and code == _FULLY_CONNECTED else 1, 1)
    builder.PrependInt32Slot(3, code, 0)
    return int(builder.EndObject())
