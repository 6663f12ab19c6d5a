"""Bytes to and from a serial port or a TCP connection, with absolute deadlines."""

from __future__ import annotations

import select
import socket
import ssl
import time
from typing import TYPE_CHECKING, Protocol

from pdm_edge.acquire.modbus_url import LineSettings, check_private
from pdm_edge.errors import ConfigError

if TYPE_CHECKING:
    from serial import Serial


class Port(Protocol):
    """A way to a line. All methods raise OSError when it is gone."""

    def send(self, data: bytes) -> None: ...

    def receive(self, deadline_s: float) -> bytes:
        """What has come; waits for the first byte until `deadline_s` (monotonic), then empty."""
        ...

    def close(self) -> None: ...


def open_port(settings: LineSettings) -> Port:
    """Open what the settings name; OSError if it is not there."""
    return SerialPort(settings) if settings.path else TcpPort(settings)


class SerialPort:
    """A serial device, opened for this process alone."""

    def __init__(self, settings: LineSettings) -> None:
        import termios

        import serial
        from serial.rs485 import RS485Settings

        try:
            self._serial: Serial = serial.Serial(
                settings.path,
                settings.baud,
                parity=settings.parity,
                stopbits=settings.stopbits,
                timeout=0,
                write_timeout=settings.timeout_s,
                exclusive=True,
            )
        except (ValueError, termios.error) as error:
            raise OSError(f"{settings.path}: {error}") from error
        try:
            if settings.rs485:
                self._serial.rs485_mode = RS485Settings(
                    delay_before_tx=settings.rts_before_s, delay_before_rx=settings.rts_after_s
                )
        except (OSError, ValueError, termios.error) as error:
            self._serial.close()
            raise OSError(f"{settings.path} cannot switch an RS-485 transmitter: {error}") from error

    def send(self, data: bytes) -> None:
        self._serial.write(data)

    def receive(self, deadline_s: float) -> bytes:
        wait_s = max(deadline_s - time.monotonic(), 0.0)
        ready, _, _ = select.select([self._serial.fileno()], [], [], wait_s)
        if not ready:
            return b""
        return self._serial.read(4096)

    def close(self) -> None:
        self._serial.close()


class TcpPort:
    """A TCP connection, with TLS if the settings say so."""

    def __init__(self, settings: LineSettings) -> None:
        raw = socket.create_connection((settings.host, settings.port), timeout=settings.timeout_s)
        try:
            check_private(raw.getpeername()[0], settings.public, settings.url)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if settings.scheme == "modbus+tls":
                raw = _tls(settings).wrap_socket(raw, server_hostname=settings.server_name or settings.host)
        except ConfigError as error:
            raw.close()
            raise OSError(str(error)) from error
        except OSError:
            raw.close()
            raise
        self._socket = raw
        self._timeout_s = settings.timeout_s

    def send(self, data: bytes) -> None:
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(data)

    def receive(self, deadline_s: float) -> bytes:
        # A time-out of 0 would switch to non-blocking mode, in which TLS raises something else.
        self._socket.settimeout(max(deadline_s - time.monotonic(), 0.0001))
        try:
            data = self._socket.recv(4096)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionResetError("the far end closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


def _tls(settings: LineSettings) -> ssl.SSLContext:
    """Modbus/TCP Security (v3.6): TLS 1.2 or newer, the client shows a certificate of its own."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"TLS files cannot be used: {error}", where=settings.name) from error
    return context
