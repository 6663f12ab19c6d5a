"""What `pdm-edge analyze` finds in a recording, without a word of how it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pdm_edge import features as f
from pdm_edge.assess.evidence import BESIDE_DB, LINE_LEVEL_DB
from pdm_edge.config_errors import At
from pdm_edge.errors import ConfigError
from pdm_edge.features.spectrum import check_band_hz
from pdm_edge.records import FeatureSchema

if TYPE_CHECKING:
    from pdm_edge.acquire.recordings import Recording

LONGEST_S = 10.0
"""Of a longer recording, this much is taken for spectra, band and speed."""

SURE = 0.3
"""Confidence from which an estimated speed is used."""


@dataclass(frozen=True, slots=True)
class Line:
    """A bearing line in the envelope spectrum of one axis."""

    axis: str
    name: str
    nominal_hz: float
    found_hz: float
    amplitude: float
    level_db: float
    harmonics_db: tuple[float, ...]
    sidebands: int
    stands_out: bool


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """All that was found. `samples` are the plotted ones, in g or mm/s, shape ``(n_axes, n_samples)``."""

    record: Recording
    seconds: float
    windows: int
    speed_hz: float | None
    speed_basis: str
    bearing_basis: str
    schema: FeatureSchema
    features: npt.NDArray[np.float32]
    grade: f.ZoneGrade | None
    bands: tuple[f.BandChoice, ...]
    lines: tuple[Line, ...]
    doubts: tuple[str, ...]
    samples: npt.NDArray[np.float64]

    def as_dict(self) -> dict[str, Any]:
        middle, low, high = spread(self.features)
        return {
            "record": "analysis",
            "file": str(self.record.path),
            "sample_rate_hz": self.record.sample_rate_hz,
            "unit": self.record.unit,
            "axes": self.record.axes,
            "seconds": self.seconds,
            "windows": self.windows,
            "speed_hz": self.speed_hz,
            "speed_basis": self.speed_basis,
            "bearing_basis": self.bearing_basis,
            "features": {
                name: {"median": float(m), "min": float(a), "max": float(b), "unit": unit}
                for name, unit, m, a, b in zip(
                    self.schema.names, self.schema.units, middle, low, high, strict=True
                )
            },
            "iso20816": None if self.grade is None else {"zone": self.grade.zone, "basis": str(self.grade)},
            "envelope_bands": [
                {"axis": axis, "band_hz": choice.band_hz, "kurtosis": choice.kurtosis, "why": choice.why}
                for axis, choice in zip(self.record.axes, self.bands, strict=False)
            ],
            "lines": [
                {field: getattr(line, field) for field in Line.__dataclass_fields__} for line in self.lines
            ],
            "self_check": self.doubts,
        }


def analyse(
    record: Recording, *, geometry: f.BearingGeometry | None, bearing_basis: str, options: dict[str, Any]
) -> Analysis:
    """Everything about a recording that needs no drawing. `bearing_basis` says whose geometry it is."""
    rate_hz = record.sample_rate_hz
    whole = record.samples[:, : round(LONGEST_S * rate_hz)].astype(np.float64)
    if record.unit == "m_s2":
        whole /= 9.80665
    speed_hz, basis = _speed(whole[0], rate_hz, options["speed_rpm"])
    if geometry is not None and speed_hz is None:
        raise ConfigError(
            f"bearing lines need the speed, and the spectrum does not tell it ({basis})",
            where=str(record.path),
            mend="Give --speed-rpm",
        )
    n_window = min(round(options["window_s"] * rate_hz), record.samples.shape[1])
    with At(str(record.path)):
        plan = f.FeaturePlan(
            sample_rate_hz=rate_hz,
            n_samples=n_window,
            unit=record.unit,
            axes=record.axes,
            shaft_hz=speed_hz,
            extras=tuple(name for name in f.EXTRAS if name != "displacement_rms" or record.unit != "mm_s"),
            orders=() if speed_hz is None else (1, 2, 3),
        )
        extractor = f.FeatureExtractor(plan)
        table = f.windows_matrix(extractor, record.samples)
    bands: tuple[f.BandChoice, ...] = ()
    lines: tuple[Line, ...] = ()
    if record.unit != "mm_s":
        bands = tuple(_band(x, rate_hz, geometry, speed_hz, options["band_hz"]) for x in whole)
        if geometry is not None and speed_hz is not None:
            lines = _lines(record, whole, bands, geometry, speed_hz)
    return Analysis(
        record=record,
        seconds=record.samples.shape[1] / rate_hz,
        windows=len(table),
        speed_hz=speed_hz,
        speed_basis=basis,
        bearing_basis=bearing_basis,
        schema=extractor.schema,
        features=table,
        grade=_grade(table, extractor, options["group"], options["support"]),
        bands=bands,
        lines=lines,
        doubts=_doubts(record, n_window),
        samples=whole,
    )


def _speed(x: npt.NDArray[np.float64], rate_hz: float, speed_rpm: float | None) -> tuple[float | None, str]:
    if speed_rpm is not None:
        return speed_rpm / 60, "given"
    try:
        estimate = f.estimate_speed(x, rate_hz)
    except ValueError as error:
        return None, f"unknown: {error}"
    text = f"estimated from {estimate.harmonics} harmonics, confidence {estimate.confidence:.2f}"
    if estimate.confidence < SURE:
        return None, f"unknown: {text} is below {SURE:g}"
    return estimate.speed_hz, text


def _band(
    x: npt.NDArray[np.float64],
    rate_hz: float,
    geometry: f.BearingGeometry | None,
    speed_hz: float | None,
    band_hz: tuple[float, float] | None,
) -> f.BandChoice:
    if band_hz is not None:
        try:
            check_band_hz(*band_hz, rate_hz, len(x))
        except ValueError as error:
            raise ConfigError(str(error), where="--band-hz") from error
        return f.BandChoice(band_hz, math.nan, "given")
    narrowest_hz = 0.0
    if geometry is not None and speed_hz is not None:
        narrowest_hz = min(4 * geometry.frequencies(speed_hz).bpfi_hz, rate_hz / 8)
    try:
        return f.choose_band(x, rate_hz, narrowest_hz=narrowest_hz)
    except ValueError as error:
        high_hz = min(10000.0, rate_hz / 2.56)
        return f.BandChoice((min(500.0, high_hz / 4), high_hz), math.nan, f"the usual one: {error}")


def _lines(
    record: Recording,
    whole: npt.NDArray[np.float64],
    bands: tuple[f.BandChoice, ...],
    geometry: f.BearingGeometry,
    speed_hz: float,
) -> tuple[Line, ...]:
    frequencies = geometry.frequencies(speed_hz)
    nominal = {
        # Sidebands: an inner race passes the load once a turn, a ball once a turn of the cage.
        "bpfo": (frequencies.bpfo_hz, None),
        "bpfi": (frequencies.bpfi_hz, speed_hz),
        "bsf": (2 * frequencies.bsf_hz, frequencies.ftf_hz),
        "ftf": (frequencies.ftf_hz, None),
    }
    lines: list[Line] = []
    for axis, x, choice in zip(record.axes, whole, bands, strict=True):
        frequencies_hz, amplitude = f.envelope_spectrum(x, record.sample_rate_hz, choice.band_hz)
        line_hz = float(frequencies_hz[1])
        levels = {
            name: float(f.line_amplitudes(amplitude, line_hz, hz)[1]) for name, (hz, _) in nominal.items()
        }
        strongest = max((level for level in levels.values() if math.isfinite(level)), default=math.nan)
        for name, (hz, sideband_hz) in nominal.items():
            trace = f.trace_lines(amplitude, line_hz, hz, sideband_hz=sideband_hz)
            main = trace.sideband == 0
            if not main.any():
                continue
            total, _ = f.line_amplitudes(amplitude, line_hz, hz, sideband_hz=sideband_hz)
            beside = int(np.count_nonzero(trace.level_db[~main] >= LINE_LEVEL_DB))
            stands_out = levels[name] >= LINE_LEVEL_DB and levels[name] >= strongest - BESIDE_DB
            harmonics_db = tuple(float(level) for level in trace.level_db[main])
            found_hz = float(trace.frequency_hz[main][0])
            lines.append(
                Line(axis, name, hz, found_hz, float(total), levels[name], harmonics_db, beside, stands_out)
            )
    return tuple(lines)


def _grade(
    table: npt.NDArray[np.float32], extractor: f.FeatureExtractor, group: int | None, support: str | None
) -> f.ZoneGrade | None:
    if group is None or support is None:
        return None
    at = [i for i, name in enumerate(extractor.schema.names) if "/velocity_rms_" in name]
    if not at:
        raise ConfigError("windows so short tell no velocity", mend="Give a longer --window-s")
    worst = float(np.median(table[:, at], axis=0).max())
    band_hz, _ = extractor.plan.velocity_band_hz()
    return f.iso20816_grade(worst, group, support, band_hz=band_hz, shaft_hz=extractor.plan.shaft_hz)


def _doubts(record: Recording, n_window: int) -> tuple[str, ...]:
    seen: dict[tuple[str, str], list[str]] = {}
    count = record.samples.shape[1] // n_window
    for start in range(0, count * n_window, n_window):
        window = record.samples[:, start : start + n_window]
        check = f.self_check(window, record.sample_rate_hz, record.unit, axes=record.axes)
        for finding in check.findings:
            seen.setdefault((finding.axis, finding.what), []).append(f"{finding.level}: {finding}")
    return tuple(f"{texts[0]} [{len(texts)} of {count} windows]" for texts in seen.values())


def spread(table: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ...]:
    """Median, least and greatest value of each feature over the windows."""
    return np.median(table, axis=0), table.min(axis=0), table.max(axis=0)
