"""The recordings and simulated machines that accuracy is measured on, as feature vectors.

The recordings lie beside the checkout (see docs/accuracy.md) and are never part of it.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pdm_edge.acquire.recordings import Recording, load_recording
from pdm_edge.acquire.simulate import VibrationSimulator
from pdm_edge.features import CATALOGUE, BearingGeometry, FeatureExtractor, FeaturePlan, windows_matrix
from pdm_edge.records import FeatureSchema

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WINDOW_S = 0.1
BANDS = 64
FAINT_DB = -10.0
DROWNED_S = 12.0
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class View:
    """One way to look at a data set: the vector of features, or the levels of 64 bands."""

    schema: FeatureSchema
    healthy: Rows
    """To learn from, in time order."""
    later: Rows
    """Healthy too, later or from another recording; never learned from."""
    faults: dict[str, Rows]


@dataclass(frozen=True, eq=False)
class DataSet:
    name: str
    what: str
    window_s: float
    features: View
    spectrum: View | None = None


def all_sets() -> list[DataSet]:
    """Every data set that is here."""
    return [
        *(load(faint) for faint in (False, True) for load in (mfpt, cwru, uestc)),
        simulated_faint(),
    ]


@dataclass(frozen=True, eq=False)
class Rig:
    """Recordings of one bearing rig; `first` is learned from, `other` is healthy and later."""

    name: str
    what: str
    records: dict[str, Recording]
    shaft_hz: float
    bearing: BearingGeometry | None
    first: str
    other: str


def mfpt(faint: bool = False) -> DataSet:
    return bearing_set(drowned(mfpt_rig()) if faint else mfpt_rig())


def cwru(faint: bool = False) -> DataSet:
    return bearing_set(drowned(cwru_rig()) if faint else cwru_rig())


def uestc(faint: bool = False) -> DataSet:
    return bearing_set(drowned(uestc_rig()) if faint else uestc_rig())


def mfpt_rig() -> Rig:
    folder, bearing = DATA / "mfpt", BearingGeometry(8, 5.969, 31.623)
    records = {}
    for file in sorted(folder.glob("*.mat")):
        healthy = file.stem.startswith("baseline")
        rate = 97656.0 if healthy else 48828.0
        records[file.stem] = load_recording(
            file,
            variable="*gs",
            sample_rate_hz=rate,
            unit="g",
            resample_hz=48828.0 if healthy else None,
        )
    what = "learned on baseline 1, tested on baseline 2"
    return Rig("MFPT", what, records, 25.0, bearing, "baseline_1", "baseline_2")


def cwru_rig() -> Rig:
    records = {}
    for file in sorted((DATA / "cwru").glob("*.mat")):
        healthy = "normal" in file.stem
        record = load_recording(
            file,
            variable="*DE_time",
            sample_rate_hz=48000.0 if healthy else 12000.0,
            unit="g",
            resample_hz=12000.0 if healthy else None,
        )
        if healthy:
            cut = round(0.6 * record.samples.shape[1])
            records["normal, first 60 %"] = _part(record, 0, cut)
            records["normal, last 40 %"] = _part(record, cut, record.samples.shape[1])
        else:
            records[file.stem] = record
    what = "learned on the first 60 % of the normal file, tested on the rest"
    first, rest = "normal, first 60 %", "normal, last 40 %"
    return Rig("CWRU", what, records, 29.5, CATALOGUE["6205"], first, rest)


def uestc_rig() -> Rig:
    records = {
        file.stem: load_recording(
            file, variable="Data", sample_rate_hz=20000.0, unit="m_s2", scale=1 / 0.01022
        )
        for file in sorted((DATA / "uestc").glob("*.mat"))
    }
    what = "learned on the first healthy file, tested on the second"
    return Rig("UESTC", what, records, 1000 / 60, None, "N_1000_1", "N_1000_2")


def drowned(rig: Rig) -> Rig:
    """Each fault `FAINT_DB` below the later healthy recording of its rig, added to it, for 12 s.

    Both are repeated to that length, the fault shifted by a prime number of samples each time, so that no
    window comes twice. The fault's recording holds its own rig's vibration, too: what is added is not the
    strikes alone.
    """
    healthy = rig.records[rig.other]
    total = round(DROWNED_S * healthy.sample_rate_hz)
    own = np.resize(healthy.samples, (len(healthy.samples), total))
    made = {rig.first: rig.records[rig.first], rig.other: healthy}
    for key, fault in rig.records.items():
        if key in made:
            continue
        added = np.concatenate(
            [np.roll(fault.samples, 997 * i, axis=1) for i in range(total // fault.samples.shape[1] + 1)],
            axis=1,
        )[:, :total]
        gain = float(np.std(own) / np.std(added)) * 10 ** (FAINT_DB / 20)
        made[f"{key}, {FAINT_DB:g} dB"] = Recording(
            fault.path, own + np.float32(gain) * added, fault.sample_rate_hz, fault.unit, fault.axes
        )
    what = f"{rig.what}; faults {-FAINT_DB:g} dB below it, added"
    return replace(rig, name=f"{rig.name}, drowned", what=what, records=made)


@dataclass(frozen=True, eq=False)
class Life:
    """One run: a row each snapshot in both views, its time, and the snapshot with which a fault starts (None
    if that is not known, or it never does)."""

    schema: FeatureSchema
    rows: Rows
    bands_schema: FeatureSchema
    bands: Rows
    time_s: npt.NDArray[np.float64]
    onset: int | None = None


def femto() -> Life:
    """Run to failure, every fifth snapshot."""
    content = np.load(DATA / "femto" / "bearing1_1_every_5th.npz")
    snapshots = content["acceleration_g"]
    plan = FeaturePlan(25600.0, snapshots.shape[2], "g", ("h", "v"), 30.0)
    extractor, features, bands = both_views(plan)
    rows = np.stack([extractor(s) for s in snapshots])
    schema = extractor.schema
    return Life(
        part_of(schema, features), rows[:, features], part_of(schema, bands), rows[:, bands],
        content["time_s"],
    )  # fmt: skip


SKAB_UNITS = {
    "Accelerometer1RMS": "g",
    "Accelerometer2RMS": "g",
    "Current": "a",
    "Pressure": "bar",
    "Temperature": "degc",
    "Thermocouple": "degc",
    "Voltage": "v",
    "Volume Flow RateRMS": "l_min",
}


def skab() -> tuple[FeatureSchema, dict[str, tuple[Rows, npt.NDArray[np.bool_]]]]:
    """Process data at 1 Hz: schema, and for each file its rows and which of them are anomalous."""
    found = {}
    for file in sorted((DATA / "skab").glob("*_*.csv")):
        if "free" in file.stem:
            continue
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter=";"))
        values = np.array([[float(row[name]) for name in SKAB_UNITS] for row in rows], dtype=np.float32)
        found[file.stem] = (values, np.array([float(row["anomaly"]) > 0 for row in rows]))
    names = tuple(name.replace(" ", "_") for name in SKAB_UNITS)
    return FeatureSchema(names, tuple(SKAB_UNITS.values())), found


def simulated_faint() -> DataSet:
    """A fault whose strikes are 10 dB below the machine's own vibration."""
    healthy, later = _pump(24.67, 0.0, 40.0, seed=1), _pump(24.67, 0.0, 40.0, seed=2)
    own = float(np.sqrt(np.mean(np.square(later))))
    louder = _pump(24.67, 1.0, 20.0, seed=3)
    strikes = float(np.sqrt(np.mean(np.square(louder)) - own**2))
    severity = own / strikes * 10 ** (-10 / 20)
    records = {
        "healthy": _recorded(healthy),
        "healthy, another run": _recorded(later),
        "outer race, -10 dB": _recorded(_pump(24.67, severity, 20.0, seed=4)),
    }
    what = "simulated pump; the strikes of its bearing are 10 dB below its own vibration"
    first, other = "healthy", "healthy, another run"
    return bearing_set(Rig("faint fault", what, records, 24.67, CATALOGUE["6205"], first, other))


