"""How features are compared: levels by their logarithm, and never finer than a sensor repeats.

The floor is what a short baseline cannot show: a mounted sensor, read again after a week, does not
repeat to a percent, however quiet the first hour was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from pdm_edge.detect.author import SMALLEST, Scaling

LEVEL_UNITS: Final = ("g", "m_s2", "mm_s", "um", "mv")
LEVEL_NAMES: Final = ("crest_factor", "kurtosis")

_OVERALL = re.compile(r"(?:.+/)?rms\Z")
_IMPACTS = re.compile(r"(?:.+/)?(?:kurtosis|envelope_(?:bpfo|bpfi|bsf|ftf)_level)\Z")

LEVEL_FLOOR: Final = 0.1
"""Smallest standard deviation of ln(level): 0.9 dB."""
DECIBEL_FLOOR: Final = 1.0
SKEWNESS_FLOOR: Final = 0.1
RELATIVE_FLOOR: Final = 0.005
"""Of the size of any other quantity."""
SMALLEST_FLOOR: Final = 1e-9
NOT_JUDGED: Final = 1e9
"""Standard deviation of a feature without a scale, so that none of its values counts."""

TRANSIENT_SIGMAS: Final = 8.0
"""Robust deviations of a level from which a window that stands alone is a knock, not a state."""

Matrix = npt.NDArray[np.float64]


def is_level(name: str, unit: str) -> bool:
    """Whether a feature is a level, which is never negative and compared in proportion."""
    return (unit in LEVEL_UNITS and not name.endswith("skewness")) or name.endswith(LEVEL_NAMES)


def is_overall(name: str) -> bool:
    """Whether a feature is the broadband level of one axis."""
    return _OVERALL.match(name) is not None


def tells_impacts(name: str) -> bool:
    """Whether a feature tells impacts and nothing of the level: load, temperature and mounting move all
    levels of a machine, and make its vibration no more impulsive."""
    return _IMPACTS.match(name) is not None


def logarithmic(names: Sequence[str], units: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.array([is_level(n, u) for n, u in zip(names, units, strict=True)])


def transformed(x: npt.NDArray[np.floating], levels: npt.NDArray[np.bool_]) -> Matrix:
    """ln of the levels, the rest as it is; shape of `x`, float64."""
    y = np.array(x, dtype=np.float64)
    y[..., levels] = np.log(np.maximum(y[..., levels], SMALLEST))
    return y


def floors(
    names: Sequence[str], units: Sequence[str], centre: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """Smallest standard deviation of each transformed feature."""
    found = []
    for name, unit, value in zip(names, units, centre, strict=True):
        if is_level(name, unit):
            found.append(LEVEL_FLOOR)
        elif unit.startswith("db"):
            found.append(DECIBEL_FLOOR)
        elif name.endswith("skewness"):
            found.append(SKEWNESS_FLOOR)
        else:
            found.append(max(RELATIVE_FLOOR * abs(float(value)), SMALLEST_FLOOR))
    return np.array(found)


def without_scale(y: Matrix, smallest: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Features that were 0 in all windows and have no floor of their own: nothing says what is much."""
    nothing: npt.NDArray[np.bool_] = (y == 0).all(axis=0) & (smallest <= SMALLEST_FLOOR)
    return nothing


def fit_scaling(y: Matrix, smallest: npt.NDArray[np.float64], levels: npt.NDArray[np.bool_]) -> Scaling:
    """Scaling of transformed healthy windows `y`, shape ``(n_windows, n_features)``."""
    spread = np.maximum(y.std(axis=0), smallest)
    return Scaling(
        np.median(y, axis=0).astype(np.float32),
        (1.0 / spread).astype(np.float32),
        levels.astype(np.float32),
    )


def knocks(
    y: Matrix, smallest: npt.NDArray[np.float64], levels: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Windows with a level far out while their neighbours are not: a knock beside the machine.

    Fewer than 3 in any 5 neighbours; more of them together are a state of the machine.
    """
    if not levels.any():
        return np.zeros(len(y), dtype=np.bool_)
    centre = np.median(y, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(y - centre), axis=0), smallest)
    far = (np.abs(y - centre) / spread)[:, levels].max(axis=1) >= TRANSIENT_SIGMAS
    together = np.convolve(far, np.ones(5), mode="same")
    alone: npt.NDArray[np.bool_] = far & (together < 3)
    return alone
