"""Messages to bodies and back, byte by byte as PROTOCOL.md lays them out; little endian throughout."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from firmware_bridge.framing import encode_body
from firmware_bridge.messages import (
    ARGUMENTS,
    COMMANDS,
    FORMATS,
    LOG_LEVELS,
    PROTOCOL_VERSION,
    QUANTITIES,
    RESULTS,
    SELF_TESTS,
    SENSOR_STATES,
    UNITS,
    Command,
    Data,
    Descriptor,
    Frame,
    Log,
    Message,
    Reply,
    Scalar,
    Scalars,
    SensorDescriptor,
    SensorStatus,
    Status,
)

HEADER: Final = struct.Struct("<BBHI")
DATA: Final = struct.Struct("<BBHHBBQ")
TYPE_DESCRIPTOR: Final = 0x01
TYPE_DATA: Final = 0x02
TYPE_SCALARS: Final = 0x03
TYPE_STATUS: Final = 0x04
TYPE_LOG: Final = 0x05
TYPE_REPLY: Final = 0x06
TYPE_COMMAND: Final = 0x10
LONGEST_TEXT: Final = 63
LONGEST_LOG: Final = 255

_DESCRIPTOR = struct.Struct("<IHBB")
_SENSOR = struct.Struct("<BBBBIIffIB")
_SCALAR = struct.Struct("<BBf")
_STATUS = struct.Struct("<IIIBB")
_SENSOR_STATUS = struct.Struct("<BBII")
_COMMAND = struct.Struct("<HB")
_REPLY = struct.Struct("<HBB")

_UNIT_CODES = {name: code for code, name in UNITS.items()}
_FORMAT_CODES = {name: code for code, name in FORMATS.items()}
_QUANTITY_CODES = {name: code for code, (name, _) in QUANTITIES.items()}
_COMMAND_CODES = {name: code for code, name in COMMANDS.items()}
_RESULT_CODES = {name: code for code, name in RESULTS.items()}
_SELF_TEST_CODES = {name: code for code, name in SELF_TESTS.items()}
_STATE_CODES = {name: code for code, name in SENSOR_STATES.items()}
_LEVEL_CODES = {name: code for code, name in LOG_LEVELS.items()}


class MessageError(ValueError):
    """A frame is intact, but what it carries is not by the protocol.

    `reason` is ``version`` (newer than this reader), ``type`` (unknown, to be skipped) or ``payload``.
    """

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        super().__init__(text)


def encode_frame(message: Message, *, sequence: int, tick: int) -> bytes:
    """A message as wire bytes, delimiter included; `sequence` and `tick` wrap.

    Raises
    ------
    ValueError
        If the message does not fit a frame, or names a quantity or command that has no code.
    """
    kind, payload = encode_payload(message)
    header = HEADER.pack(PROTOCOL_VERSION, kind, sequence & 0xFFFF, tick & 0xFFFFFFFF)
    return encode_body(header + payload)


def decode_message(body: bytes) -> Frame:
    """The body of a frame to its message.

    Raises
    ------
    MessageError
        If it is of a newer protocol, an unknown type, or inconsistent.
    """
    if len(body) < HEADER.size:
        raise MessageError("payload", f"body of {len(body)} bytes is shorter than a header")
    version, kind, sequence, tick = HEADER.unpack_from(body)
    if version != PROTOCOL_VERSION:
        raise MessageError("version", f"protocol version {version}, this reader knows {PROTOCOL_VERSION}")
    payload = memoryview(body)[HEADER.size :]
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise MessageError("type", f"unknown message type {kind:#04x}")
    try:
        return Frame(sequence, tick, decoder(payload))
    except MessageError:
        raise
    except (ValueError, KeyError, IndexError, struct.error, ZeroDivisionError) as error:
        raise MessageError("payload", f"message type {kind:#04x}: {error}") from error


def encode_payload(message: Message) -> tuple[int, bytes]:
    """Type code and payload of a message.

    Raises
    ------
    ValueError
        If a field has no code or does not fit its place.
    """
    try:
        return _encode_payload(message)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{type(message).__name__.upper()}: {error}") from error


def _encode_payload(message: Message) -> tuple[int, bytes]:
    match message:
        case Data():
            return TYPE_DATA, _encode_data(message)
        case Descriptor():
            return TYPE_DESCRIPTOR, _encode_descriptor(message)
        case Scalars():
            return TYPE_SCALARS, _encode_scalars(message)
        case Status():
            return TYPE_STATUS, _encode_status(message)
        case Log():
            return TYPE_LOG, _encode_log(message)
        case Reply():
            return TYPE_REPLY, _encode_reply(message)
        case Command():
            return TYPE_COMMAND, _encode_command(message)


def _encode_descriptor(message: Descriptor) -> bytes:
    parts = [_DESCRIPTOR.pack(message.tick_hz, message.boot, message.revision, len(message.sensors))]
    parts += [_text(message.device_id), _text(message.firmware)]
    for sensor in message.sensors:
        entry = _encode_sensor(sensor)
        parts.append(bytes([len(entry)]) + entry)
    return b"".join(parts)


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
        int(f"{sensor.calibrated:%Y%m%d}") if sensor.calibrated else 0,
        int(sensor.rate_measured),
    )
    return head + "".join(sensor.axes).encode("ascii") + _text(sensor.label)


def _encode_data(message: Data) -> bytes:
    sensor, first_sample, n_samples, raw, flags, boot, revision = message
    if not 0 < n_samples <= 0xFFFF or first_sample < 0:
        raise ValueError(f"DATA of {n_samples} samples from {first_sample}")
    return DATA.pack(sensor, flags, n_samples, boot, revision, 0, first_sample) + raw


def _encode_scalars(message: Scalars) -> bytes:
    codes = [(s.sensor, _code(_QUANTITY_CODES, s.quantity, "quantity"), s.value) for s in message.values]
    return bytes([len(codes)]) + b"".join(_SCALAR.pack(*code) for code in codes)


def _encode_status(message: Status) -> bytes:
    head = _STATUS.pack(
        message.uptime_s,
        message.dropped_frames,
        message.damaged_frames,
        _code(_SELF_TEST_CODES, message.self_test, "self-test"),
        len(message.sensors),
    )
    entries = (
        _SENSOR_STATUS.pack(
            s.sensor, _code(_STATE_CODES, s.state, "state"), s.dropped_samples, s.clipped_samples
        )
        for s in message.sensors
    )
    return head + b"".join(bytes([len(entry)]) + entry for entry in entries)


def _encode_log(message: Log) -> bytes:
    return bytes([_code(_LEVEL_CODES, message.level, "level")]) + _text(message.text, LONGEST_LOG)


def _encode_command(message: Command) -> bytes:
    layout = ARGUMENTS.get(message.name, "<")
    head = _COMMAND.pack(message.token, _command_code(message.name))
    return head + struct.pack(layout, *message.arguments)


def _encode_reply(message: Reply) -> bytes:
    result = _code(_RESULT_CODES, message.result, "result")
    head = _REPLY.pack(message.token, _command_code(message.command), result)
    return head if message.tick is None else head + message.tick.to_bytes(4, "little")


def _text(text: str, longest: int = LONGEST_TEXT) -> bytes:
    raw = text.encode("utf-8")
    if len(raw) > longest:
        raise ValueError(f"text {text!r} is longer than {longest} bytes")
    return bytes([len(raw)]) + raw


def _code(codes: dict[str, int], name: str, what: str) -> int:
    if name not in codes:
        raise ValueError(f"{what} {name!r} is none of {', '.join(codes)}")
    return codes[name]


def _command_code(name: str) -> int:
    return int(name) if name.isdecimal() else _code(_COMMAND_CODES, name, "command")


def _decode_descriptor(payload: memoryview) -> Descriptor:
    tick_hz, boot, revision, n_sensors = _DESCRIPTOR.unpack_from(payload)
    device_id, at = _read_text(payload, _DESCRIPTOR.size)
    firmware, at = _read_text(payload, at)
    sensors = []
    for _ in range(n_sensors):
        entry, at = _read_entry(payload, at)
        sensors.append(_decode_sensor(entry))
    return Descriptor(device_id, firmware, tick_hz, tuple(sensors), boot, revision)


def _decode_sensor(entry: memoryview) -> SensorDescriptor:
    head = _SENSOR.unpack_from(entry)
    number, unit, form, n_axes, numerator, denominator, scale, range_max, day, measured = head
    axes = bytes(entry[_SENSOR.size : _SENSOR.size + n_axes]).decode("ascii")
    if len(axes) != n_axes:
        raise ValueError("descriptor ends within the axes")
    label, _ = _read_text(entry, _SENSOR.size + n_axes)
    rate_hz = Fraction(numerator, denominator)
    return SensorDescriptor(
        number,
        label,
        UNITS[unit],
        FORMATS[form],
        tuple(axes),
        rate_hz,
        scale,
        range_max,
        datetime.date(day // 10_000, day // 100 % 100, day % 100) if day else None,
        measured == 1,
    )


def _decode_data(payload: memoryview) -> Data:
    sensor, flags, n_samples, boot, revision, encoding, first_sample = DATA.unpack_from(payload)
    if encoding:
        raise MessageError("type", f"unknown encoding {encoding} of DATA")
    if n_samples == 0:
        raise ValueError("DATA of no samples")
    return Data(sensor, first_sample, n_samples, bytes(payload[DATA.size :]), flags, boot, revision)


def _decode_scalars(payload: memoryview) -> Scalars:
    count = payload[0]
    if len(payload) < 1 + count * _SCALAR.size:
        raise ValueError("SCALARS is cut short")
    values = []
    for index in range(count):
        sensor, code, value = _SCALAR.unpack_from(payload, 1 + index * _SCALAR.size)
        if code in QUANTITIES:  # an unknown quantity is of a later edition: skipped
            values.append(Scalar(sensor, QUANTITIES[code][0], value))
    return Scalars(tuple(values))


def _decode_status(payload: memoryview) -> Status:
    uptime_s, dropped, damaged, self_test, n_sensors = _STATUS.unpack_from(payload)
    at, sensors = _STATUS.size, []
    for _ in range(n_sensors):
        entry, at = _read_entry(payload, at)
        sensor, state, lost, clipped = _SENSOR_STATUS.unpack_from(entry)
        sensors.append(SensorStatus(sensor, SENSOR_STATES[state], lost, clipped))
    return Status(uptime_s, dropped, damaged, SELF_TESTS[self_test], tuple(sensors))


def _decode_log(payload: memoryview) -> Log:
    text, _ = _read_text(payload, 1)
    return Log(LOG_LEVELS[payload[0]], text)


def _decode_command(payload: memoryview) -> Command:
    token, code = _COMMAND.unpack_from(payload)
    name = COMMANDS.get(code, str(code))
    arguments = struct.unpack_from(ARGUMENTS.get(name, "<"), payload, _COMMAND.size)
    return Command(name, token, arguments)


def _decode_reply(payload: memoryview) -> Reply:
    token, code, result = _REPLY.unpack_from(payload)
    name = COMMANDS.get(code, str(code))
    rest = payload[_REPLY.size :]
    if name != "time_sync" or RESULTS[result] != "ok":
        return Reply(name, token, RESULTS[result])
    if len(rest) < 4:
        raise ValueError("REPLY to time_sync has no tick")
    return Reply(name, token, RESULTS[result], int.from_bytes(rest[:4], "little"))


def _read_text(payload: memoryview, at: int) -> tuple[str, int]:
    raw, at = _read_entry(payload, at)
    return bytes(raw).decode("utf-8", "replace"), at


def _read_entry(payload: memoryview, at: int) -> tuple[memoryview, int]:
    """What is led by one byte of length, and where the next begins."""
    end = at + 1 + payload[at]
    if end > len(payload):
        raise ValueError("cut short within a text or an entry")
    return payload[at + 1 : end], end


_DECODERS: Final[dict[int, Callable[[memoryview], Message]]] = {
    TYPE_DESCRIPTOR: _decode_descriptor,
    TYPE_DATA: _decode_data,
    TYPE_SCALARS: _decode_scalars,
    TYPE_STATUS: _decode_status,
    TYPE_LOG: _decode_log,
    TYPE_REPLY: _decode_reply,
    TYPE_COMMAND: _decode_command,
}
