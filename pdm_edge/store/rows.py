"""Records as the buffer keeps them: what repeats apart from what does not."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Any, Final

import msgspec

from pdm_edge.records import (
    GOOD,
    Advisory,
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

_ABOUT: Final = frozenset({"machine", "sensor", "origin", "stamp", "quality"})
_LANES: Final[dict[type, tuple[Lane, str]]] = {
    Advisory: ("alarm", "advisory"),
    Gap: ("event", "gap"),
    Health: ("event", "health"),
    FeatureVector: ("feature", "features"),
    Score: ("feature", "score"),
    Reading: ("feature", "reading"),
    Waveform: ("waveform", "waveform"),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A record taken apart: `header` fields repeat from row to row, the others do not."""

    lane: Lane
    kind: str
    subject: str
    stamp: Stamp
    context: str
    body: bytes
    schema_id: str = ""


def to_stored(record: Record) -> Stored:
    """Take a record apart."""
    lane, kind = _LANES[type(record)]
    if isinstance(record, FeatureVector):
        context = {"state": record.state, "window_s": record.window_s, **_quality(record.quality)}
        body = record.values.astype("<f4").tobytes()
        return Stored(lane, kind, record.machine, record.stamp, _json(context), body, record.schema.id)
    if isinstance(record, Waveform):
        context = {
            "sample_rate_hz": record.sample_rate_hz,
            "unit": record.unit,
            "axes": record.axes,
            **_quality(record.quality),
        }
        body = struct.pack("<Q", record.first_sample) + record.samples.astype("<f4").tobytes()
        return Stored(lane, kind, record.sensor, record.stamp, _json(context), body)
    content = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _ABOUT}
    quality: Quality = getattr(record, "quality", GOOD)
    return Stored(
        lane, kind, _subject(record), record.stamp, _json(_quality(quality)), msgspec.json.encode(content)
    )


def _subject(record: Record) -> str:
    if isinstance(record, Gap):
        return record.origin
    if isinstance(record, (Reading, Waveform)):
        return record.sensor
    return record.machine


def _quality(quality: Quality) -> dict[str, Any]:
    return {} if quality == GOOD else {"quality": quality.level, "reasons": quality.reasons}


def _json(content: dict[str, Any]) -> str:
    return msgspec.json.encode(content).decode()
