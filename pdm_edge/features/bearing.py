"""Characteristic frequencies of rolling bearings.

Kinematics for a fixed outer ring and rolling without slip (Harris, *Rolling Bearing Analysis*).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LINES: Final = ("bpfo", "bpfi", "bsf", "ftf")


@dataclass(frozen=True, slots=True)
class BearingFrequencies:
    """Outer race, inner race, ball spin and cage frequency, in Hz (or in orders of 1 Hz)."""

    bpfo_hz: float
    bpfi_hz: float
    bsf_hz: float
    ftf_hz: float


@dataclass(frozen=True, slots=True)
class BearingGeometry:
    """What the fault frequencies depend on.

    Raises
    ------
    ValueError
        For fewer than 3 balls, or balls that do not fit on the pitch circle.
    """

    balls: int
    ball_diameter_mm: float
    pitch_diameter_mm: float
    contact_angle_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.balls < 3:
            raise ValueError(f"a bearing has at least 3 balls, not {self.balls}")
        if not 0 < self.ball_diameter_mm < self.pitch_diameter_mm:
            raise ValueError(
                f"ball_diameter_mm {self.ball_diameter_mm:g} must lie between 0 and "
                f"pitch_diameter_mm {self.pitch_diameter_mm:g}"
            )
        if not 0 <= self.contact_angle_deg < 90:
            raise ValueError(f"contact_angle_deg {self.contact_angle_deg:g} is not in 0 to 90")

    def frequencies(self, shaft_hz: float) -> BearingFrequencies:
        """Fault frequencies at `shaft_hz` turns of the shaft a second."""
        cosine = math.cos(math.radians(self.contact_angle_deg))
        ratio = self.ball_diameter_mm / self.pitch_diameter_mm * cosine
        ftf_hz = shaft_hz / 2 * (1 - ratio)
        return BearingFrequencies(
            bpfo_hz=self.balls * ftf_hz,
            bpfi_hz=self.balls * shaft_hz / 2 * (1 + ratio),
            bsf_hz=shaft_hz * self.pitch_diameter_mm / (2 * self.ball_diameter_mm) * (1 - ratio * ratio),
            ftf_hz=ftf_hz,
        )
