"""The shipped bundles: found by name, made by their recipes, worth their threshold."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import pdm_edge as pdm
from pdm_edge.detect.anomaly import AnomalyDetector

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    path = ROOT / "models" / "recipes" / "simulated_pump.py"
    spec = importlib.util.spec_from_file_location("simulated_pump", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(detector: AnomalyDetector, vectors: list[pdm.FeatureVector]) -> np.ndarray[tuple[int], np.dtype]:
    return np.array([detector.score(vector).value for vector in vectors])


def test_the_recipe_makes_the_shipped_bundle(recipe: ModuleType, tmp_path: Path) -> None:
    recipe.make(tmp_path)
    shipped, made = pdm.load_bundle("simulated-pump"), pdm.load_bundle(tmp_path / "simulated-pump")
    assert made.manifest.schema_id == shipped.manifest.schema_id
    assert made.manifest.training == shipped.manifest.training
    vectors = [*recipe.vectors(0.0, range(90, 91)), *recipe.vectors(0.2, range(90, 91))]
    # Training on another processor sums in another order; 300 epochs leave a few percent of that.
    np.testing.assert_allclose(
        scores(AnomalyDetector(made), vectors), scores(AnomalyDetector(shipped), vectors), rtol=0.1
    )


def test_the_shipped_model_tells_runs_that_it_never_saw(recipe: ModuleType) -> None:
    detector = AnomalyDetector(pdm.load_bundle("simulated-pump"))
    healthy = scores(detector, list(recipe.vectors(0.0, range(100, 104))))
    faulty = scores(detector, list(recipe.vectors(0.1, range(100, 104))))
    assert np.mean(healthy < 1.0) >= 0.99
    assert np.mean(faulty > 1.0) >= 0.99


def test_the_manifest_says_how_the_threshold_came_about() -> None:
    manifest = pdm.load_bundle("simulated-pump").manifest
    assert "held-back healthy positions" in manifest.threshold.derivation
    assert manifest.threshold.held_back > 50
    assert "knows no real machine" in manifest.card


def test_an_installed_wheel_finds_the_bundle(tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            str(tmp_path),
            str(ROOT),
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("pdm_edge-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "pdm_edge/models/simulated-pump/model.tflite" in names
    assert "firmware_bridge/py.typed" in names
    assert not any(name.startswith(("models/", "tests/", "examples/")) for name in names)
    # Its own environment with the dependencies of this one, but the wheel in place of the checkout.
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    ours = [p for p in sys.path if p.endswith("site-packages")]
    code = (
        f"import sys; sys.path += {ours!r}; import pdm_edge; b = pdm_edge.load_bundle('simulated-pump'); "
        "print(b.path)"
    )
    done = subprocess.run(
        [str(home / "bin" / "python"), "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.strip() == str(site / "pdm_edge" / "models" / "simulated-pump"), done.stderr
