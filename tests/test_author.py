"""Authoring: the file computes what NumPy computes, under every runtime, with XNNPACK and without."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge.detect.author import Autoencoder, Scaling, write_autoencoder
from pdm_edge.detect.graph import Graph, Op
from pdm_edge.detect.layers import Conv, Depthwise, Fire, Layer, Upsample, backward, forward, to_int8
from pdm_edge.detect.runtime import RUNTIMES, TfliteModel, installed_runtimes
from pdm_edge.detect.train import Family, build, train
from pdm_edge.errors import ModelError

K = 32
Array = npt.NDArray[np.float32]


def healthy(n: int, seed: int = 0) -> Array:
    """Half of them levels of very different size, half of them signed; driven by four causes."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((4, K))
    y = random.standard_normal((n, 4)) @ mixing + 0.2 * random.standard_normal((n, K))
    y[:, : K // 2] = np.exp(0.3 * y[:, : K // 2]) * np.logspace(-4, 3, K // 2)
    return y.astype(np.float32)


def scaling() -> Scaling:
    x = healthy(400)
    marked = (np.arange(K) < K // 2).astype(np.float32)
    y = np.where(marked > 0, np.log(np.maximum(x, 1e-12)), x)
    return Scaling(y.mean(axis=0).astype(np.float32), (1 / y.std(axis=0)).astype(np.float32), marked)


@pytest.fixture(scope="module", params=["linear", "dense", "pruned", "mobilenet", "squeezenet"])
def net(request: pytest.FixtureRequest) -> Autoencoder:
    family: Family = request.param
    return train(healthy(100), scaling(), family=family, seed=3)


@pytest.fixture(params=installed_runtimes())
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
def test_the_float_file_scores_as_numpy_does(net: Autoencoder, runtime: str, xnnpack: bool) -> None:
    model = TfliteModel(write_autoencoder(net, quantize=False), runtime=runtime, xnnpack=xnnpack)
    rows = healthy(2000, seed=1)
    expected = net.squared_residuals(rows)
    got = [model.run(row[None, :]) for row in rows]
    scores = np.array([float(outputs["score"][0]) for outputs in got])
    np.testing.assert_allclose(scores, expected.mean(axis=1), rtol=1e-5, atol=1e-6)
    squares = np.concatenate([outputs["squared_residuals"] for outputs in got])
    # Single residuals may be differences of nearly equal numbers.
    np.testing.assert_allclose(squares, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
def test_the_int8_file_does_the_same_integer_arithmetic(
    net: Autoencoder, runtime: str, xnnpack: bool
) -> None:
    model = TfliteModel(write_autoencoder(net, quantize=True), runtime=runtime, xnnpack=xnnpack)
    rows = healthy(2000, seed=2)
    expected = net.squared_residuals(rows, int8=True).mean(axis=1)
    got = np.array([float(model.run(row[None, :])["score"][0]) for row in rows])
    off = np.abs(got / expected - 1)
    if xnnpack and net.shape[1] > 1 and runtime == "ai-edge-litert":
        # It gives each point of an image its own scale: other integers, nearly the same scores.
        assert float(np.median(off)) < 0.05
        return
    # A value that lies on the edge between two integers may fall to either side, and moves that
    # score by a percent; the more values a network has, the more often. All others are the same.
    assert float(np.median(off)) < 1e-5
    assert float(np.quantile(off, 0.9)) < 5e-3
    assert float(off.max()) < 0.2


def test_a_batch_scores_as_its_rows_do(net: Autoencoder, runtime: str) -> None:
    model = TfliteModel(write_autoencoder(net, quantize=False), runtime=runtime)
    rows = healthy(64, seed=4)
    single = np.array([float(model.run(row[None, :])["score"][0]) for row in rows])
    batch = model.run_batch(rows)["score"]
    np.testing.assert_allclose(batch, single, rtol=1e-5, atol=1e-6)
    again = float(model.run(rows[:1])["score"][0])
    assert again == pytest.approx(single[0], rel=1e-6)


def test_int8_weights_are_within_half_a_step_of_each_channel() -> None:
    random = np.random.default_rng(0)
    weights = (random.standard_normal((6, 1, 3, 4)) * np.logspace(-3, 1, 6)[:, None, None, None]).astype(
        np.float32
    )
    stored, scales = to_int8(weights, 0)
    back = stored.astype(np.float32) * scales[:, None, None, None]
    assert (np.abs(back - weights) <= 0.5001 * scales[:, None, None, None]).all()
    assert np.abs(stored.reshape(6, -1)).max(axis=1).tolist() == [127] * 6


def test_int8_is_smaller(net: Autoencoder) -> None:
    assert len(write_autoencoder(net, quantize=True)) < len(write_autoencoder(net, quantize=False))


def test_why_dense_layers_are_written_as_convolutions(runtime: str) -> None:
    """A dense layer with a scale for each channel is read wrong by tflite-runtime, a convolution is not."""
    random = np.random.default_rng(0)
    weights = (random.standard_normal((8, 16)) * np.logspace(-2, 0, 8)[:, None]).astype(np.float32)
    stored, scales = to_int8(weights, 0)
    x = random.standard_normal(16).astype(np.float32)
    expected = weights @ x

    def output(code: Op, shape: tuple[int, ...]) -> Any:
        graph = Graph()
        wide = (1,) * (len(shape) - 1) + (16,)
        given = graph.tensor("x", wide)
        held = graph.int8_constant("w", stored.reshape(shape), scales, 0)
        bias = graph.constant("b", np.zeros(8, dtype=np.float32))
        graph.operator(code, (given, held, bias), "y", (*wide[:-1], 8))
        content = graph.finish(inputs=[given], outputs=[3], description="test")
        return TfliteModel(content, runtime=runtime).run(x.reshape(wide))["y"].ravel()

    def right(y: Array) -> bool:
        return bool(np.abs(y - expected).max() < 0.1 * np.abs(expected).max())

    assert right(output(Op.CONV_2D, (8, 1, 1, 16)))
    assert right(output(Op.FULLY_CONNECTED, (8, 16))) == (runtime != "tflite-runtime")


def _conv(n_out: int, height: int, width: int, n_in: int, stride: int = 1, relu: bool = True) -> Conv:
    random = np.random.default_rng(n_out + 7 * width)
    weights = random.standard_normal((n_out, height, width, n_in)).astype(np.float32)
    return Conv(weights, random.standard_normal(n_out).astype(np.float32), relu, stride)


def _depthwise(n: int, stride: int) -> Depthwise:
    random = np.random.default_rng(n)
    return Depthwise(
        random.standard_normal((1, 3, 3, n)).astype(np.float32), np.zeros(n, np.float32), True, stride
    )


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (_conv(4, 1, 1, 6, relu=False), (1, 1, 6)),
        (_conv(4, 3, 3, 2, stride=2), (7, 6, 2)),
        (_depthwise(3, 1), (5, 4, 3)),
        (_depthwise(3, 2), (6, 7, 3)),
        (Fire(_conv(2, 1, 1, 3), _conv(3, 1, 1, 2), _conv(2, 1, 3, 2)), (1, 9, 3)),
        (Upsample(), (3, 4, 2)),
    ],
    ids=["point", "conv", "depthwise", "depthwise-stride", "fire", "upsample"],
)
def test_gradients_are_the_slopes(layer: Layer, shape: tuple[int, int, int]) -> None:
    from pdm_edge.detect.layers import weighted

    random = np.random.default_rng(1)
    x = random.standard_normal((2, *shape)).astype(np.float32)
    direction = random.standard_normal(forward(layer, x).shape).astype(np.float32)
    of_input, of_parameters = backward(layer, x, direction)
    arrays = [x, *(a for part in weighted((layer,)) for a in (part.weights, part.bias))]
    for array, gradient in zip(arrays, [of_input, *of_parameters], strict=True):
        assert gradient.shape == array.shape
        for index in random.integers(0, array.size, 5):
            held = array.flat[index]
            sums = []
            for step in (1e-2, -1e-2):
                array.flat[index] = held + np.float32(step)
                sums.append(float((forward(layer, x).astype(np.float64) * direction).sum()))
            array.flat[index] = held
            slope = (sums[0] - sums[1]) / 2e-2
            # A kink of the rectifier within the step bends the slope a little.
            assert float(gradient.flat[index]) == pytest.approx(slope, rel=0.1, abs=0.15)


def test_training_lowers_the_error_and_is_reproducible() -> None:
    x = healthy(200)
    first, second = (train(x, scaling(), seed=5) for _ in range(2))
    assert write_autoencoder(first, quantize=True) == write_autoencoder(second, quantize=True)
    assert float(first.squared_residuals(x).mean()) < 0.4  # 1.0 is what the mean alone explains


def test_pruning_makes_the_file_smaller_and_keeps_what_was_learned() -> None:
    x = healthy(200)
    whole, half = (train(x, scaling(), family=family, seed=5) for family in ("dense", "pruned"))
    sizes = [len(write_autoencoder(net, quantize=True)) for net in (whole, half)]
    assert sizes[1] < 0.9 * sizes[0]
    assert float(half.squared_residuals(x).mean()) < 0.6


def test_training_that_does_not_converge_is_an_error_and_no_model() -> None:
    x = healthy(50)
    x[3, -1] = np.inf
    with pytest.raises(ModelError, match="did not converge"):
        train(x, scaling(), family="dense")


def test_bands_that_make_no_line_are_refused() -> None:
    with pytest.raises(ModelError, match=r"30 features are no line of bands.*multiple of 8"):
        build("mobilenet", 30, np.random.default_rng(0))


def test_every_runtime_has_a_module_name() -> None:
    assert all(name in RUNTIMES for name in installed_runtimes())
    assert all(importlib.util.find_spec(RUNTIMES[name].split(".")[0]) for name in installed_runtimes())
