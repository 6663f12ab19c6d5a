"""Write firmware_bridge/vectors.json: frames that every implementation must read alike.

The frames of a released version never change; run this only to add some.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from firmware_bridge import (
    ALL_SENSORS,
    BURST_END,
    CLIPPED,
    Command,
    Data,
    Descriptor,
    Log,
    Message,
    Reply,
    Scalar,
    Scalars,
    SensorDescriptor,
    SensorStatus,
    Status,
    counts_to_bytes,
    encode_frame,
)
from firmware_bridge.codec import HEADER
from firmware_bridge.framing import encode_body

FILE: Final = Path(__file__).resolve().parents[1] / "firmware_bridge" / "vectors.json"
ABOUT: Final = (
    "Frames as they stand on the wire, delimiter included, in hex. 'counter' is what a reader counts; "
    "only 'frames' delivers a message, and then 'message' says what it holds and 'again' is how a "
    "writer of this version sends the same (as 'wire' where it is absent)."
)
SENSORS: Final = (
    SensorDescriptor(
        0, "drive end", "g", "int16", ("x", "y"), Fraction(25600), 2.0**-11, 16.0, datetime.date(2026, 2, 28)
    ),
    SensorDescriptor(
        1, "gearbox", "mm_s", "int24", ("x",), Fraction(26_667_123, 1000), 0.0009765625, rate_measured=True
    ),
    SensorDescriptor(7, "Lüfter", "m_s2", "float32", ("r",), Fraction(97656, 1), 1.0, 5000.0),
)
DEVICE: Final = Descriptor("pump-7-vib", "demo 1.0", 1_000_000, SENSORS, boot=0xBEEF, revision=3)


def valid() -> dict[str, tuple[Message, int, int]]:
    int16 = counts_to_bytes([[1, -2, 3, 0], [-32768, 32767, 0, 256]], "int16")
    int24 = counts_to_bytes([[-8388608, 8388607]], "int24")
    long = counts_to_bytes([[(i * 37) % 251 + 1 for i in range(600)]], "int16")
    scalars = Scalars((Scalar(0, "temperature", 41.5), Scalar(0, "supply", 3.25), Scalar(1, "speed", 1480.0)))
    status = (SensorStatus(0, "streaming", 256, 3), SensorStatus(1, "fault"), SensorStatus(7, "stopped"))
    return {
        "descriptor of three sensors": (DEVICE, 0, 1),
        "descriptor without sensors": (Descriptor("d", "", 32768, ()), 1, 2),
        "data, two axes int16, clipped": (Data(0, 4096, 4, int16, CLIPPED, 0xBEEF, 3), 2, 2_000_000),
        "data, one axis int24, counters at their ends": (
            Data(1, 2**64 - 1, 2, int24, BURST_END, 0xFFFF, 0xFF),
            65535,
            2**32 - 1,
        ),
        "data, float32": (
            Data(7, 0, 2, counts_to_bytes([[1.5, -0.25]], "float32"), boot=0xBEEF, revision=3),
            0,
            0,
        ),
        "data of 600 samples, blocks of 254 bytes": (
            Data(0, 0x0101010101010101, 600, long, 0, 257, 1),
            257,
            1,
        ),
        "scalars": (scalars, 3, 3),
        "scalars, none": (Scalars(()), 4, 4),
        "status": (Status(86_400, 12, 1, "passed", status), 5, 5),
        "log": (Log("warning", "ADC überlastet"), 6, 6),
        "reply": (Reply("stop", 0x1234, "ok"), 7, 7),
        "reply to time_sync": (Reply("time_sync", 1, "ok", 0xDEADBEEF), 8, 8),
        "reply to a command without a name": (Reply("200", 2, "unknown"), 9, 9),
        "reply, bootloader refused": (Reply("reboot_to_bootloader", 3, "refused"), 10, 10),
        "command identify": (Command("identify"), 0, 0),
        "command start": (Command("start", 1, (ALL_SENSORS,)), 1, 0),
        "command stop": (Command("stop", 2, (0,)), 2, 0),
        "command set_rate": (Command("set_rate", 3, (0, 80_000, 3)), 3, 0),
        "command set_range": (Command("set_range", 4, (0, 8.0)), 4, 0),
        "command time_sync": (Command("time_sync", 5, (1_700_000_000_000_000_000,)), 5, 0),
        "command burst": (Command("burst", 6, (1, 65_536)), 6, 0),
        "command self_test": (Command("self_test", 7), 7, 0),
        "command reboot_to_bootloader": (Command("reboot_to_bootloader", 65535), 8, 0),
        "command without a name": (Command("200", 9), 9, 0),
    }


def later_editions() -> dict[str, tuple[bytes, Message]]:
    """Bodies with news behind what this version knows; read without them."""
    sensor = bytes.fromhex("00010101 00640000 01000000 0000003a 00008041 00000000 00") + b"x\x02de"
    longer = bytes([len(sensor) + 3]) + sensor + b"NEW"
    descriptor = bytes.fromhex("40420f00 0100 00 01") + b"\x01d\x01f" + longer + b"more"
    known = SensorDescriptor(0, "de", "g", "int16", ("x",), Fraction(25600), 2.0**-11, 16.0)
    scalars = b"\x02" + bytes.fromhex("00fa 0000803f 0001 00002642")
    return {
        "descriptor of a later edition, longer entries": (
            body(0x01, descriptor),
            Descriptor("d", "f", 1_000_000, (known,), 1),
        ),
        "scalars of a later edition, an unknown quantity": (
            body(0x03, scalars),
            Scalars((Scalar(0, "temperature", 41.5),)),
        ),
        "reply of a later edition, more at its end": (
            body(0x06, bytes.fromhex("0500 03 00 112233")),
            Reply("stop", 5, "ok"),
        ),
    }


def dropped() -> dict[str, tuple[bytes, str]]:
    good = encode_frame(Data(0, 4096, 4, bytes(range(1, 9))), sequence=2, tick=2)
    flipped = bytearray(good)
    flipped[20] ^= 0x10
    content = body(0x02, bytes(16))
    return {
        "one bit flipped": (bytes(flipped), "bad_crc"),
        "cut short": (good[:-6] + b"\0", "bad_cobs"),
        "cut short at a block": (good[:3] + b"\0", "bad_cobs"),
        "CRC with its bytes in the wrong order": (wrong_crc(content), "bad_crc"),
        "no more than a CRC": (b"\x05\x01\x02\x03\x04\0", "bad_length"),
        "longer than any frame": (b"\x01" * 4121 + b"\0", "bad_length"),
        "body of 4097 bytes": (too_long(), "bad_length"),
        "body shorter than a header": (encode_body(b"\x01\x02\x03"), "bad_payload"),
        "data of no samples": (encode_body(content), "bad_payload"),
        "data cut before its samples": (encode_body(body(0x02, bytes(15))), "bad_payload"),
        "descriptor with sample rate 0": (
            encode_body(body(0x01, bytes.fromhex("40420f00 0100 00 01 00 00 1b") + bare_sensor(0, 1))),
            "bad_payload",
        ),
        "descriptor with denominator 0": (
            encode_body(body(0x01, bytes.fromhex("40420f00 0100 00 01 00 00 1b") + bare_sensor(1, 0))),
            "bad_payload",
        ),
        "descriptor cut within a sensor": (
            encode_body(body(0x01, bytes.fromhex("40420f00 0100 00 01 00 00 1b") + bare_sensor(1, 1)[:-1])),
            "bad_payload",
        ),
        "scalars cut short": (encode_body(body(0x03, b"\x02" + bytes(6))), "bad_payload"),
        "status with a sensor cut short": (encode_body(body(0x04, bytes(13) + b"\x01\x0a\0")), "bad_payload"),
        "log of an unknown level": (encode_body(body(0x05, b"\x09\x01x")), "bad_payload"),
        "command without its arguments": (encode_body(body(0x10, b"\x01\x00\x04\x00")), "bad_payload"),
        "unknown message type": (encode_body(body(0x7E, b"whatever")), "unknown_type"),
        "unknown encoding of data": (
            encode_body(body(0x02, bytes.fromhex("00 00 0100 0000 00 09") + bytes(10))),
            "unknown_type",
        ),
        "protocol version 2": (encode_body(HEADER.pack(2, 1, 0, 0) + b"all new"), "newer_version"),
    }


def body(kind: int, payload: bytes) -> bytes:
    return HEADER.pack(1, kind, 0, 0) + payload


def bare_sensor(numerator: int, denominator: int) -> bytes:
    rate = numerator.to_bytes(4, "little") + denominator.to_bytes(4, "little")
    return bytes([0, 1, 1, 1]) + rate + bytes.fromhex("0000803f 00000000 00000000 00") + b"x\0"


def wrong_crc(content: bytes) -> bytes:
    import zlib

    from cobs import cobs

    return bytes(cobs.encode(content + zlib.crc32(content).to_bytes(4, "big"))) + b"\0"


def too_long() -> bytes:
    import zlib

    from cobs import cobs

    content = body(0x02, bytes([255]) * 4089)
    return bytes(cobs.encode(content + zlib.crc32(content).to_bytes(4, "little"))) + b"\0"


def plain(value: Any) -> Any:
    """A message as JSON can hold it."""
    if isinstance(value, Data):
        return {name: plain(item) for name, item in value._asdict().items()}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (Fraction, datetime.date)):
        return str(value)
    return value


def vectors() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, (message, sequence, tick) in valid().items():
        wire = encode_frame(message, sequence=sequence, tick=tick)
        rows.append(row(name, wire, message, sequence, tick))
    for name, (content, message) in later_editions().items():
        again = encode_frame(message, sequence=0, tick=0)
        rows.append({**row(name, encode_body(content), message, 0, 0), "again": again.hex()})
    rows += [{"name": n, "wire": w.hex(), "counter": counter} for n, (w, counter) in dropped().items()]
    return rows


def row(name: str, wire: bytes, message: Message, sequence: int, tick: int) -> dict[str, Any]:
    return {
        "name": name,
        "wire": wire.hex(),
        "counter": "frames",
        "sequence": sequence,
        "tick": tick,
        "type": type(message).__name__,
        "message": plain(message),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({"about": ABOUT, "vectors": vectors()}, indent=1, ensure_ascii=False) + "\n")
