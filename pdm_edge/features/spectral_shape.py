"""What a whole spectrum looks like, in one number each, and its split into octave bands.

Definitions follow Peeters (2004), *A large set of audio features*, on the power of the
Hann-windowed spectrum without its mean. The moment is named spectral kurtosis as there; the
kurtosis of a band's envelope, by which a kurtogram chooses a band, is another quantity.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.spectrum import check_rate_hz, hann, transform
from pdm_edge.features.time_domain import FloatArray, as_samples

_TINY: Final = float(np.finfo(np.float32).tiny)


def spectral_centroid(x: npt.ArrayLike, sample_rate_hz: float) -> FloatArray:
    """Mean frequency of the power, shape ``(...)``, in Hz; NaN for silence."""
    return _shape_of(x, sample_rate_hz)[..., 0]


def spectral_kurtosis(x: npt.ArrayLike, sample_rate_hz: float) -> FloatArray:
    """Fourth standardised moment of the power about its centroid, shape ``(...)``; 1.8 if flat."""
    return _shape_of(x, sample_rate_hz)[..., 1]


def spectral_entropy(x: npt.ArrayLike, sample_rate_hz: float) -> FloatArray:
    """Shannon entropy of the power over its greatest value, shape ``(...)``: 0 one line, 1 flat."""
    return _shape_of(x, sample_rate_hz)[..., 2]


def spectral_flatness(x: npt.ArrayLike, sample_rate_hz: float) -> FloatArray:
    """Geometric over arithmetic mean of the power, shape ``(...)``: 0 tones, 0.56 white noise.

    White noise gives exp(-0.577) and not 1, as each line of one window is exponentially distributed.
    """
    return _shape_of(x, sample_rate_hz)[..., 3]


def shape_columns(
    power: FloatArray, frequencies_hz: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """Centroid, kurtosis, entropy and flatness of `power`, shape ``(..., n_lines)`` to ``(..., 4)``."""
    total = power.sum(axis=-1, dtype=np.float64)
    share = power / np.where(total > 0, total, np.nan)[..., None]
    centroid = share @ frequencies_hz
    square = np.square(frequencies_hz - centroid[..., None])
    variance = np.einsum("...i,...i->...", share, square)
    fourth = np.einsum("...i,...i->...", share, square * square)
    logarithm = np.log(np.maximum(share, _TINY))
    entropy = -np.einsum("...i,...i->...", share, logarithm) / math.log(power.shape[-1])
    flatness = np.exp(logarithm.mean(axis=-1)) * power.shape[-1]
    kurtosis = fourth / np.where(variance > 0, variance, np.nan) ** 2
    return np.stack((centroid, kurtosis, entropy, flatness), axis=-1).astype(np.float64)


def octave_bands_hz(low_hz: float, high_hz: float, fraction: int = 1) -> list[tuple[float, float]]:
    """Octave (`fraction` 1) or third-octave (3) bands that lie within `low_hz` to `high_hz`.

    Centres are 1000 Hz times powers of 10 ** (0.3 / fraction) (IEC 61260-1, base ten). Give them
    to `band_rms`. Edges are exact, not the rounded nominal ones.

    Raises
    ------
    ValueError
        For a fraction below 1, or limits that are not ``0 < low < high``.
    """
    if fraction < 1 or not 0 < low_hz < high_hz:
        raise ValueError(f"no octave bands of fraction {fraction} from {low_hz:g} to {high_hz:g} Hz")
    step = 10 ** (0.3 / fraction)
    # Even fractions are shifted by half a band in the standard.
    shift = 0.0 if fraction % 2 else 0.5
    first = math.floor(math.log(low_hz / 1000, step)) - 2
    last = math.ceil(math.log(high_hz / 1000, step)) + 2
    edges = [1000 * step ** (k - 0.5 + shift) for k in range(first, last + 1)]
    pairs = itertools.pairwise(edges)
    return [(a, b) for a, b in pairs if a >= low_hz * (1 - 1e-9) and b <= high_hz * (1 + 1e-9)]


def cepstrum(x: npt.ArrayLike, sample_rate_hz: float) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """Real cepstrum: families of equally spaced lines gather in one peak at their spacing.

    Inverse transform of the logarithm of the amplitude spectrum (Bogert, Healy and Tukey 1963;
    Randall, *Vibration-based Condition Monitoring*, ch. 3). Lines `f` Hz apart, such as the
    sidebands of a damaged gear, show at the quefrency 1 / `f`.

    Returns
    -------
    quefrency_s
        Shape ``(n_samples // 2,)``.
    value
        Shape ``(..., n_samples // 2)``, without unit.
    """
    samples = as_samples(x, minimum=8)
    check_rate_hz(sample_rate_hz)
    n_samples = samples.shape[-1]
    window = hann(n_samples).astype(samples.dtype)
    n_fft = scipy.fft.next_fast_len(n_samples, real=True)
    with np.errstate(invalid="ignore", over="ignore"):
        tapered = (samples - samples.mean(axis=-1, keepdims=True)) * window
        magnitude = np.abs(scipy.fft.rfft(tapered, n=n_fft))
    floor = np.maximum(magnitude.max(axis=-1, keepdims=True) * 1e-7, _TINY)
    logarithm = np.log(np.maximum(magnitude, floor))
    value = scipy.fft.irfft(logarithm, n=n_fft)[..., : n_samples // 2]
    quefrency_s = np.arange(value.shape[-1], dtype=np.float64) / sample_rate_hz
    return quefrency_s, value


def _shape_of(x: npt.ArrayLike, sample_rate_hz: float) -> npt.NDArray[np.float64]:
    spectrum = transform(x, sample_rate_hz)
    return shape_columns(spectrum.power()[..., 1:], spectrum.frequencies_hz[1:])
