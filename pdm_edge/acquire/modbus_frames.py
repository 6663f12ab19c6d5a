"""Requests and replies of Modbus as bytes: pure, and the one place that knows pymodbus.

pymodbus frames and checks (CRC, MBAP); only its framers are used, by position, since every keyword
for the device id was renamed between its releases (unit, slave, device_id), and its clients can
wait without end on a line that never falls silent. What a reply must look like is known from its
request: garbage around it is skipped, and a reply of another device, function or length is no
reply. An RTU reply does not name its address, nor its length if it is an exception; what that leaves
open `modbus_quarantine` closes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

READ_FUNCTIONS: Final = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
WRITE_ONE: Final = 6
READ_FIFO: Final = 24
_MBAP: Final = struct.Struct(">HHHB")
_EXCEPTION: Final = 0x80
_LONGEST_PDU: Final = 253


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its frame, and how its reply must begin and how long it must be.

    ``reply_length`` is 0 where the reply tells its own length (function 24).
    """

    pdu: bytes
    reply_start: bytes
    reply_length: int

    @property
    def function(self) -> int:
        return self.pdu[0]


@lru_cache(maxsize=1024)
def read_request(table: str, address: int, count: int) -> Request:
    """Read `count` registers, or bits of the tables ``coil`` and ``discrete``."""
    function = READ_FUNCTIONS[table]
    n_bytes = 2 * count if function > 2 else (count + 7) // 8
    pdu = struct.pack(">BHH", function, address, count)
    return Request(pdu, bytes([function, n_bytes]), 2 + n_bytes)


def write_request(address: int, value: int) -> Request:
    """Write one holding register (function 6); the reply repeats the request."""
    pdu = struct.pack(">BHH", WRITE_ONE, address, value)
    return Request(pdu, pdu, len(pdu))


def fifo_request(address: int) -> Request:
    """Read a FIFO queue of at most 31 registers (function 24)."""
    return Request(struct.pack(">BH", READ_FIFO, address), bytes([READ_FIFO]), 0)


def exception_code(pdu: bytes) -> int | None:
    """The code of an exception reply, None if it is a normal one."""
    return pdu[1] if pdu[0] & _EXCEPTION else None


def words_of(pdu: bytes) -> Sequence[int]:
    """The registers in the reply of function 3, 4 or 24; single bits for function 1 and 2."""
    if pdu[0] <= 2:
        return [byte >> bit & 1 for byte in pdu[2:] for bit in range(8)]
    at = 5 if pdu[0] == READ_FIFO else 2
    return struct.unpack(f">{(len(pdu) - at) // 2}H", pdu[at:])


def rtu_frame(device: int, pdu: bytes) -> bytes:
    """``[device][pdu][CRC]``"""
    frame: bytes = _framers()[0].encode(pdu, device, 0)
    return frame


def tcp_frame(device: int, pdu: bytes, transaction: int) -> bytes:
    """``[MBAP header][pdu]``"""
    frame: bytes = _framers()[1].encode(pdu, device, transaction)
    return frame


def find_rtu_reply(buffer: bytearray, device: int, request: Request) -> bytes | None:
    """The reply, without its frame, in what the line has brought so far; None if it is not there yet."""
    if not buffer:
        return None
    normal = bytes([device]) + request.reply_start
    refusal = bytes([device, request.function | _EXCEPTION])
    for start in (normal, refusal):
        at = buffer.find(start)
        while at >= 0:
            length = 2 if start is refusal else request.reply_length or _fifo_length(buffer, at + 1)
            end = at + 1 + length + 2
            if length and end <= len(buffer) and _crc_is_right(bytes(buffer[at:end])):
                return bytes(buffer[at + 1 : end - 2])
            at = buffer.find(start, at + 1)
    return None


class BrokenStreamError(ValueError):
    """What comes over TCP is not Modbus; the connection is of no more use."""


def take_tcp_reply(
    buffer: bytearray, device: int, transaction: int, request: Request
) -> tuple[bytes | None, int]:
    """Take complete frames off the front of `buffer` until one is the reply.

    Returns the reply without its frame (None if it is not there yet), and the number of frames
    that were dropped because they answer something else: late, of another device, or malformed.

    Raises
    ------
    BrokenStreamError
        If the buffer does not begin with an MBAP header.
    """
    dropped = 0
    while len(buffer) >= _MBAP.size:
        found, protocol, length, unit = _MBAP.unpack_from(buffer)
        if protocol or not 2 < length <= _LONGEST_PDU + 1:
            raise BrokenStreamError(f"MBAP header {bytes(buffer[:7]).hex()}")
        if len(buffer) < 6 + length:
            break
        pdu = bytes(buffer[7 : 6 + length])
        del buffer[: 6 + length]
        if found == transaction and unit == device and _fits(pdu, request):
            return pdu, dropped
        dropped += 1
    return None, dropped


def _fits(pdu: bytes, request: Request) -> bool:
    if pdu[0] == request.function | _EXCEPTION:
        return len(pdu) == 2
    length = request.reply_length or _fifo_length(pdu, 0)
    return pdu.startswith(request.reply_start) and len(pdu) == length


def _fifo_length(buffer: bytes | bytearray, at: int) -> int:
    """Length of a FIFO reply that begins at `at`; 0 if it cannot be one (31 registers at most)."""
    if len(buffer) < at + 5:
        return 0
    n_bytes, count = struct.unpack_from(">HH", buffer, at + 1)
    return 3 + n_bytes if n_bytes == 2 * count + 2 and count <= 31 else 0


def _crc_is_right(frame: bytes) -> bool:
    crc: int = _framers()[0].compute_CRC(frame[:-2])
    return crc == frame[-2] << 8 | frame[-1]


@lru_cache(maxsize=1)
def _framers() -> tuple[Any, Any]:
    from pymodbus.framer import FramerRTU, FramerSocket
    from pymodbus.pdu import DecodePDU

    decoder = DecodePDU(False)
    return FramerRTU(decoder), FramerSocket(decoder)
