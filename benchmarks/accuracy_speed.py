"""Learned at some speeds, shown another one, the speed never told: recordings and a simulated machine.

No recording here was taken at several speeds. So recordings are played faster or slower: what turns with
the shaft moves, and a filter puts the smooth part of the spectrum (resonances, noise of the rig) back where
it was, at a level that goes with the square of the speed. The simulated machine is built that way at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import accuracy_data as data
import numpy as np
import numpy.typing as npt
from accuracy_methods import methods
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import resample_poly, welch

from pdm_edge.acquire.recordings import Recording
from pdm_edge.config import MachineConfig, SensorConfig
from pdm_edge.config_bearing import BearingConfig
from pdm_edge.detect.anomaly import AnomalyDetector
from pdm_edge.detect.bundle import Bundle
from pdm_edge.detect.commission import commission
from pdm_edge.detect.line_speed import LineReference, LineSpeed, learn_lines
from pdm_edge.detect.thresholds import agreeing
from pdm_edge.features import CATALOGUE
from pdm_edge.features.look import Lines
from pdm_edge.looking import Looks
from pdm_edge.records import FeatureVector, Stamp, Waveform

LEARNED = (0.85, 1.0, 1.2)
"""Speeds that are learned, of the rated one; the first, third and second neighbour of each `OTHERS`."""
OTHERS = (1.1, 0.75, 1.35)
HEALTHY = f"healthy at {OTHERS[0]:g}"
PIECES = 3
"""Each learned speed comes as often, so that no block of time holds one speed alone."""
WINDOW_S = 0.25
Samples = npt.NDArray[np.float64]
Judge = Callable[[data.Rows, Sequence[str]], npt.NDArray[np.float64]]
"""Scores of rows in their operating states."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a machine knows of a recording besides the score, for each window."""

    steady: npt.NDArray[np.bool_]
    """Not within the first second, before which no speed can be told: not judged."""
    lines: list[Lines]
    states: list[str]
    elsewhere: npt.NDArray[np.bool_]
    """Recognised as another speed: not scored."""
    standing: npt.NDArray[np.float64]
    """Strongest evidence by absolute limits, 1.0 is the limit; of windows elsewhere, else 0."""


def rigs() -> list[data.Rig]:
    """The rigs of the recordings, and the simulated machine: `learned` at all learned speeds, healthy ones
    at the others, and each fault at the rated speed and at the first of the others."""
    found = []
    for rig in (data.mfpt_rig(), data.cwru_rig(), data.uestc_rig()):
        made = {"learned": _mixed([played(rig.records[rig.first], ratio) for ratio in LEARNED], PIECES)}
        made |= {f"healthy at {r:g}": played(rig.records[rig.other], r) for r in OTHERS}
        for key, record in rig.records.items():
            if key not in (rig.first, rig.other):
                made |= {key: record, f"{key} at {OTHERS[0]:g}": played(record, OTHERS[0])}
        found.append(replace(rig, records=made, first="learned", other=HEALTHY))
    return [*found, simulated()]


def played(record: Recording, ratio: float) -> Recording:
    """The recording at `ratio` times its speed, resonances and noise left where they were."""
    x, rate_hz = record.samples[0].astype(np.float64), record.sample_rate_hz
    if ratio == 1.0:
        return record
    share = Fraction(ratio).limit_denominator(40)
    faster = resample_poly(x, share.denominator, share.numerator)
    frequencies_hz, wanted = welch(x, rate_hz, nperseg=2048)
    _, moved = welch(faster, rate_hz, nperseg=2048)
    gain = np.sqrt(_smooth(wanted) / _smooth(moved)) * ratio**2
    bins = np.fft.rfft(faster)
    bins *= np.interp(np.fft.rfftfreq(len(faster), 1 / rate_hz), frequencies_hz, np.clip(gain, 1e-3, 1e3))
    samples = np.fft.irfft(bins, len(faster)).astype(np.float32)[None]
    return Recording(record.path, samples, rate_hz, record.unit, record.axes)


