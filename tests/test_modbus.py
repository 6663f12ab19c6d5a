"""Modbus against servers written by others: libmodbus on a pty pair, and modbus-serial on TCP."""

from __future__ import annotations

import math
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from modbus_peers import RtuLine, TcpServer, last_good, opened, poll, register

from pdm_edge.acquire.modbus import ModbusSource
from pdm_edge.acquire.registers import blocks
from pdm_edge.clock import SystemClock
from pdm_edge.errors import ConfigError

# Pure: what the words mean


@pytest.mark.parametrize(
    ("kind", "words", "options", "value"),
    [
        ("int16", [0xFFFF], {}, -1),
        ("uint16", [0xFFFF], {}, 65535),
        ("uint16", [0x3412], {"byte_order": "little"}, 0x1234),
        ("int32", [0xFFFE, 0xEE90], {}, -70000),
        ("int32", [0xEE90, 0xFFFE], {"word_order": "little"}, -70000),
        ("float32", [0x3FC0, 0x0000], {}, 1.5),
        ("float32", [0x0000, 0x3FC0], {"word_order": "little"}, 1.5),
        ("float32", [0x0000, 0xC03F], {"word_order": "little", "byte_order": "little"}, 1.5),
        ("uint64", [0, 0, 1, 0], {}, 65536),
        ("float64", [0x3FF8, 0, 0, 0], {}, 1.5),
        ("int16", [415], {"scale": 0.1, "offset": -1.5}, 40.0),
    ],
)
def test_words_mean_what_type_and_order_say(
    kind: str, words: list[int], options: dict[str, Any], value: float
) -> None:
    decoded, quality = register("t", 0, type=kind, **options).decode(words)
    assert decoded == pytest.approx(value)
    assert quality.level == "good"


