"""A serial line in virtual time, so that hours of faults pass in seconds.

Each register holds its address in the high byte and a count of the requests in the low one, so a
value tells where it was read and when. Replies are encoded as the slave of the wire tests does.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from modbus_peers import Arrivals

from pdm_edge.acquire import burst, modbus, modbus_frames, modbus_line
from pdm_edge.acquire.modbus_url import LineSettings

Fault = Callable[[bytes, random.Random], Arrivals]


@dataclass
class VirtualTime:
    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, for_s: float) -> None:
        self.now_s += max(for_s, 0.0)


@dataclass
class VirtualLine:
    """A port whose far end answers within `answers_after_s`, but for what `fault` does."""

    time: VirtualTime
    fault: Fault
    dice: random.Random
    answers_after_s: float = 0.01
    refuses: Callable[[int, int], int] = lambda address, count: 0
    n_requests: int = 0
    pending: list[tuple[float, bytes]] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        device, function, address, count = struct.unpack(">BBHH", data[:-2])
        self.n_requests += 1
        code = self.refuses(address, count)
        words = [(address + n) << 8 | self.n_requests % 256 for n in range(count)]
        pdu = (
            bytes([function | 0x80, code])
            if code
            else struct.pack(f">BB{count}H", function, 2 * count, *words)
        )
        reply = modbus_frames.rtu_frame(device, pdu)
        sent_s = self.time.now_s + self.answers_after_s
        self.pending += [(sent_s + wait_s, part) for wait_s, part in self.fault(reply, self.dice)]
        self.pending.sort(key=lambda arrival: arrival[0])

    def receive(self, deadline_s: float) -> bytes:
        if self.pending and self.pending[0][0] <= max(deadline_s, self.time.now_s):
            due_s, part = self.pending.pop(0)
            self.time.now_s = max(self.time.now_s, due_s)
            return part
        self.time.now_s = max(self.time.now_s, deadline_s)
        return b""

    def close(self) -> None:
        """What is on its way still comes: a serial server does not know that we closed."""


@contextmanager
def virtual_line(fault: Fault, seed: int, **options: object) -> Iterator[VirtualLine]:
    """While this lasts, every line that is opened is this one, and time is virtual."""
    time = VirtualTime()
    line = VirtualLine(time, fault, random.Random(seed))
    for name, value in options.items():
        setattr(line, name, value)

    def opened(settings: LineSettings) -> VirtualLine:
        return line

    with pytest.MonkeyPatch.context() as patch:
        for module in (burst, modbus, modbus_line):
            patch.setattr(module, "time", time)
        patch.setattr(modbus_line, "open_port", opened)
        yield line
