"""The commands that make, move and reopen a baseline, and those that judge a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pdm_edge.detect.bundle import load_bundle
from pdm_edge.errors import ConfigError, ModelError

CONFIG = """
[gateway]
id = "gw"
[[machine]]
id = "pump"
window_s = 0.1
rated_speed_rpm = 1480
[machine.detect]
learn_windows = 40
[[machine.sensor]]
id = "de"
source = "replay://healthy.npz"
[store]
path = "gw.db"
"""


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    from pdm_edge.acquire.simulate import VibrationSimulator

    pump = VibrationSimulator(sample_rate_hz=12800.0, strike_hz=88.0, seed=1)
    samples = np.concatenate([pump.block(12800) for _ in range(6)])
    np.savez(tmp_path / "healthy.npz", samples=samples, sample_rate_hz=12800.0, unit="g")
    (tmp_path / "machine.toml").write_text(CONFIG)
    return tmp_path / "machine.toml"


def run(*arguments: object) -> Any:
    from pdm_edge.cli import cli

    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def test_learn_recalibrate_and_note_from_the_command_line(plant: Path) -> None:
    learned = run("learn", plant)
    assert learned.exit_code == 0, learned.output
    assert "pump: learned from" in learned.output
    bundle = plant.parent / "models" / "pump"
    before = load_bundle(bundle).manifest
    moved = run("recalibrate", plant, "--false-alarms-per-month", 500)
    assert moved.exit_code == 0
    assert load_bundle(bundle).manifest.threshold.value < before.threshold.value
    again = run("learn", plant, "--from", plant.parent / "healthy.npz", "--family", "dense")
    assert again.exit_code == 0, again.output
    assert load_bundle(bundle).manifest.training.family == "dense"
    noted = run("note", plant, "bearing replaced")
    assert noted.exit_code == 0
    assert not bundle.exists()
    assert load_bundle(plant.parent / "models" / "pump.previous").manifest.training.family == "dense"


def test_a_model_is_packed_put_on_trial_and_rolled_back_from_the_command_line(plant: Path) -> None:
    assert run("learn", plant).exit_code == 0
    folder = plant.parent / "models"
    first = load_bundle(folder / "pump").manifest
    other = plant.parent / "other"
    (folder / "pump").rename(other)
    assert run("learn", plant, "--from", plant.parent / "healthy.npz", "--family", "dense").exit_code == 0
    assert run("models", "trial", plant, other).exit_code == 0
    assert load_bundle(folder / "pump.candidate").manifest == first
    assert run("recalibrate", plant, "--false-alarms-per-month", 100).exit_code == 0
    before = load_bundle(folder / "pump.previous").manifest
    assert run("models", "rollback", plant).exit_code == 0
    assert load_bundle(folder / "pump").manifest == before


def test_a_network_on_the_spectrum_is_learned_and_judges(plant: Path) -> None:
    learned = run("learn", plant, "--family", "mobilenet")
    assert learned.exit_code == 0, learned.output
    manifest = load_bundle(plant.parent / "models" / "pump").manifest
    assert (manifest.input.kind, manifest.input.sensor, len(manifest.feature_names)) == ("spectrum", "de", 64)
    assert run("recalibrate", plant, "--from", plant.parent / "healthy.npz").exit_code == 0


def test_bench_measures_accuracy_on_named_recordings(plant: Path) -> None:
    from pdm_edge.acquire.simulate import VibrationSimulator

    pump = VibrationSimulator(sample_rate_hz=12800.0, strike_hz=88.0, seed=2)
    for name, severity in (("later", 0.0), ("faulty", 0.5)):
        pump.severity = severity
        samples = np.concatenate([pump.block(12800) for _ in range(3)])
        np.savez(plant.parent / f"{name}.npz", samples=samples, sample_rate_hz=12800.0, unit="g")
    assert run("learn", plant).exit_code == 0
    bundle, folder = plant.parent / "models" / "pump", plant.parent
    told = ("--config", plant, "--healthy", folder / "later.npz", "--faulty", folder / "faulty.npz")
    shown = run("bench", bundle, "--calls", 200, *told)
    assert shown.exit_code == 0, shown.output
    assert "AUC 1.0000" in shown.output
    assert "0.0 false per 1,000" in shown.output
    assert "later.npz against faulty.npz" in shown.output


def test_bench_shows_the_four_figures_of_a_shipped_bundle() -> None:
    shown = run("bench", "simulated-pump", "--calls", "200")
    assert shown.exit_code == 0
    for word in ("bare invoke", "whole score", "throughput", "energy", "memory", "accuracy"):
        assert word in shown.output


def test_check_and_bench_on_the_command_line() -> None:
    foreign = Path(__file__).parent / "models" / "torch.tflite"
    checked = run("models", "check", foreign)
    assert checked.exit_code == 0
    assert "as a reconstruction" in checked.output
    row = json.loads(run("bench", foreign, "--calls", "200", "--json").output)
    assert row["input_shape"] == [1, 16]
    assert 0 < row["invoke_p50_us"] <= row["score_p50_us"] * 1.5
    assert row["energy_basis"].startswith(("measured", "estimated"))
    assert row["memory_mb"] > 0


TWO_SENSORS = CONFIG.replace(
    "[store]",
    """[[machine.sensor]]
