"""The fast kurtogram as published, written from Antoni (2007): a yardstick for ours, for tests only.

Quasi-analytic low-pass and high-pass filters of 17 taps split a band in two, three filters of 25
taps split it in three; each result is decimated and split again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import firwin

Complex = npt.NDArray[np.complexfloating[Any, Any]]


def fast_kurtogram(x: npt.NDArray[np.float64], levels: int) -> dict[int, npt.NDArray[np.float64]]:
    """Kurtosis of the bands, lowest first, by number of bands: 2, 3, 4, 6 ... 2 ** levels."""
    taps = np.arange(17)
    low = firwin(17, 0.4) * np.exp(2j * np.pi * taps / 8)
    turned = 1 - np.arange(2, 18)
    high = low[turned % 16] * (-1.0) ** turned
    taps = np.arange(25)
    third = firwin(25, 0.4 * 2 / 3) * np.exp(2j * np.pi * taps / 12)
    thirds = [third * np.exp(2j * np.pi * taps * k / 6) for k in range(3)]
    bands: list[Complex] = [(x - x.mean()).astype(np.complex128)]
    out: dict[int, npt.NDArray[np.float64]] = {}
    for _ in range(levels):
        if len(bands) < 2 ** (levels - 1):
            parts = [_filtered(f, band)[2::3] for band in bands for f in thirds]
            out[3 * len(bands)] = np.array([_kurtosis(part[24:]) for part in parts])
        split: list[Complex] = []
        for band in bands:
            split.append(_filtered(low, band)[1::2])
            upper = _filtered(high, band)[1::2]
            split.append(upper * (-1.0) ** np.arange(1, len(upper) + 1))
        bands = split
        out[len(bands)] = np.array([_kurtosis(band[16:]) for band in bands])
    return out


def _filtered(taps: Complex, x: Complex) -> Complex:
    out: Complex = np.convolve(x, taps)[: len(x)]
    return out


def _kurtosis(envelope: Complex) -> float:
    squared = np.abs(envelope - envelope.mean()) ** 2
    return float(np.mean(squared**2) / np.mean(squared) ** 2 - 2)
