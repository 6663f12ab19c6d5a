"""The planned extractor: every feature of a window from one shared transform.

A plan fixes rate, length, bands and lines once; after that a window costs one real FFT, one
short inverse FFT of the kept band, and a few dot products.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.bearing import LINES, BearingGeometry, line_amplitudes
from pdm_edge.features.envelope import Demodulator
from pdm_edge.features.spectrum import G_MM_S2, PERIODS_NEEDED, Spectrum, check_band_hz, check_rate_hz, hann
from pdm_edge.features.time_domain import FloatArray, divide
from pdm_edge.records import FeatureSchema, Float32Array, WaveformUnit

BAND_EDGES_HZ: Final = (10.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 20000.0)
"""Edges of the default bands: 1-2-5 steps, ending at the fastest frequency a sensor can tell."""

USABLE: Final = 2.56
"""Sample rate over highest usable frequency: what an anti-alias filter leaves, by convention of
vibration analysers."""

VELOCITY_BAND_HZ: Final = (10.0, 1000.0)
SLOW_VELOCITY_BAND_HZ: Final = (2.0, 1000.0)
"""ISO 20816-3 bands; the second below 600 r/min."""


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
    """

    sample_rate_hz: float
    n_samples: int
    unit: WaveformUnit
    axes: tuple[str, ...] = ("x",)
    shaft_hz: float | None = None
    bearing: BearingGeometry | None = None
    envelope_band_hz: tuple[float, float] | None = None

    @property
    def usable_hz(self) -> float:
        return self.sample_rate_hz / USABLE

    @property
    def lowest_hz(self) -> float:
        return PERIODS_NEEDED * self.sample_rate_hz / self.n_samples

    def velocity_band_hz(self) -> tuple[tuple[float, float], bool]:
        """The band graded, and whether it is the standard's whole band."""
        slow = self.shaft_hz is not None and self.shaft_hz < 10.0
        low_hz, high_hz = SLOW_VELOCITY_BAND_HZ if slow else VELOCITY_BAND_HZ
        true_low, true_high = max(low_hz, self.lowest_hz), min(high_hz, self.usable_hz)
        return (true_low, true_high), (true_low, true_high) == (low_hz, high_hz)

    def bands_hz(self) -> tuple[tuple[float, float], ...]:
        """Neighbouring bands from the lowest to the highest usable frequency."""
        low_hz, high_hz = max(self.lowest_hz, BAND_EDGES_HZ[0]), self.usable_hz
        inner = [edge for edge in BAND_EDGES_HZ if low_hz * 1.25 < edge < high_hz / 1.25]
        edges = [low_hz, *inner, min(high_hz, BAND_EDGES_HZ[-1])]
        return tuple((a, b) for a, b in itertools.pairwise(edges) if b > a)

    def resonance_band_hz(self) -> tuple[float, float] | None:
        """The envelope band, None if the sensor is too slow for one."""
        if self.unit == "mm_s":
            return None
        if self.envelope_band_hz is not None:
            return self.envelope_band_hz
        low_hz, high_hz = 500.0, min(10000.0, self.usable_hz)
        return (low_hz, high_hz) if high_hz >= 2 * low_hz else None