def _smooth(power: Samples) -> Samples:
    floor = median_filter(np.log(power + 1e-20), size=41, mode="nearest")
    return np.exp(gaussian_filter1d(floor, 8))


RESONANCES = ((160.0, 12.0), (410.0, 15.0), (1150.0, 20.0), (3200.0, 25.0))
"""Frequency in Hz and sharpness of what rings in the simulated structure, whatever the speed."""
ORDERS = {1: 1.0, 2: 0.5, 3: 0.2, 4: 0.1, 6: 0.3, 7: 0.5, 8: 0.3, 14: 0.3, 22: 0.2, 23: 0.5, 24: 0.2, 46: 0.2}
"""Unbalance and misalignment, seven blades and a gear with their sidebands; relative amplitudes."""


def simulated() -> data.Rig:
    """A geared pump on a structure that rings: levels of lines do not simply scale with the speed."""
    learned = [_recorded(turning(25.0 * r, 30.0, seed=i)) for i, r in enumerate(LEARNED)]
    records = {"learned": _mixed(learned, PIECES)}
    for i, ratio in enumerate(OTHERS):
        records[f"healthy at {ratio:g}"] = _recorded(turning(25.0 * ratio, 60.0, seed=10 + i))
    for i, ratio in enumerate((1.0, OTHERS[0])):
        at = "" if ratio == 1.0 else f" at {ratio:g}"
        records[f"outer race{at}"] = _recorded(turning(25.0 * ratio, 30.0, seed=20 + i, strikes_g=0.5))
    what = "simulated geared pump"
    return data.Rig("simulated", what, records, 25.0, CATALOGUE["6205"], "learned", HEALTHY)


def turning(shaft_hz: float, length_s: float, *, seed: int, strikes_g: float = 0.0) -> Samples:
    """Acceleration of the pump in g at 12.8 kHz: orders, mains, flow noise, and strikes on the outer race."""
    rate_hz, random = 12800.0, np.random.default_rng(seed)
    n = round(length_s * rate_hz)
    wander = np.cumsum(random.standard_normal(n)) / np.sqrt(n) * 0.002
    turns = np.cumsum(shaft_hz * (1 + wander)) / rate_hz
    speed = (shaft_hz / 25.0) ** 2
    force = 0.01 * speed * random.standard_normal(n)
    seconds = np.arange(math.ceil(length_s) + 1)
    load = np.interp(np.arange(n) / rate_hz, seconds, random.normal(1, 0.03, len(seconds)))
    for order, amplitude in ORDERS.items():
        force += 0.03 * speed * amplitude * load * np.sin(2 * np.pi * order * turns + random.uniform(0, 6.28))
    if strikes_g:
        each = turns * CATALOGUE["6205"].frequencies(1.0).bpfo_hz
        at = np.flatnonzero(np.diff(np.floor(each + 0.01 * random.standard_normal(1)[0])))
        force[at] += strikes_g * 10 * random.normal(1, 0.2, len(at))
    bins, at_hz = np.fft.rfft(force), np.fft.rfftfreq(n, 1 / rate_hz)
    response = np.full(len(at_hz), 0.3, dtype=complex)
    for resonance_hz, sharpness in RESONANCES:
        ratio = at_hz / resonance_hz
        response += ratio**2 / (1 - ratio**2 + 1j * ratio / sharpness) / sharpness
    out = np.fft.irfft(bins * response, n) + 0.01 * np.sin(2 * np.pi * 100.0 * np.arange(n) / rate_hz)
    return np.asarray(out + 0.005 * random.standard_normal(n))


