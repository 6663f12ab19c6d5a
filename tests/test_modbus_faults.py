"""Bad lines: after each fault the reading resumes by itself, and no wrong value was good.

Storms of late replies on a serial line are in test_modbus_late.py.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from modbus_peers import Arrivals, BadLine, RtuLine, TcpServer, last_good, opened, poll, register, unharmed
from modbus_virtual import virtual_line

from pdm_edge.acquire import Register, modbus, modbus_frames
from pdm_edge.acquire.modbus import DeviceOptions, ModbusSource
from pdm_edge.clock import SystemClock
from pdm_edge.errors import ConfigError
from pdm_edge.records import Reading

RTU_TRUTH = {f"r{a}": 100.0 + a for a in (0, 2, 4, 6, 8)}
TCP_TRUTH = {f"r{a}": 1000.0 + a for a in (0, 2, 8, 10, 12)}
# Every second register, so that each is a request of its own and all replies look alike.


def spread(truth: dict[str, float], table: str) -> list[Register]:
    return [register(name, int(name[1:]), table=table) for name in truth]


def watch(line: BadLine, truth: dict[str, float], table: str, for_s: float = 0.8) -> tuple[int, ModbusSource]:
    """Poll for a while, then heal the line and wait until all is good; return the good readings."""
    with opened(line.url, spread(truth, table), poll_s=0.05) as source:
        n_good, ends = 0, time.monotonic() + for_s
        while time.monotonic() < ends:
            n_good += check(source.read(0.05), truth)
        line.fault, line.babble = unharmed, b""
        seen: set[str] = set()
        ends = time.monotonic() + 15
        while seen != set(truth):
            assert time.monotonic() < ends, f"only {seen} came back; {source.counters()}"
            readings = source.read(0.05)
            check(readings, truth)
            seen |= {r.quantity for r in readings if isinstance(r, Reading) and r.quality.level == "good"}
        return n_good, source


def check(readings: object, truth: dict[str, float]) -> int:
    assert isinstance(readings, (list, tuple))
    good = [r for r in readings if isinstance(r, Reading) and r.quality.level == "good"]
    for reading in good:
        assert reading.value == truth[reading.quantity]
    return len(good)


def refused_with(code: int, serial: bool) -> Callable[[bytes], Arrivals]:
    def fault(reply: bytes) -> Arrivals:
        if serial:
            return [(0.0, modbus_frames.rtu_frame(reply[0], bytes([reply[1] | 0x80, code])))]
        return [(0.0, reply[:4] + b"\x00\x03" + reply[6:7] + bytes([reply[7] | 0x80, code]))]

    return fault


def sometimes(seed: int, fault: Callable[[bytes], Arrivals]) -> Callable[[bytes], Arrivals]:
    dice = random.Random(seed)
    return lambda reply: fault(reply) if dice.random() < 0.5 else unharmed(reply)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are asked again after 0.2 s instead of 1 s, so that more happens in less time."""
    monkeypatch.setattr(modbus, "FIRST_PAUSE_S", 0.2)


