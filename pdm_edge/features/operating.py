"""In which operating state was the machine? Limits and baselines hold for steady running only.

ISO 20816-1 asks for steady operation at rated conditions; a run-up is neither learned nor judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["stopped", "transient", "running"]

STOPPED_SHARE: Final = 0.02
"""Of the rated speed; below it a shaft is called stopped."""

TRANSIENT_SHARE: Final = 0.05
"""Change of speed from one window to the next, relative, above which a window is transient."""

BIN_SHARE: Final = 0.05
"""Width of a speed bin, relative to the rated speed."""


@dataclass(frozen=True, slots=True)
class OperatingState:
    """Stopped, transient, or running; with its speed bin where the speed is known.

    ``str()`` gives ``stopped``, ``transient``, ``running`` or ``running 1480 rpm``.
    """

    kind: Kind
    bin_rpm: float | None = None

    def __str__(self) -> str:
        return self.kind if self.bin_rpm is None else f"{self.kind} {self.bin_rpm:.0f} rpm"


class OperatingTracker:
    """Tells the state of one machine, window after window.

    Without a measured speed it can tell standstill only (by `stopped_below_mm_s`), and calls
    the first window after it transient.

    Parameters
    ----------
    rated_speed_rpm
        Rated speed; bins are centred on it. Without it, they are 50 rpm wide from zero.
    stopped_below_mm_s
        Velocity RMS below which a machine without a measured speed is taken as stopped.
    """

    def __init__(
        self, *, rated_speed_rpm: float | None = None, stopped_below_mm_s: float | None = None
    ) -> None:
        self._rated_rpm = rated_speed_rpm
        self._limit_mm_s = stopped_below_mm_s
        self._last_rpm = math.nan
        self._last: Kind | None = None

    def observe(self, *, velocity_mm_s: float = math.nan, speed_rpm: float = math.nan) -> OperatingState:
        """State of the next window; what is not known is NaN."""
        state = self._state(velocity_mm_s, abs(speed_rpm))
        self._last, self._last_rpm = state.kind, abs(speed_rpm)
        return state

    def _state(self, velocity_mm_s: float, speed_rpm: float) -> OperatingState:
        if math.isnan(speed_rpm):
            if self._limit_mm_s is not None and velocity_mm_s < self._limit_mm_s:
                return OperatingState("stopped")
            return OperatingState("transient" if self._last == "stopped" else "running")
        if speed_rpm < STOPPED_SHARE * (self._rated_rpm or 50.0):
            return OperatingState("stopped")
        change = abs(speed_rpm - self._last_rpm) / speed_rpm
        if self._last == "stopped" or change > TRANSIENT_SHARE:
            return OperatingState("transient")
        return OperatingState("running", self.bin_rpm(speed_rpm))

    def bin_rpm(self, speed_rpm: float) -> float:
        """Centre of the speed bin that `speed_rpm` falls into."""
        if self._rated_rpm is None:
            return (math.floor(speed_rpm / 50.0) + 0.5) * 50.0
        width = BIN_SHARE * self._rated_rpm
        return self._rated_rpm + round((speed_rpm - self._rated_rpm) / width) * width
