"""Recorded files as waveforms: .npz, .csv, .wav and MATLAB .mat.

Sample rate and unit are taken from the file where it states them, from the caller where it does
not, and are never guessed; if both state them they must agree.
"""

from __future__ import annotations

import fnmatch
import math
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pdm_edge.acquire.tables import read_table
from pdm_edge.errors import ConfigError, SourceError
from pdm_edge.records import WAVEFORM_UNITS, Float32Array, WaveformUnit

_RATE_KEYS: Final = ("sample_rate_hz", "sample_rate", "sr", "fs", "SampleFrequency")
_AXES: Final = "xyz"


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A whole record: samples of shape ``(n_axes, n_samples)``, float32, in `unit`."""

    path: Path
    samples: Float32Array
    sample_rate_hz: float
    unit: WaveformUnit
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file holds: arrays by name, and what it says of rate, units and axes."""

    arrays: Mapping[str, npt.NDArray[Any]]
    rate_hz: float | None
    units: Mapping[str, str]
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load_recording(
    path: str | Path,
    *,
    sample_rate_hz: float | None = None,
    unit: str | None = None,
    variable: str | None = None,
    scale: float = 1.0,
    resample_hz: float | None = None,
) -> Recording:
    """Read a recording.

    Parameters
    ----------
    sample_rate_hz, unit
        Needed where the file does not state them. Unit: ``g``, ``m_s2`` or ``mm_s``.
    variable
        Which array of the file; a pattern such as ``*DE_time`` will do. Needed if there are several.
    scale
        Factor from the numbers in the file to `unit`, for recordings in volts or counts.
    resample_hz
        Rate to resample to (polyphase filter, `scipy.signal.resample_poly`).

    Raises
    ------
    ConfigError
        If rate or unit are missing or contradict the file, or the array is not clear.
    SourceError
        If the file cannot be read, or holds no samples.
    """
    file = Path(path)
    content = _read(file)
    name = _choose(content.arrays, variable, file)
    rate_hz = _agreed(content.rate_hz, sample_rate_hz, "sample_rate_hz", file)
    stated = _agreed(content.units.get(name), unit, "unit", file)
    if stated not in WAVEFORM_UNITS:
        raise ConfigError(f"unit {stated!r} is none of {', '.join(WAVEFORM_UNITS)}", where=str(file))
    samples = _as_axes(np.asarray(content.arrays[name], dtype=np.float64), file)
    if not np.isfinite(samples).all():
        raise SourceError(f"{name!r} holds values that are not numbers", where=str(file))
    if scale != 1.0:
        samples = samples * scale
    if resample_hz is not None and resample_hz != rate_hz:
        samples = _resampled(samples, rate_hz, resample_hz)
        rate_hz = resample_hz
    n_axes = samples.shape[0]
    axes = content.axes.get(name, ())
    if len(axes) != n_axes:
        axes = tuple(_AXES[:n_axes]) if n_axes <= 3 else tuple(f"a{i}" for i in range(n_axes))
    return Recording(file, samples.astype(np.float32), rate_hz, stated, axes)


def _read(file: Path) -> _Content:
    readers = {".npz": _read_npz, ".csv": _read_csv, ".wav": _read_wav, ".mat": _read_mat}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        known = ", ".join(readers)
        raise ConfigError(f"unknown kind of recording {file.suffix!r}. Known: {known}", where=str(file))
    if not file.is_file():
        raise SourceError("there is no such file", where=str(file))
    try:
        content = reader(file)
    except (ConfigError, SourceError):
        raise
    except Exception as error:
        # Each of these formats has errors of its own for a damaged file, and NumPy and SciPy raise
        # a dozen kinds; whichever it is, the file is unreadable and nothing else is.
        raise SourceError(f"cannot be read: {error}", where=str(file), mend="Is it cut short?") from error
    if not content.arrays:
        raise SourceError("holds no array of samples", where=str(file))
    return content


def _read_npz(file: Path) -> _Content:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        items = {key: archive[key] for key in archive.files}
    rate_hz = _rate(items)
    arrays = {
        key: value
        for key, value in items.items()
        if value.dtype.kind in "fiu"
        and value.size > 1
        and (_suffix_unit(key) is not None or not key.endswith("_s"))  # those are times
    }
    stated = str(items["unit"]) if "unit" in items else None
    units = {key: stated or _suffix_unit(key) for key in arrays}
    # One line of names for all arrays, or one for each, as `pdm-edge export` writes them.
    named = [tuple(str(line).split(",")) for line in np.atleast_1d(items.get("axes", []))]
    axes = dict(zip(arrays, named * len(arrays) if len(named) == 1 else named, strict=False))
    return _Content(arrays, rate_hz, {k: v for k, v in units.items() if v}, axes)


