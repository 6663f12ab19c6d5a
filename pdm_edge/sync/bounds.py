"""How much a received batch may unfold to: one budget for all that is unpacked or written out of it.

Packed a thousandfold, a few kilobytes would otherwise become gigabytes: as zeros, as empty lists, or
as a long name that is repeated for each row.
"""

from __future__ import annotations

import zlib
from typing import Final

from pdm_edge.errors import SyncError

MAX_PACKED_BYTES: Final = 8_000_000
MAX_PLAIN_BYTES: Final = 64_000_000
MAX_VALUES: Final = 1_000_000
"""A value of JSON or CBOR takes one byte, as an object of Python up to a hundred."""

_LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


class Unfolding:
    """What is left of the budget of one batch."""

    def __init__(self) -> None:
        self._left = MAX_PLAIN_BYTES

    def take(self, n_bytes: int) -> None:
        """Count bytes that were made.

        Raises
        ------
        SyncError
            If there is not so much left.
        """
        self._left -= n_bytes
        if self._left < 0:
            raise SyncError(f"batch unpacks to more than {MAX_PLAIN_BYTES} bytes")

    def gunzipped(self, packed: bytes) -> bytes:
        """The content of a batch; it is counted."""
        plain = self._inflated(packed, 31, self._left)
        self.take(len(plain))
        return plain

    def inflated(self, packed: bytes, *, grows: int) -> bytes:
        """Samples or levels, which grow so many times before what is made of them is counted."""
        return self._inflated(packed, zlib.MAX_WBITS, self._left // grows)

    @staticmethod
    def _inflated(packed: bytes, wbits: int, most: int) -> bytes:
        inflater = zlib.decompressobj(wbits=wbits)
        plain = inflater.decompress(packed, max(most, 1))  # 0 would mean without bound
        if not inflater.eof:
            raise SyncError(f"batch is cut short, or unpacks to more than {MAX_PLAIN_BYTES} bytes")
        return plain


def check_values(plain: bytes) -> None:
    """Refuse JSON or CBOR of more than `MAX_VALUES` values, before any is made.

    Raises
    ------
    SyncError
        If there are more.
    """
    is_json = plain[:1] == b"{"
    n = plain.count(b",") + plain.count(b"[") + plain.count(b"{") if is_json else _cbor_heads(plain)
    if n > MAX_VALUES:
        raise SyncError(f"batch holds more than {MAX_VALUES} values")


def _cbor_heads(plain: bytes) -> int:
    """Items of CBOR, each of which begins with a head (RFC 8949, section 3); stops beyond the bound."""
    at = n = 0
    while at < len(plain) and n <= MAX_VALUES:
        major, info = plain[at] >> 5, plain[at] & 31
        size = _LENGTHS.get(info, 0)
        argument = int.from_bytes(plain[at + 1 : at + 1 + size], "big") if size else info
        at += 1 + size
        if major in (2, 3) and info != 31:  # strings of known length
            at += argument
        n += 1
    return n
