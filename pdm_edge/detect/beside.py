"""Criteria beside the score of the single window, which do not depend on its threshold.

The **overall level** against its baseline: twice is the usual first limit for a change of vibration,
whatever a model has learned. A threshold learned while a machine ran in may stand far above it.

**Impacts in the mean of many windows**: bearing lines and kurtosis. A fault below the machine's own
vibration is in every window, chance is not. Only these: load and temperature move levels, and with
them the score, but make no impacts. So they may raise an alert, at low priority, and never an alarm.

**Slow change** of any feature, and the CUSUM of the score: findings, never an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from pdm_edge.detect.bundle import Manifest
from pdm_edge.detect.drift import DECISION, MEMORY, MOVED, WEIGHT, DriftWatch
from pdm_edge.detect.explain import in_words
from pdm_edge.detect.scaling import Matrix, is_overall, logarithmic, tells_impacts
from pdm_edge.detect.thresholds import agreeing, mean_limit
from pdm_edge.records import Evidence, FeatureVector

TWICE: Final = 2.0
"""Times its baseline from which an overall level counts; twice that is an alarm."""

HEADROOM: Final = 1.25
"""Where a healthy machine goes further than twice by itself, the limit is so much above that: 2 dB."""

NAMED_CHANGES: Final = 3


def limits_of_levels(names: Sequence[str], y: Matrix, overall: Matrix, *, n: int, m: int) -> dict[str, float]:
    """Times its baseline that each overall level may be: `TWICE`, or `HEADROOM` above what N of M healthy
    windows reach together, if that is more than twice.

    Parameters
    ----------
    y, overall
        Transformed healthy windows, shape ``(n_windows, n_features)``, and their typical vector.
    """
    found = {}
    for index, name in enumerate(names):
        if is_overall(name):
            reached = float(np.exp(agreeing(y[:, index] - overall[index], n, m).max()))
            found[name] = HEADROOM * reached if reached > TWICE else TWICE
    return found


def limits_of_means(
    names: Sequence[str], y: Matrix, smallest: Matrix, *, window_s: float, per_month: float
) -> dict[str, float]:
    """How far the moving mean of each feature that tells impacts may rise, in its spreads.

    What chance makes of it `per_month` times a month (all such features together), and not less than
    the smallest scatter that a sensor has when it is read again.
    """
    at = [index for index, name in enumerate(names) if tells_impacts(name)]
    spread = np.maximum(y.std(axis=0), smallest)
    return {
        names[i]: max(
            float(smallest[i] / spread[i]),
            mean_limit(y[:, i], weight=WEIGHT, window_s=window_s, per_month=per_month / len(at))
            * float(y[:, i].std() / spread[i]),
        )
        for i in at
    }


class Beside:
    """These criteria for one machine, as its manifest says."""

    def __init__(self, manifest: Manifest) -> None:
        self.drift = DriftWatch(manifest)
        names, units = manifest.feature_names, manifest.feature_units
        self._names, self._logarithmic = names, logarithmic(names, units)
        self._spread = manifest.spread
        means, levels = manifest.mean_limits, manifest.level_limits
        self._mean_limits = [(i, means[name]) for i, name in enumerate(names) if name in means]
        self._level_limits = [(i, levels[name]) for i, name in enumerate(names) if name in levels]
        self._baseline = manifest.baseline
        self._of_state = {name: state.baseline for name, state in manifest.states.items()}
        self._times: list[tuple[float, int, float]] = []

    def observe(self, vector: FeatureVector, score: float) -> None:
        """Take one window and its normalised score. Without a score (NaN), as in a state that was never
        learned, there is no baseline either: nothing is judged."""
        self._times = []
        if math.isnan(score):
            return
        self.drift.observe(vector, score)
        baseline = self._of_state.get(vector.state, self._baseline)
        for index, limit in self._level_limits:
            times = float(vector.values[index]) / baseline[index] if baseline[index] > 0 else math.nan
            if times >= 0:
                self._times.append((times / limit, index, limit))

    def severity(self, alert_at: float) -> float:
        """The worse of both criteria, normalised as a score is; impacts in the mean reach `alert_at` and
        no more. NaN if neither can be judged."""
        levels = max((share for share, _, _ in self._times), default=math.nan)
        impacts = max((self.drift.risen(i) / limit for i, limit in self._mean_limits), default=math.nan)
        known = [v for v in (levels, alert_at * min(impacts, 1.0)) if not math.isnan(v)]
        return max(0.0, *known) if known else math.nan

    def findings(self) -> tuple[Evidence, ...]:
        """What is beyond its limit, in words, and slow changes."""
        found = [
            Evidence(in_words(self._names[index]), share * limit, limit, "times its baseline")
            for share, index, limit in self._times
            if share >= 1
        ]
        for index, limit in self._mean_limits:
            if self.drift.risen(index) >= limit:
                found += self._impacts(index, limit)
        for change in self.drift.changes()[:NAMED_CHANGES]:
            what = f"slow change: {in_words(change.feature)} {change.direction}"
            found.append(Evidence(what, abs(change.sigmas), MOVED, "sigma"))
        if self.drift.cusum.has_risen:
            text = "slow change: the score runs above its healthy level (CUSUM)"
            found.append(Evidence(text, self.drift.cusum.rising, DECISION, "sigma"))
        return tuple(found)

    def _impacts(self, index: int, limit: float) -> list[Evidence]:
        """A bearing line counts as evidence of its part, with its mean level; kurtosis names none."""
        name, step = self._names[index], self.drift.risen(index) * self._spread[index]
        if self._logarithmic[index]:
            times = f"{in_words(name)} is {math.exp(step):.2f} times its baseline"
            what = f"in the mean of {MEMORY} windows, {times}"
            return [Evidence(what, step, limit * self._spread[index], "mean")]
        healthy_db = self.drift.typical(index)
        place = name.rpartition("/")[0]
        part = Evidence(
            f"{in_words(name.rpartition('/')[2])} at {place}",
            healthy_db + step,
            healthy_db + limit * self._spread[index],
            "db",
        )
        what = f"in the mean of {MEMORY} windows, {step:.1f} dB more than while it was learned"
        return [part, Evidence(what, step, limit * self._spread[index], "mean")]
