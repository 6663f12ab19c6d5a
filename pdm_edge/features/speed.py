"""Speed: from a tachometer or out of the spectrum, and vibration by angle instead of time.

By angle, lines that turn with the shaft stay sharp while the speed varies, and the average over
many turns leaves only what repeats with each turn (McFadden 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from pdm_edge.features.spectrum import amplitude_spectrum, check_rate_hz
from pdm_edge.features.time_domain import FloatArray, as_samples

SAMPLES_PER_TURN: Final = 256

_HARMONICS: Final = 5
_LEVEL_CAP_DB: Final = 30.0
"""One very strong line must not outvote a family."""
_STANDS_OUT_DB: Final = 6.0
"""What noise reaches: half of its lines are above their median, one in 16 by 6 dB."""
_AS_GOOD: Final = 0.85
"""Of equally good families the lowest is the shaft: its harmonics make families of their own."""


@dataclass(frozen=True, slots=True)
class SpeedEstimate:
    """Running speed read from the lines of a spectrum.

    ``confidence`` is 0 to 1: how far the family of ``speed_hz`` stands above the next one that is
    neither a multiple nor a fraction of it, times the share of its harmonics that were found.
    Below 0.3, do not rely on it.
    """

    speed_hz: float
    confidence: float
    harmonics: int


def tacho_pulses(
    signal: npt.ArrayLike, sample_rate_hz: float, *, threshold: float | None = None, hysteresis: float = 0.2
) -> npt.NDArray[np.float64]:
    """Times in s of the rising edges of a tachometer or key phasor signal, shape ``(n_pulses,)``.

    Edges are placed between samples by linear interpolation.

    Parameters
    ----------
    signal
        Shape ``(n_samples,)``.
    sample_rate_hz
        Samples a second.
    threshold
        Level of an edge; by default half-way between the 1st and the 99th percentile.
    hysteresis
        Share of the swing that the signal has to fall below the threshold before the next edge.

    Raises
    ------
    ValueError
        If the signal does not swing.
    """
    samples = as_samples(signal, minimum=8).astype(np.float64)
    check_rate_hz(sample_rate_hz)
    if samples.ndim != 1:
        raise ValueError(f"signal has shape {samples.shape}; a tachometer has one channel")
    low, high = np.quantile(samples, (0.01, 0.99))
    if not high > low:
        low, high = samples.min(), samples.max()
    if not (np.isfinite(samples).all() and high > low):
        raise ValueError("the tachometer signal does not swing; check sensor and cable")
    level = (low + high) / 2 if threshold is None else threshold
    state = np.zeros(len(samples), dtype=np.int8)
    state[samples >= level] = 1
    state[samples < level - hysteresis * (high - low)] = -1
    known = np.flatnonzero(state)
    edges = known[1:][(state[known[1:]] == 1) & (state[known[:-1]] == -1)]
    before, after = samples[edges - 1], samples[edges]
    times: npt.NDArray[np.float64] = (edges - 1 + (level - before) / (after - before)) / sample_rate_hz
    return times


def order_resample(
    x: npt.ArrayLike,
    sample_rate_hz: float,
    pulses_s: npt.ArrayLike,
    *,
    pulses_per_turn: int = 1,
    samples_per_turn: int = SAMPLES_PER_TURN,
) -> FloatArray:
    """Samples at equal angles of the shaft: `samples_per_turn` of them a turn.

    Between pulses the angle follows a cubic spline. Orders above half of `samples_per_turn` are
    filtered off, so they do not fold down. Feed the result to `amplitude_spectrum` with
    `samples_per_turn` as the rate and read orders instead of Hz.

    Parameters
    ----------
    x
        Samples at equal times, shape ``(..., n_samples)``.
    sample_rate_hz
        Samples a second.
    pulses_s
        Times of the pulses since the first sample, rising.
    pulses_per_turn
        Pulses that the tachometer gives per turn of the shaft.
    samples_per_turn
        Samples a turn of the result.

    Returns
    -------
    FloatArray
        Shape ``(..., n_turns * samples_per_turn)``, whole turns from the first pulse on.

    Raises
    ------
    ValueError
        For times that do not rise, or less than one whole turn within the samples.
    """
    from scipy.interpolate import CubicSpline, PchipInterpolator

    samples = as_samples(x, minimum=8)
    check_rate_hz(sample_rate_hz)
    times = np.asarray(pulses_s, dtype=np.float64)
    if times.ndim != 1 or not (np.diff(times) > 0).all():
        raise ValueError("pulses_s must be a rising sequence of times in s")
    end_s = (samples.shape[-1] - 1) / sample_rate_hz
    times = times[(times >= 0) & (times <= end_s)]
    n_turns = (len(times) - 1) // pulses_per_turn
    if n_turns < 1:
        raise ValueError(f"{len(times)} pulses within the samples make no whole turn")
    times = times[: n_turns * pulses_per_turn + 1]
    # Fine enough for the slowest turn, so that nothing folds down before the filter.
    slowest_s = float(np.diff(times[::pulses_per_turn]).max())
    oversampling = max(math.ceil(2 * sample_rate_hz * slowest_s / samples_per_turn), 1)
    n_out = n_turns * samples_per_turn
    turns = np.arange(n_out * oversampling) / (samples_per_turn * oversampling)
    knots = np.arange(len(times)) / pulses_per_turn
    at_s = CubicSpline(knots, times)(turns) if len(times) > 3 else np.interp(turns, knots, times)
    if not (np.diff(at_s) > 0).all():
        at_s = PchipInterpolator(knots, times)(turns)  # a missed pulse makes the spline swing back
    spline = CubicSpline(np.arange(samples.shape[-1]) / sample_rate_hz, samples, axis=-1)
    by_angle = np.asarray(spline(at_s), dtype=np.float64)
    if oversampling == 1:
        return by_angle
    bins = scipy.fft.rfft(by_angle)[..., : n_out // 2 + 1]
    bins[..., -1] = bins[..., -1].real
    return np.asarray(scipy.fft.irfft(bins, n=n_out) / oversampling)


def time_synchronous_average(
    x: npt.ArrayLike,
    sample_rate_hz: float,
    pulses_s: npt.ArrayLike,
    *,
    pulses_per_turn: int = 1,
    samples_per_turn: int = SAMPLES_PER_TURN,
) -> tuple[FloatArray, int]:
    """Mean over all whole turns, shape ``(..., samples_per_turn)``, and the number of turns.

    What does not repeat with the shaft falls by the root of the number of turns. Parameters and
    errors are those of `order_resample`.
    """
    by_angle = order_resample(
        x,
        sample_rate_hz,
        pulses_s,
        pulses_per_turn=pulses_per_turn,
        samples_per_turn=samples_per_turn,
    )
    turns = by_angle.reshape(*by_angle.shape[:-1], -1, samples_per_turn)
    return np.asarray(turns.mean(axis=-2)), int(turns.shape[-2])


def estimate_speed(
    x: npt.ArrayLike, sample_rate_hz: float, range_hz: tuple[float, float] = (5.0, 65.0)
) -> SpeedEstimate:
    """Running speed from the family of lines that a shaft makes, without a tachometer.

    Each candidate is valued by the mean level of its first five multiples above the local floor.
    A narrow `range_hz` (rated speed, and what slip and drive allow) makes the answer sure; over a
    wide one a gear or a bearing can win.

    Parameters
    ----------
    x
        Samples of one axis, shape ``(n_samples,)``, several seconds long: lines are as sharp as
        the window is long.
    sample_rate_hz
        Samples a second.
    range_hz
        Lowest and highest speed that the machine can have.

    Raises
    ------
    ValueError
        For a range that the window cannot tell.
    """
    samples = as_samples(x, minimum=64)
    low_hz, high_hz = range_hz
    if samples.ndim != 1:
        raise ValueError(f"samples have shape {samples.shape}; speed is estimated from one axis")
    if not 0 < low_hz < high_hz or high_hz > sample_rate_hz / 4:
        raise ValueError(f"no speed can be told between {low_hz:g} and {high_hz:g} Hz")
    frequencies_hz, amplitude = amplitude_spectrum(samples, sample_rate_hz)
    line_hz = float(frequencies_hz[1])
    if low_hz < 4 * line_hz:
        raise ValueError(f"speeds from {low_hz:g} Hz need a window of at least {4 / low_hz:g} s")
    reach = min(len(amplitude), math.ceil(_HARMONICS * high_hz / line_hz) + 8)
    above_db = levels_above_floor_db(amplitude[:reach].astype(np.float64), line_hz)
    level_db = np.clip(above_db - _STANDS_OUT_DB, 0.0, _LEVEL_CAP_DB)
    level_db[:2] = 0.0
    candidates = np.arange(low_hz, high_hz, line_hz / (2 * _HARMONICS))
    orders = np.arange(1, _HARMONICS + 1)
    lines = np.round(np.outer(candidates, orders) / line_hz).astype(np.intp)
    levels = np.where(lines < reach, level_db[np.minimum(lines, reach - 1)], 0.0)
    score = levels.mean(axis=-1)
    best = float(score.max())
    if not best > 0:
        return SpeedEstimate(math.nan, 0.0, 0)
    at = int(np.flatnonzero(score >= _AS_GOOD * best)[0])
    near = slice(at, at + 4 * _HARMONICS)
    at += int(np.argmax(score[near]))
    speed_hz = _refined(amplitude, line_hz, float(candidates[at]), levels[at])
    ratio = candidates / candidates[at]
    related = np.zeros(len(candidates), dtype=bool)
    for multiple in (1, 2, 3, 4, 5):
        for nominal in (multiple, 1 / multiple, multiple / 2, multiple / 3):
            related |= np.abs(ratio - nominal) < max(0.02, 4 * line_hz / candidates[at])
    rival = float(score[~related].max()) if (~related).any() else 0.0
    found = int(np.count_nonzero(levels[at] > 10.0))
    confidence = max(1 - rival / float(score[at]), 0.0) * found / _HARMONICS
    return SpeedEstimate(speed_hz, min(confidence, 1.0), found)


def levels_above_floor_db(amplitude: FloatArray, line_hz: float) -> npt.NDArray[np.float64]:
    """Level of each line of a spectrum above its local floor, the median of 10 Hz or 41 lines.

    `amplitude` has shape ``(n_lines,)``, as the result has.
    """
    from scipy.ndimage import median_filter

    floor = median_filter(amplitude, size=max(41, round(10.0 / line_hz)), mode="nearest")
    tiny = np.finfo(np.float32).tiny
    return np.asarray(20 * np.log10(np.maximum(amplitude, tiny) / np.maximum(floor, tiny)))


def _refined(
    amplitude: npt.NDArray[np.floating[Any]], line_hz: float, rough_hz: float, levels: FloatArray
) -> float:
    """Mean of the harmonics found, each placed between lines by the Hann window's own shape."""
    found, weights = [], []
    for order, level in enumerate(levels, start=1):
        centre = round(order * rough_hz / line_hz)
        if level <= 0 or centre < 2 or centre + 2 >= len(amplitude):
            continue
        at = centre - 1 + int(np.argmax(amplitude[centre - 1 : centre + 2]))
        left, top, right = (float(a) for a in amplitude[at - 1 : at + 2])
        neighbour, sign = (right, 1) if right > left else (left, -1)
        ratio = neighbour / top if top else 0.0
        found.append((at + sign * (2 * ratio - 1) / (ratio + 1)) * line_hz / order)
        weights.append(order * level)
    return float(np.average(found, weights=weights)) if found else rough_hz
