"""Model bundles: a folder with `model.tflite` and `manifest.json`, one thing that belongs together.

A model without its feature order, scaling and threshold is worth nothing, and a damaged one can
give wrong scores without an error. So the hash is checked before any interpreter sees the bytes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from pdm_edge.detect.line_speed import LineReference
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema

MODEL_NAME: Final = "model.tflite"
MANIFEST_NAME: Final = "manifest.json"
FORMAT_VERSION: Final = 1


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Raw score that is normalised to 1.0, and how it was found (see `thresholds`)."""

    value: float
    method: Literal["conformal", "extreme-value", "capped", "given"]
    derivation: str
    false_alarms_per_month: float = 0.0
    alarm_n: int = 3
    alarm_m: int = 5
    held_back: int = 0
    """Positions of M neighbouring windows that it was found from."""
    log_mean: float = 0.0
    log_std: float = 0.0
    """Mean and standard deviation of ln(score) of held-back healthy windows; 0 if not known."""
    tail: tuple[float, ...] = ()
    """The largest of them, so that another rate needs no new data."""


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operating state that was learned: windows, and the typical vector in it."""

    windows: int
    baseline: tuple[float, ...]


class Training(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model was made from."""

    windows: int
    window_s: float
    first_utc_ns: int
    last_utc_ns: int
    seed: int
    family: str = "linear"
    left_out: int = 0
    """Windows not learned from: knocks, and states seen too rarely."""
    warnings: tuple[str, ...] = ()
    """What looked doubtful in the data and was overruled by a person."""


class ModelInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model is fed with. `features` is the vector of the machine; the others are made of a
    window of one sensor: `spectrum` (band levels in dB), `spectrogram` (the same in `frames` pieces,
    one after the other) and `waveform` (the samples, as they are).

    The model gets ``(x - offset) * factor``; leave both empty where the graph scales by itself.
    """

    kind: Literal["features", "spectrum", "spectrogram", "waveform"] = "features"
    sensor: str = ""
    axis: int = 0
    bands: int = 0
    low_hz: float = 0.0
    high_hz: float = 0.0
    frames: int = 1
    offset: tuple[float, ...] = ()
    factor: tuple[float, ...] = ()


class ModelOutput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model gives: a `score`, or a `reconstruction` of its (scaled) input, whose mean
    squared error is then the score. `name` is that of the output tensor; empty takes the only one."""

    kind: Literal["score", "reconstruction"] = "score"
    name: str = "score"
    residuals: str = "squared_residuals"
    """Output that holds the squared residual of each input, for the explanation; empty if none."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that must be known to run the model and to trust it."""

    name: str
    created_by: str
    feature_names: tuple[str, ...]
    feature_units: tuple[str, ...]
    schema_id: str
    baseline: tuple[float, ...]
    """Typical value of each feature; stands in for one that is missing."""
    spread: tuple[float, ...]
    """Standard deviation of each feature, of ln(value) where it is a level."""
    quantization: Literal["float32", "hybrid-int8", "int8"]
    threshold: Threshold
    training: Training
    states: dict[str, State] = {}
    """Operating states that were learned; none means that any is judged alike."""
    level_limits: dict[str, float] = {}
    """Overall levels, and how many times its baseline each may be (see `beside`); none is not judged."""
    mean_limits: dict[str, float] = {}
    """Features that tell impacts, and how many of its spreads the moving mean of each may rise."""
    speeds: tuple[LineReference, ...] = ()
    """Lines by which the speed is told where it is not measured; none where it is, or no line recurs."""
    input: ModelInput = ModelInput()
    output: ModelOutput = ModelOutput()
    sha256: dict[str, str] = {}
    licence: str = ""
    card: str = ""
    format_version: int = FORMAT_VERSION

    @property
    def schema(self) -> FeatureSchema:
        return FeatureSchema(self.feature_names, self.feature_units)


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A checked bundle: its hash was right when it was read."""

    path: Path
    manifest: Manifest
    model: bytes


def find_bundle(name: str | Path) -> Path:
    """The folder of a bundle: an explicit path, or the name of one that is shipped.

    Raises
    ------
    ModelError
        If there is neither.
    """
    path = Path(name)
    if path.is_absolute() or len(path.parts) > 1 or path.is_dir():
        return path
    package = Path(__file__).resolve().parents[1]
    shipped = [folder / path for folder in (package / "models", package.parent / "models")]
    for candidate in shipped:
        if (candidate / MANIFEST_NAME).is_file():
            return candidate
    raise ModelError(
        f"there is no model {str(name)!r}", mend="Give the path of a bundle, or the name of a shipped one"
    )


def load_bundle(name: str | Path) -> Bundle:
    """Read and check a bundle.

    Raises
    ------
    ModelError
        If a part is missing, was changed, or does not fit the others.
    """
    path = find_bundle(name)
    where = str(path)
    mend = "Restore the bundle from its source, or learn a new one"
    try:
        raw = (path / MANIFEST_NAME).read_bytes()
        model = (path / MODEL_NAME).read_bytes()
    except OSError as error:
        raise ModelError(f"is no complete bundle: {error}", where=where, mend=mend) from error
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"its manifest is damaged: {error}", where=where, mend=mend) from error
    if manifest.format_version != FORMAT_VERSION:
        raise ModelError(
            f"has format {manifest.format_version}, this version reads {FORMAT_VERSION}",
            where=where,
            mend="Update pdm-edge",
        )
    if manifest.sha256 != _hashes(raw, model):
        raise ModelError(
            "its hash is wrong: model or manifest were changed or cut short", where=where, mend=mend
        )
    lengths = {len(manifest.baseline), len(manifest.spread), len(manifest.feature_names)}
    lengths.update(len(state.baseline) for state in manifest.states.values())
    if manifest.schema.id != manifest.schema_id or len(lengths) != 1:
        raise ModelError("its feature list does not fit its schema id", where=where, mend=mend)
    if not 0 < manifest.threshold.value < float("inf"):
        raise ModelError(f"its threshold is {manifest.threshold.value!r}", where=where, mend=mend)
    return Bundle(path, manifest, model)


def write_bundle(path: Path, model: bytes, manifest: Manifest) -> None:
    """Write a bundle so that a power cut leaves the old one or the new one, never a mixture.

    Raises
    ------
    ModelError
        If it cannot be written.
    """
    plain = msgspec.json.encode(manifest)
    complete = msgspec.structs.replace(manifest, sha256=_hashes(plain, model))
    new, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not path.exists():
            old.rename(path)  # a write was cut between its two renames
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _write_synced(new / MODEL_NAME, model)
        _write_synced(new / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(complete), indent=1))
        _sync_folder(new)
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.rename(old)
        new.rename(path)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)  # half of a bundle helps nobody, least of all a full disk
        raise ModelError(f"cannot be written: {error}", where=str(path)) from error


def _hashes(manifest: bytes, model: bytes) -> dict[str, str]:
    """SHA-256 of the model, and of the content of the manifest without its hashes.

    The content, not the text or the fields known here: a manifest stays valid when it is indented
    differently, and when a later version adds fields with defaults.
    """
    content = msgspec.json.decode(manifest)
    content.pop("sha256", None)
    plain = msgspec.json.encode(content, order="sorted")
    return {MODEL_NAME: hashlib.sha256(model).hexdigest(), MANIFEST_NAME: hashlib.sha256(plain).hexdigest()}


def _write_synced(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be synced there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