id = "nde"
source = "replay://far.npz"
[store]""",
)


@pytest.fixture
def two_sensors(plant: Path) -> Path:
    """A machine with two vibration sensors; the far one has two axes."""
    from pdm_edge.acquire.simulate import VibrationSimulator

    pump = VibrationSimulator(sample_rate_hz=12800.0, strike_hz=88.0, seed=5)
    samples = np.stack([np.concatenate([pump.block(12800) for _ in range(6)]) for _ in range(2)])
    np.savez(plant.parent / "far.npz", samples=samples, sample_rate_hz=12800.0, unit="g")
    plant.write_text(TWO_SENSORS)
    return plant


def test_recordings_of_several_sensors_are_named_and_played_together(two_sensors: Path) -> None:
    near, far = two_sensors.parent / "healthy.npz", two_sensors.parent / "far.npz"
    with pytest.raises(ConfigError, match=r"has 2 vibration sensors.*de=FILE or nde=FILE"):
        run("learn", two_sensors, "--from", near)
    with pytest.raises(ConfigError, match="there are 1 of 'de', 0 of 'nde'"):
        run("learn", two_sensors, "--from", f"de={near}")
    both = run("learn", two_sensors, "--from", f"de={near}", "--from", f"nde={far}")
    assert both.exit_code == 0, both.output
    names = load_bundle(two_sensors.parent / "models" / "pump").manifest.feature_names
    assert {name.rpartition("/")[0] for name in names} == {"de/x", "nde/x", "nde/y"}


def test_a_model_of_the_spectrum_never_takes_the_first_sensor_unasked(two_sensors: Path) -> None:
    near, far = two_sensors.parent / "healthy.npz", two_sensors.parent / "far.npz"
    files = ("--from", f"de={near}", "--from", f"nde={far}")
    with pytest.raises(ConfigError, match='hears = "de"'):
        run("learn", two_sensors, *files, "--family", "mobilenet")
    with pytest.raises(ConfigError, match="One of de, nde"):
        run("learn", two_sensors, *files, "--family", "mobilenet", "--hears", "motor")
    with pytest.raises(ModelError, match='hears = "nde/x"'):
        run("learn", two_sensors, *files, "--family", "mobilenet", "--hears", "nde")
    named = run("learn", two_sensors, *files, "--family", "mobilenet", "--hears", "nde/y")
    assert named.exit_code == 0, named.output
    assert "spectrum of sensor 'nde', axis 2" in named.output
    heard = load_bundle(two_sensors.parent / "models" / "pump").manifest.input
    assert (heard.sensor, heard.axis) == ("nde", 1)


def test_what_is_heard_is_told_for_models_of_the_spectrum_only(plant: Path) -> None:
    with pytest.raises(ConfigError, match="a linear model is fed with the vector of all sensors"):
        run("learn", plant, "--hears", "de")
    plant.write_text(TWO_SENSORS.replace("learn_windows = 40", 'learn_windows = 40\nfamily = "squeezenet"'))
    with pytest.raises(ConfigError, match="hears one vibration sensor, and there are 2"):
        run("learn", plant)
