"""A Modbus server that a PLC reads: alarm state, score, zone and age of each machine, read-only.

There is no code here that could write: function 3 and 4 are answered, every other one is refused.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from pdm_edge.errors import ConfigError
from pdm_edge.records import FeatureVector, Record
from pdm_edge.serve import listeners
from pdm_edge.serve.health_map import MAX_MACHINES, Snapshot, Status, health_words, measured

logger = logging.getLogger(__name__)

_KNOWN: Final = {
    "modbus+tcp": ("device", "public"),
    "modbus+rtu": ("device", "baud", "parity", "stopbits"),
}
_MEND: Final = "Write modbus+tcp://127.0.0.1:1502 or modbus+rtu:///dev/ttyUSB0?baud=19200&device=1"


class Watched(Protocol):
    """A machine: it has an id and a status."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> Status: ...


class ModbusServer:
    """A sink that keeps the registers of docs/modbus.md, and serves them until `close`.

    Parameters
    ----------
    url
        ``modbus+tcp://address:port`` (the address of the interface to listen on) or
        ``modbus+rtu:///dev/ttyUSB0?baud=19200&parity=N``; ``device=N`` is its id, 1 if not given.
    machines
        What to serve, in this order; the order is that of the blocks in the map.
    gateway
        Id of the gateway, part of the map.
    stale_after_s
        Age beyond which the values of a machine are withdrawn.

    Raises
    ------
    ConfigError
        If the URL cannot be used or its port is taken. A serial device that is not there is no
        error: it is opened as soon as it is.
    """

    def __init__(
        self, url: str, machines: Sequence[Watched], *, gateway: str, stale_after_s: float = 60.0
    ) -> None:
        if len(machines) > MAX_MACHINES or not stale_after_s > 0:
            raise ConfigError(f"{len(machines)} machines, stale_after_s {stale_after_s:g}", where=url)
        self._machines = tuple(machines)
        self._gateway = gateway
        self._stale_after_s = stale_after_s
        self._started_s = time.monotonic()
        self._lock = threading.Lock()
        self._snapshots = {m.id: Snapshot(m.id, state_since_s=self._started_s) for m in machines}
        self._listener = _listener(url, self.registers)
        self.port = self._listener.port
        self.counters = self._listener.counters

    def write(self, records: Sequence[Record]) -> None:
        """Take over what the records say, and where the machines stand."""
        now_s = time.monotonic()
        vectors = {r.machine: r for r in records if isinstance(r, FeatureVector)}
        for machine in self._machines:
            held = self._snapshots[machine.id]
            status = machine.status
            new = replace(
                held,
                state=status.state,
                state_since_s=held.state_since_s if status.state == held.state else now_s,
                running=status.operating.startswith("running"),
                score=status.score,
                velocity_mm_s=status.velocity_mm_s,
                zone=None if status.state == "unknown" else status.zone,
            )
            vector = vectors.get(machine.id)
            if vector is not None:
                temperature_degc, bearing_db = measured(vector)
                # What a sensor sends that is dead or lies is not data of the machine: the age goes on. At
                # standstill a vibration sensor may be doubted, and the machine is known all the same.
                heard = vector.quality.level != "bad" or status.operating != "unknown"
                new = replace(
                    new,
                    heard_s=now_s if heard else held.heard_s,
                    temperature_degc=temperature_degc,
                    bearing_db=bearing_db,
                    quality=vector.quality.level,
                )
            with self._lock:
                self._snapshots[machine.id] = new

    def registers(self) -> list[int]:
        """All registers as they are now."""
        with self._lock:
            snapshots = tuple(self._snapshots.values())
        return health_words(
            self._gateway,
            snapshots,
            now_s=time.monotonic(),
            started_s=self._started_s,
            stale_after_s=self._stale_after_s,
        )

    def close(self) -> None:
        self._listener.close()


def _listener(url: str, registers: Callable[[], list[int]]) -> listeners.Listener:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in _KNOWN or set(query) - set(_KNOWN[parts.scheme]):
        raise ConfigError(f"cannot serve at {url!r}", mend=_MEND)
    device = query.get("device", "1")
    if not device.isdigit() or not 1 <= int(device) <= 247:
        raise ConfigError(f"device is {device!r}; it is 1 to 247", where=url)
    if parts.scheme == "modbus+rtu":
        baud, parity, stopbits = query.get("baud", ""), query.get("parity", "E"), query.get("stopbits", "1")
        if (
            not parts.path
            or not baud.isdigit()
            or parity not in ("N", "E", "O")
            or stopbits not in ("1", "2")
        ):
            raise ConfigError("needs a device, a baud rate, parity N, E or O", where=url, mend=_MEND)
        return listeners.SerialListener(
            unquote(parts.path), int(baud), parity, int(stopbits), int(device), registers
        )
    try:
        port = 502 if parts.port is None else parts.port
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError as error:
        raise ConfigError(f"needs the address of an interface: {error}", where=url, mend=_MEND) from error
    public = query.get("public") == "1"
    if not public and (address.is_global or address.is_unspecified):
        raise ConfigError(
            f"{address} would serve everybody",
            where=url,
            mend="Give the address of the interface that the PLC is on, or add public=1",
        )
    return listeners.TcpListener(str(address), port, int(device), public, registers)
