"""Makes a bundle of each family that is not the default: python models/recipes/families.py [FOLDER]

They learn the same simulated pump as `simulated-pump`, through the live pipeline. On no data measured
(docs/accuracy.md) they are better than the default; they show how a bundle of their kind looks.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import msgspec

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.clock import FixedClock
from pdm_edge.config_file import parse_machine
from pdm_edge.detect.bundle import load_bundle, write_bundle
from pdm_edge.features import CATALOGUE
from pdm_edge.machine import Machine
from pdm_edge.records import Waveform

FAMILIES = {
    "dense": "dense autoencoder (k, k/2, k/8, k/2, k) on the feature vector",
    "mobilenet": "autoencoder of depthwise-separable convolutions on the levels of 64 bands",
    "squeezenet": "autoencoder of fire modules on the levels of 64 bands",
}
SAMPLE_RATE_HZ = 12_800.0
SPEED_RPM = 1480.0
WINDOWS = 200


def make(folder: Path, family: str) -> Path:
    """Let a machine learn with this family, and keep its bundle."""
    told = {
        "id": "pump-1",
        "rated_speed_rpm": SPEED_RPM,
        "detect": {"family": family, "learn_windows": WINDOWS},
        "sensor": [
            {
                "id": "drive-end",
                "source": "serial:///dev/null?baud=921600",
                "bearing": {"designation": "6205"},
            }
        ],
    }
    config = parse_machine(told, where=family)
    strike_hz = CATALOGUE["6205"].frequencies(SPEED_RPM / 60).bpfo_hz
    pump = VibrationSimulator(
        sample_rate_hz=SAMPLE_RATE_HZ, shaft_hz=SPEED_RPM / 60, strike_hz=strike_hz, seed=5
    )
    clock, n_samples = FixedClock(), round(SAMPLE_RATE_HZ)
    path = folder / f"simulated-pump-{family}"
    with tempfile.TemporaryDirectory() as models:
        machine = Machine(config, models=Path(models))
        for second in range(WINDOWS):
            samples = pump.block(n_samples)[None, :]
            stamp, first = clock.stamp(), second * n_samples
            machine.take(Waveform("drive-end", samples, SAMPLE_RATE_HZ, "g", ("x",), stamp, first))
            clock.advance(1.0)
        made = load_bundle(Path(models) / "pump-1")
    card = (
        f"A {FAMILIES[family]} of the simulated pump of pdm-edge: 1480 r/min, bearing 6205, one axis in g at "
        "12.8 kHz, sensor id drive-end, healthy. It knows no real machine, and its family is not the "
        "default: docs/accuracy.md shows it beside the others. Made by models/recipes/families.py."
    )
    manifest = msgspec.structs.replace(made.manifest, name=path.name, licence="Apache-2.0", card=card)
    write_bundle(path, made.model, manifest)
    logging.info("%s: %d bytes, %s", path, len(made.model), manifest.threshold.derivation)
    return path


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in FAMILIES:
        make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1], name)
