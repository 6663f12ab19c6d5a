"""Models made elsewhere: checked, packed, run; and the figures of `pdm-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import ModelInput, load_bundle, write_bundle
from pdm_edge.detect.feed import BandLevels
from pdm_edge.detect.foreign import described
from pdm_edge.detect.graph import Graph, Op
from pdm_edge.detect.guard import try_model
from pdm_edge.detect.life import ModelLife
from pdm_edge.detect.runtime import TfliteModel, installed_runtimes
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector, Stamp, Waveform

MODELS = Path(__file__).parent / "models"
K = 16
FEATURES = "\n".join(f'[[feature]]\nname = "de/x/f{i}"\nunit = "1"\nbaseline = 0.0\n' for i in range(K))


def description(folder: Path, output: str, extra: str = "", features: str = FEATURES) -> Path:
    path = folder / "model.toml"
    path.write_text(
        f"""name = "foreign"
threshold = 0.5
threshold_from = "given by hand"
window_s = 1.0
{extra or 'input = { kind = "features" }'}
output = {output}
{features}"""
    )
    return path


@pytest.fixture(params=["keras", "torch"])
def foreign(request: pytest.FixtureRequest) -> Path:
    return MODELS / f"{request.param}.tflite"


@pytest.fixture(params=installed_runtimes())
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def healthy() -> Any:
    """What both models were trained on."""
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 3)) @ random.standard_normal((3, K))
    return x.astype(np.float32)


def test_a_model_of_keras_and_one_of_pytorch_judge_by_a_description(
    foreign: Path, runtime: str, tmp_path: Path
) -> None:
    content = foreign.read_bytes()
    name = next(iter(try_model(content, runtime=runtime).outputs))
    manifest = described(description(tmp_path, f'{{ kind = "reconstruction", name = "{name}" }}'))
    write_bundle(tmp_path / "bundle", content, manifest)
    detector = AnomalyDetector(load_bundle(tmp_path / "bundle"), runtime=runtime)
    stamp = Stamp(0, 0, "boot", True)

    def score(row: Any) -> Any:
        return detector.score(FeatureVector("m", row, manifest.schema, stamp, 1.0))

    fine = [score(row).value for row in healthy()[:100]]
    broken = healthy()[:100]
    broken[:, 5] += 6
    high = [score(row) for row in broken]
    assert float(np.median(fine)) < 1.0
    assert float(np.median([s.value for s in high])) > 1.0
    carried = [s.contributions[0][0] for s in high]
    assert max(set(carried), key=carried.count) == "de/x/f5"


@pytest.mark.parametrize("file", ["ad01_fp32.tflite", "ad01_int8.tflite"])
def test_the_mlperf_tiny_models_run_unchanged(recordings: Path, runtime: str, file: str) -> None:
    model = TfliteModel((recordings / "mlperf_tiny_ad" / file).read_bytes(), runtime=runtime)
    assert model.input_shape == (1, 640)
    assert model.int8_input == ("int8" in file)
    x = np.random.default_rng(0).normal(-20, 5, (1, 640)).astype(np.float32)
    outputs = model.run(x)
    rebuilt = outputs[model.output_names[0]]
    assert rebuilt.shape == (1, 640)
    assert rebuilt.dtype == np.float32
    # It gives back the general level of what it was given, not something of another kind.
    assert abs(float(rebuilt.mean()) - float(x.mean())) < 10


def test_what_does_not_fit_is_said(foreign: Path, tmp_path: Path) -> None:
    content = foreign.read_bytes()
    wrong = described(description(tmp_path, '{ kind = "score", name = "" }'))
    write_bundle(tmp_path / "bundle", content, wrong)
    with pytest.raises(ModelError, match=r"has 16 values, a score has 1.*It has"):
        AnomalyDetector(load_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize(
    ("extra", "features", "message"),
    [
        ('input = { kind = "features" }', "", r"names no features"),
        ('input = { kind = "spectrum", bands = 4, high_hz = 100 }', "", r"needs input\.sensor"),
        ('input = { kind = "features", offset = [1.0] }', FEATURES, r"offset has 1 values for 16"),
        ('input = { kind = "picture" }', FEATURES, r"Invalid enum value 'picture'"),
    ],
)
def test_a_description_that_leaves_something_open_is_refused(
    tmp_path: Path, extra: str, features: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        described(description(tmp_path, '{ kind = "reconstruction", name = "" }', extra, features))


def test_rate_and_unit_are_part_of_what_a_model_is_fed_with(tmp_path: Path) -> None:
    def schema(rate: str) -> str:
        spectrum = f"""input = {{ kind = "spectrum", sensor = "de", bands = 4, low_hz = 10, high_hz = 100 }}
