"""COBS in plain Python, for machines without the C extension of the `cobs` package.

Consistent overhead byte stuffing (Cheshire and Baker, IEEE/ACM Transactions on Networking 7(2),
1999). Work is done a block at a time, not a byte at a time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

_LONGEST: Final = 254


class SlicingError(ValueError):
    """The bytes are not COBS."""


def encode(data: bytes) -> bytes:
    """Stuff bytes so that none is zero; no delimiter is added."""
    out = bytearray()
    *blocks, last = data.split(b"\x00")
    for block in blocks:
        while len(block) >= _LONGEST:
            out.append(0xFF)
            out += block[:_LONGEST]
            block = block[_LONGEST:]
        out.append(len(block) + 1)
        out += block
    while len(last) >= _LONGEST:
        out.append(0xFF)
        out += last[:_LONGEST]
        last = last[_LONGEST:]
        if not last:
            return bytes(out)  # a full block at the very end needs no block after it
    out.append(len(last) + 1)
    out += last
    return bytes(out)


def decode(encoded: bytes) -> bytes:
    """Undo `encode`.

    Every code byte stands where a zero stood before, except after a full block: so the codes are
    zeroed in place, and only where a full block ends has a byte to be cut out.

    Raises
    ------
    SlicingError
        For a zero byte, or a code that points behind the end.
    """
    if not encoded:
        return b""
    if 0 in encoded:
        raise SlicingError("zero byte")
    out, end, at = bytearray(encoded), len(encoded), 0
    cuts = [0]
    while at < end:
        code = encoded[at]
        out[at] = 0
        at += code
        if code == 0xFF:
            cuts.append(at)
    if at > end:
        raise SlicingError("code points behind the end")
    if cuts[-1] == end:
        cuts.pop()
    if len(cuts) == 1:
        return bytes(out[1:])
    cuts.append(end)
    return b"".join(out[a + 1 : b] for a, b in pairwise(cuts))
