"""What the checks of a device share: what is known of it, and how to say what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

from firmware_bridge.device import ByteStream, DeviceClient
from firmware_bridge.messages import Data, Descriptor, Frame, SensorDescriptor
from firmware_bridge.stream import StreamCounters

M = TypeVar("M")

LISTEN_S: Final = 2.0
SETTLE_S: Final = 0.2


class CheckError(Exception):
    """A demand is not met. `ends`: nothing that comes after can be checked."""

    def __init__(self, text: str, *, ends: bool = False) -> None:
        super().__init__(text)
        self.ends = ends


@dataclass(slots=True)
class Session:
    """What the checks learn of a device, one after another."""

    stream: ByteStream
    listen_s: float = LISTEN_S
    client: DeviceClient = field(init=False)
    descriptor: Descriptor | None = None
    heard: list[Frame] = field(default_factory=list)
    heard_for_s: float = 0.0

    def __post_init__(self) -> None:
        self.client = DeviceClient(self.stream)

    @property
    def sensors(self) -> tuple[SensorDescriptor, ...]:
        return () if self.descriptor is None else self.descriptor.sensors

    def listen(self, within_s: float) -> list[Frame]:
        return self.client.frames(within_s)

    def quiet(self) -> None:
        """Stop all sensors, and let what is under way pass."""
        self.client.request("stop", 255)
        self.listen(SETTLE_S)


def data_of(session: Session) -> list[tuple[Frame, Data, SensorDescriptor]]:
    layouts = {sensor.number: sensor for sensor in session.sensors}
    return [
        (f, f.message, layouts[f.message.sensor])
        for f in session.heard
        if isinstance(f.message, Data) and f.message.sensor in layouts
    ]


def messages(frames: list[Frame], kind: type[M]) -> list[M]:
    return [frame.message for frame in frames if isinstance(frame.message, kind)]


def told(counters: StreamCounters) -> str:
    return ", ".join(
        f"{name} {count}" for name, count in counters.as_dict().items() if count and name != "bytes"
    )