sample_rate_hz = {rate}
unit = "g"
"""
        return described(description(tmp_path, '{ name = "" }', spectrum, "")).schema_id

    assert schema("12800.0") != schema("25600.0")


def test_band_levels_are_those_of_a_known_tone() -> None:
    given = ModelInput(kind="spectrum", sensor="de", bands=8, low_hz=0, high_hz=4000)
    time_s = np.arange(12800) / 12800
    tone = (np.sqrt(2) * 0.5 * np.sin(2 * np.pi * 1250 * time_s)).astype(np.float32)
    levels = BandLevels(given, 12800, 12800.0)(tone)
    assert float(levels[2]) == pytest.approx(20 * np.log10(0.5), abs=0.01)
    assert float(np.delete(levels, 2).max()) < -80


@pytest.mark.parametrize("kind", ["spectrum", "spectrogram", "waveform"])
def test_a_machine_is_judged_by_a_model_fed_with_its_windows(tmp_path: Path, kind: str) -> None:
    """A network of one identity layer that gives back nothing: its score is the mean square of its input."""
    n_samples = 1280
    shape = {"spectrum": "bands = 4", "spectrogram": "bands = 4, frames = 2", "waveform": "axis = 0"}[kind]
    bands = "" if kind == "waveform" else ", low_hz = 0, high_hz = 4000"
    told = f"""input = {{ kind = "{kind}", sensor = "de", {shape}{bands} }}
sample_rate_hz = 12800.0
unit = "g"
"""
    path = description(tmp_path, '{ kind = "reconstruction", name = "y" }', told, "")
    path.write_text(path.read_text().replace("window_s = 1.0", "window_s = 0.1"))
    manifest = described(path)
    n_inputs = len(manifest.feature_names)
    assert n_inputs == {"spectrum": 4, "spectrogram": 8, "waveform": n_samples}[kind]
    graph = Graph()
    x = graph.tensor("x", (1, n_inputs))
    nothing = graph.constant("nothing", np.zeros(n_inputs, dtype=np.float32))
    y = graph.operator(Op.MUL, (x, nothing), "y", (1, n_inputs))
    write_bundle(tmp_path / "b", graph.finish(inputs=[x], outputs=[y], description="none"), manifest)
    judged = ModelLife("pump", tmp_path, given=tmp_path / "b", learn_windows=0)
    samples = np.random.default_rng(0).standard_normal((1, n_samples)).astype(np.float32)
    stamp = Stamp(0, 0, "boot", True)
    other = FeatureVector(
        "pump", np.zeros(1, np.float32), FeatureSchema(("f",), ("g",)), stamp, 0.1, "running"
    )
    assert judged.score(other) is None
    judged.feed(Waveform("de", samples, 12800.0, "g", ("x",), stamp))
    score = judged.score(other)
    assert score is not None
    if kind == "waveform":
        assert score.value == pytest.approx(float(np.square(samples).mean()) / 0.5, rel=1e-4)
    assert score.value > 1
    judged.feed(Waveform("de", samples, 25600.0, "g", ("x",), stamp))
    with pytest.raises(ModelError, match="Learn a new model"):
        judged.score(other)
