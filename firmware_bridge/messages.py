"""Messages as values, and their bytes. Layouts are those of PROTOCOL.md; little endian throughout."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from firmware_bridge.framing import encode_body

PROTOCOL_VERSION: Final = 1

Unit: TypeAlias = Literal["g", "m_s2", "mm_s"]
UNITS: Final[dict[int, Unit]] = {1: "g", 2: "m_s2", 3: "mm_s"}
FORMATS: Final = {1: "int16", 2: "int24", 3: "float32"}
SAMPLE_BYTES: Final = {"int16": 2, "int24": 3, "float32": 4}
QUANTITIES: Final = {
    1: ("temperature", "degc"),
    2: ("supply", "v"),
    3: ("speed", "rpm"),
    4: ("humidity", "percent"),
}
COMMANDS: Final = {1: "identify"}

CLIPPED: Final = 0x01
"""Flag of DATA: at least one sample of this frame is at the end of the sensor's range."""

_HEADER = struct.Struct("<BBHI")
_DESCRIPTOR = struct.Struct("<IB")
_SENSOR = struct.Struct("<BBBBIIff")
_DATA = struct.Struct("<BBHQ")
_SCALAR = struct.Struct("<BBf")
_TYPE_DESCRIPTOR, _TYPE_DATA, _TYPE_SCALARS, _TYPE_COMMAND = 0x01, 0x02, 0x03, 0x10


