"""The life cycle of a machine's alarm, in the words of ISA-18.2.

One high window is no alarm: N of the last M must agree (on-delay). An alarm does not flicker at
its limit: it falls only when the last M all stay below a deadband. A machine of which nothing is
heard is *unknown*, never normal.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from pdm_edge.records import AlarmState


@dataclass(frozen=True, slots=True)
class AlarmSettings:
    """When a machine's state changes.

    Parameters
    ----------
    n, m
        N of the last M judgements must be high.
    alert_at, alarm_at
        Severity (normalised score) of the two levels.
    clear_below
        Deadband: a state is left when all M judgements are below this share of its level.
    stale_after_s
        Silence after which the state is unknown.
    """

    n: int = 3
    m: int = 5
    alert_at: float = 1.0
    alarm_at: float = 2.0
    clear_below: float = 0.9
    stale_after_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise ValueError(f"alarm n={self.n} of m={self.m} makes no sense; 1 <= n <= m")
        if not 0 < self.alert_at < self.alarm_at:
            raise ValueError(
                f"alert_at {self.alert_at:g} must be above 0 and below alarm_at {self.alarm_at:g}"
            )
        if not 0 < self.clear_below <= 1:
            raise ValueError(f"clear_below {self.clear_below:g} is a share of the level, above 0, at most 1")
        if self.stale_after_s <= 0:
            raise ValueError(f"stale_after_s {self.stale_after_s:g} must be positive")


class AlarmCycle:
    """State machine of one machine. Each method returns the new state if it has changed."""

    def __init__(self, settings: AlarmSettings, *, learning: bool = False) -> None:
        self.settings = settings
        self.state: AlarmState = "learning" if learning else "unknown"
        self._recent: deque[float] = deque(maxlen=settings.m)
        self._before_silence: AlarmState | None = None
        self._told_silent = False

    def resume(self, level: Literal["alert", "alarm"], *, silent: bool) -> None:
        """Take up what stood when the last run ended: it falls by evidence only."""
        self.state = "unknown" if silent else level
        self._before_silence = level if silent else None
        self._told_silent = silent

    def observe(self, severity: float) -> AlarmState | None:
        """Judge one vector; 1.0 is the alert level. NaN is no judgement and changes nothing.

        While the baseline is being collected, only an alert or alarm changes the state.

        Raises
        ------
        ValueError
            If `severity` is negative.
        """
        if math.isnan(severity):
            return None
        if severity < 0:
            raise ValueError(f"severity is {severity!r}; it cannot be negative")
        self._recent.append(severity)
        return self._change(self._next())

    def silent(self) -> AlarmState | None:
        """Nothing has been heard for `stale_after_s`: the state is unknown until data return.

        It is told once, also of a machine that has never been heard of.
        """
        if self._told_silent:
            return None
        self._told_silent = True
        self._recent.clear()
        if self.state != "unknown":
            self._before_silence = self.state
            self.state = "unknown"
        return "unknown"

    def learning(self) -> AlarmState | None:
        """The baseline is being collected (again, after a silence)."""
        return self._change("learning")

    def learned(self) -> AlarmState | None:
        """The baseline is complete; judgements follow."""
        return self._change("normal") if self.state == "learning" else None

    def _next(self) -> AlarmState:
        s = self.settings
        if self._count(s.alarm_at) >= s.n:
            return "alarm"
        if self.state == "alarm" and not self._all_below(s.alarm_at):
            return "alarm"
        if self._count(s.alert_at) >= s.n:
            return "alert"
        if self.state in ("alert", "alarm") and not self._all_below(s.alert_at):
            return "alert"
        if self.state == "unknown":
            return self._after_silence()
        return "learning" if self.state == "learning" else "normal"

    def _after_silence(self) -> AlarmState:
        """An alarm that stood before a silence stands again until enough is heard to clear it."""
        held = self._before_silence
        if held in ("alert", "alarm"):
            return held
        return "normal" if len(self._recent) >= self.settings.n else "unknown"

    def _count(self, level: float) -> int:
        return sum(severity >= level for severity in self._recent)

    def _all_below(self, level: float) -> bool:
        deadband = self.settings.clear_below * level
        return len(self._recent) == self.settings.m and all(s < deadband for s in self._recent)

    def _change(self, new: AlarmState) -> AlarmState | None:
        if new == self.state:
            return None
        self.state = new
        self._before_silence = None
        self._told_silent = False
        return new
