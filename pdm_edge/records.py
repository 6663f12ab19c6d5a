"""The records that flow from the wire to the cloud: frozen, and checked at birth.

Sample rate, unit, quality and clock trust travel with the data from the first record on; a
record without them is refused here, because nothing later could supply them honestly.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from pdm_edge.errors import RecordError

Float32Array: TypeAlias = npt.NDArray[np.float32]

WaveformUnit: TypeAlias = Literal["g", "m_s2", "mm_s"]
WAVEFORM_UNITS: Final[tuple[str, ...]] = get_args(WaveformUnit)

QualityLevel: TypeAlias = Literal["good", "uncertain", "bad"]
QUALITY_LEVELS: Final[tuple[str, ...]] = get_args(QualityLevel)  # best first
QUALITY_REASONS: Final = frozenset(
    {
        *("gap", "clipped", "stuck", "out_of_range", "stale", "unsynced", "missing", "nonfinite", "device"),
        *("open_circuit", "loose_mount", "mains"),  # what a sensor's self-check finds
        "unlearned",  # an operating state that the model has never seen
    }
)

Lane: TypeAlias = Literal["alarm", "event", "feature", "spectrum", "waveform"]
LANES: Final[tuple[Lane, ...]] = get_args(Lane)  # sent in this order, evicted in the opposite one

AlarmState: TypeAlias = Literal["learning", "normal", "alert", "alarm", "unknown"]

_NUMBERS: Final = (float, int, np.floating, np.integer)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def check_id(value: str, what: str) -> str:
    """Return `value` if it is a usable id, else raise RecordError.

    Ids name MQTT topics, file names and table rows: letters, digits, ``. _ -``, at most 64,
    starting with a letter or a digit.
    """
    if not isinstance(value, str) or not _ID.match(value):
        raise RecordError(
            f"{what} {value!r} is not a usable id",
            mend="Use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    return value


@dataclass(frozen=True, slots=True)
class Quality:
    """How far a value may be trusted, and why not further."""

    level: QualityLevel = "good"
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in QUALITY_LEVELS:
            raise RecordError(f"quality level {self.level!r} is none of {', '.join(QUALITY_LEVELS)}")
        unknown = set(self.reasons) - QUALITY_REASONS
        if unknown:
            raise RecordError(f"quality reasons {sorted(unknown)} are none of {sorted(QUALITY_REASONS)}")
        if self.level != "good" and not self.reasons:
            raise RecordError(f"quality {self.level!r} needs a reason")

    def __str__(self) -> str:
        return f"{self.level} ({', '.join(self.reasons)})" if self.reasons else self.level


GOOD: Final = Quality()


def uncertain(*reasons: str) -> Quality:
    """A quality of level uncertain."""
    return Quality("uncertain", reasons)


def bad(*reasons: str) -> Quality:
    """A quality of level bad."""
    return Quality("bad", reasons)


def worst(*qualities: Quality) -> Quality:
    """The worst level of all, with every reason named once; good if there are none."""
    level: QualityLevel = "good"
    reasons: dict[str, None] = {}
    for quality in qualities:
        if QUALITY_LEVELS.index(quality.level) > QUALITY_LEVELS.index(level):
            level = quality.level
        reasons.update(dict.fromkeys(quality.reasons))
    return Quality(level, tuple(reasons))


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a record was made, by the gateway's clocks.

    ``utc_ns`` may be wrong while ``clock_trusted`` is false; ``(boot_id, monotonic_ns)`` never
    jumps, so the wall time of such records can be corrected once the clock is set.
    """

    utc_ns: int
    monotonic_ns: int
    boot_id: str
    clock_trusted: bool

    def __post_init__(self) -> None:
        for name in ("utc_ns", "monotonic_ns"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise RecordError(f"stamp {name} is {value!r}, not a whole number of nanoseconds")
        if not self.boot_id:
            raise RecordError("stamp has no boot_id", mend="Take stamps from a Clock")

    def earlier(self, seconds_s: float) -> Stamp:
        """The stamp `seconds_s` before this one, on both clocks."""
        delta_ns = round(seconds_s * 1e9)
        return Stamp(self.utc_ns - delta_ns, self.monotonic_ns - delta_ns, self.boot_id, self.clock_trusted)


def _check_stamp(stamp: Stamp, what: str) -> None:
    if not isinstance(stamp, Stamp):
        raise RecordError(f"{what} has no time stamp", mend="Take stamps from a Clock")


def _check_rate_hz(sample_rate_hz: float, sensor: str) -> None:
    if not isinstance(sample_rate_hz, _NUMBERS) or not (math.isfinite(sample_rate_hz) and sample_rate_hz > 0):
        raise RecordError(
            f"sample rate of {sensor!r} is {sample_rate_hz!r} Hz",
            mend="Give the true sample rate; it is never guessed",
        )


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """Consecutive samples of one sensor.

    ``samples`` has shape ``(n_axes, n_samples)``, float32, in ``unit``; it is made read-only.
    ``stamp`` is the time of the first sample. ``first_sample`` counts samples since the device
    started, so that two waveforms are contiguous exactly when
    ``next.first_sample == first_sample + n_samples``. ``alarm`` is the id of the advisory that it
    is kept for as evidence, else empty.
    """

    sensor: str
    samples: Float32Array
    sample_rate_hz: float
    unit: WaveformUnit
    axes: tuple[str, ...]
    stamp: Stamp
    first_sample: int = 0
    quality: Quality = GOOD
    alarm: str = ""

    def __post_init__(self) -> None:
        check_id(self.sensor, "sensor")
        samples = self.samples
        if not isinstance(samples, np.ndarray) or samples.ndim != 2 or samples.size == 0:
            shape = getattr(samples, "shape", type(samples).__name__)
            raise RecordError(f"samples of {self.sensor!r} have shape {shape}, not (n_axes, n_samples)")
        if samples.shape[0] != len(self.axes):
            raise RecordError(f"{self.sensor!r} names {len(self.axes)} axes for {samples.shape[0]} rows")
        _check_rate_hz(self.sample_rate_hz, self.sensor)
        if self.unit not in WAVEFORM_UNITS:
            raise RecordError(
                f"unit of {self.sensor!r} is {self.unit!r}",
                mend=f"Give one of {', '.join(WAVEFORM_UNITS)}; it is never guessed",
            )
        _check_stamp(self.stamp, f"waveform of {self.sensor!r}")
        owned = np.ascontiguousarray(samples, dtype=np.float32)
        if owned is samples and owned.flags.writeable:
            owned = owned.copy()
        owned.setflags(write=False)
        object.__setattr__(self, "samples", owned)

    @property
    def n_samples(self) -> int:
        return int(self.samples.shape[1])

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.sample_rate_hz


SpectrumQuantity: TypeAlias = Literal["acceleration", "velocity", "envelope"]
SPECTRUM_UNITS: Final[Mapping[str, str]] = {"acceleration": "g", "velocity": "mm_s", "envelope": "g"}
LEVEL_STEP_DB: Final = 0.5
"""Between two codes of a level: at most 0.25 dB (3 %) from the true value, where the Hann window itself
reads a tone between two lines up to 1.4 dB low."""


def level_codes(amplitude: Float32Array) -> tuple[tuple[float, ...], npt.NDArray[np.uint8]]:
    """Amplitudes of shape (n_axes, n_bins) as the highest of each axis, and codes of `LEVEL_STEP_DB`.

    Code 255 is the highest; 0 is anything 127 dB or more below it.
    """
    top = amplitude.max(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.round(20 / LEVEL_STEP_DB * np.log10(amplitude / top[:, None], dtype=np.float64))
    codes = np.where(np.isfinite(steps), np.clip(255 + steps, 0, 255), 0).astype(np.uint8)
    return tuple(float(value) for value in top), codes


def level_amplitudes(top: Sequence[float], codes: npt.NDArray[np.uint8]) -> Float32Array:
    """The amplitudes again, shape (n_axes, n_bins), in the unit of `top`; 0 for code 0."""
    relative = np.where(codes > 0, 10.0 ** ((codes.astype(np.float64) - 255) * LEVEL_STEP_DB / 20), 0.0)
    return (np.asarray(top, dtype=np.float64)[:, None] * relative).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class AmplitudeSpectrum:
    """A sensor's spectrum, reduced: RMS amplitude of the strongest line in each bin.

    ``levels`` has shape ``(n_axes, n_bins)``: see `level_codes`; `amplitude` gives the values in
    ``unit``. Bin i begins at ``first_hz + i * bin_hz``. ``resolution_hz`` is that of the transform
    (one over the length of a window), ``averages`` the number of windows whose power was averaged,
    ``window`` their taper. ``stamp`` is the start of the first. ``shaft_hz`` is the speed, where it is
    known. ``alarm`` is the id of the advisory that asked for it, else empty.
    """

    sensor: str
    quantity: SpectrumQuantity
    unit: str
    axes: tuple[str, ...]
    top: tuple[float, ...]
    levels: npt.NDArray[np.uint8]
    first_hz: float
    bin_hz: float
    resolution_hz: float
    sample_rate_hz: float
    averages: int
    stamp: Stamp
    shaft_hz: float | None = None
    state: str = "unknown"
    window: str = "hann"
    quality: Quality = GOOD
    alarm: str = ""

    def __post_init__(self) -> None:
        check_id(self.sensor, "sensor")
        _check_rate_hz(self.sample_rate_hz, self.sensor)
        about = f"{self.quantity} spectrum of {self.sensor!r}"
        if SPECTRUM_UNITS.get(self.quantity) != self.unit:
            raise RecordError(f"{about} is in {self.unit!r}", mend=f"Known are {dict(SPECTRUM_UNITS)}")
        levels = self.levels
        if levels.dtype != np.uint8 or levels.ndim != 2 or levels.size == 0:
            raise RecordError(f"{about} has levels of {levels.dtype} {levels.shape}, not (n_axes, n_bins)")
        if not len(levels) == len(self.axes) == len(self.top):
            raise RecordError(f"{about} names {len(self.axes)} axes for {len(levels)} rows")
        if not all(math.isfinite(value) and value >= 0 for value in self.top):
            raise RecordError(f"{about} has the highest amplitudes {self.top}")
        for name in ("first_hz", "bin_hz", "resolution_hz"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise RecordError(f"{about}: {name} is {value!r}; it must be a positive number")
        last_hz = self.first_hz + (levels.shape[1] - 1) * self.bin_hz
        if last_hz > self.sample_rate_hz / 2:
            raise RecordError(f"{about} reaches {last_hz:g} Hz at {self.sample_rate_hz:g} samples a second")
        if self.averages < 1 or not isinstance(self.stamp, Stamp):
            raise RecordError(f"{about} needs a stamp and at least one window")
        levels.setflags(write=False)

    @property
    def amplitude(self) -> Float32Array:
        """RMS amplitudes, shape ``(n_axes, n_bins)``, in ``unit``."""
        return level_amplitudes(self.top, self.levels)

    @property
    def frequencies_hz(self) -> npt.NDArray[np.float64]:
        """Where each bin begins, shape ``(n_bins,)``."""
        return self.first_hz + self.bin_hz * np.arange(self.levels.shape[1], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Reading:
    """One scalar: a temperature, a pressure, a speed. NaN is allowed only with quality bad."""

    sensor: str
    quantity: str
    value: float
    unit: str
    stamp: Stamp
    quality: Quality = GOOD

    def __post_init__(self) -> None:
        check_id(self.sensor, "sensor")
        check_id(self.quantity, "quantity")
        if not self.unit:
            raise RecordError(
                f"{self.sensor!r} {self.quantity!r} has no unit",
                mend="Give its unit ('degc', 'bar', 'a', 'rpm'; '1' for a plain ratio)",
            )
        _check_stamp(self.stamp, f"{self.sensor!r} {self.quantity!r}")
        if not isinstance(self.value, _NUMBERS):
            raise RecordError(f"{self.sensor!r} {self.quantity!r} is {self.value!r}, not a number")
        if not math.isfinite(self.value) and self.quality.level != "bad":
            raise RecordError(f"{self.sensor!r} {self.quantity!r} is {self.value} but not marked bad")


@dataclass(frozen=True, slots=True)
class Gap:
    """What was lost, how much, and why; a gap is itself stored and delivered.

    ``first`` and ``last`` are the numbers of the first and last lost item where items are
    numbered (samples, frames, rows), else None.
    """

    origin: str
    what: Literal["samples", "frames", "readings", "windows", "records", "rows"]
    lost: int
    why: str
    stamp: Stamp
    first: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        if self.lost < 0:
            raise RecordError(f"gap of {self.origin!r} lost {self.lost} {self.what}")
        _check_stamp(self.stamp, f"gap of {self.origin!r}")


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """Ordered names and units of a feature vector; ``id`` is the hash of both."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    id: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units) or len(set(self.names)) != len(self.names) or not self.names:
            raise RecordError(
                f"feature schema has {len(self.names)} names ({len(set(self.names))} distinct) "
                f"and {len(self.units)} units"
            )
        text = "\n".join(f"{n}\t{u}" for n, u in zip(self.names, self.units, strict=True))
        object.__setattr__(self, "id", hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True, eq=False)
class FeatureVector:
    """Everything known of one machine at one time. A missing value is NaN."""

    machine: str
    values: Float32Array
    schema: FeatureSchema
    stamp: Stamp
    window_s: float
    state: str = "unknown"  # operating state: stopped, transient, a speed bin
    quality: Quality = GOOD
    lines: tuple[tuple[float, float], ...] = ()
    """Strongest lines of the spectrum, in Hz and dB above their floor; empty where the speed is measured."""
    faults: tuple[str, ...] = ()
    """What stands out in it by an absolute limit, without any history."""

    def __post_init__(self) -> None:
        check_id(self.machine, "machine")
        values = np.array(self.values, dtype=np.float32)
        if values.shape != (len(self.schema.names),):
            raise RecordError(
                f"vector of {self.machine!r} has shape {values.shape} for {len(self.schema.names)} names"
            )
        _check_stamp(self.stamp, f"vector of {self.machine!r}")
        if not (math.isfinite(self.window_s) and self.window_s > 0):
            raise RecordError(f"vector of {self.machine!r} covers {self.window_s!r} s")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def as_dict(self) -> dict[str, float]:
        return {n: float(v) for n, v in zip(self.schema.names, self.values, strict=True)}


@dataclass(frozen=True, slots=True)
class Score:
    """State detection, never a diagnosis. ``value`` 1.0 is the threshold; NaN if not scored.

    ``contributions`` are the features that carry the score, strongest first, as shares of 1.
    """

    machine: str
    value: float
    model: str
    stamp: Stamp
    contributions: tuple[tuple[str, float], ...] = ()
    quality: Quality = GOOD

    def __post_init__(self) -> None:
        check_id(self.machine, "machine")
        _check_stamp(self.stamp, f"score of {self.machine!r}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One finding: a measured value beside the limit it is held against."""

    what: str
    value: float
    limit: float
    unit: str

    @property
    def ratio(self) -> float:
        return self.value / self.limit if self.limit else math.inf


@dataclass(frozen=True, slots=True)
class Health:
    """What the evidence says of a machine. ``zone`` is the ISO 20816-3 zone, None if not graded."""

    machine: str
    stamp: Stamp
    zone: Literal["A", "B", "C", "D"] | None
    zone_basis: str
    evidence: tuple[Evidence, ...]
    confidence: Literal["low", "medium", "high"]

    def __post_init__(self) -> None:
        check_id(self.machine, "machine")
        _check_stamp(self.stamp, f"health of {self.machine!r}")
        if self.zone not in (None, "A", "B", "C", "D"):
            raise RecordError(f"zone of {self.machine!r} is {self.zone!r}, not A to D")


@dataclass(frozen=True, slots=True)
class Advisory:
    """A change of alarm state, in words that a mechanic can act on.

    With ``state == previous`` the alarm stands, and its evidence has come to name a part.
    """

    machine: str
    state: AlarmState
    previous: AlarmState
    stamp: Stamp
    headline: str
    advice: str
    score: float | None = None
    zone: str | None = None
    evidence: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        check_id(self.machine, "machine")
        _check_stamp(self.stamp, f"advisory of {self.machine!r}")
        for state in (self.state, self.previous):
            if state not in get_args(AlarmState):
                raise RecordError(
                    f"{state!r} is no alarm state", mend=f"Of {', '.join(get_args(AlarmState))}"
                )

    @property
    def id(self) -> str:
        """Names this change of state; waveforms kept as its evidence carry it as ``alarm``."""
        return f"{self.machine}@{self.stamp.boot_id}:{self.stamp.monotonic_ns}"

    def __str__(self) -> str:
        change = (
            f"{self.previous} -> {self.state}" if self.previous != self.state else f"still in {self.state}"
        )
        return f"{self.machine}: {change}: {self.headline}. {self.advice}"


Measurement: TypeAlias = Waveform | Reading | Gap
Record: TypeAlias = Waveform | AmplitudeSpectrum | Reading | Gap | FeatureVector | Score | Health | Advisory
