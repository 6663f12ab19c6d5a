"""Makes the bundle `simulated-pump`: python models/recipes/simulated_pump.py [FOLDER]

What it learns is the simulated pump that the demo and the examples plug in, in good condition, in
windows of the live pipeline. It shows what a bundle is; for a real machine it is worth nothing.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.clock import FixedClock
from pdm_edge.config import MachineConfig
from pdm_edge.config_file import parse_machine
from pdm_edge.detect.bundle import write_bundle
from pdm_edge.detect.commission import commission
from pdm_edge.features import CATALOGUE
from pdm_edge.machine import Machine
from pdm_edge.records import FeatureVector, Waveform

NAME = "simulated-pump"
SAMPLE_RATE_HZ = 12_800.0
SPEED_RPM = 1480.0
RUNS = 10
WINDOWS_A_RUN = 40
CARD = (
    "A dense autoencoder on the 1 s feature vector of the simulated pump of pdm-edge: 1480 r/min, bearing "
    "6205, one axis in g at 12.8 kHz, sensor id drive-end, healthy. For examples and tests; it knows no real "
    "machine. Made by models/recipes/simulated_pump.py."
)


def machine_config() -> MachineConfig:
    """The machine whose vectors the model takes."""
    machine = {
        "id": "pump-1",
        "rated_speed_rpm": SPEED_RPM,
        "sensor": [
            {
                "id": "drive-end",
                "source": "serial:///dev/null?baud=921600",
                "bearing": {"designation": "6205"},
            }
        ],
    }
    return parse_machine(machine, where=NAME)


def vectors(severity: float, seeds: range) -> Iterator[FeatureVector]:
    """Vectors of simulated runs, one for each seed, as the pipeline makes them."""
    strike_hz = CATALOGUE["6205"].frequencies(SPEED_RPM / 60).bpfo_hz
    clock = FixedClock()
    for seed in seeds:
        pump = VibrationSimulator(
            sample_rate_hz=SAMPLE_RATE_HZ, shaft_hz=SPEED_RPM / 60, strike_hz=strike_hz, seed=seed
        )
        pump.severity = severity
        with tempfile.TemporaryDirectory() as folder:
            machine = Machine(machine_config(), models=Path(folder))
            for second in range(WINDOWS_A_RUN):
                n_samples = round(SAMPLE_RATE_HZ)
                samples, first = pump.block(n_samples)[None, :], second * n_samples
                waveform = Waveform("drive-end", samples, SAMPLE_RATE_HZ, "g", ("x",), clock.stamp(), first)
                clock.advance(1.0)
                yield from (r for r in machine.take(waveform) if isinstance(r, FeatureVector))


def make(folder: Path) -> None:
    """Learn, and write the bundle."""
    model, manifest = commission(list(vectors(0.0, range(RUNS))), name=NAME)
    write_bundle(folder / NAME, model, msgspec.structs.replace(manifest, licence="Apache-2.0", card=CARD))
    logging.info("%s: %d bytes, %s", folder / NAME, len(model), manifest.threshold.derivation)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])
