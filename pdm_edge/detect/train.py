"""Builds and trains compact autoencoders in NumPy: three families, one training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import numpy as np

from pdm_edge.detect.author import Autoencoder, Scaling
from pdm_edge.detect.layers import Array, Conv, Depthwise, Fire, Layer, Upsample, backward, forward, weighted
from pdm_edge.detect.yardsticks import SMALLEST_VARIANCE
from pdm_edge.errors import ModelError

Family: TypeAlias = Literal["linear", "dense", "pruned", "mobilenet", "squeezenet"]

_STEPS: Final = 2000
_FEWEST_EPOCHS: Final = 30
_MOST_EPOCHS: Final = 300
_BATCH: Final = 32
_RATE: Final = 3e-3
_DECAY: Final = 1e-4
_NOISE: Final = 0.1

Progress: TypeAlias = Callable[[float], None]


def train(
    x: Array, scaling: Scaling, *, family: Family = "linear", seed: int = 1, progress: Progress | None = None
) -> Autoencoder:
    """An autoencoder, trained with Adam on noisy input (denoising) to give back the clean one.

    Parameters
    ----------
    x
        Healthy windows, shape ``(n_windows, n_features)``, without NaN.
    progress
        Called with the share that is done, 0 to 1.

    Raises
    ------
    ModelError
        If the features cannot be laid out for the family.
    """
    random = np.random.default_rng(seed)
    if family == "linear":
        return Autoencoder(scaling, (1, 1, x.shape[1]), (whitening(scaling(x)),))
    shape, layers = build("dense" if family == "pruned" else family, x.shape[1], random)
    z = scaling(x).reshape(-1, *shape)
    adapt(z, layers, random, progress)
    if family == "pruned":
        layers = pruned(layers)
        adapt(z, layers, random, None)
    return Autoencoder(scaling, shape, layers)


def whitening(z: Array) -> Conv:
    """The linear layer whose squared residual is the squared Mahalanobis distance of scaled `z`.

    A residual ``z - M z`` with ``M = 1 - C^(-1/2)`` is z made white without being turned (ZCA), so
    each part of the distance still belongs to one feature. Closed form: nothing is trained.
    """
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(z.astype(np.float64), rowvar=False)))
    inverse_root = (directions / np.sqrt(np.maximum(variances, SMALLEST_VARIANCE))) @ directions.T
    matrix = (np.eye(z.shape[1]) - inverse_root).astype(np.float32)
    return Conv(matrix[:, None, None, :], np.zeros(z.shape[1], dtype=np.float32), relu=False)


def pruned(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Dense layers without the weaker half of their hidden units; to be trained on.

    A unit's strength is the norm of its weights in, times that of its weights out. Whole units go, so
    that the file gets smaller and quicker, which single weights set to zero would not make it.
    """
    kept = [layer for layer in layers if isinstance(layer, Conv)]
    for index in range(len(kept) - 1):
        into, out = kept[index], kept[index + 1]
        strength = np.linalg.norm(into.weights.reshape(into.bias.size, -1), axis=1)
        strength = strength * np.linalg.norm(out.weights.reshape(out.bias.size, -1), axis=0)
        strongest = np.sort(np.argsort(-strength)[: max(2, -(-strength.size // 2))])
        kept[index] = replace(into, weights=into.weights[strongest].copy(), bias=into.bias[strongest].copy())
        kept[index + 1] = replace(out, weights=out.weights[..., strongest].copy())
    return tuple(kept)


def build(
    family: Family, n_features: int, random: np.random.Generator
) -> tuple[tuple[int, int, int], tuple[Layer, ...]]:
    """Shape of the image and untrained layers.

    The dense one takes the vector as one point of many channels; the two others take it as a line
    of neighbouring bands, whose number must be a multiple of 8.
    """
    if family == "dense":
        hidden, code = max(4, n_features // 2), max(2, n_features // 8)
        sizes = [n_features, hidden, code, hidden, n_features]
        relu = (True, False, True, False)
        pairs = zip(sizes[:-1], sizes[1:], relu, strict=True)
        return (1, 1, n_features), tuple(_conv(random, a, b, 1, relu=r) for a, b, r in pairs)
    if n_features % 8 or n_features < 16:
        raise ModelError(
            f"{n_features} features are no line of bands", mend="Give a multiple of 8, at least 16 bands"
        )
    down = _mobile if family == "mobilenet" else _fire
    layers: list[Layer] = [_conv(random, 1, 8, 3, stride=2)]
    layers += down(random, 8, 16, 2)
    layers += down(random, 16, 16, 2)
    layers.append(_conv(random, 16, 4, 1, relu=False))
    for inputs, outputs in ((4, 16), (16, 16), (16, 8)):
        layers.append(Upsample())
        layers += down(random, inputs, outputs, 1)
    layers.append(_conv(random, 8, 1, 1, relu=False))
    return (1, n_features, 1), tuple(layers)


def adapt(
    z: Array, layers: tuple[Layer, ...], random: np.random.Generator, progress: Progress | None
) -> None:
    """Train in place (Adam, Kingma and Ba 2015, with decoupled weight decay).

    Raises
    ------
    ModelError
        If it does not converge.
    """
    # Some BLAS kernels raise the flag for an invalid value on small matrices without there being one;
    # whether there is one is asked of the result.
    with np.errstate(invalid="ignore"):
        _descend(z, layers, random, progress)
    if not all(np.isfinite(part.weights).all() for part in weighted(layers)):
        raise ModelError("training did not converge: weights are not finite")


def _descend(
    z: Array, layers: tuple[Layer, ...], random: np.random.Generator, progress: Progress | None
) -> None:
    parts = list(weighted(layers))
    parameters = [array for part in parts for array in (part.weights, part.bias)]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    epochs = int(np.clip(_STEPS * _BATCH // max(len(z), 1), _FEWEST_EPOCHS, _MOST_EPOCHS))
    step = 0
    for epoch in range(epochs):
        order = random.permutation(len(z))
        for start in range(0, len(z), _BATCH):
            step += 1
            batch = z[order[start : start + _BATCH]]
            noisy = batch + _NOISE * random.standard_normal(batch.shape, dtype=np.float32)
            gradients = _gradients(noisy, batch, layers)
            rate = _RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= rate * m / (np.sqrt(v) + 1e-8)
            for part in parts:
                part.weights[...] *= 1 - _DECAY
        if progress is not None:
            progress((epoch + 1) / epochs)


def _gradients(x: Array, target: Array, layers: tuple[Layer, ...]) -> list[Array]:
    """Of the squared error, mean over the batch."""
    inputs = [x]
    for layer in layers:
        inputs.append(forward(layer, inputs[-1]))
    delta = (2.0 / len(x)) * (inputs[-1] - target)
    gradients: list[Array] = []
    for layer, given in zip(reversed(layers), reversed(inputs[:-1]), strict=True):
        delta, by_parameters = backward(layer, given, delta)
        gradients = by_parameters + gradients
    return gradients


def _conv(
    random: np.random.Generator, n_in: int, n_out: int, width: int, *, relu: bool = True, stride: int = 1
) -> Conv:
    weights = random.standard_normal((n_out, 1, width, n_in)) * np.sqrt(1.0 / (n_in * width))
    return Conv(weights.astype(np.float32), np.zeros(n_out, dtype=np.float32), relu, stride)


def _mobile(random: np.random.Generator, n_in: int, n_out: int, stride: int) -> list[Layer]:
    """A depthwise filter of three points, then a mixing of channels (Howard et al., MobileNets, 2017)."""
    weights = (random.standard_normal((1, 1, 3, n_in)) * np.sqrt(1 / 3)).astype(np.float32)
    wide = Depthwise(weights, np.zeros(n_in, dtype=np.float32), relu=True, stride=stride)
    return [wide, _conv(random, n_in, n_out, 1)]


def _fire(random: np.random.Generator, n_in: int, n_out: int, stride: int) -> list[Layer]:
    squeezed = max(2, n_out // 4)
    fire = Fire(
        _conv(random, n_in, squeezed, 1, stride=stride),
        _conv(random, squeezed, n_out // 2, 1),
        _conv(random, squeezed, n_out // 2, 3),
    )
    return [fire]
