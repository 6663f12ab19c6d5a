"""The planned extractor: every feature of a window from one shared transform.

A plan fixes rate, length, bands and lines once; after that a window costs one real FFT, one
short inverse FFT of the kept band, and a few dot products.
"""

from __future__ import annotations

import math
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.bearing import LINES
from pdm_edge.features.envelope import Demodulator
from pdm_edge.features.lines import SLIP, LinePlan
from pdm_edge.features.plan import EXTRAS, SPECTRAL_EXTRAS, TIME_EXTRAS, FeaturePlan, band_suffix
from pdm_edge.features.spectral_shape import shape_columns
from pdm_edge.features.spectrum import G_MM_S2, band_lines, check_rate_hz, hann
from pdm_edge.records import FeatureSchema, Float32Array

_SPEED_STEP: Final = 0.002
"""Change of the given speed from which bearing lines and orders are placed anew: a tenth of the
window in which they are looked for."""

_CACHED_BYTES: Final = 128 * 1024
"""Windows up to this size go through each step with all axes together, which saves calls; larger
ones axis by axis, so that the intermediate arrays of a step stay in the cache for the next."""

Columns: TypeAlias = list[npt.NDArray[np.floating[Any]]]


class FeatureExtractor:
    """Turns windows into features by a plan. Not to be shared between threads.

    Results agree with the plain functions on the mean-free window within 2e-4 of each value: the
    arithmetic is float32, with rounding errors of 6e-8 that add up over some thousand steps.

    Attributes
    ----------
    keeps_lines
        Whether ``lines`` keeps what was computed of the latest window on the way: for each group of axes
        the squared magnitude of the transform, shape ``(n, n_lines)``, and the envelope spectrum.
    line_hz, envelope_line_hz
        Distance of those lines; None where there is no envelope.
    amplitude_scale
        From the magnitude of a line to the RMS amplitude of a sine on it, in g or mm/s.

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
        self._to_unit = np.float32(1.0 / 9.80665)
        window = hann(plan.n_samples)
        self._window = window.astype(np.float32)
        self._n_fft = scipy.fft.next_fast_len(plan.n_samples, real=True)
        self.line_hz = plan.sample_rate_hz / self._n_fft
        # One-sided power of a line that is neither the mean nor half the sample rate.
        self._power_scale = 2.0 / (self._n_fft * float(np.dot(window, window)))
        bands = [self._lines_of(band) for band in (*plan.bands_hz(), *plan.more_bands_hz)]
        self._band_edges = np.array([[b.start, b.stop] for b in bands], dtype=np.intp).ravel()
        self._n_default_bands = len(plan.bands_hz())
        velocity_hz, self.velocity_is_standard_band = plan.velocity_band_hz()
        self._has_velocity = velocity_hz[0] < velocity_hz[1] - self.line_hz
        self._velocity = self._lines_of(velocity_hz) if self._has_velocity else slice(1, 1)
        self._velocity_weight = self._velocity_weights(self._velocity)
        self._demodulator: Demodulator | None = None
        resonance_hz = plan.resonance_band_hz()
        if resonance_hz is not None:
            chosen = self._lines_of(resonance_hz)
            self._demodulator = Demodulator(plan.n_samples, self._n_fft, chosen, plan.sample_rate_hz)
        self.amplitude_scale = math.sqrt(2.0) / float(window.sum())
        self.keeps_lines = False
        self.lines: list[tuple[Float32Array, Float32Array | None]] = []
        self._line_names = self._bearing_lines()
        self._frequencies_hz = self.line_hz * np.arange(1, self._n_fft // 2 + 1, dtype=np.float64)
        self._shaft_hz = plan.shaft_hz
        self._place_lines()
        self.schema = self._make_schema()

    def __call__(self, samples: npt.ArrayLike, shaft_hz: float | None = None) -> Float32Array:
        """Features of one window.

        Parameters
        ----------
        samples
            Shape ``(n_axes, n_samples)``, in the plan's unit. A window that holds NaN or infinity
            has features that are NaN.
        shaft_hz
            Speed measured during this window, if one was; bearing lines and orders are then
            looked for at this speed instead of the plan's.

        Returns
        -------
        Float32Array
            Shape ``(len(schema.names),)``, axis after axis, ordered and named by `schema`.

        Raises
        ------
        ValueError
            If the shape is not the plan's.
        """
        x = np.asarray(samples, dtype=np.float32)
        expected = (len(self.plan.axes), self.plan.n_samples)
        if x.shape != expected:
            raise ValueError(f"window has shape {x.shape}, the plan says {expected}")
        wanted_hz = shaft_hz or self.plan.shaft_hz
        if wanted_hz and self._shaft_hz and abs(wanted_hz / self._shaft_hz - 1) > _SPEED_STEP:
            self._shaft_hz = wanted_hz
            self._place_lines()
        self.lines = []
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            if x.nbytes <= _CACHED_BYTES:
                together: Float32Array = np.array(self._columns(x), dtype=np.float32).T.ravel()
                return together
            rows: list[Float32Array] = [
                np.array(self._columns(x[i : i + 1]), dtype=np.float32).ravel() for i in range(len(x))
            ]
            return np.concatenate(rows)

    @property
    def envelope_line_hz(self) -> float | None:
        return None if self._demodulator is None else self._demodulator.line_hz

    def _columns(self, x: Float32Array) -> Columns:
        # The bare reductions: on a short window, half the time of a method goes into its wrapper.
        centred = x - np.add.reduce(x, axis=-1, keepdims=True) * np.float32(1 / x.shape[-1])
        if self.plan.unit == "m_s2":
            centred *= self._to_unit
        columns, extra = self._of_waveform(centred)
        bins = scipy.fft.rfft(centred * self._window, n=self._n_fft)
        power = np.abs(bins)
        power *= power
        if self._has_velocity:
            columns.append(np.sqrt(power[:, self._velocity] @ self._velocity_weight))
        envelope: Float32Array | None = None
        bands = np.empty((len(x), 0), dtype=np.float32)
        if len(self._band_edges):
            lines = power
            if self._band_edges.max() == power.shape[1]:  # a band up to the last line has no line after it
                lines = np.pad(power, ((0, 0), (0, 1)))
            sums = np.add.reduceat(lines, self._band_edges, axis=-1)[:, ::2]
            bands = np.sqrt(sums * np.float32(self._power_scale))
        columns.extend(bands.T[: self._n_default_bands])
        if self._demodulator is not None:
            envelope = self._demodulator.amplitude(bins)
            # 1.5 lines is the equivalent noise bandwidth of the Hann window.
            columns.append(np.sqrt(np.einsum("ij,ij->i", envelope, envelope) / 1.5))
            if self._line_names:
                for amplitude, level_db in zip(
                    *(part.T for part in self._lines.measure(envelope)), strict=True
                ):
                    columns.extend((amplitude, level_db))
        if self.keeps_lines:
            self.lines.append((power, envelope))
        if self.plan.extras:
            columns.extend(self._extras(extra, power))
        columns.extend(bands.T[self._n_default_bands :])
        columns.extend(np.sqrt(power[:, chosen] @ weight) for chosen, weight in self._orders)
        return columns

    def _of_waveform(self, centred: Float32Array) -> tuple[Columns, dict[str, npt.NDArray[np.float64]]]:
        n_samples = centred.shape[-1]
        squares = centred * centred
        high, low = np.maximum.reduce(centred, axis=-1), np.minimum.reduce(centred, axis=-1)
        mean_square = np.add.reduce(squares, axis=-1) / n_samples
        third = np.einsum("ij,ij->i", squares, centred) / n_samples
        fourth = np.einsum("ij,ij->i", squares, squares) / n_samples
        peak = np.maximum(high, -low)
        rms = np.sqrt(mean_square)
        # Silence has no shape: 0 / 0 is NaN (the caller has silenced the warning).
        columns: Columns = [
            rms,
            peak,
            peak / rms,
            fourth / (mean_square * mean_square),
            third / (mean_square * rms),
        ]
        if not any(name in TIME_EXTRAS for name in self.plan.extras):
            return columns, {}
        absolute = np.abs(centred)
        mean = absolute.mean(axis=-1, dtype=np.float64)
        root = np.square(np.sqrt(absolute).mean(axis=-1, dtype=np.float64))
        extra = (high - low, peak / mean, rms / mean, peak / root)
        return columns, dict(zip(TIME_EXTRAS, extra, strict=True))

    def _extras(self, of_waveform: dict[str, npt.NDArray[np.float64]], power: Float32Array) -> Columns:
        values = dict(of_waveform)
        if any(name in SPECTRAL_EXTRAS for name in self.plan.extras):
            lines = power[:, 1:].astype(np.float64)
            if self._n_fft % 2 == 0:
                lines[:, -1] *= 0.5
            shape = shape_columns(lines, self._frequencies_hz[: lines.shape[-1]])
            values.update(zip(SPECTRAL_EXTRAS, shape.T, strict=True))
        if "displacement_rms" in self.plan.extras:
            omega = 2 * np.pi * self.line_hz * np.arange(self._velocity.start, self._velocity.stop)
            weight = self._velocity_weight * 1e6 / np.square(omega)  # mm/s to um
            values["displacement_rms"] = np.sqrt(power[:, self._velocity] @ weight)
        return [values[name] for name in self.plan.extras]

    def _lines_of(self, band_hz: tuple[float, float]) -> slice:
        return band_lines(*band_hz, self.plan.sample_rate_hz, self.plan.n_samples, self._n_fft)

    def _velocity_weights(self, chosen: slice) -> Float32Array:
        """Factor from the squared magnitude of a line to its mean-square velocity."""
        frequencies_hz = self.line_hz * np.arange(chosen.start, chosen.stop)
        if self.plan.unit == "mm_s":
            return np.full(len(frequencies_hz), self._power_scale, dtype=np.float32)
        return (self._power_scale * np.square(G_MM_S2 / (2 * np.pi * frequencies_hz))).astype(np.float32)

    def _bearing_lines(self) -> dict[str, float]:
        """Lines that the envelope spectrum can show, as multiples of the shaft speed."""
        plan = self.plan
        if plan.bearing is None or plan.shaft_hz is None or self._demodulator is None:
            return {}
        orders = {name: getattr(plan.bearing.frequencies(1.0), f"{name}_hz") for name in LINES}
        # The rolling element strikes both races once per spin.
        orders["bsf"] *= 2
        reach_hz = self._demodulator.frequencies_hz[-1]
        closest_hz = 4 * self._demodulator.line_hz
        return {
            name: order
            for name, order in orders.items()
            if closest_hz < order * plan.shaft_hz < reach_hz / 1.1
        }

    def _place_lines(self) -> None:
        """Where to look for everything that turns with the shaft."""
        shaft_hz = self._shaft_hz or 0.0
        if self._demodulator is not None and self._line_names:
            placed_hz = [order * shaft_hz for order in self._line_names.values()]
            n_lines = len(self._demodulator.frequencies_hz)
            self._lines = LinePlan(n_lines, self._demodulator.line_hz, placed_hz)
        self._orders: list[tuple[slice, Float32Array]] = []
        for order in self.plan.orders:
            # The main lobe of the Hann window is two lines wide on each side.
            half_hz = SLIP * order * shaft_hz + 2 * self.plan.sample_rate_hz / self.plan.n_samples
            first = max(math.floor((order * shaft_hz - half_hz) / self.line_hz), 1)
            last = min(math.ceil((order * shaft_hz + half_hz) / self.line_hz), self._n_fft // 2)
            chosen = slice(first, max(last, first) + 1)
            self._orders.append((chosen, self._velocity_weights(chosen)))

    def _make_schema(self) -> FeatureSchema:
        plan = self.plan
        unit = "mm_s" if plan.unit == "mm_s" else "g"
        (low_hz, high_hz), _ = plan.velocity_band_hz()
        pairs = [("rms", unit), ("peak", unit), ("crest_factor", "1"), ("kurtosis", "1"), ("skewness", "1")]
        if self._has_velocity:
            pairs.append((f"velocity_rms_{band_suffix(low_hz, high_hz)}", "mm_s"))
        pairs.extend((f"band_rms_{band_suffix(*band)}", unit) for band in plan.bands_hz())
        if self._demodulator is not None:
            pairs.append(("envelope_rms", unit))
            for name in self._line_names:
                pairs.extend([(f"envelope_{name}", unit), (f"envelope_{name}_level", "db")])
        pairs.extend((name, EXTRAS[name] or unit) for name in plan.extras)
        pairs.extend((f"band_rms_{band_suffix(*band)}", unit) for band in plan.more_bands_hz)
        pairs.extend((f"velocity_order_{order}x", "mm_s") for order in plan.orders)
        names = tuple(f"{axis}/{name}" for axis in plan.axes for name, _ in pairs)
        return FeatureSchema(names, tuple(u for _ in plan.axes for _, u in pairs))


def windows_matrix(extractor: FeatureExtractor, samples: Float32Array) -> npt.NDArray[np.float32]:
    """Features of consecutive windows of a long record, shape ``(n_windows, n_features)``.

    `samples` has shape ``(n_axes, n_total)``; an incomplete last window is left out.
    """
    size = extractor.plan.n_samples
    count = samples.shape[-1] // size
    return np.stack([extractor(samples[:, i * size : (i + 1) * size]) for i in range(count)])
