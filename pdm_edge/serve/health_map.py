"""What is known of the machines as Modbus registers: the map that docs/modbus.md describes. Pure.

Input and holding registers hold the same. Values of two registers have the high word first. A value
that is not known is NaN (float32), 0xFFFF (uint16) or 0x8000 (int16); a machine whose data are too
old has state unknown, none of its values, and the flag stale, while its data age goes on.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from pdm_edge.records import QUALITY_LEVELS, AlarmState, FeatureVector, QualityLevel

MAGIC: Final = 0x5044
VERSION: Final = 1
FIRST_BLOCK: Final = 100
BLOCK_WORDS: Final = 64
GATEWAY_ID_WORDS: Final = 32
STATES: Final[dict[AlarmState, int]] = {"unknown": 0, "learning": 1, "normal": 2, "alert": 3, "alarm": 4}
ZONES: Final = {None: 0, "A": 1, "B": 2, "C": 3, "D": 4}
NO_UINT16: Final = 0xFFFF
NO_INT16: Final = 0x8000
MAX_MACHINES: Final = (65536 - FIRST_BLOCK) // BLOCK_WORDS

FRESH, STALE, RUNNING, HAS_SCORE, HAS_VELOCITY, HAS_ZONE, HAS_TEMPERATURE, HAS_BEARING = (
    1 << n for n in range(8)
)
_BEARING_LINES: Final = ("bpfo", "bpfi", "bsf", "ftf")


class Status(Protocol):
    """What the map needs of the status of a machine."""

    @property
    def state(self) -> AlarmState: ...
    @property
    def operating(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def velocity_mm_s(self) -> float: ...
    @property
    def zone(self) -> Literal["A", "B", "C", "D"] | None: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known of one machine; times are monotonic seconds, None if never.

    ``bearing_db`` are the levels of the outer race, inner race, ball and cage lines in the envelope
    spectrum, each the highest of all sensors and axes; ``temperature_degc`` is the highest too.
    """

    machine: str
    state: AlarmState = "unknown"
    state_since_s: float = 0.0
    heard_s: float | None = None
    running: bool = False
    score: float = math.nan
    velocity_mm_s: float = math.nan
    zone: Literal["A", "B", "C", "D"] | None = None
    temperature_degc: float = math.nan
    bearing_db: tuple[float, float, float, float] = (math.nan, math.nan, math.nan, math.nan)
    quality: QualityLevel = "good"


def measured(vector: FeatureVector) -> tuple[float, tuple[float, float, float, float]]:
    """Temperature and bearing levels in a feature vector; NaN where there is none."""
    temperature_degc = math.nan
    levels = dict.fromkeys(_BEARING_LINES, math.nan)
    for name, unit, value in zip(vector.schema.names, vector.schema.units, vector.values, strict=True):
        number = float(value)
        if not math.isfinite(number):
            continue
        if unit == "degc" and not number <= temperature_degc:
            temperature_degc = number
        for line in _BEARING_LINES:
            if name.endswith(f"/envelope_{line}_level") and not number <= levels[line]:
                levels[line] = number
    return temperature_degc, (levels["bpfo"], levels["bpfi"], levels["bsf"], levels["ftf"])


def health_words(
    gateway: str, machines: Sequence[Snapshot], *, now_s: float, started_s: float, stale_after_s: float
) -> list[int]:
    """All registers from address 0 on."""
    ages = [age_s(machine, now_s) for machine in machines]
    blocks = [machine_words(machine, now_s=now_s, stale_after_s=stale_after_s) for machine in machines]
    states = [block[0] for block in blocks]
    up_s = int(now_s - started_s)
    head = [
        MAGIC,
        VERSION,
        len(machines),
        up_s % 0x10000,
        *struct.unpack(">HH", struct.pack(">I", up_s & 0xFFFFFFFF)),
        max(states, default=0),
        sum(1 for state in states if state == 0),
        max(ages, default=NO_UINT16),
        FIRST_BLOCK,
        BLOCK_WORDS,
        0,
        *_text(gateway, GATEWAY_ID_WORDS),
    ]
    head += [0] * (FIRST_BLOCK - len(head))
    return head + [word for block in blocks for word in block]


def machine_words(machine: Snapshot, *, now_s: float, stale_after_s: float) -> list[int]:
    """The block of one machine."""
    age = age_s(machine, now_s)
    fresh = machine.heard_s is not None and now_s - machine.heard_s <= stale_after_s
    known = machine if fresh else Snapshot(machine.machine, heard_s=machine.heard_s, quality="bad")
    flags = FRESH if fresh else STALE
    flags |= RUNNING * known.running
    flags |= HAS_SCORE * math.isfinite(known.score)
    flags |= HAS_VELOCITY * math.isfinite(known.velocity_mm_s)
    flags |= HAS_ZONE * (known.zone is not None)
    flags |= HAS_TEMPERATURE * math.isfinite(known.temperature_degc)
    flags |= HAS_BEARING * any(math.isfinite(level) for level in known.bearing_db)
    since_s = int(now_s - machine.state_since_s) if fresh else NO_UINT16
    words = [
        STATES[known.state],
        flags,
        age,
        ZONES[known.zone],
        min(since_s, NO_UINT16),
        QUALITY_LEVELS.index(known.quality),
        *_float(known.score),
        *_float(known.velocity_mm_s),
        *_float(known.temperature_degc),
        *(word for level in known.bearing_db for word in _float(level)),
        _uint16(known.score * 1000),
        _uint16(known.velocity_mm_s * 100),
        _int16(known.temperature_degc * 10),
        *(_int16(level * 10) for level in known.bearing_db),
    ]
    words += [0] * (BLOCK_WORDS - GATEWAY_ID_WORDS - len(words))
    return words + _text(machine.machine, GATEWAY_ID_WORDS)


def age_s(machine: Snapshot, now_s: float) -> int:
    """Whole seconds since the last data of a machine; 0xFFFF if there never were any."""
    return NO_UINT16 if machine.heard_s is None else min(int(now_s - machine.heard_s), NO_UINT16 - 1)


def _float(value: float) -> tuple[int, int]:
    high, low = struct.unpack(">HH", struct.pack(">f", value))
    return high, low


def _uint16(value: float) -> int:
    return NO_UINT16 if math.isnan(value) else min(max(round(value), 0), NO_UINT16 - 1)


def _int16(value: float) -> int:
    return NO_INT16 if math.isnan(value) else min(max(round(value), -0x7FFF), 0x7FFF) & 0xFFFF


def _text(text: str, n_words: int) -> list[int]:
    """ASCII, two characters a word, filled up with zeros."""
    raw = text.encode("ascii", "replace")[: 2 * n_words].ljust(2 * n_words, b"\0")
    return list(struct.unpack(f">{n_words}H", raw))