def _pump(shaft_hz: float, severity: float, length_s: float, *, seed: int) -> Rows:
    strike_hz = CATALOGUE["6205"].frequencies(shaft_hz).bpfo_hz
    pump = VibrationSimulator(sample_rate_hz=12800.0, shaft_hz=shaft_hz, strike_hz=strike_hz, seed=seed)
    pump.severity = severity
    block = round(WINDOW_S * 12800)
    return np.concatenate([pump.block(block) for _ in range(round(length_s / WINDOW_S))])


def _recorded(samples: Rows) -> Recording:
    return Recording(Path("simulated"), samples[None, :], 12800.0, "g", ("x",))


def _part(record: Recording, first: int, last: int) -> Recording:
    cut = record.samples[:, first:last]
    return Recording(record.path, cut, record.sample_rate_hz, record.unit, record.axes)


def bearing_set(rig: Rig, window_s: float = WINDOW_S) -> DataSet:
    records, first, other = rig.records, rig.first, rig.other
    any_record = records[first]
    n_samples = round(window_s * any_record.sample_rate_hz)
    plan = FeaturePlan(
        any_record.sample_rate_hz, n_samples, any_record.unit, any_record.axes, rig.shaft_hz, rig.bearing
    )
    extractor, features, bands = both_views(plan)
    rows = {key: windows_matrix(extractor, record.samples) for key, record in records.items()}

    def view(columns: list[int]) -> View:
        faults = {key: x[:, columns] for key, x in rows.items() if key not in (first, other)}
        schema = part_of(extractor.schema, columns)
        return View(schema, rows[first][:, columns], rows[other][:, columns], faults)

    return DataSet(rig.name, rig.what, window_s, view(features), view(bands))


def both_views(plan: FeaturePlan) -> tuple[FeatureExtractor, list[int], list[int]]:
    """An extractor with the features of `plan` and `BANDS` more of equal width (of all axes together), and
    which of its columns are the features and which the bands."""
    edges = np.linspace(plan.lowest_hz, plan.usable_hz, BANDS // len(plan.axes) + 1)
    lines = tuple((float(a), float(b)) for a, b in itertools.pairwise(edges))
    wide = FeatureExtractor(replace(plan, more_bands_hz=lines))
    narrow = FeatureExtractor(plan).schema.names
    extra = [i for i, name in enumerate(wide.schema.names) if name not in set(narrow)]
    assert len(extra) == BANDS, len(extra)
    return wide, [wide.schema.names.index(name) for name in narrow], extra


def part_of(schema: FeatureSchema, columns: list[int]) -> FeatureSchema:
    return FeatureSchema(tuple(schema.names[i] for i in columns), tuple(schema.units[i] for i in columns))
