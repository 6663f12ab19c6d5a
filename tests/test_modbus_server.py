"""The answer goes back: a PLC reads the machines. The PLC is mbpoll, and pymodbus' own client."""

from __future__ import annotations

import math
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from modbus_peers import wait_for

from pdm_edge import Monitor
from pdm_edge.clock import SystemClock
from pdm_edge.config_file import parse_config
from pdm_edge.errors import ConfigError
from pdm_edge.records import FeatureSchema, FeatureVector, bad, uncertain
from pdm_edge.serve import ModbusServer
from pdm_edge.serve.health_map import BLOCK_WORDS, FIRST_BLOCK, Snapshot, machine_words
from pdm_edge.serve.listeners import answer

SCHEMA = FeatureSchema(
    ("de/x/envelope_bpfo_level", "de/y/envelope_bpfo_level", "de/x/envelope_bpfi_level", "t/temperature"),
    ("db", "db", "db", "degc"),
)


def machine(name: str, **changes: Any) -> SimpleNamespace:
    status = {"state": "alert", "operating": "running", "score": 1.25, "velocity_mm_s": 3.5, "zone": "C"}
    return SimpleNamespace(id=name, status=SimpleNamespace(**{**status, **changes}))


def vector(name: str) -> FeatureVector:
    values = np.array([12.5, 14.5, math.nan, 61.5], dtype=np.float32)
    return FeatureVector(name, values, SCHEMA, SystemClock().stamp(), 1.0, quality=uncertain("missing"))


@pytest.fixture
def server() -> Iterator[ModbusServer]:
    pumps = [machine("pump-7"), machine("fan-2", state="normal", zone=None, score=math.nan)]
    opened = ModbusServer("modbus+tcp://127.0.0.1:0", pumps, gateway="gw-3", stale_after_s=30)
    opened.write([vector("pump-7")])
    yield opened
    opened.close()


def mbpoll(program: str, *options: str, target: list[str]) -> dict[int, str]:
    command = [program, "-0", "-1", "-q", *options, *target]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    rows = re.findall(r"^\[(\d+)\]:\s+(\S+)", done.stdout, flags=re.MULTILINE)
    assert rows, done.stdout + done.stderr
    return {int(at): value for at, value in rows}


def test_mbpoll_reads_what_is_known_over_tcp(
    server: ModbusServer, require_tool: Callable[[str, str], str]
) -> None:
    program = require_tool("mbpoll", "mbpoll")
    target = ["127.0.0.1"]
    tcp = ("-m", "tcp", "-p", str(server.port), "-a", "1")
    head = mbpoll(program, *tcp, "-t", "4:hex", "-r", "0", "-c", "3", target=target)
    assert [head[0], head[1], head[2]] == ["0x5044", "0x0001", "0x0002"]
    block = mbpoll(program, *tcp, "-t", "3", "-r", str(FIRST_BLOCK), "-c", "6", target=target)
    assert [block[FIRST_BLOCK], block[FIRST_BLOCK + 3], block[FIRST_BLOCK + 5]] == ["3", "3", "1"]
    values = mbpoll(
        program, *tcp, "-t", "3:float", "-B", "-r", str(FIRST_BLOCK + 6), "-c", "5", target=target
    )
    assert [float(v) for v in values.values()][:4] == [1.25, 3.5, 61.5, 14.5]
    assert math.isnan(float(list(values.values())[4]))


def test_mbpoll_reads_it_on_a_serial_line(tmp_path: Path, require_tool: Callable[[str, str], str]) -> None:
    program, socat = require_tool("mbpoll", "mbpoll"), require_tool("socat", "socat")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ends = [f"PTY,link={end},raw,echo=0" for end in (ours, theirs)]
    cable = subprocess.Popen([socat, *ends])
    try:
        wait_for(lambda: ours.exists() and theirs.exists())
        serving = ModbusServer(f"modbus+rtu://{ours}?baud=19200&device=5", [machine("m")], gateway="g")
        serving.write([vector("m")])
        try:
            rtu = ("-m", "rtu", "-b", "19200", "-P", "none", "-a", "5", "-o", "2")
            got = mbpoll(program, *rtu, "-t", "4", "-r", str(FIRST_BLOCK), "-c", "4", target=[str(theirs)])
            assert [got[FIRST_BLOCK], got[FIRST_BLOCK + 3]] == ["3", "3"]
            fd = os.open(theirs, os.O_RDWR | os.O_NOCTTY)
            try:
                # For another device, then half a request: neither is answered, and both are survived.
                os.write(fd, bytes.fromhex("0903000000018542"))
                os.write(fd, bytes.fromhex("05030000"))
                time.sleep(0.2)
            finally:
                os.close(fd)
            again = mbpoll(program, *rtu, "-t", "4", "-r", "1", "-c", "1", target=[str(theirs)])
            assert again[1] == "1"
        finally:
            serving.close()
    finally:
        cable.kill()
        cable.wait()


