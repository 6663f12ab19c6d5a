"""Frames on the wire: COBS with a zero byte as delimiter, CRC-32 at the end. Pure bytes, no I/O."""

from __future__ import annotations

import zlib
from typing import Final

from cobs import cobs

DELIMITER: Final = b"\x00"
CRC_BYTES: Final = 4
MAX_BODY_BYTES: Final = 4096
"""Longest body (header and payload) that a sender may put into a frame."""
MAX_ENCODED_BYTES: Final = MAX_BODY_BYTES + CRC_BYTES + (MAX_BODY_BYTES + CRC_BYTES) // 254 + 1


class FrameError(ValueError):
    """What stands between two delimiters is no frame. `reason` is ``cobs``, ``crc`` or ``length``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def encode_body(body: bytes) -> bytes:
    """Body to wire bytes, the closing delimiter included.

    Raises
    ------
    ValueError
        If the body is empty or longer than MAX_BODY_BYTES.
    """
    if not 0 < len(body) <= MAX_BODY_BYTES:
        raise ValueError(f"a body has 1 to {MAX_BODY_BYTES} bytes, not {len(body)}")
    return bytes(cobs.encode(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))) + DELIMITER


def decode_body(encoded: bytes) -> bytes:
    """What stood between two delimiters to the body it carries.

    Raises
    ------
    FrameError
        If it is not a whole, undamaged frame.
    """
    if len(encoded) > MAX_ENCODED_BYTES:
        raise FrameError("length")
    try:
        content = bytes(cobs.decode(encoded))
    except cobs.DecodeError as error:
        raise FrameError("cobs") from error
    if len(content) <= CRC_BYTES:
        raise FrameError("length")
    body = content[:-CRC_BYTES]
    if zlib.crc32(body) != int.from_bytes(content[-CRC_BYTES:], "little"):
        raise FrameError("crc")
    return body
