"""Two detectors without a network: what a network must beat to earn its place.

They see the same scaled features and get their thresholds the same way, so that only the judging
itself differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

SMALLEST_VARIANCE: Final = 0.1
"""Of a direction, in units of the scaled features: directions in which a short baseline hardly
moved are not trusted to be that stiff."""


@dataclass(frozen=True, slots=True, eq=False)
class RobustZ:
    """Mean squared robust z-score: deviation from the median in units of 1.4826 MAD."""

    median: Matrix
    spread: Matrix

    @classmethod
    def fit(cls, y: Matrix, smallest: Matrix) -> RobustZ:
        """`y` of shape ``(n_windows, n_features)``, transformed; `smallest` spread of each feature."""
        median = np.median(y, axis=0)
        spread = 1.4826 * np.median(np.abs(y - median), axis=0)
        return cls(median, np.maximum(spread, smallest))

    def scores(self, y: Matrix) -> Matrix:
        found: Matrix = np.square((y - self.median) / self.spread).mean(axis=1)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Mahalanobis:
    """Squared Mahalanobis distance by principal components, mean over the features."""

    mean: Matrix
    spread: Matrix
    directions: Matrix
    variances: Matrix

    @classmethod
    def fit(cls, y: Matrix, smallest: Matrix) -> Mahalanobis:
        """As `RobustZ.fit`."""
        mean, spread = y.mean(axis=0), np.maximum(y.std(axis=0), smallest)
        variances, directions = np.linalg.eigh(np.atleast_2d(np.cov((y - mean) / spread, rowvar=False)))
        return cls(mean, spread, directions, np.maximum(variances, SMALLEST_VARIANCE))

    def scores(self, y: Matrix) -> Matrix:
        turned = ((y - self.mean) / self.spread) @ self.directions
        found: Matrix = (np.square(turned) / self.variances).mean(axis=1)
        return found
