"""The C side on the host, with sanitizers: golden frames, exhaustive damage, parity with Python."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_bridge import (
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
    StreamDecoder,
    encode_frame,
)
from firmware_bridge.codec import HEADER, encode_payload
from firmware_bridge.emulator import C_FOLDER, WARNINGS
from firmware_bridge.framing import encode_body

VECTORS = json.loads((C_FOLDER.parent / "vectors.json").read_text())["vectors"]
STRICT = ("-Wsign-conversion", "-Wshadow", "-Wcast-align", "-Wstrict-prototypes")
SANITIZERS = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def wire_check(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    gcc = require_tool("gcc", "gcc")
    program = tmp_path_factory.mktemp("c") / "wire_check"
    sources = [str(C_FOLDER / "pdm_wire.c"), str(C_FOLDER / "tests" / "wire_check.c")]
    subprocess.run([gcc, *WARNINGS, *STRICT, *SANITIZERS, *sources, "-o", str(program)], check=True)
    return program


def roundtrip(program: Path, wire: bytes) -> tuple[bytes, dict[str, int]]:
    """What C encodes of what it decoded, and what it counted."""
    done = subprocess.run([program, "roundtrip"], input=wire, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    lines = (line.split() for line in done.stderr.decode().splitlines())
    return done.stdout, {name: int(count) for name, count in lines}


@pytest.mark.parametrize("vector", VECTORS, ids=[v["name"] for v in VECTORS])
def test_c_reads_and_writes_the_golden_frames(wire_check: Path, vector: dict[str, Any]) -> None:
    out, counted = roundtrip(wire_check, bytes.fromhex(vector["wire"]))
    counter = vector["counter"]
    if counter == "frames":
        assert out.hex() == vector.get("again", vector["wire"])
        assert counted["frames"] == 1
    else:
        assert out == b""
        # What is intact but not to be used is the caller's to count in C.
        names = {"unknown_type": ["unreadable"], "bad_payload": ["bad_payload", "unreadable"]}
        assert sum(counted[name] for name in names.get(counter, [counter])) == 1
        assert counted["frames"] == 0


def test_every_truncation_every_bit_flip_and_every_output_size(wire_check: Path) -> None:
    frames = [bytes.fromhex(v["wire"]) for v in VECTORS if v["counter"] == "frames" and "again" not in v]
    done = subprocess.run([wire_check, "exhaust"], input=b"".join(frames), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def random_messages(random: np.random.Generator, n: int) -> list[Message]:
    def number(bits: int) -> int:
        # As often a power of two or its neighbour as any: there the encodings turn.
        near = (1 << int(random.integers(0, bits + 1))) + int(random.integers(-1, 1))
        value = near if random.random() < 0.5 else int(random.integers(0, 1 << min(bits, 62)))
        return max(0, min(value, (1 << bits) - 1))

    def text(longest: int) -> str:
        return "".join(random.choice(list("aZ 7ü€-"), int(random.integers(0, longest // 3))))

    def real() -> float:
        return float(np.float32(random.normal() * 10.0 ** random.integers(-9, 9)))

    def sensor(i: int) -> SensorDescriptor:
        axes = tuple("xyzr"[: random.integers(1, 5)])
        form = str(random.choice(["int16", "int24", "float32"]))
        rate = Fraction(max(number(32), 1), max(number(32), 1))
        return SensorDescriptor(
            i,
            text(63),
            "g",
            form,
            axes,
            rate,
            float(np.float32(abs(real()) + 1e-9)),
            rate_measured=bool(i % 2),
        )

    def raw() -> bytes:
        length = int(random.choice([0, 1, 200, 253, 254, 255, 300, 508, 1536, 4072]))
        bytes_ = random.integers(0, int(random.choice([2, 256])), length, dtype=np.uint8).tobytes()
        return bytes_.replace(b"\0", b"\1") if random.random() < 0.3 else bytes_

    makers: list[Callable[[], Message]] = [
        lambda: Data(number(8), number(64), max(number(16), 1), raw(), number(8), number(16), number(8)),
        lambda: Data(number(8), number(64), max(number(16), 1), raw(), number(8), number(16), number(8)),
        lambda: Descriptor(
            text(63), text(63), max(number(32), 1), tuple(sensor(i) for i in range(random.integers(0, 5))),
            number(16), number(8),
        ),
        lambda: Scalars(tuple(Scalar(number(8), "speed", real()) for _ in range(random.integers(0, 9)))),
        lambda: Status(
            number(32), number(32), number(32), "passed",
            tuple(SensorStatus(number(8), "fault", number(32), number(32)) for _ in range(3)),
        ),
        lambda: Log("error", text(255)),
        lambda: Reply("time_sync", number(16), "ok", number(32)),
        lambda: Reply("burst", number(16), "busy"),
        lambda: Command("set_rate", number(16), (number(8), number(32), number(32))),
        lambda: Command("set_range", number(16), (number(8), real())),
        lambda: Command("time_sync", number(16), (number(64),)),
        lambda: Command("burst", number(16), (number(8), number(32))),
    ]  # fmt: skip
    return [makers[i]() for i in random.integers(0, len(makers), n)]


def test_random_frames_pass_from_python_through_c_to_python_unchanged(wire_check: Path) -> None:
    random = np.random.default_rng(17)
    sent = [
        Frame(i & 0xFFFF, int(random.integers(0, 2**32)), m)
        for i, m in enumerate(random_messages(random, 3000))
    ]
    wire = b"".join(encode_frame(f.message, sequence=f.sequence, tick=f.tick) for f in sent)
    out, counted = roundtrip(wire_check, wire)
    assert counted["frames"] == 3000
    assert out == wire
    assert StreamDecoder().feed(out) == sent


def test_c_and_python_count_damage_alike(wire_check: Path) -> None:
    random = np.random.default_rng(23)
    messages = random_messages(random, 1500)
    wire = bytearray(b"".join(encode_frame(m, sequence=i, tick=i) for i, m in enumerate(messages)))
    for position in random.integers(0, len(wire), 700):
        wire[position] = int(random.integers(0, 256))
    for position in sorted(random.integers(0, len(wire), 60), reverse=True):
        wire[position : position + int(random.integers(1, 40))] = random.bytes(int(random.integers(0, 90)))
    damaged = bytes(wire) + b"\0" + b"\x77" * 10_000 + b"\0"
    decoder = StreamDecoder()
    frames = decoder.feed(damaged)
    out, counted = roundtrip(wire_check, damaged)
    assert len(frames) == counted["frames"] > 100
    assert StreamDecoder().feed(out) == frames
    for name in ("bad_cobs", "bad_crc", "bad_length", "newer_version"):
        assert counted[name] == getattr(decoder.counters, name), name
    assert counted["bad_crc"] > 100


def test_c_and_python_accept_the_same_payloads(wire_check: Path) -> None:
    """Bodies with a sound frame around, and anything inside."""
    random = np.random.default_rng(29)
    bodies = []
    for vector in VECTORS:
        if vector["counter"] != "frames":
            continue
        (frame,) = StreamDecoder().feed(bytes.fromhex(vector["wire"]))
        kind, payload = encode_payload(frame.message)
        for _ in range(60):
            changed = bytearray(payload)
            for position in random.integers(0, max(len(changed), 1), int(random.integers(0, 3))):
                if changed:
                    changed[position] = int(random.choice([0, 1, 2, 127, 255, int(random.integers(0, 256))]))
            cut = int(random.integers(0, len(changed) + 1)) if random.random() < 0.3 else len(changed)
            bodies.append(HEADER.pack(1, kind, 0, 0) + bytes(changed[:cut]))
    wire = b"".join(encode_body(body) for body in bodies)
    accepted = StreamDecoder().feed(wire)
    out, counted = roundtrip(wire_check, wire)
    assert counted["frames"] == len(accepted) > len(bodies) / 4
    assert counted["unreadable"] > len(bodies) / 20
    assert [repr(f) for f in StreamDecoder().feed(out)] == [repr(f) for f in accepted]
