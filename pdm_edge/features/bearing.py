"""Characteristic frequencies of rolling bearings.

Kinematics for a fixed outer ring and rolling without slip (Harris, *Rolling Bearing Analysis*).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LINES: Final = ("bpfo", "bpfi", "bsf", "ftf")

_ORDERS_SUM: Final = 0.03
"""How far published orders of the races may add up beside a whole number: both rounded to 0.01,
and some to spare."""

_ORDERS_ROUNDED: Final = 0.02
"""How much published orders may contradict each other by their rounding, relative."""


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


def geometry_from_orders(
    bpfo: float, bpfi: float, bsf: float | None = None, *, pitch_diameter_mm: float = 100.0
) -> BearingGeometry:
    """The geometry that has the fault frequencies which a maker publishes, in orders of the shaft.

    ``bpfo + bpfi`` is the number of rolling elements and ``(bpfi - bpfo) / (bpfi + bpfo)`` is
    ``d/D cos a``, so the two give every line but the spin of the rolling element, and that too
    where the contact angle is 0. With `bsf`, ``d/D`` and the angle come out each on its own.

    Parameters
    ----------
    bpfo, bpfi
        Passes of the outer and the inner race for each turn of the shaft.
    bsf
        Turns of a rolling element for each turn of the shaft; half the rate at which a spot on it
        strikes. Without it the contact angle is taken as 0.
    pitch_diameter_mm
        Only sets the size: frequencies do not depend on it.

    Raises
    ------
    ValueError
        If the orders do not fit each other.
    """
    if not 0 < bpfo < bpfi:
        raise ValueError(f"orders bpfo {bpfo:g} and bpfi {bpfi:g}: the outer race has the lower one")
    total = bpfo + bpfi
    if abs(total - round(total)) > _ORDERS_SUM:
        raise ValueError(
            f"orders bpfo {bpfo:g} and bpfi {bpfi:g} add up to {total:g}; together they are the number "
            "of rolling elements, so at least one of them is wrong or not an order of the shaft"
        )
    across = (bpfi - bpfo) / total
    ratio, cosine = across, 1.0
    if bsf is not None:
        ratio = (1 - across * across) / (2 * bsf) if bsf > 0 else 0.0
        cosine = across / ratio if ratio else math.inf
        if cosine > 1 + _ORDERS_ROUNDED:
            twice = "; it may be the rate of strikes, which is twice the spin" if 1.5 < cosine < 2.1 else ""
            raise ValueError(f"orders bpfo {bpfo:g}, bpfi {bpfi:g} and bsf {bsf:g} do not fit{twice}")
        if cosine > 1:  # rounded figures
            ratio, cosine = across, 1.0
    angle_deg = math.degrees(math.acos(cosine))
    return BearingGeometry(round(total), ratio * pitch_diameter_mm, pitch_diameter_mm, angle_deg)
