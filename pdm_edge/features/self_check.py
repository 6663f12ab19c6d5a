"""Is it the machine that shakes, or the sensor that lies? Checked on every window.

A cable fault must never become a machine fault: what is found marks the quality of the window,
and a window of bad quality is neither learned nor judged. Lost samples between windows are not
looked for here; sources count them by their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pdm_edge.features.spectrum import G_MM_S2, Spectrum, check_rate_hz, transform
from pdm_edge.features.time_domain import FloatArray, as_samples
from pdm_edge.records import GOOD, Quality, WaveformUnit, bad, uncertain, worst

Level: TypeAlias = Literal["hint", "uncertain", "bad"]

QUIETEST_G: Final = 20e-6
"""Less RMS than this over the whole band is no accelerometer: good piezoelectric ones make some
100 ug of noise, MEMS sensors some mg."""

BIAS_G: Final = 2.0
"""Gravity and a factory offset together stay below this mean; more is a parked output."""

_CLIPPED: Final = 8.0
"""Samples at the extreme value over samples at the next value. A sine in coarse steps has at most
1 / (sqrt(2) - 1) = 2.4 (arcsine distribution), noise less than 1."""
_FEWEST_CLIPPED: Final = 8

_SKI_SLOPE_DB: Final = 9.0
"""Fall of the acceleration floor from 8-16 to 32-128 Hz. Drift and jumps fall by 14 dB (1/f2), a
healthy floor is flat; the lower quartile of the lines has a standard error of 3 dB there, and
leaves out the lines of the machine itself."""
_SKI_SHARE: Final = 12.0
"""Velocity power of 2-10 Hz over that of 10-1000 Hz: 4 for a flat floor, above 100 for drift."""
_SKI_MATTERS_MM_S: Final = 1.4
"""Drift that adds up to less than the lowest limit A/B of ISO 20816-3 spoils no grade."""

_MAINS_HZ: Final = (50.0, 60.0)
_MAINS_TOLERANCE: Final = 0.002
"""Grids keep within 0.2 Hz of 50 or 60 Hz nearly always; an induction motor under load slips by more."""
_MAINS_DB: Final = 20.0

_ALIASING_DB: Final = 3.0
"""An anti-alias filter pulls the last 5 % below half the sample rate down by more than this."""


@dataclass(frozen=True, slots=True)
class SensorFinding:
    """One doubt about one axis: what it is, the value beside its limit, and what to check."""

    what: str
    axis: str
    level: Level
    value: float
    limit: float
    check: str

    def __str__(self) -> str:
        return f"{self.axis}: {self.what} ({self.value:.3g}, limit {self.limit:.3g}): {self.check}"


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """All doubts about a window; a hint leaves its quality good."""

    findings: tuple[SensorFinding, ...] = ()

    @property
    def quality(self) -> Quality:
        marks = {"uncertain": uncertain, "bad": bad}
        return worst(GOOD, *(marks[f.level](f.what) for f in self.findings if f.level != "hint"))


def self_check(
    samples: npt.ArrayLike,
    sample_rate_hz: float,
    unit: WaveformUnit,
    *,
    axes: Sequence[str] = ("x",),
    full_scale: float | None = None,
) -> SelfCheck:
    """Look for the signs of a faulty sensor, cable or mount in one window.

    Parameters
    ----------
    samples
        Shape ``(n_axes, n_samples)``, or ``(n_samples,)`` for one axis, in `unit`.
    sample_rate_hz
        Samples a second.
    unit
        ``g``, ``m_s2`` or ``mm_s``; the checks of bias, noise and mount need an acceleration.
    axes
        Names of the axes, for the findings.
    full_scale
        Largest value that the sensor can tell, in `unit`, if it is known.

    Returns
    -------
    SelfCheck
        Findings ``nonfinite``, ``stuck``, ``open_circuit``, ``out_of_range``, ``clipped``,
        ``gap``, ``loose_mount``, ``mains`` (all of which mark the quality; small ones of the
        last two are hints) and the hint ``aliasing``.

    Raises
    ------
    ValueError
        If the shape does not fit the axes, or the sample rate is not positive.
    """
    check_rate_hz(sample_rate_hz)
    rows = np.atleast_2d(as_samples(samples, minimum=8))
    if rows.ndim != 2 or rows.shape[0] != len(axes):
        raise ValueError(f"samples have shape {rows.shape} for {len(axes)} axes")
    findings: list[SensorFinding] = []
    for axis, row in zip(axes, rows, strict=True):
        findings.extend(_check_axis(row, axis, sample_rate_hz, unit, full_scale))
    return SelfCheck(tuple(findings))


def _check_axis(
    row: FloatArray, axis: str, rate_hz: float, unit: WaveformUnit, full_scale: float | None
) -> list[SensorFinding]:
    bad_samples = int(row.size - np.count_nonzero(np.isfinite(row)))
    if bad_samples:
        text = "values that are no numbers; check the device and its scaling"
        return [SensorFinding("nonfinite", axis, "bad", bad_samples, 0, text)]
    low, high = float(row.min()), float(row.max())
    if low == high:
        text = "the value does not move at all; check sensor and cable"
        return [SensorFinding("stuck", axis, "bad", 0.0, 0.0, text)]
    to_g = {"g": 1.0, "m_s2": 1 / 9.80665, "mm_s": math.nan}[unit]
    findings = _check_parked(row, axis, to_g)
    if not findings:
        findings = [*_check_clipped(row, axis, low, high, full_scale), *_check_held(row, axis, low, high)]
        findings.extend(_check_spectrum(transform(row, rate_hz), axis, unit))
    return findings


def _check_parked(row: FloatArray, axis: str, to_g: float) -> list[SensorFinding]:
    """Open circuit and bias; NaN as `to_g` (a velocity sensor) finds nothing."""
    mean = float(row.mean(dtype=np.float64))
    moving_g = float(np.sqrt(np.mean((row - row.dtype.type(mean)) ** 2, dtype=np.float64))) * to_g
    mean_g = abs(mean) * to_g
    if mean_g > BIAS_G:
        parked = moving_g < 0.01 * mean_g
        text = "the mean is beyond gravity; check bias supply, cable and scaling"
        return [SensorFinding("out_of_range", axis, "bad" if parked else "uncertain", mean_g, BIAS_G, text)]
    if moving_g < QUIETEST_G:
        text = "quieter than any accelerometer; check the cable for an open circuit"
        return [SensorFinding("open_circuit", axis, "bad", moving_g, QUIETEST_G, text)]
    return []


def _check_clipped(
    row: FloatArray, axis: str, low: float, high: float, full_scale: float | None
) -> list[SensorFinding]:
    text = "the signal is cut off at its extremes; take a sensor of a wider range"
    worst_ratio = 0.0
    for extreme, inside in ((high, row[row < high]), (low, row[row > low])):
        at_extreme = row.size - inside.size
        if at_extreme < _FEWEST_CLIPPED:
            continue
        neighbour = inside.max() if extreme == high else inside.min()
        worst_ratio = max(worst_ratio, at_extreme / np.count_nonzero(inside == neighbour))
    if worst_ratio >= _CLIPPED:
        return [SensorFinding("clipped", axis, "uncertain", worst_ratio, _CLIPPED, text)]
    if full_scale is not None and max(-low, high) >= 0.999 * full_scale:
        return [SensorFinding("clipped", axis, "uncertain", max(-low, high), full_scale, text)]
    return []


def _check_held(row: FloatArray, axis: str, low: float, high: float) -> list[SensorFinding]:
    """A value held (or zeros filled in) for longer than chance and coarse steps explain."""
    same = row[1:] == row[:-1]
    n_same = int(np.count_nonzero(same))
    if n_same < 8:
        return []
    # Runs at the extremes are clipping.
    same &= (row[1:] != low) & (row[1:] != high)
    # The longest run of n coin throws of share p is about log(n) / log(1 / p) (Erdos and Renyi 1970).
    breaks = np.flatnonzero(~same)
    longest = int(np.diff(breaks, prepend=-1, append=same.size).max()) - 1
    others = max(n_same - longest, 1)
    expected = math.log(row.size) / math.log(row.size / others)
    limit = max(8.0, 3.0 * expected)
    if longest <= limit:
        return []
    share = longest / row.size
    text = "one value is repeated; samples were held or filled in, check the link"
    return [SensorFinding("gap", axis, "bad" if share > 0.5 else "uncertain", longest, limit, text)]


def _check_spectrum(spectrum: Spectrum, axis: str, unit: WaveformUnit) -> list[SensorFinding]:
    power = spectrum.power()
    frequencies_hz = spectrum.frequencies_hz
    velocity = power.astype(np.float64)
    if unit != "mm_s":
        velocity[1:] *= (G_MM_S2 / (2 * np.pi * frequencies_hz[1:])) ** 2
    found = [] if unit == "mm_s" else _check_mount(spectrum, power, velocity, axis)
    found = found or _check_mains(spectrum, power, velocity, axis)
    return found + _check_aliasing(spectrum, power, axis)


def _check_mount(
    spectrum: Spectrum, power: FloatArray, velocity: npt.NDArray[np.float64], axis: str
) -> list[SensorFinding]:
    """The ski slope: a floor that falls steeply from zero, as drift, jumps and rocking make it."""
    first, last = spectrum.band_slice(8.0, 16.0), spectrum.band_slice(32.0, 128.0)
    if first.stop - first.start < 6 or spectrum.frequencies_hz[-1] < 128.0:
        return []
    floors = [max(float(np.quantile(power[octave], 0.25)), 1e-30) for octave in (first, last)]
    slope_db = 10 * math.log10(floors[0] / floors[1])
    slow = float(velocity[spectrum.band_slice(2.0, 10.0)].sum())
    graded = float(velocity[spectrum.band_slice(10.0, 1000.0)].sum())
    if slope_db < _SKI_SLOPE_DB or slow < _SKI_SHARE * graded:
        return []
    text = "the spectrum slopes down from zero; check that the sensor sits tight and its cable is at rest"
    level: Level = "bad" if math.sqrt(slow + graded) > _SKI_MATTERS_MM_S else "hint"
    return [SensorFinding("loose_mount", axis, level, slope_db, _SKI_SLOPE_DB, text)]


def _check_mains(
    spectrum: Spectrum, power: FloatArray, velocity: npt.NDArray[np.float64], axis: str
) -> list[SensorFinding]:
    """Odd harmonics of exactly the grid's frequency, strong beside the fourth one."""
    if spectrum.line_hz > 2.0:
        return []  # 49.5 and 50 Hz would be one line
    for mains_hz in _MAINS_HZ:
        if 5.5 * mains_hz > spectrum.frequencies_hz[-1]:
            continue
        levels = [_line_level_db(power, spectrum.line_hz, k * mains_hz) for k in (1, 3, 5)]
        # Motors hum at twice the grid's frequency, so the fourth harmonic has to tell.
        fourth = _line_level_db(power, spectrum.line_hz, 4 * mains_hz, anywhere=True)
        weakest = min(levels)
        if weakest < _MAINS_DB or fourth > float(np.mean(levels)) - 10:
            continue
        lines = np.concatenate(
            [
                np.arange(*spectrum.band_slice(k * mains_hz - 2.5, k * mains_hz + 2.5).indices(len(power)))
                for k in (1, 3, 5)
            ]
        )
        share = float(velocity[lines].sum() / velocity[spectrum.band_slice(10.0, 1000.0)].sum())
        text = f"{mains_hz:.0f} Hz and its odd harmonics; check shield and earthing of the cable"
        return [SensorFinding("mains", axis, "bad" if share > 0.5 else "hint", weakest, _MAINS_DB, text)]
    return []


