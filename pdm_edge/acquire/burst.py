"""Waveforms over Modbus: trigger a burst, fetch it page by page, prove that it is whole.

The map is firmware_bridge/BURST.md. Every step is one short transaction, so that a source can poll
its other devices in between, however long the whole takes. A waveform is only made of pages of one
burst, each with its right number and CRC, under the CRC of the whole.
"""

from __future__ import annotations

import logging
import math
import struct
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from pdm_edge.acquire.modbus_line import Line, NoAnswerError, QuarantineError, RefusedError
from pdm_edge.acquire.modbus_url import LineSettings
from pdm_edge.acquire.registers import Block
from pdm_edge.errors import ConfigError
from pdm_edge.ports import Clock
from pdm_edge.records import GOOD, Gap, Measurement, Waveform, WaveformUnit, uncertain

logger = logging.getLogger(__name__)

DEFAULT_BASE: Final = 4096
PAGE_WORDS: Final = 125
PAGE_DATA: Final = 121
_COMMAND, _STATE, _FIFO, _PAGES = 32, 33, 48, 256
_MAGIC, _VERSION = 0x5057, 1
_UNITS: Final[dict[int, WaveformUnit]] = {1: "g", 2: "m_s2", 3: "mm_s"}
_CAPTURING, _READY = 1, 2
_FIRST_WAIT_S: Final = 0.25
_TRIES: Final = 6
LONGEST_PAUSE_S: Final = 30.0
CHUNK_DATA: Final = 29
_GIVE_UP_FACTOR: Final = 4.0
_OTHER_READS: Final = 3  # trigger, state, what the pages must add up to


