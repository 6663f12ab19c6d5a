"""Scores a machine's vector with the model of its bundle."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pdm_edge.detect.bundle import Bundle, Manifest
from pdm_edge.detect.runtime import TfliteModel
from pdm_edge.detect.scaling import logarithmic
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureVector, Float32Array, Score, bad, uncertain, worst

NAMED_CONTRIBUTIONS: Final = 5
MOST_MISSING: Final = 0.5
"""Share of missing features above which a vector is not scored."""

EXPLAINED_FROM: Final = 0.5
"""Normalised score from which its contributions are named; below, there is nothing to explain."""


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
        self._output = _Output(bundle.manifest, self._model, str(bundle.path))
        self._states = _states(bundle.manifest)
        self._baseline = np.array(bundle.manifest.baseline, dtype=np.float32)
        given = bundle.manifest.input
        self._names = bundle.manifest.feature_names
        self._offset = np.array(given.offset, dtype=np.float32)
        self._factor = np.array(given.factor, dtype=np.float32)

    def knows(self, state: str) -> bool:
        """Whether an operating state was learned; all are if the model was made without states."""
        return not self._states or state in self._states or self._speed_open(state)

    def has_normal(self, state: str) -> bool:
        """Whether a state has a typical vector of its own, to compare with feature by feature."""
        return not self._states or state in self._states

    def _speed_open(self, state: str) -> bool:
        """Whether it may be any of the learned states, which differ by a speed that is not told."""
        return bool(self.manifest.speeds) and any(name.startswith(f"{state} at ") for name in self._states)

    def score(self, vector: FeatureVector) -> Score:
        """Normalised score: 1.0 is the threshold, more is further from healthy.

        A missing feature is put at its baseline, so it adds nothing, and lowers the quality. With
        too many missing, in an operating state that was never learned, or with a result that is
        no number, there is no score: NaN, with the reason in its quality. What carries it is named
        from `EXPLAINED_FROM` on. Where speeds are told apart by their lines and these tell none, the
        score is that of the learned state which fits best.

        Raises
        ------
        ModelError
            If the vector is of another schema than the model.
        """
        manifest = self.manifest
        if vector.schema.id != manifest.schema_id:
            raise ModelError(self._difference(vector), where=manifest.name, mend="Learn a new model")
        if not self.knows(vector.state):
            return self._none(vector, "unlearned")
        x = vector.values
        quality = vector.quality
        if not np.isfinite(x).all():
            missing = ~np.isfinite(x)
            if missing.mean() > MOST_MISSING:
                return self._none(vector, "missing")
            x = np.where(missing, self._typical(vector.state), x)
            quality = worst(quality, uncertain("missing"))
        if self.has_normal(vector.state):
            raw, squares = self._raw(self._as_input(x, vector.state))
        else:
            raw, squares = min((self._raw(self._as_input(x, s)) for s in self._states), key=_by_score)
        if not math.isfinite(raw):
            return self._none(vector, "nonfinite")
        value = raw / manifest.threshold.value
        carried = self._contributions(squares) if value >= EXPLAINED_FROM else ()
        return Score(vector.machine, value, manifest.name, vector.stamp, carried, quality)

    def score_rows(self, rows: Float32Array, state: str = "") -> npt.NDArray[np.float64]:
        """Normalised scores of complete vectors, shape ``(n, n_features)``, in one call of the model.

        Raises
        ------
        ModelError
            If the shape is not the model's.
        """
        if rows.ndim != 2 or rows.shape[1] != self._baseline.size:
            raise ModelError(f"rows have shape {rows.shape}, the model takes (n, {self._baseline.size})")
        x = self._as_input(rows, state)
        outputs = self._model.run_batch(x)
        raw = self._output.scores(outputs, x.reshape(len(rows), -1))
        return raw.astype(np.float64) / self.manifest.threshold.value

    def invoke_only(self, row: Float32Array) -> Callable[[], Any]:
        """See `TfliteModel.invoke_only`."""
        return self._model.invoke_only(row.reshape(self._model.input_shape))

    def _as_input(self, x: Float32Array, state: str) -> Float32Array:
        held = self._states.get(state)
        if held is not None:
            # Each state has its own normal: what is left is the deviation from it.
            x = x * held[1] + held[2]
        if self._offset.size:
            x = (x - self._offset) * self._factor
        return x if x.dtype == np.float32 else x.astype(np.float32)

    def _typical(self, state: str) -> Float32Array:
        held = self._states.get(state)
        return self._baseline if held is None else held[0]

    def _raw(self, x: Float32Array) -> tuple[float, Float32Array | None]:
        outputs = self._model.run(x.reshape(self._model.input_shape))
        return self._output.one(outputs, x)

    def _contributions(self, squares: Float32Array | None) -> tuple[tuple[str, float], ...]:
        if squares is None:
            return ()
        values = squares.tolist()  # of a few dozen values, plain Python is the quicker one
        total = sum(values)
        if not total > 0:
            return ()
        strongest = heapq.nlargest(NAMED_CONTRIBUTIONS, zip(values, self._names, strict=True))
        return tuple((name, round(value / total, 4)) for value, name in strongest)

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


class _Output:
    """How the outputs of a model become one score, as its manifest says."""

    def __init__(self, manifest: Manifest, model: TfliteModel, where: str) -> None:
        n_inputs = math.prod(model.input_shape)
        if n_inputs != len(manifest.feature_names):
            count = len(manifest.feature_names)
            raise ModelError(
                f"the model takes {model.input_shape}, its manifest names {count} features", where=where
            )
        wanted = manifest.output
        self.name = wanted.name or model.output_names[0]
        if self.name not in model.output_names:
            raise ModelError(f"the model has no output {self.name!r}", where=where, mend=_has(model))
        self.reconstruction = wanted.kind == "reconstruction"
        self.residuals = wanted.residuals if wanted.residuals in model.output_names else ""
        size = math.prod(model.output_shapes[self.name])
        expected = n_inputs if self.reconstruction else 1
        if size != expected:
            raise ModelError(
                f"output {self.name!r} has {size} values, a {wanted.kind} has {expected}",
                where=where,
                mend=_has(model),
            )

    def one(self, outputs: dict[str, Float32Array], x: Float32Array) -> tuple[float, Float32Array | None]:
        if self.reconstruction:
            squares = np.square(outputs[self.name].ravel() - x.ravel())
            return float(squares.mean()), squares
        squares = outputs[self.residuals].ravel() if self.residuals else None
        return float(outputs[self.name].flat[0]), squares

    def scores(self, outputs: dict[str, Float32Array], x: Float32Array) -> Float32Array:
        values = outputs[self.name].reshape(len(x), -1)
        found: Float32Array = np.square(values - x).mean(axis=1) if self.reconstruction else values[:, 0]
        return found


def _by_score(found: tuple[float, Float32Array | None]) -> float:
    return found[0]


def _has(model: TfliteModel) -> str:
    return f"It has {', '.join(f'{n} {model.output_shapes[n]}' for n in model.output_names)}"


def _states(manifest: Manifest) -> dict[str, tuple[Float32Array, Float32Array, Float32Array]]:
    """Typical vector of each state, and the factor and offset that bring it to the overall one."""
    levels = logarithmic(manifest.feature_names, manifest.feature_units)
    overall = np.array(manifest.baseline)
    found = {}
    for name, state in manifest.states.items():
        typical = np.array(state.baseline)
        factor = np.where(levels & (typical > 0), overall / np.where(typical > 0, typical, 1.0), 1.0)
        offset = np.where(levels, 0.0, overall - typical)
        found[name] = (typical.astype(np.float32), factor.astype(np.float32), offset.astype(np.float32))
    return found


def _some(names: Sequence[str]) -> str:
    return repr(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
