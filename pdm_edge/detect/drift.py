"""Slow change, beside the score of the single window: in either direction, and by feature.

A fault that stays below the threshold shows in the mean of many windows; so does a sensor that comes
loose (levels fall) and a process that wanders. It is told as a finding, not as an alarm: a machine
that is run in or runs warmer drifts as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pdm_edge.detect.bundle import Manifest
from pdm_edge.detect.scaling import logarithmic, transformed
from pdm_edge.records import FeatureVector

WEIGHT: Final = 0.02
"""Of the newest window in the moving mean (EWMA, Roberts 1959): a memory of about 50 windows."""

MEMORY: Final = round(1 / WEIGHT)

MOVED: Final = 1.5
"""Standard deviations of the single window that the moving mean must be off to be told: 15 of its own,
were the windows independent."""

SLACK: Final = 1.0
DECISION: Final = 10.0
"""CUSUM (Page 1954) of the logarithm of the score, in its healthy standard deviations: what is taken
off each window, and the sum from which a change is told. With independent windows it is told by
mistake less often than once in a hundred million windows (Siegmund's approximation)."""


@dataclass(frozen=True, slots=True)
class Change:
    """A feature whose moving mean has left its baseline."""

    feature: str
    unit: str
    sigmas: float
    """Signed: negative has fallen."""
    ratio: float
    """Moving (geometric) mean over baseline for a level, NaN for other features."""

    @property
    def direction(self) -> str:
        """In words: to what share of its baseline, or by how much of its scatter."""
        word = "up" if self.sigmas > 0 else "down"
        if math.isnan(self.ratio):
            return f"{word} by {abs(self.sigmas):.1f} of its scatter"
        return f"{word} to {self.ratio:.2f} times its baseline"


class Cusum:
    """CUSUM of ln(score), both ways; `log_mean` and `log_std` are its healthy ones, 0 if not known."""

    def __init__(self, log_mean: float, log_std: float) -> None:
        self._log_mean, self._log_std = log_mean, log_std
        self.rising = 0.0
        self.falling = 0.0

    def observe(self, score: float) -> None:
        """Take one normalised score; one that is no positive number changes nothing."""
        if score > 0 and self._log_std > 0:
            step = min(max((math.log(score) - self._log_mean) / self._log_std, -4.0), 4.0)
            self.rising = min(max(self.rising + step - SLACK, 0.0), 2 * DECISION)
            self.falling = min(max(self.falling - step - SLACK, 0.0), 2 * DECISION)

    @property
    def has_risen(self) -> bool:
        """Whether the score runs above what it was while healthy, threshold or not."""
        return self.rising >= DECISION


class DriftWatch:
    """Moving means of all features of one machine, and the CUSUM of its score."""

    def __init__(self, manifest: Manifest) -> None:
        self._names = manifest.feature_names
        self._units = manifest.feature_units
        self._levels = logarithmic(self._names, self._units)
        self._centre = transformed(np.array(manifest.baseline), self._levels)
        self._of_state = {
            name: transformed(np.array(state.baseline), self._levels)
            for name, state in manifest.states.items()
        }
        self._spread = np.array(manifest.spread)
        self.cusum = Cusum(manifest.threshold.log_mean, manifest.threshold.log_std)
        self._mean = np.zeros(len(self._names))
        self._windows = 0

    def observe(self, vector: FeatureVector, score: float) -> None:
        """Take one window and its normalised score (NaN is left out)."""
        centre = self._of_state.get(vector.state, self._centre)
        z = (transformed(vector.values, self._levels) - centre) / self._spread
        z = np.clip(np.where(np.isfinite(z), z, self._mean), -10.0, 10.0)  # one knock must not carry it
        self._windows += 1
        weight = max(WEIGHT, 1 / self._windows)
        self._mean += weight * (z - self._mean)
        self.cusum.observe(score)

    def risen(self, index: int) -> float:
        """How far the moving mean of a feature is above its baseline, in its spreads; NaN before the
        memory is filled."""
        return float(self._mean[index]) if self._windows >= MEMORY else math.nan

    def changes(self) -> tuple[Change, ...]:
        """Features that have moved, most first; none before the memory is filled."""
        if self._windows < MEMORY:
            return ()
        moved = np.flatnonzero(np.abs(self._mean) >= MOVED)
        order = moved[np.argsort(-np.abs(self._mean[moved]))]
        return tuple(self._change(int(index)) for index in order)

    def typical(self, index: int) -> float:
        """Baseline of a feature, transformed."""
        return float(self._centre[index])

    def _change(self, index: int) -> Change:
        sigmas = float(self._mean[index])
        ratio = math.exp(sigmas * float(self._spread[index])) if self._levels[index] else math.nan
        return Change(self._names[index], self._units[index], sigmas, ratio)
