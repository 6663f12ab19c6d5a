"""Frames on the wire: COBS with a zero byte as delimiter, CRC-32 at the end. Pure bytes, no I/O."""

from __future__ import annotations

import zlib
from typing import Final

from cobs import cobs as _package

from firmware_bridge import slicing

# The package falls back to byte-by-byte Python where its C extension is absent; ours is quicker.
_C_EXTENSION: Final = bool(getattr(_package, "_using_extension", False))
cobs_encode = _package.encode if _C_EXTENSION else slicing.encode
cobs_decode = _package.decode if _C_EXTENSION else slicing.decode
COBS_ERRORS: Final = (_package.DecodeError, slicing.SlicingError)

DELIMITER: Final = b"\x00"
CRC_BYTES: Final = 4
CRC_RESIDUE: Final = 0x2144DF1C
"""CRC-32 of any bytes followed by their own CRC, little endian: a check without a cut."""
MAX_BODY_BYTES: Final = 4096
"""Longest body (header and payload) that a sender may put into a frame."""
MAX_ENCODED_BYTES: Final = MAX_BODY_BYTES + CRC_BYTES + (MAX_BODY_BYTES + CRC_BYTES) // 254 + 1
"""Longest frame on the wire, without its delimiter."""


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
    return bytes(cobs_encode(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))) + DELIMITER


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
        content: bytes = cobs_decode(encoded)
    except COBS_ERRORS as error:
        raise FrameError("cobs") from error
    if len(content) <= CRC_BYTES:
        raise FrameError("length")
    if zlib.crc32(content) != CRC_RESIDUE:
        raise FrameError("crc")
    if len(content) > MAX_BODY_BYTES + CRC_BYTES:
        raise FrameError("length")
    return content[:-CRC_BYTES]
