"""Asking a device: commands and their replies over any byte stream."""

from __future__ import annotations

import errno
import os
import select
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Protocol

from firmware_bridge.codec import encode_frame
from firmware_bridge.messages import ALL_SENSORS, Command, Descriptor, Frame, Message, Reply
from firmware_bridge.stream import StreamDecoder

if TYPE_CHECKING:
    import serial

REPLY_WITHIN_S: Final = 1.0
ATTEMPTS: Final = 3
_KEPT_FRAMES: Final = 4096
_READ_BYTES: Final = 65_536
_READ_WITHIN_S: Final = 0.02
_WRITE_WITHIN_S: Final = 1.0


class DeviceError(Exception):
    """A device did not answer, or answered that it will not."""


class ByteStream(Protocol):
    """What a client needs of a line: both may raise OSError, which the client lets through."""

    def read(self) -> bytes:
        """What has come; waits for at most a few hundredths of a second if nothing has."""
        ...

    def write(self, data: bytes) -> object: ...


class SerialStream:
    """A serial port as a `ByteStream`.

    Parameters
    ----------
    device, baud
        Name of the port, and bits a second.
    exclusive
        Nobody else may open the port meanwhile.

    Raises
    ------
    OSError
        If the port cannot be opened, also later if it is gone (pyserial's SerialException is one).
    """

    def __init__(self, device: str, baud: int, *, exclusive: bool = False) -> None:
        import serial

        self._port: serial.Serial = serial.Serial(
            device, baud, timeout=_READ_WITHIN_S, write_timeout=_WRITE_WITHIN_S, exclusive=exclusive or None
        )
        # pyserial asks how much there is, waits, and reads: three calls of the system where mostly
        # one will do. On POSIX its port does not block.
        self._fd = self._port.fileno() if os.name == "posix" else None

    def read(self, timeout_s: float = _READ_WITHIN_S) -> bytes:
        """What has come; waits for at most `timeout_s` if nothing has."""
        if self._fd is None:
            self._port.timeout = timeout_s
            return bytes(self._port.read(max(1, self._port.in_waiting)))
        data = _read_now(self._fd)
        if not data and select.select([self._fd], [], [], timeout_s)[0]:
            data = _read_now(self._fd)
            if data == b"":
                raise OSError(errno.EIO, "the port is ready to be read and gives nothing: it is gone")
        return data or b""

    def write(self, data: bytes) -> object:
        return self._port.write(data)

    def close(self) -> None:
        self._port.close()


def _read_now(fd: int) -> bytes | None:
    """What has come; nothing or None if nothing has, by the settings of the terminal."""
    try:
        return os.read(fd, _READ_BYTES)
    except BlockingIOError:
        return None


@dataclass(frozen=True, slots=True)
class TimeSync:
    """One exchange of time: device tick `tick` fell on `monotonic_ns`, give or take `error_ns`."""

    tick: int
    monotonic_ns: int
    error_ns: int


