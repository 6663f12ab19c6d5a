"""Which band does a resonance ring in? The kurtogram finds it, and says how clearly.

The complex envelope of Gaussian noise has a spectral kurtosis of 0 in any band; where a resonance
is struck again and again it is high (Antoni 2006, *The spectral kurtosis*). As in the fast
kurtogram (Antoni 2007, *Fast computation of the kurtogram*), the whole range is split into 1, 2,
3, 4, 6, 8, 12 ... equal bands. Here every split is one batch of short inverse FFTs of the same
spectrum, which gives the envelopes of all its bands at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.spectrum import PERIODS_NEEDED, check_rate_hz
from pdm_edge.features.time_domain import FloatArray, as_samples

LEVELS: Final = 7
"""Binary splits; the finest has 2 ** 7 bands."""

USUAL_BAND_HZ: Final = (500.0, 10000.0)
"""Taken where no band stands out; the usual choice for bearings (third of four instrument bands)."""

_FADE: Final = 0.02
_FEWEST: Final = 64
"""Values of an envelope without which its kurtosis says nothing."""
_PARTS: Final = 8
_SURE: Final = 5.0
"""Standard errors above zero that count as standing out."""


@dataclass(frozen=True, slots=True, eq=False)
class Kurtogram:
    """Spectral kurtosis of every band of every split.

    ``splits[i]`` bands cover the range at level ``i``; ``kurtosis[i]`` has shape
    ``(splits[i],)``, ``edges_hz[i]`` has shape ``(splits[i] + 1,)``. ``band_hz`` is the band of the
    highest kurtosis, ``peak`` its value.
    """

    splits: tuple[int, ...]
    edges_hz: tuple[npt.NDArray[np.float64], ...]
    kurtosis: tuple[npt.NDArray[np.float64], ...]
    band_hz: tuple[float, float]
    peak: float


@dataclass(frozen=True, slots=True)
class BandChoice:
    """A band to demodulate, and why this one."""

    band_hz: tuple[float, float]
    kurtosis: float
    why: str


def kurtogram(x: npt.ArrayLike, sample_rate_hz: float, *, levels: int = LEVELS) -> Kurtogram:
    """Spectral kurtosis by bands, and the band where it is highest.

    Kurtosis of the complex envelope c is ``mean |c|**4 / (mean |c|**2)**2 - 2``: 0 for Gaussian
    noise, -1 for a sine. Bands of so few values that this cannot be told are left out.

    Parameters
    ----------
    x
        Samples, shape ``(n_samples,)``.
    sample_rate_hz
        Samples a second.
    levels
        Binary splits; fewer are made of a window that is too short.

    Raises
    ------
    ValueError
        For more than one axis, fewer than 128 samples, or a silent window.
    """
    bank = _Bank(x, sample_rate_hz)
    splits, edges_hz, values = [], [], []
    best, band_hz = -math.inf, (0.0, 0.0)
    for count in split_counts(levels):
        if bank.values_per_band(count) < _FEWEST:
            break
        edges = bank.edges_hz(count)
        squared = bank.squared_envelopes(count)
        kurtosis = _kurtosis(squared)
        at = int(np.argmax(kurtosis))
        if kurtosis[at] > best:
            best, band_hz = float(kurtosis[at]), (float(edges[at]), float(edges[at + 1]))
        splits.append(count)
        edges_hz.append(edges)
        values.append(kurtosis)
    return Kurtogram(tuple(splits), tuple(edges_hz), tuple(values), band_hz, best)


def choose_band(
    x: npt.ArrayLike,
    sample_rate_hz: float,
    *,
    narrowest_hz: float = 0.0,
    usable_hz: float | None = None,
    levels: int = LEVELS,
) -> BandChoice:
    """The band to demodulate: the most impulsive one that is impulsive throughout.

    A single knock (a dropped tool, a passing truck) has the highest kurtosis of all and says
    nothing of a bearing; so each candidate is cut into eight parts, and the median of their
    kurtosis has to stand out as well. Where nothing does, the usual band is taken.

    Parameters
    ----------
    x, sample_rate_hz, levels
        See `kurtogram`.
    narrowest_hz
        Least width. A band of width B carries modulation up to B / 2, so ask for four times the
        fault frequency to see two harmonics.
    usable_hz
        Highest frequency that the sensor tells; by default the sample rate over 2.56.
    """
    bank = _Bank(x, sample_rate_hz)
    highest_hz = sample_rate_hz / 2.56 if usable_hz is None else usable_hz
    found = kurtogram(x, sample_rate_hz, levels=levels)
    candidates = []
    for row, count in enumerate(found.splits):
        edges = found.edges_hz[row]
        for at, value in enumerate(found.kurtosis[row]):
            width_hz = edges[at + 1] - edges[at]
            if width_hz >= narrowest_hz and edges[at] + width_hz / 2 < highest_hz:
                candidates.append((float(value), count, at))
    knocks = 0
    for value, count, at in sorted(candidates, reverse=True):
        squared = bank.squared_envelopes(count)[at]
        limit = _SURE * 2 / math.sqrt(len(squared))
        if value < limit:
            break
        parts = squared[: len(squared) // _PARTS * _PARTS].reshape(_PARTS, -1)
        steady = float(np.median(_kurtosis(parts)))
        if steady < limit:
            knocks += 1
            continue
        edges = bank.edges_hz(count)
        # A band of the lowest split starts where the window begins to tell anything.
        lowest_hz = PERIODS_NEEDED * sample_rate_hz / np.asarray(x).shape[-1]
        band_hz = (max(float(edges[at]), lowest_hz), min(float(edges[at + 1]), sample_rate_hz / 2))
        why = f"most impulsive of {len(candidates)} bands: kurtosis {value:.2g}, {steady:.2g} throughout"
        if knocks:
            why += f"; {knocks} bands with a single knock passed over"
        return BandChoice(band_hz, value, why)
    low_hz = min(USUAL_BAND_HZ[0], highest_hz / 4)
    usual = (low_hz, min(USUAL_BAND_HZ[1], highest_hz))
    return BandChoice(usual, found.peak, "no band is impulsive throughout; the usual one is taken")


def split_counts(levels: int) -> list[int]:
    """Numbers of bands 1, 2, 3, 4, 6, 8, 12 ... 2 ** levels."""
    counts = [1]
    for level in range(1, levels + 1):
        counts.append(2**level)
        if level < levels:
            counts.append(3 * 2 ** (level - 1))
    return counts


def _kurtosis(squared: FloatArray) -> npt.NDArray[np.float64]:
    """Of complex envelopes given as squared magnitudes, along the last axis."""
    mean = (np.add.reduce(squared, axis=-1) / squared.shape[-1]).astype(np.float64)
    fourth = np.einsum("ij,ij->i", squared, squared) / squared.shape[-1]
    kurtosis = np.zeros(len(mean))  # a silent band is no more than a silent one
    np.divide(fourth, mean * mean, out=kurtosis, where=mean > 0)
    kurtosis -= 2.0
    return kurtosis


class _Bank:
    """The spectrum of one window, from which the envelopes of any split are made."""

    def __init__(self, x: npt.ArrayLike, sample_rate_hz: float) -> None:
        samples = as_samples(x, minimum=2 * _FEWEST)
        check_rate_hz(sample_rate_hz)
        if samples.ndim != 1:
            raise ValueError(f"samples have shape {samples.shape}; a kurtogram is made of one axis")
        if not np.isfinite(samples).all() or samples.min() == samples.max():
            raise ValueError("the window is silent or holds values that are no numbers")
        self._n_samples = len(samples)
        fade = max(round(_FADE * len(samples)), 4)
        ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)).astype(samples.dtype)
        # Without fading, the step from the end round to the beginning would be a knock of its own.
        tapered = samples - samples.mean()
        tapered[:fade] *= ramp
        tapered[-fade:] *= ramp[::-1]
        self._n_fft = scipy.fft.next_fast_len(len(samples), real=True)
        self._bins = scipy.fft.rfft(tapered, n=self._n_fft)
        self._half = self._n_fft // 2
        self.line_hz = sample_rate_hz / self._n_fft

    def values_per_band(self, count: int) -> int:
        return self._half // count

    def edges_hz(self, count: int) -> npt.NDArray[np.float64]:
        size = self._half // count
        return np.asarray((0.5 + size * np.arange(count + 1)) * self.line_hz, dtype=np.float64)

    def squared_envelopes(self, count: int) -> FloatArray:
        """Squared magnitude of the complex envelopes, shape ``(count, n_values)``, without the ends."""
        size = self._half // count
        blocks = self._bins[1 : 1 + size * count].reshape(count, size)
        n_out = scipy.fft.next_fast_len(size)
        envelope = scipy.fft.ifft(blocks, n=n_out, axis=-1)
        valid = math.floor(self._n_samples * n_out / self._n_fft)
        edge = math.ceil(_FADE * valid) + 2
        squared: FloatArray = np.abs(envelope[:, edge : valid - edge])
        squared *= squared
        return squared
