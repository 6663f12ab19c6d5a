"""A recording played as if its sensor were there: same records, same pipeline, same alarms."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pdm_edge.acquire.recordings import Recording
from pdm_edge.acquire.tables import read_table
from pdm_edge.clock import FixedClock
from pdm_edge.errors import ConfigError, RecordError
from pdm_edge.ports import Clock
from pdm_edge.records import GOOD, Measurement, Reading, Waveform, bad, check_id


class ReplaySource:
    """Plays a recorded waveform in blocks.

    With a `FixedClock` the recording itself sets the time, and the same file gives the same
    records every time. With another clock and `realtime`, it is played as fast as it was taken.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        sensor: str,
        clock: Clock,
        block_s: float = 0.25,
        realtime: bool = False,
    ) -> None:
        self.name = f"replay {recording.path.name}"
        self._recording = recording
        self._sensor = sensor
        self._clock = clock
        self._realtime = realtime
        self._block = max(round(block_s * recording.sample_rate_hz), 1)
        self._at = 0
        self._start_s = time.monotonic()

    @property
    def ended(self) -> bool:
        return self._at >= int(self._recording.samples.shape[1])

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        recording = self._recording
        samples = recording.samples[:, self._at : self._at + self._block]
        if samples.shape[1] == 0:
            return ()
        if self._realtime:
            due_s = self._start_s + (self._at + samples.shape[1]) / recording.sample_rate_hz
            if not _is_due(due_s, timeout_s):
                return ()
        stamp = self._clock.stamp()
        duration_s = samples.shape[1] / recording.sample_rate_hz
        if isinstance(self._clock, FixedClock):
            self._clock.advance(duration_s)
        else:
            stamp = stamp.earlier(duration_s)
        waveform = Waveform(
            self._sensor, samples, recording.sample_rate_hz, recording.unit, recording.axes, stamp, self._at
        )
        self._at += samples.shape[1]
        return (waveform,)

    def counters(self) -> Mapping[str, int]:
        return {"samples": self._at}

    def close(self) -> None:
        return None


class ReadingsReplay:
    """Plays the columns of a .csv of scalars, one row each `1 / sample_rate_hz`; with `realtime`, as slowly.

    `columns` gives each column that is wanted its unit, such as ``{"Temperature": "degc"}``; the
    quantity is the name of the column with what an id cannot hold left out.

    Raises
    ------
    ConfigError
        If a column is not there, or its name makes no quantity.
    SourceError
        If the file cannot be read.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        *,
        sensor: str,
        sample_rate_hz: float,
        clock: Clock,
        realtime: bool = False,
    ) -> None:
        self.name = f"replay {path.name}"
        self._sensor = sensor
        self._clock = clock
        self._period_s = 1.0 / sample_rate_hz
        self._bad = 0
        self._realtime = realtime
        table = read_table(path)
        missing = sorted(set(columns) - set(table.names))
        if missing:
            raise ConfigError(
                f"has no column {missing[0]!r}", where=str(path), mend=f"It has {', '.join(table.names)}"
            )
        self._columns = [
            (table.names.index(name), _quantity(name, path), unit) for name, unit in columns.items()
        ]
        self._rows = table.rows
        self._start_s = time.monotonic()
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._rows)

    def read(self, timeout_s: float) -> Sequence[Measurement]:
        if self.ended:
            return ()
        if self._realtime and not _is_due(self._start_s + (self._at + 1) * self._period_s, timeout_s):
            return ()
        row, stamp = self._rows[self._at], self._clock.stamp()
        self._at += 1
        readings = []
        for index, quantity, unit in self._columns:
            value = _number(row[index] if index < len(row) else "")
            quality = GOOD if np.isfinite(value) else bad("missing")
            self._bad += quality is not GOOD
            readings.append(Reading(self._sensor, quantity, value, unit, stamp, quality))
        if isinstance(self._clock, FixedClock):
            self._clock.advance(self._period_s)
        return readings

    def counters(self) -> Mapping[str, int]:
        return {"rows": self._at, "bad_values": self._bad}

    def close(self) -> None:
        return None


def _is_due(due_s: float, timeout_s: float) -> bool:
    """Wait for a time of the monotonic clock, at most `timeout_s`; whether it has come."""
    wait_s = due_s - time.monotonic()
    if wait_s > 0:
        time.sleep(min(wait_s, timeout_s))
    return wait_s <= timeout_s


def _quantity(name: str, path: Path) -> str:
    plain = "".join(c for c in name if c.isalnum() or c in "._-")
    try:
        return check_id(plain, "quantity")
    except RecordError as error:
        raise ConfigError(
            f"column {name!r} names no quantity: {error.what}",
            where=str(path),
            mend="Rename it in the header with letters of ASCII",
        ) from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
