"""Features of the waveform itself. All work on the last axis and leave their input alone.

Detectors are named after ISO 2041: peak is the true zero-to-peak value, never one derived from
the RMS. Kurtosis is Pearson's, 3 for a Gaussian signal, as vibration analysts read it.

NaN or infinity among the samples gives NaN or infinity, never a warning; integers are taken as
float64. The same holds for all features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


def as_samples(x: npt.ArrayLike, *, minimum: int = 1) -> FloatArray:
    """Return `x` as a float array with at least `minimum` samples on its last axis.

    float32 stays float32, all else becomes float64; nothing is copied without need.

    Raises
    ------
    ValueError
        If `x` is not numeric, has no axis, or has too few samples.
    """
    samples = np.asarray(x)
    if samples.dtype.kind not in "fiu":
        raise ValueError(f"samples have dtype {samples.dtype}, not a real number type")
    if samples.dtype != np.float32:
        samples = samples.astype(np.float64, copy=False)
    if samples.ndim == 0 or samples.shape[-1] < minimum:
        raise ValueError(f"samples have shape {samples.shape}; the last axis needs at least {minimum}")
    return samples


def rms(x: npt.ArrayLike) -> FloatArray:
    """Root of the mean square, shape ``(...)``, in the unit of `x`; the mean is not removed."""
    samples = as_samples(x)
    return np.asarray(np.sqrt(np.mean(samples * samples, axis=-1)))


def peak(x: npt.ArrayLike) -> FloatArray:
    """Largest absolute value, shape ``(...)``, in the unit of `x`."""
    return np.asarray(np.max(np.abs(as_samples(x)), axis=-1))


def peak_to_peak(x: npt.ArrayLike) -> FloatArray:
    """Largest minus smallest value, shape ``(...)``, in the unit of `x`."""
    return np.asarray(np.ptp(as_samples(x), axis=-1))


def crest_factor(x: npt.ArrayLike) -> FloatArray:
    """Peak over RMS, shape ``(...)``; sqrt(2) for a sine, NaN for silence."""
    return divide(peak(x), rms(x))


def impulse_factor(x: npt.ArrayLike) -> FloatArray:
    """Peak over mean absolute value, shape ``(...)``; pi / 2 for a sine, NaN for silence."""
    return divide(peak(x), np.mean(np.abs(as_samples(x)), axis=-1))


def shape_factor(x: npt.ArrayLike) -> FloatArray:
    """RMS over mean absolute value, shape ``(...)``; 1.11 for a sine, 1.25 for Gaussian noise."""
    return divide(rms(x), np.mean(np.abs(as_samples(x)), axis=-1))


def clearance_factor(x: npt.ArrayLike) -> FloatArray:
    """Peak over the squared mean root of the absolute value, shape ``(...)``; 1.72 for a sine.

    The earliest of these factors to rise with a local bearing fault, and the first to fall as it
    spreads (Lei et al. 2007).
    """
    return divide(peak(x), np.mean(np.sqrt(np.abs(as_samples(x))), axis=-1) ** 2)


def kurtosis(x: npt.ArrayLike) -> FloatArray:
    """Fourth standardised moment (Pearson), shape ``(...)``; 3 for Gaussian noise, 1.5 for a sine.

    Population moments, no bias correction. NaN where the variance is zero.
    """
    deviation, variance = _deviation(x)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = deviation * deviation
        return divide(np.mean(squares * squares, axis=-1), variance * variance)


def skewness(x: npt.ArrayLike) -> FloatArray:
    """Third standardised moment, shape ``(...)``; 0 for a symmetric signal, NaN at zero variance."""
    deviation, variance = _deviation(x)
    with np.errstate(invalid="ignore", over="ignore"):
        return divide(np.mean(deviation * deviation * deviation, axis=-1), variance**1.5)


def divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> FloatArray:
    """Quotient that is NaN, without a warning, where the denominator is zero."""
    top, bottom = np.broadcast_arrays(
        np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    )
    with np.errstate(invalid="ignore", over="ignore"):
        quotient: FloatArray = np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom != 0)
    return quotient


def _deviation(x: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    samples = as_samples(x).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        deviation = samples - np.mean(samples, axis=-1, keepdims=True)
    # A constant does not come out of the mean exactly; below rounding there is no variance.
    rounding = np.finfo(np.float64).eps * np.max(np.abs(samples), axis=-1, keepdims=True) * 8
    deviation = np.where(np.abs(deviation) <= rounding, 0.0, deviation)
    with np.errstate(over="ignore"):
        return deviation, np.asarray(np.mean(deviation * deviation, axis=-1))
