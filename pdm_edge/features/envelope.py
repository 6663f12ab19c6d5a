"""Envelope spectrum: how strongly, and how often, a resonance is struck.

A rolling-contact fault strikes once per passing ball. Each strike rings a resonance in the kHz
range; the envelope of that band repeats at the fault frequency (Randall and Antoni 2011,
*Rolling element bearing diagnostics - a tutorial*). Values are in g within a stated band; they
are not comparable with the trade-named envelope quantities of instrument makers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.spectrum import check_band_hz, transform
from pdm_edge.features.time_domain import FloatArray


def envelope_spectrum(
    x: npt.ArrayLike, sample_rate_hz: float, band_hz: tuple[float, float]
) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """RMS amplitude spectrum of the envelope of `x` within `band_hz`.

    Band-pass and Hilbert transform are one step: the kept lines of the one-sided spectrum are
    moved to zero and transformed back, which gives the analytic signal at a rate just above the
    width of the band. The Hann window is applied before that, so that the ends do not ring.

    Parameters
    ----------
    x
        Samples, shape ``(..., n_samples)``.
    sample_rate_hz
        Samples a second.
    band_hz
        Lower and upper edge of the resonance band.

    Returns
    -------
    frequencies_hz
        Shape ``(n_lines,)``, from 0 to half the width of the band.
    amplitude
        Shape ``(..., n_lines)``, RMS, in the unit of `x`; the mean of the envelope is removed.

    Raises
    ------
    ValueError
        If the band does not lie below half the sample rate.
    """
    spectrum = transform(x, sample_rate_hz)
    check_band_hz(*band_hz, sample_rate_hz, spectrum.n_samples)
    chosen = spectrum.band_slice(*band_hz)
    demodulator = Demodulator(spectrum.n_samples, spectrum.n_fft, chosen, sample_rate_hz)
    return demodulator.frequencies_hz, demodulator.amplitude(spectrum.bins)


class Demodulator:
    """The precomputed part of `envelope_spectrum` for windows of one length.

    Parameters
    ----------
    n_samples, n_fft
        Length of the window, and of the zero-padded transform.
    chosen
        Lines of the transform that make up the band.
    sample_rate_hz
        Samples a second.
    """

    def __init__(self, n_samples: int, n_fft: int, chosen: slice, sample_rate_hz: float) -> None:
        self._chosen = chosen
        n_lines = chosen.stop - chosen.start
        self._n_band = scipy.fft.next_fast_len(n_lines)
        ratio = self._n_band / n_fft
        self._rate_hz = sample_rate_hz * ratio
        self.n_valid = min(math.ceil(n_samples * ratio), self._n_band)
        positions = np.arange(self.n_valid) / (n_samples * ratio)
        window = 0.5 - 0.5 * np.cos(2.0 * np.pi * positions)
        window_sum = float(window.sum())
        # The windowed mean, to be taken off: mean * window = (sum / window_sum) * window.
        self._mean_window = (window / window_sum).astype(np.float32)
        # 2 ratio: one-sided spectrum, and the shorter inverse transform; sqrt(2): RMS of a line.
        self._scale = np.float32(2.0 * ratio * math.sqrt(2.0) / window_sum)
        self._n_out = scipy.fft.next_fast_len(self.n_valid, real=True)
        self.line_hz = self._rate_hz / self._n_out
        # Half the width of the band is the fastest modulation it can carry undistorted.
        self._n_lines = int(n_lines * sample_rate_hz / n_fft / 2 / self.line_hz) + 1
        self.frequencies_hz: npt.NDArray[np.float64] = (
            np.arange(self._n_lines, dtype=np.float64) * self.line_hz
        )

    def amplitude(self, bins: npt.NDArray[np.complexfloating[Any, Any]]) -> FloatArray:
        """Envelope spectrum, shape ``(..., n_lines)``, from the windowed signal's transform."""
        analytic = scipy.fft.ifft(bins[..., self._chosen], n=self._n_band)
        envelope = np.abs(analytic[..., : self.n_valid])
        envelope -= np.add.reduce(envelope, axis=-1, keepdims=True) * self._mean_window
        lines = np.abs(scipy.fft.rfft(envelope, n=self._n_out)[..., : self._n_lines])
        lines *= self._scale
        return lines