def _line_level_db(power: FloatArray, line_hz: float, frequency_hz: float, anywhere: bool = False) -> float:
    """Level above the floor around it of a line at exactly `frequency_hz`; -inf if there is none."""
    centre = round(frequency_hz / line_hz)
    first = max(centre - 2, 1)
    at = first + int(np.argmax(power[first : centre + 3]))
    a, b, c = (math.sqrt(float(p)) for p in power[at - 1 : at + 2])
    neighbour, sign = (c, 1) if c > a else (a, -1)
    # Hann window: the line lies (2r - 1) / (r + 1) lines off, r being the ratio of two neighbours.
    ratio = neighbour / b if b else 0.0
    found_hz = (at + sign * (2 * ratio - 1) / (ratio + 1)) * line_hz
    if not anywhere and abs(found_hz - frequency_hz) > _MAINS_TOLERANCE * frequency_hz:
        return -math.inf
    around = np.concatenate((power[max(at - 12, 1) : at - 3], power[at + 4 : at + 13]))
    return 10 * math.log10(max(float(power[at]), 1e-30) / max(float(np.median(around)), 1e-30))


def _check_aliasing(
    spectrum: Spectrum, power: npt.NDArray[np.floating[Any]], axis: str
) -> list[SensorFinding]:
    """A hint only: without a filter, what lies above half the sample rate is folded into the band."""
    nyquist_hz = spectrum.frequencies_hz[-1]
    below = power[spectrum.band_slice(0.6 * nyquist_hz, 0.8 * nyquist_hz)]
    edge = power[spectrum.band_slice(0.95 * nyquist_hz, nyquist_hz)]
    if below.size < 8 or edge.size < 8:
        return []
    drop_db = 10 * math.log10(max(float(below.mean()), 1e-30) / max(float(edge.mean()), 1e-30))
    if drop_db >= _ALIASING_DB:
        return []
    text = "no sign of an anti-alias filter; tones may be folded down from above half the sample rate"
    return [SensorFinding("aliasing", axis, "hint", drop_db, _ALIASING_DB, text)]
