"""One vector for a machine: the features of its vibration sensors beside its scalar readings.

A sensor that falls silent must not silence the others, and a value that is too old must not pass
for a fresh one: what is missing is NaN, and the vector says so in its quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pdm_edge.records import (
    GOOD,
    FeatureSchema,
    FeatureVector,
    Float32Array,
    Quality,
    Reading,
    Stamp,
    bad,
    uncertain,
    worst,
)

_SLACK: Final = 0.1


@dataclass(frozen=True, slots=True)
class ScalarSlot:
    """A scalar reading that belongs to the machine's vector."""

    sensor: str
    quantity: str
    unit: str
    max_age_s: float

    @property
    def name(self) -> str:
        return f"{self.sensor}/{self.quantity}"


@dataclass(slots=True)
class _Block:
    """Latest features of one vibration sensor; `fresh` until they have gone out in a vector."""

    schema: FeatureSchema
    values: Float32Array
    stamp: Stamp
    quality: Quality
    fresh: bool


@dataclass(slots=True)
class _Mean:
    total: float = 0.0
    count: int = 0


class VectorJoiner:
    """Joins features and readings of one machine, aligned in time.

    Parameters
    ----------
    machine
        Its id.
    vibration_sensors
        Sensors that deliver feature blocks; may be empty.
    scalars
        Readings that belong to the vector; may be empty, but not both.
    window_s
        Length of a window; a machine without vibration sensors gets one vector in each, of the
        mean of its readings.
    """

    def __init__(
        self, machine: str, vibration_sensors: Sequence[str], scalars: Sequence[ScalarSlot], window_s: float
    ) -> None:
        if not vibration_sensors and not scalars:
            raise ValueError(f"machine {machine!r} has neither vibration sensors nor scalar readings")
        self._machine = machine
        self._sensors = tuple(vibration_sensors)
        self._slots = {slot.name: slot for slot in scalars}
        self._window_s = window_s
        self._blocks: dict[str, _Block] = {}
        self._latest: dict[str, Reading] = {}
        self._means = {name: _Mean() for name in self._slots}
        self._window_start: Stamp | None = None
        self._schema: FeatureSchema | None = None

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """Vibration sensors that have not delivered anything yet; no vector goes out before."""
        return tuple(sensor for sensor in self._sensors if sensor not in self._blocks)

    def add_features(
        self, sensor: str, schema: FeatureSchema, values: Float32Array, stamp: Stamp, quality: Quality
    ) -> list[FeatureVector]:
        """Take the features of one window; return the vector if that completes one."""
        vectors = []
        held = self._blocks.get(sensor)
        if held is not None and held.fresh and not self.waiting_for:
            # This sensor is a window ahead of another one: what is here goes out without it.
            vectors.append(self._emit(held.stamp))
        if held is None or held.schema.id != schema.id:
            self._schema = None
        self._blocks[sensor] = _Block(schema, values, stamp, quality, fresh=True)
        if not self.waiting_for and all(block.fresh for block in self._blocks.values()):
            vectors.append(self._emit(stamp))
        return vectors

    def add_reading(self, reading: Reading) -> list[FeatureVector]:
        """Take a scalar; return a vector if this machine has scalars only and a window has passed."""
        name = f"{reading.sensor}/{reading.quantity}"
        slot = self._slots.get(name)
        if slot is None:
            return []
        if reading.unit != slot.unit:
            raise ValueError(f"{name} comes in {reading.unit!r}, its machine expects {slot.unit!r}")
        vectors = []
        if not self._sensors:
            if self._window_start is None:
                self._window_start = reading.stamp
            late_s = (reading.stamp.monotonic_ns - self._window_start.monotonic_ns) / 1e9 - self._window_s
            # Polled once a window, a reading comes now a little before the end of it, now after; each is
            # to end one. What it is early or late does not add up.
            if late_s >= -_SLACK * self._window_s:
                vectors.append(self._emit(self._window_start))
                on_time = late_s < 0.5 * self._window_s
                self._window_start = reading.stamp.earlier(late_s) if on_time else reading.stamp
        if reading.quality.level != "bad":
            self._latest[name] = reading
            self._means[name].total += reading.value
            self._means[name].count += 1
        return vectors

    def value(self, name: str, stamp: Stamp) -> float:
        """What the slot `name` would hold in a vector of this time; NaN if nothing fresh is known."""
        return self._scalar(self._slots[name], stamp)

    def _emit(self, stamp: Stamp) -> FeatureVector:
        parts: list[Float32Array] = []
        quality = GOOD
        usable = any(block.fresh and block.quality.level != "bad" for block in self._blocks.values())
        for sensor in self._sensors:
            block = self._blocks[sensor]
            if block.fresh and block.quality.level == "bad" and usable:
                # One faulty sensor must not silence the others.
                parts.append(np.full(len(block.schema.names), np.nan, dtype=np.float32))
                quality = worst(quality, uncertain(*block.quality.reasons))
            elif block.fresh:
                parts.append(block.values)
                quality = worst(quality, block.quality)
            else:
                parts.append(np.full(len(block.schema.names), np.nan, dtype=np.float32))
                quality = worst(quality, uncertain("missing"))
            block.fresh = False
        scalars = np.array([self._scalar(slot, stamp) for slot in self._slots.values()], dtype=np.float32)
        if not self._sensors and not any(mean.count for mean in self._means.values()):
            # Nothing came in this window. What came before may be fresh enough to stand beside something
            # new; alone it would make a silent machine look alive.
            scalars[:] = np.nan
        if np.isnan(scalars).any():
            quality = worst(quality, uncertain("stale"))
        self._means = {name: _Mean() for name in self._slots}
        values = np.concatenate([*parts, scalars])
        if not np.isfinite(values).any():
            quality = worst(quality, bad("stale"))  # nothing was measured: the machine is not heard
        return FeatureVector(
            self._machine, values, self._joined_schema(), stamp, self._window_s, quality=quality
        )

    def _scalar(self, slot: ScalarSlot, stamp: Stamp) -> float:
        mean = self._means[slot.name]
        if mean.count:
            return mean.total / mean.count
        reading = self._latest.get(slot.name)
        if reading is None:
            return math.nan
        age_s = (stamp.monotonic_ns - reading.stamp.monotonic_ns) / 1e9 + self._window_s
        return reading.value if age_s <= slot.max_age_s else math.nan

    def _joined_schema(self) -> FeatureSchema:
        if self._schema is None:
            names: list[str] = []
            units: list[str] = []
            for sensor in self._sensors:
                schema = self._blocks[sensor].schema
                names.extend(f"{sensor}/{name}" for name in schema.names)
                units.extend(schema.units)
            names.extend(self._slots)
            units.extend(slot.unit for slot in self._slots.values())
            self._schema = FeatureSchema(tuple(names), tuple(units))
        return self._schema
