"""Values of Modbus devices, several on one line, each with its own fate.

Devices are polled in the order in which they are due; where the line is short of time, none gets
more than its share of it, however slow its answers are. A device that does not answer is left alone
for a pause that doubles from 1 s to 30 s, and all silent devices together take at most 4 % of
the line's time as long as others answer. A register that a device refuses makes its own value
bad and no other; its neighbours are read in smaller blocks, and the whole block is tried again after
1 min to 1 h. What is not read is said to be stale at every poll, so nothing that follows can mistake
silence for health.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pdm_edge.acquire.burst import BurstTask
from pdm_edge.acquire.modbus_decode import BlockReader
from pdm_edge.acquire.modbus_line import Line, ModbusLine, NoAnswerError, QuarantineError, RefusedError
from pdm_edge.acquire.modbus_url import line_settings
from pdm_edge.acquire.registers import MAX_BLOCK, Register
from pdm_edge.acquire.registers import blocks as merged
from pdm_edge.errors import ConfigError
from pdm_edge.ports import Clock
from pdm_edge.records import Measurement, Quality, Reading, bad

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
SILENT_SHARE: Final = 0.04
FIRST_REJOIN_S: Final = 60.0
LONGEST_REJOIN_S: Final = 3600.0
_SILENT_CREDIT_S: Final = 0.5
_ILLEGAL: Final = {1, 2, 3}
"""Exception codes that concern the request and not the device: function, address, value."""


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """How to poll one device."""

    poll_s: float = 1.0
    max_words: int = MAX_BLOCK
    merge_gap: int = 0

    def __post_init__(self) -> None:
        if not (self.poll_s > 0 and 1 <= self.max_words <= MAX_BLOCK and 0 <= self.merge_gap < MAX_BLOCK):
            raise ConfigError(
                f"poll_s {self.poll_s!r}, max_words {self.max_words}, merge_gap {self.merge_gap}",
                mend=f"poll_s is positive, max_words 1 to {MAX_BLOCK}, merge_gap 0 to {MAX_BLOCK - 1}",
            )


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What is known of one device; ``last_good_s`` is seconds ago, None if it never answered."""

    device: int
    answers: bool
    last_good_s: float | None
    next_try_s: float
    counters: Mapping[str, int]


@dataclass(slots=True)
class _Device:
    id: int
    options: DeviceOptions
    whole: tuple[BlockReader, ...]
    plan: list[BlockReader]
    due_s: float
    spent_s: float = 0.0
    rejoin_at_s: float = 0.0
    rejoin_after_s: float = 0.0
    pause_s: float = 0.0
    ask_again_s: float = 0.0
    last_good_s: float | None = None
    counters: Counter[str] = field(default_factory=Counter)