def exchange(port: int, *pdus: bytes, unit: int = 1) -> list[bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        replies = []
        for number, pdu in enumerate(pdus):
            client.sendall(struct.pack(">HHHB", number, 0, len(pdu) + 1, unit) + pdu)
            header = client.recv(7, socket.MSG_WAITALL)
            (length,) = struct.unpack_from(">H", header, 4)
            replies.append(client.recv(length - 1, socket.MSG_WAITALL))
        return replies


def test_nothing_can_be_written_and_every_other_function_is_refused(server: ModbusServer) -> None:
    before = server.registers()[FIRST_BLOCK:]
    others = [bytes([code, 0, 100, 0, 1]) for code in range(1, 128) if code not in (3, 4)]
    for request, reply in zip(others, exchange(server.port, *others), strict=True):
        assert reply == bytes([request[0] | 0x80, 1])
    after = server.registers()[FIRST_BLOCK:]
    assert [a for i, a in enumerate(after) if i % BLOCK_WORDS not in (2, 4)] == [
        b for i, b in enumerate(before) if i % BLOCK_WORDS not in (2, 4)
    ]


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (bytes([3, 0, 0, 0, 0]), 3),
        (bytes([3, 0, 0, 0, 126]), 3),
        (bytes([3, 0, 0]), 3),
        (bytes([4, 255, 255, 0, 2]), 2),
        (bytes([4, 0, 227, 0, 2]), 2),
    ],
)
def test_an_impossible_read_is_refused_with_the_code_of_the_standard(
    pdu: bytes, code: int, server: ModbusServer
) -> None:
    assert exchange(server.port, pdu) == [bytes([pdu[0] | 0x80, code])]


def test_another_unit_is_answered_as_a_gateway_would(server: ModbusServer) -> None:
    assert exchange(server.port, bytes([3, 0, 0, 0, 1]), unit=9) == [bytes([0x83, 11])]
    assert exchange(server.port, bytes([3, 0, 0, 0, 1]), unit=255) == [bytes([3, 2, 0x50, 0x44])]


