"""Evaluation zones for vibration measured on non-rotating parts.

Limits are the values of ISO 10816-3:2009, tables A.1 and A.2, which ISO 20816-3 carries on, for
machines above 15 kW between 120 and 30,000 r/min. Zones: A new, B unrestricted long-term
operation, C limited time, D can damage. A measured value exactly on a limit belongs to the
better zone. Nothing here is a trip: a protection system (API 670) does that.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

Zone: TypeAlias = Literal["A", "B", "C", "D"]
Support: TypeAlias = Literal["rigid", "flexible"]
ZONES: Final[tuple[Zone, ...]] = ("A", "B", "C", "D")

VELOCITY_LIMITS_MM_S: Final[dict[tuple[int, str], tuple[float, float, float]]] = {
    (1, "rigid"): (2.3, 4.5, 7.1),
    (1, "flexible"): (3.5, 7.1, 11.0),
    (2, "rigid"): (1.4, 2.8, 4.5),
    (2, "flexible"): (2.3, 4.5, 7.1),
}
"""RMS velocity limits A/B, B/C, C/D by (group, support)."""

DISPLACEMENT_LIMITS_UM: Final[dict[tuple[int, str], tuple[float, float, float]]] = {
    (1, "rigid"): (29.0, 57.0, 90.0),
    (1, "flexible"): (45.0, 90.0, 140.0),
    (2, "rigid"): (22.0, 45.0, 71.0),
    (2, "flexible"): (37.0, 71.0, 113.0),
}
"""RMS displacement limits A/B, B/C, C/D by (group, support)."""


def velocity_limits_mm_s(group: int, support: str) -> tuple[float, float, float]:
    """The limits A/B, B/C and C/D in mm/s RMS.

    Raises
    ------
    ValueError
        For a machine group or support that the standard does not name; neither is guessed.
    """
    return _limits(VELOCITY_LIMITS_MM_S, group, support)


def iso20816_zone(
    velocity_rms_mm_s: float, group: int, support: str, displacement_rms_um: float | None = None
) -> Zone:
    """Evaluation zone of a machine; the worse of the two gradings where both values are known.

    Parameters
    ----------
    velocity_rms_mm_s
        Broadband RMS velocity, 10-1000 Hz (from 2 Hz below 600 r/min).
    group
        1: above 300 kW, or electrical with shaft height from 315 mm; 2: above 15 kW to 300 kW,
        or electrical with shaft height from 160 mm.
    support
        ``"rigid"`` or ``"flexible"``, in the direction of measurement.
    displacement_rms_um
        Broadband RMS displacement, if it was measured.

    Raises
    ------
    ValueError
        For an unknown group or support, or a value that is negative or not finite.
    """
    zone = _grade(velocity_rms_mm_s, "velocity_rms_mm_s", velocity_limits_mm_s(group, support))
    if displacement_rms_um is not None:
        limits = _limits(DISPLACEMENT_LIMITS_UM, group, support)
        zone = max(zone, _grade(displacement_rms_um, "displacement_rms_um", limits), key=ZONES.index)
    return zone


def _grade(value: float, name: str, limits: tuple[float, float, float]) -> Zone:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}; a zone needs a finite value that is not negative")
    return ZONES[sum(value > limit for limit in limits)]


def _limits(
    table: dict[tuple[int, str], tuple[float, float, float]], group: int, support: str
) -> tuple[float, float, float]:
    try:
        return table[(group, support)]
    except KeyError:
        raise ValueError(
            f"no ISO 20816-3 limits for group {group!r}, support {support!r}; "
            f"group is 1 or 2, support is 'rigid' or 'flexible'"
        ) from None
