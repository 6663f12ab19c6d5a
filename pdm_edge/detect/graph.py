"""Writes a `.tflite` file with nothing but the flatbuffers package.

Table slots and enumeration values are those of the TensorFlow Lite schema, version 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import flatbuffers
import numpy as np
import numpy.typing as npt

_FLOAT32, _INT32, _INT8 = 0, 2, 9

FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]


class Op(IntEnum):
    """Codes of the built-in operators that are used here."""

    ADD = 0
    CONCATENATION = 2
    CONV_2D = 3
    DEPTHWISE_CONV_2D = 4
    FULLY_CONNECTED = 9
    MUL = 18
    RESHAPE = 22
    MEAN = 40
    SUB = 41
    MAXIMUM = 55
    LOG = 73
    RESIZE_NEAREST_NEIGHBOR = 97
    SQUARED_DIFFERENCE = 99


@dataclass(frozen=True, slots=True)
class _Kind:
    """The option table of an operator: its number in the union, and its fields as (slot, type)."""

    union: int
    activation: int | None = None


_KINDS: Final = {
    Op.ADD: _Kind(11, 0),
    Op.CONCATENATION: _Kind(10),
    Op.CONV_2D: _Kind(1, 3),
    Op.DEPTHWISE_CONV_2D: _Kind(2, 4),
    Op.FULLY_CONNECTED: _Kind(8, 0),
    Op.MUL: _Kind(21, 0),
    Op.RESHAPE: _Kind(17),
    Op.MEAN: _Kind(27),
    Op.SUB: _Kind(28, 0),
    Op.MAXIMUM: _Kind(39),
    Op.LOG: _Kind(0),
    Op.RESIZE_NEAREST_NEIGHBOR: _Kind(74),
    Op.SQUARED_DIFFERENCE: _Kind(76),
}
_RELU: Final = 1
_HYBRID_VERSION: Final = {Op.FULLY_CONNECTED: 3, Op.CONV_2D: 2, Op.DEPTHWISE_CONV_2D: 4}
"""First version of an operator that takes int8 weights with a float input."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: int
    content: bytes = b""
    scales: FloatArray | None = None
    channel_axis: int = 0


@dataclass(frozen=True, slots=True)
class _Operator:
    code: Op
    inputs: tuple[int, ...]
    output: int
    relu: bool
    stride: int
    axis: int


