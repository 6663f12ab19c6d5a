"""Spectra with amplitudes that can be read off: one Hann-windowed transform serves them all.

Scaling follows Heinzel, Rüdiger and Schilling (2002), *Spectrum and spectral density estimation
by the DFT*: amplitudes are divided by the window's sum, powers by its sum of squares.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.time_domain import FloatArray, as_samples

G_MM_S2 = 9806.65
"""One standard gravity in mm/s2 (ISO 80000-3)."""

PERIODS_NEEDED = 2.0
"""A window must hold this many periods of the lowest frequency that is read from it: closer to
zero, the main lobe of the Hann window (two lines wide on each side) reaches the removed mean."""


@functools.lru_cache(maxsize=4)
def hann(n_samples: int) -> npt.NDArray[np.float64]:
    """The periodic Hann window, shape ``(n_samples,)``, read-only; the last few are kept."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_samples) / n_samples)
    window.setflags(write=False)
    return window


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Transform of the mean-free, Hann-windowed samples.

    ``bins`` has shape ``(..., n_lines)``, complex. Lines are ``line_hz`` apart. Samples are padded
    with zeros to a length that is quick to transform, which changes no amplitude and no band power.
    """

    bins: npt.NDArray[np.complexfloating[Any, Any]]
    line_hz: float
    n_samples: int
    n_fft: int
    window_sum: float
    window_square_sum: float

    @property
    def frequencies_hz(self) -> npt.NDArray[np.float64]:
        """Frequency of each line, shape ``(n_lines,)``."""
        return np.arange(self.bins.shape[-1], dtype=np.float64) * self.line_hz

    def power(self) -> FloatArray:
        """Mean-square value carried by each line, shape ``(..., n_lines)``.

        Their sum is the mean square of the windowed signal over that of the window (Parseval).
        """
        bins = self.bins
        power = bins.real * bins.real + bins.imag * bins.imag
        power *= 2.0 / (self.n_fft * self.window_square_sum)
        power[..., 0] *= 0.5
        if self.n_fft % 2 == 0:
            power[..., -1] *= 0.5
        return power

    def band_slice(self, low_hz: float, high_hz: float) -> slice:
        """The lines with ``low_hz <= f < high_hz``, so that neighbouring bands share no line."""
        first = math.ceil(low_hz / self.line_hz - 1e-9)
        last = math.ceil(high_hz / self.line_hz - 1e-9)
        return slice(max(first, 0), min(last, self.bins.shape[-1]))


def transform(x: npt.ArrayLike, sample_rate_hz: float) -> Spectrum:
    """Hann-windowed, mean-free spectrum of `x`, shape ``(..., n_samples)``.

    Raises
    ------
    ValueError
        For fewer than 8 samples or a sample rate that is not positive.
    """
    samples = as_samples(x, minimum=8)
    check_rate_hz(sample_rate_hz)
    n_samples = samples.shape[-1]
    window = hann(n_samples).astype(samples.dtype)
    n_fft = scipy.fft.next_fast_len(n_samples, real=True)
    with np.errstate(invalid="ignore", over="ignore"):
        tapered = (samples - samples.mean(axis=-1, keepdims=True)) * window
        bins = scipy.fft.rfft(tapered, n=n_fft)
    return Spectrum(
        bins=bins,
        line_hz=sample_rate_hz / n_fft,
        n_samples=n_samples,
        n_fft=n_fft,
        window_sum=float(window.sum(dtype=np.float64)),
        window_square_sum=float(np.dot(window.astype(np.float64), window)),
    )


def amplitude_spectrum(x: npt.ArrayLike, sample_rate_hz: float) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """RMS amplitude of each line: a sine of RMS R on a line reads R.

    Parameters
    ----------
    x
        Samples, shape ``(..., n_samples)``.
    sample_rate_hz
        Samples a second.

    Returns
    -------
    frequencies_hz
        Shape ``(n_lines,)``.
    amplitude
        Shape ``(..., n_lines)``, RMS, in the unit of `x`.
    """
    spectrum = transform(x, sample_rate_hz)
    amplitude = np.abs(spectrum.bins) * (math.sqrt(2.0) / spectrum.window_sum)
    amplitude[..., 0] /= math.sqrt(2.0)
    return spectrum.frequencies_hz, amplitude


def psd(
    x: npt.ArrayLike, sample_rate_hz: float, segment: int = 4096
) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """Power spectral density by Welch's method, in unit squared per Hz.

    Segments of `segment` samples (or all, if there are fewer), half overlapped, mean removed,
    Hann window, mean over segments (Welch 1967).

    Returns
    -------
    frequencies_hz
        Shape ``(n_lines,)``.
    density
        Shape ``(..., n_lines)``.
    """
    samples = as_samples(x, minimum=8)
    size = min(segment, samples.shape[-1])
    strided = np.lib.stride_tricks.sliding_window_view(samples, size, axis=-1)[..., :: max(size // 2, 1), :]
    spectrum = transform(strided, sample_rate_hz)
    return spectrum.frequencies_hz, np.mean(spectrum.power(), axis=-2) / spectrum.line_hz


def band_rms(x: npt.ArrayLike, sample_rate_hz: float, bands_hz: Sequence[tuple[float, float]]) -> FloatArray:
    """RMS of `x` in each band ``low <= f < high``, shape ``(..., n_bands)``, in the unit of `x`.

    Raises
    ------
    ValueError
        If a band does not lie below half the sample rate, or is narrower than one line.
    """
    spectrum = transform(x, sample_rate_hz)
    power = spectrum.power()
    out = np.empty((*power.shape[:-1], len(bands_hz)))
    for index, (low_hz, high_hz) in enumerate(bands_hz):
        chosen = band_lines(low_hz, high_hz, sample_rate_hz, spectrum.n_samples, spectrum.n_fft)
        out[..., index] = np.sum(power[..., chosen], axis=-1)
    return np.sqrt(out)


def velocity_rms(
    acceleration_g: npt.ArrayLike, sample_rate_hz: float, band_hz: tuple[float, float] = (10.0, 1000.0)
) -> FloatArray:
    """Broadband vibration velocity as ISO 20816-3 grades it, shape ``(...)``, RMS in mm/s.

    Integrated in the frequency domain, v = a / (2 pi f), over the lines inside `band_hz` only,
    so nothing below the band (where integration amplifies drift) takes part.

    Raises
    ------
    ValueError
        If the band reaches half the sample rate, or the window holds fewer than two periods of
        its lower edge. It is never clamped: a narrower band must be asked for by name.
    """
    low_hz, high_hz = band_hz
    spectrum = transform(acceleration_g, sample_rate_hz)
    check_band_hz(low_hz, high_hz, sample_rate_hz, spectrum.n_samples)
    chosen = spectrum.band_slice(low_hz, high_hz)
    weight = (G_MM_S2 / (2.0 * np.pi * spectrum.frequencies_hz[chosen])) ** 2
    return np.asarray(np.sqrt(spectrum.power()[..., chosen] @ weight))


def band_lines(low_hz: float, high_hz: float, sample_rate_hz: float, n_samples: int, n_fft: int) -> slice:
    """The lines ``low <= f < high`` of a transform padded to `n_fft`; see `check_band_hz`.

    Raises
    ------
    ValueError
        If the window cannot tell the band, or no line falls into it.
    """
    check_band_hz(low_hz, high_hz, sample_rate_hz, n_samples)
    line_hz = sample_rate_hz / n_fft
    chosen = slice(math.ceil(low_hz / line_hz - 1e-9), math.ceil(high_hz / line_hz - 1e-9))
    if chosen.stop <= chosen.start:
        raise ValueError(f"band {low_hz:g}-{high_hz:g} Hz holds no line; lines are {line_hz:g} Hz apart")
    return chosen


def check_rate_hz(sample_rate_hz: float) -> None:
    """Raise ValueError unless the sample rate is a positive number."""
    if not (math.isfinite(sample_rate_hz) and sample_rate_hz > 0):
        raise ValueError(f"sample_rate_hz is {sample_rate_hz!r}; it must be a positive number")


def check_band_hz(low_hz: float, high_hz: float, sample_rate_hz: float, n_samples: int) -> None:
    """Raise ValueError unless a window of `n_samples` can honestly tell this band."""
    if not 0 < low_hz < high_hz:
        raise ValueError(f"band {low_hz:g}-{high_hz:g} Hz is not a band above zero")
    if high_hz > sample_rate_hz / 2:
        raise ValueError(
            f"band {low_hz:g}-{high_hz:g} Hz needs a sample rate above {2 * high_hz:g} Hz; "
            f"it is {sample_rate_hz:g} Hz"
        )
    needed = PERIODS_NEEDED / low_hz
    if n_samples / sample_rate_hz < needed * (1 - 1e-9):
        raise ValueError(
            f"band {low_hz:g}-{high_hz:g} Hz needs a window of at least {needed:g} s; "
            f"it is {n_samples / sample_rate_hz:g} s"
        )
