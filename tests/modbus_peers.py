"""Peers of the Modbus tests, all written by others, and the bad line between us and them."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pdm_edge.acquire import Register
from pdm_edge.acquire.burst import BurstTask
from pdm_edge.acquire.modbus import ModbusSource
from pdm_edge.clock import SystemClock
from pdm_edge.records import Gap, Reading, Waveform

HERE = Path(__file__).parent / "modbus"


def register(quantity: str, address: int, **changes: Any) -> Register:
    values: dict[str, Any] = {
        "sensor": "temp",
        "unit": "degc",
        "device": 1,
        "type": "uint16",
        "table": "input",
    }
    return Register(quantity=quantity, address=address, **{**values, **changes})


def poll(
    source: ModbusSource, enough: Callable[[list[Reading]], bool], within_s: float = 15
) -> list[Reading]:
    got: list[Reading] = []
    deadline = time.monotonic() + within_s
    while not enough(got):
        assert time.monotonic() < deadline, f"got only {got[-5:]}; {source.counters()}"
        got.extend(m for m in source.read(0.05) if isinstance(m, Reading))
    return got


def last_good(quantity: str) -> Callable[[list[Reading]], bool]:
    return lambda got: any(r.quantity == quantity and r.quality.level == "good" for r in got)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="session")
def slave_binary(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    gcc = require_tool("gcc", "gcc libc6-dev libmodbus-dev")
    if not Path("/usr/include/modbus/modbus.h").exists():
        pytest.skip("NEEDS libmodbus: apt-get install libmodbus-dev")
    binary = tmp_path_factory.mktemp("slave") / "slave"
    command = [gcc, "-Wall", "-I/usr/include/modbus", str(HERE / "slave.c"), "-o", str(binary), "-lmodbus"]
    subprocess.run(command, check=True)
    return binary


class RtuLine:
    """A serial cable with a libmodbus slave at its far end."""

    def __init__(self, folder: Path, socat: str, binary: Path) -> None:
        self.near, self.far = folder / "near", folder / "far"
        self._socat, self._binary = socat, binary
        self._processes: list[subprocess.Popen[str]] = []

    def plug(self) -> None:
        ends = [f"PTY,link={end},raw,echo=0" for end in (self.near, self.far)]
        self._processes.append(subprocess.Popen([self._socat, *ends], text=True))
        wait_for(lambda: self.near.exists() and self.far.exists())
        slave = subprocess.Popen([str(self._binary), str(self.far), "1"], stdout=subprocess.PIPE, text=True)
        self._processes.append(slave)
        assert slave.stdout is not None
        assert slave.stdout.readline() == "ready\n"

    def pull(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()

    @property
    def url(self) -> str:
        return f"modbus+rtu://{self.near}?baud=19200"


@pytest.fixture
def rtu(tmp_path: Path, slave_binary: Path, require_tool: Callable[[str, str], str]) -> Iterator[RtuLine]:
    line = RtuLine(tmp_path, require_tool("socat", "socat"), slave_binary)
    line.plug()
    yield line
    line.pull()


@contextmanager
def opened(url: str, registers: list[Register], poll_s: float = 0.05) -> Iterator[ModbusSource]:
    source = ModbusSource(url, registers, clock=SystemClock(), poll_s=poll_s)
    try:
        yield source
    finally:
        source.close()


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str, str], str]) -> Path:
    npm = require_tool("npm", "npm")
    folder = tmp_path_factory.mktemp("npm")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--omit=optional", "modbus-serial@8", "jsmodbus@4"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    if done.returncode != 0:
        pytest.skip(f"NEEDS the npm package modbus-serial: {done.stderr.strip()[-200:]}")
    for script in HERE.glob("*.js"):
        shutil.copy(script, folder)
    return folder


class TcpServer:
    def __init__(self, folder: Path, script: str = "server.js") -> None:
        self._folder, self._script = folder, script
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.arguments: list[str] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["node", self._script, str(self.port), *self.arguments],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    @property
    def url(self) -> str:
        return f"modbus+tcp://127.0.0.1:{self.port}"


@pytest.fixture
def tcp(node_modules: Path) -> Iterator[TcpServer]:
    server = TcpServer(node_modules)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def jsmodbus(node_modules: Path) -> Iterator[TcpServer]:
    server = TcpServer(node_modules, "jsmodbus.js")
    server.start()
    yield server
    server.kill()


Arrivals = list[tuple[float, bytes]]
"""What reaches us of a reply: each part with its delay in seconds."""


def unharmed(reply: bytes) -> Arrivals:
    return [(0.0, reply)]


class BadLine:
    """Sits between us and a real server and does to its replies what `fault` says.

    Towards us it is a pseudo terminal (`url` names it) or a TCP port; `reach` opens the way to the
    server as a file descriptor.
    """

    def __init__(self, reach: Callable[[], int], *, serial: bool) -> None:
        self.fault: Callable[[bytes], Arrivals] = unharmed
        self.babble = b""
        self.replies = 0
        self._reach = reach
        self._stop = threading.Event()
        self._listener: socket.socket | None = None
        if serial:
            self._master, self._slave = os.openpty()
            tty.setraw(self._slave)
            self.url = f"modbus+rtu://{os.ttyname(self._slave)}?baud=19200&timeout_ms=250"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self._listener.settimeout(0.05)
            port = self._listener.getsockname()[1]
            self.url = f"modbus+tcp://127.0.0.1:{port}?timeout_ms=250"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._listener is not None:
            self._listener.close()
        else:
            os.close(self._slave)
            os.close(self._master)

    def _run(self) -> None:
        if self._listener is None:
            theirs = self._reach()
            self._relay(self._master, theirs)
            os.close(theirs)
            return
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            client.setblocking(False)
            theirs = self._reach()
            with client:
                self._relay(client.fileno(), theirs)
            os.close(theirs)

    def _relay(self, ours: int, theirs: int) -> None:
        pending: Arrivals = []
        while not self._stop.is_set():
            now = time.monotonic()
            try:
                for due, part in [p for p in pending if p[0] <= now]:
                    pending.remove((due, part))
                    os.write(ours, part)
                if self.babble:
                    with suppress(BlockingIOError):
                        os.write(ours, self.babble)
                ready, _, _ = select.select([ours, theirs], [], [], 0.005)
                if ours in ready:
                    request = os.read(ours, 4096)
                    if not request:
                        return
                    os.write(theirs, request)
                if theirs in ready:
                    reply = self._whole_reply(theirs)
                    if not reply:
                        return
                    self.replies += 1
                    pending.extend((time.monotonic() + wait, part) for wait, part in self.fault(reply))
            except OSError:
                return

    def _whole_reply(self, theirs: int) -> bytes:
        reply = os.read(theirs, 4096)
        while reply and select.select([theirs], [], [], 0.01)[0]:
            more = os.read(theirs, 4096)
            if not more:
                break
            reply += more
        return reply


@pytest.fixture
def bad_rtu(rtu: RtuLine) -> Iterator[BadLine]:
    line = BadLine(lambda: os.open(rtu.near, os.O_RDWR | os.O_NOCTTY), serial=True)
    yield line
    line.close()


@pytest.fixture
def bad_tcp(tcp: TcpServer) -> Iterator[BadLine]:
    def reach() -> int:
        return socket.create_connection(("127.0.0.1", tcp.port)).detach()

    line = BadLine(reach, serial=False)
    yield line
    line.close()


BURST_FAULTS: dict[str, Callable[[bytes], Arrivals]] = {
    "missing": lambda reply: [],
    "late": lambda reply: [(0.25, reply)],
    "a bit flipped": lambda reply: [(0.0, reply[:9] + bytes([reply[9] ^ 1]) + reply[10:])],
    "twice": lambda reply: [(0.0, reply), (0.02, reply)],
}


def every_eighth(fault: Callable[[bytes], Arrivals]) -> Callable[[bytes], Arrivals]:
    """Harm every eighth reply, if it is longer than an exception or a single register."""
    count = 0

    def harm(reply: bytes) -> Arrivals:
        nonlocal count
        count += 1
        return fault(reply) if count % 8 == 0 and len(reply) > 10 else unharmed(reply)

    return harm


def fetch_bursts(
    url: str, task: BurstTask, n: int = 1, within_s: float = 40
) -> tuple[list[Waveform], list[Gap]]:
    """Read a line until `n` waveforms came; those, and the gaps that were told."""
    source = ModbusSource(
        url, [], clock=SystemClock(), bursts=[task], writable=[(task.device, task.command_register)]
    )
    got: list[Waveform] = []
    gaps: list[Gap] = []
    ends = time.monotonic() + within_s
    try:
        while len(got) < n:
            assert time.monotonic() < ends, f"{gaps}; {source.counters()}"
            for item in source.read(0.05):
                if isinstance(item, Waveform):
                    got.append(item)
                elif isinstance(item, Gap):
                    gaps.append(item)
    finally:
        source.close()
    return got, gaps