class FeatureExtractor:
    """Turns windows into features by a plan. Not to be shared between threads.

    Raises
    ------
    ValueError
        If the plan asks for a band that its windows cannot tell.
    """

    def __init__(self, plan: FeaturePlan) -> None:
        check_rate_hz(plan.sample_rate_hz)
        if plan.n_samples < 64:
            raise ValueError(f"a window of {plan.n_samples} samples is too short for spectral features")
        self.plan = plan
        self._to_unit = np.float32(1.0 / 9.80665 if plan.unit == "m_s2" else 1.0)
        self._window = hann(plan.n_samples).astype(np.float32)
        self._n_fft = scipy.fft.next_fast_len(plan.n_samples, real=True)
        self._window_sum = float(self._window.sum(dtype=np.float64))
        self._square_sum = float(np.dot(self._window.astype(np.float64), self._window))
        probe = self._spectrum(np.zeros((1, plan.n_samples), dtype=np.float32))
        self._bands = [probe.band_slice(*band) for band in self._checked(plan.bands_hz())]
        velocity_hz, self.velocity_is_standard_band = plan.velocity_band_hz()
        self._velocity = probe.band_slice(*self._checked([velocity_hz])[0])
        scale = 1.0 if plan.unit == "mm_s" else G_MM_S2 / (2 * np.pi)
        divisor = 1.0 if plan.unit == "mm_s" else probe.frequencies_hz[self._velocity]
        self._velocity_weight = np.broadcast_to(
            (scale / divisor) ** 2, probe.frequencies_hz[self._velocity].shape
        ).astype(np.float32)
        self._demodulator: Demodulator | None = None
        resonance_hz = plan.resonance_band_hz()
        if resonance_hz is not None:
            chosen = probe.band_slice(*self._checked([resonance_hz])[0])
            self._demodulator = Demodulator(plan.n_samples, self._n_fft, chosen, plan.sample_rate_hz)
        self._lines_hz = self._bearing_lines_hz()
        self.schema = self._make_schema()

    def __call__(self, samples: Float32Array) -> Float32Array:
        """Features of one window.

        Parameters
        ----------
        samples
            Shape ``(n_axes, n_samples)``, in the plan's unit.

        Returns
        -------
        Float32Array
            Shape ``(len(schema.names),)``, axis after axis, ordered and named by `schema`.

        Raises
        ------
        ValueError
            If the shape is not the plan's.
        """
        expected = (len(self.plan.axes), self.plan.n_samples)
        if samples.shape != expected:
            raise ValueError(f"window has shape {samples.shape}, the plan says {expected}")
        centred = samples - samples.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
        if self.plan.unit == "m_s2":
            centred *= self._to_unit
        columns = self._shape_of(centred)
        spectrum = self._spectrum(centred)
        power = spectrum.power()
        columns.append(np.sqrt(power[:, self._velocity] @ self._velocity_weight))
        columns.extend(np.sqrt(power[:, band].sum(axis=-1)) for band in self._bands)
        if self._demodulator is not None:
            envelope = self._demodulator.amplitude(spectrum.bins)
            columns.append(np.sqrt(np.sum(envelope * envelope, axis=-1) / 1.5))
            for frequency_hz in self._lines_hz.values():
                columns.extend(line_amplitudes(envelope, self._demodulator.line_hz, frequency_hz))
        return np.stack(columns, axis=-1).astype(np.float32).ravel()

    def _shape_of(self, centred: Float32Array) -> list[FloatArray]:
        squares = centred * centred
        mean_square = squares.mean(axis=-1)
        rms = np.sqrt(mean_square)
        peak = np.maximum(centred.max(axis=-1), -centred.min(axis=-1))
        n_samples = centred.shape[-1]
        third = np.einsum("ij,ij->i", squares, centred) / n_samples
        fourth = np.einsum("ij,ij->i", squares, squares) / n_samples
        return [
            rms,
            peak,
            divide(peak, rms),
            divide(fourth, mean_square.astype(np.float64) ** 2),
            divide(third, mean_square.astype(np.float64) ** 1.5),
        ]

    def _spectrum(self, centred: Float32Array) -> Spectrum:
        bins = scipy.fft.rfft(centred * self._window, n=self._n_fft)
        line_hz = self.plan.sample_rate_hz / self._n_fft
        return Spectrum(bins, line_hz, self.plan.n_samples, self._n_fft, self._window_sum, self._square_sum)

    def _checked(
        self, bands: list[tuple[float, float]] | tuple[tuple[float, float], ...]
    ) -> list[tuple[float, float]]:
        for low_hz, high_hz in bands:
            check_band_hz(low_hz, high_hz, self.plan.sample_rate_hz, self.plan.n_samples)
        return list(bands)

    def _bearing_lines_hz(self) -> dict[str, float]:
        plan = self.plan
        if plan.bearing is None or plan.shaft_hz is None or self._demodulator is None:
            return {}
        frequencies = plan.bearing.frequencies(plan.shaft_hz)
        lines = {name: getattr(frequencies, f"{name}_hz") for name in LINES}
        # The rolling element strikes both races once per spin.
        lines["bsf"] *= 2
        reach_hz = self._demodulator.frequencies_hz[-1]
        closest_hz = 4 * self._demodulator.line_hz
        return {
            name: frequency_hz
            for name, frequency_hz in lines.items()
            if closest_hz < frequency_hz < reach_hz / 1.1 and math.isfinite(frequency_hz)
        }

    def _make_schema(self) -> FeatureSchema:
        unit = "mm_s" if self.plan.unit == "mm_s" else "g"
        (low_hz, high_hz), _ = self.plan.velocity_band_hz()
        pairs = [("rms", unit), ("peak", unit), ("crest_factor", "1"), ("kurtosis", "1"), ("skewness", "1")]
        pairs.append((f"velocity_rms_{low_hz:.0f}_{high_hz:.0f}hz", "mm_s"))
        pairs.extend((f"band_rms_{a:.0f}_{b:.0f}hz", unit) for a, b in self.plan.bands_hz())
        if self._demodulator is not None:
            pairs.append(("envelope_rms", unit))
            for name in self._lines_hz:
                pairs.extend([(f"envelope_{name}", unit), (f"envelope_{name}_level", "db")])
        names = tuple(f"{axis}/{name}" for axis in self.plan.axes for name, _ in pairs)
        return FeatureSchema(names, tuple(u for _ in self.plan.axes for _, u in pairs))


def windows_matrix(extractor: FeatureExtractor, samples: Float32Array) -> npt.NDArray[np.float32]:
    """Features of consecutive windows of a long record, shape ``(n_windows, n_features)``.

    `samples` has shape ``(n_axes, n_total)``; an incomplete last window is left out.
    """
    size = extractor.plan.n_samples
    count = samples.shape[-1] // size
    return np.stack([extractor(samples[:, i * size : (i + 1) * size]) for i in range(count)])
