"""From the device's tick to the gateway's clocks.

Bytes never arrive early: they are late by the time they waited in buffers. So of all offsets
between arrival and tick the smallest are the truest (Cristian 1989), and where the two
oscillators drift apart, the true offset is the line just below all of them. Of the lines that lie
below, that with the least sum of distances is an edge of the lower convex hull, the one over the
mean tick (Moon, Skelly and Towsley, "Estimation and Removal of Clock Skew from Network Delay
Measurements", INFOCOM 1999).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final

from pdm_edge.records import Stamp

_WRAP: Final = 1 << 32
_SLOT_NS: Final = 500_000_000
_SLOTS: Final = 128
_FIT_FROM_NS: Final = 2_000_000_000
_DRIFT_FROM_NS: Final = 30_000_000_000
_LARGEST_DRIFT: Final = 0.05  # an RC oscillator out of its limits; beyond it is no clock
_RESTART_NS: Final = 1_000_000_000

_Point = tuple[int, int]


class TickClock:
    """Maps a 32-bit tick that wraps to stamps of the gateway.

    The best offset of each half second of the last minute is kept. Frames must come at least
    every half wrap of the tick.

    Attributes
    ----------
    restarts
        How often the device's tick did not fit any more: it was reset.
    """

    _last_tick: int | None
    _total: int
    _best: _Point | None  # the smallest offset of the slot that is being filled

    def __init__(self, tick_hz: int) -> None:
        self._tick_hz = tick_hz
        self.restarts = 0
        self._reset()

    @property
    def drift_ppm(self) -> float | None:
        """By how much the device's clock is slow (above zero) or fast, None until it is well known."""
        if not self._fitted or self._slots[-1][0] - self._slots[0][0] < _DRIFT_FROM_NS:
            return None
        return self._slope * 1e6

    def stamp(self, tick: int, arrival: Stamp) -> Stamp:
        """The gateway's time of `tick`, which arrived with a frame at `arrival`."""
        step = self._step(tick)
        device_ns = (self._total + step) * 1_000_000_000 // self._tick_hz
        offset_ns = arrival.monotonic_ns - device_ns
        if self._best is not None and (
            step * 1_000_000_000 < -_RESTART_NS * self._tick_hz
            or offset_ns < self._expected(device_ns) - _RESTART_NS
        ):
            self.restarts += 1
            self._reset()
            return self.stamp(tick, arrival)
        self._last_tick, self._total = tick, self._total + step
        self._keep(device_ns, offset_ns)
        delay_ns = offset_ns - self._expected(device_ns)
        return arrival.earlier(max(delay_ns, 0) / 1e9)

    def _reset(self) -> None:
        self._last_tick = None
        self._total = 0
        self._slots: deque[_Point] = deque(maxlen=_SLOTS)
        self._best = None
        self._slot_end_ns = 0
        self._slope = 0.0
        self._fitted = False
        self._through: _Point = (0, 0)

    def _step(self, tick: int) -> int:
        """Ticks since the last frame; a frame sent just before another may carry an older one."""
        if self._last_tick is None:
            return tick
        step = (tick - self._last_tick) % _WRAP
        return step - _WRAP if step > _WRAP // 2 else step

    def _expected(self, device_ns: int) -> int:
        at_ns, offset_ns = self._through
        return offset_ns + round(self._slope * (device_ns - at_ns))

    def _keep(self, device_ns: int, offset_ns: int) -> None:
        point = (device_ns, offset_ns)
        if self._best is None:
            self._best = self._through = point
            self._slot_end_ns = device_ns + _SLOT_NS
            return
        if device_ns >= self._slot_end_ns:
            self._slots.append(self._best)
            self._best, self._slot_end_ns = point, device_ns + _SLOT_NS
            self._fit()
        elif offset_ns < self._best[1] + round(self._slope * (device_ns - self._best[0])):
            self._best = point
        if offset_ns < self._expected(device_ns):
            self._through = point  # quicker than any before: the line goes through it from now on

    def _fit(self) -> None:
        points = list(self._slots)
        if points[-1][0] - points[0][0] < _FIT_FROM_NS:
            self._through = min(points, key=lambda point: point[1])
            return
        hull = _lower_hull(points)
        middle_ns = sum(point[0] for point in points) / len(points)
        for left, right in pairwise(hull):
            if right[0] >= middle_ns:
                slope = (right[1] - left[1]) / (right[0] - left[0])
                self._fitted = abs(slope) <= _LARGEST_DRIFT
                self._slope = slope if self._fitted else 0.0
                self._through = left
                return


def _lower_hull(points: list[_Point]) -> list[_Point]:
    """Lower convex hull of points sorted by their first coordinate (Andrew's monotone chain, 1979)."""
    hull: list[_Point] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                break
            hull.pop()
        hull.append((x, y))
    return hull
