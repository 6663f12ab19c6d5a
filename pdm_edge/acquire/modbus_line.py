"""One connection to one or more Modbus devices: a request out, its reply in, within a deadline.

The deadline is absolute and holds whatever the line brings, so a device that babbles costs no more
than one that is silent. Nothing that came before a request is read as its reply. On a serial line
replies carry no number, so after a miss the requests that its late reply would fit have to wait
(`modbus_quarantine` says why that is enough). And a reply that is the same as one to another
request a moment before may be its repetition: it is asked for again until that is settled.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from pdm_edge.acquire import modbus_frames as frames
from pdm_edge.acquire.modbus_ports import Port, open_port
from pdm_edge.acquire.modbus_quarantine import COPY_WITHIN_S, Quarantine
from pdm_edge.acquire.modbus_url import LineSettings
from pdm_edge.acquire.registers import Block
from pdm_edge.errors import ConfigError

logger = logging.getLogger(__name__)

_MOST_KEPT: Final = 4096
_SILENT_UNTIL_RECONNECT: Final = 3
_ASK_AGAIN: Final = 3
_GATEWAY_CODES: Final = {10, 11}
"""Exceptions of a gateway that reached no device: no answer, as far as the device is concerned."""


class RefusedError(Exception):
    """The device answered with an exception; `code` is its number."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


class NoAnswerError(Exception):
    """No valid answer within the deadline, or no connection."""


