"""Scores a machine's vector with the model of its bundle."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from pdm_edge.detect.bundle import Bundle
from pdm_edge.detect.runtime import TfliteModel
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureVector, Float32Array, Score, bad, uncertain, worst

NAMED_CONTRIBUTIONS: Final = 5
MOST_MISSING: Final = 0.5
"""Share of missing features above which a vector is not scored."""


class AnomalyDetector:
    """One model, one interpreter; not to be shared between threads.

    Raises
    ------
    ModelError
        If the runtime refuses the model, or it does not fit its manifest.
    """

    def __init__(self, bundle: Bundle, *, runtime: str = "auto") -> None:
        self.manifest = bundle.manifest
        self._model = TfliteModel(bundle.model, runtime=runtime)
        self.runtime = self._model.runtime
        n_features = len(bundle.manifest.feature_names)
        if self._model.input_shape != (1, n_features):
            raise ModelError(
                f"the model takes {self._model.input_shape}, its manifest names {n_features} features",
                where=str(bundle.path),
            )
        self._baseline = np.array(bundle.manifest.baseline, dtype=np.float32)

    def score(self, vector: FeatureVector) -> Score:
        """Normalised score: 1.0 is the threshold, more is further from healthy.

        A missing feature is put at its baseline, so it adds nothing, and lowers the quality. With
        too many missing, or a result that is no number, there is no score: NaN, quality bad.

        Raises
        ------
        ModelError
            If the vector is of another schema than the model.
        """
        manifest = self.manifest
        if vector.schema.id != manifest.schema_id:
            raise ModelError(self._difference(vector), where=manifest.name, mend="Learn a new model")
        missing = ~np.isfinite(vector.values)
        quality = vector.quality
        share = float(missing.mean())
        if share > MOST_MISSING:
            return self._none(vector, "missing")
        x = vector.values[None, :]
        if share:
            x = np.where(missing, self._baseline, x)
            quality = worst(quality, uncertain("missing"))
        outputs = self._model.run(x)
        raw = float(outputs["score"][0])
        if not math.isfinite(raw):
            return self._none(vector, "nonfinite")
        contributions = self._contributions(outputs["squared_residuals"][0])
        value = raw / manifest.threshold.value
        return Score(vector.machine, value, manifest.name, vector.stamp, contributions, quality)

    def _contributions(self, squares: Float32Array) -> tuple[tuple[str, float], ...]:
        total = float(squares.sum())
        if not total > 0:
            return ()
        strongest = np.argsort(squares)[::-1][:NAMED_CONTRIBUTIONS]
        names = self.manifest.feature_names
        return tuple((names[i], round(float(squares[i]) / total, 4)) for i in strongest)

    def _none(self, vector: FeatureVector, reason: str) -> Score:
        quality = worst(vector.quality, bad(reason))
        return Score(vector.machine, math.nan, self.manifest.name, vector.stamp, quality=quality)

    def _difference(self, vector: FeatureVector) -> str:
        ours, theirs = set(self.manifest.feature_names), set(vector.schema.names)
        lacking, new = sorted(ours - theirs), sorted(theirs - ours)
        if not lacking and not new:
            return "the features come in another order or unit than the model was made for"
        parts = [f"lacks {_some(lacking)}"] if lacking else []
        parts += [f"has {_some(new)} that the model does not know"] if new else []
        return f"the vector {', and '.join(parts)}"


def _some(names: list[str]) -> str:
    return repr(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
