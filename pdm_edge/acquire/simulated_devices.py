"""Devices to plug in where there are none: real lines, real protocols, a simulated machine behind.

A `SimulatedSensor` writes frames of the wire protocol into one end of a pseudo terminal, as
firmware would into a UART. A `SimulatedTransmitter` answers Modbus TCP.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from fractions import Fraction
from typing import Any, Final

import numpy as np

from firmware_bridge import (
    CLIPPED,
    Command,
    Data,
    Descriptor,
    Message,
    SensorDescriptor,
    StreamDecoder,
    counts_to_bytes,
    encode_frame,
)
from pdm_edge.acquire.simulate import VibrationSimulator

_TICK_HZ: Final = 1_000_000
_BLOCK_S: Final = 0.05
_SCALE_G: Final = 2.0**-11
_FULL_SCALE: Final = 32767


class SimulatedSensor:
    """A vibration sensor on a pseudo terminal, sampling in real time from `start` to `stop`.

    Attributes
    ----------
    port
        The device to open.
    bytes_written, samples_taken
        What went out, and what was measured; a sample that found no room was counted all the same.
    """

    def __init__(self, vibration: VibrationSimulator) -> None:
        import tty

        self._vibration = vibration
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self.bytes_written = 0
        self.samples_taken = 0
        self._sequence = 0
        self._commands = StreamDecoder()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated sensor", daemon=True)
        rate_hz = Fraction(vibration.sample_rate_hz)
        sensor = SensorDescriptor(0, "drive end", "g", "int16", ("x",), rate_hz, _SCALE_G, 16.0)
        self._descriptor = Descriptor("simulated-sensor", "simulator 1.0", _TICK_HZ, (sensor,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling; the line stays."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop sampling and pull the cable."""
        self.stop()
        os.close(self._slave)
        os.close(self._master)

    def _run(self) -> None:
        n_samples = round(_BLOCK_S * self._vibration.sample_rate_hz)
        started_s = time.monotonic()
        self._send(self._descriptor, 0)
        while not self._stop.is_set():
            first = self.samples_taken
            counts = np.rint(self._vibration.block(n_samples) / _SCALE_G)
            flags = CLIPPED if np.abs(counts).max() >= _FULL_SCALE else 0
            clipped = np.clip(counts, -_FULL_SCALE - 1, _FULL_SCALE)[None, :]
            self.samples_taken += n_samples
            due_s = started_s + self.samples_taken / self._vibration.sample_rate_hz
            self._stop.wait(max(due_s - time.monotonic(), 0.0))
            tick = round(first / self._vibration.sample_rate_hz * _TICK_HZ)
            self._send(Data(0, first, n_samples, counts_to_bytes(clipped, "int16"), flags), tick)
            self._answer()

    def _send(self, message: Message, tick: int) -> None:
        wire = encode_frame(message, sequence=self._sequence, tick=tick)
        self._sequence += 1
        try:
            self.bytes_written += os.write(self._master, wire)
        except BlockingIOError:
            return  # nobody reads: as on a UART, the frame is gone, and its samples stay counted

    def _answer(self) -> None:
        try:
            asked = os.read(self._master, 4096)
        except BlockingIOError:
            return
        for frame in self._commands.feed(asked):
            if isinstance(frame.message, Command) and frame.message.name == "identify":
                self._send(self._descriptor, 0)


class SimulatedTransmitter:
    """A temperature transmitter on Modbus TCP: input register 0 of device 1, in 0.1 degC, int16.

    Attributes
    ----------
    temperature_degc
        What it measures; to be set from outside.
    port
        TCP port on the loop-back interface.
    """

    def __init__(self) -> None:
        self.temperature_degc = 40.0
        self.port = 0
        self._server: Any = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated transmitter", daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(10.0):
            raise TimeoutError("the simulated transmitter did not start within 10 s")

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(10.0)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        device = SimDevice(
            id=1, simdata=[SimData(0, values=400, datatype=DataType.REGISTERS)], action=self._refresh
        )
        self._server = ModbusTcpServer(device, address=("127.0.0.1", 0))
        await self._server.listen()
        self.port = self._server.transport.sockets[0].getsockname()[1]
        self._ready.set()
        await self._server.serving

    async def _refresh(
        self,
        _function: int,
        _start: int,
        _address: int,
        _count: int,
        registers: list[int],
        _written: list[int] | list[bool] | None,
    ) -> None:
        registers[0] = round(self.temperature_degc * 10) & 0xFFFF