def seen(rig: data.Rig, references: tuple[LineReference, ...], record: Recording) -> Seen:
    """The pipeline's own look at a recording, from its first window on."""
    looks, teller = _looks(rig), LineSpeed(references)
    steady, lines, states, elsewhere, standing = [], [], [], [], []
    for window in _windows(record):
        looks.feed(window)
        lines.append(looks.lines())
        state, speed_hz, _ = looks.placed("running", teller)
        steady.append(state != "transient")
        elsewhere.append(steady[-1] and teller.observe(lines[-1]).kind == "other")
        states.append(state if steady[-1] else "running")
        evidence = looks.standing(speed_hz) if elsewhere[-1] else ()
        standing.append(max((item.ratio for item in evidence), default=0.0))
    return Seen(np.array(steady), lines, states, np.array(elsewhere), np.array(standing))


def references_of(rig: data.Rig) -> tuple[LineReference, ...]:
    """What `learn` keeps to tell the speed by."""
    looks, lines = _looks(rig), []
    for window in _windows(rig.records["learned"]):
        looks.feed(window)
        lines.append(looks.lines())
    return learn_lines(lines)


def report() -> list[dict[str, Any]]:
    """Every method on every rig: alone, and with the speed told by the lines."""
    found = []
    print("\nLearned at 0.85, 1 and 1.2 times the rated speed, the speed never told; windows of 0.25 s")
    for rig in rigs():
        data_set = data.bearing_set(rig, window_s=WINDOW_S)
        references = references_of(rig)
        known = {key: seen(rig, references, record) for key, record in rig.records.items()}
        print(f"  {rig.name}: {[len(r.lines_hz) for r in references]} lines, speeds {_names(references)}")
        for key, each in known.items():
            share = 100 * float(each.elsewhere[each.steady].mean())
            stands = 100 * float((each.standing[each.steady] >= 1).mean())
            print(f"    {key:32s} {share:5.1f} % told to be elsewhere, {stands:5.1f} % with evidence there")
        for name, view, learn in methods(data_set):
            rows = {HEALTHY: view.later, **view.faults}
            judge = learn(view, WINDOW_S)
            alone = {key: judge(x) for key, x in rows.items()}
            told = _told(name, view, known["learned"])
            scores = alone if told is None else {key: told(x, known[key].states) for key, x in rows.items()}
            entry = {"rig": rig.name, "method": name, **judged(alone, scores, known)}
            found.append(entry)
            print(
                f"    {name:26s} alone: AUC {entry['auc_alone']:.4f} false/1000 {entry['alone']:6.1f} alarms "
                f"{entry['alarms_alone']} of {len(OTHERS)}, faults {entry['faults_alone']} and "
                f"{entry['elsewhere_alone']}; by lines: false/1000 {entry['told']:6.1f} alarms "
                f"{entry['alarms']} of {len(OTHERS)}, faults {entry['faults']} and {entry['elsewhere']}",
                flush=True,
            )
    return found


def _told(name: str, view: data.View, learned: Seen) -> Judge | None:
    """A network learned with the lines of its windows, as `pdm-edge learn` does; None for a yardstick."""
    family, _, kind = name.split(",")[0].partition(" ")
    if kind not in ("int8", "float32"):
        return None
    stamp = Stamp(0, 0, "benchmark", True)
    vectors = [
        FeatureVector("m", row, view.schema, stamp, WINDOW_S, "running", lines=lines)
        for row, lines in zip(view.healthy, learned.lines, strict=True)
    ]
    chosen: Any = family
    model, manifest = commission(vectors, name="m", family=chosen, quantize=kind == "int8")
    detector = AnomalyDetector(Bundle(Path(), manifest, model))
    return lambda rows, states: np.array(
        [
            detector.score(FeatureVector("m", row, view.schema, stamp, WINDOW_S, state)).value
            for row, state in zip(rows, states, strict=True)
        ]
    )


