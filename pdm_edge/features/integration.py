"""From acceleration to velocity and displacement, without drift.

Integration divides by frequency and so blows up whatever lies near zero; it is filtered off
before, never after. All in the frequency domain: zero phase, and no filter to settle.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.spectrum import G_MM_S2, check_band_hz, check_rate_hz, transform
from pdm_edge.features.time_domain import FloatArray, as_samples

TAPER_SHARE: Final = 0.05
"""Share of the samples at each end that is faded in and out."""

_ORDER: Final = 8
"""Of the high-pass in amplitude: a Butterworth filter of fourth order, forward and backward."""


def integrate(
    acceleration_g: npt.ArrayLike,
    sample_rate_hz: float,
    to: Literal["mm_s", "um"],
    *,
    low_hz: float = 10.0,
) -> FloatArray:
    """Vibration velocity in mm/s, or displacement in um, as a waveform.

    The mean is removed, the ends are faded (`TAPER_SHARE`; these samples are not to be measured
    on), a high-pass of zero phase with half amplitude at `low_hz` is applied, and only then the
    spectrum is divided by ``j 2 pi f``, once or twice.

    Parameters
    ----------
    acceleration_g
        Samples in g, shape ``(..., n_samples)``; m/s2 are to be divided by 9.80665 before.
    sample_rate_hz
        Samples a second.
    to
        ``"mm_s"`` for velocity, ``"um"`` for displacement.
    low_hz
        Corner of the high-pass, at least 2 Hz.

    Returns
    -------
    FloatArray
        The shape of the input.

    Raises
    ------
    ValueError
        For another `to`, a corner below 2 Hz or above half the sample rate, or a window that
        holds fewer than two of its periods.
    """
    if to not in ("mm_s", "um"):
        raise ValueError(f"to is {to!r}; it is 'mm_s' or 'um'")
    if low_hz < 2.0:
        raise ValueError(f"low_hz is {low_hz:g}; below 2 Hz integration shows drift, not vibration")
    samples = as_samples(acceleration_g, minimum=8)
    check_rate_hz(sample_rate_hz)
    n_samples = samples.shape[-1]
    check_band_hz(low_hz, sample_rate_hz / 2, sample_rate_hz, n_samples)
    # Room for the filter to ring out, so that the end does not reach round to the beginning.
    n_fft = scipy.fft.next_fast_len(n_samples + math.ceil(2 * sample_rate_hz / low_hz), real=True)
    with np.errstate(invalid="ignore", over="ignore"):
        tapered = (samples - samples.mean(axis=-1, keepdims=True)) * _taper(n_samples)
        bins = scipy.fft.rfft(tapered, n=n_fft)
    frequencies_hz = scipy.fft.rfftfreq(n_fft, 1 / sample_rate_hz)
    response = np.zeros(len(frequencies_hz), dtype=np.complex128)
    above = frequencies_hz[1:]
    response[1:] = 1 / (1 + (low_hz / above) ** _ORDER)
    omega = 2j * np.pi * above
    response[1:] *= G_MM_S2 / omega if to == "mm_s" else G_MM_S2 * 1e3 / omega**2
    return np.asarray(scipy.fft.irfft(bins * response, n=n_fft)[..., :n_samples], dtype=samples.dtype)


def displacement_rms(
    acceleration_g: npt.ArrayLike, sample_rate_hz: float, band_hz: tuple[float, float] = (10.0, 1000.0)
) -> FloatArray:
    """Broadband vibration displacement, shape ``(...)``, RMS in um; see `velocity_rms`."""
    low_hz, high_hz = band_hz
    spectrum = transform(acceleration_g, sample_rate_hz)
    check_band_hz(low_hz, high_hz, sample_rate_hz, spectrum.n_samples)
    chosen = spectrum.band_slice(low_hz, high_hz)
    weight = (G_MM_S2 * 1e3 / (2.0 * np.pi * spectrum.frequencies_hz[chosen]) ** 2) ** 2
    return np.asarray(np.sqrt(spectrum.power()[..., chosen] @ weight))


def _taper(n_samples: int) -> npt.NDArray[np.float64]:
    """Tukey window: one but for a raised cosine over `TAPER_SHARE` at each end."""
    fade = max(round(TAPER_SHARE * n_samples), 1)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)
    window = np.ones(n_samples)
    window[:fade], window[-fade:] = ramp, ramp[::-1]
    return window
