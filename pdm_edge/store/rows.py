"""Records as the buffer keeps them: what repeats apart from what does not."""

from __future__ import annotations

import functools
import struct
import sys
from dataclasses import fields
from typing import Any, Final, NamedTuple

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
from pdm_edge.store.packing import PACKING, pack

_LITTLE: Final = sys.byteorder == "little"
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


class Stored(NamedTuple):
    """A record taken apart: what repeats from row to row, and what does not.

    A tuple, since one is made for each row: a frozen dataclass takes three times as long to make.
    """

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
    if type(record) is FeatureVector:
        quality = None if record.quality is GOOD else record.quality
        context = _features_context(record.state, record.window_s, quality)
        values = record.values if _LITTLE else record.values.astype("<f4")
        return Stored(lane, kind, record.machine, record.stamp, context, values.tobytes(), record.schema.id)
    if isinstance(record, Waveform):
        about = {
            "sample_rate_hz": record.sample_rate_hz,
            "unit": record.unit,
            "axes": record.axes,
            "packing": PACKING,
            **({"alarm": record.alarm} if record.alarm else {}),
            **_quality(record.quality),
        }
        body = struct.pack("<Q", record.first_sample) + pack(record.samples)
        return Stored(lane, kind, record.sensor, record.stamp, _json(about), body)
    content = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _ABOUT}
    known: Quality = getattr(record, "quality", GOOD)
    return Stored(
        lane, kind, _subject(record), record.stamp, _json(_quality(known)), msgspec.json.encode(content)
    )


@functools.lru_cache(maxsize=256)
def _features_context(state: str, window_s: float, quality: Quality | None) -> str:
    return _json({"state": state, "window_s": window_s, **_quality(quality or GOOD)})


def clock_row(stamp: Stamp) -> Stored:
    """Says what a boot's monotonic clock has to be corrected with, now that the wall clock is right."""
    content = {"utc_minus_monotonic_ns": stamp.utc_ns - stamp.monotonic_ns}
    return Stored("event", "clock", "clock", stamp, "{}", msgspec.json.encode(content))


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
