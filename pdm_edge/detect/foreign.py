"""A model made elsewhere, described by a person: what it is fed with, and what its output means."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from pdm_edge._version import __version__
from pdm_edge.detect.bundle import Manifest, ModelInput, ModelOutput, Threshold, Training
from pdm_edge.detect.feed import input_names
from pdm_edge.errors import ModelError
from pdm_edge.records import FeatureSchema


class _Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    unit: str
    baseline: float
    """Typical value: stands in for one that is missing."""
    spread: float = 1.0


class _Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: see docs/bring-your-own.md."""

    name: str
    threshold: float
    threshold_from: str
    """In words, how the threshold was found."""
    window_s: float
    input: ModelInput
    output: ModelOutput
    feature: tuple[_Feature, ...] = ()
    sample_rate_hz: float = 0.0
    unit: str = ""
    quantization: Literal["float32", "hybrid-int8", "int8"] = "float32"
    licence: str = ""
    card: str = ""


def described(path: Path) -> Manifest:
    """The manifest of a description.

    Raises
    ------
    ModelError
        If it cannot be read, or leaves open what must be known.
    """
    try:
        text = msgspec.toml.decode(path.read_bytes(), type=_Description)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"is no description of a model: {error}", where=str(path)) from error
    schema, baseline, spread = _inputs(text, str(path))
    for name in ("offset", "factor"):
        given = getattr(text.input, name)
        if given and len(given) != len(schema.names):
            raise ModelError(f"input.{name} has {len(given)} values for {len(schema.names)}", where=str(path))
    if bool(text.input.offset) != bool(text.input.factor):
        raise ModelError("input.offset and input.factor come together", where=str(path))
    return Manifest(
        name=text.name,
        created_by=f"packed by pdm-edge {__version__}",
        feature_names=schema.names,
        feature_units=schema.units,
        schema_id=schema.id,
        baseline=baseline,
        spread=spread,
        quantization=text.quantization,
        threshold=Threshold(value=text.threshold, method="given", derivation=text.threshold_from),
        training=Training(
            windows=0, window_s=text.window_s, first_utc_ns=0, last_utc_ns=0, seed=0, family="foreign"
        ),
        input=text.input,
        output=text.output,
        licence=text.licence,
        card=text.card,
    )


def _inputs(text: _Description, where: str) -> tuple[FeatureSchema, tuple[float, ...], tuple[float, ...]]:
    if text.input.kind == "features":
        if not text.feature:
            raise ModelError(
                "names no features", where=where, mend="Give a [[feature]] table for each, in order"
            )
        schema = FeatureSchema(tuple(f.name for f in text.feature), tuple(f.unit for f in text.feature))
        return schema, tuple(f.baseline for f in text.feature), tuple(f.spread for f in text.feature)
    if not text.input.sensor or text.sample_rate_hz <= 0 or not text.unit:
        raise ModelError(
            f"input {text.input.kind} needs input.sensor, sample_rate_hz and unit",
            where=where,
            mend="Give the rate and unit that the model was trained on; they are not guessed",
        )
    names, units = input_names(
        text.input, round(text.window_s * text.sample_rate_hz), text.sample_rate_hz, text.unit
    )
    schema = FeatureSchema(names, units)
    return schema, (0.0,) * len(names), (1.0,) * len(names)
