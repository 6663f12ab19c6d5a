"""What the frames of one device mean: measurements, exact gaps, and what was dropped. No I/O.

Two rules keep a wrong sample from being delivered as good. Samples are scaled only by the
descriptor that they name (boot and revision), and only samples that continue the count, or whose
gap is told, are passed on.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from firmware_bridge import (
    CLIPPED,
    INVALID,
    Data,
    Descriptor,
    Frame,
    Log,
    Scalars,
    SensorDescriptor,
    Status,
    samples,
)
from pdm_edge.acquire.ticks import TickClock
from pdm_edge.errors import RecordError
from pdm_edge.records import GOOD, Gap, Measurement, Quality, Reading, Stamp, Waveform, bad, uncertain, worst

logger = logging.getLogger(__name__)

_REMEMBERED: Final = 256
_LOGS_A_MINUTE: Final = 20
_NO_BOOT: Final = -1
_DRIFT_WORTH_TELLING_PPM: Final = 1000.0
_LOG_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(slots=True)
class _Sensor:
    """One sensor's place in its stream."""

    next_sample: int | None = None
    boot: int = 0
    ended: Stamp | None = None  # when the last sample that came was over
    device_quality: Quality = GOOD
    recent: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class DeviceStream:
    """Turns the frames of a device into measurements.

    Parameters
    ----------
    name
        For messages.
    sensor_ids
        Our sensor id for each sensor number of the device. Others are counted as `unmapped` and
        named once in the log.

    Attributes
    ----------
    descriptor
        What the device said of itself, None until it has.
    counters
        What was dropped and why, by name; those of the device itself begin with ``device_``.
    """

    def __init__(self, name: str, sensor_ids: Mapping[int, str]) -> None:
        self._name = name
        self._ids = dict(sensor_ids)
        self.descriptor: Descriptor | None = None
        self.counters: Counter[str] = Counter()
        self._layouts: dict[int, SensorDescriptor] = {}
        self._sensors: dict[int, _Sensor] = {}
        self._ticks: TickClock | None = None
        self._outdated = False
        self._device_id = ""
        self._last_scalars: tuple[int, int] | None = None
        self._log_minute, self._logs = 0, 0
        self._drift_told = False

    @property
    def needs_descriptor(self) -> bool:
        """The device has to be asked what it is, or what it is now."""
        return self.descriptor is None or self._outdated

    def forget_descriptor(self) -> None:
        """The line was broken: the device may be another one, or have been flashed."""
        self.descriptor, self._ticks, self._last_scalars = None, None, None
        self._layouts = {}

    def take(self, frame: Frame, arrival: Stamp) -> list[Measurement]:
        """Measurements of a frame that had wholly arrived at a time."""
        message = frame.message
        if isinstance(message, Descriptor):
            self._describe(message)
        elif isinstance(message, Log):
            self._log(message, arrival)
        elif isinstance(message, Status):
            self._take_status(message)
        elif self._ticks is None or self.descriptor is None:
            if isinstance(message, (Data, Scalars)):
                self.counters["before_descriptor"] += 1
        elif isinstance(message, Data):
            if (message.boot, message.revision) == (self.descriptor.boot, self.descriptor.revision):
                return self._take_data(message, frame.tick, arrival, self._ticks)
            self._outdated = True
            self.counters["other_descriptor"] += 1
        elif isinstance(message, Scalars):
            return self._take_scalars(message, frame, self._ticks.stamp(frame.tick, arrival))
        return []

    def _describe(self, descriptor: Descriptor) -> None:
        self._outdated = False
        before, self.descriptor = self.descriptor, descriptor
        if descriptor == before:
            return
        self._layouts = {sensor.number: sensor for sensor in descriptor.sensors}
        if self._device_id and self._device_id != descriptor.device_id:
            logger.warning("%s: now %r, before %r", self._name, descriptor.device_id, self._device_id)
            self.counters["devices_exchanged"] += 1
            for known in self._sensors.values():
                known.boot = _NO_BOOT  # its count goes on from nothing that was here before
        self._device_id = descriptor.device_id
        if before is None or before.boot != descriptor.boot or before.tick_hz != descriptor.tick_hz:
            self._ticks = TickClock(descriptor.tick_hz)
        for number, sensor in self._layouts.items():
            if number not in self._ids and before is None:
                logger.warning(
                    "%s: device %r also sends sensor %d (%r); to use it, give a sensor channel = %d",
                    self._name,
                    descriptor.device_id,
                    number,
                    sensor.label,
                    number,
                )

    def _take_data(self, data: Data, tick: int, arrival: Stamp, ticks: TickClock) -> list[Measurement]:
        layout, sensor_id = self._layouts.get(data.sensor), self._ids.get(data.sensor)
        if layout is None or sensor_id is None:
            self.counters["unmapped"] += 1
            return []
        duration_s = data.n_samples / float(layout.sample_rate_hz)
        # The tick is that of the first sample; the frame was sent after its last.
        stamp = ticks.stamp(tick, arrival.earlier(duration_s))
        self._watch_drift(ticks)
        sensor = self._sensors.setdefault(data.sensor, _Sensor())
        if self._repeated(sensor, data, tick):
            self.counters["repeated"] += 1
            return []
        gap = self._gap(sensor, data, sensor_id, stamp, float(layout.sample_rate_hz))
        try:
            waveform = self._waveform(data, layout, sensor_id, stamp, uncertain("gap") if gap else GOOD)
        except (ValueError, RecordError) as error:
            self.counters["bad_data"] += 1
            logger.debug("%s: dropped DATA: %s", self._name, error)
            return []
        sensor.next_sample, sensor.boot = data.first_sample + data.n_samples, data.boot
        sensor.ended = stamp.earlier(-duration_s)
        sensor.recent.append((data.first_sample, tick))
        return [gap, waveform] if gap else [waveform]

    def _waveform(
        self, data: Data, layout: SensorDescriptor, sensor_id: str, stamp: Stamp, continuity: Quality
    ) -> Waveform:
        values = samples(data, layout)
        quality = worst(continuity, self._sensors[data.sensor].device_quality)
        if data.flags & CLIPPED:
            quality = worst(quality, uncertain("clipped"))
        if data.flags & INVALID:
            quality = worst(quality, bad("device"))
        if layout.format == "float32" and not np.isfinite(values).all():
            self.counters["nonfinite"] += 1
            quality = worst(quality, bad("nonfinite"))
        return Waveform(
            sensor=sensor_id,
            samples=values,
            sample_rate_hz=float(layout.sample_rate_hz),
            unit=layout.unit,
            axes=layout.axes,
            stamp=stamp,
            first_sample=data.first_sample,
            quality=quality,
        )

    def _repeated(self, sensor: _Sensor, data: Data, tick: int) -> bool:
        """The same samples again: a line that echoes, or a sender that repeats."""
        if sensor.next_sample is None or sensor.boot != data.boot or data.first_sample >= sensor.next_sample:
            return False
        return (data.first_sample, tick) in sensor.recent

    def _gap(self, sensor: _Sensor, data: Data, sensor_id: str, stamp: Stamp, rate_hz: float) -> Gap | None:
        """What is missing between the last sample that came and this one."""
        expected, first = sensor.next_sample, data.first_sample
        if expected is None or (first == expected and data.boot == sensor.boot):
            return None
        if data.boot == sensor.boot and first > expected:
            self.counters["lost_samples"] += first - expected
            why = "frames lost on the line"
            return Gap(sensor_id, "samples", first - expected, why, stamp, first=expected, last=first - 1)
        self.counters["restarts"] += 1
        sensor.recent.clear()
        missing_s = 0.0 if sensor.ended is None else (stamp.monotonic_ns - sensor.ended.monotonic_ns) / 1e9
        lost = max(round(missing_s * rate_hz), 0)
        self.counters["lost_samples"] += lost
        missing = f"about {max(missing_s, 0.0):.3f} s were not measured or not sent"
        why = f"the device was restarted or exchanged; {missing}"
        return Gap(sensor_id, "samples", lost, why, stamp)

    def _take_scalars(self, scalars: Scalars, frame: Frame, stamp: Stamp) -> list[Measurement]:
        if self._last_scalars == (frame.sequence, frame.tick):
            self.counters["repeated"] += 1
            return []
        self._last_scalars = (frame.sequence, frame.tick)
        readings: list[Measurement] = []
        for scalar in scalars.values:
            sensor_id = self._ids.get(scalar.sensor)
            if sensor_id is None:
                self.counters["unmapped"] += 1
                continue
            try:
                readings.append(Reading(sensor_id, scalar.quantity, scalar.value, scalar.unit, stamp))
            except RecordError as error:
                self.counters["bad_scalars"] += 1
                logger.debug("%s: dropped SCALARS: %s", self._name, error)
        return readings

    def _take_status(self, status: Status) -> None:
        """The device's own counts, and whether its samples are to be believed."""
        self.counters["device_dropped_frames"] = status.dropped_frames
        self.counters["device_damaged_frames"] = status.damaged_frames
        self.counters["device_dropped_samples"] = sum(s.dropped_samples for s in status.sensors)
        self.counters["device_clipped_samples"] = sum(s.clipped_samples for s in status.sensors)
        for entry in status.sensors:
            quality = uncertain("device") if status.self_test == "failed" else GOOD
            if entry.state == "fault":
                quality = bad("device")
            sensor = self._sensors.setdefault(entry.sensor, _Sensor())
            if quality != sensor.device_quality and quality is not GOOD:
                self.counters["device_faults"] += 1
                logger.warning(
                    "%s: sensor %d: state %s, self-test %s",
                    self._name,
                    entry.sensor,
                    entry.state,
                    status.self_test,
                )
            sensor.device_quality = quality

    def _log(self, message: Log, arrival: Stamp) -> None:
        """Pass on what the device says, but not more than a log can bear."""
        self.counters["device_logs"] += 1
        minute = arrival.monotonic_ns // 60_000_000_000
        if minute != self._log_minute:
            self._log_minute, self._logs = minute, 0
        self._logs += 1
        if self._logs > _LOGS_A_MINUTE:
            self.counters["device_logs_dropped"] += 1
            return
        logger.log(_LOG_LEVELS[message.level], "%s: device says: %r", self._name, message.text)

    def _watch_drift(self, ticks: TickClock) -> None:
        drift_ppm = ticks.drift_ppm
        if drift_ppm is None or self._drift_told or abs(drift_ppm) < _DRIFT_WORTH_TELLING_PPM:
            return
        self._drift_told = True
        logger.warning(
            "%s: the device's clock is off by %.2f %%; frequencies are as far off where the sample "
            "rate is not measured by a better clock",
            self._name,
            drift_ppm / 1e4,
        )
