"""Records as the buffer keeps them: what repeats apart from what does not."""

from __future__ import annotations

import struct
from dataclasses import fields
from typing import Any, Final, NamedTuple

import msgspec

from pdm_edge.records import (
    GOOD,
    Advisory,
    AmplitudeSpectrum,
    FeatureVector,
    Gap,
    Health,
    Lane,
    Quality,
    Reading,
    Record,
    Score,
    Stamp,
    Waveform,
)
from pdm_edge.store import spectra
from pdm_edge.store.packing import PACKING, pack

_ABOUT: Final = frozenset({"machine", "sensor", "origin", "stamp", "quality"})
_LANES: Final[dict[type, tuple[Lane, str]]] = {
    Advisory: ("alarm", "advisory"),
    Gap: ("event", "gap"),
    Health: ("event", "health"),
    FeatureVector: ("feature", "features"),
    Score: ("feature", "score"),
    Reading: ("feature", "reading"),
    AmplitudeSpectrum: ("spectrum", "spectrum"),
    Waveform: ("waveform", "waveform"),
}


class About(NamedTuple):
    """What repeats from row to row."""

    lane: Lane
    kind: str
    subject: str
    schema_id: str
    context: str


class Stored(NamedTuple):
    """A record taken apart: what repeats from row to row, and what does not.

    A tuple, since one is made for each row: a frozen dataclass takes three times as long to make.
    """

    about: About
    stamp: Stamp
    body: bytes


def to_stored(record: Record) -> Stored:
    """Take a record apart. Feature vectors, which are most of them, are taken apart as they are written."""
    lane, kind = _LANES[type(record)]
    if isinstance(record, Waveform):
        facts = {
            "sample_rate_hz": record.sample_rate_hz,
            "unit": record.unit,
            "axes": record.axes,
            "packing": PACKING,
            **({"alarm": record.alarm} if record.alarm else {}),
            **_quality(record.quality),
        }
        body = struct.pack("<Q", record.first_sample) + pack(record.samples)
        return Stored(About(lane, kind, record.sensor, "", _json(facts)), record.stamp, body)
    if isinstance(record, AmplitudeSpectrum):
        shared, own = spectra.taken_apart(record)
        context = _json({**shared, **_quality(record.quality)})
        return Stored(About(lane, kind, record.sensor, "", context), record.stamp, msgspec.json.encode(own))
    content = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _ABOUT}
    known: Quality = getattr(record, "quality", GOOD)
    about = About(lane, kind, _subject(record), "", _json(_quality(known)))
    return Stored(about, record.stamp, msgspec.json.encode(content))


def about_features(record: FeatureVector) -> About:
    """What repeats of a feature vector."""
    context = _json({"state": record.state, "window_s": record.window_s, **_quality(record.quality)})
    return About(*_LANES[FeatureVector], record.machine, record.schema.id, context)


def clock_row(stamp: Stamp) -> Stored:
    """Says what a boot's monotonic clock has to be corrected with, now that the wall clock is right."""
    content = {"utc_minus_monotonic_ns": stamp.utc_ns - stamp.monotonic_ns}
    return Stored(About("event", "clock", "clock", "", "{}"), stamp, msgspec.json.encode(content))


def _subject(record: Record) -> str:
    if isinstance(record, Gap):
        return record.origin
    if isinstance(record, (Reading, Waveform, AmplitudeSpectrum)):
        return record.sensor
    return record.machine


def _quality(quality: Quality) -> dict[str, Any]:
    return {} if quality == GOOD else {"quality": quality.level, "reasons": quality.reasons}


def _json(content: dict[str, Any]) -> str:
    return msgspec.json.encode(content).decode()
