"""Sensors that speak the framed protocol over a serial line.

The port may be absent, be pulled and come back: that is counted and tried again, with a pause that
grows from 0.1 to 5 s. Data that come before the device has described itself are dropped, since
their rate and unit would be guesses.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from firmware_bridge import (
    CLIPPED,
    Command,
    Data,
    Descriptor,
    Frame,
    Scalars,
    SensorDescriptor,
    StreamDecoder,
    encode_frame,
    samples,
)
from pdm_edge.acquire.ticks import TickClock
from pdm_edge.errors import RecordError
from pdm_edge.ports import Clock
from pdm_edge.records import GOOD, Gap, Measurement, Quality, Reading, Stamp, Waveform, uncertain, worst

if TYPE_CHECKING:
    import serial

logger = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
_ASK_AGAIN_S: Final = 1.0


class SerialSource:
    """Reads one device on one serial port.

    Parameters
    ----------
    port
        Device name, best the stable one below ``/dev/serial/by-id``.
    baud
        Bits a second of the line.
    clock
        Stamps what arrives.
    sensor_ids
        Our sensor id for each sensor number of the device. Others are counted as `unmapped` and
        named once in the log.
    """

    def __init__(self, port: str, *, baud: int, clock: Clock, sensor_ids: Mapping[int, str]) -> None:
        self.name = f"serial {port}"
        self._port_name = port
        self._baud = baud
        self._clock = clock
        self._ids = dict(sensor_ids)
        self._port: serial.Serial | None = None
        self._decoder = StreamDecoder()
        self._counters: Counter[str] = Counter()
        self._pause_s = FIRST_PAUSE_S
        self._retry_at_s = 0.0
        self._ask_at_s = 0.0
        self._sequence = 0
        self._descriptor: Descriptor | None = None
        self._sensors: dict[int, SensorDescriptor] = {}
        self._ticks: TickClock | None = None
        self._next_sample: dict[int, int] = {}

    @property
    def ended(self) -> bool:
        return False

    @property
    def descriptor(self) -> Descriptor | None:
        """What the device said of itself, None until it has."""
        return self._descriptor

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        """What has come since the last call; see `pdm_edge.ports.Source`."""
        import serial

        port = self._connected(timeout_s)
        if port is None:
            return ()
        try:
            port.timeout = timeout_s
            data = port.read(max(1, port.in_waiting))
            arrival = self._clock.stamp()
            if self._descriptor is None and time.monotonic() >= self._ask_at_s:
                self._ask_at_s = time.monotonic() + _ASK_AGAIN_S
                self._send(port, Command("identify"))
        except (serial.SerialException, OSError) as error:
            self._disconnected(error)
            return ()
        measurements: list[Measurement] = []
        for frame in self._decoder.feed(data):
            measurements.extend(self._take(frame, arrival))
        return measurements

    def counters(self) -> Mapping[str, int]:
        return {**self._decoder.counters.as_dict(), **self._counters}

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None

    def _connected(self, timeout_s: float) -> serial.Serial | None:
        import serial

        if self._port is not None:
            return self._port
        wait_s = self._retry_at_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return None
        try:
            self._port = serial.Serial(self._port_name, self._baud, timeout=timeout_s, exclusive=True)
        except (serial.SerialException, OSError) as error:
            self._disconnected(error)
            return None
        logger.info("%s: connected", self.name)
        self._counters["connects"] += 1
        self._decoder.restart()
        self._ask_at_s = 0.0
        # The device may be another one, or have been flashed: it has to describe itself anew.
        self._descriptor, self._ticks = None, None
        self._sensors = {}
        return self._port

    def _disconnected(self, error: Exception) -> None:
        if self._port is not None or not self._counters["connect_failures"]:
            logger.warning("%s: %s; trying again", self.name, error)
        self._counters["disconnects" if self._port is not None else "connect_failures"] += 1
        self.close()
        self._retry_at_s = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _send(self, port: serial.Serial, command: Command) -> None:
        port.write_timeout = 1.0
        port.write(encode_frame(command, sequence=self._sequence, tick=0))
        self._sequence += 1

    def _take(self, frame: Frame, arrival: Stamp) -> list[Measurement]:
        self._pause_s = FIRST_PAUSE_S
        message = frame.message
        if isinstance(message, Descriptor):
            self._describe(message)
            return []
        if self._ticks is None:
            if isinstance(message, (Data, Scalars)):
                self._counters["before_descriptor"] += 1
            return []
        if isinstance(message, Data):
            sensor = self._sensors.get(message.sensor)
            # The tick is that of the first sample; the frame was sent after its last.
            taking_s = 0.0 if sensor is None else message.n_samples / float(sensor.sample_rate_hz)
            return self._take_data(message, self._ticks.stamp(frame.tick, arrival.earlier(taking_s)))
        stamp = self._ticks.stamp(frame.tick, arrival)
        if isinstance(message, Scalars):
            return self._take_scalars(message, stamp)
        return []

    def _describe(self, descriptor: Descriptor) -> None:
        if descriptor == self._descriptor:
            return
        self._descriptor = descriptor
        self._sensors = {sensor.number: sensor for sensor in descriptor.sensors}
        self._ticks = TickClock(descriptor.tick_hz)
        for number, sensor in self._sensors.items():
            if number not in self._ids:
                logger.warning(
                    "%s: device %r also sends sensor %d (%r); to use it, give a sensor channel = %d",
                    self.name,
                    descriptor.device_id,
                    number,
                    sensor.label,
                    number,
                )

    def _take_data(self, data: Data, stamp: Stamp) -> list[Measurement]:
        sensor = self._sensors.get(data.sensor)
        sensor_id = self._ids.get(data.sensor)
        if sensor is None or sensor_id is None:
            self._counters["unmapped"] += 1
            return []
        measurements: list[Measurement] = []
        quality = uncertain("clipped") if data.flags & CLIPPED else GOOD
        quality = worst(quality, self._continuity(data, sensor_id, stamp, measurements))
        if quality.level == "bad":
            return measurements
        try:
            waveform = Waveform(
                sensor=sensor_id,
                samples=samples(data, sensor),
                sample_rate_hz=float(sensor.sample_rate_hz),
                unit=sensor.unit,
                axes=sensor.axes,
                stamp=stamp,
                first_sample=data.first_sample,
                quality=quality,
            )
        except (ValueError, RecordError) as error:
            self._counters["bad_data"] += 1
            logger.debug("%s: dropped DATA: %s", self.name, error)
            return measurements
        self._next_sample[data.sensor] = data.first_sample + data.n_samples
        return [*measurements, waveform]

    def _continuity(self, data: Data, sensor_id: str, stamp: Stamp, out: list[Measurement]) -> Quality:
        """Compare the sample count with what must come next; append a Gap for what is missing."""
        expected = self._next_sample.get(data.sensor)
        if expected is None or data.first_sample == expected:
            return GOOD
        if expected - data.n_samples * 4 <= data.first_sample < expected:
            # The same samples again: a line that echoes, or a sender that repeats.
            self._counters["repeated"] += 1
            return Quality("bad", ("gap",))
        if data.first_sample < expected:
            self._counters["restarts"] += 1
            why = "the device was restarted; what it measured meanwhile is not known"
            out.append(Gap(sensor_id, "samples", 0, why, stamp))
            return uncertain("gap")
        lost = data.first_sample - expected
        self._counters["lost_samples"] += lost
        why = "frames lost on the line"
        out.append(Gap(sensor_id, "samples", lost, why, stamp, first=expected, last=data.first_sample - 1))
        return uncertain("gap")

    def _take_scalars(self, scalars: Scalars, stamp: Stamp) -> list[Measurement]:
        readings: list[Measurement] = []
        for scalar in scalars.values:
            sensor_id = self._ids.get(scalar.sensor)
            if sensor_id is None:
                self._counters["unmapped"] += 1
                continue
            try:
                readings.append(Reading(sensor_id, scalar.quantity, scalar.value, scalar.unit, stamp))
            except RecordError as error:
                self._counters["bad_scalars"] += 1
                logger.debug("%s: dropped SCALARS: %s", self.name, error)
        return readings