class Graph:
    """Collects tensors and operators, then writes them in one go. Tensors are known by number."""

    def __init__(self) -> None:
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []

    def tensor(self, name: str, shape: tuple[int, ...]) -> int:
        """A float32 tensor that is given or computed."""
        return self._add(_Tensor(name, shape, _FLOAT32))

    def constant(self, name: str, values: FloatArray | npt.NDArray[np.int32]) -> int:
        """A float32 or int32 constant."""
        kind = _INT32 if values.dtype == np.int32 else _FLOAT32
        stored = values.astype("<i4" if kind == _INT32 else "<f4")
        return self._add(_Tensor(name, values.shape, kind, stored.tobytes()))

    def int8_constant(self, name: str, values: Int8Array, scales: FloatArray, channel_axis: int) -> int:
        """Symmetric int8 weights: one scale, or one for each index of `channel_axis`."""
        stored = np.ascontiguousarray(values)
        return self._add(_Tensor(name, values.shape, _INT8, stored.tobytes(), scales, channel_axis))

    def operator(
        self,
        code: Op,
        inputs: tuple[int, ...],
        name: str,
        shape: tuple[int, ...],
        *,
        relu: bool = False,
        stride: int = 1,
        axis: int = 0,
    ) -> int:
        """Add an operator; return the number of its output."""
        output = self.tensor(name, shape)
        self._operators.append(_Operator(code, inputs, output, relu, stride, axis))
        return output

    def shape(self, tensor: int) -> tuple[int, ...]:
        return self._tensors[tensor].shape

    def _add(self, tensor: _Tensor) -> int:
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def finish(self, *, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """The whole file."""
        builder = flatbuffers.Builder(4096)
        versions = {operator.code: self._version(operator) for operator in self._operators}
        codes = sorted(versions)
        buffers = [_buffer(builder, b"")]
        tensors = []
        for tensor in self._tensors:
            number = 0
            if tensor.content:
                number = len(buffers)
                buffers.append(_buffer(builder, tensor.content))
            tensors.append(_tensor(builder, tensor, number))
        operators = [_operator(builder, operator, codes) for operator in self._operators]
        subgraph_parts = [
            (0, _offsets(builder, tensors)),
            (1, _ints(builder, inputs)),
            (2, _ints(builder, outputs)),
            (3, _offsets(builder, operators)),
        ]
        subgraph = _table(builder, 5, subgraph_parts)
        operator_codes = [_operator_code(builder, code, versions[code]) for code in codes]
        parts = [
            (1, _offsets(builder, operator_codes)),
            (2, _offsets(builder, [subgraph])),
            (3, int(builder.CreateString(description))),
            (4, _offsets(builder, buffers)),
        ]
        builder.StartObject(5)
        builder.PrependUint32Slot(0, 3, 0)
        for slot, offset in parts:
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _version(self, operator: _Operator) -> int:
        hybrid = any(
            self._tensors[o.inputs[1]].kind == _INT8
            for o in self._operators
            if o.code == operator.code and operator.code in _HYBRID_VERSION
        )
        return _HYBRID_VERSION[operator.code] if hybrid else 1


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
    if tensor.scales is not None:
        scales = builder.CreateNumpyVector(tensor.scales.astype("<f4"))
        zeros = builder.CreateNumpyVector(np.zeros(tensor.scales.size, dtype="<i8"))
        builder.StartObject(7)
        builder.PrependUOffsetTRelativeSlot(2, scales, 0)
        builder.PrependUOffsetTRelativeSlot(3, zeros, 0)
        builder.PrependInt32Slot(6, tensor.channel_axis, 0)
        quantization = builder.EndObject()
    builder.StartObject(8)
    builder.PrependUOffsetTRelativeSlot(0, shape, 0)
    builder.PrependInt8Slot(1, tensor.kind, 0)
    builder.PrependUint32Slot(2, buffer, 0)
    builder.PrependUOffsetTRelativeSlot(3, name, 0)
    if quantization is not None:
        builder.PrependUOffsetTRelativeSlot(4, quantization, 0)
    return int(builder.EndObject())


def _options(builder: flatbuffers.Builder, operator: _Operator) -> int:
    """The option table; padding is SAME (0), which is the default of the schema."""
    kind = _KINDS[operator.code]
    builder.StartObject(7)
    if operator.code in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D):
        builder.PrependInt32Slot(1, operator.stride, 0)
        builder.PrependInt32Slot(2, operator.stride, 0)
    if operator.code == Op.DEPTHWISE_CONV_2D:
        builder.PrependInt32Slot(3, 1, 0)  # depth multiplier
    if operator.code == Op.CONCATENATION:
        builder.PrependInt32Slot(0, operator.axis, 0)
    if kind.activation is not None and operator.relu:
        builder.PrependInt8Slot(kind.activation, _RELU, 0)
    return int(builder.EndObject())


def _operator(builder: flatbuffers.Builder, operator: _Operator, codes: Sequence[Op]) -> int:
    kind = _KINDS[operator.code]
    options = _options(builder, operator) if kind.union else 0
    inputs, outputs = _ints(builder, operator.inputs), _ints(builder, (operator.output,))
    builder.StartObject(5)
    builder.PrependUint32Slot(0, codes.index(operator.code), 0)
    builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
    builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
    if kind.union:
        builder.PrependUint8Slot(3, kind.union, 0)
        builder.PrependUOffsetTRelativeSlot(4, options, 0)
    return int(builder.EndObject())


def _operator_code(builder: flatbuffers.Builder, code: Op, version: int) -> int:
    builder.StartObject(4)
    builder.PrependInt8Slot(0, int(code), 0)
    builder.PrependInt32Slot(2, version, 1)
    builder.PrependInt32Slot(3, int(code), 0)
    return int(builder.EndObject())