def _read_csv(file: Path) -> _Content:
    table = read_table(file)
    arrays: dict[str, npt.NDArray[Any]] = {
        name: table.numbers(i) for i, name in enumerate(table.names) if table.is_numeric(i)
    }
    units = {key: unit for key in arrays if (unit := _suffix_unit(key))}
    return _Content(arrays, None, units)


def _read_wav(file: Path) -> _Content:
    try:
        with wave.open(str(file), "rb") as stream:
            width, n_axes = stream.getsampwidth(), stream.getnchannels()
            rate_hz = float(stream.getframerate())
            raw = stream.readframes(stream.getnframes())
    except wave.Error as error:
        if "unknown format" not in str(error):
            raise
        raise SourceError(
            f"holds no whole numbers ({error}; 3 is floating point)",
            where=str(file),
            mend="Save it as PCM of 16, 24 or 32 bits, or its samples as .npz",
        ) from error
    if width == 3:
        wide = np.zeros((len(raw) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3)
        counts = wide.view("<i4").ravel() / 2.0**31
    else:
        kind = {1: "u1", 2: "<i2", 4: "<i4"}[width]
        counts = np.frombuffer(raw, dtype=kind).astype(np.float64)
        counts = (counts - 128) / 128 if width == 1 else counts / 2.0 ** (8 * width - 1)
    return _Content({"samples": counts.reshape(-1, n_axes)}, rate_hz, {})


def _read_mat(file: Path) -> _Content:
    from scipy.io import loadmat

    items = {k: v for k, v in loadmat(file, squeeze_me=True).items() if not k.startswith("__")}
    for value in list(items.values()):
        if getattr(value, "dtype", None) is not None and value.dtype.names:
            items.update({name: value[name].item() for name in value.dtype.names})
    arrays = {
        key: value
        for key, value in items.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.size > 1
    }
    # MFPT files name their samples "gs": the unit is in the name.
    units = {key: "g" if key == "gs" else _suffix_unit(key) for key in arrays}
    return _Content(arrays, _rate(items), {k: v for k, v in units.items() if v})


def _rate(items: Mapping[str, Any]) -> float | None:
    for key in _RATE_KEYS:
        if key in items and np.size(items[key]) == 1:
            return float(np.asarray(items[key]).item())
    return None


def _suffix_unit(name: str) -> str | None:
    """The unit that a name ends in, such as ``acceleration_g``."""
    return next((unit for unit in WAVEFORM_UNITS if name.endswith(f"_{unit}")), None)


def _choose(arrays: Mapping[str, npt.NDArray[Any]], variable: str | None, file: Path) -> str:
    names = sorted(arrays)
    matching = [n for n in names if fnmatch.fnmatchcase(n, variable)] if variable else names
    if len(matching) == 1:
        return matching[0]
    wanted = f"variable {variable!r} fits {len(matching)} of" if variable else "it holds several arrays:"
    raise ConfigError(
        f"{wanted} {', '.join(names)}", where=str(file), mend="Name one with variable= (--variable)"
    )


def _agreed(in_file: Any, given: Any, name: str, file: Path) -> Any:
    if in_file is None and given is None:
        option = name.replace("_", "-")
        raise ConfigError(
            f"does not state its {name}",
            where=str(file),
            mend=f"Give {name}= (--{option}); it is never guessed",
        )
    if in_file is not None and given is not None and in_file != given:
        raise ConfigError(f"states {name} {in_file!r}, but {given!r} was given", where=str(file))
    value = in_file if in_file is not None else given
    if name == "sample_rate_hz" and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"sample_rate_hz is {value!r}; it must be a positive number", where=str(file))
    return value


def _as_axes(samples: npt.NDArray[np.float64], file: Path) -> npt.NDArray[np.float64]:
    """To ``(n_axes, n_samples)``; snapshots ``(n, n_axes, n_samples)`` are put end to end."""
    if samples.ndim == 1:
        return samples[None, :]
    if samples.ndim == 2:
        return samples if samples.shape[0] <= samples.shape[1] else np.ascontiguousarray(samples.T)
    if samples.ndim == 3:
        return np.ascontiguousarray(samples.transpose(1, 0, 2)).reshape(samples.shape[1], -1)
    raise SourceError(f"holds an array of shape {samples.shape}", where=str(file))


def _resampled(
    samples: npt.NDArray[np.float64], rate_hz: float, resample_hz: float
) -> npt.NDArray[np.float64]:
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(resample_hz / rate_hz).limit_denominator(10_000)
    out: npt.NDArray[np.float64] = resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1)
    return out
