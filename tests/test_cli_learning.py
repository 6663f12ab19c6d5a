"""The commands that make, move and reopen a baseline, and those that judge a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pdm_edge.detect.bundle import load_bundle

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
