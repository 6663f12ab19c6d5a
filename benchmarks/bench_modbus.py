"""Modbus: CPU of a read against pymodbus' own client, and what dead devices cost the living.

The far end is a process that answers at once, so that only the reader's CPU counts. Alternatives
are interleaved in one run; the ratio is what to look at.
"""

from __future__ import annotations

import multiprocessing
import socket
import statistics
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

from pymodbus.client import ModbusTcpClient

from pdm_edge.acquire import Register
from pdm_edge.acquire.modbus import ModbusSource
from pdm_edge.acquire.modbus_line import ModbusLine
from pdm_edge.acquire.modbus_url import line_settings
from pdm_edge.acquire.registers import Block
from pdm_edge.clock import SystemClock
from pdm_edge.records import Reading

DEAD = {30, 31, 32}
LATENCY_S = 0.003
"""Of a gateway with devices behind it, in the second part, which reads input registers."""


def serve(ready: Connection) -> None:
    """Answer each read with zeros, one client at a time; the dead devices not at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready.send(listener.getsockname()[1])
        while True:
            client, _ = listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client:
                while request := client.recv(256):
                    unit, function, _, count = struct.unpack_from(">BBHH", request, 6)
                    if function == 4:
                        time.sleep(LATENCY_S)
                    if unit not in DEAD:
                        head = struct.pack(">HBBB", 3 + 2 * count, unit, function, 2 * count)
                        client.sendall(request[:4] + head + bytes(2 * count))


def cpu_us(read: Callable[[], object], n: int = 400) -> float:
    started = time.thread_time()
    for _ in range(n):
        read()
    return (time.thread_time() - started) / n * 1e6


def registers(
    device: int, n: int, kind: str = "uint16", table: Literal["holding", "input"] = "holding"
) -> list[Register]:
    width = 1 if kind == "uint16" else 2
    return [Register(f"s{device}", f"q{a}", "1", device, a * width, kind, table) for a in range(n)]


def reads(url: str) -> None:
    """CPU of one read of 125 registers, each against pymodbus in turns."""
    client: Any = ModbusTcpClient("127.0.0.1", port=line_settings(url).port)
    line, block = ModbusLine(line_settings(url)), Block("holding", 0, 125, ())
    clock = SystemClock()
    floats = ModbusSource(url, registers(1, 62, "float32"), clock=clock, poll_s=1e-6)
    words = ModbusSource(url, registers(1, 125), clock=clock, poll_s=1e-6)

    def by_client() -> object:
        client.connect()
        return client.read_holding_registers(0, count=125, device_id=1).registers

    closers = (client.close, line.close, floats.close, words.close)
    candidates: dict[str, Callable[[], object]] = {
        "line, one read": lambda: line.read(1, block),
        "source, 62 float32 readings": lambda: floats.read(0.0),
        "source, 125 uint16 readings": lambda: words.read(0.0),
    }
    print("CPU of a read of 125 registers over TCP, against pymodbus' synchronous client")
    for name, read in candidates.items():
        own: list[float] = []
        theirs: list[float] = []
        for _ in range(9):
            for reader, taken in ((by_client, theirs), (read, own)):
                for close in closers:
                    close()
                reader()
                taken.append(cpu_us(reader))
        mine, base = statistics.median(own), statistics.median(theirs)
        print(f"  {name:28} {mine:7.1f} us  pymodbus {base:6.1f} us  x {mine / base:.2f}")
    for close in closers:
        close()
    print("  bound: x 1.40; pymodbus gives bare words, a source checked records")


def healthy_values_s(url: str, devices: list[int], poll_s: float, for_s: float) -> float:
    wanted = [register for device in devices for register in registers(device, 1, table="input")]
    source = ModbusSource(url, wanted, clock=SystemClock(), poll_s=poll_s)
    try:
        settled_s = time.monotonic() + 4
        while time.monotonic() < settled_s:
            source.read(0.01)
        n_good, started_s = 0, time.monotonic()
        while time.monotonic() - started_s < for_s:
            got = source.read(0.01)
            n_good += sum(isinstance(r, Reading) and r.quality.level == "good" for r in got)
        return n_good / (time.monotonic() - started_s)
    finally:
        source.close()


def dead_devices(url: str) -> None:
    """Poll rate of 29 devices beside 3 dead ones, against the same 29 alone."""
    living = [device for device in range(1, 33) if device not in DEAD]
    print("29 of 32 devices on one TCP gateway, 3 dead (time-out 500 ms); good values/s")
    for poll_s, what in ((0.5, "polled twice a second"), (1e-6, "as fast as the line goes")):
        rates = [
            [healthy_values_s(url, devices, poll_s, 8) for devices in (living, list(range(1, 33)))]
            for _ in range(3)
        ]  # in turns, since other work on this machine takes from both
        alone, beside = (statistics.fmean(column) for column in zip(*rates, strict=True))
        print(f"  {what:26} alone {alone:8.1f}  beside the dead {beside:8.1f}  {beside / alone:.1%}")
    print("  bound: 95%")


def main() -> None:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    url = f"modbus+tcp://127.0.0.1:{here.recv()}"
    reads(url)
    dead_devices(url)
    server.terminate()


if __name__ == "__main__":
    main()
