"""Detect: the file agrees with NumPy, damaged bundles are refused, healthy stays silent."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle, Manifest, find_bundle, load_bundle, write_bundle
from pdm_edge.detect.collect import Commissioning
from pdm_edge.detect.commission import commission
from pdm_edge.detect.guard import try_model
from pdm_edge.detect.runtime import TfliteModel, installed_runtimes
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema, FeatureVector, Quality, Stamp, uncertain

K = 16
SCHEMA = FeatureSchema(tuple(f"f{i}" for i in range(K)), ("g",) * K)
STAMP = Stamp(0, 0, "boot", True)
Matrix = npt.NDArray[np.float32]


def healthy(n: int, seed: int = 0) -> Matrix:
    """Features driven by three latent causes, of very different sizes, as real ones are."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((3, K))
    size = np.logspace(-2, 2, K)
    x = random.standard_normal((n, 3)) @ mixing + 0.2 * random.standard_normal((n, K)) + 10.0
    return (x * size).astype(np.float32)


def vector(values: npt.ArrayLike, quality: Quality | None = None) -> FeatureVector:
    array = np.asarray(values, dtype=np.float32)
    return FeatureVector("pump", array, SCHEMA, STAMP, 1.0, quality=quality or Quality())


@pytest.fixture(scope="module")
def made() -> tuple[bytes, Manifest]:
    return commission([vector(x) for x in healthy(200)], name="test")


@pytest.fixture
def bundle(tmp_path: Path, made: tuple[bytes, Manifest]) -> Path:
    path = tmp_path / "bundle"
    write_bundle(path, *made)
    return path


@pytest.fixture(params=installed_runtimes())
def runtime(request: pytest.FixtureRequest) -> str:
    """Every runtime that is here; `make test` runs this file once under each of the two."""
    return str(request.param)


def test_the_runtime_that_this_run_is_for_is_here() -> None:
    assert installed_runtimes()
    assert os.environ.get("PDM_EXPECT_RUNTIME", installed_runtimes()[0]) in installed_runtimes()


def test_a_growing_fault_grows_the_score_however_large_it_gets(made: tuple[bytes, Manifest]) -> None:
    detector = AnomalyDetector(Bundle(Path(), made[1], made[0]))
    base = healthy(1, seed=5)[0]
    scores = []
    for factor in (1.0, 3.0, 10.0, 100.0, 1e4):
        row = base.copy()
        row[4] *= factor
        scores.append(detector.score(vector(row)).value)
    assert scores[0] < 1.0
    assert all(b > a for a, b in itertools.pairwise(scores))
    # Levels count by their logarithm: ten thousand times is 80 dB, not a hundred million.
    assert scores[-1] > 10


def test_a_score_names_the_feature_that_carries_it(made: tuple[bytes, Manifest]) -> None:
    detector = AnomalyDetector(Bundle(Path(), made[1], made[0]))
    row = healthy(1, seed=5)[0]
    row[7] *= 5
    name, share = detector.score(vector(row)).contributions[0]
    assert name == "f7"
    assert 0.5 < share <= 1.0


def test_held_back_healthy_windows_stay_below_the_threshold(made: tuple[bytes, Manifest]) -> None:
    detector = AnomalyDetector(Bundle(Path(), made[1], made[0]))
    scores = np.array([detector.score(vector(x)).value for x in healthy(2000, seed=7)])
    assert float(np.mean(scores >= 1.0)) < 0.01


def test_learning_is_reproducible(made: tuple[bytes, Manifest]) -> None:
    model, manifest = commission([vector(x) for x in healthy(200)], name="test")
    assert model == made[0]
    assert manifest == made[1]


def test_a_missing_feature_adds_nothing_and_lowers_the_quality(made: tuple[bytes, Manifest]) -> None:
    detector = AnomalyDetector(Bundle(Path(), made[1], made[0]))
    row = healthy(1, seed=5)[0]
    row[3] = math.nan
    score = detector.score(vector(row))
    assert score.value < 1.0
    assert score.quality == uncertain("missing")


def test_a_vector_with_most_missing_gets_no_score(made: tuple[bytes, Manifest]) -> None:
    detector = AnomalyDetector(Bundle(Path(), made[1], made[0]))
    row = np.full(K, math.nan)
    row[:5] = 1.0
    score = detector.score(vector(row))
    assert math.isnan(score.value)
    assert (score.quality.level, score.quality.reasons) == ("bad", ("missing",))


def test_a_result_that_is_no_number_is_no_score(made: tuple[bytes, Manifest]) -> None:
    # Only a plain quantity can overflow; of levels the logarithm is taken.
    schema = FeatureSchema(SCHEMA.names, ("degc",) * K)
    warm = [FeatureVector("pump", x, schema, STAMP, 1.0) for x in healthy(60)]
    model, manifest = commission(warm, name="t")
    detector = AnomalyDetector(Bundle(Path(), manifest, model))
    score = detector.score(FeatureVector("pump", np.full(K, 3e38, np.float32), schema, STAMP, 1.0))
    assert math.isnan(score.value)
    assert score.quality.reasons == ("nonfinite",)


def test_another_schema_is_refused_and_the_difference_named(made: tuple[bytes, Manifest]) -> None:
    detector = AnomalyDetector(Bundle(Path(), made[1], made[0]))
    other = FeatureSchema(("f0", "new"), ("g", "g"))
    with pytest.raises(ModelError, match=r"lacks 'f1' and 14 more, and has 'new'.*Learn a new model"):
        detector.score(FeatureVector("pump", np.zeros(2, np.float32), other, STAMP, 1.0))


