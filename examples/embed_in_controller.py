"""pdm-edge inside an equipment controller: your own loop, your own sensor, your own panel.

    python examples/embed_in_controller.py

`SpindleSource` stands for samples that a controller has in memory anyway (a drive, an ADC); `Panel` for
the lamp and the text on its door. Neither inherits anything: they have the methods of the roles
`Source` and `Sink`. The controller keeps its cycle and calls `step` once in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pdm_edge as pdm
from pdm_edge.acquire.simulate import VibrationSimulator

SAMPLE_RATE_HZ = 12_800.0


class SpindleSource:
    """Hands over what the controller has sampled since the last call."""

    def __init__(self, clock: pdm.Clock) -> None:
        self.name = "spindle"
        self.ended = False
        self._clock = clock
        self._machine = VibrationSimulator(sample_rate_hz=SAMPLE_RATE_HZ, strike_hz=88.4, seed=3)
        self._sample = 0

    def read(self, timeout_s: float) -> Sequence[pdm.Waveform]:
        time.sleep(0.02)  # the drive gives a block every 20 ms; here it is one of 0.25 s, to save your time
        n_samples = round(SAMPLE_RATE_HZ * 0.25)
        self._machine.severity = 0.5 if self._sample > 30 * SAMPLE_RATE_HZ else 0.0
        block = pdm.Waveform(
            sensor="spindle-front",
            samples=self._machine.block(n_samples)[None, :],
            sample_rate_hz=SAMPLE_RATE_HZ,
            unit="g",
            axes=("x",),
            stamp=self._clock.stamp(),
            first_sample=self._sample,
        )
        self._sample += n_samples
        return (block,)

    def counters(self) -> Mapping[str, int]:
        return {"samples": self._sample}

    def close(self) -> None:
        self.ended = True


class Panel:
    """Shows the state of the machine on the door of the cabinet."""

    def __init__(self) -> None:
        self.lamp = "off"

    def write(self, records: Sequence[pdm.Record]) -> None:
        for record in records:
            if isinstance(record, pdm.Advisory):
                self.lamp = {"normal": "green", "alert": "yellow", "alarm": "red"}.get(record.state, "white")
                print(f"lamp {self.lamp}: {record.headline}", flush=True)

    def close(self) -> None:
        self.lamp = "off"


def main() -> None:
    machine = pdm.parse_machine(
        {
            "id": "spindle-1",
            "window_s": 0.5,
            "detect": {"learn_windows": 40},
            "sensor": [{"id": "spindle-front", "source": "embedded://"}],
        },
        where="embed_in_controller",
    )
    clock, panel = pdm.SystemClock(), Panel()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        buffer = pdm.Buffer(folder / "spindle-1.db", gateway="controller-1", max_mb=16, clock=clock)
        monitor = pdm.Monitor(
            [pdm.Machine(machine, models=folder / "models")],
            live=[SpindleSource(clock)],
            sinks=[buffer, panel],  # the durable one first: what the panel shows is on disk already
            clock=clock,
        )
        deadline_s = time.monotonic() + 30.0
        while panel.lamp != "red" and time.monotonic() < deadline_s:
            time.sleep(0.01)  # the controller's own work
            monitor.step(timeout_s=0.0)
        print(f"{monitor.status().machines[0].windows} windows; rows kept: {buffer.status().rows}")
        monitor.close()


if __name__ == "__main__":
    main()