class DeviceClient:
    """Commands to one device; one thread at a time.

    Frames that come while a reply is awaited are kept, the last 4096 of them, for `frames`.

    Parameters
    ----------
    stream
        The line to the device.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._kept: deque[Frame] = deque(maxlen=_KEPT_FRAMES)
        self._sequence = 0
        self._token = int(time.monotonic() * 1000) % 0xFFFF  # not the one another client left off at
        self.decoder = StreamDecoder()

    def frames(self, within_s: float) -> list[Frame]:
        """All frames that come within a time, those kept before them."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self._pump()
        kept = list(self._kept)
        self._kept.clear()
        return kept

    def wait_for(self, wanted: Callable[[Frame], bool], within_s: float) -> Frame | None:
        """The first new frame that is wanted, None if none comes in time. Others are kept."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = None
            for frame in self._pump():
                if found is None and wanted(frame):
                    found = frame
            if found is not None:
                return found
        return None

    def request(self, name: str, *arguments: int | float, within_s: float = REPLY_WITHIN_S) -> Reply:
        """Send a command, again if no reply comes, and return the reply, whatever its result.

        The repetitions carry the same token, so that a device does it once.

        Raises
        ------
        DeviceError
            If there was no reply after 3 attempts.
        ValueError
            If the arguments do not fit the command.
        """
        frame = self._exchange(name, arguments, within_s)
        assert isinstance(frame.message, Reply)
        return frame.message

    def identify(self, within_s: float = REPLY_WITHIN_S) -> Descriptor:
        """What the device says it is.

        Raises
        ------
        DeviceError
            If no DESCRIPTOR came after 3 attempts.
        """
        for _ in range(ATTEMPTS):
            self.send(Command("identify"))
            frame = self.wait_for(lambda f: isinstance(f.message, Descriptor), within_s)
            if frame is not None and isinstance(frame.message, Descriptor):
                return frame.message
        raise DeviceError(f"no DESCRIPTOR within {ATTEMPTS} x {within_s} s of `identify`")

    def start(self, sensor: int = ALL_SENSORS) -> None:
        """Let a sensor stream. Raises DeviceError, as do all below."""
        self._must("start", sensor)

    def stop(self, sensor: int = ALL_SENSORS) -> None:
        self._must("stop", sensor)

    def set_rate(self, sensor: int, sample_rate_hz: Fraction) -> None:
        """Choose a sample rate; a new DESCRIPTOR follows. A device takes what it can do exactly."""
        self._must("set_rate", sensor, sample_rate_hz.numerator, sample_rate_hz.denominator)

    def set_range(self, sensor: int, range_max: float) -> None:
        """Choose a measuring range, in the sensor's unit; a new DESCRIPTOR follows."""
        self._must("set_range", sensor, range_max)

    def burst(self, sensor: int, n_samples: int) -> None:
        """Let a stopped sensor send `n_samples` of each axis, and stop again."""
        self._must("burst", sensor, n_samples)

    def self_test(self) -> None:
        """Start the self-test; its outcome comes as a STATUS."""
        self._must("self_test")

    def time_sync(self, utc_ns: int) -> TimeSync:
        """Tell the device the time, and learn what its tick is at (Cristian 1989: half the round trip).

        `error_ns` is half of the round trip less what the device says it needed itself; it cannot
        be known better without assuming that both ways are equally long.
        """
        sent_ns = time.monotonic_ns()
        frame = self._exchange("time_sync", (utc_ns,), REPLY_WITHIN_S)
        came_ns = time.monotonic_ns()
        reply = frame.message
        assert isinstance(reply, Reply)
        if reply.tick is None:
            raise DeviceError(f"time_sync: the device answers {reply.result!r}")
        return TimeSync(reply.tick, (sent_ns + came_ns) // 2, (came_ns - sent_ns) // 2)

    def send(self, message: Message) -> None:
        """Send a message as it is."""
        self.send_bytes(encode_frame(message, sequence=self._sequence, tick=0))
        self._sequence += 1

    def send_bytes(self, wire: bytes) -> None:
        """Send bytes as they are: for tests of a device, noise too."""
        self._stream.write(wire)

    def _must(self, name: str, *arguments: int | float) -> None:
        reply = self.request(name, *arguments)
        if reply.result != "ok":
            raise DeviceError(f"{name}{arguments}: the device answers {reply.result!r}")

    def _exchange(self, name: str, arguments: tuple[int | float, ...], within_s: float) -> Frame:
        self._token = self._token % 0xFFFF + 1
        token = self._token
        for _ in range(ATTEMPTS):
            self.send(Command(name, token, arguments))
            frame = self.wait_for(
                lambda f: isinstance(f.message, Reply) and f.message.token == token, within_s
            )
            if frame is not None:
                return frame
        raise DeviceError(f"{name}: no REPLY within {ATTEMPTS} x {within_s} s")

    def _pump(self) -> list[Frame]:
        frames = self.decoder.feed(self._stream.read())
        self._kept.extend(frames)
        return frames
