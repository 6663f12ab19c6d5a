"""Values of Modbus devices, RTU or TCP, several devices on one line.

A dead device costs the others one time-out in each of its pauses, which grow to 30 s. A register
that a device refuses makes its own value bad and no other. What is not read is said to be stale at
every poll, so nothing that follows can mistake silence for health.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from pdm_edge.acquire.registers import Block, Register, blocks, single_blocks
from pdm_edge.errors import ConfigError
from pdm_edge.ports import Clock
from pdm_edge.records import Measurement, Quality, Reading, bad

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 0.5
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
_ILLEGAL: Final = {1, 2, 3}
"""Exception codes that concern the request and not the device: function, address, value."""


class RefusedError(Exception):
    """The device answered with an exception; `code` is its number."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


class NoAnswerError(Exception):
    """No valid answer within the deadline, or no connection."""


class Line(Protocol):
    """One connection to one or more devices."""

    def read(self, device: int, block: Block) -> Sequence[int]: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Device:
    """What is known of one device on the line."""

    id: int
    registers: tuple[Register, ...]
    plan: tuple[Block, ...]
    due_s: float
    pause_s: float = 0.0
    ask_again_s: float = 0.0


class ModbusSource:
    """Polls registers.

    Parameters
    ----------
    url
        ``modbus+tcp://host:port`` or ``modbus+rtu:///dev/ttyUSB0?baud=19200&parity=N&stopbits=1``.
    registers
        What to read, of all devices on the line.
    clock
        Stamps the readings.
    poll_s
        Time between two polls of a device.

    Raises
    ------
    ConfigError
        If the URL cannot be used. A device or host that is not there is no error.
    """

    def __init__(self, url: str, registers: Sequence[Register], *, clock: Clock, poll_s: float = 1.0) -> None:
        if not registers:
            raise ConfigError("no registers to read", where=url, mend="List the registers of the device")
        if not poll_s > 0:
            raise ConfigError(f"poll_s is {poll_s!r}; it must be positive", where=url)
        self.name = url.partition("?")[0]
        self._line: Line = PymodbusLine(url)
        self._clock = clock
        self._poll_s = poll_s
        self._counters: Counter[str] = Counter()
        ids = dict.fromkeys(register.device for register in registers)
        self._devices = []
        for device in ids:
            own = tuple(r for r in registers if r.device == device)
            self._devices.append(_Device(device, own, blocks(own), due_s=time.monotonic()))

    @property
    def ended(self) -> bool:
        return False

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        """Poll the device that is due longest; wait at most `timeout_s` if none is."""
        device = min(self._devices, key=lambda d: d.due_s)
        wait_s = device.due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return ()
        now_s = time.monotonic()
        device.due_s = max(device.due_s + self._poll_s, now_s)
        if now_s < device.ask_again_s:
            return self._silent(device.registers)
        return self._poll(device)

    def counters(self) -> Mapping[str, int]:
        return dict(self._counters)

    def close(self) -> None:
        self._line.close()

    def _poll(self, device: _Device) -> list[Measurement]:
        readings: list[Measurement] = []
        for index, block in enumerate(device.plan):
            try:
                words = self._line.read(device.id, block)
            except RefusedError as error:
                readings.extend(self._refused(device, block, error))
                continue
            except NoAnswerError as error:
                self._no_answer(device, error)
                for unread in device.plan[index:]:
                    readings.extend(self._silent(unread.registers))
                return readings
            device.pause_s = 0.0
            self._counters["reads"] += 1
            readings.extend(self._decode(block, words))
        return readings

    def _decode(self, block: Block, words: Sequence[int]) -> list[Measurement]:
        stamp = self._clock.stamp()
        readings: list[Measurement] = []
        for register in block.registers:
            at = register.address - block.address
            value, quality = register.decode(words[at : at + register.words])
            if quality.level == "bad":
                self._counters["bad_values"] += 1
            readings.append(Reading(register.sensor, register.quantity, value, register.unit, stamp, quality))
        return readings

    def _refused(self, device: _Device, block: Block, error: RefusedError) -> list[Measurement]:
        self._counters[f"exception_{error.code}"] += 1
        if len(block.registers) > 1 and error.code in _ILLEGAL:
            # One of the addresses is wrong, or the device reads no blocks: find out which.
            logger.warning("%s: device %d refuses a block; reading one by one", self.name, device.id)
            device.plan = single_blocks(device.registers)
            device.due_s = time.monotonic()
            return []
        if self._counters[f"exception_{error.code}"] == 1:
            names = ", ".join(register.quantity for register in block.registers)
            logger.warning("%s: device %d refuses %s: %s", self.name, device.id, names, error)
        return self._bad(block.registers, bad("device"))

    def _no_answer(self, device: _Device, error: NoAnswerError) -> None:
        self._counters["no_answer"] += 1
        if device.pause_s == 0.0:
            logger.warning("%s: device %d: %s; trying again", self.name, device.id, error)
        device.pause_s = min(max(device.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        device.ask_again_s = time.monotonic() + device.pause_s

    def _silent(self, registers: Sequence[Register]) -> list[Measurement]:
        return self._bad(registers, bad("stale"))

    def _bad(self, registers: Sequence[Register], quality: Quality) -> list[Measurement]:
        stamp = self._clock.stamp()
        return [Reading(r.sensor, r.quantity, math.nan, r.unit, stamp, quality) for r in registers]


class PymodbusLine:
    """The one place that knows pymodbus: connects when needed, and keeps its own deadline.

    pymodbus renamed the keyword of the device id twice (unit, slave, device_id) and can wait
    without end on a line that never falls silent; neither shows outside.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.scheme == "modbus+tcp":
            _only_known(url, query, ())
            if not parts.hostname:
                raise ConfigError("has no host", where=url, mend="Write modbus+tcp://192.168.0.10:502")
            self._options: dict[str, Any] = {"host": parts.hostname, "port": parts.port or 502}
        elif parts.scheme == "modbus+rtu":
            _only_known(url, query, ("baud", "parity", "stopbits"))
            if not parts.path or not query.get("baud", "").isdigit():
                raise ConfigError(
                    "needs a device and a baud rate", where=url, mend="modbus+rtu:///dev/ttyUSB0?baud=19200"
                )
            parity, stopbits = query.get("parity", "N"), query.get("stopbits", "1")
            if parity not in ("N", "E", "O") or stopbits not in ("1", "2"):
                raise ConfigError("parity is N, E or O, stopbits 1 or 2", where=url)
            self._options = {
                "port": parts.path,
                "baudrate": int(query["baud"]),
                "parity": parity,
                "stopbits": int(stopbits),
            }
        else:
            raise ConfigError(f"unknown scheme {parts.scheme!r}", where=url, mend="modbus+tcp or modbus+rtu")
        self._client: Any = None

    def read(self, device: int, block: Block) -> Sequence[int]:
        """The words of a block.

        Raises
        ------
        RefusedError
            If the device answers with an exception.
        NoAnswerError
            If there is no connection or no valid answer in time.
        """
        from pymodbus.exceptions import ModbusException

        client = self._connected()
        read = client.read_holding_registers if block.table == "holding" else client.read_input_registers
        watchdog = threading.Timer(3 * TIMEOUT_S, client.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            answer = read(block.address, count=block.count, **{_device_keyword(read): device})
        except (ModbusException, OSError, AttributeError, TypeError) as error:
            # The last two are what pymodbus and pyserial raise when the watchdog closes the port
            # under a pending read.
            self.close()
            raise NoAnswerError(str(error) or type(error).__name__) from error
        finally:
            watchdog.cancel()
        if answer.isError():
            raise RefusedError(int(getattr(answer, "exception_code", 0)))
        if len(answer.registers) < block.count:
            raise NoAnswerError(f"{len(answer.registers)} words for {block.count} asked")
        return list(answer.registers)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Any:
        if self._client is not None and self._client.connected:
            return self._client
        from pymodbus.client import ModbusSerialClient, ModbusTcpClient

        self.close()
        kind = ModbusTcpClient if "host" in self._options else ModbusSerialClient
        client = kind(**self._options, timeout=TIMEOUT_S, retries=0)
        try:
            connected = client.connect()
        except OSError as error:
            raise NoAnswerError(str(error)) from error
        if not connected:
            raise NoAnswerError(f"cannot connect to {self._url}")
        self._client = client
        return client


def _device_keyword(read: Any) -> str:
    names: Sequence[str] = read.__code__.co_varnames
    return next(name for name in ("device_id", "slave", "unit") if name in names)


def _only_known(url: str, query: Mapping[str, str], known: tuple[str, ...]) -> None:
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown option {unknown[0]!r}", where=url, mend=f"Known are: {', '.join(known) or 'none'}"
        )
