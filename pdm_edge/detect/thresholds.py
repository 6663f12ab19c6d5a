"""Where healthy ends: a quantile of the scores of healthy windows that took no part in training."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def windows_for_quantile(quantile: float) -> int:
    """How many windows it takes until a quantile is more than the largest value seen.

    Raises
    ------
    ValueError
        If `quantile` is not between 0 and 1.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile!r}; it lies between 0 and 1")
    return math.ceil(1 / (1 - quantile))


def quantile_threshold(scores: npt.NDArray[np.floating], quantile: float, margin: float) -> tuple[float, str]:
    """Threshold and its derivation in words.

    The higher of the two neighbouring order statistics is taken, so that with few windows it is
    their maximum, and multiplied by `margin`, which covers what so few windows cannot show.

    Raises
    ------
    ValueError
        If there are no scores, or one is negative or not a number.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"{values.size} scores, or some that are no scores")
    needed = windows_for_quantile(quantile)
    value = float(np.quantile(values, quantile, method="higher")) * margin
    text = f"{margin:g} x the {quantile:g} quantile of {values.size} held-back healthy windows"
    if values.size < needed:
        text += f" (fewer than {needed}: the largest of them)"
    return value, text