class ModbusSource:
    """Polls registers.

    Parameters
    ----------
    url
        ``modbus+tcp://host:502``, ``modbus+tls://host:802?ca=...``, ``modbus+rtu+tcp://host:4001``
        (a serial server) or ``modbus+rtu:///dev/ttyUSB0?baud=19200&parity=N&stopbits=1``; see
        docs/modbus.md for all options.
    registers
        What to read, of all devices on the line.
    clock
        Stamps the readings.
    poll_s
        Time between two polls of a device that `options` does not name.
    options
        How to poll a device, by its id.
    bursts
        Waveforms to fetch, a step at a time, between the polls.
    writable
        Pairs of device id and register address that may be written; nothing else ever is.
    line
        The line to use instead of the one that `url` names.

    Raises
    ------
    ConfigError
        If the URL cannot be used. A device or host that is not there is no error.
    """

    def __init__(
        self,
        url: str,
        registers: Sequence[Register],
        *,
        clock: Clock,
        poll_s: float = 1.0,
        options: Mapping[int, DeviceOptions] | None = None,
        bursts: Sequence[BurstTask] = (),
        writable: Collection[tuple[int, int]] = (),
        line: Line | None = None,
    ) -> None:
        if not registers and not bursts:
            raise ConfigError("no registers to read", where=url, mend="List the registers of the device")
        for burst in bursts:
            if (burst.device, burst.command_register) not in writable:
                raise ConfigError(
                    f"the burst of {burst.sensor!r} has to write register {burst.command_register}",
                    where=url,
                    mend=f"Add writable = [{burst.command_register}] to the sensor, if that is meant",
                )
        self.name = url.partition("?")[0]
        self._line: Line = ModbusLine(line_settings(url), writable=writable) if line is None else line
        self._bursts = tuple(bursts)
        self._clock = clock
        self._counters: Counter[str] = Counter()
        self._credit_s = _SILENT_CREDIT_S
        self._credit_at_s = now_s = time.monotonic()
        default = DeviceOptions(poll_s)
        self._devices = []
        for device in dict.fromkeys(register.device for register in registers):
            own = [r for r in registers if r.device == device]
            how = (options or {}).get(device, default)
            blocks = merged(own, max_words=how.max_words, merge_gap=how.merge_gap)
            whole = tuple(BlockReader(block) for block in blocks)
            self._devices.append(_Device(device, how, whole, list(whole), due_s=now_s))

    @property
    def ended(self) -> bool:
        return False

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        """Poll the device that is due longest; wait at most `timeout_s` if none is."""
        tasks: tuple[_Device | BurstTask, ...] = (*self._devices, *self._bursts)
        device = min(tasks, key=lambda d: d.due_s)
        wait_s = device.due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return ()
        if isinstance(device, BurstTask):
            return device.step(self._line)
        started_s = time.monotonic()
        device.due_s = max(device.due_s + device.options.poll_s, started_s)
        if device.pause_s and not self._may_try(device, started_s):
            return self._silent(device.plan)
        readings = self._poll(device)
        self._share(device, time.monotonic() - started_s)
        return readings

    def counters(self) -> Mapping[str, int]:
        out = {**self._counters, **self._line.counters}
        for burst in self._bursts:
            out.update({f"{burst.sensor} {what}": n for what, n in burst.counters.items()})
        for device in self._devices:
            out.update({f"device {device.id} {what}": n for what, n in device.counters.items()})
        return out

    def devices(self) -> tuple[DeviceStatus, ...]:
        """Every device of the line: whether it answers, and since when not."""
        now_s = time.monotonic()
        return tuple(
            DeviceStatus(
                device=d.id,
                answers=d.last_good_s is not None and not d.pause_s,
                last_good_s=None if d.last_good_s is None else now_s - d.last_good_s,
                next_try_s=max(d.ask_again_s - now_s, 0.0) if d.pause_s else 0.0,
                counters=dict(d.counters),
            )
            for d in self._devices
        )

    def close(self) -> None:
        self._line.close()

    def _share(self, device: _Device, spent_s: float) -> None:
        """Where others wait, a slow device gets no more of the line than its share.

        What counts is the shorter of its last two polls: a device that is slow is slow each time,
        while a stall of the gateway itself hits any device, and would cost it as many times over as
        there are devices. Silent devices do not wait for the line; they have their own budget.
        """
        now_s = time.monotonic()
        typical_s, device.spent_s = min(spent_s, device.spent_s), spent_s
        others = [d for d in self._devices if d is not device and not d.pause_s]
        if not device.pause_s and any(d.due_s < now_s for d in others):
            device.due_s = max(device.due_s, now_s + typical_s * len(others))

    def _may_try(self, device: _Device, now_s: float) -> bool:
        """Whether a silent device may be asked: its pause is over, and the line has time for it."""
        if now_s < device.ask_again_s:
            return False
        elapsed_s, self._credit_at_s = now_s - self._credit_at_s, now_s
        self._credit_s = min(self._credit_s + SILENT_SHARE * elapsed_s, _SILENT_CREDIT_S)
        nobody_waits = all(d.pause_s for d in self._devices)
        return nobody_waits or self._credit_s > 0

    def _poll(self, device: _Device) -> list[Measurement]:
        readings: list[Measurement] = []
        if device.rejoin_at_s and time.monotonic() >= device.rejoin_at_s:
            device.plan, device.rejoin_at_s = list(device.whole), 0.0
        todo, done, is_complete = deque(device.plan), [], True
        while todo:
            reader = todo.popleft()
            block = reader.block
            started_s = time.monotonic()
            try:
                words = self._line.read(device.id, block)
            except RefusedError as error:
                self._answered(device)
                if len(block.registers) > 1 and error.code in _ILLEGAL:
                    # One of the addresses is wrong, or the device reads no such blocks: find out.
                    todo.extendleft(BlockReader(half) for half in reversed(block.halves()))
                    _rejoin_later(device)
                    continue
                readings.extend(self._refused(device, block.registers, error))
            except QuarantineError:
                self._counters["quarantined"] += 1
                readings.extend(self._silent([reader]))
                is_complete = False
            except NoAnswerError as error:
                self._no_answer(device, error, time.monotonic() - started_s)
                readings.extend(self._silent([reader, *todo]))
                done.extend([reader, *todo])
                is_complete = False
                break
            else:
                self._answered(device)
                self._counters["reads"] += 1
                got, n_bad = reader.readings(words, self._clock.stamp())
                self._counters["bad_values"] += n_bad
                readings.extend(got)
            done.append(reader)
        device.plan = done
        if is_complete and not device.rejoin_at_s:
            device.rejoin_after_s = 0.0
        return readings

    def _answered(self, device: _Device) -> None:
        if device.pause_s:
            logger.info("%s: device %d answers again", self.name, device.id)
        device.pause_s = 0.0
        device.last_good_s = time.monotonic()

    def _refused(
        self, device: _Device, registers: Sequence[Register], error: RefusedError
    ) -> list[Measurement]:
        self._counters[f"exception_{error.code}"] += 1
        device.counters["refused"] += 1
        if device.counters["refused"] == 1:
            names = ", ".join(register.quantity for register in registers)
            logger.warning("%s: device %d refuses %s: %s", self.name, device.id, names, error)
        return self._bad(registers, bad("device"))

    def _no_answer(self, device: _Device, error: NoAnswerError, spent_s: float) -> None:
        self._counters["no_answer"] += 1
        device.counters["no_answer"] += 1
        self._credit_s -= spent_s
        if device.pause_s == 0.0:
            logger.warning("%s: device %d: %s; trying again", self.name, device.id, error)
        device.pause_s = min(max(device.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        device.ask_again_s = time.monotonic() + device.pause_s

    def _silent(self, unread: Sequence[BlockReader]) -> list[Measurement]:
        return self._bad([r for reader in unread for r in reader.block.registers], bad("stale"))

    def _bad(self, registers: Sequence[Register], quality: Quality) -> list[Measurement]:
        stamp = self._clock.stamp()
        return [Reading(r.sensor, r.quantity, math.nan, r.unit, stamp, quality) for r in registers]


def _rejoin_later(device: _Device) -> None:
    """A refusal may have been a passing one, so what is split is tried as a whole again some time."""
    if not device.rejoin_at_s:
        device.rejoin_after_s = min(max(device.rejoin_after_s * 2, FIRST_REJOIN_S), LONGEST_REJOIN_S)
        device.rejoin_at_s = time.monotonic() + device.rejoin_after_s
