"""Learning what healthy looks like, on the gateway itself, in NumPy.

The first part of the windows trains, the last part is held back for the threshold: split by time,
since neighbouring windows are nearly alike and would let the network vouch for itself.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
import numpy.typing as npt

from pdm_edge._version import __version__
from pdm_edge.detect.author import Autoencoder, Layer, write_autoencoder
from pdm_edge.detect.bundle import Manifest, Threshold, Training
from pdm_edge.detect.runtime import TfliteModel
from pdm_edge.detect.thresholds import quantile_threshold
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector

FEWEST_WINDOWS: Final = 20
TRAINING_SHARE: Final = 0.7
QUANTILE: Final = 0.99
MARGIN: Final = 2.0
"""Factor on the quantile. Held-back windows directly follow the training windows; later ones
scatter more. Squared residuals: a factor of 2 is 1.4 in amplitude."""

_RELATIVE_FLOOR: Final = 0.02
"""Smallest standard deviation of a feature, relative to its typical size: repeatability of a
mounted sensor is no better than some percent, whatever a short baseline shows."""

_EPOCHS: Final = 300
_BATCH: Final = 32
_RATE: Final = 3e-3
_DECAY: Final = 1e-4
_NOISE: Final = 0.1

Matrix = npt.NDArray[np.float32]


class Commissioning:
    """Collects healthy windows of one machine until there are enough to learn from."""

    def __init__(self, schema: FeatureSchema, windows_needed: int) -> None:
        if windows_needed < FEWEST_WINDOWS:
            raise ModelError(f"{windows_needed} windows are too few, at least {FEWEST_WINDOWS}")
        self.schema = schema
        self.needed = windows_needed
        self._vectors: list[FeatureVector] = []

    def add(self, vector: FeatureVector) -> bool:
        """Take a window; False if it is refused, because it is not of good quality.

        Raises
        ------
        ModelError
            If it is of another schema.
        """
        if vector.schema.id != self.schema.id:
            raise ModelError(f"window of schema {vector.schema.id}, collecting {self.schema.id}")
        if vector.quality.level != "good" or not np.isfinite(vector.values).any():
            return False
        self._vectors.append(vector)
        return True

    @property
    def collected(self) -> int:
        return len(self._vectors)

    @property
    def complete(self) -> bool:
        return self.collected >= self.needed

    def finish(self, *, name: str, seed: int = 1, quantize: bool = True) -> tuple[bytes, Manifest]:
        """Train on what was collected; see `commission`."""
        return commission(self._vectors, name=name, seed=seed, quantize=quantize)


def commission(
    vectors: list[FeatureVector], *, name: str, seed: int = 1, quantize: bool = True
) -> tuple[bytes, Manifest]:
    """A model and its manifest from healthy windows, in the order in which they were taken.

    Raises
    ------
    ModelError
        If there are too few windows, or a feature was never seen.
    """
    if len(vectors) < FEWEST_WINDOWS:
        raise ModelError(f"{len(vectors)} windows are too few", mend=f"At least {FEWEST_WINDOWS} are needed")
    schema = vectors[0].schema
    x = np.stack([vector.values for vector in vectors])
    # A feature that does not exist for this machine (a line beyond the spectrum) is NaN in all
    # windows; it is learned as constant zero and can never carry a score.
    typical = np.array([_median(column) for column in x.T], dtype=np.float32)
    x = np.where(np.isfinite(x), x, typical)
    n_train = round(len(x) * TRAINING_SHARE)
    net = train_autoencoder(x[:n_train], seed=seed)
    model = write_autoencoder(net, quantize=quantize)
    runner = TfliteModel(model)
    held_back = np.array([float(runner.run(row[None, :])["score"][0]) for row in x[n_train:]])
    if not np.isfinite(held_back).all():
        raise ModelError("training did not converge: scores are not finite")
    value, derivation = quantile_threshold(held_back, QUANTILE, MARGIN)
    manifest = Manifest(
        name=name,
        created_by=f"pdm-edge {__version__}",
        feature_names=schema.names,
        feature_units=schema.units,
        schema_id=schema.id,
        baseline=tuple(float(v) for v in typical),
        quantization="hybrid-int8" if quantize else "float32",
        threshold=Threshold(
            value=max(value, float(np.finfo(np.float32).tiny)),
            quantile=QUANTILE,
            held_back_windows=len(held_back),
            margin=MARGIN,
            derivation=derivation,
        ),
        training=Training(
            windows=n_train,
            window_s=vectors[0].window_s,
            states=tuple(sorted({vector.state for vector in vectors})),
            first_utc_ns=vectors[0].stamp.utc_ns,
            last_utc_ns=vectors[-1].stamp.utc_ns,
            seed=seed,
        ),
    )
    return model, manifest


def train_autoencoder(x: Matrix, *, seed: int) -> Autoencoder:
    """A dense autoencoder k-h-b-h-k, trained with Adam on noisy input (denoising).

    Parameters
    ----------
    x
        Healthy windows, shape ``(n_windows, n_features)``, without NaN.
    """
    random = np.random.default_rng(seed)
    mean = x.mean(axis=0, dtype=np.float64)
    floor = _RELATIVE_FLOOR * np.abs(mean)
    std = np.maximum(np.maximum(x.std(axis=0, dtype=np.float64), floor), 1e-9)
    z = ((x - mean) / std).astype(np.float32)
    k = x.shape[1]
    hidden = max(4, k // 2)
    sizes = [k, hidden, max(2, k // 8), hidden, k]
    weights = [
        (random.standard_normal((b, a)) * np.sqrt(1.0 / a)).astype(np.float32)
        for a, b in itertools.pairwise(sizes)
    ]
    biases = [np.zeros(b, dtype=np.float32) for b in sizes[1:]]
    _adam(z, weights, biases, random)
    last = len(weights) - 1
    layers = tuple(
        Layer(w, b, relu=index not in (1, last))
        for index, (w, b) in enumerate(zip(weights, biases, strict=True))
    )
    return Autoencoder(mean.astype(np.float32), (1.0 / std).astype(np.float32), layers)


def _adam(z: Matrix, weights: list[Matrix], biases: list[Matrix], random: np.random.Generator) -> None:
    """Train in place (Kingma and Ba 2015, with decoupled weight decay)."""
    parameters = [*weights, *biases]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    step = 0
    for _ in range(_EPOCHS):
        order = random.permutation(len(z))
        for start in range(0, len(z), _BATCH):
            step += 1
            batch = z[order[start : start + _BATCH]]
            noisy = batch + _NOISE * random.standard_normal(batch.shape).astype(np.float32)
            gradients = _gradients(noisy, batch, weights, biases)
            rate = _RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= rate * m / (np.sqrt(v) + 1e-8)
            for w in weights:
                w *= 1 - _DECAY


def _gradients(x: Matrix, target: Matrix, weights: list[Matrix], biases: list[Matrix]) -> list[Matrix]:
    """Of the mean squared error; the code layer and the last one are linear."""
    last = len(weights) - 1
    inputs, outputs = [x], []
    for index, (w, b) in enumerate(zip(weights, biases, strict=True)):
        y = inputs[-1] @ w.T + b
        outputs.append(y)
        inputs.append(y if index in (1, last) else np.maximum(y, 0))
    delta = 2.0 * (inputs[-1] - target) / x.shape[0]
    of_weights: list[Matrix] = []
    of_biases: list[Matrix] = []
    for index in range(last, -1, -1):
        if index not in (1, last):
            delta = delta * (outputs[index] > 0)
        of_weights.insert(0, (delta.T @ inputs[index]).astype(np.float32))
        of_biases.insert(0, delta.sum(axis=0).astype(np.float32))
        delta = delta @ weights[index]
    return [*of_weights, *of_biases]


def _median(column: npt.NDArray[np.float32]) -> float:
    seen = column[np.isfinite(column)]
    return float(np.median(seen)) if seen.size else 0.0
