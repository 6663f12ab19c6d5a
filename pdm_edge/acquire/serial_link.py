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
from typing import Final

from firmware_bridge import Command, Descriptor, StreamDecoder, encode_frame
from firmware_bridge.device import SerialStream
from pdm_edge.acquire.device_stream import DeviceStream
from pdm_edge.ports import Clock
from pdm_edge.records import Measurement

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
        self._stream = DeviceStream(self.name, sensor_ids)
        self._port: SerialStream | None = None
        self._decoder = StreamDecoder()
        self._counters: Counter[str] = Counter()
        self._pause_s = FIRST_PAUSE_S
        self._retry_at_s = 0.0
        self._ask_at_s = 0.0
        self._sequence = 0

    @property
    def ended(self) -> bool:
        return False

    @property
    def descriptor(self) -> Descriptor | None:
        """What the device said of itself, None until it has."""
        return self._stream.descriptor

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        """What has come since the last call; see `pdm_edge.ports.Source`."""
        port = self._connected(timeout_s)
        if port is None:
            return ()
        try:
            data = port.read(timeout_s)
            arrival = self._clock.stamp()
            if self._stream.needs_descriptor and time.monotonic() >= self._ask_at_s:
                self._ask_at_s = time.monotonic() + _ASK_AGAIN_S
                self._send(port, Command("identify"))
        except OSError as error:  # pyserial's SerialException is one
            self._disconnected(error)
            return ()
        measurements: list[Measurement] = []
        for frame in self._decoder.feed(data):
            self._pause_s = FIRST_PAUSE_S
            measurements.extend(self._stream.take(frame, arrival))
        return measurements

    def counters(self) -> Mapping[str, int]:
        return {**self._decoder.counters.as_dict(), **self._counters, **self._stream.counters}

    def close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None

    def _connected(self, timeout_s: float) -> SerialStream | None:
        if self._port is not None:
            return self._port
        wait_s = self._retry_at_s - time.monotonic()
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return None
        try:
            self._port = SerialStream(self._port_name, self._baud, exclusive=True)
        except OSError as error:
            self._disconnected(error)
            return None
        logger.info("%s: connected", self.name)
        self._counters["connects"] += 1
        self._decoder.restart()
        self._ask_at_s = 0.0
        self._stream.forget_descriptor()
        return self._port

    def _disconnected(self, error: Exception) -> None:
        if self._port is not None or not self._counters["connect_failures"]:
            logger.warning("%s: %s; trying again", self.name, error)
        self._counters["disconnects" if self._port is not None else "connect_failures"] += 1
        self.close()
        self._retry_at_s = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _send(self, port: SerialStream, command: Command) -> None:
        port.write(encode_frame(command, sequence=self._sequence, tick=0))
        self._sequence += 1