class MessageError(ValueError):
    """A frame is intact, but what it carries is not by the protocol.

    `reason` is ``version`` (newer than this reader), ``type`` (unknown, to be skipped) or ``payload``.
    """

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class SensorDescriptor:
    """One sensor of a device: everything that turns its counts into physical samples.

    ``sample_rate_hz`` is an exact ratio; ``scale`` is the value of one count in ``unit``;
    ``range_max`` is the end of the measuring range in ``unit``, 0 if it is not known.
    """

    number: int
    label: str
    unit: Unit
    format: str
    axes: tuple[str, ...]
    sample_rate_hz: Fraction
    scale: float
    range_max: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.number <= 255:
            raise ValueError(f"sensor number {self.number} is not in 0 to 255")
        if self.unit not in UNITS.values():
            raise ValueError(f"unit {self.unit!r} is none of {', '.join(UNITS.values())}")
        if self.format not in SAMPLE_BYTES:
            raise ValueError(f"format {self.format!r} is none of {', '.join(SAMPLE_BYTES)}")
        if not self.axes or any(len(axis) != 1 or not axis.isascii() for axis in self.axes):
            raise ValueError(f"axes {self.axes} are not one ASCII letter each")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {self.axes} name one twice")
        if self.sample_rate_hz <= 0:
            raise ValueError(f"sample rate {self.sample_rate_hz} Hz is not positive")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale {self.scale} is not a positive number")
        if not (np.isfinite(self.range_max) and self.range_max >= 0):
            raise ValueError(f"range {self.range_max} is not a number from 0")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a device is and what it sends; sent on connect and on request."""

    device_id: str
    firmware: str
    tick_hz: int
    sensors: tuple[SensorDescriptor, ...]

    def __post_init__(self) -> None:
        if self.tick_hz <= 0:
            raise ValueError(f"tick_hz {self.tick_hz} is not positive")
        numbers = [sensor.number for sensor in self.sensors]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"sensor numbers {numbers} name one twice")


@dataclass(frozen=True, slots=True)
class Data:
    """Consecutive samples of one sensor, axes interleaved, as raw bytes in the descriptor's format.

    ``first_sample`` counts samples of each axis since the device started.
    """

    sensor: int
    first_sample: int
    n_samples: int
    raw: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """One scalar value of a sensor; the unit belongs to the quantity."""

    sensor: int
    quantity: str
    value: float

    @property
    def unit(self) -> str:
        return _QUANTITY_UNITS[self.quantity]


@dataclass(frozen=True, slots=True)
class Scalars:
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """From the gateway to the device."""

    name: str


Message: TypeAlias = Descriptor | Data | Scalars | Command

_UNIT_CODES = {name: code for code, name in UNITS.items()}
_FORMAT_CODES = {name: code for code, name in FORMATS.items()}
_QUANTITY_CODES = {name: code for code, (name, _) in QUANTITIES.items()}
_QUANTITY_UNITS = dict(QUANTITIES.values())
_COMMAND_CODES = {name: code for code, name in COMMANDS.items()}


@dataclass(frozen=True, slots=True)
class Frame:
    """A message with the header it came in: sequence of the frame, tick of the device."""

    sequence: int
    tick: int
    message: Message


def encode_frame(message: Message, *, sequence: int, tick: int) -> bytes:
    """A message as wire bytes, delimiter included; `sequence` and `tick` wrap.

    Raises
    ------
    ValueError
        If the message does not fit a frame, or names a quantity or command that has no code.
    """
    kind, payload = _encode_payload(message)
    header = _HEADER.pack(PROTOCOL_VERSION, kind, sequence & 0xFFFF, tick & 0xFFFFFFFF)
    return encode_body(header + payload)


def decode_message(body: bytes) -> Frame:
    """The body of a frame to its message.

    Raises
    ------
    MessageError
        If it is of a newer protocol, an unknown type, or inconsistent.
    """
    if len(body) < _HEADER.size:
        raise MessageError("payload", f"body of {len(body)} bytes is shorter than a header")
    version, kind, sequence, tick = _HEADER.unpack_from(body)
    if version != PROTOCOL_VERSION:
        raise MessageError("version", f"protocol version {version}, this reader knows {PROTOCOL_VERSION}")
    payload = memoryview(body)[_HEADER.size :]
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise MessageError("type", f"unknown message type {kind:#04x}")
    try:
        return Frame(sequence, tick, decoder(payload))
    except MessageError:
        raise
    except (ValueError, KeyError, IndexError, struct.error, ZeroDivisionError) as error:
        raise MessageError("payload", f"message type {kind:#04x}: {error}") from error


def samples(data: Data, sensor: SensorDescriptor) -> npt.NDArray[np.float32]:
    """Physical samples of a DATA message, shape ``(n_axes, n_samples)``, in the sensor's unit.

    Raises
    ------
    ValueError
        If the bytes are not what the descriptor says.
    """
    n_axes = len(sensor.axes)
    expected = data.n_samples * n_axes * SAMPLE_BYTES[sensor.format]
    if len(data.raw) != expected:
        raise ValueError(f"{len(data.raw)} sample bytes, the descriptor says {expected}")
    if sensor.format == "int16":
        flat = np.frombuffer(data.raw, dtype="<i2").astype(np.float32)
    elif sensor.format == "float32":
        flat = np.frombuffer(data.raw, dtype="<f4").astype(np.float32)
    else:
        # The three bytes go to the top of a 32-bit word; the shift brings the sign along.
        wide = np.zeros((len(data.raw) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(data.raw, dtype=np.uint8).reshape(-1, 3)
        flat = (wide.view("<i4").ravel() >> 8).astype(np.float32)
    scaled: npt.NDArray[np.float32] = flat.reshape(data.n_samples, n_axes).T * np.float32(sensor.scale)
    return scaled


def counts_to_bytes(counts: npt.ArrayLike, format: str) -> bytes:
    """Counts of shape ``(n_axes, n_samples)`` as the interleaved bytes of a DATA message.

    Raises
    ------
    ValueError
        If a count does not fit the format.
    """
    array = np.atleast_2d(np.asarray(counts)).T
    if format == "float32":
        return bytes(array.astype("<f4").tobytes())
    limit = 1 << (8 * SAMPLE_BYTES[format] - 1)
    if array.size and (array.min() < -limit or array.max() >= limit):
        raise ValueError(f"counts from {array.min()} to {array.max()} do not fit {format}")
    if format == "int16":
        return bytes(array.astype("<i2").tobytes())
    wide = np.ascontiguousarray(array.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return bytes(wide[:, :3].tobytes())


def _encode_payload(message: Message) -> tuple[int, bytes]:
    if isinstance(message, Data):
        if not 0 < message.n_samples <= 0xFFFF or message.first_sample < 0:
            raise ValueError(f"DATA of {message.n_samples} samples from {message.first_sample}")
        head = _DATA.pack(message.sensor, message.flags, message.n_samples, message.first_sample)
        return _TYPE_DATA, head + message.raw
    if isinstance(message, Descriptor):
        parts = [_DESCRIPTOR.pack(message.tick_hz, len(message.sensors))]
        parts += [_text(message.device_id), _text(message.firmware)]
        for sensor in message.sensors:
            entry = _encode_sensor(sensor)
            parts.append(bytes([len(entry)]) + entry)
        return _TYPE_DESCRIPTOR, b"".join(parts)
    if isinstance(message, Scalars):
        codes = [(s.sensor, _code(_QUANTITY_CODES, s.quantity, "quantity"), s.value) for s in message.values]
        return _TYPE_SCALARS, bytes([len(codes)]) + b"".join(_SCALAR.pack(*code) for code in codes)
    return _TYPE_COMMAND, bytes([_code(_COMMAND_CODES, message.name, "command")])


def _encode_sensor(sensor: SensorDescriptor) -> bytes:
    head = _SENSOR.pack(
        sensor.number,
        _UNIT_CODES[sensor.unit],
        _FORMAT_CODES[sensor.format],
        len(sensor.axes),
        sensor.sample_rate_hz.numerator,
        sensor.sample_rate_hz.denominator,
        sensor.scale,
        sensor.range_max,
    )
    return head + "".join(sensor.axes).encode("ascii") + _text(sensor.label)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")
    if len(raw) > 63:
        raise ValueError(f"text {text!r} is longer than 63 bytes")
    return bytes([len(raw)]) + raw


def _code(codes: dict[str, int], name: str, what: str) -> int:
    if name not in codes:
        raise ValueError(f"{what} {name!r} is none of {', '.join(codes)}")
    return codes[name]


def _decode_descriptor(payload: memoryview) -> Descriptor:
    tick_hz, n_sensors = _DESCRIPTOR.unpack_from(payload)
    device_id, at = _read_text(payload, _DESCRIPTOR.size)
    firmware, at = _read_text(payload, at)
    sensors = []
    for _ in range(n_sensors):
        length = payload[at]
        entry = payload[at + 1 : at + 1 + length]
        if len(entry) != length:
            raise ValueError("descriptor ends within a sensor")
        sensors.append(_decode_sensor(entry))
        at += 1 + length
    return Descriptor(device_id, firmware, tick_hz, tuple(sensors))


def _decode_sensor(entry: memoryview) -> SensorDescriptor:
    number, unit, form, n_axes, numerator, denominator, scale, range_max = _SENSOR.unpack_from(entry)
    axes = bytes(entry[_SENSOR.size : _SENSOR.size + n_axes]).decode("ascii")
    if len(axes) != n_axes:
        raise ValueError("descriptor ends within the axes")
    label, _ = _read_text(entry, _SENSOR.size + n_axes)
    rate_hz = Fraction(numerator, denominator)
    return SensorDescriptor(number, label, UNITS[unit], FORMATS[form], tuple(axes), rate_hz, scale, range_max)


def _read_text(payload: memoryview, at: int) -> tuple[str, int]:
    length = payload[at]
    raw = bytes(payload[at + 1 : at + 1 + length])
    if len(raw) != length:
        raise ValueError("text is cut short")
    return raw.decode("utf-8"), at + 1 + length


def _decode_data(payload: memoryview) -> Data:
    sensor, flags, n_samples, first_sample = _DATA.unpack_from(payload)
    if n_samples == 0:
        raise ValueError("DATA of no samples")
    return Data(sensor, first_sample, n_samples, bytes(payload[_DATA.size :]), flags)


def _decode_scalars(payload: memoryview) -> Scalars:
    count = payload[0]
    if len(payload) < 1 + count * _SCALAR.size:
        raise ValueError("SCALARS is cut short")
    values = []
    for index in range(count):
        sensor, code, value = _SCALAR.unpack_from(payload, 1 + index * _SCALAR.size)
        if code in QUANTITIES:  # an unknown quantity is of a newer minor version: skipped
            values.append(Scalar(sensor, QUANTITIES[code][0], value))
    return Scalars(tuple(values))


def _decode_command(payload: memoryview) -> Command:
    return Command(COMMANDS[payload[0]])


_DECODERS: Final[dict[int, Callable[[memoryview], Message]]] = {
    _TYPE_DESCRIPTOR: _decode_descriptor,
    _TYPE_DATA: _decode_data,
    _TYPE_SCALARS: _decode_scalars,
    _TYPE_COMMAND: _decode_command,
}
