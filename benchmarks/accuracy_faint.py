"""How deep below the machine's own vibration a fault may lie.

Windows are of 1 s here, the default of the product; the other tables use 0.1 s, because the recordings
are short.
"""

from __future__ import annotations

from typing import Any

import accuracy_data as data
import numpy as np
from accuracy_failure import first_of, product_severities, raised
from accuracy_methods import Scores, methods

from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.features import CATALOGUE, FeaturePlan, windows_matrix
from pdm_edge.features.envelope import envelope_spectrum
from pdm_edge.features.lines import line_amplitudes

RATE_HZ = 12800.0
SHAFT_HZ = 24.67
LEARNED = 300
LATER = 2000
FAULTY = 200
DEPTHS_DB = (-10.0, -15.0, -20.0, -25.0)
Entry = dict[str, Any]


def depths() -> list[Entry]:
    """A simulated pump with an outer race fault at several depths: who finds it, after how many windows."""
    healthy, later, louder = (
        _pump(s, n, seed) for s, n, seed in ((0.0, LEARNED, 1), (0.0, LATER, 2), (1.0, 20, 3))
    )
    own = float(np.mean(np.square(later)))
    strikes = float(np.mean(np.square(louder))) - own
    severities = {f"{db:g} dB": float(np.sqrt(own / strikes)) * 10 ** (db / 20) for db in DEPTHS_DB}
    plan = FeaturePlan(RATE_HZ, round(RATE_HZ), "g", ("x",), SHAFT_HZ, CATALOGUE["6205"])
    extractor, features, bands = data.both_views(plan)
    rows = {
        "healthy": windows_matrix(extractor, healthy[None]),
        "later": windows_matrix(extractor, later[None]),
    }
    rows |= {k: windows_matrix(extractor, _pump(s, FAULTY, 4)[None]) for k, s in severities.items()}

    def view(columns: list[int]) -> data.View:
        part = {key: x[:, columns] for key, x in rows.items()}
        schema = data.part_of(extractor.schema, columns)
        return data.View(schema, part["healthy"], part["later"], {key: part[key] for key in severities})

    data_set = data.DataSet("depths", "", 1.0, view(features), view(bands))
    print(f"\nA fault below the machine's own vibration (simulated, windows of 1 s, {LATER} held back)")
    found = []
    for name, seen, learn in methods(data_set):
        judge = learn(seen, 1.0)
        found.append(_entry(name, {key: judge(x) for key, x in {"later": seen.later, **seen.faults}.items()}))
        if name == "linear int8":
            runs = {"later": seen.later, **seen.faults}
            product = {
                key: product_severities(
                    judge, data.Life(seen.schema, x, seen.schema, x, np.arange(len(x), dtype=np.float64)), 0
                )
                for key, x in runs.items()
            }
            found.append(_entry("product", product))
    return found


def lines_by_length() -> list[Entry]:
    """How far the strongest race or ball line of a drowned fault stands above that of the healthy machine, in
    the mean of 6 s, by windows of 0.1 and 1 s."""
    print("\nLines of the drowned faults above those of the healthy machine, mean of 6 s, in dB")
    found = []
    for rig in (data.drowned(data.mfpt_rig()), data.drowned(data.cwru_rig())):
        healthy = {w: _lines_db(rig, rig.other, w) for w in (0.1, 1.0)}
        for key in rig.records:
            if key not in (rig.first, rig.other):
                rises = {w: float((_lines_db(rig, key, w) - healthy[w]).max()) for w in healthy}
                found.append(
                    {"rig": rig.name, "fault": key, **{f"{w:g} s": rise for w, rise in rises.items()}}
                )
                print(f"  {key:32s} " + ", ".join(f"{w:g} s: {rise:4.1f}" for w, rise in rises.items()))
    return found


def _lines_db(rig: data.Rig, key: str, window_s: float) -> Scores:
    """Mean level of BPFO, BPFI and 2 x BSF over windows."""
    assert rig.bearing is not None
    record, at = rig.records[key], rig.bearing.frequencies(rig.shaft_hz)
    size = round(window_s * record.sample_rate_hz)
    count = min(record.samples.shape[1] // size, round(6 / window_s))
    windows = record.samples[0, : count * size].reshape(count, size)
    reach_hz = min(10_000.0, record.sample_rate_hz / 2.56)
    lines_hz, amplitude = envelope_spectrum(windows, record.sample_rate_hz, (500.0, reach_hz))
    orders = (at.bpfo_hz, at.bpfi_hz, 2 * at.bsf_hz)
    return np.array([line_amplitudes(amplitude, float(lines_hz[1]), hz)[1].mean() for hz in orders])


def _entry(name: str, severities: dict[str, Scores]) -> Entry:
    first = {key: first_of(s, "alert", "alarm") for key, s in severities.items() if key != "later"}
    after = {key: None if at is None else at + 1 for key, at in first.items()}
    false_per_1000 = 1000 * raised(severities["later"]) / LATER
    told = ", ".join(f"{key}: {at or '-'}" for key, at in after.items())
    print(
        f"  {name:26s} alerted after windows {told}; false alerts/1000 {false_per_1000:.1f}",
        flush=True,
    )
    return {"method": name, "after_windows": after, "false_per_1000": false_per_1000}


def _pump(severity: float, seconds: int, seed: int) -> data.Rows:
    strike_hz = CATALOGUE["6205"].frequencies(SHAFT_HZ).bpfo_hz
    pump = VibrationSimulator(sample_rate_hz=RATE_HZ, shaft_hz=SHAFT_HZ, strike_hz=strike_hz, seed=seed)
    pump.severity = severity
    return np.concatenate([pump.block(round(RATE_HZ / 10)) for _ in range(10 * seconds)])