def test_a_bundle_comes_back_as_it_was_written(bundle: Path, made: tuple[bytes, Manifest]) -> None:
    loaded = load_bundle(bundle)
    assert loaded.model == made[0]
    assert loaded.manifest.threshold == made[1].threshold
    assert loaded.manifest.schema == SCHEMA
    assert "held-back healthy positions" in loaded.manifest.threshold.derivation


def test_no_damage_to_a_bundle_goes_unnoticed(bundle: Path) -> None:
    random, refused = np.random.default_rng(11), 0
    names = ("model.tflite", "manifest.json")
    originals = {name: (bundle / name).read_bytes() for name in names}
    for trial in range(200):
        name = names[trial % 2]
        content = bytearray(originals[name])
        if trial % 5 == 0:
            del content[int(random.integers(0, len(content))) :]
        else:
            content[int(random.integers(0, len(content)))] ^= 1 << int(random.integers(0, 8))
        (bundle / name).write_bytes(content)
        try:
            loaded = load_bundle(bundle)
        except ModelError:
            refused += 1
        else:  # white space of the manifest: the content is the same
            assert name == "manifest.json"
            assert loaded.model == originals["model.tflite"]
            assert {**msgspec.json.decode(msgspec.json.encode(loaded.manifest)), "sha256": 0} == {
                **msgspec.json.decode(originals["manifest.json"]),
                "sha256": 0,
            }
        (bundle / name).write_bytes(originals[name])
    assert refused > 190
    load_bundle(bundle)


@pytest.mark.parametrize("missing", ["model.tflite", "manifest.json"])
def test_an_incomplete_bundle_is_refused(bundle: Path, missing: str) -> None:
    (bundle / missing).unlink()
    with pytest.raises(ModelError, match="no complete bundle"):
        load_bundle(bundle)


def test_a_newer_bundle_is_refused_with_the_mend(bundle: Path) -> None:
    file = bundle / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"format_version": 1', b'"format_version": 2'))
    with pytest.raises(ModelError, match=r"format 2, this version reads 1\. Update pdm-edge"):
        load_bundle(bundle)


def test_a_model_that_is_none_is_refused(runtime: str) -> None:
    # Only ai-edge-litert checks what it opens; the other is guarded by a child process.
    opened = TfliteModel if runtime == "ai-edge-litert" else try_model
    with pytest.raises(ModelError, match=r"refuses the model|crashes the runtime|cannot run the model"):
        opened(b"\x1c\x00\x00\x00TFL3" + bytes(100), runtime=runtime)


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(ModelError, match="One of auto, ai-edge-litert"):
        TfliteModel(b"", runtime="onnx")


def test_a_write_that_is_cut_leaves_the_old_bundle(
    bundle: Path, made: tuple[bytes, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: Path, target: Path) -> Path:
        raise OSError("power cut")

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(ModelError, match="power cut"):
        write_bundle(bundle, made[0] + b"new", made[1])
    monkeypatch.undo()
    assert load_bundle(bundle).model == made[0]
    write_bundle(bundle, made[0] + b"new", made[1])
    assert load_bundle(bundle).model == made[0] + b"new"


def test_a_bundle_is_found_by_path_or_name_and_never_by_the_working_directory(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_bundle(bundle) == bundle
    with pytest.raises(ModelError, match="there is no model 'nonsense'"):
        find_bundle("nonsense")


def test_too_few_windows_are_refused_and_bad_ones_not_collected() -> None:
    with pytest.raises(ModelError, match="19 windows are too few"):
        commission([vector(x) for x in healthy(19)], name="t")
    with pytest.raises(ModelError, match="too few"):
        Commissioning(SCHEMA, 5)
    collecting = Commissioning(SCHEMA, 20)
    assert not collecting.add(vector(healthy(1)[0], uncertain("gap")))
    assert collecting.add(vector(healthy(1)[0]))
    assert (collecting.collected, collecting.complete) == (1, False)


def test_constant_and_absent_features_do_not_explode_the_score() -> None:
    x = healthy(100)
    x[:, 2] = 5.0
    x[:, 6] = math.nan
    model, manifest = commission([vector(row) for row in x], name="t")
    detector = AnomalyDetector(Bundle(Path(), manifest, model))
    row = healthy(1, seed=3)[0]
    row[2], row[6] = 5.05, math.nan  # one percent off the constant
    assert detector.score(vector(row)).value < 1.0


def test_a_quantity_that_was_always_0_has_no_scale_and_is_not_judged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    schema = FeatureSchema((*SCHEMA.names, "hall/power"), (*SCHEMA.units, "kw"))

    def with_power(x: Matrix, kw: float) -> list[FeatureVector]:
        return [FeatureVector("pump", np.append(row, np.float32(kw)), schema, STAMP, 1.0) for row in x]

    model, manifest = commission(with_power(healthy(200), 0.0), name="t")
    detector = AnomalyDetector(Bundle(Path(), manifest, model))
    off, on = (with_power(healthy(1, seed=3), kw)[0] for kw in (0.0, 55.0))
    assert detector.score(on).value == pytest.approx(detector.score(off).value, rel=1e-3)
    assert "hall/power" in caplog.text


def test_manifests_refuse_unknown_keys(bundle: Path) -> None:
    file = bundle / "manifest.json"
    content: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode({**content, "treshold": 1}))
    with pytest.raises(ModelError, match="treshold"):
        load_bundle(bundle)
