"""Learning what healthy looks like, on the gateway itself, in NumPy.

Threshold and network never see the same windows: the windows are cut into a few blocks of time,
each scored by a network that learned from the others. Neighbouring windows are nearly alike, so a
random split would let the network vouch for itself.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from pdm_edge._version import __version__
from pdm_edge.detect.author import Autoencoder, write_autoencoder
from pdm_edge.detect.beside import limits_of_levels, limits_of_means
from pdm_edge.detect.bundle import Manifest, State, Threshold, Training
from pdm_edge.detect.layers import Array
from pdm_edge.detect.line_speed import learn_lines, states_by_lines
from pdm_edge.detect.runtime import TfliteModel
from pdm_edge.detect.scaling import (
    NOT_JUDGED,
    Matrix,
    fit_scaling,
    floors,
    knocks,
    logarithmic,
    transformed,
    without_scale,
)
from pdm_edge.detect.thresholds import FoundThreshold, agreeing, find_threshold, tail_of
from pdm_edge.detect.train import Family, Progress, train
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureVector

logger = logging.getLogger(__name__)

FEWEST_WINDOWS: Final = 20
FEWEST_IN_STATE: Final = 10
"""Windows that an operating state needs to be taken as learned."""

BLOCKS: Final = 3
FALSE_ALARMS_PER_MONTH: Final = 1.0


def commission(
    vectors: Sequence[FeatureVector],
    *,
    name: str,
    seed: int = 1,
    quantize: bool = True,
    family: Family = "linear",
    false_alarms_per_month: float = FALSE_ALARMS_PER_MONTH,
    alarm_n: int = 3,
    alarm_m: int = 5,
    warnings: tuple[str, ...] = (),
    progress: Progress | None = None,
) -> tuple[bytes, Manifest]:
    """A model and its manifest from healthy windows, in the order in which they were taken.

    Parameters
    ----------
    false_alarms_per_month, alarm_n, alarm_m
        The threshold is set so that healthy windows raise an alarm (N of M) at most this often.
    warnings
        What looked doubtful and was overruled; kept in the manifest.
    progress
        Called with the share that is done, 0 to 1.

    Raises
    ------
    ModelError
        If there are too few windows, or training fails.
    """
    speeds = learn_lines([vector.lines for vector in vectors])
    by_lines = states_by_lines([v.state for v in vectors], [v.lines for v in vectors], speeds)
    kept, states = _learnable([replace(v, state=s) for v, s in zip(vectors, by_lines, strict=True)])
    names, units = kept[0].schema.names, kept[0].schema.units
    levels = logarithmic(names, units)
    x = _filled(np.stack([vector.values for vector in kept]))
    y = transformed(x, levels)
    smallest = floors(names, units, np.median(y, axis=0))
    unknown = without_scale(y, smallest)
    if unknown.any():
        silent = ", ".join(itertools.compress(names, unknown))
        logger.warning("%s: 0 in all windows and so without a scale, not judged: %s", name, silent)
        smallest = np.where(unknown, NOT_JUDGED, smallest)
    quiet = ~knocks(y, smallest, levels)
    y, x, kept = y[quiet], x[quiet], [v for v, q in zip(kept, quiet, strict=True) if q]
    if len(kept) < FEWEST_WINDOWS:
        raise ModelError(f"only {len(kept)} windows are left without knocks", mend="Collect more")
    overall = np.median(y, axis=0)
    of_state = _centres(y, kept, states)
    y = y - np.stack([of_state[vector.state] for vector in kept]) + overall
    x = _back(y, levels)
    jobs = _Progress(progress, BLOCKS + 1)
    blocks = _held_back(x, y, smallest, levels, seed, family, quantize, jobs)
    held_back = np.concatenate([agreeing(scores, alarm_n, alarm_m) for scores in blocks])
    scaling = fit_scaling(y, smallest, levels)
    net = train(x, scaling, family=family, seed=seed, progress=jobs.next())
    found = find_threshold(
        held_back, window_s=kept[0].window_s, per_month=false_alarms_per_month, n=alarm_n, m=alarm_m
    )
    manifest = Manifest(
        name=name,
        created_by=f"pdm-edge {__version__}",
        feature_names=names,
        feature_units=units,
        schema_id=kept[0].schema.id,
        baseline=_plain(_back(overall[None], levels)[0]),
        spread=_plain(1.0 / scaling.inverse_std.astype(np.float64)),
        quantization="hybrid-int8" if quantize else "float32",
        threshold=as_threshold(
            found, held_back, np.concatenate(blocks), false_alarms_per_month, alarm_n, alarm_m
        ),
        training=Training(
            windows=len(kept),
            window_s=kept[0].window_s,
            first_utc_ns=kept[0].stamp.utc_ns,
            last_utc_ns=kept[-1].stamp.utc_ns,
            seed=seed,
            family=family,
            left_out=len(vectors) - len(kept),
            warnings=warnings,
        ),
        states={
            state: State(windows=count, baseline=_plain(_back(of_state[state][None], levels)[0]))
            for state, count in sorted(states.items())
        },
        level_limits=limits_of_levels(names, y, overall, n=alarm_n, m=alarm_m),
        mean_limits=limits_of_means(
            names, y, smallest, window_s=kept[0].window_s, per_month=false_alarms_per_month
        ),
        speeds=speeds,
    )
    return write_autoencoder(net, quantize=quantize), manifest


def as_threshold(
    found: FoundThreshold,
    statistics: npt.NDArray[np.float64],
    scores: npt.NDArray[np.floating],
    per_month: float,
    n: int,
    m: int,
) -> Threshold:
    """What the manifest keeps of a threshold."""
    logarithms = np.log(np.maximum(np.asarray(scores, dtype=np.float64), 1e-12) / found.value)
    return Threshold(
        value=found.value,
        method=found.method,
        derivation=found.derivation,
        false_alarms_per_month=per_month,
        alarm_n=n,
        alarm_m=m,
        held_back=statistics.size,
        log_mean=float(np.mean(logarithms)),
        log_std=float(np.std(logarithms)),
        tail=tail_of(statistics),
    )


def recalibrated(
    manifest: Manifest, *, false_alarms_per_month: float, scores: npt.NDArray[np.floating] | None = None
) -> Manifest:
    """The manifest with a new threshold; the network stays as it is.

    Parameters
    ----------
    scores
        Raw scores (score times the old threshold) of healthy windows, in time order. Without them
        the old held-back ones are asked again for the new rate.

    Raises
    ------
    ModelError
        If there is nothing to calibrate with.
    """
    old = manifest.threshold
    n, m, window_s = old.alarm_n, old.alarm_m, manifest.training.window_s
    if scores is None:
        if not old.tail:
            raise ModelError("the model kept no held-back scores", mend="Give healthy windows to score")
        found = find_threshold(
            old.tail, window_s=window_s, per_month=false_alarms_per_month, n=n, m=m, total=old.held_back
        )
        new = msgspec.structs.replace(
            old,
            value=found.value,
            method=found.method,
            derivation=found.derivation,
            false_alarms_per_month=false_alarms_per_month,
            log_mean=old.log_mean + float(np.log(old.value / found.value)),
        )
        return msgspec.structs.replace(manifest, threshold=new)
    if len(scores) < FEWEST_WINDOWS or not np.isfinite(scores).all():
        raise ModelError(
            f"{len(scores)} scores do not calibrate", mend=f"At least {FEWEST_WINDOWS} are needed"
        )
    statistics = agreeing(scores, n, m)
    found = find_threshold(statistics, window_s=window_s, per_month=false_alarms_per_month, n=n, m=m)
    return msgspec.structs.replace(
        manifest, threshold=as_threshold(found, statistics, scores, false_alarms_per_month, n, m)
    )


def raw_scores(net: Autoencoder, x: Array, *, quantize: bool) -> npt.NDArray[np.float64]:
    """Scores of rows as the file gives them, by the runtime that is here."""
    model = TfliteModel(write_autoencoder(net, quantize=quantize))
    return np.array([float(model.run(row[None, :])["score"][0]) for row in x])


def _held_back(
    x: Array,
    y: Matrix,
    smallest: npt.NDArray[np.float64],
    levels: npt.NDArray[np.bool_],
    seed: int,
    family: Family,
    quantize: bool,
    jobs: _Progress,
) -> list[npt.NDArray[np.float64]]:
    """Scores of each block of time, by a network that learned the other blocks."""
    edges = np.linspace(0, len(x), BLOCKS + 1).round().astype(int)
    found = []
    for first, last in itertools.pairwise(edges):
        others = np.r_[0:first, last : len(x)]
        scaling = fit_scaling(y[others], smallest, levels)
        net = train(x[others], scaling, family=family, seed=seed, progress=jobs.next())
        scores = raw_scores(net, x[first:last], quantize=quantize)
        if not np.isfinite(scores).all():
            raise ModelError("training did not converge: scores are not finite")
        found.append(scores)
    return found


def _learnable(vectors: Sequence[FeatureVector]) -> tuple[list[FeatureVector], Counter[str]]:
    """Windows of states that were seen often enough, and how many of each."""
    states = Counter(vector.state for vector in vectors)
    often = Counter({state: n for state, n in states.items() if n >= FEWEST_IN_STATE})
    kept = [vector for vector in vectors if vector.state in often]
    if len(kept) < FEWEST_WINDOWS:
        seen = f"{len(vectors)} windows" + (f" in {len(states)} operating states" if len(states) > 1 else "")
        raise ModelError(
            f"{seen} are too few",
            mend=f"At least {FEWEST_WINDOWS} are needed, {FEWEST_IN_STATE} of each operating state",
        )
    return kept, often


def _filled(x: Array) -> Array:
    """With the typical value where one is missing. A feature that does not exist for this machine (a
    line beyond the spectrum) is missing always; it becomes a constant and can never carry a score."""
    typical = np.zeros(x.shape[1], dtype=np.float32)
    for index, column in enumerate(x.T):
        seen = column[np.isfinite(column)]
        typical[index] = np.median(seen) if seen.size else 0.0
    filled: Array = np.where(np.isfinite(x), x, typical)
    return filled


def _centres(y: Matrix, kept: list[FeatureVector], states: Counter[str]) -> dict[str, Matrix]:
    of_window = np.array([vector.state for vector in kept])
    return {state: np.median(y[of_window == state], axis=0) for state in states if (of_window == state).any()}


def _back(y: Matrix, levels: npt.NDArray[np.bool_]) -> Array:
    """Transformed features as the plain values that the model takes."""
    x = y.copy()
    x[:, levels] = np.exp(x[:, levels])
    plain: Array = x.astype(np.float32)
    return plain


def _plain(values: npt.NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


class _Progress:
    """Several jobs of equal length as one."""

    def __init__(self, report: Progress | None, jobs: int) -> None:
        self._report = report
        self._jobs = jobs
        self._done = -1

    def next(self) -> Progress | None:
        self._done += 1
        done, report = self._done, self._report
        return None if report is None else lambda share: report((done + share) / self._jobs)
