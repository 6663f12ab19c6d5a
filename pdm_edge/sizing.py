"""What a configuration will need: line use, poll times, CPU, disk and upload, before it runs.

Lines are reckoned from their requests, bursts and baud rates. CPU, disk and upload are measured, see
`sizing_load`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from pdm_edge.acquire.burst import BurstDescriptor, fetch_s
from pdm_edge.acquire.modbus_url import LineSettings, line_settings
from pdm_edge.acquire.registers import Block, blocks
from pdm_edge.config import Config, MachineConfig, SensorConfig
from pdm_edge.errors import ConfigError
from pdm_edge.sizing_load import MachineSize, Waves, machine_size
from pdm_edge.wiring import device_options, lines_of, registers_of

_SERIAL_BYTES_A_SAMPLE = 2.1  # int16 in frames of the wire protocol, with header, COBS and CRC


@dataclass(frozen=True, slots=True)
class LineSize:
    """One line: ``use`` is the share of its time, above 1 if it cannot keep up; None if unknown.

    ``burst_use`` is the part of it that bursts take, and ``slowest_burst_s`` the time from the trigger
    of one to its last page while nothing else is read.
    """

    line: str
    kind: str
    devices: int
    requests_s: float
    values_s: float
    use: float | None
    slowest_poll_s: float
    burst_use: float = 0.0
    slowest_burst_s: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Size:
    """A whole configuration."""

    lines: tuple[LineSize, ...]
    machines: tuple[MachineSize, ...]
    cpu: float
    stored_bytes_day: float
    sent_bytes_day: float
    days_offline: float


def size_of(
    config: Config,
    *,
    sample_rate_hz: float | None = None,
    n_axes: int = 1,
    burst_samples: int | None = None,
    turnaround_s: float = 0.01,
) -> Size:
    """Size a configuration.

    Parameters
    ----------
    sample_rate_hz, n_axes
        Of sensors that only say so when they are connected (serial, bursts over Modbus).
    burst_samples
        Samples of each axis in a burst over Modbus; as long as the machine's window if not given.
    turnaround_s
        What a Modbus device takes to begin its reply.

    Raises
    ------
    ConfigError
        If a sample rate is needed and not given.
    """
    waves = {
        sensor.id: _waves(sensor, machine, sample_rate_hz, n_axes, burst_samples)
        for machine in config.machine
        for sensor in machine.sensor
        if sensor.is_waveform
    }
    lines = tuple(_line_size(url, sensors, waves, turnaround_s) for url, sensors in lines_of(config).items())
    with tempfile.TemporaryDirectory(prefix="pdm-edge-size-") as folder:
        machines = tuple(
            machine_size(machine, config.gateway.id, Path(folder, machine.id), waves)
            for machine in config.machine
        )
    stored = sum(m.stored_bytes_day for m in machines)
    return Size(
        lines=lines,
        machines=machines,
        cpu=sum(m.cpu for m in machines),
        stored_bytes_day=stored,
        sent_bytes_day=sum(m.sent_bytes_day for m in machines),
        days_offline=config.store.max_mb * 1e6 / stored if stored else float("inf"),
    )


def request_s(settings: LineSettings, block: Block, turnaround_s: float) -> float:
    """Time of one read: request, turnaround of the device, reply, and the silence before it."""
    n_bytes = 2 * block.count if block.table in ("holding", "input") else -(-block.count // 8)
    return settings.turnaround_s + settings.wire_s(8) + turnaround_s + settings.wire_s(5 + n_bytes)


def _waves(
    sensor: SensorConfig,
    machine: MachineConfig,
    rate_hz: float | None,
    n_axes: int,
    burst_samples: int | None,
) -> Waves:
    rate_hz = _rate_hz(sensor, rate_hz)
    if sensor.burst is None:
        return Waves(rate_hz, n_axes)
    n_samples = burst_samples or round(rate_hz * machine.window_s)
    return Waves(rate_hz, n_axes, n_samples, sensor.burst.every_s)


def _line_size(
    url: str, sensors: list[SensorConfig], waves: Mapping[str, Waves], turnaround_s: float
) -> LineSize:
    scheme = urlsplit(url).scheme
    name = url.partition("?")[0]
    if scheme.startswith("modbus"):
        return _modbus_size(url, name, sensors, waves, turnaround_s)
    samples_s = sum(waves[s.id].samples_s for s in sensors if s.is_waveform)
    if scheme == "serial":
        baud = int(dict(parse_qsl(urlsplit(url).query))["baud"])
        use = samples_s * _SERIAL_BYTES_A_SAMPLE * 10 / baud
        return LineSize(name, "serial", 1, 0.0, samples_s, use, 0.0)
    return LineSize(name, scheme, 1, 0.0, samples_s, None, 0.0, note="a recording")


def _modbus_size(
    url: str, name: str, sensors: list[SensorConfig], waves: Mapping[str, Waves], turnaround_s: float
) -> LineSize:
    settings = line_settings(url)
    registers = [register for sensor in sensors for register in registers_of(sensor)]
    requests_s = values_s = poll_use = slowest_s = 0.0
    for device, how in device_options(sensors).items():
        own = [r for r in registers if r.device == device]
        plan = blocks(own, max_words=how.max_words, merge_gap=how.merge_gap)
        poll_s = sum(request_s(settings, block, turnaround_s) for block in plan)
        requests_s += len(plan) / how.poll_s
        values_s += len(own) / how.poll_s
        poll_use += poll_s / how.poll_s
        slowest_s = max(slowest_s, poll_s)
    burst_use = slowest_burst_s = 0.0
    notes = []
    for sensor in sensors:
        if sensor.burst is None:
            continue
        wave = waves[sensor.id]
        burst = _descriptor(wave, fifo=sensor.burst.fifo)
        on_line_s = fetch_s(settings, burst, fifo=sensor.burst.fifo, turnaround_s=turnaround_s)
        burst_use += on_line_s / sensor.burst.every_s
        slowest_burst_s = max(slowest_burst_s, burst.duration_s + on_line_s)
        notes.append(f"burst of {sensor.id!r}: {wave.n_axes} x {burst.n_samples} samples")
        if burst.duration_s + on_line_s > sensor.burst.every_s:
            notes.append("takes longer than its every_s")
    if poll_use + burst_use > 1:
        what = "every_s, poll_s" if burst_use else "poll_s"
        notes.append(f"polls will be late: raise {what}, the baud rate, or merge_gap")
    n_devices = len(device_options(sensors)) + sum(1 for s in sensors if s.burst and not s.register)
    return LineSize(
        line=name,
        kind="modbus",
        devices=n_devices,
        requests_s=requests_s,
        values_s=values_s,
        use=poll_use + burst_use,
        slowest_poll_s=slowest_s,
        burst_use=burst_use,
        slowest_burst_s=slowest_burst_s,
        note="; ".join(notes),
    )


def _descriptor(wave: Waves, *, fifo: bool) -> BurstDescriptor:
    rate = Fraction(wave.rate_hz).limit_denominator(1000)
    return BurstDescriptor(rate, "g", 1.0, wave.burst_samples, tuple("xyzw"[: wave.n_axes]), fifo)


def _rate_hz(sensor: SensorConfig, given_hz: float | None) -> float:
    stated = dict(parse_qsl(urlsplit(sensor.source).query)).get("sample_rate_hz")
    if stated is not None:
        return float(stated)
    if given_hz is None:
        raise ConfigError(
            f"the sample rate of sensor {sensor.id!r} is only known when it is connected",
            mend="Give it with --sample-rate HZ",
        )
    return given_hz
