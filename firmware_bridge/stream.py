"""From a stream of bytes to frames. State, but no I/O; nothing on the wire can make it raise."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Final
from zlib import crc32

from firmware_bridge.codec import DATA, HEADER, TYPE_COMMAND, TYPE_DATA, MessageError, decode_message
from firmware_bridge.framing import (
    COBS_ERRORS,
    CRC_BYTES,
    CRC_RESIDUE,
    DELIMITER,
    MAX_BODY_BYTES,
    MAX_ENCODED_BYTES,
    FrameError,
    cobs_decode,
    decode_body,
)
from firmware_bridge.messages import PROTOCOL_VERSION, Data, Frame

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
    repeated_frames: int = 0

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


_FRAME_COUNTERS = {"cobs": "bad_cobs", "crc": "bad_crc", "length": "bad_length"}
_MESSAGE_COUNTERS = {"payload": "bad_payload", "type": "unknown_type", "version": "newer_version"}

# Header and head of DATA in one, for the frames that come by the thousand.
_DATA_HEAD = type(DATA)("<" + HEADER.format.lstrip("<") + DATA.format.lstrip("<"))
_COMMAND: Final = bytes([TYPE_COMMAND])
_SHORTEST_DATA: Final = _DATA_HEAD.size + CRC_BYTES


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
        *whole, rest = (self._rest + data).split(DELIMITER)
        if whole and self._overlong:
            self._overlong = False
            del whole[0]  # the end of the overlong one, which was counted already
        if len(rest) > MAX_ENCODED_BYTES:
            if not self._overlong:
                self.counters.bad_length += 1
            rest, self._overlong = b"", True
        self._rest = rest
        return self._decode_all(whole)

    def restart(self) -> None:
        """Forget a half frame and the sequence: the device was connected anew."""
        self._rest, self._overlong, self._next_sequence = b"", False, None

    def _decode_all(self, whole: list[bytes]) -> list[Frame]:
        """Decode what stood between delimiters; undamaged DATA take the short way.

        The short way makes the same checks as `decode_body` and `decode_message`, in one go; what
        fails any of them goes the long way and is counted there.
        """
        frames: list[Frame] = []
        new, unpack, head = tuple.__new__, _DATA_HEAD.unpack_from, _DATA_HEAD.size
        for encoded in whole:
            if not encoded:
                continue
            try:
                content = cobs_decode(encoded)
            except COBS_ERRORS:
                content = b""
            if (
                _SHORTEST_DATA <= len(content) <= MAX_BODY_BYTES + CRC_BYTES
                and content[1] == TYPE_DATA
                and crc32(content) == CRC_RESIDUE
            ):
                version, _, sequence, tick, sensor, flags, n, boot, revision, encoding, first = unpack(
                    content
                )
                if version == PROTOCOL_VERSION and n and not encoding:
                    if sequence != self._next_sequence:
                        self._follow_sequence(sequence)
                    self._next_sequence = (sequence + 1) & 0xFFFF
                    data = new(Data, (sensor, first, n, content[head:-CRC_BYTES], flags, boot, revision))
                    frames.append(new(Frame, (sequence, tick, data)))
                    continue
            frame = self._decode(encoded)
            if frame is not None:
                frames.append(frame)
        self.counters.frames += len(frames)
        return frames

    def _decode(self, encoded: bytes) -> Frame | None:
        try:
            body = decode_body(encoded)
        except FrameError as error:
            self._count(_FRAME_COUNTERS[error.reason], error)
            return None
        if body[1:2] != _COMMAND:  # on a line that echoes, ours come back; they count in our own row
            sequence = int.from_bytes(body[2:4], "little")
            self._follow_sequence(sequence)
            self._next_sequence = (sequence + 1) & 0xFFFF
        try:
            return decode_message(body)
        except MessageError as error:
            self._count(_MESSAGE_COUNTERS[error.reason], error)
            return None

    def _follow_sequence(self, sequence: int) -> None:
        """Count what is missing before an intact frame, or that it came again.

        A frame of unknown type has its sequence like any other. A step back is a repetition, or
        the device was restarted; neither is a loss of frames.
        """
        if self._next_sequence is None:
            return
        step = (sequence - self._next_sequence) & 0xFFFF
        if step < 0x8000:
            self.counters.lost_frames += step
        else:
            self.counters.repeated_frames += 1

    def _count(self, name: str, error: Exception) -> None:
        setattr(self.counters, name, getattr(self.counters, name) + 1)
        logger.debug("dropped: %s", error)
