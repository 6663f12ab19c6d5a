"""From a stream of bytes to frames. State, but no I/O; nothing on the wire can make it raise."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields

from firmware_bridge.framing import DELIMITER, MAX_ENCODED_BYTES, FrameError, decode_body
from firmware_bridge.messages import Frame, MessageError, decode_message

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StreamCounters:
    """What came and what was dropped, since the decoder was made. All only ever grow."""

    bytes: int = 0
    frames: int = 0
    bad_cobs: int = 0
    bad_crc: int = 0
    bad_length: int = 0
    bad_payload: int = 0
    unknown_type: int = 0
    newer_version: int = 0
    lost_frames: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


_FRAME_COUNTERS = {"cobs": "bad_cobs", "crc": "bad_crc", "length": "bad_length"}
_MESSAGE_COUNTERS = {"payload": "bad_payload", "type": "unknown_type", "version": "newer_version"}


class StreamDecoder:
    """Feed it bytes as they come; it returns whole frames and finds its feet again by itself.

    Memory is bounded by the longest frame: what grows beyond without a delimiter is noise.
    """

    def __init__(self) -> None:
        self.counters = StreamCounters()
        self._rest = b""
        self._overlong = False
        self._next_sequence: int | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes; return the frames that they complete, in order."""
        self.counters.bytes += len(data)
        *whole, self._rest = (self._rest + data).split(DELIMITER)
        frames = []
        for encoded in whole:
            if self._overlong:
                self._overlong = False  # the end of the overlong one, which was counted already
                continue
            frame = self._decode(encoded) if encoded else None
            if frame is not None:
                frames.append(frame)
        if len(self._rest) > MAX_ENCODED_BYTES:
            if not self._overlong:
                self.counters.bad_length += 1
            self._rest, self._overlong = b"", True
        return frames

    def restart(self) -> None:
        """Forget a half frame and the sequence: the device was connected anew."""
        self._rest, self._overlong, self._next_sequence = b"", False, None

    def _decode(self, encoded: bytes) -> Frame | None:
        try:
            body = decode_body(encoded)
        except FrameError as error:
            self._count(_FRAME_COUNTERS[error.reason], error)
            return None
        self._follow_sequence(body)
        try:
            frame = decode_message(body)
        except MessageError as error:
            self._count(_MESSAGE_COUNTERS[error.reason], error)
            return None
        self.counters.frames += 1
        return frame

    def _follow_sequence(self, body: bytes) -> None:
        """Count what is missing before an intact frame, whether or not its type is known."""
        sequence = int.from_bytes(body[2:4], "little")
        if self._next_sequence is not None:
            self.counters.lost_frames += (sequence - self._next_sequence) & 0xFFFF
        self._next_sequence = (sequence + 1) & 0xFFFF

    def _count(self, name: str, error: Exception) -> None:
        setattr(self.counters, name, getattr(self.counters, name) + 1)
        logger.debug("dropped: %s", error)
