"""Why bytes hold no frame: the usual mistakes of a first implementation."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from cobs import cobs

_SHORTEST = 12


def what_is_wrong(raw: bytes) -> str:
    """The usual mistakes, tried one after another on bytes that hold no frame."""
    if b"\0" not in raw:
        return "There is no zero among them: frames must end with one. Or the baud rate is another."
    pieces = [piece for piece in raw.split(b"\0")[1:-1] if len(piece) > _SHORTEST]
    contents = []
    for piece in pieces:
        try:
            contents.append(bytes(cobs.decode(piece)))
        except cobs.DecodeError:
            continue
    if not contents:
        return "What stands between zeros is not COBS. Is the baud rate the same on both sides?"
    for text, crc in _MISTAKES.items():
        if any(crc(content[:-4]) == content[-4:] for content in contents):
            return f"They are COBS, but {text}."
    return (
        "They are COBS, but no CRC matches. The CRC of `123456789` must be 0xCBF43926, over the body "
        "before COBS."
    )


def _unreflected(body: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in body:
        crc ^= byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc ^ 0xFFFFFFFF


_MISTAKES: dict[str, Callable[[bytes], bytes]] = {
    "the bytes of the CRC are in the wrong order (they must be little endian)": lambda body: zlib.crc32(
        body
    ).to_bytes(4, "big"),
    "the final XOR of the CRC is missing": lambda body: (zlib.crc32(body) ^ 0xFFFFFFFF).to_bytes(4, "little"),
    "the CRC starts at 0 instead of 0xFFFFFFFF": lambda body: zlib.crc32(body, 0xFFFFFFFF).to_bytes(
        4, "little"
    ),
    "the CRC is not reflected (CRC-32/BZIP2)": lambda body: _unreflected(body).to_bytes(4, "little"),
    "the CRC leaves out the version byte": lambda body: zlib.crc32(body[1:]).to_bytes(4, "little"),
}