class QuarantineError(NoAnswerError):
    """The request was not sent: for `wait_s` more, the late reply to another could pass as its own."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(f"waits {wait_s:.1f} s for a late reply to another request")


class Line(Protocol):
    """What a source or a probe needs of a line."""

    @property
    def counters(self) -> Counter[str]: ...

    def read(self, device: int, block: Block) -> Sequence[int]: ...

    def write(self, device: int, address: int, value: int) -> None: ...

    def read_fifo(self, device: int, address: int) -> Sequence[int]: ...

    def close(self) -> None: ...


class ModbusLine:
    """A line by its settings; connects when needed. Used by one thread at a time.

    Nothing is written but to `writable`: pairs of device id and address.

    Attributes
    ----------
    counters
        Connections, bytes and frames that were dropped, echoes.
    """

    def __init__(self, settings: LineSettings, *, writable: Collection[tuple[int, int]] = ()) -> None:
        self.settings = settings
        self._writable = frozenset(writable)
        self.counters: Counter[str] = Counter()
        self._port: Port | None = None
        self._transaction = 0
        self._quiet_since_s = 0.0
        self._quarantine = Quarantine(settings.late_s)
        self._silent_in_a_row = 0
        self._echoes = False
        self._stream = bytearray()
        self._recent: dict[tuple[int, bytes], tuple[frames.Request, float]] = {}

    def read(self, device: int, block: Block) -> Sequence[int]:
        """The words (or bits) of a block.

        Raises
        ------
        RefusedError
            If the device answers with an exception.
        NoAnswerError
            If there is no connection or no valid answer in time.
        QuarantineError
            A NoAnswerError: the request was not sent, since it has to wait.
        """
        request = frames.read_request(block.table, block.address, block.count)
        return frames.words_of(self._transact(device, request))[: block.count]

    def write(self, device: int, address: int, value: int) -> None:
        """Write one holding register; raises as `read` does.

        On a line that echoes, the echo looks like the reply, so it must have been noticed by a
        read before.

        Raises
        ------
        ConfigError
            If the register is not one of those that may be written.
        """
        if (device, address) not in self._writable:
            raise ConfigError(
                f"register {address} of device {device} may not be written",
                where=self.settings.name,
                mend=f"If it is meant to, add writable = [{address}] to the sensor",
            )
        self._transact(device, frames.write_request(address, value))

    def read_fifo(self, device: int, address: int) -> Sequence[int]:
        """The registers of a FIFO queue (function 24); raises as `read` does."""
        return frames.words_of(self._transact(device, frames.fifo_request(address)))

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None

    def _transact(self, device: int, request: frames.Request) -> bytes:
        if self.settings.framing == "rtu":
            wait_s = self._quarantine.wait_s(device, request, time.monotonic())
            if wait_s > 0:
                raise QuarantineError(wait_s)
        try:
            port = self._connected()
            reply = self._exchange(port, device, request)
        except (OSError, frames.BrokenStreamError) as error:
            self.close()
            self.counters["connection_lost"] += 1
            raise NoAnswerError(str(error) or type(error).__name__) from error
        code = frames.exception_code(reply)
        if code in _GATEWAY_CODES:
            raise NoAnswerError(f"gateway reaches no device (exception {code})")
        if code is not None:
            raise RefusedError(code)
        return reply

    def _connected(self) -> Port:
        if self._port is None:
            self._port = open_port(self.settings)
            self._silent_in_a_row = 0
            self._stream.clear()
            self.counters["connections"] += 1
        return self._port

    def _exchange(self, port: Port, device: int, request: frames.Request) -> bytes:
        """Send a request and return its reply; raises NoAnswerError, OSError, BrokenStreamError."""
        self._keep_quiet()
        if self.settings.framing == "tcp":
            reply = self._exchange_tcp(port, device, request)
        else:
            reply = self._believed_rtu(port, device, request)
        self._quiet_since_s = time.monotonic()
        if reply is not None:
            self._silent_in_a_row = 0
            return reply
        self._silent_in_a_row += 1
        if self._silent_in_a_row >= _SILENT_UNTIL_RECONNECT and not self.settings.baud:
            # A far end that vanished without a word leaves a connection that looks well.
            self.close()
        raise NoAnswerError(f"no answer within {self.settings.timeout_s:g} s")

    def _exchange_tcp(self, port: Port, device: int, request: frames.Request) -> bytes | None:
        self._transaction = self._transaction % 0xFFFF + 1
        port.send(frames.tcp_frame(device, request.pdu, self._transaction))
        deadline_s = time.monotonic() + self.settings.timeout_s
        while True:
            reply, dropped = frames.take_tcp_reply(self._stream, device, self._transaction, request)
            if dropped:
                self.counters["foreign_frames"] += dropped
            if reply is not None:
                return reply
            part = port.receive(deadline_s)
            if not part:
                return None
            self._stream += part

    def _exchange_rtu(self, port: Port, device: int, request: frames.Request) -> bytes | None:
        self._drain(port, time.monotonic())
        wire = frames.rtu_frame(device, request.pdu)
        port.send(wire)
        n_bytes = len(wire) + (request.reply_length or 67) + 3
        deadline_s = time.monotonic() + self.settings.timeout_s + self.settings.wire_s(n_bytes)
        buffer = bytearray()
        echo = len(wire) if self._echoes else 0
        while True:
            part = port.receive(deadline_s)
            if not part:
                self.counters["foreign_bytes"] += len(buffer)
                return None
            buffer += part
            if not self._echoes and buffer.startswith(wire) and request.pdu[0] != frames.WRITE_ONE:
                self._echoes = True
                logger.warning("%s: the line echoes what is sent; echoes are skipped", self.settings.name)
                echo = len(wire)
            if echo and buffer.startswith(wire):
                del buffer[:echo]
                echo = 0
                self.counters["echoes"] += 1
            reply = frames.find_rtu_reply(buffer, device, request)
            if reply is not None:
                self.counters["foreign_bytes"] += len(buffer) - len(reply) - 3
                return reply
            if len(buffer) > _MOST_KEPT:
                self.counters["foreign_bytes"] += len(buffer) - 512
                del buffer[:-512]

    def _believed_rtu(self, port: Port, device: int, request: frames.Request) -> bytes | None:
        """The reply; whatever leaves it open whether another one is still to come is noted."""
        sent_s = time.monotonic()
        is_sure = False
        try:
            reply, is_sure = self._settled_rtu(port, device, request)
        finally:
            self._quarantine.ended(device, request, sent_s, time.monotonic(), is_sure=is_sure)
        return reply

    def _settled_rtu(self, port: Port, device: int, request: frames.Request) -> tuple[bytes | None, bool]:
        """A reply that is not the repetition of a recent one, to this request or to another.

        And whether nothing more of it can come: not if it is missing, or came from a gateway that
        gave up, or was settled only by a reply that differs from the first.
        """
        self._drain(port, self._quarantine.copies_until_s(device, request))
        reply = self._exchange_rtu(port, device, request)
        for attempt in range(_ASK_AGAIN):
            if reply is None or not self._may_be_repeated(device, request, reply):
                is_sure = reply is not None and frames.exception_code(reply) not in _GATEWAY_CODES
                return reply, is_sure and attempt == 0
            self.counters["asked_again"] += 1
            self._drain(port, time.monotonic() + max(COPY_WITHIN_S, self.settings.turnaround_s))
            first, reply = reply, self._exchange_rtu(port, device, request)
            if reply == first:
                return reply, True
        return None, False

    def _may_be_repeated(self, device: int, request: frames.Request, reply: bytes) -> bool:
        now_s = time.monotonic()
        if len(self._recent) > 256:
            self._recent = {k: v for k, v in self._recent.items() if now_s - v[1] < self.settings.timeout_s}
        before = self._recent.get((device, reply))
        self._recent[device, reply] = (request, now_s)
        return before is not None and before[0] != request and now_s - before[1] < self.settings.timeout_s

    def _drain(self, port: Port, until_s: float) -> int:
        """Drop what is there and what comes until then; return the number of bytes."""
        dropped = 0
        while part := port.receive(until_s):
            dropped += len(part)
            if dropped > _MOST_KEPT:
                break  # somebody babbles; the request must go out all the same
        self.counters["foreign_bytes"] += dropped
        return dropped

    def _keep_quiet(self) -> None:
        wait_s = self._quiet_since_s + self.settings.turnaround_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
