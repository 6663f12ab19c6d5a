"""Where gears, blades, belts and motors show in a spectrum. All frequencies are exact kinematics."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GearMesh:
    """Lines of a pair of gears: mesh frequency, and the shafts that make sidebands around it."""

    mesh_hz: float
    input_shaft_hz: float
    output_shaft_hz: float


@dataclass(frozen=True, slots=True)
class BeltDrive:
    """Lines of a belt drive: passes of the belt itself, and the driven pulley."""

    belt_hz: float
    driven_hz: float


@dataclass(frozen=True, slots=True)
class InductionMotor:
    """Lines of an induction motor.

    ``twice_line_hz`` is where a stator or an uneven air gap shows; sidebands ``pole_pass_hz``
    around running speed point to rotor bars.
    """

    synchronous_hz: float
    slip: float
    twice_line_hz: float
    pole_pass_hz: float


def gear_mesh(input_shaft_hz: float, input_teeth: int, output_teeth: int) -> GearMesh:
    """Mesh frequency ``z f`` of a pair of gears, with both shafts.

    Raises
    ------
    ValueError
        For a speed that is not positive or fewer than 3 teeth.
    """
    _positive("input_shaft_hz", input_shaft_hz)
    for name, teeth in (("input_teeth", input_teeth), ("output_teeth", output_teeth)):
        if teeth < 3:
            raise ValueError(f"{name} is {teeth}; a gear has at least 3")
    mesh_hz = input_teeth * input_shaft_hz
    return GearMesh(mesh_hz, input_shaft_hz, mesh_hz / output_teeth)


def blade_pass(shaft_hz: float, blades: int) -> float:
    """Blade (or vane) pass frequency in Hz: blades times shaft frequency.

    Raises
    ------
    ValueError
        For a speed that is not positive, or no blades.
    """
    _positive("shaft_hz", shaft_hz)
    if blades < 1:
        raise ValueError(f"blades is {blades}; at least 1")
    return blades * shaft_hz


def belt(
    shaft_hz: float, pulley_diameter_mm: float, driven_diameter_mm: float, belt_length_mm: float
) -> BeltDrive:
    """Belt frequency ``pi D f / L`` and speed of the driven pulley, without slip.

    Diameters are pitch diameters of the driving and the driven pulley.

    Raises
    ------
    ValueError
        For a value that is not positive, or a belt shorter than both half pulleys.
    """
    _positive("shaft_hz", shaft_hz)
    _positive("pulley_diameter_mm", pulley_diameter_mm)
    _positive("driven_diameter_mm", driven_diameter_mm)
    if belt_length_mm <= math.pi * (pulley_diameter_mm + driven_diameter_mm) / 2:
        raise ValueError(f"belt_length_mm {belt_length_mm:g} does not reach around the pulleys")
    speed_mm_s = math.pi * pulley_diameter_mm * shaft_hz
    return BeltDrive(speed_mm_s / belt_length_mm, shaft_hz * pulley_diameter_mm / driven_diameter_mm)


def induction_motor(shaft_hz: float, line_hz: float, poles: int) -> InductionMotor:
    """Lines of an induction motor that turns at `shaft_hz` on a grid (or drive) of `line_hz`.

    Synchronous speed is ``2 line / poles``, pole pass frequency ``slip * synchronous * poles``,
    which is twice the slip times the line frequency.

    Raises
    ------
    ValueError
        For an odd number of poles, or a speed above synchronous speed.
    """
    _positive("shaft_hz", shaft_hz)
    _positive("line_hz", line_hz)
    if poles < 2 or poles % 2:
        raise ValueError(f"poles is {poles}; it is 2, 4, 6 ...")
    synchronous_hz = 2 * line_hz / poles
    if shaft_hz > synchronous_hz * (1 + 1e-9):
        raise ValueError(
            f"shaft_hz {shaft_hz:g} is above the synchronous {synchronous_hz:g} Hz of {poles} poles; "
            "is it a generator, or on a frequency drive?"
        )
    slip = max(1 - shaft_hz / synchronous_hz, 0.0)
    return InductionMotor(synchronous_hz, slip, 2 * line_hz, 2 * slip * line_hz)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value!r}; it must be positive")
