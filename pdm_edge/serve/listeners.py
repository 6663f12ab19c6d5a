"""Modbus requests in, answers out: over TCP for several clients at once, or on a serial line."""

from __future__ import annotations

import ipaddress
import logging
import select
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from pdm_edge.errors import ConfigError

if TYPE_CHECKING:
    from serial import Serial

logger = logging.getLogger(__name__)

_READ: Final = (3, 4)
_MOST_CLIENTS: Final = 16
_IDLE_S: Final = 300.0
_TICK_S: Final = 0.2
_REOPEN_S: Final = 1.0
_MBAP: Final = struct.Struct(">HHHB")
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, NO_SUCH_TARGET = 1, 2, 3, 11

Registers = Callable[[], list[int]]


class Listener(Protocol):
    """Serves registers in a thread of its own until it is closed."""

    counters: Counter[str]
    port: int

    def close(self) -> None: ...


def answer(pdu: bytes, registers: Registers) -> bytes:
    """The reply to a request: registers for function 3 and 4, an exception for everything else."""
    function = pdu[0]
    if function not in _READ:
        return bytes([function | 0x80, ILLEGAL_FUNCTION])
    if len(pdu) != 5:
        return bytes([function | 0x80, ILLEGAL_VALUE])
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= 125:
        return bytes([function | 0x80, ILLEGAL_VALUE])
    words = registers()
    if address + count > len(words):
        return bytes([function | 0x80, ILLEGAL_ADDRESS])
    return struct.pack(f">BB{count}H", function, 2 * count, *words[address : address + count])


class TcpListener:
    """Modbus TCP for up to 16 clients of private addresses; the idlest makes room for a new one."""

    def __init__(self, host: str, port: int, device: int, public: bool, registers: Registers) -> None:
        self.counters: Counter[str] = Counter()
        self._device, self._public, self._registers = device, public, registers
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host} port {port}: {error}",
                mend="Choose a free port; below 1024 needs the right to it",
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._socket.setblocking(False)
        self._clients: dict[socket.socket, tuple[bytearray, float]] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"modbus server {self.port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        self._socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(_TICK_S):
                if key.fileobj is self._socket:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    if key.fileobj in self._clients:  # or it was crowded out a moment ago
                        self._serve(key.fileobj)
            now_s = time.monotonic()
            for client in [c for c, (_, seen_s) in self._clients.items() if now_s - seen_s > _IDLE_S]:
                self._drop(client)

    def _accept(self) -> None:
        try:
            client, peer = self._socket.accept()
        except OSError:
            self.counters["accept_failed"] += 1
            return
        if not self._public and ipaddress.ip_address(peer[0]).is_global:
            self.counters["refused_clients"] += 1
            client.close()
            return
        if len(self._clients) >= _MOST_CLIENTS:
            self._drop(min(self._clients, key=lambda c: self._clients[c][1]))
            self.counters["crowded_out"] += 1
        client.settimeout(_TICK_S)
        self._clients[client] = (bytearray(), time.monotonic())
        self._selector.register(client, selectors.EVENT_READ)
        self.counters["clients"] += 1

    def _serve(self, client: socket.socket) -> None:
        buffer, _ = self._clients[client]
        self._clients[client] = (buffer, time.monotonic())
        try:
            part = client.recv(4096)
            if not part:
                self._drop(client)
                return
            buffer += part
            while (wire := self._take(buffer)) is not None:
                client.sendall(wire)
        except (OSError, ValueError) as error:
            logger.debug("client dropped: %s", error)
            self.counters["broken_clients"] += 1
            self._drop(client)

    def _take(self, buffer: bytearray) -> bytes | None:
        """The answer to the first whole request in the buffer; ValueError if it is not Modbus."""
        if len(buffer) < _MBAP.size:
            return None
        transaction, protocol, length, unit = _MBAP.unpack_from(buffer)
        if protocol or not 2 <= length <= 254:
            raise ValueError(f"MBAP header {bytes(buffer[:7]).hex()}")
        if len(buffer) < 6 + length:
            return None
        pdu = bytes(buffer[7 : 6 + length])
        del buffer[: 6 + length]
        self.counters["requests"] += 1
        if unit in (self._device, 0, 255):
            reply = answer(pdu, self._registers)
        else:
            reply = bytes([pdu[0] | 0x80, NO_SUCH_TARGET])
        wire: bytes = _framers()[1].encode(reply, unit, transaction)
        return wire

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        del self._clients[client]
        client.close()


class SerialListener:
    """Modbus RTU for the master of a line; what is meant for others on it is passed over."""

    port = 0

    def __init__(
        self, path: str, baud: int, parity: str, stopbits: int, device: int, registers: Registers
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._path, self._baud, self._parity, self._stopbits = path, baud, parity, stopbits
        self._device, self._registers = device, registers
        # Drivers and USB hand bytes over in lumps, so a little more than 3.5 characters is waited.
        self._silence_s = max(3.5 * 11 / baud, 0.005)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"modbus server {path}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        import termios

        import serial

        told = False
        while not self._stop.is_set():
            try:
                with serial.Serial(
                    self._path,
                    self._baud,
                    parity=self._parity,
                    stopbits=self._stopbits,
                    timeout=0,
                    exclusive=True,
                ) as port:
                    told = False
                    self._serve(port)
            except (OSError, ValueError, termios.error) as error:
                self.counters["line_lost"] += 1
                if not told:
                    logger.warning("modbus server: %s: %s; trying again", self._path, error)
                    told = True
                self._stop.wait(_REOPEN_S)

    def _serve(self, port: Serial) -> None:
        frame = bytearray()
        while not self._stop.is_set():
            ready, _, _ = select.select([port.fileno()], [], [], self._silence_s if frame else _TICK_S)
            part = port.read(4096) if ready else b""
            if part:
                frame += part
                del frame[:-512]
                # A read request is complete as soon as its eight bytes fit, whatever came before.
                request = bytes(frame[-8:])
                if request[:1] != bytes([self._device]) or request[1:2] not in (b"\x03", b"\x04"):
                    continue
            elif frame:
                request = bytes(frame)
            else:
                continue
            wire = self._reply(request)
            if wire is not None:
                port.write(wire)
            if wire is not None or not part:
                frame.clear()

    def _reply(self, request: bytes) -> bytes | None:
        framer = _framers()[0]
        if len(request) < 4 or framer.compute_CRC(request[:-2]) != request[-2] << 8 | request[-1]:
            return None
        if request[0] != self._device:
            self.counters["for_others"] += 1
            return None
        self.counters["requests"] += 1
        wire: bytes = framer.encode(answer(request[1:-2], self._registers), self._device, 0)
        return wire


@lru_cache(maxsize=1)
def _framers() -> tuple[Any, Any]:
    from pymodbus.framer import FramerRTU, FramerSocket
    from pymodbus.pdu import DecodePDU

    decoder = DecodePDU(True)
    return FramerRTU(decoder), FramerSocket(decoder)
