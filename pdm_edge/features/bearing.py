"""Characteristic frequencies of rolling bearings, and their lines in an envelope spectrum.

Kinematics for a fixed outer ring and rolling without slip (Harris, *Rolling Bearing Analysis*);
real bearings slip by 1 to 2 %, so lines are searched in a window around the nominal value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pdm_edge.features.time_domain import FloatArray

SLIP: Final = 0.02
"""Half width of the search window around a nominal line, relative."""

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


CATALOGUE: Final[dict[str, BearingGeometry]] = {
    # Case Western Reserve University bearing data centre, drive end and fan end bearing.
    "6205": BearingGeometry(9, 7.940, 39.040),
    "6203": BearingGeometry(8, 6.746, 28.499),
}


def line_amplitudes(
    amplitude: npt.ArrayLike,
    line_hz: float,
    frequency_hz: float,
    *,
    harmonics: int = 3,
    slip: float = SLIP,
) -> tuple[FloatArray, FloatArray]:
    """Strength of a line and its harmonics in an envelope spectrum.

    Parameters
    ----------
    amplitude
        RMS amplitudes, shape ``(..., n_lines)``.
    line_hz
        Spacing of the lines.
    frequency_hz
        Nominal frequency of the fault.
    harmonics
        How many multiples to add; those beyond the spectrum are left out.
    slip
        Half width of the search window, relative to the frequency.

    Returns
    -------
    amplitude
        Root of the summed squares over the harmonics, shape ``(...)``; NaN if the spectrum does
        not reach `frequency_hz`.
    level_db
        Mean level of the harmonics above their local noise floor, shape ``(...)``, in dB. The
        floor is the median of the lines within 20 % of the harmonic and outside its window.
    """
    spectrum = np.asarray(amplitude)
    squares, levels = [], []
    for order in range(1, harmonics + 1):
        window = line_window(spectrum.shape[-1], line_hz, order * frequency_hz, slip)
        if window is None:
            break
        inner, outer = window
        strongest = spectrum[..., inner].max(axis=-1)
        neighbours = np.concatenate(
            (spectrum[..., outer.start : inner.start], spectrum[..., inner.stop : outer.stop]), axis=-1
        )
        floor = np.median(neighbours, axis=-1)
        squares.append(strongest * strongest)
        tiny = np.finfo(np.float32).tiny
        levels.append(20 * np.log10(np.maximum(strongest, tiny) / np.maximum(floor, tiny)))
    if not squares:
        nothing = np.full(spectrum.shape[:-1], np.nan)
        return nothing, nothing.copy()
    return np.sqrt(np.sum(squares, axis=0)), np.mean(levels, axis=0)


def line_window(
    n_lines: int, line_hz: float, frequency_hz: float, slip: float = SLIP
) -> tuple[slice, slice] | None:
    """The lines in which to look for `frequency_hz`, and the wider span that holds its noise floor.

    Both are at least as wide as the main lobe of the Hann window. None if the spectrum ends
    before, or if the frequency is too close to zero to be told from the mean.
    """
    centre = frequency_hz / line_hz
    half = max(slip * centre, 1.0)
    lowest, highest = math.floor(centre - half), math.ceil(centre + half)
    if lowest < 2 or highest >= n_lines:
        return None
    wide = max(0.2 * centre, half + 8)
    return (
        slice(lowest, highest + 1),
        slice(max(math.floor(centre - wide), 2), min(math.ceil(centre + wide) + 1, n_lines)),
    )
