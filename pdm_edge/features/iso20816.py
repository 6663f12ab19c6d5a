"""Evaluation zones for vibration measured on non-rotating parts.

Limits are the values of ISO 10816-3:2009, tables A.1 and A.2, which ISO 20816-3 carries on, for
machines above 15 kW between 120 and 30,000 r/min. Zones: A new, B unrestricted long-term
operation, C limited time, D can damage. A measured value exactly on a limit belongs to the
better zone. Nothing here is a trip: a protection system (API 670) does that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Zone: TypeAlias = Literal["A", "B", "C", "D"]
Support: TypeAlias = Literal["rigid", "flexible"]
ZONES: Final[tuple[Zone, ...]] = ("A", "B", "C", "D")

SLOW_SHAFT_HZ: Final = 10.0
CHANGE_SHARE: Final = 0.25

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


@dataclass(frozen=True, slots=True)
class ZoneGrade:
    """A zone with all that it rests on; ``str()`` gives it in one line.

    ``band_limited`` says that the sensor could not tell the standard's whole band. Such a zone is
    a lower bound: what lies outside the band was not measured.
    """

    zone: Zone
    velocity_rms_mm_s: float
    band_hz: tuple[float, float]
    band_limited: bool
    group: int
    support: str
    displacement_rms_um: float | None = None

    def __str__(self) -> str:
        low_hz, high_hz = self.band_hz
        text = f"zone {self.zone}: {self.velocity_rms_mm_s:.2f} mm/s RMS, {low_hz:g}-{high_hz:g} Hz"
        if self.displacement_rms_um is not None:
            text += f", {self.displacement_rms_um:.0f} um RMS"
        text += f", group {self.group} {self.support}"
        return f"{text}; band-limited, the true value may be higher" if self.band_limited else text


def iso20816_grade(
    velocity_rms_mm_s: float,
    group: int,
    support: str,
    *,
    band_hz: tuple[float, float],
    shaft_hz: float | None = None,
    displacement_rms_um: float | None = None,
) -> ZoneGrade:
    """A zone that says on which band it was graded, and whether that is the standard's.

    Parameters
    ----------
    velocity_rms_mm_s, group, support, displacement_rms_um
        As for `iso20816_zone`.
    band_hz
        The band that the velocity was really measured over.
    shaft_hz
        Running speed; below 10 Hz (600 r/min) the standard's band starts at 2 Hz, else at 10 Hz.

    Raises
    ------
    ValueError
        As `iso20816_zone`.
    """
    zone = iso20816_zone(velocity_rms_mm_s, group, support, displacement_rms_um)
    wanted_low_hz, wanted_high_hz = standard_band_hz(shaft_hz)
    limited = band_hz[0] > wanted_low_hz or band_hz[1] < wanted_high_hz
    return ZoneGrade(zone, velocity_rms_mm_s, band_hz, limited, group, support, displacement_rms_um)


def standard_band_hz(shaft_hz: float | None = None) -> tuple[float, float]:
    """The band of broadband velocity: 10-1000 Hz, from 2 Hz where the shaft is below 600 r/min."""
    return (2.0, 1000.0) if shaft_hz is not None and shaft_hz < SLOW_SHAFT_HZ else (10.0, 1000.0)


def alarm_proposal_mm_s(baseline_mm_s: float, group: int, support: str) -> float:
    """Proposed ALARM limit: the machine's own baseline plus a quarter of the limit B/C.

    Never above 1.25 times the limit B/C. There is no proposal for TRIP, which belongs to a
    protection system.

    Raises
    ------
    ValueError
        For an unknown group or support, or a baseline that is negative or not finite.
    """
    _check(baseline_mm_s, "baseline_mm_s")
    limit = velocity_limits_mm_s(group, support)[1]
    return min(baseline_mm_s + CHANGE_SHARE * limit, (1 + CHANGE_SHARE) * limit)


def significant_change(
    reference_mm_s: float, velocity_rms_mm_s: float, group: int, support: str
) -> Literal["rise", "fall"] | None:
    """Whether the velocity has changed by more than a quarter of the limit B/C (criterion II).

    A fall counts as much as a rise, and within any zone: both say that the machine has changed.

    Raises
    ------
    ValueError
        As `alarm_proposal_mm_s`.
    """
    _check(reference_mm_s, "reference_mm_s")
    _check(velocity_rms_mm_s, "velocity_rms_mm_s")
    change = velocity_rms_mm_s - reference_mm_s
    if abs(change) <= CHANGE_SHARE * velocity_limits_mm_s(group, support)[1]:
        return None
    return "rise" if change > 0 else "fall"


def _check(value: float, name: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}; it must be finite and not negative")


def _grade(value: float, name: str, limits: tuple[float, float, float]) -> Zone:
    _check(value, name)
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