def test_garbage_costs_its_sender_the_connection_and_nobody_else(server: ModbusServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as good:
        for noise in (os.urandom(2) + b"\x12\x34" + os.urandom(300), b"\0\0\0\0\0\0\0\0"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as bad:
                bad.sendall(noise)
                assert bad.recv(100) == b""
        good.sendall(bytes.fromhex("000000000006010300010001"))
        assert good.recv(100) == bytes.fromhex("00000000000501030200" + "01")


def test_a_stale_machine_shows_its_age_and_nothing_else() -> None:
    known = Snapshot("m", "alarm", 0.0, 100.0, True, 2.5, 9.0, "D", 80.0, (1.0, 2.0, 3.0, 4.0))
    fresh = machine_words(known, now_s=130.0, stale_after_s=60.0)
    stale = machine_words(known, now_s=161.0, stale_after_s=60.0)
    never = machine_words(Snapshot("m"), now_s=161.0, stale_after_s=60.0)
    assert fresh[:6] == [4, 0b11111101, 30, 4, 130, 0]
    assert stale[:6] == [0, 0b10, 61, 0, 0xFFFF, 2]
    assert never[:6] == [0, 0b10, 0xFFFF, 0, 0xFFFF, 2]
    for words in (stale, never):
        floats = [struct.unpack(">f", struct.pack(">HH", *words[at : at + 2]))[0] for at in range(6, 20, 2)]
        assert all(math.isnan(value) for value in floats)
        assert words[20:27] == [0xFFFF, 0xFFFF, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000]
    assert len(fresh) == len(stale) == BLOCK_WORDS
    assert fresh[20:27] == [2500, 900, 800, 10, 20, 30, 40]


def test_the_age_grows_while_nothing_is_written(server: ModbusServer) -> None:
    server.write([vector("pump-7")])
    assert server.registers()[FIRST_BLOCK + 2] == 0
    wait_for(lambda: server.registers()[FIRST_BLOCK + 2] >= 1)
    heartbeat = server.registers()[3]
    wait_for(lambda: server.registers()[3] != heartbeat)


def test_the_age_goes_on_while_a_silent_device_makes_vectors_of_nothing() -> None:
    """A poller tells every missing answer: such a vector must not pass for data of the machine."""
    pump = machine("m")
    serving = ModbusServer("modbus+tcp://127.0.0.1:0", [pump], gateway="g", stale_after_s=1)
    try:
        serving.write([vector("m")])
        pump.status = machine("m", state="unknown", operating="unknown", score=math.nan).status
        nothing = FeatureVector(
            "m", np.full(4, np.nan, np.float32), SCHEMA, SystemClock().stamp(), 1.0, quality=bad("stale")
        )
        ends = time.monotonic() + 2.2
        while time.monotonic() < ends:
            serving.write([nothing])
            time.sleep(0.1)
        state, flags, age, zone = serving.registers()[FIRST_BLOCK : FIRST_BLOCK + 4]
        assert (state, flags, zone) == (0, 0b10, 0)
        assert age == 2
    finally:
        serving.close()


def test_a_machine_at_standstill_is_heard_although_its_sensor_is_doubted() -> None:
    still = machine("m", operating="stopped")
    serving = ModbusServer("modbus+tcp://127.0.0.1:0", [still], gateway="g", stale_after_s=1)
    try:
        doubted = FeatureVector(
            "m", np.zeros(4, np.float32), SCHEMA, SystemClock().stamp(), 1.0, quality=bad("stuck")
        )
        serving.write([doubted])
        _, flags, age = serving.registers()[FIRST_BLOCK : FIRST_BLOCK + 3]
        assert (flags & 0b11, age) == (1, 0)
    finally:
        serving.close()


def test_names_are_readable_text(server: ModbusServer) -> None:
    words = server.registers()
    block = words[FIRST_BLOCK + 32 : FIRST_BLOCK + 64]
    assert struct.pack(">32H", *block).rstrip(b"\0") == b"pump-7"
    assert struct.pack(">32H", *words[12:44]).rstrip(b"\0") == b"gw-3"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("modbus+tcp://0.0.0.0:1502", "would serve everybody"),
        ("modbus+tcp://8.8.8.8:1502", "would serve everybody"),
        ("modbus+tcp://plc.local:1502", "address of an interface"),
        ("modbus+rtu:///dev/ttyUSB0", "baud rate"),
        ("modbus+tls://127.0.0.1", "cannot serve"),
        ("modbus+tcp://127.0.0.1:1502?device=0", "1 to 247"),
    ],
)
def test_a_place_that_cannot_be_served_at_is_refused(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ModbusServer(url, [], gateway="g")


def test_a_taken_port_is_told(server: ModbusServer) -> None:
    with pytest.raises(ConfigError, match="cannot listen"):
        ModbusServer(f"modbus+tcp://127.0.0.1:{server.port}", [], gateway="g")


def test_the_first_of_too_many_clients_makes_room(server: ModbusServer) -> None:
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(20)]
    try:
        wait_for(lambda: server.counters["crowded_out"] >= 4)
        assert exchange(server.port, bytes([3, 0, 1, 0, 1])) == [bytes([3, 2, 0, 1])]
    finally:
        for client in clients:
            client.close()


def test_a_client_that_is_crowded_out_while_it_asks_does_not_end_the_server(server: ModbusServer) -> None:
    request = struct.pack(">HHHBBHH", 1, 0, 6, 1, 3, 0, 2)
    clients = []
    for _ in range(16):
        clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        wait_for(lambda: server.counters["clients"] == len(clients))
    try:
        with server._lock:  # the pipeline writes; the server waits with the answer to one client
            clients[7].sendall(request)
            time.sleep(0.3)
            clients.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            time.sleep(0.1)
            clients[0].sendall(request)  # the idlest, which makes room in the same moment
            time.sleep(0.1)
        wait_for(lambda: server.counters["crowded_out"] == 1)
        assert exchange(server.port, bytes([3, 0, 1, 0, 1])) == [bytes([3, 2, 0, 1])]
    finally:
        for client in clients:
            client.close()


def test_a_monitor_serves_its_machines_to_a_plc(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a_g\n" + "0.1\n-0.1\n" * 3000)
    text = """
[gateway]
id = "gw"
[[machine]]
id = "m"
iso20816 = { group = 2, support = "rigid" }
[[machine.sensor]]
id = "a"
source = "replay://r.csv?sample_rate_hz=2560"
[modbus_server]
url = "modbus+tcp://127.0.0.1:PORT"
[store]
path = "p.db"
"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = parse_config(text.replace("PORT", str(port)), base=str(tmp_path))
    with Monitor.from_config(config) as monitor:
        ends = time.monotonic() + 20
        state = 0
        while state == 0 and time.monotonic() < ends:
            monitor.step(timeout_s=0.1)
            (reply,) = exchange(port, bytes([4, 0, FIRST_BLOCK, 0, 6]))
            state, flags = struct.unpack(">HH", reply[2:6])
        assert state == 1
        assert flags & 1


def test_an_answer_never_takes_longer_than_the_request_is_worth() -> None:
    assert answer(b"\x03\x00\x00\x00\x02", lambda: [1, 2]) == b"\x03\x04\x00\x01\x00\x02"
    assert answer(b"\x2b\x0e\x01\x00", lambda: []) == b"\xab\x01"
