"""What to compute from each window of a sensor, and the names and units that this gives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

from pdm_edge.features.bearing import BearingGeometry
from pdm_edge.features.iso20816 import standard_band_hz
from pdm_edge.features.spectrum import PERIODS_NEEDED
from pdm_edge.records import WaveformUnit

BAND_EDGES_HZ: Final = (10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0)
"""Edges of the default bands: 1-2-5 steps, ending at the fastest frequency a sensor can tell."""

USABLE: Final = 2.56
"""Sample rate over highest usable frequency: what an anti-alias filter leaves, by convention of
vibration analysers."""

TIME_EXTRAS: Final = ("peak_to_peak", "impulse_factor", "shape_factor", "clearance_factor")
SPECTRAL_EXTRAS: Final = (
    "spectral_centroid",
    "spectral_kurtosis",
    "spectral_entropy",
    "spectral_flatness",
)
EXTRAS: Final = {
    **dict.fromkeys(TIME_EXTRAS, "1"),
    "peak_to_peak": "",
    "spectral_centroid": "hz",
    **dict.fromkeys(SPECTRAL_EXTRAS[1:], "1"),
    "displacement_rms": "um",
}
"""Features that a plan may ask for beyond the default set, with their unit ("" is the signal's)."""


def band_suffix(low_hz: float, high_hz: float) -> str:
    """A band as the names of features state it, such as ``10_1000hz`` or ``12.5_1000hz``.

    Edges are told to four digits, so that the name says the true band, and a measured sample rate
    that wanders by some millionths does not give a new one each time.
    """
    return "_".join(f"{float(f'{edge_hz:.4g}'):g}" for edge_hz in (low_hz, high_hz)) + "hz"


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """What to compute from each window of one sensor.

    Parameters
    ----------
    sample_rate_hz, n_samples
        Rate and length of every window.
    unit
        Unit of the samples: ``g`` and ``m_s2`` are acceleration (features are then in g), ``mm_s``
        is velocity.
    axes
        Names of the axes, in order.
    shaft_hz
        Rated speed; needed for the bearing lines and for the choice of the ISO band.
    bearing
        Geometry for the bearing lines, if known.
    envelope_band_hz
        Resonance band to demodulate; by default 500 Hz to 10 kHz as far as the sensor reaches.
    extras
        Names from `EXTRAS`; they follow the default features, in this order.
    more_bands_hz
        Further bands to give the RMS of, such as octave bands or bands around a gear mesh.
    orders
        Multiples of `shaft_hz` whose velocity to give, such as ``(1, 2, 3)`` for unbalance,
        misalignment and looseness.

    Raises
    ------
    ValueError
        For an unknown extra, or orders without a speed.
    """

    sample_rate_hz: float
    n_samples: int
    unit: WaveformUnit
    axes: tuple[str, ...] = ("x",)
    shaft_hz: float | None = None
    bearing: BearingGeometry | None = None
    envelope_band_hz: tuple[float, float] | None = None
    extras: tuple[str, ...] = ()
    more_bands_hz: tuple[tuple[float, float], ...] = ()
    orders: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.extras if name not in EXTRAS]
        if unknown:
            raise ValueError(f"there is no feature {unknown[0]!r}; extras are {', '.join(EXTRAS)}")
        if self.orders and self.shaft_hz is None:
            raise ValueError("orders are multiples of the shaft speed; give shaft_hz")

    @property
    def usable_hz(self) -> float:
        return self.sample_rate_hz / USABLE

    @property
    def lowest_hz(self) -> float:
        return PERIODS_NEEDED * self.sample_rate_hz / self.n_samples

    def velocity_band_hz(self) -> tuple[tuple[float, float], bool]:
        """The band graded, and whether it is the standard's whole band.

        Of a window too short, or a rate too low, to tell any part of it the band is empty:
        low is not below high, and there is no velocity feature.
        """
        low_hz, high_hz = standard_band_hz(self.shaft_hz)
        true_low, true_high = max(low_hz, self.lowest_hz), min(high_hz, self.usable_hz)
        return (true_low, true_high), (true_low, true_high) == (low_hz, high_hz)

    def bands_hz(self) -> tuple[tuple[float, float], ...]:
        """Neighbouring bands from the lowest to the highest usable frequency."""
        low_hz, high_hz = max(self.lowest_hz, BAND_EDGES_HZ[0]), self.usable_hz
        line_hz = self.sample_rate_hz / self.n_samples  # no band without a line
        lowest, highest = max(low_hz * 1.25, low_hz + line_hz), min(high_hz / 1.25, high_hz - line_hz)
        inner = [edge for edge in BAND_EDGES_HZ if lowest < edge < highest]
        edges = [low_hz, *inner, min(high_hz, BAND_EDGES_HZ[-1])]
        return tuple((a, b) for a, b in itertools.pairwise(edges) if b > a + line_hz / 2)

    def resonance_band_hz(self) -> tuple[float, float] | None:
        """The envelope band, None if the sensor is too slow for one."""
        if self.unit == "mm_s":
            return None
        if self.envelope_band_hz is not None:
            return self.envelope_band_hz
        low_hz, high_hz = max(500.0, self.lowest_hz), min(10000.0, self.usable_hz)
        return (low_hz, high_hz) if high_hz >= 2 * low_hz else None