@pytest.mark.parametrize(
    ("options", "words", "reason"),
    [
        ({"minimum": -40, "maximum": 125}, [300], "out_of_range"),
        ({"type": "int16", "minimum": -40}, [0xFF00], "out_of_range"),
        ({"invalid": (0x7FFF,)}, [0x7FFF], "device"),
        ({"type": "float32"}, [0x7FC0, 0], "nonfinite"),
    ],
)
def test_impossible_values_are_bad_and_carry_no_number(
    options: dict[str, Any], words: list[int], reason: str
) -> None:
    value, quality = register("t", 0, **options).decode(words)
    assert math.isnan(value)
    assert (quality.level, quality.reasons) == ("bad", (reason,))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "float"}, "type is 'float'. Use one of int16"),
        ({"table": "flag"}, "table is 'flag'"),
        ({"table": "coil"}, "hold bool"),
        ({"type": "int16", "bit": 3}, "need one of the uint types"),
        ({"bit": 12, "bit_count": 5}, "bits 12 to 16"),
        ({"word_order": "middle"}, "word_order"),
        ({"address": 40001, "type": "float64", "device": 300}, "device id 300"),
        ({"address": 70000}, "counted from 0"),
    ],
)
def test_a_register_that_cannot_be_is_refused_with_the_mend(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        register("t", changes.pop("address", 0), **changes)
    assert says in str(caught.value)


def test_neighbours_are_read_at_once_and_nothing_else_is_read() -> None:
    registers = [register(f"q{a}", a) for a in (0, 1, 2, 4, 5)] + [register("h", 6, table="holding")]
    plan = [(b.table, b.address, b.count, len(b.registers)) for b in blocks(registers)]
    assert plan == [("holding", 6, 1, 1), ("input", 0, 3, 3), ("input", 4, 2, 2)]


def test_no_block_is_longer_than_modbus_allows() -> None:
    plan = blocks([register(f"q{a}", a) for a in range(300)])
    assert [b.count for b in plan] == [125, 125, 50]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("modbus+tcp://", "has no host"),
        ("modbus+rtu:///dev/ttyUSB0", "baud rate"),
        ("modbus+rtu:///dev/ttyUSB0?baud=9600&parity=X", "parity"),
        ("modbus+tcp://h?speed=3", "unknown option 'speed'"),
        ("modbus+udp://h", "unknown scheme"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("+", r"\+")):
        ModbusSource(url, [register("t", 0)], clock=SystemClock())


# Real servers


def test_rtu_values_of_a_libmodbus_slave(rtu: RtuLine) -> None:
    registers = [
        register("temperature", 3, scale=0.5, offset=1.0),
        register("speed", 10, type="float32", unit="rpm"),
    ]
    with opened(rtu.url, registers) as source:
        got = {r.quantity: r for r in poll(source, lambda got: len(got) >= 2)}
    assert (got["temperature"].value, got["temperature"].unit) == (103 * 0.5 + 1.0, "degc")
    assert (got["speed"].value, got["speed"].unit) == (1.5, "rpm")
    assert all(r.quality.level == "good" for r in got.values())


def test_a_bad_register_marks_its_own_value_and_no_other(rtu: RtuLine) -> None:
    registers = [register("speed", 10, type="float32"), register("phantom", 12)]
    with opened(rtu.url, registers) as source:
        got = poll(source, lambda got: len(got) >= 4)
        counters = source.counters()
    speeds = [r for r in got if r.quantity == "speed"]
    phantoms = [r for r in got if r.quantity == "phantom"]
    assert {r.value for r in speeds} == {1.5}
    assert {(r.quality.level, r.quality.reasons) for r in phantoms} == {("bad", ("device",))}
    assert counters["exception_2"] >= 2


def test_a_dead_device_does_not_silence_a_live_one(rtu: RtuLine) -> None:
    registers = [register("temperature", 0), register("dead", 0, device=9)]
    with opened(rtu.url, registers, poll_s=0.1) as source:
        started = time.monotonic()
        got = poll(source, lambda got: sum(r.quantity == "temperature" for r in got) >= 15)
        elapsed_s = time.monotonic() - started
    live = [r for r in got if r.quantity == "temperature"]
    dead = [r for r in got if r.quantity == "dead"]
    assert {r.quality.level for r in live} == {"good"}
    assert {r.quality.reasons for r in dead} == {("stale",)}
    # 15 polls at 0.1 s, and one time-out of 0.5 s in each pause of 1 s and more.
    assert elapsed_s < 6.0


def test_a_pulled_cable_gives_stale_values_and_reading_resumes(rtu: RtuLine) -> None:
    with opened(rtu.url, [register("temperature", 0)]) as source:
        poll(source, last_good("temperature"))
        rtu.pull()
        stale = poll(source, lambda got: any(r.quality.reasons == ("stale",) for r in got))
        assert all(math.isnan(r.value) for r in stale if r.quality.level == "bad")
        rtu.plug()
        poll(source, last_good("temperature"))


def test_garbage_on_the_line_is_never_a_value(rtu: RtuLine) -> None:
    with opened(rtu.url, [register("temperature", 0)]) as source:
        poll(source, last_good("temperature"))
        with open(rtu.far, "wb", buffering=0) as far:
            for _ in range(5):
                far.write(bytes(range(1, 200)))
                got = poll(source, lambda got: len(got) >= 1)
                assert all(r.value == 100 for r in got if r.quality.level == "good")
        poll(source, last_good("temperature"))


def test_tcp_values_of_a_node_server(tcp: TcpServer) -> None:
    registers = [
        register("temperature", 3, table="holding"),
        register("energy", 4, type="int32", table="holding", unit="j"),
        register("phantom", 20, table="holding"),
    ]
    with opened(tcp.url, registers) as source:
        got = poll(source, lambda got: len(got) >= 3)
    values = {r.quantity: (r.value, r.quality.level) for r in got}
    assert values["temperature"] == (1003.0, "good")
    assert values["energy"] == (-70000.0, "good")
    assert values["phantom"][1] == "bad"


def test_a_server_that_dies_and_returns_is_read_again(tcp: TcpServer) -> None:
    with opened(tcp.url, [register("temperature", 0, table="holding")]) as source:
        poll(source, last_good("temperature"))
        tcp.kill()
        poll(source, lambda got: any(r.quality.reasons == ("stale",) for r in got))
        tcp.start()
        poll(source, last_good("temperature"))


def test_a_host_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with opened(f"modbus+tcp://127.0.0.1:{port}", [register("temperature", 0)]) as source:
        got = poll(source, lambda got: len(got) >= 2)
    assert {r.quality.reasons for r in got} == {("stale",)}
