"""A bundle of each family judges the simulated pump live: healthy stays silent, a fault does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.clock import FixedClock
from pdm_edge.config_file import parse_machine
from pdm_edge.features import CATALOGUE
from pdm_edge.machine import Machine
from pdm_edge.records import Score, Waveform

MODELS = Path(__file__).resolve().parents[1] / "models"


def scores(bundle: str, severity: float, folder: Path) -> list[Score]:
    config = {
        "id": "pump-1",
        "rated_speed_rpm": 1480.0,
        "detect": {"model": bundle, "learn_windows": 0},
        "iso20816": {"group": 2, "support": "rigid"},
        "sensor": [
            {
                "id": "drive-end",
                "source": "serial:///dev/null?baud=921600",
                "bearing": {"designation": "6205"},
            }
        ],
    }
    machine = Machine(parse_machine(config, where="test"), models=folder)
    strike_hz = CATALOGUE["6205"].frequencies(1480 / 60).bpfo_hz
    pump = VibrationSimulator(sample_rate_hz=12800.0, shaft_hz=1480 / 60, strike_hz=strike_hz, seed=77)
    pump.severity = severity
    clock, found = FixedClock(), []
    for second in range(20):
        samples = pump.block(12800)[None, :]
        waveform = Waveform("drive-end", samples, 12800.0, "g", ("x",), clock.stamp(), second * 12800)
        clock.advance(1.0)
        found += [record for record in machine.take(waveform) if isinstance(record, Score)]
    return found


@pytest.mark.parametrize("family", ["dense", "mobilenet", "squeezenet"])
def test_a_bundle_of_the_family_judges_live(family: str, tmp_path: Path) -> None:
    bundle = f"simulated-pump-{family}"
    healthy, faulty = (scores(bundle, severity, tmp_path) for severity in (0.0, 0.3))
    assert len(healthy) == len(faulty) == 20
    assert max(score.value for score in healthy) < 1.0
    assert float(np.median([score.value for score in faulty])) > 2.0
    assert faulty[-1].contributions
    assert len((MODELS / bundle / "model.tflite").read_bytes()) <= 20_000
