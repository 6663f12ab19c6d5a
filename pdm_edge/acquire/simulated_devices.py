"""Devices to plug in where there are none: real lines, real protocols, a simulated machine behind.

A `SimulatedSensor` writes frames of the wire protocol into one end of a pseudo terminal, as
firmware would into a UART. A `SimulatedTransmitter` answers Modbus TCP.
"""

from __future__ import annotations

import os
import socketserver
import struct
import threading
import time
from fractions import Fraction
from typing import Final

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
        self._server: socketserver.ThreadingTCPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        transmitter = self

        class Handler(socketserver.BaseRequestHandler):
            """One client: each request of Modbus TCP is answered, until it hangs up."""

            def handle(self) -> None:
                while len(request := self.request.recv(260)) >= 8:
                    head, unit, pdu = request[:4], request[6:7], request[7:]
                    reply = transmitter.answer(pdu)
                    self.request.sendall(head + struct.pack(">H", 1 + len(reply)) + unit + reply)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="simulated transmitter", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def answer(self, pdu: bytes) -> bytes:
        """The reply to a request: one input register, an exception for all else."""
        if pdu != bytes([4, 0, 0, 0, 1]):
            return bytes([pdu[0] | 0x80, 2 if pdu[0] == 4 else 1])
        return struct.pack(">BBh", 4, 2, round(self.temperature_degc * 10))
