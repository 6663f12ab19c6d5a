"""From the device's tick to the gateway's clocks.

Bytes never arrive early: they are late by the time they waited in buffers. So of all offsets
between arrival and tick the smallest is the truest (the minimum filter of clock synchronisation;
Cristian 1989). It is renewed every half minute, to follow the drift between the two oscillators.
"""

from __future__ import annotations

from typing import Final

from pdm_edge.records import Stamp

_WRAP: Final = 1 << 32
_RENEW_NS: Final = 30_000_000_000
_RESTART_NS: Final = 2_000_000_000


class TickClock:
    """Maps a 32-bit tick that wraps to stamps of the gateway.

    `restarts` counts how often the device's tick did not fit any more: it was reset.
    """

    def __init__(self, tick_hz: int) -> None:
        self._tick_hz = tick_hz
        self.restarts = 0
        self._last_tick: int | None = None
        self._total = 0
        self._current: int | None = None
        self._previous: int | None = None
        self._since_ns = 0
        self._last_ns = 0

    def stamp(self, tick: int, arrival: Stamp) -> Stamp:
        """The gateway's time of `tick`, which arrived with a frame at `arrival`."""
        offset_ns = arrival.monotonic_ns - self._unwrapped_ns(tick)
        best = self._best()
        if best is not None and abs(offset_ns - best) > max(
            _RESTART_NS, arrival.monotonic_ns - self._last_ns + _RESTART_NS
        ):
            self.restarts += 1
            self._reset()
            offset_ns = arrival.monotonic_ns - self._unwrapped_ns(tick)
        self._last_ns = arrival.monotonic_ns
        if self._current is None or arrival.monotonic_ns - self._since_ns > _RENEW_NS:
            self._previous, self._current, self._since_ns = self._current, offset_ns, arrival.monotonic_ns
        self._current = smallest = min(self._current, offset_ns)
        if self._previous is not None:
            smallest = min(smallest, self._previous)
        delay_ns = offset_ns - smallest
        return arrival.earlier(max(delay_ns, 0) / 1e9)

    def _best(self) -> int | None:
        known = [x for x in (self._previous, self._current) if x is not None]
        return min(known) if known else None

    def _unwrapped_ns(self, tick: int) -> int:
        if self._last_tick is not None:
            step = (tick - self._last_tick) % _WRAP
            # A frame that was sent just before another may carry an older tick.
            self._total += step - _WRAP if step > _WRAP // 2 else step
        else:
            self._total = tick
        self._last_tick = tick
        return self._total * 1_000_000_000 // self._tick_hz

    def _reset(self) -> None:
        self._last_tick = self._current = self._previous = None
        self._total = self._since_ns = self._last_ns = 0
