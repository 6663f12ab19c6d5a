"""Where healthy ends, for a stated rate of false alarms.

What must be rare is not one high window but an alarm: N of the last M windows high together. So
the threshold is set on that very statistic, the N-th largest score of each M neighbours, taken
from healthy windows that the network was not trained on. No independence of windows is assumed: if
high windows come in groups, the statistic shows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

MONTH_S: Final = 365.25 / 12 * 86400
TAIL_SHARE: Final = 0.2
FEWEST_TAIL: Final = 5
FURTHEST: Final = 4.0
"""A threshold is never put further than this above the largest statistic seen: 6 dB in amplitude,
squared. Beyond, a tail fitted to a few dozen values is a guess, and costs the sight of real faults."""


@dataclass(frozen=True, slots=True)
class FoundThreshold:
    """Raw score that becomes 1.0, and how it was found."""

    value: float
    method: Literal["conformal", "extreme-value", "capped"]
    tail_index: float
    largest: float
    derivation: str


def agreeing(scores: npt.NDArray[np.floating], n: int, m: int) -> npt.NDArray[np.float64]:
    """The n-th largest of each m neighbouring scores, shape ``(len(scores) - m + 1,)``.

    Of fewer than m scores, the n-th largest of them all (the smallest if there are fewer than n).
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size < m:
        return np.sort(values)[::-1][min(n, values.size) - 1 :][:1]
    neighbours = np.lib.stride_tricks.sliding_window_view(values, m)
    ranked: npt.NDArray[np.float64] = np.sort(neighbours, axis=1)[:, m - n]
    return ranked


def find_threshold(
    statistics: npt.NDArray[np.floating] | Sequence[float],
    *,
    window_s: float,
    per_month: float,
    n: int = 3,
    m: int = 5,
    total: int | None = None,
) -> FoundThreshold:
    """Threshold that healthy windows pass `per_month` times a month, as far as the data reach.

    With more windows than there are in the stated time it is their order statistic (split
    conformal: rank ``ceil((k + 1)(1 - p))`` of k). With fewer, which is usual, the tail above the
    80th percentile is taken as a power law (B. Hill, Ann. Statist. 3, 1975) and extended to the
    stated rate, at most to `FURTHEST` times the largest value seen.

    Parameters
    ----------
    statistics
        Values of `agreeing`, from healthy windows held back from training; or the largest of them.
    total
        How many there were, if `statistics` holds only the largest.

    Raises
    ------
    ValueError
        If there are no values, or one is negative or not a number.
    """
    values = np.sort(np.asarray(statistics, dtype=np.float64))
    if values.size == 0 or not np.isfinite(values).all() or values[0] < 0:
        raise ValueError(f"{values.size} scores, or some that are no scores")
    if not (per_month > 0 and window_s > 0):
        raise ValueError(f"{per_month:g} a month of windows of {window_s:g} s is no rate")
    count = values.size if total is None else total
    probability = min(per_month * window_s / MONTH_S, 0.5)
    largest = max(float(values[-1]), float(np.finfo(np.float32).tiny))
    basis = f"{n} of {m} windows together, {count} held-back healthy positions"
    stated = f"{per_month:g} a month"
    if count * probability >= 1:
        from_top = count - math.ceil((count + 1) * (1 - probability))
        value = max(float(values[-1 - min(max(from_top, 0), values.size - 1)]), np.finfo(np.float32).tiny)
        text = f"conformal: order statistic of {basis}, for {stated}"
        return FoundThreshold(value, "conformal", math.nan, largest, text)
    index, value = _tail(values, count, probability)
    if value <= FURTHEST * largest:
        text = f"extreme value: power-law tail (index {index:.1f}) of {basis}, extended to {stated}"
        return FoundThreshold(max(value, largest), "extreme-value", index, largest, text)
    text = (
        f"capped: {FURTHEST:g} x the largest of {basis}; their tail (index {index:.1f}) would have to be "
        f"extended further for {stated}, which so few windows do not support: recalibrate with more"
    )
    return FoundThreshold(FURTHEST * largest, "capped", index, largest, text)


def tail_of(statistics: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The largest values: all that `find_threshold` needs to be asked again for another rate."""
    values = np.sort(statistics)
    return tuple(float(v) for v in values[-(_tail_size(values.size) + 1) :])


def correlation_time(values: npt.NDArray[np.floating]) -> float:
    """How many neighbouring values say as much as one independent one; at least 1.

    Twice the sum of the autocorrelation, less 1, up to the first pair of lags whose sum is not positive
    (initial positive sequence; C. Geyer, Statistical Science 7, 1992).
    """
    x = np.asarray(values, dtype=np.float64) - np.mean(values)
    power = float(x @ x)
    if x.size < 4 or not power > 0:
        return 1.0
    total = 1.0
    for lag in range(0, x.size // 2 - 1, 2):
        pair = (float(x[lag:] @ x[: x.size - lag]) + float(x[lag + 1 :] @ x[: x.size - lag - 1])) / power
        if pair <= 0:
            break
        total += 2 * pair - (2 if lag == 0 else 0)
    return max(total, 1.0)


def mean_limit(
    values: npt.NDArray[np.floating], *, weight: float, window_s: float, per_month: float
) -> float:
    """How far an exponentially weighted moving mean strays from the median of healthy `values`, in their
    standard deviations, at most `per_month` times a month.

    The prediction interval of a mean: the moving mean scatters by ``weight / (2 - weight)`` of the variance
    of one value (S. Roberts, Technometrics 1, 1959), the mean that was learned by ``1 / n``, both times
    the correlation time. One look in ``1 / weight`` windows is independent.

    Raises
    ------
    ValueError
        If there are no values, or rate, window or weight make no sense.
    """
    if not len(values) or not (0 < weight < 1 and window_s > 0 and per_month > 0):
        raise ValueError(f"{len(values)} values, weight {weight:g}, {per_month:g} a month of {window_s:g} s")
    looks = max(weight * MONTH_S / (window_s * per_month), 10.0)
    own = correlation_time(values) * (weight / (2 - weight) + 1 / len(values))
    return NormalDist().inv_cdf(1 - 1 / looks) * math.sqrt(own)


def _tail_size(count: int) -> int:
    return max(min(max(FEWEST_TAIL, round(TAIL_SHARE * count)), count - 1), 1)


def _base(values: npt.NDArray[np.float64], count: int) -> float:
    return float(values[max(-_tail_size(count) - 1, -values.size)])


def _tail(values: npt.NDArray[np.float64], count: int, probability: float) -> tuple[float, float]:
    """Hill's index of the tail, and the value that is passed with `probability`."""
    size, base = _tail_size(count), _base(values, count)
    if not base > 0:
        return math.nan, math.inf
    excess = float(np.mean(np.log(values[-size:] / base)))
    if not excess > 0:  # all alike
        return math.inf, base
    return 1 / excess, base * (size / (count * probability)) ** excess
