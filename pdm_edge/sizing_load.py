"""What a machine needs of CPU, disk and upload, measured: its own pipeline works off noise.

Readings come as often as they are polled, windows follow one another or come with each burst, and
what the pipeline makes of them goes into a buffer in a temporary folder, on the computer that asks.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from pdm_edge.clock import FixedClock
from pdm_edge.config import MachineConfig
from pdm_edge.machine import Machine
from pdm_edge.records import (
    AmplitudeSpectrum,
    FeatureVector,
    Lane,
    Measurement,
    Reading,
    Record,
    Stamp,
    Waveform,
)
from pdm_edge.store.buffer import Buffer
from pdm_edge.sync.payload import encode_batch

_LEARN_WINDOWS: Final = 20
_MEASURED_WINDOWS: Final = 20
_MOST_READINGS: Final = 20_000
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Waves:
    """The waveforms of a sensor: without a pause, or `burst_samples` of each axis every `every_s`."""

    rate_hz: float
    n_axes: int
    burst_samples: int = 0
    every_s: float = 0.0

    @property
    def samples_s(self) -> float:
        return self.n_axes * (self.burst_samples / self.every_s if self.burst_samples else self.rate_hz)


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


def machine_size(
    machine: MachineConfig, gateway: str, folder: Path, waves: Mapping[str, Waves]
) -> MachineSize:
    """Measure one machine; `folder` is for its models and its buffer, and `waves` by sensor id."""
    own = {sensor.id: waves[sensor.id] for sensor in machine.sensor if sensor.id in waves}
    detect = msgspec.structs.replace(machine.detect, learn_windows=_LEARN_WINDOWS)
    pipeline = Machine(msgspec.structs.replace(machine, detect=detect), models=folder / "models")
    folder.mkdir(parents=True)
    period_s = _period_s(machine, own)
    readings_s = sum(len(s.scalars) / s.poll_s for s in machine.sensor)
    measured_s = period_s * _MEASURED_WINDOWS
    if readings_s:
        measured_s = max(2 * period_s, min(measured_s, _MOST_READINGS / readings_s))
    learning_s = period_s * (_LEARN_WINDOWS + 5)
    clock = FixedClock(1)
    buffer = Buffer(folder / "size.db", gateway=gateway, max_mb=512, clock=clock)
    try:
        # To learn, one reading of each a window will do.
        learned = _work(pipeline, _timeline(machine, own, clock, learning_s, period_s))
        started_s = time.process_time()
        records = _work(pipeline, _timeline(machine, own, clock, measured_s, 0.0))
        cpu_s = time.process_time() - started_s
        stored, sent = _bytes_of(buffer, [r for r in records if not isinstance(r, AmplitudeSpectrum)])
        # The first of each kind: those that are due come once in `every_s`, however long a window is.
        kinds = {(r.sensor, r.quantity): r for r in reversed(learned) if isinstance(r, AmplitudeSpectrum)}
        spectra_stored, spectra_sent = _bytes_of(buffer, list(kinds.values()), lane="spectrum")
    finally:
        buffer.close()
    a_day = _DAY_S / max(machine.spectrum.every_s, period_s) if machine.spectrum.every_s else 0.0
    vectors = [r for r in records if isinstance(r, FeatureVector)]
    return MachineSize(
        machine=machine.id,
        samples_s=sum(wave.samples_s for wave in own.values()),
        windows_s=len(vectors) / measured_s,
        features=len(vectors[0].schema.names) if vectors else 0,
        cpu=cpu_s / measured_s,
        stored_bytes_day=stored / measured_s * _DAY_S + spectra_stored * a_day,
        sent_bytes_day=sent / measured_s * _DAY_S + spectra_sent * a_day,
    )


def _period_s(machine: MachineConfig, waves: Mapping[str, Waves]) -> float:
    """Time from one vector of the machine to the next, at the most often."""
    if not waves:
        return max(machine.window_s, min(s.poll_s for s in machine.sensor))
    return min(wave.every_s if wave.burst_samples else machine.window_s for wave in waves.values())


def _work(pipeline: Machine, items: Iterator[Measurement]) -> list[Record]:
    return [record for item in items for record in pipeline.take(item)]


def _timeline(
    machine: MachineConfig, waves: Mapping[str, Waves], clock: FixedClock, seconds: float, every_s: float
) -> Iterator[Measurement]:
    """What the sensors bring in `seconds` from now, in order; readings no more often than `every_s`."""
    rng = np.random.default_rng(1)
    start_ns = clock.stamp().monotonic_ns
    events: list[tuple[float, int, int | None]] = []  # when, sensor, and of a waveform its number
    for index, sensor in enumerate(machine.sensor):
        poll_s = max(sensor.poll_s, every_s)
        if sensor.scalars:
            events += [(n * poll_s, index, None) for n in range(round(seconds / poll_s))]
        wave = waves.get(sensor.id)
        if wave is not None:
            pause_s = wave.every_s if wave.burst_samples else machine.window_s
            before = math.ceil(start_ns / 1e9 / pause_s)
            events += [(n * pause_s, index, before + n) for n in range(round(seconds / pause_s))]
    for at_s, index, number in sorted(events, key=lambda event: event[:2]):
        clock.advance(max(0.0, at_s - (clock.stamp().monotonic_ns - start_ns) / 1e9))
        sensor, stamp = machine.sensor[index], clock.stamp()
        if number is not None:
            yield _noise(sensor.id, waves[sensor.id], machine.window_s, number, stamp, rng)
        else:
            for scalar in sensor.scalars:
                value = 40.0 + rng.standard_normal()
                yield Reading(sensor.id, scalar.quantity, value, scalar.unit, stamp)
    clock.advance(max(0.0, seconds - (clock.stamp().monotonic_ns - start_ns) / 1e9))


def _noise(
    sensor: str, wave: Waves, window_s: float, number: int, stamp: Stamp, rng: np.random.Generator
) -> Waveform:
    """The waveform of that number: of a burst, or the next part of a stream as long as a window."""
    n_samples = wave.burst_samples or round(wave.rate_hz * window_s)
    noise = (0.05 * rng.standard_normal((wave.n_axes, n_samples))).astype(np.float32)
    first = number * max(n_samples, round(wave.every_s * wave.rate_hz))
    return Waveform(sensor, noise, wave.rate_hz, "g", tuple("xyzw"[: wave.n_axes]), stamp, first)


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
