"""A feature of your own in the vector of a machine: learned, judged, stored and explained like the others.

    python examples/custom_feature.py

Features that pdm_edge knows are a line of configuration: features = { orders = [1, 2, 3] } in a sensor.
One that it does not know is a Reading that a source delivers beside its waveforms. So wrap the source:
nothing has to be inherited or registered. The sensor names the quantity and its unit, and the vector
takes the mean of what came during each window.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import pdm_edge as pdm

RATE_HZ = 12_800.0


def impacts_hz(waveform: pdm.Waveform) -> float:
    """How often a second the signal leaves three times its RMS, all axes together."""
    x = waveform.samples - waveform.samples.mean(axis=1, keepdims=True)
    high = np.abs(x) > 3 * np.sqrt(np.mean(x * x, axis=1, keepdims=True))
    rises = int(np.count_nonzero(high[:, 1:] & ~high[:, :-1]))
    return rises * waveform.sample_rate_hz / waveform.n_samples


class WithImpacts:
    """A source that tells the rate of impacts beside each of its waveforms."""

    def __init__(self, source: pdm.Source) -> None:
        self._source = source
        self.name = source.name

    @property
    def ended(self) -> bool:
        return self._source.ended

    def read(self, timeout_s: float) -> Sequence[pdm.Measurement]:
        out: list[pdm.Measurement] = []
        for item in self._source.read(timeout_s):
            if isinstance(item, pdm.Waveform):
                value = impacts_hz(item)
                out.append(pdm.Reading(item.sensor, "impacts", value, "hz", item.stamp, item.quality))
            out.append(item)
        return out

    def counters(self) -> Mapping[str, int]:
        return self._source.counters()

    def close(self) -> None:
        self._source.close()


class Keep:
    """A sink: the latest vector, and what carried the highest score."""

    def __init__(self) -> None:
        self.vector: pdm.FeatureVector | None = None
        self.highest: pdm.Score | None = None

    def write(self, records: Sequence[pdm.Record]) -> None:
        for record in records:
            if isinstance(record, pdm.FeatureVector):
                self.vector = record
            elif isinstance(record, pdm.Score) and (
                self.highest is None or record.value > self.highest.value
            ):
                self.highest = record

    def close(self) -> None:
        return None


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        healthy, today = record(folder / "healthy.npz", 0), record(folder / "today.npz", 150)
        sensor = {
            "id": "valve",
            "source": f"replay://{healthy}",
            "quantity": [{"quantity": "impacts", "unit": "hz"}],
            "features": {"extras": ["impulse_factor"]},
        }
        described = {"id": "compressor", "sensor": [sensor], "window_s": 0.5, "detect": {"learn_windows": 60}}
        machine = pdm.Machine(pdm.parse_machine(described, where="example"), models=folder / "models")
        run("healthy", machine, healthy)
        run("today", machine, today)


def run(title: str, machine: pdm.Machine, recording: Path) -> None:
    """Run a recording through the machine and print what its own feature says."""
    source = pdm.open_source(f"replay://{recording}", clock=pdm.FixedClock(), sensor="valve")
    keep = Keep()
    with pdm.Monitor([machine], patient=[WithImpacts(source)], sinks=[keep]) as monitor:
        for advisory in monitor:
            print(f"{title}: {advisory}")
    if keep.vector is not None:
        print(f"{title}: valve/impacts {keep.vector.as_dict()['valve/impacts']:.0f} hz")
    if keep.highest is not None and keep.highest.contributions:
        carried = ", ".join(f"{feature} {share:.0%}" for feature, share in keep.highest.contributions)
        print(f"{title}: score {keep.highest.value:.1f}, carried by {carried}")


def record(path: Path, knocks_hz: int) -> Path:
    """40 s of noise, with so many knocks a second."""
    random = np.random.default_rng(5)
    samples = 0.1 * random.standard_normal(round(40 * RATE_HZ))
    if knocks_hz:
        at = samples[:: round(RATE_HZ / knocks_hz)]
        at += np.where(np.arange(len(at)) % 2, -0.35, 0.35)
    np.savez(path, acceleration_g=samples, sample_rate_hz=RATE_HZ)
    return path


if __name__ == "__main__":
    main()
