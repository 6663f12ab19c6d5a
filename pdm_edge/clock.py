"""Wall time, monotonic time, boot identity, and whether the wall clock can be trusted."""

from __future__ import annotations

import ctypes
import sys
import time
import uuid
from pathlib import Path

from pdm_edge.records import Stamp

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR = 5  # adjtimex(2): clock not synchronised
_CHECK_EVERY_NS = 10_000_000_000
_CLOSE_NS = 50_000
_READINGS = 3


class SystemClock:
    """The gateway's own clocks.

    The wall clock counts as trusted while the kernel says that something disciplines it
    (Linux ``adjtimex``), or if the caller states it with `trusted`. Elsewhere than on Linux it
    counts as trusted, since there is nobody to ask.
    """

    def __init__(self, *, trusted: bool | None = None) -> None:
        self._fixed = trusted
        self._checked_ns: int | None = None
        self._trusted = False
        self.boot_id = boot_id()

    def stamp(self) -> Stamp:
        """Both clocks, read within 50 us of each other unless the processor is kept busy for longer."""
        for _ in range(_READINGS):
            monotonic_ns, utc_ns = time.monotonic_ns(), time.time_ns()
            if time.monotonic_ns() - monotonic_ns < _CLOSE_NS:
                break
        return Stamp(utc_ns, monotonic_ns, self.boot_id, self._is_trusted(monotonic_ns))

    def _is_trusted(self, monotonic_ns: int) -> bool:
        if self._fixed is not None:
            return self._fixed
        if self._checked_ns is None or monotonic_ns - self._checked_ns > _CHECK_EVERY_NS:
            self._checked_ns = monotonic_ns
            self._trusted = _kernel_says_synchronised()
        return self._trusted


class FixedClock:
    """A clock that a recording sets, so that a replay gives the same records every time."""

    def __init__(self, utc_ns: int = 0, *, trusted: bool = False) -> None:
        self.utc_ns = utc_ns
        self._start_ns = utc_ns
        self._trusted = trusted

    def advance(self, seconds_s: float) -> None:
        self.utc_ns += round(seconds_s * 1e9)

    def stamp(self) -> Stamp:
        return Stamp(self.utc_ns, self.utc_ns - self._start_ns, "replay", self._trusted)


def boot_id() -> str:
    """An id of this boot of this machine: the kernel's, or one made up for this process."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid.uuid4())


def _kernel_says_synchronised() -> bool:
    if not sys.platform.startswith("linux"):
        return True
    libc = ctypes.CDLL(None, use_errno=True)
    # struct timex is 208 bytes on 64-bit and less elsewhere; modes = 0 only reads.
    state = libc.adjtimex(ctypes.create_string_buffer(512))
    return bool(0 <= state != _TIME_ERROR)
