"""What a configuration will need: line use, poll times, CPU, disk and upload, before it runs.

Lines are reckoned from their requests and baud rates. CPU, disk and upload are measured: each
machine's own pipeline works off noise at the stated rate into a buffer in a temporary folder, on
the computer that asks.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import msgspec
import numpy as np

from pdm_edge.acquire.modbus_url import LineSettings, line_settings
from pdm_edge.acquire.registers import Block, blocks
from pdm_edge.clock import FixedClock
from pdm_edge.config import Config, MachineConfig, SensorConfig
from pdm_edge.errors import ConfigError
from pdm_edge.machine import Machine
from pdm_edge.records import AmplitudeSpectrum, FeatureVector, Lane, Measurement, Reading, Record, Waveform
from pdm_edge.store.buffer import Buffer
from pdm_edge.sync.payload import encode_batch
from pdm_edge.wiring import device_options, lines_of, registers_of

_LEARN_WINDOWS = 20
_MEASURED_WINDOWS = 20
_DAY_S = 86_400.0
_SERIAL_BYTES_A_SAMPLE = 2.1  # int16 in frames of the wire protocol, with header, COBS and CRC


@dataclass(frozen=True, slots=True)
class LineSize:
    """One line: ``use`` is the share of its time, above 1 if it cannot keep up; None if unknown."""

    line: str
    kind: str
    devices: int
    requests_s: float
    values_s: float
    use: float | None
    slowest_poll_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class MachineSize:
    """One machine: samples and windows a second, and the CPU share of one core."""

    machine: str
    samples_s: float
    windows_s: float
    features: int
    cpu: float
    stored_bytes_day: float
    sent_bytes_day: float


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
    config: Config, *, sample_rate_hz: float | None = None, n_axes: int = 1, turnaround_s: float = 0.01
) -> Size:
    """Size a configuration.

    Parameters
    ----------
    sample_rate_hz, n_axes
        Of sensors that only say so when they are connected (serial, bursts over Modbus).
    turnaround_s
        What a Modbus device takes to begin its reply.

    Raises
    ------
    ConfigError
        If a sample rate is needed and not given.
    """
    lines = tuple(
        _line_size(url, sensors, sample_rate_hz, n_axes, turnaround_s)
        for url, sensors in lines_of(config).items()
    )
    with tempfile.TemporaryDirectory(prefix="pdm-edge-size-") as folder:
        machines = tuple(
            _machine_size(machine, config.gateway.id, Path(folder, machine.id), sample_rate_hz, n_axes)
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


def _line_size(
    url: str, sensors: list[SensorConfig], rate_hz: float | None, n_axes: int, turnaround_s: float
) -> LineSize:
    scheme = urlsplit(url).scheme
    name = url.partition("?")[0]
    if scheme.startswith("modbus"):
        return _modbus_size(url, name, sensors, turnaround_s)
    if scheme == "serial":
        samples_s = sum(_rate_hz(s, rate_hz) * n_axes for s in sensors if s.is_waveform)
        baud = int(dict(parse_qsl(urlsplit(url).query))["baud"])
        use = samples_s * _SERIAL_BYTES_A_SAMPLE * 10 / baud
        return LineSize(name, "serial", 1, 0.0, samples_s, use, 0.0)
    samples_s = sum(_rate_hz(s, rate_hz) for s in sensors if s.is_waveform)
    return LineSize(name, scheme, 1, 0.0, samples_s, None, 0.0, "a recording")


def _modbus_size(url: str, name: str, sensors: list[SensorConfig], turnaround_s: float) -> LineSize:
    settings = line_settings(url)
    registers = [register for sensor in sensors for register in registers_of(sensor)]
    requests_s = values_s = use = slowest_s = 0.0
    for device, how in device_options(sensors).items():
        own = [r for r in registers if r.device == device]
        plan = blocks(own, max_words=how.max_words, merge_gap=how.merge_gap)
        poll_s = sum(request_s(settings, block, turnaround_s) for block in plan)
        requests_s += len(plan) / how.poll_s
        values_s += len(own) / how.poll_s
        use += poll_s / how.poll_s
        slowest_s = max(slowest_s, poll_s)
    bursts = [s.id for s in sensors if s.burst is not None]
    note = f"bursts of {', '.join(bursts)} take what is left" if bursts else ""
    if use > 1:
        note = "polls will be late: raise poll_s, the baud rate, or merge_gap"
    return LineSize(name, "modbus", len(device_options(sensors)), requests_s, values_s, use, slowest_s, note)


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


def _machine_size(
    machine: MachineConfig, gateway: str, folder: Path, rate_hz: float | None, n_axes: int
) -> MachineSize:
    waves = {s.id: _rate_hz(s, rate_hz) for s in machine.sensor if s.is_waveform}
    detect = msgspec.structs.replace(machine.detect, learn_windows=_LEARN_WINDOWS)
    pipeline = Machine(msgspec.structs.replace(machine, detect=detect), models=folder / "models")
    folder.mkdir(parents=True)
    clock = FixedClock(1)
    windows_s = 1.0 / machine.window_s if waves else max(1.0 / s.poll_s for s in machine.sensor)
    buffer = Buffer(folder / "size.db", gateway=gateway, max_mb=512, clock=clock)
    rng = np.random.default_rng(1)
    try:
        spectra: list[Record] = []
        for window in range(_LEARN_WINDOWS + 5):
            worked = _work(pipeline, machine, waves, n_axes, window, windows_s, clock, rng)
            spectra += [record for record in worked if isinstance(record, AmplitudeSpectrum)]
        started_s = time.process_time()
        records: list[Record] = []
        for window in range(_LEARN_WINDOWS + 5, _LEARN_WINDOWS + 5 + _MEASURED_WINDOWS):
            records += _work(pipeline, machine, waves, n_axes, window, windows_s, clock, rng)
        cpu_s = time.process_time() - started_s
        stored, sent = _bytes_of(buffer, [r for r in records if not isinstance(r, AmplitudeSpectrum)])
        # The first of each kind: those that are due come once in `every_s`, however long a window is.
        kinds = {(r.sensor, r.quantity): r for r in reversed(spectra) if isinstance(r, AmplitudeSpectrum)}
        spectra_stored, spectra_sent = _bytes_of(buffer, list(kinds.values()), lane="spectrum")
    finally:
        buffer.close()
    seconds = _MEASURED_WINDOWS / windows_s
    a_day = _DAY_S / machine.spectrum.every_s if machine.spectrum.every_s else 0.0
    vectors = [r for r in records if isinstance(r, FeatureVector)]
    return MachineSize(
        machine=machine.id,
        samples_s=sum(waves.values()) * n_axes,
        windows_s=windows_s,
        features=len(vectors[0].schema.names) if vectors else 0,
        cpu=cpu_s / seconds,
        stored_bytes_day=stored / seconds * _DAY_S + spectra_stored * a_day,
        sent_bytes_day=sent / seconds * _DAY_S + spectra_sent * a_day,
    )


def _work(
    pipeline: Machine,
    machine: MachineConfig,
    waves: dict[str, float],
    n_axes: int,
    window: int,
    windows_s: float,
    clock: FixedClock,
    rng: np.random.Generator,
) -> list[Record]:
    """Let the pipeline work off one window's worth of noise."""
    stamp = clock.stamp()
    items: list[Measurement] = []
    for sensor in machine.sensor:
        for scalar in sensor.scalars:
            value = 40.0 + rng.standard_normal()
            items.append(Reading(sensor.id, scalar.quantity, value, scalar.unit, stamp))
        if sensor.id in waves:
            n_samples = round(waves[sensor.id] / windows_s)
            noise = (0.05 * rng.standard_normal((n_axes, n_samples))).astype(np.float32)
            axes = tuple("xyzw"[:n_axes])
            first = window * n_samples
            items.append(Waveform(sensor.id, noise, waves[sensor.id], "g", axes, stamp, first))
    clock.advance(1.0 / windows_s)
    return [record for item in items for record in pipeline.take(item)]


def _bytes_of(buffer: Buffer, records: list[Record], *, lane: Lane = "feature") -> tuple[float, float]:
    """Bytes that records take in the buffer, and packed for the way; measured on many copies."""
    if not records:
        return 0.0, 0.0
    copies = -(-2000 // len(records))
    buffer.write(records)
    before = _file_bytes(buffer.path)
    for _ in range(copies):
        buffer.write(records)
    stored = (_file_bytes(buffer.path) - before) / copies
    batch = buffer.next_batch(200, (lane,))
    if batch is None:
        return stored, 0.0
    return stored, len(encode_batch(batch, 1)) / len(batch.rows) * len(records)


def _file_bytes(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return path.stat().st_size
