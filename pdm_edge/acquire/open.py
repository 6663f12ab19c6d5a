"""From a URL to a source. Backends are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from pdm_edge.errors import ConfigError
from pdm_edge.ports import Clock, Source

if TYPE_CHECKING:
    from pdm_edge.acquire.burst import BurstTask
    from pdm_edge.acquire.modbus import DeviceOptions
    from pdm_edge.acquire.registers import Register

SCHEMES: Final = ("serial", "modbus+tcp", "modbus+tls", "modbus+rtu", "modbus+rtu+tcp", "replay")
_REPLAY: Final = (
    "sample_rate_hz",
    "unit",
    "variable",
    "scale",
    "resample_hz",
    "realtime",
    "columns",
)


def open_source(
    url: str,
    *,
    clock: Clock,
    sensor: str,
    channel: int = 0,
    registers: Sequence[Register] = (),
    poll_s: float = 1.0,
) -> Source:
    """Open the source that a URL names, for one sensor.

    ``serial:///dev/ttyACM0?baud=921600``
        A device that speaks the framed protocol; `channel` is the number of its sensor.
    ``modbus+tcp://host:502``, ``modbus+rtu:///dev/ttyUSB0?baud=19200&parity=N&stopbits=1``
        Modbus, also ``modbus+tls`` and ``modbus+rtu+tcp``; `registers` says what to read.
    ``replay:///path/file.mat?sample_rate_hz=12000&unit=g&variable=*DE_time&scale=1&resample_hz=``
        A recording; with ``columns=Temperature:degc,Pressure:bar`` the scalars of a .csv.

    Raises
    ------
    ConfigError
        For a URL that cannot be used; the text names what is known.
    SourceError
        For a recording that cannot be read. A device that is not there is no error.
    """
    scheme = urlsplit(url).scheme
    if scheme == "serial":
        return open_serial(url, {channel: sensor}, clock=clock)
    if scheme.startswith("modbus+"):
        return open_modbus(url, registers, clock=clock, poll_s=poll_s)
    if scheme == "replay":
        return open_replay(url, clock=clock, sensor=sensor)
    raise ConfigError(f"unknown source {url!r}", mend=f"A source starts with {', '.join(SCHEMES)}")


def open_serial(url: str, sensor_ids: Mapping[int, str], *, clock: Clock) -> Source:
    """One serial device with one or more sensors; see `open_source`."""
    from pdm_edge.acquire.serial_link import SerialSource

    parts, query = urlsplit(url), _query(url, ("baud",))
    if not parts.path or not query.get("baud", "").isdigit() or int(query["baud"]) == 0:
        raise ConfigError(
            "needs a device and a baud rate", where=url, mend="Write serial:///dev/ttyACM0?baud=921600"
        )
    return SerialSource(parts.path, baud=int(query["baud"]), clock=clock, sensor_ids=sensor_ids)


def open_modbus(
    url: str,
    registers: Sequence[Register],
    *,
    clock: Clock,
    poll_s: float = 1.0,
    options: Mapping[int, DeviceOptions] | None = None,
    bursts: Sequence[BurstTask] = (),
    writable: Collection[tuple[int, int]] = (),
) -> Source:
    """One Modbus line with one or more devices, each with its options; see `ModbusSource`."""
    from pdm_edge.acquire.modbus import ModbusSource

    return ModbusSource(
        url, registers, clock=clock, poll_s=poll_s, options=options, bursts=bursts, writable=writable
    )


def open_replay(url: str, *, clock: Clock, sensor: str) -> Source:
    """A recording; see `open_source`."""
    from pdm_edge.acquire.recordings import load_recording
    from pdm_edge.acquire.replay import ReadingsReplay, ReplaySource

    query = _query(url, _REPLAY)
    parts = urlsplit(url)
    path = Path(unquote(parts.netloc + parts.path))
    rate_hz = _number(query, "sample_rate_hz", url)
    realtime = query.get("realtime") == "1"
    if "columns" in query:
        if rate_hz is None:
            raise ConfigError("columns need sample_rate_hz=", where=url, mend="1 for one row a second")
        columns = dict(_column(item, url) for item in query["columns"].split(","))
        return ReadingsReplay(
            path, columns, sensor=sensor, sample_rate_hz=rate_hz, clock=clock, realtime=realtime
        )
    recording = load_recording(
        path,
        sample_rate_hz=rate_hz,
        unit=query.get("unit"),
        variable=query.get("variable"),
        scale=_number(query, "scale", url) or 1.0,
        resample_hz=_number(query, "resample_hz", url),
    )
    return ReplaySource(recording, sensor=sensor, clock=clock, realtime=realtime)


def _query(url: str, known: Sequence[str]) -> dict[str, str]:
    query = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]!r}", where=url, mend=f"Known are {', '.join(known)}")
    return query


def _number(query: Mapping[str, str], name: str, url: str) -> float | None:
    if name not in query:
        return None
    try:
        value = float(query[name])
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name} is {query[name]!r}; it must be a positive number", where=url)
    return value


def _column(item: str, url: str) -> tuple[str, str]:
    name, separator, unit = item.rpartition(":")
    if not separator or not name or not unit:
        raise ConfigError(f"column {item!r} has no unit", where=url, mend="Write columns=Temperature:degc")
    return name, unit
