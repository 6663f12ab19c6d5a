"""Judge a recording by a healthy one: the same pipeline that runs live, without a sensor.

    python examples/monitor_replay.py healthy.npz today.npz
    python examples/monitor_replay.py --simulate

Recordings are .npz, .csv, .wav or MATLAB .mat. Where a file does not state its sample rate and unit,
say so behind it: "today.mat?sample_rate_hz=12000&unit=g&variable=*DE_time". They are never guessed.
On the command line, `pdm-edge replay` does the same with more options.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import pdm_edge as pdm
from pdm_edge.acquire.simulate import VibrationSimulator

CONFIG = """
[gateway]
id = "desk"

[[machine]]
id = "{name}"
window_s = 0.5
detect = {{ learn_windows = {learn_windows}{model} }}

[[machine.sensor]]
id = "vibration"
source = "replay://{recording}"

[store]
path = "{name}.db"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge a recording by a healthy one.")
    parser.add_argument("healthy", nargs="?")
    parser.add_argument("today", nargs="?")
    parser.add_argument("--learn-windows", type=int, default=40)
    parser.add_argument("--simulate", action="store_true", help="make two recordings of a simulated pump")
    options = parser.parse_args()
    if (options.today is None) != options.simulate:
        parser.error("give two recordings, or --simulate")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        healthy, today = options.healthy, options.today
        if options.simulate:
            healthy, today = record(folder / "healthy.npz", 0.0), record(folder / "today.npz", 0.3)
        run(folder, "healthy", healthy, options.learn_windows)
        run(folder, "today", today, 0, model=folder / "models" / "healthy")


def run(folder: Path, name: str, recording: str, learn_windows: int, model: Path | None = None) -> None:
    """Run one recording through the pipeline and print what it says."""
    path, _, options = recording.partition("?")
    source = f"{Path(path).resolve()}?{options}" if options else str(Path(path).resolve())
    config = folder / f"{name}.toml"
    model_key = f', model = "{model}"' if model else ""
    config.write_text(
        CONFIG.format(name=name, recording=source, learn_windows=learn_windows, model=model_key),
        encoding="utf-8",
    )
    with pdm.Monitor.from_config(config) as monitor:
        for advisory in monitor:
            print(advisory)
        status = monitor.status().machines[0]
    print(f"{name}: {status.windows} windows, {status.state}, last score {status.score:.2f}\n")


def record(path: Path, severity: float) -> str:
    """40 s of a simulated pump as a file that states its rate and unit."""
    pump = VibrationSimulator(sample_rate_hz=12_800.0, strike_hz=88.4, seed=7)
    pump.severity = severity
    samples = np.concatenate([pump.block(1280) for _ in range(400)])
    np.savez(path, acceleration_g=samples, sample_rate_hz=12_800.0)
    return str(path)


if __name__ == "__main__":
    main()
