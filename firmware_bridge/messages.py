"""The messages of the wire protocol as values, with the names and units that PROTOCOL.md gives them."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, NamedTuple, TypeAlias

PROTOCOL_VERSION: Final = 1

Unit: TypeAlias = Literal["g", "m_s2", "mm_s"]
UNITS: Final[dict[int, Unit]] = {1: "g", 2: "m_s2", 3: "mm_s"}
FORMATS: Final = {1: "int16", 2: "int24", 3: "float32"}
SAMPLE_BYTES: Final = {"int16": 2, "int24": 3, "float32": 4}
QUANTITIES: Final = {
    1: ("temperature", "degc"),
    2: ("supply", "v"),
    3: ("speed", "rpm"),
    4: ("humidity", "percent"),
}
QUANTITY_UNITS: Final = dict(QUANTITIES.values())
COMMANDS: Final = {
    1: "identify",
    2: "start",
    3: "stop",
    4: "set_rate",
    5: "set_range",
    6: "time_sync",
    7: "burst",
    8: "self_test",
    9: "reboot_to_bootloader",
}
ARGUMENTS: Final = {
    "start": "<B",
    "stop": "<B",
    "set_rate": "<BII",
    "set_range": "<Bf",
    "time_sync": "<Q",
    "burst": "<BI",
}
"""Layout of a command's arguments; commands that are not named here have none."""
RESULTS: Final = {0: "ok", 1: "unknown", 2: "refused", 3: "argument", 4: "busy", 5: "failed"}
SELF_TESTS: Final = {0: "not_run", 1: "passed", 2: "failed", 3: "running"}
SENSOR_STATES: Final = {0: "stopped", 1: "streaming", 2: "fault"}
LOG_LEVELS: Final = {1: "debug", 2: "info", 3: "warning", 4: "error"}

CLIPPED: Final = 0x01
"""Flag of DATA: at least one sample of this frame is at the end of the sensor's range."""
INVALID: Final = 0x02
"""Flag of DATA: these samples are no measurement of the machine (self-test, settling, fault)."""
BURST_END: Final = 0x04
"""Flag of DATA: the last frame of a burst that was asked for."""

ALL_SENSORS: Final = 255
"""In commands: every sensor of the device."""


@dataclass(frozen=True, slots=True)
class SensorDescriptor:
    """One sensor of a device: everything that turns its counts into physical samples.

    ``sample_rate_hz`` is an exact ratio, the measured one if ``rate_measured``; ``scale`` is the
    value of one count in ``unit``; ``range_max`` is the end of the measuring range in ``unit``, 0
    if it is not known; ``calibrated`` is the day of the last calibration, None if not known.

    Raises
    ------
    ValueError
        For anything a reader would otherwise have to guess.
    """

    number: int
    label: str
    unit: Unit
    format: str
    axes: tuple[str, ...]
    sample_rate_hz: Fraction
    scale: float
    range_max: float = 0.0
    calibrated: datetime.date | None = None
    rate_measured: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.number < ALL_SENSORS:
            raise ValueError(f"sensor number {self.number} is not in 0 to {ALL_SENSORS - 1}")
        if self.unit not in UNITS.values():
            raise ValueError(f"unit {self.unit!r} is none of {', '.join(UNITS.values())}")
        if self.format not in SAMPLE_BYTES:
            raise ValueError(f"format {self.format!r} is none of {', '.join(SAMPLE_BYTES)}")
        if not self.axes or any(len(axis) != 1 or not axis.isascii() for axis in self.axes):
            raise ValueError(f"axes {self.axes} are not one ASCII letter each")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes {self.axes} name one twice")
        if self.sample_rate_hz <= 0:
            raise ValueError(f"sample rate {self.sample_rate_hz} Hz is not positive")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale {self.scale} is not a positive number")
        if not (math.isfinite(self.range_max) and self.range_max >= 0):
            raise ValueError(f"range {self.range_max} is not a number from 0")

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample of all axes."""
        return SAMPLE_BYTES[self.format] * len(self.axes)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a device is and what it sends; sent on start, on every change and on request.

    ``boot`` differs with every start of the device, ``revision`` with every change of what it
    says here; DATA carry both, so that no sample is ever scaled by a descriptor of another time.
    """

    device_id: str
    firmware: str
    tick_hz: int
    sensors: tuple[SensorDescriptor, ...]
    boot: int = 0
    revision: int = 0

    def __post_init__(self) -> None:
        if self.tick_hz <= 0:
            raise ValueError(f"tick_hz {self.tick_hz} is not positive")
        numbers = [sensor.number for sensor in self.sensors]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"sensor numbers {numbers} name one twice")


class Data(NamedTuple):
    """Consecutive samples of one sensor, axes interleaved, as raw bytes in the descriptor's format.

    ``first_sample`` counts samples of each axis since the device started. A tuple, because a
    gateway makes thousands of them a second.
    """

    sensor: int
    first_sample: int
    n_samples: int
    raw: bytes
    flags: int = 0
    boot: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """One scalar value of a sensor; the unit belongs to the quantity."""

    sensor: int
    quantity: str
    value: float

    @property
    def unit(self) -> str:
        return QUANTITY_UNITS[self.quantity]


@dataclass(frozen=True, slots=True)
class Scalars:
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class SensorStatus:
    """How one sensor fares; the counts are since the device started."""

    sensor: int
    state: str
    dropped_samples: int = 0
    clipped_samples: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """How a device fares; ``dropped_frames`` found no room to be sent, ``damaged_frames`` came in."""

    uptime_s: int
    dropped_frames: int = 0
    damaged_frames: int = 0
    self_test: str = "not_run"
    sensors: tuple[SensorStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """A line of text for a person."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """From the gateway to the device.

    A `token` other than 0 asks for a `Reply` that carries it. `arguments` are those of
    PROTOCOL.md: sensor number; sensor, numerator, denominator of the rate; sensor, range; UTC in
    nanoseconds; sensor, samples. A command that this version has no name for is named by its number.
    """

    name: str
    token: int = 0
    arguments: tuple[int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a device answers to a `Command`; ``tick`` of `time_sync` is when the command had come."""

    command: str
    token: int
    result: str
    tick: int | None = None


Message: TypeAlias = Descriptor | Data | Scalars | Status | Log | Reply | Command


class Frame(NamedTuple):
    """A message with the header it came in: sequence of the frame, tick of the device."""

    sequence: int
    tick: int
    message: Message
