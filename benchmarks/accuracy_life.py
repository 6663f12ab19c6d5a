"""Simulated runs to failure: run-in, slow healthy change with load and temperature, then a fault that grows.

What a life does is drawn from stated ranges by its seed. Nothing of the product was set by them: they
were written down first, and the lives measured afterwards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal
from accuracy_data import WINDOW_S, Life, both_views, part_of

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.features import CATALOGUE, FeaturePlan

RATE_HZ = 12800.0
SHAFT_HZ = 24.67
EVERY_S = 60.0
SNAPSHOTS = 600
Values = npt.NDArray[np.float64]


def life(seed: int, *, fails: bool = True, slow: float = 1.0, snapshots: int = SNAPSHOTS) -> Life:
    """Snapshots of 0.1 s, one a minute; `slow` makes load, temperature and unbalance move so much more.

    Run-in
        noise at 2-5 kHz, 30 to 80 % of the machine's own at first, dies away within 2 to 6 % of life.
    Load
        moves all levels by 5 to 15 % either way in 1 to 3 cycles a life, and by a wandering 3 %.
    Temperature
        takes the noise at 2-5 kHz up or down by up to 10 % over the first third of life.
    Unbalance
        wanders by 20 % around its mean.
    Knocks
        one snapshot in a hundred, 1 to 3 g, from beside the machine.
    Fault
        starts at 60 to 80 % of life and grows exponentially, to strikes of 3 to 6 g at the end.
    """
    random = np.random.default_rng(1000 + seed)
    t = np.arange(snapshots) / snapshots
    bearing = CATALOGUE["6205"]
    pump = VibrationSimulator(
        sample_rate_hz=RATE_HZ,
        shaft_hz=SHAFT_HZ,
        strike_hz=bearing.frequencies(SHAFT_HZ).bpfo_hz,
        seed=2000 + seed,
    )
    n_samples = round(WINDOW_S * RATE_HZ)
    high = scipy.signal.butter(4, (2000, 5000), "bandpass", fs=RATE_HZ, output="sos")
    run_in = random.uniform(0.3, 0.8) * np.exp(-t / random.uniform(0.02, 0.06))
    load = random.uniform(0.05, 0.15) * np.cos(2 * np.pi * (random.uniform(1, 3) * t + random.uniform()))
    load = slow * (load + _wander(random, snapshots, 0.03))
    warm = slow * random.uniform(-0.1, 0.1) * (1 - np.exp(-t / 0.15))
    unbalance = slow * 0.2 * np.clip(_wander(random, snapshots, 1.0), -2, 2)
    starts, worst = random.uniform(0.6, 0.8), random.uniform(1.5, 3.0)
    grown = np.clip((t - starts) / (1 - starts), 0, 1)
    severity = worst * np.expm1(5 * grown) / np.expm1(5) if fails else np.zeros(snapshots)
    knocks = np.where(random.uniform(size=snapshots) < 0.01, random.uniform(1, 3, snapshots), 0.0)
    turn = 2 * np.pi * SHAFT_HZ * np.arange(n_samples) / RATE_HZ
    extractor, features, bands = both_views(FeaturePlan(RATE_HZ, n_samples, "g", ("x",), SHAFT_HZ, bearing))
    snapshot = []
    for i in range(snapshots):
        pump.severity = float(severity[i])
        x = pump.block(n_samples) * np.exp(load[i])
        own = scipy.signal.sosfilt(high, random.standard_normal(n_samples))
        x = x + (0.03 * np.exp(warm[i]) + 0.06 * run_in[i]) * own
        x += 0.05 * unbalance[i] * np.sin(turn)
        if knocks[i]:
            at = int(random.integers(n_samples // 2))
            ring = np.arange(n_samples - at) / RATE_HZ
            x[at:] += knocks[i] * np.exp(-ring / 0.005) * np.sin(2 * np.pi * 700 * ring)
        snapshot.append(extractor(x[None, :].astype(np.float32)))
    onset = int(np.ceil(starts * snapshots)) if fails else None
    rows, schema, time_s = (
        np.stack(snapshot),
        extractor.schema,
        EVERY_S * np.arange(snapshots, dtype=np.float64),
    )
    return Life(
        part_of(schema, features), rows[:, features], part_of(schema, bands), rows[:, bands], time_s, onset
    )


def _wander(random: np.random.Generator, count: int, size: float) -> Values:
    """A slow random walk that is pulled back, with standard deviation `size`; memory of 50 snapshots."""
    steps = random.standard_normal(count)
    out = np.zeros(count)
    out[0] = steps[0]
    for i in range(1, count):
        out[i] = 0.98 * out[i - 1] + np.sqrt(1 - 0.98**2) * steps[i]
    return size * out