def judged(alone: dict[str, Samples], told: dict[str, Samples], known: dict[str, Seen]) -> dict[str, Any]:
    """Figures of one method on one rig: `alone` without, `told` with the speed that the lines tell."""
    healthy = [key for key in alone if key.startswith("healthy")]
    elsewhere = [key for key in alone if key.endswith(f" at {OTHERS[0]:g}") and key not in healthy]
    here = [key for key in alone if key not in healthy and key not in elsewhere]
    # As the alarm counts them: windows that are not scored are no judgement and take no place.
    kept = {key: _kept(told[key], known[key]) for key in told}
    calm = np.concatenate([alone[key] for key in healthy])
    return {
        "auc_alone": _auc(calm, np.concatenate([alone[key] for key in here + elsewhere])),
        "alone": 1000 * float((calm >= 1).mean()),
        "told": 1000 * sum(int((kept[key] >= 1).sum()) for key in healthy) / len(calm),
        "alarms_alone": sum(_alarms(alone[key]) for key in healthy),
        "alarms": sum(_alarms(kept[key]) for key in healthy),
        "faults_alone": f"{sum(_alarms(alone[key]) for key in here)} of {len(here)}",
        "faults": f"{sum(_alarms(kept[key]) for key in here)} of {len(here)}",
        "elsewhere_alone": f"{sum(_alarms(alone[key]) for key in elsewhere)} of {len(elsewhere)}",
        "elsewhere": f"{sum(_alarms(kept[key]) for key in elsewhere)} of {len(elsewhere)}",
    }


def _names(references: tuple[LineReference, ...]) -> list[str]:
    return [f"{low:.2f}-{high:.2f}" for r in references for low, high in r.ratios]


def _mixed(parts: list[Recording], pieces: int) -> Recording:
    """Recordings cut into pieces that follow each other in turn, as a machine changes its speed."""
    cut = [np.array_split(part.samples, pieces, axis=1) for part in parts]
    first = parts[0]
    samples = np.concatenate([c[i] for i in range(pieces) for c in cut], axis=1)
    return Recording(first.path, samples, first.sample_rate_hz, first.unit, first.axes)


def _kept(scores: Samples, known: Seen) -> Samples:
    """What the alarm counts: the score, or in a state never learned what stands out by itself."""
    values = np.where(known.elsewhere, known.standing, scores)
    return values[known.steady & (~known.elsewhere | (known.standing > 0))]


def _alarms(scores: Samples) -> bool:
    return len(scores) >= 3 and bool((agreeing(scores, 3, 5) >= 1).any())


def _auc(healthy: Samples, faulty: Samples) -> float:
    order = np.sort(healthy)
    low = np.searchsorted(order, faulty, side="left") + np.searchsorted(order, faulty, side="right")
    return float(low.mean() / (2 * len(order)))


def _looks(rig: data.Rig) -> Looks:
    sizes = rig.bearing
    bearing = (
        None
        if sizes is None
        else BearingConfig(
            balls=sizes.balls,
            ball_diameter_mm=sizes.ball_diameter_mm,
            pitch_diameter_mm=sizes.pitch_diameter_mm,
            contact_angle_deg=sizes.contact_angle_deg,
        )
    )
    sensor = SensorConfig(id="de", source="replay://", bearing=bearing)
    return Looks(
        MachineConfig(id="m", sensor=(sensor,), rated_speed_rpm=60 * rig.shaft_hz, window_s=WINDOW_S)
    )


def _windows(record: Recording) -> list[Waveform]:
    n = round(WINDOW_S * record.sample_rate_hz)
    edges = range(0, record.samples.shape[1] - n + 1, n)
    return [
        Waveform(
            "de",
            record.samples[:, i : i + n],
            record.sample_rate_hz,
            record.unit,
            record.axes,
            Stamp(0, 0, "b", True),
            first_sample=i,
        )
        for i in edges
    ]


def _recorded(samples: Samples) -> Recording:
    return Recording(Path("simulated"), samples.astype(np.float32)[None], 12800.0, "g", ("x",))