NOISE = random.Random(7).randbytes(40)
BOTH: dict[str, Callable[[bytes], Arrivals]] = {
    "missing": lambda reply: [],
    "half": lambda reply: [(0.0, reply[: len(reply) // 2])],
    "late": lambda reply: [(0.4, reply)],
    "very late": lambda reply: [(1.3, reply)],
    "twice": lambda reply: [(0.0, reply), (0.005, reply)],
    "in pieces": lambda reply: [(0.004 * n, reply[n : n + 1]) for n in range(len(reply))],
}
RTU_ONLY: dict[str, Callable[[bytes], Arrivals]] = {
    "garbage before": lambda reply: [(0.0, NOISE + reply)],
    "garbage behind": lambda reply: [(0.0, reply + NOISE)],
    "a bit flipped": lambda reply: [(0.0, reply[:3] + bytes([reply[3] ^ 4]) + reply[4:])],
    "another unit": lambda reply: [(0.0, modbus_frames.rtu_frame(7, reply[1:-2]))],
    "another function": lambda reply: [(0.0, modbus_frames.rtu_frame(1, b"\x03" + reply[2:-2]))],
    "another length": lambda reply: [(0.0, modbus_frames.rtu_frame(1, b"\x04\x04\x00\x01\x00\x02"))],
}
TCP_ONLY: dict[str, Callable[[bytes], Arrivals]] = {
    "garbage instead": lambda reply: [(0.0, NOISE)],
    "another unit": lambda reply: [(0.0, reply[:6] + b"\x07" + reply[7:])],
    "another number": lambda reply: [(0.0, bytes([reply[0] ^ 1]) + reply[1:])],
    "another function": lambda reply: [(0.0, reply[:7] + b"\x04" + reply[8:])],
}


@pytest.mark.parametrize("name", [*BOTH, *RTU_ONLY])
def test_no_fault_of_a_serial_line_makes_a_wrong_value_good(name: str, bad_rtu: BadLine) -> None:
    fault = {**BOTH, **RTU_ONLY}[name]
    bad_rtu.fault = sometimes(1, fault)
    watch(bad_rtu, RTU_TRUTH, "input", for_s=3.8 if name in ("late", "very late") else 0.8)


@pytest.mark.parametrize("name", [*BOTH, *TCP_ONLY])
def test_no_fault_of_a_tcp_line_makes_a_wrong_value_good(name: str, bad_tcp: BadLine) -> None:
    bad_tcp.fault = sometimes(2, {**BOTH, **TCP_ONLY}[name])
    watch(bad_tcp, TCP_TRUTH, "holding")


@pytest.mark.parametrize("name", ["garbage before", "garbage behind", "in pieces"])
def test_a_reply_in_garbage_or_in_pieces_is_still_read(name: str, bad_rtu: BadLine) -> None:
    bad_rtu.fault = {**BOTH, **RTU_ONLY}[name]
    n_good, source = watch(bad_rtu, RTU_TRUTH, "input", for_s=1.0)
    assert n_good >= 5
    assert source.counters().get("no_answer", 0) == 0


def test_every_exception_is_survived_and_told(bad_tcp: BadLine) -> None:
    for code in (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 200):
        bad_tcp.fault = refused_with(code, serial=False)
        with opened(bad_tcp.url, [register("r8", 8, table="holding")]) as source:
            (first,) = poll(source, lambda got: len(got) >= 1)[:1]
            silent = code in (10, 11)
            assert first.quality.reasons == (("stale",) if silent else ("device",))
            assert source.counters().get(f"exception_{code}", 0) == (0 if silent else 1)
            bad_tcp.fault = unharmed
            poll(source, last_good("r8"))


def test_a_babbling_line_ends_each_wait_and_is_read_again(bad_rtu: BadLine) -> None:
    with opened(bad_rtu.url, [register("r0", 0)], poll_s=0.05) as source:
        poll(source, last_good("r0"))
        bad_rtu.babble = NOISE
        slowest_s = 0.0
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            started = time.monotonic()
            check(source.read(0.05), {"r0": 100.0})
            slowest_s = max(slowest_s, time.monotonic() - started)
        assert slowest_s < 2.0  # a time-out of 0.25 s, the doubt of another, and a loaded machine
        bad_rtu.babble = b""
        poll(source, last_good("r0"))


def test_echoes_are_noticed_and_skipped(bad_rtu: BadLine) -> None:
    request = modbus_frames.rtu_frame(1, modbus_frames.read_request("input", 0, 1).pdu)
    bad_rtu.fault = lambda reply: [(0.0, request + reply)]
    with opened(bad_rtu.url, [register("r0", 0)], poll_s=0.05) as source:
        got = poll(source, lambda got: len(got) >= 5)
        assert {(r.value, r.quality.level) for r in got} == {(100.0, "good")}
        assert source.counters()["echoes"] >= 5


def test_a_device_that_returns_is_read_within_its_pause(bad_tcp: BadLine) -> None:
    bad_tcp.fault = lambda reply: []
    with opened(bad_tcp.url, [register("r8", 8, table="holding")], poll_s=0.05) as source:
        poll(source, lambda got: source.counters().get("no_answer", 0) >= 2)
        (status,) = source.devices()
        assert not status.answers
        assert status.last_good_s is None
        bad_tcp.fault = unharmed
        started = time.monotonic()
        poll(source, last_good("r8"))
        assert time.monotonic() - started < status.next_try_s + 5  # the rest is a loaded machine
        assert source.devices()[0].answers


def test_dead_devices_leave_the_line_to_the_living(tcp: TcpServer) -> None:
    """Three devices never answer; the fourth, polled ten times a second, hardly notices."""
    registers = [register(f"d{d}", 0, device=d, table="holding") for d in (1, 7, 8, 9)]
    url = f"{tcp.url}?timeout_ms=200"
    with opened(url, registers, poll_s=0.1) as source:
        poll(source, lambda got: source.counters().get("no_answer", 0) >= 3)
        started = time.monotonic()
        got = poll(source, lambda got: sum(r.quality.level == "good" for r in got) >= 50, within_s=30)
        elapsed_s = time.monotonic() - started
    assert {r.quantity for r in got if r.quality.level == "good"} == {"d1"}
    # 5 s of polls; silence may take 4 % and half a second at once. The rest is the machine's.
    assert elapsed_s < 5 + 0.7 + 3


def test_a_saturated_line_with_stalls_keeps_its_rate_beside_dead_devices() -> None:
    """As fast as the line goes; every thirtieth answer is held up by 50 ms, whoever's it is."""

    def stalling(reply: bytes, dice: random.Random) -> Arrivals:
        if reply[0] >= 30:
            return []
        return [(0.05 if dice.random() < 1 / 30 else 0.0, reply)]

    def good_values(n_devices: int) -> int:
        with virtual_line(stalling, 3, answers_after_s=0.003) as line:
            wanted = [register(f"d{d}", 0, device=d) for d in range(1, n_devices + 1)]
            url = "modbus+rtu+tcp://127.0.0.1:4001"
            source = ModbusSource(url, wanted, clock=SystemClock(), poll_s=0.001)
            n_good, ends_s = 0, line.time.now_s + 60
            while line.time.now_s < ends_s:
                n_good += sum(isinstance(r, Reading) and r.quality.level == "good" for r in source.read(0.01))
        return n_good

    alone, beside = good_values(29), good_values(32)
    assert alone > 60 / (0.003 + 0.05 / 30) * 0.97  # all that the line can carry
    assert beside >= 0.95 * alone


def test_a_slow_device_takes_no_more_than_its_share(jsmodbus: TcpServer) -> None:
    """One of five answers after 0.2 s; polled as often as the others, it would take two thirds."""

    def reach() -> int:
        return socket.create_connection(("127.0.0.1", jsmodbus.port)).detach()

    line = BadLine(reach, serial=False)
    line.fault = lambda reply: [(0.2 if reply[6] == 5 else 0.0, reply)]
    registers = [register(f"d{d}", 0, device=d, table="holding") for d in range(1, 6)]
    try:
        patient = line.url.replace("timeout_ms=250", "timeout_ms=2000")  # slow, but not too slow
        with opened(patient, registers, poll_s=0.1) as source:
            got = poll(source, lambda got: len(got) >= 60, within_s=60)
    finally:
        line.close()
    assert {r.quality.level for r in got} == {"good"}
    counts = Counter(r.quantity for r in got)
    assert 2 <= counts["d5"] <= min(counts[f"d{d}"] for d in range(1, 5)) / 2


def test_the_silence_before_a_request_is_kept(bad_rtu: BadLine) -> None:
    url = f"{bad_rtu.url}&turnaround_ms=150"
    with opened(url, [register("r0", 0)], poll_s=0.001) as source:
        poll(source, lambda got: len(got) >= 1)
        started = time.monotonic()
        poll(source, lambda got: len(got) >= 5)
        assert time.monotonic() - started >= 5 * 0.15


def test_a_port_that_cannot_switch_rs485_says_so(bad_rtu: BadLine, caplog: pytest.LogCaptureFixture) -> None:
    with opened(f"{bad_rtu.url}&rs485=1&rts_before_ms=1", [register("r0", 0)]) as source:
        (reading,) = poll(source, lambda got: len(got) >= 1)[:1]
    assert reading.quality.reasons == ("stale",)
    assert "cannot switch an RS-485 transmitter" in caplog.text


def test_one_refused_register_of_many_is_found_and_the_rest_stay_together(tcp: TcpServer) -> None:
    registers = [register(f"r{a}", a, table="holding") for a in (*range(8, 20), 20)]
    with opened(tcp.url, registers, poll_s=0.05) as source:
        got = poll(source, lambda got: len(got) >= 39)
        refused = source.counters()["exception_2"]
        reads = source.counters()["reads"]
    bad = {r.quantity for r in got if r.quality.level != "good"}
    assert bad == {"r20"}
    assert {r.quantity for r in got} == {f"r{a}" for a in range(8, 21)}
    assert reads <= 4 * (refused + 1)  # blocks, not single registers


def test_device_limits_and_gaps_shape_the_requests(jsmodbus: TcpServer) -> None:
    registers = [register(f"r{a}", a, table="holding") for a in (0, 3, 4, 40)]
    options = {1: DeviceOptions(poll_s=0.05, max_words=4, merge_gap=5)}
    source = ModbusSource(jsmodbus.url, registers, clock=SystemClock(), options=options)
    try:
        got = poll(source, lambda got: len(got) >= 4)
        assert source.counters()["reads"] == 3
    finally:
        source.close()
    assert {r.quantity: r.value for r in got} == {"r0": 2000, "r3": 2003, "r4": 2004, "r40": 2040}


def test_a_jsmodbus_server_gives_all_four_tables(jsmodbus: TcpServer) -> None:
    registers = [
        register("holding", 5, table="holding"),
        register("input", 5, table="input"),
        register("coil", 3, table="coil", type="bool", unit="1"),
        register("discrete", 4, table="discrete", type="bool", unit="1"),
        register("nibble", 7, table="input", unit="1", bit=4, bit_count=4),
    ]
    with opened(jsmodbus.url, registers) as source:
        got = {r.quantity: r.value for r in poll(source, lambda got: len(got) >= 5)}
    assert got == {"holding": 2005, "input": 3005, "coil": 1, "discrete": 0, "nibble": (3007 >> 4) & 15}


def test_rtu_over_tcp_through_a_serial_server(rtu: RtuLine, require_tool: Callable[[str, str], str]) -> None:
    with serving(
        [require_tool("socat", "socat"), "TCP-LISTEN:{port}", f"FILE:{rtu.near},raw,echo=0"]
    ) as port:
        url = f"modbus+rtu+tcp://127.0.0.1:{port}"
        with opened(url, [register("speed", 10, type="float32")]) as source:
            got = poll(source, last_good("speed"))
    assert got[-1].value == 1.5


def test_tls_shows_a_certificate_and_checks_the_other(
    tcp: TcpServer, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    make_certificate(tmp_path, require_tool("openssl", "openssl"))
    listen = (
        f"OPENSSL-LISTEN:{{port}},fork,reuseaddr,cert={tmp_path}/both.pem,cafile={tmp_path}/cert.pem,verify=1"
    )
    with serving([require_tool("socat", "socat"), listen, f"TCP:127.0.0.1:{tcp.port}"]) as port:
        url = f"modbus+tls://127.0.0.1:{port}?server_name=localhost&ca={tmp_path}/cert.pem"
        wanted = [register("r8", 8, table="holding")]
        with opened(f"{url}&cert={tmp_path}/cert.pem&key={tmp_path}/key.pem", wanted) as source:
            assert poll(source, last_good("r8"))[-1].value == 1008
        stranger = f"modbus+tls://127.0.0.1:{port}?server_name=localhost"
        with opened(stranger, wanted) as source:
            assert {r.quality.reasons for r in poll(source, lambda got: len(got) >= 2)} == {("stale",)}


def make_certificate(folder: Path, openssl: str) -> None:
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())


class serving:  # noqa: N801 - reads as a word
    """Run a program that listens on the port it is given."""

    def __init__(self, command: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self._command = [part.replace("{port}", str(self._port)) for part in command]

    def __enter__(self) -> int:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL, start_new_session=True)
        return self._port

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, 9)
        self._process.wait()


@pytest.mark.parametrize("url", ["modbus+tcp://8.8.8.8", "modbus+tls://[2001:4860:4860::8888]:802"])
def test_a_public_address_is_refused_unless_it_is_meant(url: str) -> None:
    with pytest.raises(ConfigError, match="public address"):
        ModbusSource(url, [register("t", 0)], clock=SystemClock())
    separator = "&" if "?" in url else "?"
    ModbusSource(f"{url}{separator}public=1", [register("t", 0)], clock=SystemClock()).close()


@pytest.fixture(scope="session")
def old_pymodbus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The oldest release that the project says it works with."""
    folder = tmp_path_factory.mktemp("pymodbus")
    command = ["install", "-q", "--no-deps", "--target", str(folder), f"pymodbus=={OLDEST_PYMODBUS}"]
    done = subprocess.run([sys.executable, "-m", "pip", *command], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NEEDS pymodbus {OLDEST_PYMODBUS} from the package index")
    return folder


OLDEST_PYMODBUS = "3.8.0"


def test_the_oldest_pymodbus_reads_the_same(old_pymodbus: Path, rtu: RtuLine, tcp: TcpServer) -> None:
    """The newest one is what all other tests run with."""
    code = f"""
import pymodbus
from pdm_edge.acquire import modbus_line, modbus_url
from pdm_edge.acquire.registers import Block
for url, table, at in (({rtu.url!r}, "input", 4), ({tcp.url!r}, "holding", 8)):
    line = modbus_line.ModbusLine(modbus_url.line_settings(url))
    print(pymodbus.__version__, list(line.read(1, Block(table, at, 2, ()))))
    line.close()
"""
    environment = {**os.environ, "PYTHONPATH": str(old_pymodbus)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [f"{OLDEST_PYMODBUS} [104, 105]", f"{OLDEST_PYMODBUS} [1008, 1009]"]
    assert done.stdout.splitlines() == lines


def test_the_oldest_release_is_the_one_that_the_package_names() -> None:
    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text()
    assert f'"pymodbus>={OLDEST_PYMODBUS.removesuffix(".0")},<4"' in text
