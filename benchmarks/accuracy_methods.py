"""Every family and yardstick: learned from the same rows, by the same rule for the threshold."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import accuracy_data as data
import numpy as np
import numpy.typing as npt

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle, Manifest
from pdm_edge.detect.commission import BLOCKS, commission
from pdm_edge.detect.scaling import floors, knocks, logarithmic, transformed
from pdm_edge.detect.thresholds import agreeing, find_threshold
from pdm_edge.detect.yardsticks import Mahalanobis, RobustZ
from pdm_edge.records import FeatureSchema, FeatureVector, Stamp

Rows: TypeAlias = npt.NDArray[np.float32]
Scores: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judge:
    """Gives normalised scores of rows: 1.0 is the threshold."""

    scores: Callable[[Rows], Scores]
    log_mean: float
    log_std: float
    """Of ln(score), held-back healthy rows."""
    manifest: Manifest | None = None

    def __call__(self, rows: Rows) -> Scores:
        return self.scores(rows)


Learn: TypeAlias = Callable[[data.View, float], Judge]


def methods(data_set: data.DataSet) -> list[tuple[str, data.View, Learn]]:
    """Every method with the view of the data that it is made for."""
    found: list[tuple[str, data.View, Learn]] = [
        ("linear int8", data_set.features, network("linear", True)),
        ("linear float32", data_set.features, network("linear", False)),
        ("dense int8", data_set.features, network("dense", True)),
        ("pruned int8", data_set.features, network("pruned", True)),
        ("dense float32", data_set.features, network("dense", False)),
        ("robust z", data_set.features, yardstick(RobustZ)),
        ("Mahalanobis", data_set.features, yardstick(Mahalanobis)),
        ("RMS x 2", data_set.features, rms_twice),
    ]
    if data_set.spectrum is not None:
        found += [
            ("mobilenet int8, 64 bands", data_set.spectrum, network("mobilenet", True)),
            ("squeezenet int8, 64 bands", data_set.spectrum, network("squeezenet", True)),
            ("dense int8, 64 bands", data_set.spectrum, network("dense", True)),
            ("Mahalanobis, 64 bands", data_set.spectrum, yardstick(Mahalanobis)),
        ]
    return found


def vector(row: Rows, schema: FeatureSchema, window_s: float, at_s: float = 0.0) -> FeatureVector:
    """One row as the product takes it."""
    at_ns = round(at_s * 1e9)
    return FeatureVector("m", row, schema, Stamp(at_ns, at_ns, "benchmark", True), window_s)


def network(family: Any, quantize: bool) -> Learn:
    """What `pdm-edge learn` does."""

    def learn(view: data.View, window_s: float) -> Judge:
        vectors = [vector(row, view.schema, window_s) for row in view.healthy]
        model, manifest = commission(vectors, name="m", family=family, quantize=quantize)
        detector = AnomalyDetector(Bundle(Path(), manifest, model))
        fill = np.array(manifest.baseline, dtype=np.float32)

        def scores(rows: Rows) -> Scores:
            filled = np.where(np.isfinite(rows), rows, fill)
            return np.concatenate([detector.score_rows(row[None]) for row in filled])

        return Judge(scores, manifest.threshold.log_mean, manifest.threshold.log_std, manifest)

    return learn


def yardstick(kind: Any) -> Learn:
    """The same rejection of knocks, scaling, blocks of time and threshold, without a network."""

    def learn(view: data.View, window_s: float) -> Judge:
        levels = logarithmic(view.schema.names, view.schema.units)
        fill = np.nan_to_num(np.nanmedian(np.where(np.isfinite(view.healthy), view.healthy, np.nan), axis=0))

        def prepared(rows: Rows) -> Scores:
            return transformed(np.where(np.isfinite(rows), rows, fill), levels)

        y = prepared(view.healthy)
        smallest = floors(view.schema.names, view.schema.units, np.median(y, axis=0))
        y = y[~knocks(y, smallest, levels)]
        edges = np.linspace(0, len(y), BLOCKS + 1).round().astype(int)
        blocks = []
        for first, last in itertools.pairwise(edges):
            fitted = kind.fit(np.concatenate([y[:first], y[last:]]), smallest)
            blocks.append(fitted.scores(y[first:last]))
        held = np.concatenate([agreeing(scores, 3, 5) for scores in blocks])
        threshold = find_threshold(held, window_s=window_s, per_month=1.0).value
        fitted = kind.fit(y, smallest)
        log_mean, log_std = _logarithms(np.concatenate(blocks) / threshold)
        return Judge(lambda rows: fitted.scores(prepared(rows)) / threshold, log_mean, log_std)

    return learn


def rms_twice(view: data.View, _window_s: float) -> Judge:
    """The rule of thumb: RMS above twice its baseline."""
    at = [i for i, name in enumerate(view.schema.names) if name.endswith("/rms")]
    baseline = np.median(view.healthy[:, at], axis=0)

    def scores(rows: Rows) -> Scores:
        times: Scores = (rows[:, at] / (2 * baseline)).max(axis=1).astype(np.float64)
        return times

    return Judge(scores, *_logarithms(scores(view.healthy)))


def always(_view: data.View, _window_s: float) -> Judge:
    """Flags everything: what a figure of merit must be better than."""
    return Judge(lambda rows: np.ones(len(rows)), 0.0, 0.0)


def _logarithms(scores: Scores) -> tuple[float, float]:
    logarithms = np.log(np.maximum(scores, 1e-12))
    return float(logarithms.mean()), float(logarithms.std())