@dataclass(frozen=True, slots=True)
class BurstDescriptor:
    """What a device says of its bursts."""

    sample_rate_hz: Fraction
    unit: WaveformUnit
    scale: float
    n_samples: int
    axes: tuple[str, ...]
    has_fifo: bool

    @property
    def n_words(self) -> int:
        return self.n_samples * len(self.axes)

    @property
    def n_pages(self) -> int:
        return -(-self.n_words // PAGE_DATA)

    @property
    def duration_s(self) -> float:
        return float(self.n_samples / self.sample_rate_hz)


class BurstError(ValueError):
    """What a device says of its bursts cannot be."""


def parse_descriptor(words: list[int]) -> BurstDescriptor:
    """The registers B + 0 to B + 16; BurstError if they are not those of a burst map."""
    if words[0] != _MAGIC or words[1] != _VERSION:
        raise BurstError(f"no burst map of version {_VERSION} here (0x{words[0]:04x}, {words[1]})")
    n_axes, unit, form = words[3:6]
    numerator, denominator = words[6] << 16 | words[7], words[8] << 16 | words[9]
    (scale,) = struct.unpack(">f", struct.pack(">HH", *words[10:12]))
    n_samples = words[12] << 16 | words[13]
    letters = struct.pack(">HH", *words[15:17])[:n_axes].decode("ascii", "replace")
    good = 1 <= n_axes <= 4 and unit in _UNITS and form == 1 and numerator and denominator and n_samples
    if not good or not (math.isfinite(scale) and scale > 0) or len(set(letters)) != n_axes:
        raise BurstError(f"axes {n_axes} {letters!r}, unit {unit}, format {form}, {n_samples} samples")
    rate_hz = Fraction(numerator, denominator)
    return BurstDescriptor(rate_hz, _UNITS[unit], scale, n_samples, tuple(letters), bool(words[2] & 1))


def fetch_s(
    settings: LineSettings, descriptor: BurstDescriptor, *, fifo: bool = False, turnaround_s: float = 0.005
) -> float:
    """Time that a burst takes of the line, once it is captured.

    Parameters
    ----------
    fifo
        By function 24, where the device has it; nothing got lost.
    turnaround_s
        What the device, and over TCP the network, take to answer a request.
    """
    if fifo and descriptor.has_fifo:
        n_reads, n_bytes = -(-descriptor.n_words // CHUNK_DATA) + 1, 6 + 8 + 2 * (CHUNK_DATA + 2)
    else:
        n_reads, n_bytes = descriptor.n_pages, 8 + 5 + 2 * PAGE_WORDS
    read_s = settings.wire_s(n_bytes) + 2 * settings.turnaround_s + turnaround_s
    return (n_reads + _OTHER_READS) * read_s


def transfer_s(
    settings: LineSettings, descriptor: BurstDescriptor, *, fifo: bool = False, turnaround_s: float = 0.005
) -> float:
    """Time to capture and fetch a burst, told beforehand; the parameters are those of `fetch_s`."""
    return descriptor.duration_s + fetch_s(settings, descriptor, fifo=fifo, turnaround_s=turnaround_s)


class BurstTask:
    """The bursts of one sensor, a step at a time.

    Parameters
    ----------
    sensor, device, base
        Whose waveforms these are, the device on the line, and the base address of the map.
    every_s
        Time from one burst to the next.
    fifo
        Fetch by function 24 where the device has it; slower, and repaired from the pages.

    Attributes
    ----------
    due_s
        When the next step is due (monotonic).
    counters
        Bursts, pages, pages read again, missing answers, bursts given up.
    """

    def __init__(
        self,
        sensor: str,
        device: int,
        *,
        base: int = DEFAULT_BASE,
        every_s: float,
        clock: Clock,
        fifo: bool = False,
    ) -> None:
        if not every_s > 0 or not 0 <= base <= 65536 - _PAGES - PAGE_WORDS:
            raise ConfigError(f"burst of {sensor!r}: base {base}, every_s {every_s:g}")
        self.sensor, self.device = sensor, device
        self.due_s = time.monotonic()
        self.counters: Counter[str] = Counter()
        self.descriptor: BurstDescriptor | None = None
        self._base, self._every_s, self._clock = base, every_s, clock
        self._fifo = fifo
        self._pages: dict[int, tuple[int, ...]] = {}
        self._words: dict[int, int] = {}
        self._ready = self._fifo_ended = False
        self._number: int | None = None
        self._next_s = self.due_s
        self._give_up_s = math.inf
        self._tries = 0

    @property
    def command_register(self) -> int:
        """The register that has to be on the allow-list for writing."""
        return self._base + _COMMAND

    def step(self, line: Line) -> list[Measurement]:
        """Do one transaction. What the line or the device does is dealt with here, and counted."""
        try:
            out = self._step(line)
        except BurstError as error:
            return self._give_up(str(error))
        except QuarantineError as error:
            self.due_s = time.monotonic() + error.wait_s
            return []
        except (NoAnswerError, RefusedError) as error:
            self.counters["burst no answer"] += 1
            self._tries += 1
            if self._tries > _TRIES and self._number is not None:
                return self._give_up(str(error))
            self.due_s = time.monotonic() + min(0.1 * 2.0**self._tries, LONGEST_PAUSE_S)
            return []
        return out

    def _step(self, line: Line) -> list[Measurement]:
        now_s = time.monotonic()
        if self.descriptor is None:
            self.descriptor = parse_descriptor(list(self._read(line, 0, 17)))
            self.due_s = now_s
        elif self._number is None:
            line.write(self.device, self.command_register, 1)
            (self._number,) = self._read(line, 34, 1)
            self._next_s = now_s + self._every_s
            self._pages.clear()
            self._words.clear()
            self._ready = self._fifo_ended = False
            self._tries = 0
            self.due_s = now_s + self.descriptor.duration_s
            self._give_up_s = self.due_s + _GIVE_UP_FACTOR * self.descriptor.duration_s + 30.0
        elif not self._ready:
            self._ready = self._is_ready(line)
        elif self._fifo and self.descriptor.has_fifo and not self._fifo_ended:
            self._fetch_chunk(line, self.descriptor)
        elif len(self._pages) < self.descriptor.n_pages:
            missing = next(p for p in range(self.descriptor.n_pages) if p not in self._pages)
            self._fetch_page(line, missing)
        else:
            return self._finish(line, self.descriptor)
        return []

    def _is_ready(self, line: Line) -> bool:
        state, number = self._read(line, _STATE, 2)
        if number != self._number:
            raise BurstError("another burst was captured meanwhile")
        if state == _READY:
            return True
        if state != _CAPTURING or time.monotonic() > self._give_up_s:
            raise BurstError(f"state {state} where the capture should have ended")
        self.due_s = time.monotonic() + _FIRST_WAIT_S
        return False

    def _fetch_page(self, line: Line, page: int) -> None:
        words = self._read(line, _PAGES + PAGE_WORDS * page, PAGE_WORDS)
        crc = zlib.crc32(struct.pack(">123H", *words[:123]))
        self.counters["burst pages"] += 1
        if crc == words[123] << 16 | words[124] and words[:2] == (self._number, page):
            self._pages[page] = words[2:123]
            self._tries = 0
            return
        self.counters["burst pages again"] += 1
        self._tries += 1
        if self._tries > _TRIES:
            raise BurstError(f"page {page} stays damaged, or belongs to another burst")

    def _fetch_chunk(self, line: Line, descriptor: BurstDescriptor) -> None:
        """The next chunk of the FIFO queue; what got lost on the way is left to the pages."""
        chunk = tuple(line.read_fifo(self.device, self._base + _FIFO))
        self.counters["burst chunks"] += 1
        if chunk and chunk[0] != self._number:
            raise BurstError("another burst was captured meanwhile")
        if chunk:
            first = chunk[1] * CHUNK_DATA
            self._words.update(enumerate(chunk[2:], start=first))
            self._tries = 0
            return
        self._fifo_ended = True
        for page in range(descriptor.n_pages):
            inside = range(page * PAGE_DATA, min((page + 1) * PAGE_DATA, descriptor.n_words))
            if all(at in self._words for at in inside):
                data = [self._words[at] for at in inside]
                self._pages[page] = (*data, *[0] * (PAGE_DATA - len(data)))
        self._words.clear()

    def _finish(self, line: Line, descriptor: BurstDescriptor) -> list[Measurement]:
        state = list(self._read(line, _STATE, 14))
        data = [word for page in range(descriptor.n_pages) for word in self._pages[page]]
        raw = struct.pack(f">{descriptor.n_words}H", *data[: descriptor.n_words])
        n_words, crc = state[9] << 16 | state[10], state[7] << 16 | state[8]
        if state[1] != self._number or n_words != descriptor.n_words or zlib.crc32(raw) != crc:
            raise BurstError("the pages do not make up the burst")
        counts = np.frombuffer(raw, dtype=">i2").reshape(descriptor.n_samples, len(descriptor.axes)).T
        age_s = (state[12] << 16 | state[13]) / 1000
        stamp = self._clock.stamp().earlier(age_s + descriptor.duration_s)
        waveform = Waveform(
            sensor=self.sensor,
            samples=counts.astype(np.float32) * np.float32(descriptor.scale),
            sample_rate_hz=float(descriptor.sample_rate_hz),
            unit=descriptor.unit,
            axes=descriptor.axes,
            stamp=stamp,
            first_sample=state[3] << 48 | state[4] << 32 | state[5] << 16 | state[6],
            quality=uncertain("clipped") if state[11] & 1 else GOOD,
        )
        self.counters["bursts"] += 1
        self._number = None
        self.due_s = max(self._next_s, time.monotonic())
        return [waveform]

    def _read(self, line: Line, at: int, count: int) -> tuple[int, ...]:
        return tuple(line.read(self.device, Block("holding", self._base + at, count, ())))

    def _give_up(self, why: str) -> list[Measurement]:
        """Begin anew at the next due time, and tell what was lost."""
        self.counters["bursts given up"] += 1
        logger.warning("burst of %s given up: %s", self.sensor, why)
        n_lost = 0 if self._number is None or self.descriptor is None else self.descriptor.n_samples
        self._number, self.descriptor, self._tries = None, None, 0
        self.due_s = max(self._next_s, time.monotonic() + LONGEST_PAUSE_S)
        return [
            Gap(self.sensor, "samples", n_lost, f"burst over Modbus given up: {why}", self._clock.stamp())
        ]
